"""Layers that slide windows over images without weights of their own: pooling, cropping, im2col and its adjoint."""
from typing import Any

from minidl.autograd import Tensor
from minidl.nn.checks import flag
from minidl.nn.module import Module
from minidl.ops import adaptive_avg_pool2d, avg_pool2d, col2im, crop, im2col, max_pool2d
from minidl.ops.windows import pair


class _Pool(Module):
    """Window, stride (the window's size if None) and padding, at most half the window."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False) -> None:
        who = type(self).__name__
        self.kernel_size = pair(who, "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair(who, "stride", stride, 1)
        self.padding, self.ceil_mode = pair(who, "padding", padding, 0), flag(who, "ceil_mode", ceil_mode)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size)):
            raise ValueError(f"{who}: padding must be at most half of kernel_size, got padding {self.padding} and "
                             f"kernel_size {self.kernel_size}: a window would hold nothing but padding")

    def extra_repr(self) -> str:
        rounding = ", ceil_mode=True" if self.ceil_mode else ""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}{rounding}"


class MaxPool2d(_Pool):
    """y = the largest x in every window; of equal ones the first gets the gradient

    x (N, C, H, W) -> y (N, C, OH, OW), OH = floor((H + 2 padding - KH) / stride) + 1 (ceil in ceil_mode).
    stride None: the kernel's size. Windows with stride < kernel_size overlap: Krizhevsky et al. 2012, section 3.4.
    """

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, *, ceil_mode: bool = False) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)

    def forward(self, x: Any) -> Tensor:
        return max_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode)


class AvgPool2d(_Pool):
    """y = the average of x in every window; `count_include_pad` says whether the padding's zeros count in it

    x (N, C, H, W) -> y (N, C, OH, OW), sizes as in MaxPool2d.
    """

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag("AvgPool2d", "count_include_pad", count_include_pad)

    def forward(self, x: Any) -> Tensor:
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.count_include_pad else ", count_include_pad=False")


class AdaptiveAvgPool2d(Module):
    """Averages over a grid of nearly equal windows: x (N, C, H, W) -> y (N, C, *output_size), whatever H and W are

    output_size 1 is global average pooling (Lin et al. 2014, section 3.2).
    """

    def __init__(self, output_size: Any) -> None:
        self.output_size = pair("AdaptiveAvgPool2d", "output_size", output_size, 1)

    def forward(self, x: Any) -> Tensor:
        return adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class Crop(Module):
    """The window of `size` at `offset` = (top, left): x (N, C, H, W) -> y (N, C, *size). Long et al. 2015."""

    def __init__(self, size: Any, offset: Any = 0) -> None:
        self.size, self.offset = pair("Crop", "size", size, 1), pair("Crop", "offset", offset, 0)

    def forward(self, x: Any) -> Tensor:
        return crop(x, self.size, self.offset)

    def extra_repr(self) -> str:
        return f"size={self.size}, offset={self.offset}"


class Unfold(Module):
    """im2col: x (N, C, H, W) -> y (N, C * KH * KW, OH * OW), every window of the image as a column."""

    def __init__(self, kernel_size: Any, *, padding: Any = 0, stride: Any = 1) -> None:
        self.kernel_size = pair("Unfold", "kernel_size", kernel_size, 1)
        self.padding, self.stride = pair("Unfold", "padding", padding, 0), pair("Unfold", "stride", stride, 1)

    def forward(self, x: Any) -> Tensor:
        return im2col(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """col2im, the adjoint of Unfold: x (N, C * KH * KW, OH * OW) -> y (N, C, *output_size), overlaps added up."""

    def __init__(self, output_size: Any, kernel_size: Any, *, padding: Any = 0, stride: Any = 1) -> None:
        self.output_size = pair("Fold", "output_size", output_size, 1)
        self.kernel_size = pair("Fold", "kernel_size", kernel_size, 1)
        self.padding, self.stride = pair("Fold", "padding", padding, 0), pair("Fold", "stride", stride, 1)

    def forward(self, x: Any) -> Tensor:
        return col2im(x, self.output_size, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return (f"output_size={self.output_size}, kernel_size={self.kernel_size}, padding={self.padding}, "
                f"stride={self.stride}")
