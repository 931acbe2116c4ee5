"""Batch normalisation on the CPU, fast: few passes over the data, cut into parts that fit the cache, spread over threads.

Seen as (N, C, pixels), an image's channel is a row of numbers. What is needed of all rows are sums, and sums are products: of a
row with ones, of a row with itself. Two rules keep the passes few:

    var = mean((x - k)**2) - (mean - k)**2     with any k: mean and variance in one pass. k is the mean of the first image, so
                                               near the mean that the two terms do not cancel each other's digits.
    y = x * scale + shift                      scale = w / sqrt(var + eps), shift = b - mean * scale
    dx = dy * g + x * h + c                    g = scale, h = -scale * inv**2 * mean(dy * (x - mean)), c the rest

x_hat is never stored: x, which the operation before it holds anyway, is all that backward needs.
"""
import math

import numpy as np

from minidl.threads import for_each, scratch, split


def rows(x: np.ndarray) -> np.ndarray:
    """x (N, C, ...) as (N, C, pixels); a copy only where its memory is out of order."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def column(a: np.ndarray, index: tuple) -> np.ndarray:
    """The channels of a part, (channels, 1), of a (C,)."""
    return a[index[1]][:, None] if len(index) > 1 else a[:, None]


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, biased variance) of every channel of x (N, C, pixels), in float64."""
    near = x[0].mean(axis=1)
    sums, squares = np.empty(x.shape[:2], x.dtype), np.empty(x.shape[:2], x.dtype)
    ones = np.ones(x.shape[2], x.dtype)

    def body(index: tuple) -> None:
        part = x[index]
        away, = scratch(x.dtype, part.shape)
        np.subtract(part, column(near, index), out=away)
        np.matmul(away, ones, out=sums[index])
        np.vecdot(away, away, out=squares[index])

    for_each(body, split(x.shape))
    count = x.shape[0] * x.shape[2]
    beyond = sums.sum(axis=0, dtype=np.float64) / count
    return near + beyond, np.maximum(squares.sum(axis=0, dtype=np.float64) / count - beyond**2, 0)


def affine(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, y: np.ndarray) -> None:
    """y = x * scale + shift, per channel; y (N, C, pixels)."""
    def body(index: tuple) -> None:
        part = y[index]
        np.multiply(x[index], column(scale, index), out=part)
        part += column(shift, index)

    for_each(body, split(x.shape))


def gradient_sums(x: np.ndarray, dy: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sum of dy, sum of dy * (x - mean)) of every channel, in float64."""
    sums, products = np.empty(x.shape[:2], x.dtype), np.empty(x.shape[:2], x.dtype)
    ones = np.ones(x.shape[2], x.dtype)

    def body(index: tuple) -> None:
        part = dy[index]
        away, = scratch(x.dtype, part.shape)
        np.subtract(x[index], column(mean, index), out=away)
        np.matmul(part, ones, out=sums[index])
        np.vecdot(part, away, out=products[index])

    for_each(body, split(x.shape))
    return sums.sum(axis=0, dtype=np.float64), products.sum(axis=0, dtype=np.float64)


def gradient(x: np.ndarray, dy: np.ndarray, g: np.ndarray, h: np.ndarray, c: np.ndarray, dx: np.ndarray) -> None:
    """dx = dy * g + x * h + c, per channel."""
    def body(index: tuple) -> None:
        part = dx[index]
        other, = scratch(x.dtype, part.shape)
        np.multiply(dy[index], column(g, index), out=part)
        np.multiply(x[index], column(h, index), out=other)
        part += other
        part += column(c, index)

    for_each(body, split(x.shape))
