"""The fully connected layer on the CPU, fast: y = x @ w.T cut so that every weight is read once, as it lies, by one thread.

With few rows in x (the images of a batch, say), nearly all time goes into reading the weights: 400 MB in VGG's first layer.
So where there are fewer rows than weights each thread has some of the weights, forward and backward, else some of the rows.

Above about a million multiplications BLAS copies its matrices into an order of its own before it multiplies. That is dear where
each weight is used a few times only, so products with very few rows are cut into small ones.
"""
from collections.abc import Iterator

import numpy as np

from minidl.threads import SMALL_PRODUCT, for_each, ranges, shares

FEW_ROWS = 8
"""Up to so many rows, products are cut into small ones."""

ENOUGH = 2**20
"""Multiplications that a thread should have to do."""


def shares_of_work(count: int, each: int) -> list[slice]:
    """range(count) in a part per thread, if there is work enough; one of `count` takes `each` multiplications."""
    return shares(count, least=ENOUGH // max(1, each))


def small(part: slice, rows: np.ndarray) -> Iterator[slice]:
    """Some of the weights, cut so that the product of each part with very few rows is small."""
    size = part.stop - part.start
    if len(rows) <= FEW_ROWS:
        size = SMALL_PRODUCT // max(1, rows.size)
    for cut in ranges(part.stop - part.start, max(1, size)):
        yield slice(part.start + cut.start, part.start + cut.stop)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, y: np.ndarray) -> None:
    """Fills y (rows, F) with x (rows, D) @ w.T + b."""
    def some_rows(part: slice) -> None:
        np.matmul(x[part], w.T, out=y[part])
        if b is not None:
            y[part] += b

    def some_weights(part: slice) -> None:
        for cut in small(part, x):
            turned = w[cut] @ x.T
            y[:, cut] = turned.T if b is None else turned.T + b[cut]

    if len(x) > len(w):
        for_each(some_rows, shares_of_work(len(x), each=w.size))
    else:
        for_each(some_weights, shares_of_work(len(w), each=x.size))


def gradient_of_x(dy: np.ndarray, w: np.ndarray, dx: np.ndarray) -> None:
    """Fills dx (rows, D) with dy (rows, F) @ w."""
    F, D = w.shape

    def some_rows(part: slice) -> None:
        np.matmul(dy[part], w, out=dx[part])

    def some_columns(part: slice) -> None:
        np.matmul(dy, w[:, part], out=dx[:, part])

    if len(dy) > F:
        for_each(some_rows, shares_of_work(len(dy), each=w.size))
    elif len(dy) > FEW_ROWS:
        for_each(some_columns, shares_of_work(D, each=dy.size))
    else:
        sum_over_weights(dy, w, dx)


def sum_over_weights(dy: np.ndarray, w: np.ndarray, dx: np.ndarray) -> None:
    """The same for very few rows. Every thread sums over its share of the weights; these sums are added in order."""
    parts = shares_of_work(len(w), each=dx.size)
    sums = np.zeros((len(parts), *dx.shape), dx.dtype)

    def body(k: int) -> None:
        for cut in small(parts[k], dx):
            sums[k] += dy[:, cut] @ w[cut]

    for_each(body, range(len(parts)))
    np.sum(sums, axis=0, out=dx)


def gradient_of_w(x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
    """Fills dw (F, D) with dy.T @ x."""
    def body(part: slice) -> None:
        for cut in small(part, x):
            np.matmul(dy[:, cut].T, x, out=dw[cut])

    for_each(body, shares_of_work(len(dw), each=x.size))
