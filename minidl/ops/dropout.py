"""Dropout."""
from collections.abc import Iterator

import numpy as np

from minidl.arithmetic.broadcasting import over_elements
from minidl.autograd import Tensor, apply, as_tensor
from minidl.backend import Array, to_device
from minidl.cuda import Kernels, contiguous, empty
from minidl.function import Function, Refusal, Sample, check_flag
from minidl.randomness import generator
from minidl.threads import in_parts

KERNELS = Kernels(__file__)


class Dropout(Function):
    """y = x / (1 - p) where `keep` holds, else 0: the expectation of y is x ("inverted" dropout)

    x of any shape, keep boolean of the same shape, each element True with probability 1 - p.
    Krizhevsky et al. 2012, section 4.2; Srivastava et al. 2014, section 10 for the scaling in training.
    """

    name, integer_inputs = "dropout", ("keep",)

    def __init__(self, p: float = 0.5) -> None:
        if isinstance(p, bool) or not isinstance(p, (int, float, np.number)) or not 0 <= p < 1:
            raise ValueError(f"dropout: p is the probability of dropping, 0 <= p < 1, got {p!r}")
        self.p = float(p)

    def forward(self, x: Array, keep: Array) -> Array:
        self.check(x, keep)
        self.keep = keep
        return x * keep * (1 / (1 - self.p))

    def backward(self, dy: Array) -> tuple:
        return dy * self.keep * (1 / (1 - self.p)), None

    def forward_cpu(self, x: Array, keep: Array) -> Array:
        self.check(x, keep)
        self.keep, y = keep, np.empty(x.shape, x.dtype)
        in_parts(self.masked, x, keep, y)
        return y

    def backward_cpu(self, dy: Array) -> tuple:
        dx = np.empty(dy.shape, dy.dtype)
        in_parts(self.masked, dy, self.keep, dx)
        return dx, None

    def forward_cuda(self, x: Array, keep: Array) -> Array:
        self.check(x, keep)
        self.keep, y = contiguous(keep), empty(x.shape, x)
        KERNELS.launch("dropout", x.size, contiguous(x), self.keep, y, x.size, 1 / (1 - self.p))
        return y

    def backward_cuda(self, dy: Array) -> tuple:
        dx = empty(dy.shape, dy)
        KERNELS.launch("dropout", dy.size, contiguous(dy), self.keep, dx, dy.size, 1 / (1 - self.p))
        return dx, None

    def check(self, x: Array, keep: Array) -> None:
        """keep is a mask of x's shape."""
        if keep.dtype != bool or keep.shape != x.shape:
            raise ValueError(f"dropout: keep must be boolean of x's shape {x.shape}, got {keep.dtype} {keep.shape}")

    def masked(self, x: Array, keep: Array, y: Array) -> None:
        """y = x * keep / (1 - p)"""
        np.multiply(x, keep, out=y)
        y *= 1 / (1 - self.p)

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        return shapes[0]

    @staticmethod
    def naive(x: np.ndarray, keep: np.ndarray, p: float = 0.5) -> np.ndarray:
        return over_elements(lambda a, k: a / (1 - p) if k else 0.0, x, keep)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for shape, p in [((3, 4), 0.5), ((2, 3, 2, 2), 0.2), ((4,), 0.0), ((0, 2), 0.5)]:
            yield (rng.standard_normal(shape), rng.random(shape) >= p), dict(p=p)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones(2), np.array([True, False])), dict(p=1.0), "probability of dropping"
        yield (np.ones(2), np.array([True, False])), dict(p=-0.1), "probability of dropping"
        yield (np.ones(2), np.array([True])), {}, "boolean of x's shape"


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, zeroes each element with probability p and scales the rest by 1 / (1 - p); else x itself.

    The mask comes from the framework's generator (`minidl.manual_seed`), drawn on the CPU on every device.
    """
    function, x = Dropout(p), as_tensor(x)
    check_flag("dropout", "training", training)
    if not training:
        return x
    keep = generator().random(x.shape, dtype=np.float32) >= p
    return apply(function, x, to_device(keep, x.device))
