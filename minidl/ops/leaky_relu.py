"""The leaky rectified linear unit."""
from collections.abc import Iterator

import numpy as np

from minidl.arithmetic.broadcasting import over_elements
from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module
from minidl.function import Function, Refusal, Sample, check_number


class LeakyReLU(Function):
    """y = x where x > 0, else negative_slope * x.  dy/dx = 1 where x > 0, else negative_slope.

    Any shape.  Maas et al. 2013, section 2.
    """

    name = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = check_number(self.name, "negative_slope", negative_slope)

    def forward(self, x: Array) -> Array:
        self.positive = x > 0
        return array_module(x).where(self.positive, x, x * self.negative_slope)

    def backward(self, dy: Array) -> Array:
        return array_module(dy).where(self.positive, dy, dy * self.negative_slope)

    @staticmethod
    def naive(x: np.ndarray, negative_slope: float = 0.01) -> np.ndarray:
        return over_elements(lambda a: a if a > 0 else negative_slope * a, x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for shape, slope in [((2, 3), 0.2), ((2, 3, 4, 5), 0.01), ((0, 3), 0.1), ((4,), -0.5)]:
            yield (rng.uniform(0.1, 2.0, shape) * rng.choice([-1, 1], shape),), dict(negative_slope=slope)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 2]),), {}, "astype"
        yield (np.ones(2),), dict(negative_slope="0.1"), "must be a number"
        yield (np.ones(2),), dict(negative_slope=np.nan), "must be finite"


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x, element by element."""
    return apply(LeakyReLU(negative_slope), x)
