"""The fully connected layer."""
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array
from minidl.function import Function, Refusal, Sample
from minidl.threads import for_each, ranges, shares

SMALL = 10**6
"""Up to so many multiplications, BLAS takes matrices as they lie; for more it first copies them into an order of its own, which
is dear where each weight is used a few times only."""

FEW_ROWS = 8
"""Up to so many rows, products with the weights are cut into small ones."""


def shares_of_work(count: int, each: int) -> list[slice]:
    """range(count) in a part per thread, if a thread then has some 2**20 multiplications to do, where one of `count` takes
    `each`."""
    return shares(count, least=2**20 // max(1, each))


class Linear(Function):
    """y[..., f] = b[f] + sum over d of w[f, d] * x[..., d]

    x (..., D), w (F, D), b (F,) or none -> y (..., F).
    """

    name, keeps_output = "linear", False

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self.output_shape(x.shape, w.shape, None if b is None else b.shape)
        self.x_shape, self.w_shape, self.has_bias = x.shape, w.shape, b is not None
        self.x: Any = x if self.needs[1] else None  # each for the other's gradient
        self.w: Any = w if self.needs[0] else None
        y = x @ w.T
        return y if b is None else y + b

    def backward(self, dy: Array) -> tuple:
        F, D = self.w_shape
        rows = dy.reshape(dy.size // F, F)
        dx = (rows @ self.w).reshape(self.x_shape) if self.needs[0] else None
        dw = rows.T @ self.x.reshape(len(rows), D) if self.needs[1] else None
        return (dx, dw, rows.sum(axis=0)) if self.has_bias else (dx, dw)

    def forward_cpu(self, x: Array, w: Array, b: Array | None = None) -> Array:
        shape = self.output_shape(x.shape, w.shape, None if b is None else b.shape)
        self.x_shape, self.w_shape, self.has_bias = x.shape, w.shape, b is not None
        self.x, self.w = x if self.needs[1] else None, w if self.needs[0] else None
        rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        y = np.empty(shape, x.dtype)
        multiply = self.by_rows if len(rows) > len(w) else self.by_weights
        multiply(rows, w, b, y.reshape(len(rows), len(w)))
        return y

    def by_rows(self, rows: Array, w: Array, b: Array | None, y: Array) -> None:
        """y = rows @ w.T + b; each thread has some of the rows."""
        def body(part: slice) -> None:
            np.matmul(rows[part], w.T, out=y[part])
            if b is not None:
                y[part] += b

        for_each(body, shares_of_work(len(rows), each=w.size))

    def by_weights(self, rows: Array, w: Array, b: Array | None, y: Array) -> None:
        """The same, turned: each thread has some of the weights, and reads them as they lie in memory."""
        turned = np.empty((len(w), len(rows)), y.dtype)

        def body(part: slice) -> None:
            for few in self.few(part, rows):
                np.matmul(w[few], rows.T, out=turned[few])
            y[:, part] = turned[part].T if b is None else turned[part].T + b[part]

        for_each(body, shares_of_work(len(w), each=rows.size))

    def backward_cpu(self, dy: Array) -> tuple:
        F, D = self.w_shape
        rows = dy.reshape(dy.size // F, F)
        dx = dw = None
        if self.needs[0]:
            dx = self.gradient_of_x(rows).reshape(self.x_shape)
        if self.needs[1]:
            dw = self.gradient_of_w(rows)
        return (dx, dw, rows.sum(axis=0)) if self.has_bias else (dx, dw)

    @staticmethod
    def few(part: slice, rows: Array) -> list[slice]:
        """Some of the weights, cut so that each product with few rows is a small one."""
        step = max(1, SMALL // max(1, rows.size)) if len(rows) <= FEW_ROWS else part.stop - part.start
        return [slice(part.start + few.start, part.start + few.stop) for few in ranges(part.stop - part.start, max(1, step))]

    def gradient_of_x(self, rows: Array) -> Array:
        F, D = self.w_shape
        if len(rows) <= FEW_ROWS:
            return self.sum_over_weights(rows)
        dx = np.empty((len(rows), D), rows.dtype)

        def some_rows(part: slice) -> None:
            np.matmul(rows[part], self.w, out=dx[part])

        def some_columns(part: slice) -> None:
            np.matmul(rows, self.w[:, part], out=dx[:, part])

        if len(rows) > F:
            for_each(some_rows, shares_of_work(len(rows), each=self.w.size))
        else:
            for_each(some_columns, shares_of_work(D, each=rows.size))
        return dx

    def sum_over_weights(self, rows: Array) -> Array:
        """dx of few rows: each thread has some of the weights, and reads them as they lie in memory."""
        F, D = self.w_shape
        parts = shares_of_work(F, each=len(rows) * D)
        sums = np.zeros((len(parts), len(rows), D), rows.dtype)

        def body(k: int) -> None:
            for few in self.few(parts[k], sums[k]):
                sums[k] += rows[:, few] @ self.w[few]

        for_each(body, range(len(parts)))
        return sums.sum(axis=0)

    def gradient_of_w(self, rows: Array) -> Array:
        F, D = self.w_shape
        x, dw = self.x.reshape(len(rows), D), np.empty((F, D), rows.dtype)

        def body(part: slice) -> None:
            for few in self.few(part, x):
                np.matmul(rows[:, few].T, x, out=dw[few])

        for_each(body, shares_of_work(F, each=x.size))
        return dw

    def output_shape(self, x: tuple, w: tuple, b: tuple | None = None) -> tuple[int, ...]:  # type: ignore[override]
        if len(w) != 2 or 0 in w:
            raise ValueError(f"linear: w must be (out_features, in_features), none of them 0, got shape {w}")
        if not x or x[-1] != w[1]:
            hint = (": flatten images first, x.reshape(len(x), -1)" if len(x) > 2 else
                    ": w is (out_features, in_features); does the layer before it end in as many features?")
            raise ValueError(f"linear: x {x} must end in {w[1]} features (w {w}){hint}")
        if b is not None and b != w[:1]:
            raise ValueError(f"linear: b must be {w[:1]}, one bias per output feature, got {b}")
        return *x[:-1], w[0]

    def multiply_adds(self, y_shape: tuple, *shapes: tuple) -> int:
        rows = 1
        for n in y_shape[:-1]:
            rows *= n
        return rows * shapes[1][0] * shapes[1][1]

    @staticmethod
    def naive(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        y = np.zeros((*x.shape[:-1], len(w)))
        for i in np.ndindex(y.shape):
            for d in range(w.shape[1]):
                y[i] += w[i[-1], d] * x[(*i[:-1], d)]
            if b is not None:
                y[i] += b[i[-1]]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        w, b = rng.standard_normal((4, 3)), rng.standard_normal(4)
        yield (rng.standard_normal((2, 3)), w, b), {}
        yield (rng.standard_normal((2, 3)), w), {}
        yield (rng.standard_normal((3, 5)), rng.standard_normal((2, 5))), {}  # fewer outputs than inputs
        yield (rng.standard_normal((2, 5, 3)), w, b), {}
        yield (rng.standard_normal((5, 7)), rng.standard_normal((2, 7))), {}  # more rows than outputs, more inputs than rows
        yield (rng.standard_normal(3), w, b), {}
        yield (rng.standard_normal((0, 3)), w, b), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((2, 4)), np.ones((4, 3))), {}, "must end in 3 features"
        yield (np.ones((2, 3, 4, 4)), np.ones((5, 48))), {}, "flatten images first"
        yield (np.ones((2, 3)), np.ones((4, 3)), np.ones(3)), {}, "one bias per output feature"
        yield (np.ones((2, 3)), np.ones(3)), {}, "w must be"


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """x (..., D), w (F, D), b (F,) -> x @ w.T + b (..., F)."""
    return apply(Linear(), x, w) if b is None else apply(Linear(), x, w, b)
