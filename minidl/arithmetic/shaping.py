"""Operations that move elements and change none: reshape, transpose, [], concat, stack, pad, astype."""
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.arithmetic.broadcasting import positive_axes
from minidl.backend import Array, array_module, device_of, is_array, to_device
from minidl.function import Function, Refusal, Sample, check_number
from minidl.threads import in_parts


class Reshape(Function):
    """y has x's elements in row-major order and another shape; one size may be -1 (the rest)."""

    name, accepts_integers = "reshape", True

    def __init__(self, shape: tuple[int, ...] = (-1,)) -> None:
        self.shape = shape

    def forward(self, x: Array) -> Array:
        try:
            y = x.reshape(self.shape)
        except (ValueError, TypeError):
            raise ValueError(
                f"reshape: x {x.shape} has {x.size} elements, which do not fill shape {self.shape}; "
                "the product of the sizes must be equal (one size may be -1)"
            ) from None
        self.x_shape = x.shape
        return y

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.x_shape)

    @staticmethod
    def naive(x: np.ndarray, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
        elements = [float(x[i]) for i in np.ndindex(x.shape)]
        return np.array(elements).reshape(shape)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 3, 4)),), dict(shape=(4, 6))
        yield (rng.standard_normal((2, 3)),), dict(shape=(3, -1))
        yield (rng.standard_normal(()),), dict(shape=(1, 1))
        yield (rng.standard_normal((0, 3)),), dict(shape=(0, 1, 3))

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((2, 3)),), dict(shape=(4, 2)), "do not fill"
        yield (np.ones((2, 3)),), dict(shape=(-1, -1)), "one size may be -1"


class Transpose(Function):
    """y has x's axes in another order: y.shape[i] = x.shape[axes[i]]; without `axes`, reversed."""

    name, accepts_integers = "transpose", True

    def __init__(self, axes: tuple[int, ...] | None = None) -> None:
        self.axes = axes

    def forward(self, x: Array) -> Array:
        axes = tuple(reversed(range(x.ndim))) if self.axes is None else self.axes
        if positive_axes(self.name, axes, x.ndim) != tuple(range(x.ndim)):
            raise ValueError(f"transpose: axes {axes} must name every axis of x {x.shape} once")
        self.inverse = np.argsort([a % x.ndim for a in axes]).tolist()
        return x.transpose(axes)

    def backward(self, dy: Array) -> Array:
        return dy.transpose(self.inverse)

    @staticmethod
    def naive(x: np.ndarray, axes: tuple[int, ...] | None = None) -> np.ndarray:
        order = [a % x.ndim for a in axes] if axes is not None else list(range(x.ndim))[::-1]
        y = np.zeros([x.shape[a] for a in order])
        for i in np.ndindex(x.shape):
            y[tuple(i[a] for a in order)] = x[i]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 3, 4)),), {}
        yield (rng.standard_normal((2, 3, 4)),), dict(axes=(1, 2, 0))
        yield (rng.standard_normal((2, 3, 4, 1)),), dict(axes=(0, -1, 1, 2))
        yield (rng.standard_normal((0, 3)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((2, 3)),), dict(axes=(0,)), "every axis"
        yield (np.ones((2, 3)),), dict(axes=(0, 2)), "does not exist"


def _own(part: Any) -> Any:
    """One part of an index, with arrays and sequences as arrays of our own."""
    if isinstance(part, (list, tuple)):
        return np.array(part, dtype=None if len(part) else np.int64)
    return part.copy() if hasattr(part, "dtype") else part


class GetItem(Function):
    """y = x[index], with NumPy's indices: slices, integers, integer arrays (repeats allowed), boolean masks.

    An element that is taken twice receives the sum of both gradients. On the GPU, an index array that was made there is not
    looked at: a place that does not exist is another one's.
    """

    name, accepts_integers = "getitem", True

    def __init__(self, index: Any = ()) -> None:
        # arrays are copied: whoever shuffles an index after forward must not send the gradient elsewhere
        self.index = tuple(map(_own, index)) if isinstance(index, tuple) else _own(index)

    def forward(self, x: Array) -> Array:
        try:
            if device_of(x) == "cuda":
                self.check_places(x.shape)
                self.move_index()
            y = x[self.index]
        except (IndexError, ValueError, TypeError) as error:
            parts = self.index if isinstance(self.index, tuple) else (self.index,)
            if device_of(x) == "cpu" and any(device_of(part) == "cuda" for part in parts):
                raise ValueError("getitem: x is on cpu, the index on cuda: move one with index.to('cpu') or "
                                 "x.to('cuda')") from None
            raise IndexError(f"getitem: x {x.shape} has no element {self.index!r}: {error}") from None
        self.x_shape = x.shape
        return y

    def check_places(self, shape: tuple[int, ...]) -> None:
        """IndexError for a place that x has not: on the GPU it would be another one's. Where the index is on the host, it costs
        no wait to look."""
        arrays = [part for part in (self.index if isinstance(self.index, tuple) else (self.index,)) if is_array(part)]
        if arrays and all(device_of(part) == "cpu" for part in arrays):
            np.broadcast_to(np.False_, shape)[self.index]  # no memory but the answer's

    def move_index(self) -> None:
        """Takes index arrays along to the GPU."""
        if isinstance(self.index, tuple):
            self.index = tuple(to_device(part, "cuda") if is_array(part) else part for part in self.index)
        elif is_array(self.index):
            self.index = to_device(self.index, "cuda")

    def backward(self, dy: Array) -> Array:
        xp = array_module(dy)
        dx = xp.zeros(self.x_shape, dy.dtype)
        parts = self.index if isinstance(self.index, tuple) else (self.index,)
        if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
            dx[self.index] = dy
        else:
            xp.add.at(dx, self.index, dy)  # dx[index] += dy would keep only one of several repeats
        return dx

    @staticmethod
    def naive(x: np.ndarray, index: Any = ()) -> np.ndarray:
        places = np.arange(x.size).reshape(x.shape)[index]  # which element each output place shows
        y = np.zeros(np.shape(places))
        for i in np.ndindex(y.shape):
            y[i] = x[np.unravel_index(places[i], x.shape)]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        x = rng.standard_normal((4, 5, 2))
        repeats = np.array([2, 0, 2, -1])
        for index in (1, (slice(1, None, 2), -1), (Ellipsis, None, 0), repeats, (slice(None), repeats),
                      (repeats, np.array([0, 1, 0, 4])), (slice(None), [0, 0, 3]), slice(0, 0)):
            yield (x,), dict(index=index)
        yield (x,), dict(index=((0, 0, 1), 2))
        yield (x,), dict(index=[])
        yield (x,), dict(index=[True, False, True, True])
        yield (x,), dict(index=x > 0.3)
        yield (x,), dict(index=np.array([True, False, True, True]))
        yield (np.zeros((0, 3)),), dict(index=(slice(None), np.array([1, 1])))

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((2, 3)),), dict(index=2), "no element"
        yield (np.ones((2, 3)),), dict(index=np.array([0.5])), "no element"
        yield (np.ones((2, 3)),), dict(index=np.array([True, False, True])), "no element"


def _check_alike(name: str, shapes: tuple, except_axis: int | None) -> None:
    """All of `shapes` are one, but for `except_axis`."""
    for i, shape in enumerate(shapes):
        alike = len(shape) == len(shapes[0]) and all(
            m == n for a, (m, n) in enumerate(zip(shape, shapes[0])) if a != except_axis)
        if not alike:
            where = "" if except_axis is None else f" except along axis {except_axis}"
            raise ValueError(f"{name}: shapes must be equal{where}, got xs[0] {shapes[0]} and xs[{i}] {shape}")


class Concat(Function):
    """y holds the inputs one behind the other along an axis that they have."""

    name, accepts_integers = "concat", True

    def __init__(self, axis: int = 0) -> None:
        self.axis = axis

    def forward(self, *xs: Array) -> Array:
        self.output_shape(*(x.shape for x in xs))
        self.sizes = [x.shape[self.axis] for x in xs]
        return array_module(xs[0]).concatenate(xs, axis=self.axis)

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        if not shapes:
            raise ValueError("concat: needs at least one tensor, got an empty list")
        (axis,) = positive_axes(self.name, self.axis, len(shapes[0]))
        _check_alike(self.name, shapes, except_axis=axis)
        return *shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]

    def backward(self, dy: Array) -> tuple:
        ends = np.cumsum(self.sizes).tolist()
        return tuple(array_module(dy).split(dy, ends[:-1], axis=self.axis))

    def forward_cpu(self, *xs: Array) -> Array:
        y = np.empty(self.output_shape(*(x.shape for x in xs)), np.result_type(*xs))
        self.sizes = [x.shape[self.axis] for x in xs]
        parts = np.split(y, np.cumsum(self.sizes)[:-1].tolist(), axis=self.axis)  # views of y
        for x, part in zip(xs, parts):
            in_parts(lambda x, part: np.copyto(part, x), x, part)
        return y

    def backward_cpu(self, dy: Array) -> tuple:
        return self.backward(dy)  # views: nothing is copied

    @staticmethod
    def naive(*xs: np.ndarray, axis: int = 0) -> np.ndarray:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        y, start = np.zeros(shape), 0
        for x in xs:
            for i in np.ndindex(x.shape):
                j = list(i)
                j[axis] += start
                y[tuple(j)] = x[i]
            start += x.shape[axis]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield tuple(rng.standard_normal((2, n, 3)) for n in (1, 4, 2)), dict(axis=1)
        yield tuple(rng.standard_normal((2, n)) for n in (3, 0)), dict(axis=-1)
        yield (rng.standard_normal((2, 3)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (), {}, "at least one"
        yield (np.ones((2, 3)), np.ones((2, 4))), dict(axis=0), "must be equal except along axis 0"
        yield (np.ones((2, 3)), np.ones(2)), dict(axis=0), "must be equal"
        yield (np.ones((2, 3)), np.ones((2, 3))), dict(axis=2), "does not exist"


class Stack(Function):
    """y holds the inputs side by side along a new axis."""

    name, accepts_integers = "stack", True

    def __init__(self, axis: int = 0) -> None:
        self.axis = axis

    def forward(self, *xs: Array) -> Array:
        if not xs:
            raise ValueError("stack: needs at least one tensor, got an empty list")
        (self.new_axis,) = positive_axes(self.name, self.axis, xs[0].ndim + 1)
        _check_alike(self.name, tuple(x.shape for x in xs), except_axis=None)
        return array_module(xs[0]).stack(xs, axis=self.new_axis)

    def backward(self, dy: Array) -> tuple:
        return tuple(array_module(dy).moveaxis(dy, self.new_axis, 0))

    @staticmethod
    def naive(*xs: np.ndarray, axis: int = 0) -> np.ndarray:
        shape = list(xs[0].shape)
        axis = operator.index(axis) % (len(shape) + 1)
        y = np.zeros((*shape[:axis], len(xs), *shape[axis:]))
        for k, x in enumerate(xs):
            for i in np.ndindex(x.shape):
                y[(*i[:axis], k, *i[axis:])] = x[i]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for axis in (0, 1, -1):
            yield tuple(rng.standard_normal((2, 3)) for _ in range(3)), dict(axis=axis)
        yield (rng.standard_normal(()), rng.standard_normal(())), {}
        yield (np.zeros((0, 3)), np.zeros((0, 3))), dict(axis=1)
        yield (rng.standard_normal((2, 3)),), dict(axis=1)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (), {}, "at least one"
        yield (np.ones((2, 3)), np.ones((2, 4))), {}, "must be equal"
        yield (np.ones((2, 3)),), dict(axis=3), "does not exist"


class Pad(Function):
    """y is x with `pad_width` = ((before, after), ...) constant elements added around each axis."""

    name, accepts_integers = "pad", True

    def __init__(self, pad_width: tuple[tuple[int, int], ...] = (), value: float = 0.0) -> None:
        self.pad_width, self.value = pad_width, value

    def forward(self, x: Array) -> Array:
        widths = self.pad_width
        pairs = isinstance(widths, (tuple, list)) and all(isinstance(p, (tuple, list)) and len(p) == 2 for p in widths)
        if not pairs or len(widths) != x.ndim:
            raise ValueError(f"pad: pad_width needs one (before, after) pair per axis of x {x.shape}, got {widths}")
        check_number(self.name, "value", self.value)
        if x.dtype.kind != "f" and self.value != int(self.value):
            raise TypeError(f"pad: value {self.value} does not fit into {x.dtype}: use x.astype(np.float32)")
        if any(not isinstance(n, (int, np.integer)) or n < 0 for pair in widths for n in pair):
            raise ValueError(f"pad: widths are integers of at least 0, got {widths}; to cut, use a slice")
        self.inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))
        if x.ndim == 0:  # no axis to pad along; np.pad refuses an empty list of widths
            return x
        return array_module(x).pad(x, widths, constant_values=self.value)

    def backward(self, dy: Array) -> Array:
        return dy[self.inside]

    @staticmethod
    def naive(x: np.ndarray, pad_width: tuple[tuple[int, int], ...] = (), value: float = 0.0) -> np.ndarray:
        y = np.full([a + n + b for (a, b), n in zip(pad_width, x.shape)], float(value))
        for i in np.ndindex(x.shape):
            y[tuple(k + before for k, (before, _) in zip(i, pad_width))] = x[i]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 3)),), dict(pad_width=((1, 0), (2, 3)), value=1.5)
        yield (rng.standard_normal((2, 1, 3)),), dict(pad_width=((0, 0), (0, 1), (1, 2)))
        yield (rng.standard_normal((0, 3)),), dict(pad_width=((0, 0), (1, 1)))
        yield (rng.standard_normal(()),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((2, 3)),), dict(pad_width=((1, 1),)), "pair per axis"
        yield (np.ones((2, 3)),), dict(pad_width=2), "pair per axis"
        yield (np.ones((2, 3)),), dict(pad_width=(1, 1)), "pair per axis"
        yield (np.ones((2, 3)),), dict(pad_width=((1, 1, 1), (0, 0))), "pair per axis"
        yield (np.ones((2, 3)),), dict(pad_width=((0, -1), (0, 0))), "use a slice"


class Cast(Function):
    """y is x in another dtype; the gradient is cast back."""

    name, accepts_integers = "astype", True

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = dtype

    def forward(self, x: Array) -> Array:
        self.x_dtype = x.dtype
        return x.astype(self.dtype)

    def backward(self, dy: Array) -> Array:
        return dy.astype(self.x_dtype)

    def output_dtype(self, *dtypes: np.dtype) -> np.dtype:
        return np.dtype(self.dtype)

    @staticmethod
    def naive(x: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        return np.array([np.dtype(dtype).type(value) for value in x.flat], dtype).reshape(x.shape)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 3)),), dict(dtype=np.float64)
        yield (np.zeros((0, 3)),), dict(dtype=np.float64)
