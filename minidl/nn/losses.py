"""Losses as layers: the mean over all examples, a 0-d tensor."""
from typing import Any

from minidl.autograd import Tensor
from minidl.nn.checks import whole_number
from minidl.nn.module import Module
from minidl.ops import cross_entropy, mse


class CrossEntropyLoss(Module):
    """loss = mean over n of -log softmax(logits[n])[labels[n]]

    logits (N, C) with integer labels (N,), or per pixel (N, C, H, W) with (N, H, W). Places whose label is
    `ignore_index` count in neither the sum nor the mean; None, the default, ignores nothing (PyTorch's ignores -100).
    """

    def __init__(self, *, ignore_index: int | None = None) -> None:
        least = -(2**63)
        self.ignore_index = None if ignore_index is None else whole_number(
            "CrossEntropyLoss", "ignore_index", ignore_index, least)

    def forward(self, logits: Any, labels: Any) -> Tensor:
        return cross_entropy(logits, labels, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        return "" if self.ignore_index is None else f"ignore_index={self.ignore_index}"


class MSELoss(Module):
    """loss = mean of (x - target)**2 over all elements; x and target of one shape."""

    def forward(self, x: Any, target: Any) -> Tensor:
        return mse(x, target)
