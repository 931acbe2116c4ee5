"""Operations that fold axes away: sum, mean, max, var."""
import math
from collections.abc import Iterator

import numpy as np

from minidl.arithmetic.broadcasting import positive_axes
from minidl.backend import Array, array_module
from minidl.function import Function, Refusal, Sample

Axis = int | tuple[int, ...] | None


def _over_groups(f, x: np.ndarray, axis: Axis, keepdims: bool) -> np.ndarray:
    """y[j] = f(the list of the x[i] whose indices agree with j outside `axis`): a plain loop."""
    axes = positive_axes("", axis, x.ndim)
    groups: dict[tuple, list[float]] = {}
    for i in np.ndindex(x.shape):
        groups.setdefault(tuple(0 if a in axes else i[a] for a in range(x.ndim)), []).append(float(x[i]))
    y = np.zeros(tuple(1 if a in axes else n for a, n in enumerate(x.shape)))
    for j in np.ndindex(y.shape):
        y[j] = f(groups.get(j, []))
    return y if keepdims else y.reshape([n for a, n in enumerate(x.shape) if a not in axes])


class _Reduction(Function):
    """What the reductions share: their options, and putting a reduced gradient back over the axes."""

    def __init__(self, axis: Axis = None, keepdims: bool = False) -> None:
        self.axis, self.keepdims = axis, keepdims

    def prepare(self, x: Array, may_be_empty: bool = False) -> None:
        """Checks the axes and remembers the shapes that `spread` needs. An average or maximum of nothing is refused."""
        self.axes = positive_axes(self.name, self.axis, x.ndim)
        self.x_shape = x.shape
        self.kept = tuple(1 if a in self.axes else n for a, n in enumerate(x.shape))
        self.count = math.prod(x.shape[a] for a in self.axes)
        if self.count == 0 and not may_be_empty:
            raise ValueError(f"{self.name}: x {x.shape} has no elements along axis {self.axis}: there is none of nothing")

    def spread(self, dy: Array) -> Array:
        """`dy` with the reduced axes back, repeated along them (a read-only view of x's shape)."""
        return array_module(dy).broadcast_to(dy.reshape(self.kept), self.x_shape)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        x = rng.standard_normal((3, 4, 2))
        for axis in (None, 0, -1, (0, 2)):
            yield (x,), dict(axis=axis)
        yield (x,), dict(axis=1, keepdims=True)
        yield (rng.standard_normal(()),), {}
        yield (rng.standard_normal((0, 3)),), dict(axis=1)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((2, 3)),), dict(axis=2), "does not exist"
        yield (np.ones((2, 3)),), dict(axis=(0, -2)), "twice"
        yield (np.ones((2, 3)),), dict(axis=0.5), "must be an integer"


class Sum(_Reduction):
    """y = sum of x over `axis`."""

    name, accepts_integers = "sum", True

    def forward(self, x: Array) -> Array:
        self.prepare(x, may_be_empty=True)
        return x.sum(axis=self.axes, keepdims=self.keepdims)

    def backward(self, dy: Array) -> Array:
        return self.spread(dy)

    @staticmethod
    def naive(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        return _over_groups(math.fsum, x, axis, keepdims)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield from _Reduction.samples(rng)
        yield (np.zeros((0, 3)),), dict(axis=0)  # the sum of nothing is 0


class Mean(_Reduction):
    """y = average of x over `axis`."""

    name = "mean"

    def forward(self, x: Array) -> Array:
        self.prepare(x)
        return x.mean(axis=self.axes, keepdims=self.keepdims)

    def backward(self, dy: Array) -> Array:
        return self.spread(dy) / self.count

    @staticmethod
    def naive(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        return _over_groups(lambda group: math.fsum(group) / len(group), x, axis, keepdims)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield from _Reduction.rejects()
        yield (np.ones((2, 0)),), dict(axis=1), "no elements"


class Var(_Reduction):
    """y = average of (x - mean)**2 over `axis`: the biased variance (ddof 0), as np.var."""

    name = "var"

    def forward(self, x: Array) -> Array:
        self.prepare(x)
        self.centred = x - x.mean(axis=self.axes, keepdims=True)
        return (self.centred**2).mean(axis=self.axes, keepdims=self.keepdims)

    def backward(self, dy: Array) -> Array:
        # the mean's own dependence on x adds sum(centred), which is 0
        return self.spread(dy) * self.centred * (2 / self.count)

    @staticmethod
    def naive(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        def variance(group: list[float]) -> float:
            mean = math.fsum(group) / len(group)
            return math.fsum((value - mean) ** 2 for value in group) / len(group)
        return _over_groups(variance, x, axis, keepdims)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield from _Reduction.rejects()
        yield (np.ones((2, 0)),), dict(axis=1), "no elements"


class Max(_Reduction):
    """y = largest x over `axis`. Of equal ones the first, in row-major order, gets the gradient."""

    name, accepts_integers = "max", True

    def forward(self, x: Array) -> Array:
        self.prepare(x)
        xp = array_module(x)
        self.others = tuple(a for a in range(x.ndim) if a not in self.axes)
        rows = x.transpose(self.others + self.axes).reshape(-1, self.count)  # one row per output element
        self.first = rows.argmax(axis=1)
        y = rows[xp.arange(len(rows)), self.first]
        return y.reshape(self.kept if self.keepdims else [x.shape[a] for a in self.others])

    def backward(self, dy: Array) -> Array:
        xp, order = array_module(dy), self.others + self.axes
        rows = xp.zeros((dy.size, self.count), dy.dtype)
        rows[xp.arange(len(rows)), self.first] = dy.reshape(-1)
        return rows.reshape([self.x_shape[a] for a in order]).transpose(np.argsort(order).tolist())

    @staticmethod
    def naive(x: np.ndarray, axis: Axis = None, keepdims: bool = False) -> np.ndarray:
        return _over_groups(max, x, axis, keepdims)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield from _Reduction.rejects()
        yield (np.ones((2, 0)),), dict(axis=1), "no elements"
