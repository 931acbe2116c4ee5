"""Batch normalisation: with the statistics of the batch (training) or with running ones (evaluation)."""
import math
from collections.abc import Iterator

import numpy as np

from minidl.autograd import Tensor, apply, as_tensor, computing
from minidl.backend import Array, array_module, device_of, is_array
from minidl.cuda import Kernels, contiguous, empty
from minidl.function import Function, Refusal, Sample, check_flag, check_number
from minidl.ops import batch_norm_cpu as cpu

KERNELS = Kernels(__file__)


def _per_channel(a: Array, ndim: int) -> Array:
    """(C,) -> (1, C, 1, ...), to meet an array of `ndim` axes."""
    return a.reshape(1, -1, *[1] * (ndim - 2))


def _check(name: str, x: tuple, **per_channel: tuple) -> tuple[int, ...]:
    """These are shapes: x (N, C, ...), the others (C,). Returns all axes but the channels'."""
    if len(x) < 2:
        raise ValueError(f"{name}: x must be (N, C, ...) with channels on axis 1, got shape {x}")
    for key, shape in per_channel.items():
        if shape != (x[1],):
            hint = "; images are (N, C, H, W): did you pass (N, H, W, C)?" if shape == x[-1:] else ""
            raise ValueError(f"{name}: {key} must be ({x[1]},), one number per channel of x {x}, got {shape}{hint}")
    return (0, *range(2, len(x)))


def _check_running(x: Array, training: bool, **running: Array) -> None:
    """The running statistics are floating arrays on x's device, one number per channel, and may be written in training."""
    for key, a in running.items():
        if not is_array(a) or a.dtype.kind != "f":
            arrived = a.dtype if is_array(a) else type(a).__name__
            raise TypeError(f"batch_norm: {key} must be a floating array, which training moves in place, got {arrived}: "
                            "use np.zeros(C, np.float32) for the mean and np.ones(C, np.float32) for the variance")
        if device_of(a) != device_of(x):
            raise ValueError(f"batch_norm: x is on {device_of(x)}, {key} on {device_of(a)}: move the net with net.to(...)")
        if training and not getattr(a.flags, "writeable", True):
            raise ValueError(f"batch_norm: {key} is read-only memory, but training moves it: pass a copy")
    if x.ndim >= 2:
        _check("batch_norm", x.shape, **{key: a.shape for key, a in running.items()})


def _sizes(x: tuple) -> tuple[int, int, int]:
    """x (N, C, ...) as (N, C, S): S values of a channel lie side by side."""
    return x[0], x[1], math.prod(x[2:])


def _gradient_sums_cuda(dy: Array, x: Array, mean: Array, scale: Array) -> tuple[Array, Array]:
    """dw and db of either batch norm on the GPU."""
    N, C, S = _sizes(dy.shape)
    dw, db = empty((C,), dy), empty((C,), dy)
    KERNELS.launch_rows("gradient_sums", C, N * S, dy, x, mean, scale, dw, db, N, C, S)
    return dw, db


class BatchNorm(Function):
    """y = w * x_hat + b,  x_hat = (x - mean) / sqrt(var + eps), mean and biased var over all axes but the channels'

    x (N, C) or (N, C, H, W), w (gamma) and b (beta) (C,) -> y, same shape.
    Ioffe and Szegedy 2015, algorithm 1; dx = w / sqrt(var + eps) * (dy - mean(dy) - x_hat * mean(dy * x_hat)).
    """

    name, keeps_output = "batch_norm", False

    def __init__(self, eps: float = 1e-5) -> None:
        self.eps = check_number(self.name, "eps", eps, 0)

    def forward(self, x: Array, w: Array, b: Array) -> Array:
        self.output_shape(x.shape, w.shape, b.shape)
        self.axes = (0, *range(2, x.ndim))
        self.count = math.prod(x.shape[a] for a in self.axes)
        self.mean, self.var = x.mean(axis=self.axes), x.var(axis=self.axes)  # (C,); also for the running statistics
        self.scale = 1 / array_module(x).sqrt(self.var + self.eps)
        self.x_hat = (x - _per_channel(self.mean, x.ndim)) * _per_channel(self.scale, x.ndim)
        self.w = w
        return self.x_hat * _per_channel(w, x.ndim) + _per_channel(b, x.ndim)

    def forward_cpu(self, x: Array, w: Array, b: Array) -> Array:
        self.output_shape(x.shape, w.shape, b.shape)
        self.count = x.shape[0] * math.prod(x.shape[2:])
        self.x, self.w, y = cpu.rows(x), w, np.empty(x.shape, x.dtype)
        mean, var = cpu.statistics(self.x)
        self.inv = 1 / np.sqrt(var + self.eps)  # float64, as the mean
        self.true_mean = mean
        self.mean, self.var = mean.astype(x.dtype), var.astype(x.dtype)
        cpu.normalise(self.x, mean, w=w, inv=self.inv, b=b, y=cpu.rows(y))
        return y

    def backward_cpu(self, dy: Array) -> tuple:
        rows = cpu.rows(dy)
        db, product = cpu.gradient_sums(self.x, rows, self.true_mean, self.inv)
        dw = product * self.inv
        dx = None
        if self.needs[0]:
            scale = self.w * self.inv
            dx = np.empty(dy.shape, dy.dtype)
            cpu.gradient(self.x, rows, self.true_mean, self.inv, scale, -scale * self.inv * dw / self.count,
                         -scale * db / self.count, cpu.rows(dx))
        return dx, dw.astype(dy.dtype), db.astype(dy.dtype)

    def forward_cuda(self, x: Array, w: Array, b: Array) -> Array:
        self.output_shape(x.shape, w.shape, b.shape)
        self.x, self.w, y = contiguous(x), contiguous(w), empty(x.shape, x)
        N, C, S = _sizes(x.shape)
        self.count, xp = N * S, array_module(x)
        self.true_mean, true_var = xp.empty(C, np.float64), xp.empty(C, np.float64)
        KERNELS.launch_rows("statistics", C, N * S, self.x, self.true_mean, true_var, N, C, S)
        self.mean, self.var = self.true_mean.astype(x.dtype), true_var.astype(x.dtype)  # for the running statistics
        self.scale = 1 / xp.sqrt(true_var + self.eps)
        KERNELS.launch("normalise", x.size, self.x, self.true_mean, self.scale, self.w, contiguous(b), y, x.size, C, S)
        return y

    def backward_cuda(self, dy: Array) -> tuple:
        dy = contiguous(dy)
        dw, db = _gradient_sums_cuda(dy, self.x, self.true_mean, self.scale)
        dx = None
        if self.needs[0]:
            dx, (_, C, S) = empty(dy.shape, dy), _sizes(dy.shape)
            KERNELS.launch("gradient", dy.size, dy, self.x, self.true_mean, self.scale, self.w, dw, db, dx, dy.size, C, S,
                           self.count)
        return dx, dw, db

    def backward(self, dy: Array) -> tuple:
        db = dy.sum(axis=self.axes)
        dw = (dy * self.x_hat).sum(axis=self.axes)
        dx = None
        if self.needs[0]:
            mean_dy, mean_dy_x = (_per_channel(total / self.count, dy.ndim) for total in (db, dw))
            dx = (dy - mean_dy - self.x_hat * mean_dy_x) * _per_channel(self.w * self.scale, dy.ndim)
        return dx, dw, db

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        x, w, b = shapes
        count = math.prod(x[a] for a in _check(self.name, x, w=w, b=b))
        if count < 2:
            raise ValueError(f"batch_norm: training needs at least two values per channel, x {x} has {count}: "
                             "use a larger batch, or evaluate with net.eval()")
        return x

    @staticmethod
    def naive(x: np.ndarray, w: np.ndarray, b: np.ndarray, eps: float = 1e-5) -> np.ndarray:
        y = np.zeros(x.shape)
        for c in range(x.shape[1]):
            values = [float(v) for v in x[:, c].flat]
            mean = math.fsum(values) / len(values)
            var = math.fsum((v - mean) ** 2 for v in values) / len(values)
            for i in np.ndindex(x[:, c].shape):
                j = (i[0], c, *i[1:])
                y[j] = w[c] * (x[j] - mean) / math.sqrt(var + eps) + b[c]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for shape, eps in [((3, 2, 2, 3), 1e-5), ((5, 3), 1e-3), ((1, 2, 3, 2), 0.5), ((1, 2, 2, 1), 0.5)]:
            C = shape[1]
            yield (rng.standard_normal(shape) * 2 + 1, rng.standard_normal(C), rng.standard_normal(C)), dict(eps=eps)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        w = np.ones(3)
        yield (np.ones((2, 4, 4, 3)), w, w), {}, "did you pass (N, H, W, C)?"
        yield (np.ones((1, 3)), w, w), {}, "at least two values per channel"
        yield (np.ones((0, 3)), w, w), {}, "at least two values per channel"
        yield (np.ones(3), w, w), {}, "channels on axis 1"
        yield (np.ones((4, 3)), w, np.ones(2)), {}, "b must be (3,)"
        yield (np.ones((4, 3)), w, w), dict(eps=-1), "eps must be finite and at least 0"


class BatchNormEval(Function):
    """y = w * (x - mean) / sqrt(var + eps) + b, with given mean and var: a fixed affine map per channel

    x (N, C) or (N, C, H, W); w, b, mean, var (C,) -> y, same shape.
    """

    name, keeps_output = "batch_norm_eval", False

    def __init__(self, eps: float = 1e-5) -> None:
        self.eps = check_number(self.name, "eps", eps, 0)

    def forward(self, x: Array, w: Array, b: Array, mean: Array, var: Array) -> Array:
        self.output_shape(x.shape, w.shape, b.shape, mean.shape, var.shape)
        self.axes = (0, *range(2, x.ndim))
        self.check_variance(var)
        self.w, self.scale = w, 1 / array_module(x).sqrt(var + self.eps)
        self.x_hat = (x - _per_channel(mean, x.ndim)) * _per_channel(self.scale, x.ndim)
        return self.x_hat * _per_channel(w, x.ndim) + _per_channel(b, x.ndim)

    def forward_cpu(self, x: Array, w: Array, b: Array, mean: Array, var: Array) -> Array:
        self.output_shape(x.shape, w.shape, b.shape, mean.shape, var.shape)
        self.check_variance(var)
        self.x, self.w, self.mean, self.scale = cpu.rows(x), w, mean, 1 / np.sqrt(var + self.eps)
        y = np.empty(x.shape, x.dtype)
        cpu.normalise(self.x, mean, w=w, inv=self.scale, b=b, y=cpu.rows(y))
        return y

    def backward_cpu(self, dy: Array) -> tuple:
        total, product = cpu.gradient_sums(self.x, cpu.rows(dy), self.mean, self.scale)
        db, dw = total.astype(dy.dtype), (product * self.scale).astype(dy.dtype)
        dx = None
        if self.needs[0]:
            dx = np.empty(dy.shape, dy.dtype)
            zero = np.zeros_like(self.w)
            cpu.normalise(cpu.rows(dy), zero, w=self.w, inv=self.scale, b=zero, y=cpu.rows(dx))
        return dx, dw, db, -db * self.w * self.scale, -0.5 * dw * self.w * self.scale**2

    def forward_cuda(self, x: Array, w: Array, b: Array, mean: Array, var: Array) -> Array:
        """Does not look whether a variance is negative, for which the host would have to wait: that makes NaN."""
        self.output_shape(x.shape, w.shape, b.shape, mean.shape, var.shape)
        self.x, self.w, y = contiguous(x), contiguous(w), empty(x.shape, x)
        self.mean = mean.astype(np.float64)
        self.scale = 1 / array_module(x).sqrt(var.astype(np.float64) + self.eps)
        _, C, S = _sizes(x.shape)
        KERNELS.launch("normalise", x.size, self.x, self.mean, self.scale, self.w, contiguous(b), y, x.size, C, S)
        return y

    def backward_cuda(self, dy: Array) -> tuple:
        dy, scale = contiguous(dy), self.scale.astype(dy.dtype)
        dw, db = _gradient_sums_cuda(dy, self.x, self.mean, self.scale)
        dx = None
        if self.needs[0]:
            dx, (_, C, S) = empty(dy.shape, dy), _sizes(dy.shape)
            KERNELS.launch("gradient_of_fixed", dy.size, dy, self.scale, self.w, dx, dy.size, C, S)
        return dx, dw, db, -db * self.w * scale, -0.5 * dw * self.w * scale**2

    def check_variance(self, var: Array) -> None:
        if bool((var < 0).any()):
            raise ValueError("batch_norm: running_var holds a negative number, which no variance is: "
                             "were mean and variance swapped on loading?")

    def backward(self, dy: Array) -> tuple:
        db = dy.sum(axis=self.axes)
        dw = (dy * self.x_hat).sum(axis=self.axes)
        dx = dy * _per_channel(self.w * self.scale, dy.ndim) if self.needs[0] else None
        return dx, dw, db, -db * self.w * self.scale, -0.5 * dw * self.w * self.scale**2

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        x, w, b, mean, var = shapes
        _check("batch_norm", x, w=w, b=b, running_mean=mean, running_var=var)
        return x

    @staticmethod
    def naive(x: np.ndarray, w: np.ndarray, b: np.ndarray, mean: np.ndarray, var: np.ndarray,
              eps: float = 1e-5) -> np.ndarray:
        y = np.zeros(x.shape)
        for i in np.ndindex(x.shape):
            c = i[1]
            y[i] = w[c] * (x[i] - mean[c]) / math.sqrt(var[c] + eps) + b[c]
        return y

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for shape, eps in [((3, 2, 2, 3), 1e-5), ((1, 3), 1e-2), ((0, 2, 3, 2), 1e-5)]:
            w, b, mean = (rng.standard_normal(shape[1]) for _ in range(3))
            yield (rng.standard_normal(shape), w, b, mean, rng.uniform(0.5, 2.0, shape[1])), dict(eps=eps)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        w = np.ones(3)
        yield (np.ones((4, 3)), w, np.ones(2), w, w), {}, "b must be (3,)"
        yield (np.ones((4, 3)), w, w, np.ones(2), w), {}, "running_mean must be (3,)"
        yield (np.ones((4, 3)), w, w, w, -w), {}, "running_var holds a negative number"


def batch_norm(x: Tensor, running_mean: Array, running_var: Array, w: Tensor, b: Tensor, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Normalises every channel of x (N, C, ...), then scales by w and shifts by b, all (C,).

    training: uses the batch's statistics and moves the running arrays towards them, in place:
    running = (1 - momentum) * running + momentum * batch, with the unbiased variance. Else: uses the running ones.
    """
    x = as_tensor(x)
    check_flag("batch_norm", "training", training)
    _check_running(x.data, training, running_mean=running_mean, running_var=running_var)
    if not training:
        dtype = x.dtype if x.dtype.kind == "f" else running_mean.dtype
        return apply(BatchNormEval(eps), x, w, b, running_mean.astype(dtype), running_var.astype(dtype))
    function, momentum = BatchNorm(eps), check_number("batch_norm", "momentum", momentum, 0)
    y = apply(function, x, w, b)
    if not computing():
        return y
    running_mean *= 1 - momentum
    running_mean += momentum * function.mean
    running_var *= 1 - momentum
    running_var += momentum * function.var * (function.count / (function.count - 1))
    return y
