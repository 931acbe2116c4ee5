"""The mean squared error."""
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array
from minidl.function import Function, Refusal, Sample


class MSE(Function):
    """loss = mean of (x - target)**2

    x and target of one shape (no broadcasting: (N, 1) against (N,) would average N * N differences) -> 0-d.
    """

    name = "mse"

    def forward(self, x: Array, target: Array) -> Array:
        if x.shape != target.shape:
            raise ValueError(f"mse: x {x.shape} and target {target.shape} must have the same shape; nothing is broadcast: "
                             "reshape one of them")
        if x.size == 0:
            raise ValueError(f"mse: there is nothing to average over in x {x.shape}: skip empty batches")
        self.difference = x - target
        return (self.difference**2).mean()

    def backward(self, dy: Array) -> tuple:
        dx = self.difference * (dy * 2 / self.difference.size)
        return dx, -dx

    @staticmethod
    def naive(x: np.ndarray, target: np.ndarray) -> np.ndarray:
        total = 0.0
        for i in np.ndindex(x.shape):
            total += float(x[i] - target[i]) ** 2
        return np.array(total / x.size)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for shape in [(4,), (2, 3, 2), (1, 1)]:
            yield (rng.standard_normal(shape), rng.standard_normal(shape)), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((4, 1)), np.ones(4)), {}, "must have the same shape"
        yield (np.ones((0, 2)), np.ones((0, 2))), {}, "nothing to average over"


def mse(x: Tensor, target: Any) -> Tensor:
    """Mean of (x - target)**2: a 0-d tensor."""
    return apply(MSE(), x, target)
