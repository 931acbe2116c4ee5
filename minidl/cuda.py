"""CUDA C: the kernels of one `.cu` file, compiled when the first of them is launched, and every launch checked.

    KERNELS = Kernels(__file__)                                     # in relu.py: the kernels of relu.cu
    KERNELS.launch("relu", x.size, x, y, x.size)                    # a thread per element
    KERNELS.launch_rows("softmax", rows, C, x, y, rows, C)          # a block of threads per row of C elements

CuPy hands a kernel the bytes that it is given: a Python float for a `float` parameter, a float64 array, a transposed one or a
NumPy array would all be read as garbage, without a word. So the parameters are read from the source, numbers are converted to
exactly their type, and arrays that do not fit are refused.
"""
import re
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from minidl.backend import Array, array_module, device_of, working_cupy

THREADS = 256
"""In a block, at most; a power of two."""
MOST_BLOCKS = 65_535
"""In a grid: more work than that is done by the same blocks in turn."""

OPTIONS = ("-std=c++17",)
PRELUDE = Path(__file__).with_suffix(".cuh")

DTYPES: dict[str, np.dtype] = {
    "float": np.dtype(np.float32), "double": np.dtype(np.float64), "int": np.dtype(np.int32),
    "long long": np.dtype(np.int64), "bool": np.dtype(np.bool_), "unsigned char": np.dtype(np.uint8)}


class Parameter(NamedTuple):
    """One parameter of a kernel, as its source declares it."""

    name: str
    dtype: np.dtype
    is_array: bool


def read_parameters(source: str) -> dict[str, list[Parameter]]:
    """kernel -> its parameters, for every `extern "C" __global__ void name(...)` of CUDA C."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", " ", source, flags=re.S)
    found = {}
    for name, declared in re.findall(r'extern\s+"C"\s+__global__\s+void\s+(\w+)\s*\(([^)]*)\)', code):
        found[name] = [_parameter(name, text) for text in declared.split(",")]
    return found


def _parameter(kernel: str, text: str) -> Parameter:
    match = re.fullmatch(r"\s*(?:const\s+)?([a-z ]+?)\s*(\*?)\s*(?:__restrict__\s+)?(\w+)\s*", text)
    if match is None or match[1] not in DTYPES:
        raise ValueError(f"{kernel}: the parameter {text.strip()!r} must be one of {', '.join(DTYPES)}, or a pointer to one, "
                         "and a name")
    return Parameter(str(match[3]), DTYPES[match[1]], bool(match[2]))


class Kernels:
    """The kernels of the `.cu` file beside a Python file: `Kernels(__file__)`."""

    def __init__(self, python_file: str) -> None:
        self.path = Path(python_file).with_suffix(".cu")
        self._compiled: tuple[ModuleType, Any] | None = None

    @cached_property
    def source(self) -> str:
        """What is compiled: the part that all files share, then this file. Errors name the file and the line."""
        return "\n".join(f'#line 1 "{path.name}"\n{path.read_text()}' for path in (PRELUDE, self.path))

    @cached_property
    def parameters(self) -> dict[str, list[Parameter]]:
        """kernel -> its parameters."""
        return read_parameters(self.source)

    def launch(self, name: str, elements: int, *arguments: Any) -> None:
        """Runs a kernel with one thread per element, or with as many as a grid holds, each for several."""
        threads = THREADS
        self._launch(name, -(-elements // threads), threads, 0, arguments)

    def launch_rows(self, name: str, rows: int, length: int, *arguments: Any) -> None:
        """Runs a kernel with one block per row of `length` elements, and shared memory of one double per thread."""
        threads = min(THREADS, max(1, 1 << (length - 1).bit_length()))
        self._launch(name, rows, threads, 8 * threads, arguments)

    def _launch(self, name: str, blocks: int, threads: int, shared_bytes: int, arguments: tuple) -> None:
        values = self.checked(name, arguments)
        if blocks > 0:  # nothing to do is no launch: CUDA refuses empty grids
            kernel = self._module().get_function(name)
            kernel((min(blocks, MOST_BLOCKS),), (threads,), values, shared_mem=shared_bytes)

    def checked(self, name: str, arguments: tuple) -> tuple:
        """The arguments as the kernel must be given them. TypeError or ValueError for what would be read as garbage."""
        if name not in self.parameters:
            raise ValueError(f"{self.path.name} has no kernel {name!r}: it has {', '.join(self.parameters)}")
        parameters = self.parameters[name]
        if len(arguments) != len(parameters):
            raise TypeError(f"{name}: takes {len(parameters)} arguments ({', '.join(p.name for p in parameters)}), "
                            f"got {len(arguments)}")
        return tuple(_checked_array(name, p, x) if p.is_array else _checked_number(name, p, x)
                     for p, x in zip(parameters, arguments))

    def _module(self) -> Any:
        """CuPy's module of these kernels; compiled anew if another CuPy has taken the place of the one before."""
        cupy = working_cupy()
        if self._compiled is None or self._compiled[0] is not cupy:
            self._compiled = cupy, cupy.RawModule(code=self.source, options=OPTIONS)
        return self._compiled[1]


def _checked_array(kernel: str, parameter: Parameter, x: Any) -> Array:
    """An array of the GPU in use, of exactly the parameter's dtype, without gaps."""
    where = f"{kernel}: {parameter.name}"
    if device_of(x) != "cuda":
        raise TypeError(f"{where} must be a CuPy array, got {type(x).__name__}: move it with to_device(x, 'cuda')")
    if x.dtype != parameter.dtype:
        raise TypeError(f"{where} must be {parameter.dtype}, got {x.dtype}: the kernel would read its bytes as something else")
    if not x.flags.c_contiguous:
        raise ValueError(f"{where} must be contiguous, got shape {x.shape} with strides {x.strides}: use contiguous(x)")
    current = array_module(x).cuda.Device().id
    if x.device.id != current:
        raise ValueError(f"{where} lives on GPU {x.device.id}, but GPU {current} is in use")
    return x


def _checked_number(kernel: str, parameter: Parameter, value: Any) -> np.generic:
    """A NumPy scalar of exactly the parameter's type: int for integers, float for floating ones, bool for flags."""
    kinds: dict[str, tuple[type, ...]] = {"f": (float, np.floating), "i": (int, np.integer), "u": (int, np.integer),
                                          "b": (bool, np.bool_)}
    fits = isinstance(value, kinds[parameter.dtype.kind]) and (parameter.dtype.kind == "b" or not isinstance(value, bool))
    if not fits:
        raise TypeError(f"{kernel}: {parameter.name} is a {parameter.dtype} parameter, got {value!r} ({type(value).__name__}): "
                        "are two arguments swapped?")
    if parameter.dtype.kind in "iu":
        limits = np.iinfo(parameter.dtype)
        if not limits.min <= value <= limits.max:
            raise ValueError(f"{kernel}: {parameter.name} = {value} does not fit into {parameter.dtype}")
    return parameter.dtype.type(value)


def contiguous(x: Array) -> Array:
    """`x` without gaps, in row-major order: itself where it is so already, else a copy. A kernel reads nothing else."""
    return x if x.flags.c_contiguous else array_module(x).ascontiguousarray(x)


def empty(shape: tuple, like: Array) -> Array:
    """Memory for an output of `like`'s dtype, on its device; it holds whatever was there before."""
    return array_module(like).empty(shape, like.dtype)
