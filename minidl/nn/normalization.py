"""Normalisation layers: over the batch, and across neighbouring channels."""
from typing import Any

import numpy as np

from minidl.autograd import Tensor, as_tensor, computing
from minidl.nn.checks import real_number, whole_number
from minidl.nn.module import Module, Parameter
from minidl.ops import batch_norm, local_response_norm, lrn


class _BatchNorm(Module):
    """What BatchNorm1d and BatchNorm2d share: all but the shapes they take."""

    axes: dict[int, str]
    """Numbers of axes that the layer takes, with how errors write the shape."""

    folded = False
    """Whether `fuse` has put what this layer does into the convolution in front of it."""

    running_mean: Any
    running_var: Any
    num_batches_tracked: Any

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        who = type(self).__name__
        self.num_features = whole_number(who, "num_features", num_features)
        self.eps = real_number(who, "eps", eps, least=0)
        self.momentum = real_number(who, "momentum", momentum, least=0, most=1)
        self.weight = Parameter(np.ones(self.num_features, np.float32))
        self.bias = Parameter(np.zeros(self.num_features, np.float32))
        self.register_buffer("running_mean", np.zeros(self.num_features, np.float32))
        self.register_buffer("running_var", np.ones(self.num_features, np.float32))
        self.register_buffer("num_batches_tracked", np.array(0, np.int64))

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        self.check(x.shape)
        if self.folded:
            return x
        y = batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=self.training,
                       momentum=self.momentum, eps=self.eps)
        if self.training and computing():
            self.num_batches_tracked += 1
        return y

    def check(self, shape: tuple[int, ...]) -> None:
        who = type(self).__name__
        if len(shape) not in self.axes:
            other = "BatchNorm2d takes images" if len(shape) == 4 else "BatchNorm1d takes (N, C) and (N, C, L)"
            hint = f": {other}" if 2 <= len(shape) <= 4 and who not in other else ""
            raise ValueError(f"{who}: x must be {' or '.join(self.axes.values())}, "
                             f"got shape {shape} with {len(shape)} axes{hint}")
        if shape[1] != self.num_features:
            hint = ": are the channels last? They belong on axis 1" if shape[-1] == self.num_features else ""
            raise ValueError(f"{who}: num_features is {self.num_features}, but x {shape} has {shape[1]} channels{hint}")

    def extra_repr(self) -> str:
        folded = ", folded into the convolution" if self.folded else ""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}{folded}"


class BatchNorm1d(_BatchNorm):
    """y = weight * (x - mean) / sqrt(var + eps) + bias, per feature

    x (N, C) or (N, C, L) -> y, same shape. See BatchNorm2d.
    """

    axes = {2: "(N, C)", 3: "(N, C, L)"}
    can_be_folded = True


class BatchNorm2d(_BatchNorm):
    """y = weight * (x - mean) / sqrt(var + eps) + bias, per channel

    x (N, C, H, W) -> y, same shape. Training: mean and biased variance of the batch over N, H and W; each batch counts
    in `num_batches_tracked` and moves the running statistics, running = (1 - momentum) * running + momentum * batch,
    the variance unbiased there. Evaluation: the running statistics. Ioffe and Szegedy 2015.
    """

    axes = {4: "images (N, C, H, W)"}
    can_be_folded = True


class LocalResponseNorm(Module):
    """y[c] = x[c] / (k + alpha / size * sum of x**2 over `size` neighbouring channels) ** beta: PyTorch's and Caffe's

    x (N, C, ...) -> y, same shape. LRN is the paper's, in which alpha is not divided.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        who = type(self).__name__
        self.size = whole_number(who, "size", size)
        self.alpha, self.beta, self.k = (
            real_number(who, name, value) for name, value in (("alpha", alpha), ("beta", beta), ("k", k)))

    def forward(self, x: Any) -> Tensor:
        return local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class LRN(Module):
    """y[c] = x[c] / (k + alpha * sum of x**2 over n neighbouring channels) ** beta: the paper's

    x (N, C, ...) -> y, same shape. Krizhevsky et al. 2012, section 3.3.
    """

    def __init__(self, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> None:
        self.n = whole_number("LRN", "n", n)
        self.k, self.alpha, self.beta = (
            real_number("LRN", name, value) for name, value in (("k", k), ("alpha", alpha), ("beta", beta)))

    def forward(self, x: Any) -> Tensor:
        return lrn(x, self.n, self.k, self.alpha, self.beta)

    def extra_repr(self) -> str:
        return f"n={self.n}, k={self.k}, alpha={self.alpha}, beta={self.beta}"
