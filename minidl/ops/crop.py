"""Cropping images, and the bilinear kernel that upsamples them: what an FCN needs around its convolutions."""
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module
from minidl.function import Function, Refusal, Sample
from minidl.ops.windows import check_images, pair


class Crop(Function):
    """y[n, c, i, j] = x[n, c, i + top, j + left]

    x (N, C, H, W) -> y (N, C, *size), the window of that size at `offset` = (top, left). Long et al. 2015, section 4.2.
    """

    name = "crop"

    def __init__(self, size: Any = 1, offset: Any = 0) -> None:
        self.size, self.offset = pair(self.name, "size", size, 1), pair(self.name, "offset", offset, 0)

    def forward(self, x: Array) -> Array:
        self.output_shape(x.shape)
        (top, left), (OH, OW) = self.offset, self.size
        self.x_shape = x.shape
        self.inside = ..., slice(top, top + OH), slice(left, left + OW)
        return x[self.inside]

    def backward(self, dy: Array) -> Array:
        dx = array_module(dy).zeros(self.x_shape, dy.dtype)
        dx[self.inside] = dy
        return dx

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        (x,) = shapes
        check_images(self.name, x)
        (top, left), (OH, OW) = self.offset, self.size
        if top + OH > x[2] or left + OW > x[3]:
            room = x[2] - OH, x[3] - OW
            hint = f"at most {room} is possible as offset" if min(room) >= 0 else "it is larger than the images"
            raise ValueError(f"crop: size {self.size} at offset {self.offset} does not lie within x {x}: {hint}")
        return *x[:2], *self.size

    @staticmethod
    def naive(x: np.ndarray, size: Any = 1, offset: Any = 0) -> np.ndarray:
        (OH, OW), (top, left) = pair("", "", size, 0), pair("", "", offset, 0)
        y = np.zeros((*x.shape[:2], OH, OW))
        for n, c, i, j in np.ndindex(y.shape):
            y[n, c, i, j] = x[n, c, i + top, j + left]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 3, 5, 6)),), dict(size=(2, 4), offset=(3, 1))
        yield (rng.standard_normal((1, 1, 3, 4)),), dict(size=3)
        yield (rng.standard_normal((0, 1, 3, 4)),), dict(size=2, offset=1)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((1, 1, 4, 5)),), dict(size=(3, 3), offset=(1, 3)), "at most (1, 2) is possible as offset"
        yield (np.ones((1, 4, 5)),), {}, "add the batch axis"
        yield (np.ones((1, 1, 4, 5)),), dict(offset=-1), "at least 0"


def crop(x: Tensor, size: Any, offset: Any = 0) -> Tensor:
    """The (height, width) = `size` window of x (N, C, H, W) whose upper left pixel is `offset`."""
    return apply(Crop(size, offset), x)


def bilinear_kernel(kernel_size: int, in_channels: int = 1, groups: int | None = None, dtype: Any = np.float32) -> np.ndarray:
    """Weights with which conv_transpose2d upsamples each channel bilinearly, as a NumPy array.

    The kernel is the product of two tents, w[i] = 1 - |i - centre| / factor with factor = (kernel_size + 1) // 2, and
    for upsampling by a factor f: kernel_size 2 f - f % 2, stride f, padding ceil((f - 1) / 2).
    groups=None: (C, C, K, K) with the kernel on the diagonal; groups=C: (C, 1, K, K).
    Long et al. 2015, section 3.3 and the reference code's surgery.py.
    """
    for option, value in (("kernel_size", kernel_size), ("in_channels", in_channels)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"bilinear_kernel: {option} must be an integer of at least 1, got {value!r}")
    if groups not in (None, in_channels):
        raise ValueError(f"bilinear_kernel: groups must be None or in_channels ({in_channels}), got {groups!r}")
    factor = (kernel_size + 1) // 2
    centre = factor - 1 if kernel_size % 2 == 1 else factor - 0.5
    tent = 1 - abs(np.arange(kernel_size) - centre) / factor
    kernel = np.outer(tent, tent)
    if groups is not None:
        return np.tile(kernel, (in_channels, 1, 1, 1)).astype(dtype)
    w = np.zeros((in_channels, in_channels, kernel_size, kernel_size), dtype)
    w[range(in_channels), range(in_channels)] = kernel
    return w
