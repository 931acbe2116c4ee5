"""The loss of classification, from raw scores."""
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import Array, array_module, to_device
from minidl.cuda import Kernels, contiguous, empty
from minidl.function import Function, Refusal, Sample
from minidl.ops.softmax import launch_along_classes, log_probabilities
from minidl.threads import for_each, split_keeping_channels

KERNELS = Kernels(__file__)


class CrossEntropy(Function):
    """loss = mean over n of log(sum over c of e**logits[n, c]) - logits[n, labels[n]]

    logits (N, C), labels (N,) or, per pixel, logits (N, C, H, W), labels (N, H, W); labels are integers 0 <= label < C.
    Places whose label is `ignore_index` count in neither the sum nor the mean.  dlogits = (softmax - one_hot) / count
    """

    name, integer_inputs = "cross_entropy", ("labels",)

    def __init__(self, ignore_index: int | None = None) -> None:
        if ignore_index is not None and (isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer))):
            raise TypeError(f"cross_entropy: ignore_index must be an integer or None, got {ignore_index!r}")
        self.ignore_index = ignore_index

    def forward(self, logits: Array, labels: Array) -> Array:
        self.take_labels(logits, labels)
        self.log_probabilities = log_probabilities(logits, axis=1)
        return self.mean_loss()

    def backward(self, dy: Array) -> tuple:
        return self.gradient(..., dy), None

    def forward_cpu(self, logits: Array, labels: Array) -> Array:
        self.take_labels(logits, labels)
        self.log_probabilities = np.empty_like(logits)

        def body(some: tuple) -> None:
            self.log_probabilities[some] = log_probabilities(logits[some], axis=1)

        for_each(body, split_keeping_channels(logits.shape))
        return self.mean_loss()

    def backward_cpu(self, dy: Array) -> tuple:
        dlogits = np.empty_like(self.log_probabilities)

        def body(some: tuple) -> None:
            dlogits[some] = self.gradient(some, dy)

        for_each(body, split_keeping_channels(dlogits.shape))
        return dlogits, None

    def forward_cuda(self, logits: Array, labels: Array) -> Array:
        """Reads nothing back to the host, which would have to wait for it: a label that is no class makes the loss NaN, and so
        does a batch without a label that counts."""
        self.check_shapes(logits, labels)
        if labels.size == 0:
            raise self.nothing_to_average(labels)
        xp, (N, C) = array_module(logits), logits.shape[:2]
        inner = math.prod(logits.shape[2:])
        self.log_probabilities = empty(logits.shape, logits)
        launch_along_classes("log_softmax", 1, logits, self.log_probabilities)
        self.labels = contiguous(labels.astype(np.int64))
        losses, counts = xp.empty(N, np.float64), xp.empty(N, np.float64)  # of each image
        KERNELS.launch_rows("image_losses", N, inner, self.log_probabilities, self.labels, losses, counts, N, C, inner,
                            *self.ignored())
        self.count = counts.sum()
        return (losses.sum() / self.count).astype(logits.dtype)

    def backward_cuda(self, dy: Array) -> tuple:
        dlogits = empty(self.log_probabilities.shape, dy)
        KERNELS.launch("cross_entropy_gradient", dlogits.size, self.log_probabilities, self.labels, contiguous(dy), self.count,
                       dlogits, dlogits.size, dlogits.shape[1], math.prod(dlogits.shape[2:]), *self.ignored())
        return dlogits, None

    def ignored(self) -> tuple[bool, int]:
        """Whether a label is ignored, and which: as a kernel is told."""
        return (False, 0) if self.ignore_index is None else (True, int(self.ignore_index))

    def take_labels(self, logits: Array, labels: Array) -> None:
        """Checks the inputs, and keeps the labels with 0 where they do not count."""
        self.check_shapes(logits, labels)
        self.counts = labels != self.ignore_index if self.ignore_index is not None else labels == labels
        self.count = int(self.counts.sum())
        if self.count == 0:
            raise self.nothing_to_average(labels)
        self.labels = array_module(labels).where(self.counts, labels, 0).astype(np.int64)
        self.check_range(logits.shape[1])

    def nothing_to_average(self, labels: Array) -> ValueError:
        return ValueError(f"cross_entropy: there is no label to average over (labels {labels.shape}, "
                          f"ignore_index {self.ignore_index}): skip empty batches")

    def mean_loss(self) -> Array:
        return -(self.picked(self.log_probabilities) * self.counts).sum() / self.count

    def gradient(self, some: Any, dy: Array) -> Array:
        """dlogits of some places: an index of (N, C, ...), all classes in it."""
        labels, counts = self.labels[:, None][some], self.counts[:, None][some]
        xp = array_module(labels)
        dlogits = xp.exp(self.log_probabilities[some])
        classes = xp.arange(dlogits.shape[1]).reshape(-1, *[1] * (dlogits.ndim - 2))
        dlogits -= labels == classes  # one-hot
        dlogits *= counts * (dy / self.count)
        return dlogits

    def picked(self, scores: Array) -> Array:
        """scores[n, labels[n], ...]: (N, ...)"""
        return array_module(scores).take_along_axis(scores, self.labels[:, None], axis=1)[:, 0]

    def check_shapes(self, logits: Array, labels: Array) -> None:
        if labels.dtype.kind not in "iu":
            nan = labels.dtype.kind == "f" and bool(array_module(labels).isnan(labels).any())
            hint = ("they contain NaN: clean the data" if nan else
                    "one-hot rows become labels with labels.argmax(axis=1), whole numbers with labels.astype(np.int64)")
            raise TypeError(f"cross_entropy: labels must be integers (one class number each), got {labels.dtype} "
                            f"{labels.shape}; {hint}")
        if logits.ndim not in (2, 4) or labels.shape != logits.shape[:1] + logits.shape[2:]:
            raise ValueError(f"cross_entropy: logits (N, C) go with labels (N,), logits (N, C, H, W) with labels "
                             f"(N, H, W); got logits {logits.shape} and labels {labels.shape}")
        if logits.shape[1] == 0:
            raise ValueError(f"cross_entropy: logits {logits.shape} have no classes")

    def check_range(self, C: int) -> None:
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= C:
            raise ValueError(f"cross_entropy: labels must be in 0..{C - 1} for {C} classes, got {low if low < 0 else high}; "
                             "do they start at 1, or does a class need ignore_index?")

    @staticmethod
    def naive(logits: np.ndarray, labels: np.ndarray, ignore_index: int | None = None) -> np.ndarray:
        losses = []
        for i in np.ndindex(labels.shape):
            if labels[i] == ignore_index:
                continue
            scores = [float(logits[(i[0], c, *i[1:])]) for c in range(logits.shape[1])]
            largest = max(scores)
            log_total = largest + math.log(math.fsum(math.exp(score - largest) for score in scores))
            losses.append(log_total - scores[labels[i]])
        return np.array(math.fsum(losses) / len(losses))

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((4, 5)), np.array([0, 4, 2, 2])), {}
        yield (rng.standard_normal((2, 3, 2, 4)), rng.integers(0, 3, (2, 2, 4))), {}
        yield (rng.standard_normal((3, 4)), np.array([1, -1, 3])), dict(ignore_index=-1)
        labels = rng.integers(0, 3, (2, 3, 2))
        labels[0, 0, 0], labels[1, 2, 1] = 255, 255
        yield (rng.standard_normal((2, 3, 3, 2)), labels.astype(np.uint8)), dict(ignore_index=255)
        yield (rng.standard_normal((1, 1)), np.array([0])), {}
        yield (rng.standard_normal((2, 1)), np.array([0, 9])), dict(ignore_index=9)  # of one class, 0 is all there is

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        logits = np.ones((2, 3))
        yield (logits, np.array([0.0, np.nan])), {}, "NaN"
        yield (logits, np.array([0.0, 1.0])), {}, "argmax"
        yield (logits, np.array([0, 3])), {}, "0..2"
        yield (logits, np.array([-1, 0])), {}, "got -1"
        yield (logits, np.array([0, 1, 2])), {}, "go with labels"
        yield (logits, np.array([[0], [1]])), {}, "go with labels"
        yield (logits, np.array([7, 7])), dict(ignore_index=7), "no label to average over"
        yield (np.ones((0, 3)), np.zeros(0, int)), {}, "no label to average over"
        yield (logits, np.array([0, 1])), dict(ignore_index="1"), "ignore_index must be an integer"
        yield (np.ones((2, 3, 4)), np.zeros((2, 4), int)), {}, "go with labels"


def cross_entropy(logits: Tensor, labels: Any, ignore_index: int | None = None) -> Tensor:
    """Mean cross-entropy of integer `labels` under softmax(logits): a 0-d tensor. See `CrossEntropy`."""
    if isinstance(labels, (list, tuple)):  # numbers are at home everywhere
        labels = to_device(np.asarray(labels), logits.device if isinstance(logits, Tensor) else "cpu")
    return apply(CrossEntropy(ignore_index), logits, labels)
