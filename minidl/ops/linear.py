"""The fully connected layer."""
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array
from minidl.function import Function, Refusal, Sample
from minidl.ops import linear_cpu


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
        y = np.empty(shape, x.dtype)
        rows = math.prod(shape[:-1])
        linear_cpu.linear(x.reshape(rows, w.shape[1]), w, b, y.reshape(rows, len(w)))
        return y

    def backward_cpu(self, dy: Array) -> tuple:
        F, D = self.w_shape
        rows = dy.reshape(dy.size // F, F)
        dx = np.empty(self.x_shape, dy.dtype) if self.needs[0] else None
        dw = np.empty(self.w_shape, dy.dtype) if self.needs[1] else None
        if dx is not None:
            linear_cpu.gradient_of_x(rows, self.w, dx.reshape(len(rows), D))
        if dw is not None:
            linear_cpu.gradient_of_w(self.x.reshape(len(rows), D), rows, dw)
        return (dx, dw, rows.sum(axis=0)) if self.has_bias else (dx, dw)

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
