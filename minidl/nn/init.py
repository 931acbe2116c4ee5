"""First values of parameters: scaled so that signals keep their size through many layers.

Each function fills a parameter in place and returns it. The numbers come from minidl's generator
(`minidl.manual_seed`), are drawn on the CPU in float64 for float64 parameters and in float32 for all others, and are
then moved: the same seed gives the same bits on every device.

Layers draw `he_normal` weights (mode "fan_in", for ReLU) and zero biases.
"""
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import device_of, to_device
from minidl.nn.checks import real_number
from minidl.nn.module import Parameter
from minidl.randomness import generator


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out): how many inputs an output sees, and how many outputs an input reaches.

    Linear (out, in): (in, out). Convolution (F, C / groups, KH, KW): (C / groups * KH * KW, F * KH * KW), as PyTorch.
    """
    shape = tuple(shape)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"fans: a weight is (out, in) or (F, C / groups, KH, KW), none of them 0, got shape {shape}; "
                         "biases and scales have no fans: fill them with constant(...)")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def he_normal(parameter: Tensor, mode: str = "fan_in", negative_slope: float = 0.0) -> Tensor:
    """Normal with variance 2 / ((1 + negative_slope**2) fan): keeps the variance through (leaky) ReLUs.

    mode "fan_in" keeps the activations' (He et al. 2015, "Delving deep into rectifiers", section 2.2, equation 10),
    "fan_out" the gradients' (equation 14).
    """
    return _draw_normal(parameter, 0.0, _he_std("he_normal", parameter, mode, negative_slope))


def he_uniform(parameter: Tensor, mode: str = "fan_in", negative_slope: float = 0.0) -> Tensor:
    """Uniform between -limit and limit with the variance of `he_normal`: limit = sqrt(3 variance)."""
    return _draw_uniform(parameter, math.sqrt(3) * _he_std("he_uniform", parameter, mode, negative_slope))


def glorot_normal(parameter: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with variance gain**2 * 2 / (fan_in + fan_out), for tanh and sigmoid.

    Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", section 4.2.1.
    """
    return _draw_normal(parameter, 0.0, _glorot_std("glorot_normal", parameter, gain))


def glorot_uniform(parameter: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform between -limit and limit, limit = gain * sqrt(6 / (fan_in + fan_out)) (equation 16 there)."""
    return _draw_uniform(parameter, math.sqrt(3) * _glorot_std("glorot_uniform", parameter, gain))


def normal(parameter: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with the given mean and standard deviation (AlexNet: std 0.01)."""
    _check("normal", parameter)
    return _draw_normal(parameter, real_number("normal", "mean", mean), real_number("normal", "std", std, least=0))


def constant(parameter: Tensor, value: float) -> Tensor:
    """Every element = value."""
    _check("constant", parameter)
    number = real_number("constant", "value", value)
    return _fill(parameter, lambda values: values.fill(number))


@contextmanager
def no_values() -> Iterator[None]:
    """A `with` block in which nothing is drawn: weights of new layers stay zeros, which cost no memory until they are written.

    For nets whose weights are loaded next, or that are only counted or drawn. Holds for the current thread.
    """
    before, _settings.drawing = _settings.drawing, False
    try:
        yield
    finally:
        _settings.drawing = before


def _he_std(who: str, parameter: Any, mode: str, negative_slope: float) -> float:
    _check(who, parameter)
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{who}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    slope = real_number(who, "negative_slope", negative_slope)
    return math.sqrt(2 / (1 + slope**2) / fans(parameter.shape)[mode == "fan_out"])


def _glorot_std(who: str, parameter: Any, gain: float) -> float:
    _check(who, parameter)
    return real_number(who, "gain", gain, least=0) * math.sqrt(2 / sum(fans(parameter.shape)))


def _draw_normal(parameter: Tensor, mean: float, std: float) -> Tensor:
    def draw(values: np.ndarray) -> None:
        generator().standard_normal(out=values, dtype=values.dtype)
        values *= std
        values += mean

    return _fill(parameter, draw)


def _draw_uniform(parameter: Tensor, limit: float) -> Tensor:
    def draw(values: np.ndarray) -> None:
        generator().random(out=values, dtype=values.dtype)
        values *= 2 * limit
        values -= limit

    return _fill(parameter, draw)


def _fill(parameter: Tensor, draw: Callable[[np.ndarray], None]) -> Tensor:
    """Lets `draw` write the new values; into a Parameter's own array in place: VGG-19's 575 MB are never there twice."""
    if not _settings.drawing:
        return parameter
    x = parameter.data
    own = isinstance(parameter, Parameter) and device_of(x) == "cpu" and x.flags.c_contiguous and x.flags.writeable
    if own and x.dtype in (np.float32, np.float64):
        draw(x)
        parameter.data = x  # the graph is told of the change
    else:
        values = np.empty(x.shape, np.float64 if x.dtype == np.float64 else np.float32)
        draw(values)
        parameter.data = to_device(values.astype(x.dtype), parameter.device)
    return parameter


class _Settings(threading.local):
    """What holds for the current thread only."""

    drawing = True


_settings = _Settings()


def _check(who: str, parameter: Any) -> None:
    if not isinstance(parameter, Tensor):
        raise TypeError(f"{who}: fills a Parameter, got {type(parameter).__name__}: "
                        "pass layer.weight, not the layer or an array")
    if parameter.dtype.kind != "f":
        raise TypeError(f"{who}: fills floating parameters, got {parameter.dtype}")
