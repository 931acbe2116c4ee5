"""Hypothesis strategies for what operations on images are tested with: shapes, arrays, geometries.

Arrays are made from a drawn seed, not element by element: quick to draw, and a failure still prints what to repeat.
"""
from dataclasses import dataclass
from typing import Any

import numpy as np

VALUES = ("normal", "apart", "exact", "positive")


def _hypothesis() -> Any:
    """`hypothesis.strategies`, or what to install."""
    try:
        from hypothesis import strategies
    except ImportError:
        raise ImportError("minidl.testing's strategies need hypothesis: pip install 'minidl[test]'") from None
    return strategies


@dataclass(frozen=True)
class ConvGeometry:
    """Shapes and options of a convolution that fit together."""

    x_shape: tuple[int, int, int, int]
    w_shape: tuple[int, int, int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `ops.conv2d`."""
        return dict(stride=self.stride, padding=self.padding, groups=self.groups)


@dataclass(frozen=True)
class PoolGeometry:
    """Shape and options of a pooling that fit together."""

    x_shape: tuple[int, int, int, int]
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `ops.max_pool2d` and `ops.avg_pool2d`."""
        return dict(kernel_size=self.kernel_size, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode)


def image_shapes(max_batch: int = 3, max_channels: int = 4, min_side: int = 1, max_side: int = 7) -> Any:
    """Strategy for shapes (N, C, H, W), N from 1; height and width are drawn apart from each other."""
    st = _hypothesis()
    sides = st.integers(min_side, max_side)
    return st.tuples(st.integers(1, max_batch), st.integers(1, max_channels), sides, sides)


def make_array(shape: tuple[int, ...], seed: int, values: str = "normal", dtype: Any = np.float64) -> np.ndarray:
    """The array that a drawn seed stands for.

    values: "normal", standard normal; "apart", a shuffled grid without ties, no two nearer than 1/7 and none nearer
    than 1/14 to zero (for maxima and kinks); "exact", quarters from -2 to 2, whose products and sums float32 holds
    exactly, so that no rounding can excuse a difference; "positive", from 1/2 to 2, whose products and sums keep all
    their digits in any order, because nothing cancels.
    """
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    if values == "normal":
        x = rng.standard_normal(shape)
    elif values == "apart":
        x = (rng.permutation(size).reshape(shape) - size // 2 + 0.5) / 7
    elif values == "exact":
        x = rng.integers(-8, 9, shape) / 4
    elif values == "positive":
        x = rng.uniform(0.5, 2.0, shape)
    else:
        raise ValueError(f"images: values must be one of {VALUES}, got {values!r}")
    return np.array(x, dtype)  # an array even without axes, where NumPy's arithmetic gives a scalar


def images(shapes: Any = None, values: str = "normal", dtype: Any = np.float64) -> Any:
    """Strategy for image arrays (N, C, H, W). `shapes`: a strategy or one fixed shape; `values`: see `make_array`."""
    st = _hypothesis()
    if shapes is None:
        shapes = image_shapes()
    elif isinstance(shapes, tuple):
        shapes = st.just(shapes)
    return st.builds(lambda shape, seed: make_array(shape, seed, values, dtype), shapes, st.integers(0, 2**32 - 1))


def _axis(draw: Any, st: Any, max_side: int, max_kernel: int, half_padding: bool) -> tuple[int, int, int, int]:
    """(size, kernel, stride, padding) along one axis, with the kernel inside the padded image."""
    kernel = draw(st.integers(1, max_kernel))
    padding = draw(st.integers(0, kernel // 2 if half_padding else 2))
    size = draw(st.integers(max(1, kernel - 2 * padding), max(max_side, kernel)))
    return size, kernel, draw(st.integers(1, 3)), padding


def conv_geometries(max_side: int = 7, max_kernel: int = 4, max_channels: int = 3, max_groups: int = 3) -> Any:
    """Strategy for `ConvGeometry`: kernel, stride and padding drawn apart for height and width, groups, remainders."""
    st = _hypothesis()

    @st.composite
    def draw_geometry(draw: Any) -> ConvGeometry:
        H, KH, SH, PH = _axis(draw, st, max_side, max_kernel, half_padding=False)
        W, KW, SW, PW = _axis(draw, st, max_side, max_kernel, half_padding=False)
        groups, N = draw(st.integers(1, max_groups)), draw(st.integers(1, 3))
        C, F = draw(st.integers(1, max_channels)), draw(st.integers(1, max_channels))
        return ConvGeometry((N, C * groups, H, W), (F * groups, C, KH, KW), (SH, SW), (PH, PW), groups)

    return draw_geometry()


def pool_geometries(max_side: int = 8, max_kernel: int = 4, max_channels: int = 3) -> Any:
    """Strategy for `PoolGeometry`: overlapping and gapped windows, padding up to half the kernel, both rounding rules."""
    st = _hypothesis()

    @st.composite
    def draw_geometry(draw: Any) -> PoolGeometry:
        H, KH, SH, PH = _axis(draw, st, max_side, max_kernel, half_padding=True)
        W, KW, SW, PW = _axis(draw, st, max_side, max_kernel, half_padding=True)
        shape = (draw(st.integers(1, 2)), draw(st.integers(1, max_channels)), H, W)
        return PoolGeometry(shape, (KH, KW), (SH, SW), (PH, PW), draw(st.booleans()))

    return draw_geometry()
