"""Transposed convolution: the gradient of a convolution with respect to its input, used as an operation."""
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array
from minidl.function import Function, Refusal, Sample
from minidl.ops import conv2d_cpu
from minidl.ops.conv2d import as_images, as_matrix, as_windows, channels_first, check_bias, check_groups
from minidl.ops.windows import check_images, fold, pair, unfold


class ConvTranspose2d(Function):
    """y[n, f, i * SH + kh - PH, j * SW + kw - PW] += w[c, f, kh, kw] * x[n, c, i, j], then y += b[f]

    x (N, C, H, W), w (C, F / groups, KH, KW), b (F,) or none -> y (N, F, OH, OW),
    OH = (H - 1) * SH - 2 PH + KH + output_padding: every pixel paints a weighted kernel, `stride` apart.
    Long et al. 2015, section 3.3 ("deconvolution" there).
    """

    name, keeps_output = "conv_transpose2d", False

    def __init__(self, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1) -> None:
        self.stride, self.padding = pair(self.name, "stride", stride, 1), pair(self.name, "padding", padding, 0)
        self.output_padding = pair(self.name, "output_padding", output_padding, 0)
        self.groups = groups

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        N, F, OH, OW = self.output_shape(x.shape, w.shape, None if b is None else b.shape)
        self.x_shape, self.w_shape, self.has_bias = x.shape, w.shape, b is not None
        self.x: Any = x if self.needs[1] else None  # each for the other's gradient
        self.w: Any = w if self.needs[0] else None
        columns = self.weight_matrix(w).swapaxes(1, 2) @ channels_first(x, self.groups)
        y = fold(as_windows(columns, N, F, x.shape[2:], w.shape[2:]), (OH, OW), self.stride, self.padding)
        return y if b is None else y + b.reshape(-1, 1, 1)

    def backward(self, dy: Array) -> tuple:
        N, C, H, W = self.x_shape
        windows = unfold(dy, self.w_shape[2:], self.stride, self.padding, (H, W))
        columns = as_matrix(windows, self.groups)
        dx = dw = None
        if self.needs[0]:
            dx = as_images(self.weight_matrix(self.w) @ columns, N, (H, W))
        if self.needs[1]:
            dw = (channels_first(self.x, self.groups) @ columns.swapaxes(1, 2)).reshape(self.w_shape)
        return (dx, dw, dy.sum(axis=(0, 2, 3))) if self.has_bias else (dx, dw)

    def forward_cpu(self, x: Array, w: Array, b: Array | None = None) -> Array:
        y = np.empty(self.output_shape(x.shape, w.shape, None if b is None else b.shape), x.dtype)
        self.x_shape, self.w_shape, self.has_bias = x.shape, w.shape, b is not None
        self.x, self.w = x if self.needs[1] else None, w if self.needs[0] else None
        sizes = self.sizes(y.shape)
        for c, f in self.of_groups():  # y is what a convolution with these weights would have to see to give x
            conv2d_cpu.gradient_of_x(x[:, c], w[c], y[:, f], sizes, conv2d_cpu.best_way(sizes, x.dtype))
        if b is not None:
            y += b.reshape(-1, 1, 1)
        return y

    def backward_cpu(self, dy: Array) -> tuple:
        sizes = self.sizes(dy.shape)
        way = conv2d_cpu.best_way(sizes, dy.dtype)
        dx = np.empty(self.x_shape, dy.dtype) if self.needs[0] else None
        dw = np.empty(self.w_shape, dy.dtype) if self.needs[1] else None
        for c, f in self.of_groups():
            if dx is not None:
                conv2d_cpu.convolve(dy[:, f], self.w[c], None, dx[:, c], sizes, way)
            if dw is not None:
                dw[c] = conv2d_cpu.gradient_of_w(dy[:, f], self.x[:, c], sizes, way)
        return (dx, dw, dy.sum(axis=(0, 2, 3))) if self.has_bias else (dx, dw)

    def sizes(self, y: tuple) -> conv2d_cpu.Shape:
        """The sizes of one group's convolution, from y back to x."""
        (N, C, H, W), (_, F, KH, KW), (OH, OW) = self.x_shape, self.w_shape, y[2:]
        return conv2d_cpu.Shape(N, F, OH, OW, C // self.groups, KH, KW, H, W, self.stride, self.padding)

    def of_groups(self) -> list[tuple[slice, slice]]:
        """(input channels, output channels) of every group."""
        C, F = self.w_shape[0] // self.groups, self.w_shape[1]
        return [(slice(g * C, (g + 1) * C), slice(g * F, (g + 1) * F)) for g in range(self.groups)]

    def weight_matrix(self, w: Array) -> Array:
        """w as (groups, C / groups, F / groups * KH * KW)."""
        return w.reshape(self.groups, w.shape[0] // self.groups, -1)

    def output_shape(self, x: tuple, w: tuple, b: tuple | None = None) -> tuple[int, ...]:  # type: ignore[override]
        check_images(self.name, x)
        if len(w) != 4 or 0 in w:
            raise ValueError(f"conv_transpose2d: w must be (C, F / groups, KH, KW), none of them 0, got shape {w}")
        if 0 in x[1:]:
            raise ValueError(f"conv_transpose2d: x {x} has no pixels; only the batch may be empty")
        if x[1] != w[0]:
            raise ValueError(f"conv_transpose2d: x has {x[1]} channels but w expects {w[0]} (x {x}, "
                             f"w {w}); w is (C, F / groups, KH, KW), input channels first, unlike conv2d's")
        F = w[1] * self.groups
        check_groups(self.name, self.groups, x[1], F)
        check_bias(self.name, b, F)
        for extra, s in zip(self.output_padding, self.stride):
            if extra >= s:
                raise ValueError(f"conv_transpose2d: output_padding {self.output_padding} must be smaller than stride "
                                 f"{self.stride}: it only picks one of the sizes that a convolution would round away")
        size = [(n - 1) * s - 2 * p + k + extra
                for n, s, p, k, extra in zip(x[2:], self.stride, self.padding, w[2:], self.output_padding)]
        if min(size) < 1:
            raise ValueError(f"conv_transpose2d: padding {self.padding} leaves nothing of the output, {tuple(size)} "
                             f"(x {x}, w {w}): use less padding")
        return x[0], F, *size

    def window(self, *shapes: tuple) -> tuple:
        (KH, KW), (SH, SW) = shapes[1][2:], self.stride  # an output pixel sees every stride-th pixel of a kernel
        return (-(-KH // SH), -(-KW // SW)), (1 / SH, 1 / SW)

    def multiply_adds(self, y_shape: tuple, *shapes: tuple) -> int:
        (N, C, H, W), (_, F, KH, KW) = shapes[0], shapes[1]
        return N * C * H * W * F * KH * KW

    @staticmethod
    def naive(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, stride: Any = 1, padding: Any = 0,
              output_padding: Any = 0, groups: int = 1) -> np.ndarray:
        (SH, SW), (PH, PW), (EH, EW) = (pair("", "", v, 0) for v in (stride, padding, output_padding))
        (N, C, H, W), (_, Fg, KH, KW) = x.shape, w.shape
        OH, OW = (H - 1) * SH - 2 * PH + KH + EH, (W - 1) * SW - 2 * PW + KW + EW
        y = np.zeros((N, Fg * groups, OH, OW))
        for n, c, i, j in np.ndindex(x.shape):
            first = c // (C // groups) * Fg  # the first output channel of c's group
            for f, kh, kw in np.ndindex(Fg, KH, KW):
                h, v = i * SH + kh - PH, j * SW + kw - PW
                if 0 <= h < OH and 0 <= v < OW:
                    y[n, first + f, h, v] += w[c, f, kh, kw] * x[n, c, i, j]
        return y if b is None else y + b[:, None, None]

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        def arrays(*shapes: tuple) -> tuple:
            return tuple(rng.standard_normal(shape) for shape in shapes)

        yield arrays((2, 4, 3, 2), (4, 2, 3, 5), (2,)), dict(stride=(2, 1), padding=(1, 0), output_padding=(1, 0))
        yield arrays((2, 4, 3, 2), (4, 3, 2, 3)), dict(stride=(1, 2), groups=2)
        yield arrays((1, 1, 2, 3), (1, 2, 1, 2), (2,)), dict(stride=3, output_padding=2)  # gaps between the kernels
        yield arrays((0, 2, 3, 3), (2, 3, 2, 2), (3,)), dict(stride=2)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((1, 3, 4, 4)), np.ones((2, 3, 3, 3))), {}, "input channels first"
        yield (np.ones((3, 4, 4)), np.ones((3, 2, 3, 3))), {}, "add the batch axis"
        yield (np.ones((1, 3, 4, 4)), np.ones((3, 2, 3, 3))), dict(stride=2, output_padding=2), "smaller than stride"
        yield (np.ones((1, 3, 1, 1)), np.ones((3, 2, 2, 2))), dict(padding=1), "use less padding"
        yield (np.ones((1, 3, 4, 4)), np.ones((3, 2, 3, 3)), np.ones(3)), {}, "one bias per output channel"
        yield (np.ones((1, 3, 4, 4)), np.ones((3, 2, 3, 3))), dict(groups=2), "must divide"
        yield (np.ones((1, 3, 4, 4)), np.ones((3, 2, 3))), {}, "w must be"


def conv_transpose2d(x: Tensor, w: Tensor, b: Tensor | None = None, stride: Any = 1, padding: Any = 0,
                     output_padding: Any = 0, groups: int = 1) -> Tensor:
    """x (N, C, H, W), w (C, F / groups, KH, KW), b (F,) -> (N, F, OH, OW), about `stride` times larger."""
    function = ConvTranspose2d(stride, padding, output_padding, groups)
    return apply(function, x, w) if b is None else apply(function, x, w, b)
