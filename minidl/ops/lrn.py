"""Local response normalisation across channels, in both conventions."""
import math
from collections.abc import Iterator

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module
from minidl.cuda import Kernels, contiguous, empty
from minidl.function import Function, Refusal, Sample, check_number
from minidl.threads import for_each, shares

KERNELS = Kernels(__file__)


def sum_over_channels(a: Array, before: int, after: int) -> Array:
    """s[:, c] = sum of a[:, c - before] to a[:, c + after], as far as those channels exist: (N, C, ...) -> same."""
    C = a.shape[1]
    padded = array_module(a).pad(a, ((0, 0), (before, after)) + ((0, 0),) * (a.ndim - 2))
    total = array_module(a).zeros_like(a)
    for i in range(before + after + 1):
        total += padded[:, i : i + C]
    return total


class LRN(Function):
    """y[c] = x[c] / (k + alpha * sum of x**2 over n neighbouring channels) ** beta

    x (N, C, ...) -> y, same shape. The window of channel c runs from c - n // 2 to c + (n - 1) // 2, cut at the first
    and last channel. Krizhevsky et al. 2012, section 3.3: alpha is not divided by n there. Caffe and torch divide
    (`local_response_norm`). dx[c] = dy[c] s[c]**-beta - 2 alpha beta x[c] * sum of dy y / s over the c's that see x[c].
    """

    name = "lrn"

    def __init__(self, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> None:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"lrn: the window must be an integer of at least 1 channel, got {n!r}")
        self.k, self.beta = check_number(self.name, "k", k, 0), check_number(self.name, "beta", beta)
        self.alpha = check_number(self.name, "alpha", alpha, 0)
        self.before, self.after = n // 2, (n - 1) // 2

    def forward(self, x: Array) -> Array:
        self.output_shape(x.shape)
        self.x = x
        self.s = self.k + self.alpha * sum_over_channels(x**2, self.before, self.after)
        return x * self.s**-self.beta

    def backward(self, dy: Array) -> Array:
        seen = dy * self.x * self.s ** (-self.beta - 1)  # dy y / s
        back = sum_over_channels(seen, self.after, self.before)  # the windows that hold c: mirrored
        return dy * self.s**-self.beta - 2 * self.alpha * self.beta * self.x * back

    def forward_cpu(self, x: Array) -> Array:
        self.output_shape(x.shape)
        self.x, self.s = x, np.empty(x.shape, x.dtype)
        y = np.empty(x.shape, x.dtype)

        def body(images: slice) -> None:
            part = x[images]
            s = self.s[images] = self.k + self.alpha * sum_over_channels(part**2, self.before, self.after)
            y[images] = part * s**-self.beta

        for_each(body, shares(len(x)))
        return y

    def backward_cpu(self, dy: Array) -> Array:
        dx = np.empty(dy.shape, dy.dtype)

        def body(images: slice) -> None:
            part, x, s = dy[images], self.x[images], self.s[images]
            direct = part * s**-self.beta
            back = sum_over_channels(direct * x / s, self.after, self.before)
            dx[images] = direct - 2 * self.alpha * self.beta * x * back

        for_each(body, shares(len(dy)))
        return dx

    def forward_cuda(self, x: Array) -> Array:
        self.output_shape(x.shape)
        self.x = x = contiguous(x)
        self.s, y = empty(x.shape, x), empty(x.shape, x)
        C, S = x.shape[1], math.prod(x.shape[2:])
        KERNELS.launch("lrn", x.size, x, self.s, y, x.size, C, S, self.before, self.after, self.k, self.alpha, self.beta)
        return y

    def backward_cuda(self, dy: Array) -> Array:
        dx = empty(dy.shape, dy)
        C, S = dy.shape[1], math.prod(dy.shape[2:])
        KERNELS.launch("lrn_gradient", dy.size, contiguous(dy), self.x, self.s, dx, dy.size, C, S, self.before, self.after,
                       self.alpha, self.beta)
        return dx

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        (x,) = shapes
        if len(x) < 2:
            raise ValueError(f"lrn: x must be (N, C, ...) with channels on axis 1, got shape {x}")
        return x

    @staticmethod
    def naive(x: np.ndarray, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> np.ndarray:
        y, C = np.zeros(x.shape), x.shape[1]
        for i in np.ndindex(x.shape):
            total = 0.0
            for c in range(i[1] - n // 2, i[1] - n // 2 + n):
                if 0 <= c < C:
                    total += x[(i[0], c, *i[2:])] ** 2
            y[i] = x[i] / (k + alpha * total) ** beta
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        # alpha is large: at the paper's 1e-4 a wrong window would not show
        yield (rng.standard_normal((2, 7, 3, 2)),), dict(n=5, k=2.0, alpha=0.5, beta=0.75)
        yield (rng.standard_normal((2, 6, 2, 1)),), dict(n=4, k=1.0, alpha=0.3, beta=0.5)  # even
        yield (rng.standard_normal((1, 2, 1, 1)),), dict(n=5, k=0.5, alpha=1.0, beta=0.5)  # window wider than C
        yield (rng.standard_normal((2, 3)),), dict(n=1, k=1.5, alpha=0.5, beta=1.0)
        yield (rng.standard_normal((0, 3, 2, 2)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones(3),), {}, "channels on axis 1"
        yield (np.ones((1, 3)),), dict(n=0), "at least 1 channel"
        yield (np.ones((1, 3)),), dict(n=2.5), "must be an integer"
        yield (np.ones((1, 3)),), dict(alpha=-1), "alpha must be finite and at least 0"
        yield (np.ones((1, 3)),), dict(beta="0.75"), "must be a number"


def lrn(x: Tensor, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> Tensor:
    """The paper's: x / (k + alpha * sum over n channels of x**2) ** beta."""
    return apply(LRN(n, k, alpha, beta), x)


def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Caffe's and torch's: alpha divided by the window, x / (k + alpha / size * sum over `size` channels) ** beta."""
    function = LRN(size, k, alpha, beta)
    function.alpha /= size
    return apply(function, x)
