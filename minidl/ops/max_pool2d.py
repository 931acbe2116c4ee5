"""Max pooling."""
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module
from minidl.cuda import Kernels, contiguous, empty
from minidl.function import Function, Refusal, Sample
from minidl.ops import pool_cpu
from minidl.ops.windows import check_images, fold, geometry, output_size, pair, unfold

KERNELS = Kernels(__file__)


def check_pool_padding(name: str, padding: tuple[int, int], kernel: tuple[int, int]) -> None:
    """Padding is at most half the kernel: then every window holds a pixel of the image."""
    if any(2 * p > k for p, k in zip(padding, kernel)):
        raise ValueError(f"{name}: padding {padding} must be at most half the kernel {kernel}, "
                         "or a window would hold nothing but padding")


class MaxPool2d(Function):
    """y[n, c, i, j] = largest x[n, c, h, v] in window (i, j); of equal ones the first (row by row) gets the gradient

    x (N, C, H, W) -> y (N, C, OH, OW). Padding counts as -infinity. A window with NaN gives NaN, and the gradient of
    that goes to the first NaN in the plain form and on the GPU, to nobody in the CPU's fast one. Windows overlap where
    stride < kernel (Krizhevsky et al. 2012, section 3.4). `ceil_mode`: see `minidl.ops.windows.output_size`.
    """

    name = "max_pool2d"

    def __init__(self, kernel_size: Any = 2, stride: Any = None, padding: Any = 0, ceil_mode: bool = False) -> None:
        self.kernel = pair(self.name, "kernel_size", kernel_size, 1)
        self.stride = self.kernel if stride is None else pair(self.name, "stride", stride, 1)
        self.padding = pair(self.name, "padding", padding, 0)
        self.ceil_mode = ceil_mode
        check_pool_padding(self.name, self.padding, self.kernel)

    def forward(self, x: Array) -> Array:
        N, C, OH, OW = self.output_shape(x.shape)
        self.size = x.shape[2:]
        windows = unfold(x, self.kernel, self.stride, self.padding, (OH, OW), fill=-np.inf)
        windows = windows.reshape(N, C, OH, OW, self.kernel[0] * self.kernel[1])
        self.first = windows.argmax(axis=4)[..., None]  # where in its window the largest stands
        return array_module(x).take_along_axis(windows, self.first, axis=4)[..., 0]

    def backward(self, dy: Array) -> Array:
        xp, (KH, KW) = array_module(dy), self.kernel
        places = xp.arange(KH * KW)
        dwindows = dy[..., None] * (self.first == places)  # zero but where the largest stood
        return fold(dwindows.reshape(*dy.shape, KH, KW), self.size, self.stride, self.padding)

    def forward_cpu(self, x: Array) -> Array:
        self.x_shape, y = x.shape, np.empty(self.output_shape(x.shape), x.dtype)
        self.places: Any = pool_cpu.places_for(y.shape, self.kernel) if self.needs[0] else None
        pool_cpu.max_pool(pool_cpu.maps(x), pool_cpu.maps(y), None if self.places is None else pool_cpu.maps(self.places),
                          self.kernel, self.stride, self.padding)
        return y

    def backward_cpu(self, dy: Array) -> Array:
        dx = np.empty(self.x_shape, dy.dtype)
        pool_cpu.max_pool_gradient(pool_cpu.maps(self.places), pool_cpu.maps(dy), pool_cpu.maps(dx), self.kernel, self.stride,
                                   self.padding)
        return dx

    def forward_cuda(self, x: Array) -> Array:
        y = empty(self.output_shape(x.shape), x)
        if math.prod(x.shape[2:]) >= 2**31:
            raise ValueError(f"max_pool2d: a map of x {x.shape} has 2**31 pixels or more, too many to number in 32 bits: "
                             "cut the images")
        self.x_shape, self.places = x.shape, array_module(x).empty(y.shape, np.int32)
        self.geometry = geometry(x.shape[2:], self.kernel, self.stride, self.padding, y.shape[2:])
        KERNELS.launch("max_pool", y.size, contiguous(x), y, self.places, y.size, *self.geometry)
        return y

    def backward_cuda(self, dy: Array) -> Array:
        dx = empty(self.x_shape, dy)
        KERNELS.launch("max_pool_gradient", dx.size, contiguous(dy), self.places, dx, dx.size, *self.geometry)
        return dx

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        (x,) = shapes
        check_images(self.name, x)
        return *x[:2], *output_size(self.name, x[2:], self.kernel, self.stride, self.padding, self.ceil_mode)

    def window(self, *shapes: tuple) -> tuple:
        return self.kernel, self.stride

    @staticmethod
    def naive(x: np.ndarray, kernel_size: Any = 2, stride: Any = None, padding: Any = 0,
              ceil_mode: bool = False) -> np.ndarray:
        (KH, KW), (PH, PW) = pair("", "", kernel_size, 0), pair("", "", padding, 0)
        SH, SW = (KH, KW) if stride is None else pair("", "", stride, 0)
        N, C, H, W = x.shape
        OH, OW = output_size("", (H, W), (KH, KW), (SH, SW), (PH, PW), ceil_mode)
        y = np.full((N, C, OH, OW), -np.inf)
        for n, c, i, j in np.ndindex(y.shape):
            for h in range(max(0, i * SH - PH), min(H, i * SH - PH + KH)):
                for v in range(max(0, j * SW - PW), min(W, j * SW - PW + KW)):
                    y[n, c, i, j] = max(y[n, c, i, j], x[n, c, h, v])
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        def apart(*shape: int) -> np.ndarray:  # a random order of well separated values: no ties, no near ties
            return rng.permutation(int(np.prod(shape))).reshape(shape) / 7.0 - 2.0

        yield (apart(2, 3, 5, 6),), dict(kernel_size=(3, 2), stride=(2, 1))  # overlapping
        yield (apart(1, 1, 7, 4),), dict(kernel_size=(3, 2), stride=(2, 3), padding=(1, 1), ceil_mode=True)
        yield (apart(2, 1, 5, 5),), dict(kernel_size=2, ceil_mode=True)  # the last window sticks out
        yield (apart(1, 1, 5, 4),), dict(kernel_size=2, ceil_mode=True)  # below only
        yield (apart(1, 1, 4, 5),), dict(kernel_size=2, ceil_mode=True)  # on the right only
        yield (apart(1, 2, 5, 6),), dict(kernel_size=2, padding=1, ceil_mode=True)  # one window is dropped
        yield (apart(1, 1, 2, 1),), dict(kernel_size=(3, 1), stride=2, ceil_mode=True)  # one window, larger than the image
        yield (apart(1, 2, 6, 7),), dict(kernel_size=(1, 2), stride=3)  # stride > kernel
        yield (apart(1, 2, 5, 6),), dict(kernel_size=(3, 2), stride=(2, 1), padding=(1, 0))  # padding along one axis
        yield (apart(1, 2, 5, 6),), dict(kernel_size=(2, 3), stride=(1, 2), padding=(0, 1))
        # narrower than the kernel is high, and the largest in the last row
        yield (np.arange(5.0).reshape(1, 1, 5, 1),), dict(kernel_size=(3, 1), stride=(2, 1))
        yield (apart(0, 2, 4, 4),), {}
        yield (apart(1, 1, 0, 4),), dict(kernel_size=2, padding=1)  # windows of nothing but padding

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((3, 4, 4)),), {}, "add the batch axis"
        yield (np.ones((1, 1, 4, 2)),), dict(kernel_size=3), "width 3 is larger than the padded image"
        yield (np.ones((1, 1, 1, 4)),), dict(kernel_size=3, stride=2, ceil_mode=True), "height 3 is larger than"
        yield (np.ones((1, 1, 0, 4)),), dict(stride=2, ceil_mode=True), "height 2 is larger than"
        yield (np.ones((1, 1, 4, 4)),), dict(padding=2), "at most half the kernel"
        yield (np.ones((1, 1, 4, 4)),), dict(stride=0), "at least 1"


def max_pool2d(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False) -> Tensor:
    """x (N, C, H, W) -> (N, C, OH, OW): the largest element of every window. `stride` defaults to the kernel."""
    return apply(MaxPool2d(kernel_size, stride, padding, ceil_mode), x)
