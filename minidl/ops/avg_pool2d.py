"""Average pooling."""
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module
from minidl.cuda import Kernels, contiguous, empty
from minidl.function import Function, Refusal, Sample
from minidl.ops import pool_cpu
from minidl.ops.max_pool2d import check_pool_padding
from minidl.ops.windows import check_images, fold, geometry, output_size, pair, unfold

KERNELS = Kernels(__file__)


def counted(size: int, kernel: int, stride: int, padding: int, windows: int, count_include_pad: bool) -> list[int]:
    """Along one axis: how many places of each window count in its average. What sticks out in ceil mode never does."""
    counts = []
    for i in range(windows):
        start = i * stride - padding
        end = min(start + kernel, size + padding)
        counts.append(end - start if count_include_pad else min(end, size) - max(start, 0))
    return counts


class AvgPool2d(Function):
    """y[n, c, i, j] = average of x[n, c, h, v] in window (i, j)

    x (N, C, H, W) -> y (N, C, OH, OW). Padding holds zeros and counts in the divisor, unless `count_include_pad` is
    False (torch's two rules; Caffe's is the first). `ceil_mode`: see `minidl.ops.windows.output_size`.
    """

    name = "avg_pool2d"

    def __init__(self, kernel_size: Any = 2, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        self.kernel = pair(self.name, "kernel_size", kernel_size, 1)
        self.stride = self.kernel if stride is None else pair(self.name, "stride", stride, 1)
        self.padding = pair(self.name, "padding", padding, 0)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        check_pool_padding(self.name, self.padding, self.kernel)

    def forward(self, x: Array) -> Array:
        _, _, OH, OW = self.output_shape(x.shape)
        self.size = x.shape[2:]
        windows = unfold(x, self.kernel, self.stride, self.padding, (OH, OW))
        self.divisor = self.divisors((OH, OW), x)
        return windows.sum(axis=(4, 5)) / self.divisor

    def backward(self, dy: Array) -> Array:
        share = (dy / self.divisor)[..., None, None]  # every place of a window gets the same
        dwindows = array_module(dy).broadcast_to(share, (*dy.shape, *self.kernel))
        return fold(dwindows, self.size, self.stride, self.padding)

    def forward_cpu(self, x: Array) -> Array:
        shape = self.output_shape(x.shape)
        self.size = x.shape[2:]
        self.divisor = self.divisors(shape[2:], x)
        y = np.empty(shape, x.dtype)
        pool_cpu.sum_pool(x, y, self.kernel, self.stride, self.padding, self.divisor)
        return y

    def backward_cpu(self, dy: Array) -> Array:
        dx = np.empty((*dy.shape[:2], *self.size), dy.dtype)
        pool_cpu.sum_pool_gradient(dy, dx, self.kernel, self.stride, self.padding, self.divisor)
        return dx

    def forward_cuda(self, x: Array) -> Array:
        y = empty(self.output_shape(x.shape), x)
        self.size = x.shape[2:]
        self.divisor = self.divisors(y.shape[2:], x)
        self.geometry = geometry(self.size, self.kernel, self.stride, self.padding, y.shape[2:])
        KERNELS.launch("avg_pool", y.size, contiguous(x), self.divisor, y, y.size, *self.geometry)
        return y

    def backward_cuda(self, dy: Array) -> Array:
        dx = empty((*dy.shape[:2], *self.size), dy)
        KERNELS.launch("avg_pool_gradient", dx.size, contiguous(dy), self.divisor, dx, dx.size, *self.geometry)
        return dx

    def divisors(self, output: tuple, like: Array) -> Array:
        """(OH, OW): how many places of each window count."""
        rows, columns = (
            counted(n, k, s, p, o, self.count_include_pad)
            for n, k, s, p, o in zip(self.size, self.kernel, self.stride, self.padding, output))
        xp = array_module(like)
        return xp.asarray(rows, like.dtype)[:, None] * xp.asarray(columns, like.dtype)

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        (x,) = shapes
        check_images(self.name, x)
        return *x[:2], *output_size(self.name, x[2:], self.kernel, self.stride, self.padding, self.ceil_mode)

    def window(self, *shapes: tuple) -> tuple:
        return self.kernel, self.stride

    @staticmethod
    def naive(x: np.ndarray, kernel_size: Any = 2, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
              count_include_pad: bool = True) -> np.ndarray:
        (KH, KW), (PH, PW) = pair("", "", kernel_size, 0), pair("", "", padding, 0)
        SH, SW = (KH, KW) if stride is None else pair("", "", stride, 0)
        N, C, H, W = x.shape
        OH, OW = output_size("", (H, W), (KH, KW), (SH, SW), (PH, PW), ceil_mode)
        y = np.zeros((N, C, OH, OW))
        for n, c, i, j in np.ndindex(y.shape):
            total, count = 0.0, 0
            for h in range(i * SH - PH, i * SH - PH + KH):
                for v in range(j * SW - PW, j * SW - PW + KW):
                    in_image = 0 <= h < H and 0 <= v < W
                    in_padded = -PH <= h < H + PH and -PW <= v < W + PW
                    total += x[n, c, h, v] if in_image else 0.0
                    count += in_padded if count_include_pad else in_image
            y[n, c, i, j] = total / count
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        x = rng.standard_normal((2, 3, 5, 6))
        yield (x,), dict(kernel_size=(3, 2), stride=(2, 1))
        for include in (True, False):
            yield (x,), dict(kernel_size=(3, 2), stride=(1, 2), padding=(1, 1), count_include_pad=include)
            yield (rng.standard_normal((1, 1, 7, 4)),), dict(
                kernel_size=(3, 2), stride=(2, 3), padding=(1, 1), ceil_mode=True, count_include_pad=include)
        yield (rng.standard_normal((2, 1, 5, 5)),), dict(kernel_size=2, ceil_mode=True)
        yield (rng.standard_normal((1, 1, 2, 1)),), dict(kernel_size=(3, 1), stride=2, ceil_mode=True)
        yield (rng.standard_normal((1, 2, 6, 7)),), dict(kernel_size=(1, 2), stride=3)
        yield (rng.standard_normal((1, 2, 5, 6)),), dict(kernel_size=(3, 2), stride=(2, 1), padding=(1, 0))  # along one axis
        yield (rng.standard_normal((1, 2, 5, 6)),), dict(kernel_size=(2, 3), stride=(1, 2), padding=(0, 1))
        yield (rng.standard_normal((0, 2, 4, 4)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((3, 4, 4)),), {}, "add the batch axis"
        yield (np.ones((1, 1, 2, 4)),), dict(kernel_size=3), "height 3 is larger than the padded image"
        yield (np.ones((1, 1, 4, 4)),), dict(padding=2), "at most half the kernel"


def avg_pool2d(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """x (N, C, H, W) -> (N, C, OH, OW): the average of every window. `stride` defaults to the kernel."""
    return apply(AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad), x)
