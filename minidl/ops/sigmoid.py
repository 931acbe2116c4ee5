"""The logistic sigmoid."""
import math
from collections.abc import Iterator

import numpy as np

from minidl.arithmetic.broadcasting import over_elements
from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module
from minidl.function import Function, Refusal, Sample


class Sigmoid(Function):
    """y = 1 / (1 + e**-x), for any x without overflow.  dy/dx = y (1 - y)"""

    name = "sigmoid"

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        small = xp.exp(-abs(x))  # e**-|x| is at most 1: no overflow on either side
        self.y = xp.where(x >= 0, 1 / (1 + small), small / (1 + small))
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy * self.y * (1 - self.y)

    @staticmethod
    def naive(x: np.ndarray) -> np.ndarray:
        return over_elements(lambda a: 1 / (1 + math.exp(-a)) if a > -700 else math.exp(a), x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for shape in [(2, 3), (), (0, 3)]:
            yield (rng.standard_normal(shape) * 2,), {}
        yield (np.array([-1e4, -30.0, 0.0, 30.0, 1e4]),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 2]),), {}, "astype"


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e**-x), element by element."""
    return apply(Sigmoid(), x)
