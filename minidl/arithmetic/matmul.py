"""The matrix product behind `x @ y`."""
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.arithmetic.broadcasting import broadcast_shape, sum_to
from minidl.backend import Array
from minidl.function import Function, Refusal, Sample


class MatMul(Function):
    """z[..., i, j] = sum over k of x[..., i, k] * y[..., k, j]

    x (..., M, K), y (..., K, P) -> z (..., M, P); leading axes broadcast. A vector on the left is a row, one on the
    right a column, and its axis is gone from z (np.matmul's rule).
    """

    name, accepts_integers = "matmul", True

    def forward(self, x: Array, y: Array) -> Array:
        if x.ndim == 0 or y.ndim == 0:
            raise ValueError(f"matmul: needs at least one axis on each side, got {x.shape} @ {y.shape}: use * for numbers")
        inner = y.shape[0] if y.ndim == 1 else y.shape[-2]
        if x.shape[-1] != inner:
            raise ValueError(
                f"matmul: x {x.shape} has {x.shape[-1]} columns but y {y.shape} has {inner} rows; "
                "they must be equal: is one of them to be transposed (.T)?"
            )
        broadcast_shape("matmul, leading axes", x.shape[:-2], y.shape[:-2])
        self.shapes = x.shape, y.shape
        rows, columns = x[None, :] if x.ndim == 1 else x, y[:, None] if y.ndim == 1 else y
        self.matrix_shapes = rows.shape, columns.shape
        self.x: Any = rows if self.needs[1] else None  # each for the other's gradient
        self.y: Any = columns if self.needs[0] else None
        return x @ y

    def backward(self, dz: Array) -> tuple:
        x_shape, y_shape = self.shapes
        if len(y_shape) == 1:
            dz = dz[..., None]
        if len(x_shape) == 1:
            dz = dz[..., None, :]
        dx = dy = None
        if self.needs[0]:
            dx = sum_to(dz @ self.y.swapaxes(-1, -2), self.matrix_shapes[0]).reshape(x_shape)
        if self.needs[1]:
            dy = sum_to(self.x.swapaxes(-1, -2) @ dz, self.matrix_shapes[1]).reshape(y_shape)
        return dx, dy

    @staticmethod
    def naive(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        rows = x[None, :] if x.ndim == 1 else x
        columns = y[:, None] if y.ndim == 1 else y
        lead = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        rows = np.broadcast_to(rows, lead + rows.shape[-2:])
        columns = np.broadcast_to(columns, lead + columns.shape[-2:])
        M, K, P = *rows.shape[-2:], columns.shape[-1]
        z = np.zeros((*lead, M, P))
        for b in np.ndindex(*lead):
            for i, j, k in np.ndindex(M, P, K):
                z[*b, i, j] += rows[*b, i, k] * columns[*b, k, j]
        if y.ndim == 1:
            z = z[..., 0]
        return z[..., 0, :] if x.ndim == 1 and y.ndim > 1 else z[..., 0] if x.ndim == 1 else z

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        pairs = [((2, 3), (3, 4)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((2, 1, 2, 3), (4, 3, 1)),
                 ((2, 2, 3), (3,)), ((3,), (2, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3))]
        for x_shape, y_shape in pairs:
            yield (rng.standard_normal(x_shape), rng.standard_normal(y_shape)), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((2, 3)), np.ones((4, 2))), {}, "transposed"
        yield (np.ones(()), np.ones((4, 2))), {}, "use *"
        yield (np.ones((2, 2, 3)), np.ones((3, 3, 2))), {}, "broadcast"
