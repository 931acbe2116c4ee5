"""Batch normalisation on the CPU, fast: few passes over the data, spread over threads.

Seen as (N, C, pixels), an image's channel is a row of numbers. What is needed of all rows are sums, and sums are products,
which BLAS makes as fast as memory comes: of a row with ones, of a row with itself. So

    var = mean(x**2) - mean**2                 mean and variance in one pass
    y = x * scale + shift                      scale = w / sqrt(var + eps), shift = b - mean * scale
    dx = dy * g + x * h + c                    g = scale, h = -scale * inv**2 * mean(dy * (x - mean)), c the rest

A difference of two nearly equal numbers has lost its digits: where the mean is several times the deviation, sums are taken
again about the mean, sum((x - k)**2), with k near it. x_hat is never stored: x, which the operation before it holds anyway, is
all that backward needs.
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


FAR = 16
"""Where mean**2 is more than so many times the variance, sums about 0 lose too many digits of float32 (one bit in each
four)."""


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, biased variance) of every channel of x (N, C, pixels), in float64."""
    count = x.shape[0] * x.shape[2]
    sums, squares = sums_of(x, x, None)
    mean = sums / count
    var = squares / count - mean**2
    if (mean**2 > FAR * var).any() or x.dtype == np.float64:
        near = mean.astype(x.dtype)
        sums, squares = sums_of(x, x, near)
        beyond = sums / count
        mean, var = near + beyond, squares / count - beyond**2
    return mean, np.maximum(var, 0)


SEGMENT = 512
"""Rows are summed in segments of at most so many numbers. NumPy lets other threads run during such a product only where it has
more than 500 results: whole rows, 256 channels say, would run on one thread after the other."""


def segments(pixels: int) -> int:
    """Into how many equal segments a row is cut; 1 where only far more than needed would be equal."""
    least = max(1, -(-pixels // SEGMENT))
    return next((k for k in range(least, 2 * least + 1) if pixels % k == 0), 1)


def sums_of(a: np.ndarray, x: np.ndarray, k: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(sum of a, sum of a * (x - k)) of every channel, in float64; k (C,), or None for 0. Where a is x, a is x - k, too."""
    N, C, pixels = x.shape
    number = segments(pixels)
    sums, products = np.empty((N, C, number), x.dtype), np.empty((N, C, number), x.dtype)
    ones = np.ones(pixels // number, x.dtype)

    def body(index: tuple) -> None:
        first, second = a[index], x[index]
        if k is not None:
            second, = scratch(x.dtype, second.shape)
            np.subtract(x[index], column(k, index), out=second)
            first = second if a is x else first
        shape = *first.shape[:-1], number, len(ones)
        np.matmul(first.reshape(shape), ones, out=sums[index])
        np.vecdot(first.reshape(shape), second.reshape(shape), out=products[index])

    for_each(body, split(x.shape))
    return sums.sum(axis=(0, 2), dtype=np.float64), products.sum(axis=(0, 2), dtype=np.float64)


def is_far(mean: np.ndarray, inv: np.ndarray) -> bool:
    """Whether some channel's mean is so large beside its deviation, 1 / inv, that differences of large numbers lose digits."""
    return bool(((mean * inv) ** 2 > FAR).any())


def normalise(x: np.ndarray, mean: np.ndarray, inv: np.ndarray, w: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
    """y = w * (x - mean) * inv + b, per channel; y (N, C, pixels). As x * scale + shift, unless the mean is large."""
    scale = (w * inv).astype(x.dtype)
    far, center = is_far(mean, inv), mean.astype(x.dtype)
    shift = b.astype(x.dtype) if far else (b - mean * w * inv).astype(x.dtype)

    def body(index: tuple) -> None:
        part, source = y[index], x[index]
        if far:
            np.subtract(source, column(center, index), out=part)
            source = part
        np.multiply(source, column(scale, index), out=part)
        part += column(shift, index)

    for_each(body, split(x.shape))


def gradient_sums(x: np.ndarray, dy: np.ndarray, mean: np.ndarray, inv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sum of dy, sum of dy * (x - mean)) of every channel, in float64."""
    if is_far(mean, inv) or x.dtype == np.float64:
        return sums_of(dy, x, mean.astype(x.dtype))
    total, product = sums_of(dy, x, None)
    return total, product - mean.astype(np.float64) * total


def gradient(x: np.ndarray, dy: np.ndarray, mean: np.ndarray, inv: np.ndarray, g: np.ndarray, h: np.ndarray, c: np.ndarray,
             dx: np.ndarray) -> None:
    """dx = dy * g + (x - mean) * h + c, per channel. As dy * g + x * h + (c - mean * h), unless the mean is large."""
    far, center = is_far(mean, inv), mean.astype(x.dtype)
    g, h, c = (a.astype(x.dtype) for a in (g, h, c if far else c - mean * h))

    def body(index: tuple) -> None:
        part, source = dx[index], x[index]
        other, = scratch(x.dtype, part.shape)
        if far:
            np.subtract(source, column(center, index), out=other)
            source = other
        np.multiply(dy[index], column(g, index), out=part)
        np.multiply(source, column(h, index), out=other)
        part += other
        part += column(c, index)

    for_each(body, split(x.shape))
