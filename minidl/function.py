"""What every operation is: forward and backward on raw arrays, side by side in one class.

A Function knows nothing of tensors or graphs. It receives arrays, returns an array, and later turns the gradient of
that output into gradients of its inputs. `minidl.autograd.apply` records it; everything else about the operation
(the loops that define it, samples that test it, inputs it must refuse) hangs on the same class.
"""
import functools
import inspect
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from minidl.backend import Array, device_of

Sample = tuple[tuple, dict]
Refusal = tuple[tuple, dict, str]


class _Settings(threading.local):
    """What holds for the current thread only."""

    plain = False


_settings = _Settings()

_KERNELS = {"forward", "backward", "forward_cpu", "forward_cuda"}
"""What a class defines that says how an operation is computed."""


@contextmanager
def plain_kernels() -> Iterator[None]:
    """A `with` block in which every operation runs `forward` and `backward`, the definition, never its faster kernels."""
    before, _settings.plain = _settings.plain, True
    try:
        yield
    finally:
        _settings.plain = before


def check_number(name: str, option: str, value: Any, least: float = -math.inf) -> float:
    """`value` as a finite Python float of at least `least`: for the options of an operation."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: {option} must be a number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value) or value < least:
        bound = "finite" if least == -math.inf else f"finite and at least {least:g}"
        raise ValueError(f"{name}: {option} must be {bound}, got {value!r}")
    return float(value)


def check_flag(name: str, option: str, value: Any) -> None:
    """`value` is True or False; a string would count as true, whatever it says."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: {option} must be True or False, got {value!r}")


def _runs_on_cpu(x: Array) -> bool:
    """Whether faster kernels for the CPU take `x`."""
    return type(x) is np.ndarray and x.dtype.char in "fd?bhilqBHILQ" and x.dtype.isnative


def _runs_on_cuda(x: Array) -> bool:
    """Whether CUDA kernels take `x`."""
    return device_of(x) == "cuda" and x.dtype.char in "f?bhilqBHILQ"


class Function:
    """One operation. Options go to `__init__`, arrays to `forward`; one instance serves one call.

    `forward` keeps what `backward` will need as attributes of `self`; the engine drops them once backward has run.
    `backward` returns one gradient per input (a tuple, or the bare array for a single input), None where none is
    needed, and never writes into its arguments.
    """

    name: ClassVar[str] = "function"
    """How errors and tables call the operation: the name of its function in `minidl.ops`."""

    integer_inputs: ClassVar[tuple[str, ...]] = ()
    """Inputs that hold integers or booleans and carry no gradient (labels, masks)."""

    accepts_integers: ClassVar[bool] = False
    """Whether every input may be of any dtype (arithmetic on counters and masks)."""

    needs: tuple[bool, ...] = (True,) * 8
    """Which inputs need a gradient, in order; the engine says so before `forward`. Until then: all."""

    keeps_output: ClassVar[bool] = True
    """Whether `backward` may look at the output. Where it does not, an operation that works in place may take its memory. A
    subclass that overrides `forward` or `backward` has to say it again."""

    inplace: bool = False
    """Whether `forward` may return its first input's array, overwritten."""

    forward_cpu: ClassVar[Callable | None] = None
    backward_cpu: ClassVar[Callable | None] = None
    """The same as `forward` and `backward`, faster, for NumPy arrays of float32, float64, integers and booleans. Both or
    none."""

    forward_cuda: ClassVar[Callable | None] = None
    backward_cuda: ClassVar[Callable | None] = None
    """The same for CuPy arrays of float32, integers and booleans, by CUDA C of our own. Both or none. Float64, in which
    gradients are checked, goes through `forward` and `backward` on the GPU as well."""

    def forward(self, *inputs: Array) -> Array:
        """The output array, computed from the input arrays."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, x, ...)")

    def backward(self, dy: Array) -> Any:
        """The gradient of every input, given `dy`, the gradient of the output."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(self, dy)")

    def kernels(self, inputs: tuple) -> tuple[Callable, Callable]:
        """Which forward runs on these arrays, and the backward that belongs to it."""
        faster = self._faster_kernels()
        if not faster or _settings.plain:
            return self.forward, self.backward
        if "cpu" in faster and all(map(_runs_on_cpu, inputs)):
            return self.forward_cpu, self.backward_cpu  # type: ignore[return-value]
        if "cuda" in faster and all(map(_runs_on_cuda, inputs)):
            return self.forward_cuda, self.backward_cuda  # type: ignore[return-value]
        return self.forward, self.backward

    @classmethod
    @functools.cache
    def _faster_kernels(cls) -> tuple[str, ...]:
        """The devices for which the class that last said what forward and backward are has faster ones, too.

        A subclass that overrides `backward` alone means that one to run.
        """
        return tuple(device for device in ("cpu", "cuda") if vars(cls._author()).get(f"forward_{device}") is not None)

    @classmethod
    def _author(cls) -> type:
        """The class that last said what forward or backward are."""
        return next(c for c in cls.__mro__ if not _KERNELS.isdisjoint(vars(c)))

    @classmethod
    @functools.cache
    def may_lose_output(cls) -> bool:
        """Whether the class that last said what forward and backward are said that backward does not look at the output."""
        return vars(cls._author()).get("keeps_output") is False

    def __call__(self, *inputs: Any) -> Any:
        name = type(self).__name__
        raise TypeError(f"{name}: a Function is not called; minidl.apply({name}(...), x) runs and records it")

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        """The output's shape for inputs of these shapes, with forward's refusals: what `minidl.shapes_only` runs.

        Here it is read off a `forward` of zeros, at forward's price; operations of the networks know it without.
        """
        zeros = (np.zeros(shape, np.int64 if self.input_name(i) in self.integer_inputs else np.float32)
                 for i, shape in enumerate(shapes))
        with np.errstate(all="ignore"):  # the values do not matter: 0 / 0 is as good as any
            return np.shape(self.forward(*zeros))

    def output_dtype(self, *dtypes: np.dtype) -> np.dtype:
        """The output's dtype for inputs of these: the floating one, where there is one."""
        return next((dtype for dtype in dtypes if dtype.kind == "f"), dtypes[0])

    def window(self, *shapes: tuple) -> "tuple[tuple[float, float], tuple[float, float]] | None":
        """(kernel, stride), each (height, width), of an operation that slides windows over images; None for all others."""
        return None

    def multiply_adds(self, y_shape: tuple, *shapes: tuple) -> int:
        """Multiply-adds of one forward call, from the shapes of output and inputs (convolution and linear only)."""
        return 0

    @classmethod
    @functools.cache
    def input_name(cls, index: int) -> str:
        """The name that `forward` gives its input `index`: "x", "w", or "xs[2]" for variadic ones."""
        parameters = list(inspect.signature(cls.forward).parameters.values())[1:]
        if index < len(parameters) and parameters[index].kind is not inspect.Parameter.VAR_POSITIONAL:
            return parameters[index].name
        return f"{parameters[-1].name}[{index - len(parameters) + 1}]" if parameters else f"input {index}"

    @staticmethod
    def naive(*inputs: Any, **options: Any) -> np.ndarray:
        """The definition in plain loops: what `forward` is judged by."""
        raise NotImplementedError("an operation in the table of operations must define naive(...)")

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        """Yields (inputs, options) in float64 that make the operation do something."""
        raise NotImplementedError("an operation in the table of operations must define samples(rng)")

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        """Yields (inputs, options, words): inputs it must refuse, and words that the error must contain."""
        yield from ()
