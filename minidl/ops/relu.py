"""The rectified linear unit."""
from collections.abc import Iterator

import numpy as np

from minidl.arithmetic.broadcasting import over_elements
from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module
from minidl.function import Function, Refusal, Sample
from minidl.threads import in_parts


class ReLU(Function):
    """y = max(x, 0).  dy/dx = 1 where x > 0, else 0 (0 at x = 0, where there is no derivative).

    Any shape.  Nair and Hinton 2010; Krizhevsky et al. 2012, section 3.1.
    """

    name = "relu"

    def forward(self, x: Array) -> Array:
        self.y = array_module(x).maximum(x, 0)  # y > 0 says where x > 0: no mask to keep
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy * (self.y > 0)

    def forward_cpu(self, x: Array) -> Array:
        self.y = np.empty(x.shape, x.dtype)
        in_parts(lambda x, y: np.maximum(x, 0, out=y), x, self.y)
        return self.y

    def backward_cpu(self, dy: Array) -> Array:
        dx = np.empty(dy.shape, dy.dtype)
        in_parts(lambda dy, y, dx: np.multiply(dy, y > 0, out=dx), dy, self.y, dx)
        return dx

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        return shapes[0]

    @staticmethod
    def naive(x: np.ndarray) -> np.ndarray:
        return over_elements(lambda a: a if a > 0 else 0.0, x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for shape in [(2, 3), (2, 3, 4, 5), (), (0, 3)]:
            yield (rng.uniform(0.1, 2.0, shape) * rng.choice([-1, 1], shape),), {}  # away from the kink at 0

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 2]),), {}, "astype"


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element."""
    return apply(ReLU(), x)
