"""Convolution (cross-correlation, as every framework calls it) as one matrix product."""
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module, device_of
from minidl.cuda import contiguous, empty
from minidl.function import Function, Refusal, Sample
from minidl.ops import conv2d_cpu
from minidl.ops.im2col import columns_cuda, images_cuda
from minidl.ops.windows import Pair, check_images, fold, output_size, pair, unfold

METHODS = ("loops", "im2col", "threads", "winograd")


class _Settings(threading.local):
    """What holds for the current thread only."""

    method: str | None = None


_settings = _Settings()


@contextmanager
def conv_method(method: str) -> Iterator[None]:
    """A `with` block (or decorator) in which conv2d computes in one way: so that a lesson can time each.

    loops     the definition, in Python: for tiny images only
    im2col    one matrix product of all windows: `Conv2d.forward` and `backward`
    threads   matrix products of pieces, on all cores
    winograd  Winograd's algorithm wherever it can be (3x3, stride 1, float32), else "threads"; one infinity makes NaNs there

    Outside, each convolution goes the way that was fastest for its shape when measured. Backward goes the way of its forward.
    It holds for the current thread.
    """
    if method not in METHODS:
        raise ValueError(f"conv_method: must be one of {', '.join(METHODS)}, got {method!r}")
    before, _settings.method = _settings.method, method
    try:
        yield
    finally:
        _settings.method = before


def as_matrix(windows: Array, groups: int) -> Array:
    """windows (N, C, OH, OW, KH, KW) -> (groups, C / groups * KH * KW, N * OH * OW): a column per window."""
    N, C, OH, OW, KH, KW = windows.shape
    return windows.transpose(1, 4, 5, 0, 2, 3).reshape(groups, C // groups * KH * KW, N * OH * OW)


def as_windows(matrix: Array, N: int, C: int, output: Pair, kernel: Pair) -> Array:
    """The inverse of `as_matrix`."""
    return matrix.reshape(C, *kernel, N, *output).transpose(3, 0, 4, 5, 1, 2)


def channels_first(y: Array, groups: int) -> Array:
    """Images (N, F, OH, OW) -> (groups, F / groups, N * OH * OW): a row per channel."""
    N, F, OH, OW = y.shape
    return y.transpose(1, 0, 2, 3).reshape(groups, F // groups, N * OH * OW)


def as_images(rows: Array, N: int, output: Pair) -> Array:
    """The inverse of `channels_first`, as contiguous images."""
    F = rows.shape[0] * rows.shape[1]
    images = rows.reshape(F, N, *output).transpose(1, 0, 2, 3)
    return images if N == 1 else images.copy()


def check_groups(name: str, groups: Any, C: int, F: int) -> None:
    """groups divides the input and the output channels."""
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)) or groups < 1:
        raise ValueError(f"{name}: groups must be an integer of at least 1, got {groups!r}")
    if C % groups or F % groups:
        raise ValueError(f"{name}: groups {groups} must divide the {C} input and the {F} output channels")


def check_bias(name: str, b: tuple | None, F: int) -> None:
    """A bias of shape b has one element per output channel."""
    if b is not None and b != (F,):
        raise ValueError(f"{name}: b must be ({F},), one bias per output channel, got {b}")


class Conv2d(Function):
    """y[n, f, i, j] = b[f] + sum over c, kh, kw of w[f, c, kh, kw] * x[n, c, i * SH + kh - PH, j * SW + kw - PW]

    x (N, C, H, W), w (F, C / groups, KH, KW), b (F,) or none -> y (N, F, OH, OW), OH = floor((H + 2 PH - KH) / SH) + 1.
    With groups, output channels of group g see only the input channels of group g (Krizhevsky et al. 2012, section 3.5).
    As matrices, per group: y = w @ cols + b, where every column of cols is one window (im2col).
    """

    name, keeps_output = "conv2d", False

    most_columns: ClassVar[int] = 2**26
    """How many elements of columns the GPU makes at once: 256 MiB of float32."""

    def __init__(self, stride: Any = 1, padding: Any = 0, groups: int = 1) -> None:
        self.stride, self.padding = pair(self.name, "stride", stride, 1), pair(self.name, "padding", padding, 0)
        self.groups = groups

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        N, _, OH, OW = self.output_shape(x.shape, w.shape, None if b is None else b.shape)
        self.x_shape, self.w_shape, self.output = x.shape, w.shape, (OH, OW)
        y = self.weight_matrix(w) @ self.columns(x)  # (groups, F / groups, N * OH * OW)
        if b is not None:
            y += b.reshape(self.groups, -1, 1)
        self.x: Any = x if self.needs[1] else None  # each for the other's gradient
        self.w: Any = w if self.needs[0] else None
        self.has_bias = b is not None
        return as_images(y, N, self.output)

    def backward(self, dy: Array) -> tuple:
        dy = channels_first(dy, self.groups)
        dx = dw = None
        if self.needs[0]:
            N, C, H, W = self.x_shape
            dcols = self.weight_matrix(self.w).swapaxes(1, 2) @ dy
            dx = fold(as_windows(dcols, N, C, self.output, self.w_shape[2:]), (H, W), self.stride, self.padding)
        if self.needs[1]:  # the columns are rebuilt: keeping them would cost KH * KW times the memory of x
            dw = (dy @ self.columns(self.x).swapaxes(1, 2)).reshape(self.w_shape)
        db = dy.sum(axis=2).reshape(-1)
        return (dx, dw, db) if self.has_bias else (dx, dw)

    def kernels(self, inputs: tuple) -> tuple[Callable, Callable]:
        if _settings.method == "loops":
            if any(device_of(x) == "cuda" for x in inputs):
                raise ValueError("conv_method: 'loops' is Python on the host, but conv2d's x is on cuda: move all to 'cpu'")
            return self.forward_loops, self.backward_loops
        return (self.forward, self.backward) if _settings.method == "im2col" else super().kernels(inputs)

    def forward_loops(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self.output_shape(x.shape, w.shape, None if b is None else b.shape)
        self.both, self.has_bias = (x, w), b is not None
        return self.naive(x, w, b, self.stride, self.padding, self.groups).astype(x.dtype)

    def backward_loops(self, dy: Array) -> tuple:
        (x, w), (SH, SW), (PH, PW) = self.both, self.stride, self.padding
        (_, _, H, W), (F, Cg, KH, KW) = x.shape, w.shape
        dx, dw = np.zeros(x.shape, x.dtype), np.zeros(w.shape, w.dtype)
        for n, f, i, j in np.ndindex(dy.shape):
            first = f // (F // self.groups) * Cg
            for c, kh, kw in np.ndindex(Cg, KH, KW):
                h, v = i * SH + kh - PH, j * SW + kw - PW
                if 0 <= h < H and 0 <= v < W:
                    dx[n, first + c, h, v] += w[f, c, kh, kw] * dy[n, f, i, j]
                    dw[f, c, kh, kw] += x[n, first + c, h, v] * dy[n, f, i, j]
        return (dx, dw, dy.sum(axis=(0, 2, 3))) if self.has_bias else (dx, dw)

    def forward_cpu(self, x: Array, w: Array, b: Array | None = None) -> Array:
        shape = self.output_shape(x.shape, w.shape, None if b is None else b.shape)
        y = np.empty(shape, x.dtype)
        sizes = self.sizes(x.shape, w.shape, shape)
        self.way = conv2d_cpu.best_way(sizes, x.dtype, _settings.method)
        for f, c in self.of_groups(w.shape):
            conv2d_cpu.convolve(x[:, c], w[f], None if b is None else b[f], y[:, f], sizes, self.way)
        self.x_shape, self.w_shape, self.has_bias = x.shape, w.shape, b is not None
        self.x, self.w = x if self.needs[1] else None, w if self.needs[0] else None
        return y

    def backward_cpu(self, dy: Array) -> tuple:
        sizes = self.sizes(self.x_shape, self.w_shape, dy.shape)
        dx = np.empty(self.x_shape, dy.dtype) if self.needs[0] else None
        dw = np.empty(self.w_shape, dy.dtype) if self.needs[1] else None
        for f, c in self.of_groups(self.w_shape):
            if dx is not None:
                conv2d_cpu.gradient_of_x(dy[:, f], self.w[f], dx[:, c], sizes, self.way)
            if dw is not None:
                dw[f] = conv2d_cpu.gradient_of_w(self.x[:, c], dy[:, f], sizes, self.way)
        return (dx, dw, dy.sum(axis=(0, 2, 3))) if self.has_bias else (dx, dw)

    def forward_cuda(self, x: Array, w: Array, b: Array | None = None) -> Array:
        shape = self.output_shape(x.shape, w.shape, None if b is None else b.shape)
        N, F, OH, OW = shape
        self.x_shape, self.w_shape, self.output, self.has_bias = x.shape, w.shape, (OH, OW), b is not None
        self.x, self.w = x if self.needs[1] else None, w if self.needs[0] else None
        y = empty(shape, x)
        rows = y.reshape(N, self.groups, F // self.groups, OH * OW)  # the same memory
        for some in self.batches():
            rows[some] = self.weight_matrix(w) @ self.columns_cuda(x[some])
        if b is not None:
            y += b.reshape(-1, 1, 1)
        return y

    def backward_cuda(self, dy: Array) -> tuple:
        N, F, OH, OW = dy.shape
        dx = empty(self.x_shape, dy) if self.needs[0] else None
        dw = array_module(dy).zeros(self.w_shape, dy.dtype) if self.needs[1] else None
        rows = contiguous(dy).reshape(N, self.groups, F // self.groups, OH * OW)
        for some in self.batches():
            if dx is not None:
                dcols = self.weight_matrix(self.w).swapaxes(1, 2) @ rows[some]
                dcols = dcols.reshape(len(dcols), -1, OH * OW)
                dx[some] = images_cuda(dcols, self.x_shape[2:], self.w_shape[2:], self.stride, self.padding, self.output)
            if dw is not None:
                of_each_image = rows[some] @ self.columns_cuda(self.x[some]).swapaxes(2, 3)
                dw += of_each_image.sum(axis=0).reshape(self.w_shape)
        return (dx, dw, dy.sum(axis=(0, 2, 3))) if self.has_bias else (dx, dw)

    def columns_cuda(self, x: Array) -> Array:
        """im2col of some images, a matrix per image and group: (n, groups, C / groups * KH * KW, OH * OW)."""
        cols = columns_cuda(x, self.w_shape[2:], self.stride, self.padding, self.output)
        return cols.reshape(len(x), self.groups, math.prod(self.w_shape[1:]), math.prod(self.output))

    def batches(self) -> list[slice]:
        """Images whose columns, and whose gradients of w, are `most_columns` elements at most, or one image.

        All images' columns would be KH * KW times as large as x.
        """
        N, C = self.x_shape[:2]
        columns = C * math.prod(self.w_shape[2:]) * math.prod(self.output)
        n = max(1, self.most_columns // max(columns, math.prod(self.w_shape)))
        return [slice(i, i + n) for i in range(0, N, n)]

    def sizes(self, x: tuple, w: tuple, y: tuple) -> conv2d_cpu.Shape:
        """The sizes of one group's convolution."""
        (N, _, H, W), (F, C, KH, KW), (OH, OW) = x, w, y[2:]
        return conv2d_cpu.Shape(N, C, H, W, F // self.groups, KH, KW, OH, OW, self.stride, self.padding)

    def of_groups(self, w: tuple) -> list[tuple[slice, slice]]:
        """(output channels, input channels) of every group."""
        F, C = w[0] // self.groups, w[1]
        return [(slice(g * F, (g + 1) * F), slice(g * C, (g + 1) * C)) for g in range(self.groups)]

    def weight_matrix(self, w: Array) -> Array:
        """w as (groups, F / groups, C / groups * KH * KW)."""
        return w.reshape(self.groups, w.shape[0] // self.groups, -1)

    def columns(self, x: Array) -> Array:
        """im2col of x: (groups, C / groups * KH * KW, N * OH * OW)."""
        return as_matrix(unfold(x, self.w_shape[2:], self.stride, self.padding, self.output), self.groups)

    def output_shape(self, x: tuple, w: tuple, b: tuple | None = None) -> tuple[int, ...]:  # type: ignore[override]
        check_images(self.name, x)
        if len(w) != 4:
            raise ValueError(f"conv2d: w must be (F, C / groups, KH, KW), got shape {w}")
        if 0 in w:
            raise ValueError(f"conv2d: w {w} is empty: every size of a kernel must be at least 1")
        C, F = x[1], w[0]
        check_groups(self.name, self.groups, C, F)
        if C // self.groups != w[1]:
            expected = f"{w[1]}" if self.groups == 1 else f"{w[1]} * {self.groups} groups"
            hint = "; images are (N, C, H, W): did you pass (N, H, W, C)?" if x[3] == w[1] * self.groups else ""
            raise ValueError(f"conv2d: x has {C} channels but w expects {expected} (x {x}, w {w}){hint}")
        check_bias(self.name, b, F)
        return x[0], F, *output_size(self.name, x[2:], w[2:], self.stride, self.padding)

    def window(self, *shapes: tuple) -> tuple:
        return shapes[1][2:], self.stride

    def multiply_adds(self, y_shape: tuple, *shapes: tuple) -> int:
        F, C, KH, KW = shapes[1]
        N, _, OH, OW = y_shape
        return N * OH * OW * F * C * KH * KW

    @staticmethod
    def naive(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, stride: Any = 1, padding: Any = 0,
              groups: int = 1) -> np.ndarray:
        (SH, SW), (PH, PW) = pair("", "", stride, 0), pair("", "", padding, 0)
        (N, _, H, W), (F, Cg, KH, KW) = x.shape, w.shape
        OH, OW = (H + 2 * PH - KH) // SH + 1, (W + 2 * PW - KW) // SW + 1
        y = np.zeros((N, F, OH, OW))
        for n, f, i, j in np.ndindex(y.shape):
            first = f // (F // groups) * Cg  # the first input channel of f's group
            for c, kh, kw in np.ndindex(Cg, KH, KW):
                h, v = i * SH + kh - PH, j * SW + kw - PW
                if 0 <= h < H and 0 <= v < W:
                    y[n, f, i, j] += w[f, c, kh, kw] * x[n, first + c, h, v]
            if b is not None:
                y[n, f, i, j] += b[f]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        def arrays(*shapes: tuple) -> tuple:
            return tuple(rng.standard_normal(shape) for shape in shapes)

        yield arrays((2, 3, 5, 6), (4, 3, 3, 2), (4,)), dict(stride=(2, 1), padding=(1, 2))
        yield arrays((2, 4, 6, 5), (6, 2, 2, 3)), dict(stride=(1, 2), groups=2)
        yield arrays((1, 1, 7, 4), (2, 1, 1, 2), (2,)), dict(stride=3)  # stride > kernel, a remainder
        yield arrays((1, 3, 2, 2), (3, 1, 3, 3), (3,)), dict(padding=1, groups=3)  # depthwise
        yield arrays((0, 2, 4, 4), (3, 2, 3, 3), (3,)), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((2, 8, 8, 4)), np.ones((16, 3, 3, 3))), {}, "x has 8 channels but w expects 3"
        yield (np.ones((2, 8, 8, 3)), np.ones((16, 3, 3, 3))), {}, "did you pass (N, H, W, C)?"
        yield (np.ones((3, 8, 8)), np.ones((16, 3, 3, 3))), {}, "add the batch axis"
        yield (np.ones((1, 3, 4, 2)), np.ones((2, 3, 3, 3))), {}, "width 3 is larger than the padded image"
        yield (np.ones((1, 3, 4, 4)), np.ones((2, 3, 3))), {}, "w must be (F, C / groups, KH, KW)"
        yield (np.ones((1, 3, 4, 4)), np.ones((2, 3, 3, 3)), np.ones(3)), {}, "one bias per output channel"
        yield (np.ones((1, 3, 4, 4)), np.ones((2, 1, 3, 3))), dict(groups=2), "must divide"
        yield (np.ones((1, 3, 4, 4)), np.ones((2, 3, 0, 3))), {}, "is empty"
        yield (np.ones((1, 3, 4, 4)), np.ones((2, 3, 3, 3))), dict(padding=-1), "padding must be at least 0"
        yield (np.ones((1, 3, 4, 4)), np.ones((2, 3, 3, 3))), dict(stride=1.5), "must be an integer"
        yield (np.ones((1, 3, 4, 4)), np.ones((2, 3, 3, 3), np.float32)), {}, "dtypes are not mixed"


def conv2d(x: Tensor, w: Tensor, b: Tensor | None = None, stride: Any = 1, padding: Any = 0, groups: int = 1) -> Tensor:
    """x (N, C, H, W), w (F, C / groups, KH, KW), b (F,) -> (N, F, OH, OW). See `Conv2d`."""
    return apply(Conv2d(stride, padding, groups), x, w) if b is None else apply(Conv2d(stride, padding, groups), x, w, b)
