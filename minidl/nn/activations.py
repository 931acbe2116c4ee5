"""Nonlinearities as layers. They hold no parameters and keep the shape."""
from typing import Any

from minidl.autograd import Tensor
from minidl.nn.checks import flag, real_number, whole_number
from minidl.nn.module import Module
from minidl.ops import leaky_relu, log_softmax, relu, sigmoid, softmax, tanh


class ReLU(Module):
    """y = max(x, 0). Any shape. Nair and Hinton 2010.

    inplace: y takes the memory of x, which must not be used again; see `minidl.ops.relu`.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = flag("ReLU", "inplace", inplace)

    def forward(self, x: Any) -> Tensor:
        return relu(x, self.inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """y = x where x > 0, else negative_slope * x. Any shape. Maas et al. 2013."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = real_number("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Any) -> Tensor:
        return leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class Sigmoid(Module):
    """y = 1 / (1 + e**-x). Any shape."""

    def forward(self, x: Any) -> Tensor:
        return sigmoid(x)


class Tanh(Module):
    """y = tanh(x). Any shape."""

    def forward(self, x: Any) -> Tensor:
        return tanh(x if isinstance(x, Tensor) else Tensor(x))


class Softmax(Module):
    """y = e**x / sum of e**x along `dim`: probabilities that add up to 1. Any shape.

    CrossEntropyLoss takes the scores before the softmax: do not put this layer in front of it.
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = whole_number(type(self).__name__, "dim", dim, least=-32)

    def forward(self, x: Any) -> Tensor:
        return softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """y = log(softmax(x)) along `dim`, computed without overflow. Any shape."""

    def forward(self, x: Any) -> Tensor:
        return log_softmax(x, self.dim)
