"""Average pooling to a given output size, whatever the input's."""
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module
from minidl.function import Function, Refusal, Sample
from minidl.ops.windows import check_images, pair
from minidl.threads import blas_on_one_thread


def averaging_matrix(size: int, output: int) -> np.ndarray:
    """A (output, size): row i holds 1 / length over its window, from floor(i size / output) to ceil((i+1) size / output)."""
    A = np.zeros((output, size))
    for i in range(output):
        start, end = i * size // output, -(-(i + 1) * size // output)
        A[i, start:end] = 1 / (end - start)
    return A


class AdaptiveAvgPool2d(Function):
    """y[n, c] = A x[n, c] B^T, with averaging matrices A (OH, H) over rows and B (OW, W) over columns

    x (N, C, H, W) -> y (N, C, OH, OW). Windows differ by at most one pixel in size and may overlap (torch's rule).
    output_size 1 is global average pooling (Lin et al. 2014, section 3.2).
    """

    name = "adaptive_avg_pool2d"

    def __init__(self, output_size: Any = 1) -> None:
        self.output_size = pair(self.name, "output_size", output_size, 1)

    def forward(self, x: Array) -> Array:
        self.output_shape(x.shape)
        xp = array_module(x)
        self.A, self.B = (xp.asarray(averaging_matrix(n, o), x.dtype) for n, o in zip(x.shape[2:], self.output_size))
        return self.A @ x @ self.B.T

    def backward(self, dy: Array) -> Array:
        return self.A.T @ dy @ self.B

    def forward_cpu(self, x: Array) -> Array:
        with blas_on_one_thread():  # the matrices are small
            return self.forward(x)

    def backward_cpu(self, dy: Array) -> Array:
        with blas_on_one_thread():
            return self.backward(dy)

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        (x,) = shapes
        check_images(self.name, x)
        if 0 in x[2:]:
            raise ValueError(f"adaptive_avg_pool2d: x {x} has no pixels to average")
        return *x[:2], *self.output_size

    def window(self, *shapes: tuple) -> tuple:
        (_, _, H, W), (OH, OW) = shapes[0], self.output_size  # the largest window, and the mean distance of two
        KH, KW = (int((averaging_matrix(n, o) > 0).sum(axis=1).max()) for n, o in ((H, OH), (W, OW)))
        return (KH, KW), (H / OH, W / OW)

    @staticmethod
    def naive(x: np.ndarray, output_size: Any = 1) -> np.ndarray:
        (N, C, H, W), (OH, OW) = x.shape, pair("", "", output_size, 0)
        y = np.zeros((N, C, OH, OW))
        for n, c, i, j in np.ndindex(y.shape):
            rows = range(int(np.floor(i * H / OH)), int(np.ceil((i + 1) * H / OH)))
            columns = range(int(np.floor(j * W / OW)), int(np.ceil((j + 1) * W / OW)))
            for h in rows:
                for v in columns:
                    y[n, c, i, j] += x[n, c, h, v] / (len(rows) * len(columns))
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for shape, output in [((2, 3, 5, 4), (2, 3)), ((1, 2, 7, 3), 1), ((1, 1, 2, 3), (4, 3)), ((0, 2, 4, 4), 2)]:
            yield (rng.standard_normal(shape),), dict(output_size=output)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.ones((3, 4, 4)),), {}, "add the batch axis"
        yield (np.ones((1, 3, 4, 4)),), dict(output_size=0), "at least 1"
        yield (np.ones((1, 3, 0, 4)),), {}, "no pixels"


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    """x (N, C, H, W) -> (N, C, *output_size): averages over a grid of nearly equal windows."""
    return apply(AdaptiveAvgPool2d(output_size), x)
