"""Softmax and its logarithm."""
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.arithmetic.broadcasting import positive_axes
from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module
from minidl.cuda import Kernels, contiguous, empty
from minidl.function import Function, Refusal, Sample

KERNELS = Kernels(__file__)


def log_probabilities(x: Array, axis: int) -> Array:
    """x - log(sum of e**x) along `axis`. The largest x is taken out first: then no e**x overflows, and no digits are lost."""
    xp = array_module(x)
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


def launch_along_classes(kernel: str, axis: int, *arrays: Array) -> None:
    """Runs a kernel of softmax.cu over arrays of one shape: a row of classes along `axis` for every place beside it."""
    shape = arrays[0].shape
    C, size = shape[axis], math.prod(shape)
    KERNELS.launch_rows(kernel, size // C, C, *map(contiguous, arrays), size // C, C, math.prod(shape[axis % len(shape) + 1 :]))


class _AlongClasses(Function):
    """What softmax and log_softmax share: the axis, and the loop over everything else."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def check(self, x: Array) -> None:
        if not isinstance(self.dim, (int, np.integer)):
            raise TypeError(f"{self.name}: dim must be an integer, got {self.dim!r}")
        positive_axes(f"{self.name} (dim)", self.dim, x.ndim)
        if x.shape[self.dim] == 0:
            raise ValueError(f"{self.name}: x {x.shape} has no classes along dim {self.dim}")

    @staticmethod
    def over_rows(f: Any, x: np.ndarray, dim: int) -> np.ndarray:
        """f applied to every list of values along `dim`."""
        rows = np.moveaxis(x, dim, -1)
        y = np.zeros(rows.shape)
        for i in np.ndindex(rows.shape[:-1]):
            y[i] = f([float(value) for value in rows[i]])
        return np.moveaxis(y, -1, dim)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 5)),), {}
        yield (rng.standard_normal((2, 4, 3, 2)),), dict(dim=1)
        yield (rng.standard_normal((3, 1)),), dict(dim=1)
        yield (rng.standard_normal((0, 3)),), dict(dim=1)
        # e**745 overflows, e**-746 is 0, and neither the smallest nor a common score taken out would help
        yield (np.array([[-4.0, 745.5, 746.0], [-746.0, -745.0, -744.5]]),), {}
        yield (np.array([[[-4.0, -746.0], [745.5, -745.0], [746.0, -744.5]]]),), dict(dim=1)
        yield (800 * np.eye(9),), {}  # the largest stands in every place, and to take out any other overflows

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((2, 3)),), dict(dim=2), "does not exist"
        yield (np.ones((2, 3)),), dict(dim=None), "dim must be an integer"
        yield (np.ones((2, 0)),), dict(dim=1), "no classes"


class Softmax(_AlongClasses):
    """y[c] = e**x[c] / sum over k of e**x[k], along `dim`

    Same shape; the y along `dim` sum to 1.  dx = y * (dy - sum of dy * y)
    """

    name = "softmax"

    def forward(self, x: Array) -> Array:
        self.check(x)
        exp = array_module(x).exp(x - x.max(axis=self.dim, keepdims=True))
        self.y = exp / exp.sum(axis=self.dim, keepdims=True)
        return self.y

    def backward(self, dy: Array) -> Array:
        return self.y * (dy - (dy * self.y).sum(axis=self.dim, keepdims=True))

    def forward_cuda(self, x: Array) -> Array:
        self.check(x)
        self.y = empty(x.shape, x)
        launch_along_classes("softmax", self.dim, x, self.y)
        return self.y

    def backward_cuda(self, dy: Array) -> Array:
        dx = empty(dy.shape, dy)
        launch_along_classes("softmax_gradient", self.dim, dy, self.y, dx)
        return dx

    @staticmethod
    def naive(x: np.ndarray, dim: int = -1) -> np.ndarray:
        def softmax_of(row: list[float]) -> list[float]:
            weights = [math.exp(value - max(row)) for value in row]
            return [weight / math.fsum(weights) for weight in weights]
        return _AlongClasses.over_rows(softmax_of, x, dim)


class LogSoftmax(_AlongClasses):
    """y[c] = x[c] - log(sum over k of e**x[k]), along `dim`

    Same shape.  dx = dy - softmax(x) * sum of dy
    """

    name = "log_softmax"

    def forward(self, x: Array) -> Array:
        self.check(x)
        self.y = log_probabilities(x, self.dim)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy - array_module(dy).exp(self.y) * dy.sum(axis=self.dim, keepdims=True)

    def forward_cuda(self, x: Array) -> Array:
        self.check(x)
        self.y = empty(x.shape, x)
        launch_along_classes("log_softmax", self.dim, x, self.y)
        return self.y

    def backward_cuda(self, dy: Array) -> Array:
        dx = empty(dy.shape, dy)
        launch_along_classes("log_softmax_gradient", self.dim, dy, self.y, dx)
        return dx

    @staticmethod
    def naive(x: np.ndarray, dim: int = -1) -> np.ndarray:
        def log_softmax_of(row: list[float]) -> list[float]:
            total = math.fsum(math.exp(value - max(row)) for value in row)
            return [value - max(row) - math.log(total) for value in row]
        return _AlongClasses.over_rows(log_softmax_of, x, dim)


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """e**x / sum of e**x along `dim`: scores to probabilities."""
    return apply(Softmax(dim), x)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """log(softmax(x)) along `dim`, without overflow or log(0)."""
    return apply(LogSoftmax(dim), x)
