"""Layers with weights, and those that pool, cut or rearrange.

Names, arguments and keys are PyTorch's. An argument that stands behind one of PyTorch's that is not offered here (such
as `groups`, behind `dilation`) goes by name only, so that no call means one thing there and another here.
"""
import math
from typing import Any

from minidl.autograd import Tensor, as_tensor
from minidl.nn.checks import divisor, flag, real_number, whole_number
from minidl.nn.init import he_normal, normal
from minidl.nn.module import Module, Parameter
from minidl.ops import bilinear_kernel, conv2d, conv_transpose2d, dropout, linear
from minidl.ops.windows import pair


class Identity(Module):
    """y = x: stands where a layer was taken out."""

    def forward(self, x: Any) -> Tensor:
        return as_tensor(x)


class Flatten(Module):
    """The axes start_dim to end_dim become one: x (N, C, H, W) -> y (N, C * H * W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = whole_number("Flatten", "start_dim", start_dim, least=-32)
        self.end_dim = whole_number("Flatten", "end_dim", end_dim, least=-32)

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        if not all(-x.ndim <= axis < x.ndim for axis in (self.start_dim, self.end_dim)):
            raise ValueError(f"Flatten: axes {self.start_dim} to {self.end_dim} are asked for, but x has {x.ndim} "
                             f"(shape {x.shape}): is the batch axis missing?")
        start, end = self.start_dim % x.ndim, self.end_dim % x.ndim
        if start > end:
            raise ValueError(f"Flatten: start_dim {self.start_dim} comes after end_dim {self.end_dim} in x {x.shape}: "
                             "swap them")
        return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """In training y = x / (1 - p), or 0 with probability p, element by element; in evaluation y = x. Any shape.

    The mask comes from minidl's generator. Krizhevsky et al. 2012, section 4.2; Srivastava et al. 2014.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = real_number("Dropout", "p (the probability of dropping)", p, least=0, most=1)
        if self.p == 1:
            raise ValueError("Dropout: p = 1 would drop everything, and the scale 1 / (1 - p) is infinite: use p < 1")

    def forward(self, x: Any) -> Tensor:
        return dropout(x, self.p, training=self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Linear(Module):
    """y = x @ weight.T + bias

    x (..., in_features), weight (out_features, in_features), bias (out_features,) -> y (..., out_features).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = whole_number("Linear", "in_features", in_features)
        self.out_features = whole_number("Linear", "out_features", out_features)
        self.weight = Parameter.zeros(self.out_features, self.in_features)
        he_normal(self.weight)
        self.bias = _bias("Linear", bias, self.out_features)

    def forward(self, x: Any) -> Tensor:
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Conv2d(Module):
    """y[n, f] = bias[f] + sum over c of weight[f, c] correlated with x[n, c]

    x (N, in_channels, H, W), weight (out_channels, in_channels / groups, KH, KW), bias (out_channels,)
    -> y (N, out_channels, OH, OW), OH = floor((H + 2 padding - KH) / stride) + 1. Sizes: an integer or (height, width).
    With groups, each group of outputs sees its own group of inputs only (Krizhevsky et al. 2012, section 3.5).
    """

    can_be_folded = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, *,
                 groups: int = 1, bias: bool = True) -> None:
        self.in_channels = whole_number("Conv2d", "in_channels", in_channels)
        self.out_channels = whole_number("Conv2d", "out_channels", out_channels)
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride, self.padding = pair("Conv2d", "stride", stride, 1), pair("Conv2d", "padding", padding, 0)
        self.groups = divisor("Conv2d", groups, self.in_channels, self.out_channels)
        shape = self.out_channels, self.in_channels // self.groups, *self.kernel_size
        self.weight = Parameter.zeros(*shape)
        he_normal(self.weight)
        self.bias = _bias("Conv2d", bias, self.out_channels)

    def forward(self, x: Any) -> Tensor:
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.groups)

    def extra_repr(self) -> str:
        return _convolution_options(self)


class ConvTranspose2d(Module):
    """The adjoint of a convolution: every pixel of x paints a kernel into y, `stride` apart

    x (N, in_channels, H, W), weight (in_channels, out_channels / groups, KH, KW), bias (out_channels,)
    -> y (N, out_channels, OH, OW), OH = (H - 1) stride - 2 padding + KH + output_padding.
    He's fan_in, the products in one output pixel, is on average in_channels / groups * KH * KW / stride**2 here.
    Long et al. 2015, section 3.3.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
                 output_padding: Any = 0, groups: int = 1, bias: bool = True) -> None:
        who = "ConvTranspose2d"
        self.in_channels = whole_number(who, "in_channels", in_channels)
        self.out_channels = whole_number(who, "out_channels", out_channels)
        self.kernel_size, self.stride = pair(who, "kernel_size", kernel_size, 1), pair(who, "stride", stride, 1)
        self.padding = pair(who, "padding", padding, 0)
        self.output_padding = pair(who, "output_padding", output_padding, 0)
        if any(extra >= s for extra, s in zip(self.output_padding, self.stride)):
            raise ValueError(f"{who}: output_padding must be smaller than stride, got {self.output_padding} and stride "
                             f"{self.stride}: it only picks one of the sizes that a convolution rounds away")
        self.groups = divisor(who, groups, self.in_channels, self.out_channels)
        shape = self.in_channels, self.out_channels // self.groups, *self.kernel_size
        fan_in = self.in_channels // self.groups * math.prod(self.kernel_size) / math.prod(self.stride)
        self.weight = Parameter.zeros(*shape)
        normal(self.weight, std=math.sqrt(2 / fan_in))
        self.bias = _bias(who, bias, self.out_channels)

    def forward(self, x: Any) -> Tensor:
        return conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups)

    def extra_repr(self) -> str:
        return _convolution_options(self)


class BilinearUpsample2d(Module):
    """Images `factor` times larger, each channel interpolated bilinearly by a transposed convolution

    x (N, channels, H, W) -> y (N, channels, factor H, factor W). The weight (channels, 1, K, K) starts as two crossed
    tents, K = 2 factor - factor % 2; `learned` says whether training may change it. Long et al. 2015, section 3.3.
    """

    def __init__(self, channels: int, factor: int, *, learned: bool = False) -> None:
        who = "BilinearUpsample2d"
        self.channels, self.factor = whole_number(who, "channels", channels), whole_number(who, "factor", factor)
        self.padding = self.factor // 2  # = ceil((factor - 1) / 2)
        kernel = bilinear_kernel(2 * self.factor - self.factor % 2, self.channels, groups=self.channels)
        self.weight = Parameter(kernel, requires_grad=flag(who, "learned", learned))

    def forward(self, x: Any) -> Tensor:
        return conv_transpose2d(x, self.weight, None, self.factor, self.padding, groups=self.channels)

    def extra_repr(self) -> str:
        return f"{self.channels}, factor={self.factor}, learned={self.weight.requires_grad}"


def _bias(who: str, wanted: Any, size: int) -> Parameter | None:
    return Parameter.zeros(size) if flag(who, "bias", wanted) else None


def _convolution_options(layer: Any) -> str:
    """in, out, kernel_size, and whatever differs from its default."""
    text = f"{layer.in_channels}, {layer.out_channels}, kernel_size={layer.kernel_size}, stride={layer.stride}"
    for name, default in (("padding", (0, 0)), ("output_padding", (0, 0)), ("groups", 1)):
        if getattr(layer, name, default) != default:
            text += f", {name}={getattr(layer, name)}"
    return text if layer.bias is not None else text + ", bias=False"
