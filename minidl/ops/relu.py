"""The rectified linear unit."""
from collections.abc import Iterator

import numpy as np

from minidl.arithmetic.broadcasting import over_elements
from minidl.autograd import Tensor, apply, may_be_overwritten
from minidl.backend import Array, array_module
from minidl.cuda import Kernels, contiguous, empty
from minidl.function import Function, Refusal, Sample, check_flag
from minidl.threads import in_parts

KERNELS = Kernels(__file__)


class ReLU(Function):
    """y = max(x, 0).  dy/dx = 1 where x > 0, else 0 (0 at x = 0, where there is no derivative).

    Any shape.  Nair and Hinton 2010; Krizhevsky et al. 2012, section 3.1.
    """

    name = "relu"

    def __init__(self, inplace: bool = False) -> None:
        check_flag(self.name, "inplace", inplace)
        self.inplace = inplace
        self.x_is_free = False  # `relu` says so: a Function does not know who made x

    def forward(self, x: Array) -> Array:
        self.y = array_module(x).maximum(x, 0, out=x if self.may_overwrite(x) else None)  # y > 0 says where x > 0: no mask
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy * (self.y > 0)

    def forward_cpu(self, x: Array) -> Array:
        self.y = x if self.may_overwrite(x) else np.empty(x.shape, x.dtype)
        in_parts(lambda x, y: np.maximum(x, 0, out=y), x, self.y)
        return self.y

    def backward_cpu(self, dy: Array) -> Array:
        dx = np.empty(dy.shape, dy.dtype)
        in_parts(lambda dy, y, dx: np.multiply(dy, y > 0, out=dx), dy, self.y, dx)
        return dx

    def forward_cuda(self, x: Array) -> Array:
        x = contiguous(x)
        self.y = x if self.may_overwrite(x) else empty(x.shape, x)
        KERNELS.launch("relu", x.size, x, self.y, x.size)
        return self.y

    def backward_cuda(self, dy: Array) -> Array:
        dx = empty(dy.shape, dy)
        KERNELS.launch("relu_gradient", dy.size, contiguous(dy), self.y, dx, dy.size)
        return dx

    def may_overwrite(self, x: Array) -> bool:
        """Only where asked for, where nobody needs x, and where x is memory of its own."""
        return self.inplace and self.x_is_free and x.base is None and getattr(x.flags, "writeable", True)

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        return shapes[0]

    @staticmethod
    def naive(x: np.ndarray, inplace: bool = False) -> np.ndarray:
        return over_elements(lambda a: a if a > 0 else 0.0, x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for shape in [(2, 3), (2, 3, 4, 5), (), (0, 3)]:
            yield (rng.uniform(0.1, 2.0, shape) * rng.choice([-1, 1], shape),), {}  # away from the kink at 0

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 2]),), {}, "astype"
        yield (np.ones(2),), dict(inplace=1), "inplace must be True or False"


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), element by element.

    inplace: it takes the memory of x where that was made by an operation that does not need it for its gradient (convolution,
    linear, batch norm, addition; all of them while no graph is recorded). x must not be used again: RuntimeError.
    """
    function = ReLU(inplace)
    if inplace:
        function.x_is_free = may_be_overwritten(x)
    return apply(function, x)
