"""Sliding windows over images, on raw arrays: the index arithmetic that convolution and pooling share.

A window of size (KH, KW) visits a padded image in steps of `stride`; OH x OW windows fit. `unfold` shows them without
copying, `fold` is its adjoint: it adds windows back to where they came from.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.backend import Array, array_module

Pair = tuple[int, int]


def pair(name: str, option: str, value: Any, least: int) -> Pair:
    """`value` as (height, width): an integer counts for both. ValueError below `least`, TypeError for no integers."""
    both = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(both) != 2 or any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) for v in both):
        raise TypeError(f"{name}: {option} must be an integer or a pair (height, width) of integers, got {value!r}")
    if min(both) < least:
        raise ValueError(f"{name}: {option} must be at least {least}, got {value!r}")
    return int(both[0]), int(both[1])


def check_images(name: str, shape: tuple[int, ...]) -> None:
    """`shape` is that of a batch of images (N, C, H, W)."""
    if len(shape) != 4:
        hint = "add the batch axis with x.reshape(1, *x.shape)" if len(shape) == 3 else "reshape it"
        raise ValueError(f"{name}: x must be images (N, C, H, W), got shape {shape} with {len(shape)} axes: {hint}")


def output_size(name: str, size: Pair, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool = False) -> Pair:
    """How many windows fit: floor((size + 2 padding - kernel) / stride) + 1 in each direction.

    ceil_mode rounds up instead, so that the last window may stick out, but drops a window that would start beyond
    the image and its leading padding (the rule of Caffe's pooling_layer.cpp and of torch).
    """
    sizes = []
    for n, k, s, p, axis in zip(size, kernel, stride, padding, ("height", "width")):
        room = n + 2 * p - k
        windows = -(-room // s) + 1 if ceil_mode else room // s + 1
        if ceil_mode and (windows - 1) * s >= n + p:
            windows -= 1
        if windows < 1:
            raise ValueError(f"{name}: the kernel's {axis} {k} is larger than the padded image's, {n} + 2 * {p} = "
                             f"{n + 2 * p}: use a smaller kernel, more padding, or larger images")
        sizes.append(windows)
    return sizes[0], sizes[1]


def geometry(size: Pair, kernel: Pair, stride: Pair, padding: Pair, output: Pair) -> tuple[int, ...]:
    """Height and width of each, as a CUDA kernel is told."""
    return *size, *kernel, *stride, *padding, *output


def seen(size: int, output: int, offset: int, stride: int) -> tuple[slice, slice]:
    """Along one axis: the outputs o that see a pixel o * stride + offset inside an image of `size`, and these pixels."""
    first = max(0, -(offset // stride))
    last = max(first, min(output, (size - 1 - offset) // stride + 1))
    return slice(first, last), slice(first * stride + offset, max(0, (last - 1) * stride + offset + 1), stride)


def unfold(x: Array, kernel: Pair, stride: Pair, padding: Pair, output: Pair, fill: float = 0.0) -> Array:
    """x (N, C, H, W) -> windows (N, C, OH, OW, KH, KW), a read-only view of the image padded with `fill`."""
    xp, (H, W) = array_module(x), x.shape[2:]
    (KH, KW), (SH, SW), (PH, PW), (OH, OW) = kernel, stride, padding, output
    below = max(0, (OH - 1) * SH + KH - H - PH)  # the last window ends here: padding, or more in ceil mode
    right = max(0, (OW - 1) * SW + KW - W - PW)
    if PH or PW or below or right:
        x = xp.pad(x, ((0, 0), (0, 0), (PH, below), (PW, right)), constant_values=fill)
    windows = xp.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return windows[:, :, : (OH - 1) * SH + 1 : SH, : (OW - 1) * SW + 1 : SW]


def fold(windows: Array, size: Pair, stride: Pair, padding: Pair) -> Array:
    """windows (N, C, OH, OW, KH, KW) -> (N, C, H, W): every window added to the place that it was taken from."""
    N, C, OH, OW, KH, KW = windows.shape
    (H, W), (SH, SW), (PH, PW) = size, stride, padding
    height = max(H + PH, (OH - 1) * SH + KH)
    width = max(W + PW, (OW - 1) * SW + KW)
    padded = array_module(windows).zeros((N, C, height, width), windows.dtype)
    for kh in range(KH):
        for kw in range(KW):  # within one (kh, kw) no two windows touch the same pixel
            padded[:, :, kh : kh + (OH - 1) * SH + 1 : SH, kw : kw + (OW - 1) * SW + 1 : SW] += windows[..., kh, kw]
    return padded[:, :, PH : PH + H, PW : PW + W]
