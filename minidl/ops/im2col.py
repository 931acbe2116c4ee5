"""im2col and its adjoint col2im: convolution's windows as the columns of a matrix.

Chellapilla et al. 2006, "High performance convolutional neural networks for document processing", section 3. Layout
and names of the arguments as in torch's unfold and fold.
"""
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array
from minidl.cuda import Kernels, contiguous, empty
from minidl.function import Function, Refusal, Sample
from minidl.ops.windows import Pair, check_images, fold, geometry, output_size, pair, unfold

KERNELS = Kernels(__file__)


def columns_cuda(x: Array, kernel: Pair, stride: Pair, padding: Pair, output: Pair) -> Array:
    """im2col on the GPU: x (N, C, H, W) -> (N, C * KH * KW, OH * OW)."""
    N, C, H, W = x.shape
    cols = empty((N, C * math.prod(kernel), math.prod(output)), x)
    KERNELS.launch("im2col", cols.size, contiguous(x), cols, cols.size, *geometry((H, W), kernel, stride, padding, output))
    return cols


def images_cuda(cols: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair, output: Pair) -> Array:
    """col2im on the GPU: cols (N, C * KH * KW, OH * OW) -> (N, C, H, W)."""
    N, C = cols.shape[0], cols.shape[1] // (kernel[0] * kernel[1])
    x = empty((N, C, *size), cols)
    KERNELS.launch("col2im", x.size, contiguous(cols), x, x.size, *geometry(size, kernel, stride, padding, output))
    return x


class Im2Col(Function):
    """cols[n, (c, kh, kw), (i, j)] = x[n, c, i * SH + kh - PH, j * SW + kw - PW], zero outside the image

    x (N, C, H, W) -> cols (N, C * KH * KW, OH * OW): column (i, j) is the window that the kernel meets there.
    """

    name = "im2col"

    def __init__(self, kernel_size: Any = 3, stride: Any = 1, padding: Any = 0) -> None:
        self.kernel = pair(self.name, "kernel_size", kernel_size, 1)
        self.stride, self.padding = pair(self.name, "stride", stride, 1), pair(self.name, "padding", padding, 0)

    def forward(self, x: Array) -> Array:
        check_images(self.name, x.shape)
        N, C, H, W = x.shape
        self.x_shape = x.shape
        self.output = OH, OW = output_size(self.name, (H, W), self.kernel, self.stride, self.padding)
        windows = unfold(x, self.kernel, self.stride, self.padding, self.output)
        KH, KW = self.kernel
        return windows.transpose(0, 1, 4, 5, 2, 3).reshape(N, C * KH * KW, OH * OW)

    def backward(self, dcols: Array) -> Array:
        N, C, H, W = self.x_shape
        windows = dcols.reshape(N, C, *self.kernel, *self.output).transpose(0, 1, 4, 5, 2, 3)
        return fold(windows, (H, W), self.stride, self.padding)

    def forward_cuda(self, x: Array) -> Array:
        check_images(self.name, x.shape)
        self.x_shape = x.shape
        self.output = output_size(self.name, x.shape[2:], self.kernel, self.stride, self.padding)
        return columns_cuda(x, self.kernel, self.stride, self.padding, self.output)

    def backward_cuda(self, dcols: Array) -> Array:
        return images_cuda(dcols, self.x_shape[2:], self.kernel, self.stride, self.padding, self.output)

    @staticmethod
    def naive(x: np.ndarray, kernel_size: Any = 3, stride: Any = 1, padding: Any = 0) -> np.ndarray:
        (KH, KW), (SH, SW), (PH, PW) = (pair("", "", v, 0) for v in (kernel_size, stride, padding))
        N, C, H, W = x.shape
        OH, OW = (H + 2 * PH - KH) // SH + 1, (W + 2 * PW - KW) // SW + 1
        cols = np.zeros((N, C * KH * KW, OH * OW))
        for n, c, kh, kw, i, j in np.ndindex(N, C, KH, KW, OH, OW):
            h, w = i * SH + kh - PH, j * SW + kw - PW
            if 0 <= h < H and 0 <= w < W:
                cols[n, (c * KH + kh) * KW + kw, i * OW + j] = x[n, c, h, w]
        return cols

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        x = rng.standard_normal((2, 3, 5, 6))
        yield (x,), dict(kernel_size=(2, 3), stride=(2, 1), padding=(1, 0))
        yield (x,), dict(kernel_size=3, stride=2, padding=(0, 2))  # a remainder that no window covers
        yield (rng.standard_normal((1, 1, 7, 4)),), dict(kernel_size=(1, 2), stride=(3, 3))  # stride > kernel
        yield (rng.standard_normal((1, 2, 1, 1)),), dict(padding=1)  # the image is smaller than the kernel
        # padding on one side only is ever met, along one axis: the windows end before the other side
        yield (rng.standard_normal((1, 1, 3, 4)),), dict(kernel_size=2, stride=(1, 5), padding=(0, 1))
        yield (rng.standard_normal((1, 1, 4, 3)),), dict(kernel_size=2, stride=(5, 1), padding=(1, 0))
        yield (rng.standard_normal((0, 2, 4, 4)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((3, 4, 4)),), {}, "add the batch axis"
        yield (np.ones((1, 1, 2, 5)),), {}, "larger than the padded image"
        yield (np.ones((1, 1, 4, 4)),), dict(stride=0), "stride must be at least 1"
        yield (np.ones((1, 1, 4, 4)),), dict(kernel_size=(2, 2, 2)), "pair (height, width)"


class Col2Im(Function):
    """x = the sum over windows of each column at the place that im2col would take it from: im2col's adjoint

    cols (N, C * KH * KW, OH * OW) -> x (N, C, H, W), where (H, W) = output_size.
    """

    name = "col2im"

    def __init__(self, output_size: Any = 4, kernel_size: Any = 3, stride: Any = 1, padding: Any = 0) -> None:
        self.size = pair(self.name, "output_size", output_size, 1)
        self.kernel = pair(self.name, "kernel_size", kernel_size, 1)
        self.stride, self.padding = pair(self.name, "stride", stride, 1), pair(self.name, "padding", padding, 0)

    def forward(self, cols: Array) -> Array:
        self.check(cols)
        (KH, KW), (OH, OW) = self.kernel, self.output
        N, C = cols.shape[0], cols.shape[1] // (KH * KW)
        windows = cols.reshape(N, C, KH, KW, OH, OW).transpose(0, 1, 4, 5, 2, 3)
        return fold(windows, self.size, self.stride, self.padding)

    def backward(self, dx: Array) -> Array:
        windows = unfold(dx, self.kernel, self.stride, self.padding, self.output)
        N, C, OH, OW, KH, KW = windows.shape
        return windows.transpose(0, 1, 4, 5, 2, 3).reshape(N, C * KH * KW, OH * OW)

    def forward_cuda(self, cols: Array) -> Array:
        self.check(cols)
        return images_cuda(cols, self.size, self.kernel, self.stride, self.padding, self.output)

    def backward_cuda(self, dx: Array) -> Array:
        return columns_cuda(dx, self.kernel, self.stride, self.padding, self.output)

    def check(self, cols: Array) -> None:
        """As many columns as windows fit into the output, each as long as a window."""
        KH, KW = self.kernel
        self.output = OH, OW = output_size(self.name, self.size, self.kernel, self.stride, self.padding)
        if cols.ndim != 3 or cols.shape[1] % (KH * KW) or cols.shape[2] != OH * OW:
            raise ValueError(f"col2im: cols must be (N, C * {KH * KW}, {OH * OW}) for output_size {self.size}, kernel "
                             f"{self.kernel}, stride {self.stride}, padding {self.padding}; got {cols.shape}")

    @staticmethod
    def naive(cols: np.ndarray, output_size: Any = 4, kernel_size: Any = 3, stride: Any = 1,
              padding: Any = 0) -> np.ndarray:
        (H, W), (KH, KW), (SH, SW), (PH, PW) = (
            pair("", "", v, 0) for v in (output_size, kernel_size, stride, padding))
        OH, OW = (H + 2 * PH - KH) // SH + 1, (W + 2 * PW - KW) // SW + 1
        N, C = cols.shape[0], cols.shape[1] // (KH * KW)
        x = np.zeros((N, C, H, W))
        for n, c, kh, kw, i, j in np.ndindex(N, C, KH, KW, OH, OW):
            h, w = i * SH + kh - PH, j * SW + kw - PW
            if 0 <= h < H and 0 <= w < W:
                x[n, c, h, w] += cols[n, (c * KH + kh) * KW + kw, i * OW + j]
        return x

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 18, 10)),), dict(output_size=(4, 4), kernel_size=(2, 3), stride=(1, 2), padding=(1, 1))
        yield (rng.standard_normal((1, 9, 4)),), dict(output_size=(6, 5), kernel_size=3, stride=2)
        yield (rng.standard_normal((2, 2, 6)),), dict(output_size=(7, 4), kernel_size=(1, 2), stride=(3, 2))
        yield (rng.standard_normal((1, 9, 1)),), dict(output_size=1, padding=1)
        yield (rng.standard_normal((0, 9, 4)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((1, 9, 5)),), {}, "cols must be (N, C * 9, 4)"
        yield (np.ones((1, 8, 4)),), {}, "cols must be"
        yield (np.ones((9, 4)),), {}, "cols must be"


def im2col(x: Tensor, kernel_size: Any, stride: Any = 1, padding: Any = 0) -> Tensor:
    """x (N, C, H, W) -> (N, C * KH * KW, OH * OW): every window of the image as a column. See `Im2Col`."""
    return apply(Im2Col(kernel_size, stride, padding), x)


def col2im(cols: Tensor, output_size: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0) -> Tensor:
    """cols (N, C * KH * KW, OH * OW) -> (N, C, H, W): the columns added up where they came from. See `Col2Im`."""
    return apply(Col2Im(output_size, kernel_size, stride, padding), cols)
