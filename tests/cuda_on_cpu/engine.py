"""Runs CUDA C on the CPU, from the source that the GPU gets: as fibers, and as real threads under a sanitizer.

    library = build(source)                                         # g++, kept on disk
    with scheduled("random1"):                                      # the order in which blocks and threads take turns
        library.launch("relu", (2,), (8,), (x, y, np.int64(x.size)))

    with recording(folder):                                         # what is launched in here is written down,
        library.launch(...)
    assert replay(folder, "thread") == []                           # and run again by threads, watched for races

Fibers (fibers.cpp) are quick and find wrong indices, missing and divergent barriers and shared memory that is read unwritten.
They take turns only at barriers, so an `atomicAdd` made `+=` looks right, and an access out of bounds is a plain C++ one.
That is what replay is for (threads.cpp). Neither knows about warps, weak memory order, or how a GPU's expf rounds.
"""
import atexit
import ctypes
import hashlib
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
SCHEDULES = ("forward", "backward", "random1", "random2")
MAX_SHARED = 48 * 1024  # bytes; for more, CUDA wants a kernel attribute set
MAX_RECORDED_THREADS = 512
DTYPES = {"float": np.float32, "double": np.float64, "int": np.int32, "long long": np.int64, "bool": np.bool_,
          "unsigned char": np.uint8}

# No contraction: a*b + c rounds twice in every build, so that fibers and threads agree to the last bit.
COMMON_FLAGS = ("-std=c++17", "-ffp-contract=off", "-w", "-U_FORTIFY_SOURCE", f"-I{HERE}")
LIBRARY = ("-shared", "-fPIC")
# Hidden: a kernel that is named like a function of another library neither replaces that one nor is replaced by it.
KERNELS = (*LIBRARY, "-fvisibility=hidden")
FIBERS = (*COMMON_FLAGS, "-O2")
THREADS = (*COMMON_FLAGS, "-O1", "-g", "-pthread", "-DCUDA_ON_CPU_THREADS")
SANITIZERS = {"thread": ("-fsanitize=thread",), "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")}


class NoCompiler(RuntimeError):  # noqa: N818
    """g++ is not installed."""


class CompileError(RuntimeError):
    """The source is not the CUDA C that kernels may use; the text is g++'s, with the positions of the .cu files."""


class LaunchError(RuntimeError):
    """A GPU would refuse this launch, compute nonsense or hang."""


class Parameter(NamedTuple):
    type: str
    is_pointer: bool
    is_const: bool
    name: str


class Finding(NamedTuple):
    kernel: str
    text: str


# Building -------------------------------------------------------------------------------------------------------------

@cache
def cache_folder():
    folder = HERE.parents[1] / ".pytest_cache" / "cuda_on_cpu"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="cuda_on_cpu"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def compiled(text, flags):
    """Path of what g++ makes of a C++ text; made once, though several processes may ask at once."""
    headers = (HERE / "cuda_on_cpu.h").read_text() + (HERE / "machine.h").read_text()
    key = hashlib.sha256(repr((text, headers, flags)).encode()).hexdigest()[:24]
    path = cache_folder() / key
    if path.exists():
        return path
    if shutil.which("g++") is None:
        raise NoCompiler("running CUDA C on the CPU needs g++, which is not on the PATH: apt install g++")
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        Path(folder, "text.cpp").write_text(text)
        run = subprocess.run(["g++", *flags, "-o", "made", "text.cpp"], cwd=folder, stderr=subprocess.PIPE, text=True)
        if run.returncode:
            raise CompileError(run.stderr)
        Path(folder, "made").replace(path)  # whole or not at all
    return path


def signatures(source):
    """{name: [Parameter]} of the kernels of a source."""
    source = re.sub(r"//[^\n]*|/\*.*?\*/", " ", source, flags=re.DOTALL)
    found = re.findall(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)', source)
    if len(found) != len(re.findall(r"\b__global__\b", source)):
        raise CompileError('a kernel is not written as: extern "C" __global__ void name(parameters)')
    return {name: [_parameter(name, text) for text in parameters.split(",") if text.strip()] for name, parameters in found}


def _parameter(kernel, text):
    words = re.sub(r"\b__restrict__\b", " ", text).replace("*", " * ").split()
    *words, name = words
    kind = " ".join(word for word in words if word not in ("const", "*"))
    if kind not in DTYPES or words.count("*") > 1:
        raise CompileError(f"{kernel}: the parameter '{text.strip()}' is none of {', '.join(DTYPES)}, or a pointer to one")
    return Parameter(kind, "*" in words, "const" in text.split("*")[0].split(), name)


def _translated(source):
    """The source as C++, line by line, and for each kernel a function that unpacks an array of argument addresses."""
    # An assignment of its own: outside of a function, where the pointer would be set once and for all, it is an error.
    body = re.sub(r"extern[ \t]+__shared__[ \t]+([\w \t]+?)[ \t]*\b(\w+)[ \t]*\[[ \t]*\][ \t]*;",
                  r"\1* \2; \2 = (\1*)cuda_on_cpu::shared_memory;", source)
    body = re.sub(r"^[ \t]*#[ \t]*include\b", "#error NVRTC has no headers to include:", body, flags=re.MULTILINE)
    exported, calls = 'extern "C" __attribute__((visibility("default")))', []
    for name, parameters in signatures(source).items():
        values = ", ".join(f"*({p.type}{'*' if p.is_pointer else ''}*)a[{i}]" for i, p in enumerate(parameters))
        calls.append(f"{exported} void cuda_on_cpu_call_{name}(void** a) {{ {name}({values}); }}\n")
    return f'#include "cuda_on_cpu.h"\n#line 1 "kernels.cu"\n{body}\n#line 1 "calls"\n{"".join(calls)}'


# Fibers ---------------------------------------------------------------------------------------------------------------

_schedule = "forward"
_recorder = None


@contextmanager
def scheduled(name):
    """Launches in here take blocks and threads in this order; SCHEDULES lists what there is."""
    global _schedule
    if name not in SCHEDULES:
        raise ValueError(f"there is no schedule '{name}'; there are {', '.join(SCHEDULES)}")
    before, _schedule = _schedule, name
    try:
        yield
    finally:
        _schedule = before


@cache
def _fibers():
    # PyDLL keeps Python's lock: there is one set of fibers, so launches of several Python threads must not meet.
    # RTLD_GLOBAL: the kernels' libraries find threadIdx and its like in this one.
    library = ctypes.PyDLL(str(compiled((HERE / "fibers.cpp").read_text(), (*FIBERS, *LIBRARY))), mode=ctypes.RTLD_GLOBAL)
    launch = library.cuda_on_cpu_launch
    launch.restype = ctypes.c_char_p
    launch.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_uint] * 2
    return launch


@cache
def build(source):
    """The kernels of a CUDA C source, ready to be launched. A `#line 1 "lrn.cu"` in it sets what errors are reported by."""
    return Library(source)


class Library:
    def __init__(self, source):
        self.source = source
        self.kernels = signatures(source)
        self._launch = _fibers()
        library = ctypes.PyDLL(str(compiled(_translated(source), (*FIBERS, *KERNELS))))
        self._calls = {name: ctypes.cast(library[f"cuda_on_cpu_call_{name}"], ctypes.c_void_p) for name in self.kernels}

    def launch(self, name, grid, block, args, shared_mem=0):
        """Runs a kernel, to its end. args: NumPy arrays, which it works on in place, and NumPy scalars, of its exact types.

        LaunchError: what a GPU would not forgive in grid, block, args (the kernel has not run then), barriers or shared memory.
        """
        if name not in self.kernels:
            raise LaunchError(f"there is no kernel '{name}'; there are {', '.join(self.kernels)}")
        grid, block = _size(name, "grid", grid), _size(name, "block", block)
        _check_sizes(name, grid, block, shared_mem)
        _check_arguments(name, self.kernels[name], args)
        # A scalar is copied into an array of its own, so that every argument has an address.
        values = [np.uintp(a.ctypes.data) if isinstance(a, np.ndarray) else a for a in args]
        values = [np.array(value) for value in values]
        addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block)
        finish = _recorder.begin(self.source, name, grid, block, args, shared_mem) if _recorder else lambda: None
        problem = self._launch(self._calls[name], addresses, *sizes, shared_mem, SCHEDULES.index(_schedule))
        if problem:
            raise LaunchError(f"{name}: {problem.decode()}")
        finish()


def _size(name, what, size):
    whole = isinstance(size, tuple) and 1 <= len(size) <= 3 and all(isinstance(n, int | np.integer) for n in size)
    if not whole:
        raise LaunchError(f"{name}: {what} is a tuple of one to three integers, not {size!r}")
    return tuple(map(int, size)) + (1,) * (3 - len(size))


def _check_sizes(name, grid, block, shared_mem):
    if min(grid) < 1 or grid[0] >= 2**31 or max(grid[1:]) > 65535:
        raise LaunchError(f"{name}: a grid has 1 to 2**31 - 1 blocks along x and 1 to 65535 along y and z, not {grid}")
    if min(block) < 1 or block[0] * block[1] * block[2] > 1024 or block[2] > 64:
        raise LaunchError(f"{name}: a block has 1 to 1024 threads, at most 64 of them along z, not {block}")
    if not 0 <= shared_mem <= MAX_SHARED:
        raise LaunchError(f"{name}: a block has at most {MAX_SHARED} bytes of shared memory, not {shared_mem}")


def _check_arguments(name, parameters, args):
    """A GPU gets bytes: what is not exactly of the parameter's type it would read as something else, without a word."""
    if len(args) != len(parameters):
        raise LaunchError(f"{name} has {len(parameters)} parameters ({', '.join(p.name for p in parameters)}), got {len(args)}")
    for parameter, value in zip(parameters, args):
        dtype = np.dtype(DTYPES[parameter.type])
        kind, word = (np.ndarray, "array") if parameter.is_pointer else (np.generic, "scalar")
        where = f"{name}: {parameter.name}"
        if not isinstance(value, kind) or value.dtype != dtype:
            raise LaunchError(f"{where} is a NumPy {word} of {dtype}, not {type(value).__name__} "
                              f"{'of ' + str(value.dtype) if hasattr(value, 'dtype') else repr(value)}")
        if parameter.is_pointer and not (value.flags.c_contiguous and value.flags.aligned):
            raise LaunchError(f"{where} is not contiguous (strides {value.strides}); kernels take x[i] for the i-th element")
        if parameter.is_pointer and not parameter.is_const and not value.flags.writeable:
            raise LaunchError(f"{where} is read-only, and the parameter is not const")


# Threads under a sanitizer --------------------------------------------------------------------------------------------

@contextmanager
def recording(folder):
    """Launches in here are also written to the folder, with what their arrays hold before and after, for replay."""
    global _recorder
    before, _recorder = _recorder, Recorder(folder)
    try:
        yield
    finally:
        _recorder = before


class Recorder:
    """folder/SOURCE/: source.cu, and for launch N: N.launch, which threads.cpp reads, and N.npz, the arrays after it."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def begin(self, source, name, grid, block, args, shared_mem):
        """Takes the launch down. Gives the function to call after it, which writes it."""
        threads = math.prod(grid + block)
        if threads > MAX_RECORDED_THREADS:
            raise ValueError(f"{name}: a launch of {threads} threads cannot be recorded, as each becomes a thread of the "
                             f"machine; at most {MAX_RECORDED_THREADS}: use smaller inputs")
        arrays, places = _distinct_arrays(name, args)
        numbers = [*grid, *block, shared_mem, len(arrays), *(a.nbytes for a in arrays), len(args), *places]
        scalars = [a.tobytes().ljust(8, b"\0") for a in args if not isinstance(a, np.ndarray)]
        launch = f"{name} {' '.join(map(str, numbers))}\n".encode() + b"".join([a.tobytes() for a in arrays] + scalars)

        def finish():
            folder = self.folder / hashlib.sha256(source.encode()).hexdigest()[:16]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "source.cu").write_text(source)
            number = len(list(folder.glob("*.launch")))
            (folder / f"{number}.launch").write_bytes(launch)
            np.savez(folder / f"{number}.npz", *arrays)
        return finish


def _distinct_arrays(name, args):
    """The arrays, each once, and for every argument the number of its array, -1 for a scalar."""
    arrays, places = [], []
    for a in args:
        if not isinstance(a, np.ndarray):
            places.append(-1)
            continue
        overlapping = [place for place, other in enumerate(arrays) if np.may_share_memory(a, other)]
        if any(a.ctypes.data != arrays[place].ctypes.data or a.nbytes != arrays[place].nbytes for place in overlapping):
            raise ValueError(f"{name}: two arrays overlap without being the same, which cannot be recorded")
        if not overlapping:
            overlapping.append(len(arrays))
            arrays.append(a)
        places.append(overlapping[0])
    return arrays, places


def replay(folder, sanitizer, seconds=20):
    """Runs what was recorded by real threads under "thread" or "address" (and undefined behaviour); a list of findings.

    A launch that takes longer than the seconds is a finding, and so are results other than the fibers'.
    """
    folders = sorted(path.parent for path in Path(folder).glob("*/source.cu"))
    if not folders:
        raise ValueError(f"no launch was recorded in {folder}")
    return [finding for each in folders for finding in _replay_source(each, sanitizer, seconds)]


@cache
def _without_randomized_addresses():
    """ThreadSanitizer does not start where the kernel spreads addresses too far."""
    command = ["setarch", "-R"]
    works = shutil.which("setarch") and subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode == 0
    return command if works else []


def _replay_source(folder, sanitizer, seconds):
    flags = (*THREADS, *SANITIZERS[sanitizer])
    program = compiled((HERE / "threads.cpp").read_text(), (*flags, "-rdynamic", "-ldl"))
    kernels = compiled(_translated((folder / "source.cu").read_text()), (*flags, *KERNELS))
    environment = os.environ | {"TSAN_OPTIONS": "exitcode=66", "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": ""}
    for stale in folder.glob("*.result"):
        stale.unlink()
    findings, begin, count = [], 0, len(list(folder.glob("*.launch")))
    while begin < count:  # once, unless a launch ends the program: then again from the launch after it
        command = [*_without_randomized_addresses(), program, kernels, folder, str(begin), str(seconds)]
        run = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", env=environment)
        _, *reports = re.split(r"^launch (\d+)\n", run.stderr, flags=re.MULTILINE)
        if not reports:
            raise RuntimeError(f"{program} did not start (exit code {run.returncode}): {run.stderr}")
        new = []
        for number, report in zip(reports[::2], reports[1::2]):
            kernel = (folder / f"{number}.launch").read_bytes().split(maxsplit=1)[0].decode()
            new += [Finding(kernel, text) for text in _summaries(report)]
            if (folder / f"{number}.result").exists():
                new += [Finding(kernel, text) for text in _differences(folder, number)]
            elif run.returncode == -signal.SIGALRM:
                new.append(Finding(kernel, f"hangs: still running after {seconds} seconds"))
        if run.returncode and not new:
            new.append(Finding(kernel, f"ended with exit code {run.returncode}: {report.strip()}"))
        findings += new
        begin = int(reports[-2]) + 1
    return list(dict.fromkeys(findings))  # the same race in a hundred launches is one finding


def _summaries(report):
    """What a sanitizer says, a line for each thing that it found, with the other places in .cu files that its report names."""
    for text in re.split(r"(?<=\n)(?=WARNING: ThreadSanitizer)", report):
        text = re.sub(r"/\S*/(?=[\w.-]+\.cuh?:)", "", text)  # g++ puts the folder of the build in front
        summary = re.search(r"^SUMMARY: (.*)$|^(.*runtime error: .*)$", text, flags=re.MULTILINE)
        if summary:
            line = summary[1] or summary[2]
            others = dict.fromkeys(place for place in _places(text) if place not in _places(line))
            yield f"{line} (also {', '.join(others)})" if others else line


def _places(text):
    return re.findall(r"[\w.-]+\.cuh?:\d+", text)


def _differences(folder, number):
    """Whether the arrays are not what the fibers made of them. atomicAdd adds in any order: up to rounding there."""
    in_any_order = "atomicAdd" in (folder / "source.cu").read_text()
    result, offset = (folder / f"{number}.result").read_bytes(), 0
    with np.load(folder / f"{number}.npz") as after:
        for want in after.values():
            have = np.ndarray(want.shape, want.dtype, result, offset)
            offset += want.nbytes
            if in_any_order and want.dtype.kind == "f":
                same = np.allclose(have, want, rtol=1e-5, atol=1e-5, equal_nan=True)
            else:
                same = np.array_equal(have, want, equal_nan=True)
            if not same:
                yield "result differs from the fibers'"
                return
