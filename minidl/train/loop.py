"""Training and evaluation, written out: what every framework's `fit` does inside.

    loader = DataLoader(images, labels, batch_size=64, shuffle=True)
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
    history = fit(net, optimizer, loader, epochs=8, validation=DataLoader(other_images, other_labels, batch_size=250))
    print(history[-1].validation_accuracy)
"""
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.autograd import Tensor, no_grad
from minidl.backend import to_numpy
from minidl.nn import Module
from minidl.nn.checks import whole_number
from minidl.nn.module import evaluating, modes_kept
from minidl.optim import Optimizer, Schedule
from minidl.train.losses import classification_loss

Loader = Iterable[tuple[np.ndarray, ...]]
"""Yields batches (x, labels) of NumPy arrays, each time it is walked through: a `minidl.data.DataLoader`."""

Loss = Callable[[Any, Tensor], Tensor]
"""loss(what the net returns, labels) -> one number, the mean over the labels that count."""


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave."""

    epoch: int
    """1, 2, ..."""
    train_loss: float
    """Mean over the pass, while the weights were changing."""
    train_accuracy: float
    """Fraction of right answers in the pass, in training mode: augmented images, batch statistics. NaN where there is
    nothing to be right about: labels that are no class numbers."""
    validation_accuracy: float | None
    """In evaluation mode after the pass; None without validation images."""
    learning_rate: float
    """Of the first parameter group, at the last update of the pass."""
    seconds: float
    """Wall-clock time of the pass, validation not included."""


@dataclass(frozen=True)
class Evaluation:
    """What a net makes of images that it does not learn from."""

    loss: float
    accuracy: float
    """NaN where the labels are no class numbers."""
    count: int
    """How many labels counted: images, or pixels where every pixel has a label."""


def fit(net: Module, optimizer: Optimizer, loader: Loader, epochs: int, schedule: Schedule | None = None, *,
        loss: Loss | None = None, ignore_index: int | None = None, validation: Loader | None = None,
        on_batch: Callable[[int, int, float], None] | None = None,
        on_epoch: Callable[[Epoch], None] | None = None) -> list[Epoch]:
    """Trains `net` for `epochs` passes over `loader` and returns one record per pass.

    schedule: stepped after every update, so its steps count batches. loss(outputs, labels) is given whatever the net
    returns and must give one number, the mean over the batch; without one it is `classification_loss`, which also knows
    nets with auxiliary heads. ignore_index: the label of what counts neither in the loss (see to it in a loss of your
    own) nor in the accuracy; a batch of nothing else is passed over. on_batch(epoch, batch, loss) is called after every
    update (both count from 1), on_epoch(record) after every pass. Modules that are in evaluation mode stay in it (a
    frozen batch norm), unless all are; afterwards every module is in the mode that it had.
    Errors: FloatingPointError as soon as the loss is NaN or infinite, before it reaches the weights.
    """
    epochs = whole_number("fit", "epochs", epochs)
    loss = _ClassificationLoss(ignore_index) if loss is None else loss
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in trained for p in net.parameters()):
        raise ValueError("fit: the optimizer holds none of the net's parameters, so the net would never change: "
                         "make it with this net's parameters(), after the net")
    history = []
    for epoch in range(1, epochs + 1):
        start, tally = time.perf_counter(), _Tally("fit", ignore_index)
        rate = _one_pass(net, optimizer, loader, schedule, loss, tally, epoch, on_batch)
        if not tally.count:
            raise ValueError(f"fit: the loader gave no batch with a label that counts in epoch {epoch}: a generator can be "
                             "walked through once only, a DataLoader as often as you like")
        seconds = time.perf_counter() - start
        score = None if validation is None else evaluate(net, validation, loss, ignore_index=ignore_index).accuracy
        history.append(Epoch(epoch, tally.loss, tally.accuracy, score, rate, seconds))
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


def _one_pass(net: Module, optimizer: Optimizer, loader: Loader, schedule: Schedule | None, loss: Loss, tally: "_Tally",
              epoch: int, on_batch: Callable[[int, int, float], None] | None) -> float:
    """One update per batch; `tally` adds up how they went. Returns the learning rate of the last update."""
    rate = math.nan
    with modes_kept(net):
        if not any(module.training for module in net.modules()):
            net.train()
        for batch, (x, labels, counted) in enumerate(tally.batches(net, loader), start=1):
            rate = optimizer.param_groups[0]["lr"]
            optimizer.zero_grad()
            outputs = net(x)
            value = loss(outputs, labels)
            number = value.item()  # the one place where the host waits for the GPU
            if not math.isfinite(number):
                _look_at_labels(loss, outputs, labels)
                raise _diverged(number, epoch, batch, rate)
            value.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            tally.add(number, outputs, labels, counted)
            if on_batch is not None:
                on_batch(epoch, batch, number)
    return rate


def evaluate(net: Module, loader: Loader, loss: Loss | None = None, *, ignore_index: int | None = None) -> Evaluation:
    """Mean loss and accuracy over `loader`, in evaluation mode and without a graph; the net is left as it was.

    loss and ignore_index: as `fit` takes them.
    """
    loss = _ClassificationLoss(ignore_index) if loss is None else loss
    tally = _Tally("evaluate", ignore_index)
    with evaluating(net):
        for x, labels, counted in tally.batches(net, loader):
            outputs = net(x)
            number = loss(outputs, labels).item()
            if not math.isfinite(number):
                _look_at_labels(loss, outputs, labels)
            tally.add(number, outputs, labels, counted)
    if not tally.count:
        raise ValueError("evaluate: the loader gave no batch with a label that counts, so there is nothing to average over: "
                         "is it a used-up generator?")
    return Evaluation(tally.loss, tally.accuracy, tally.count)


class _Tally:
    """Adds up losses and right answers over batches, each label that counts with the same weight."""

    def __init__(self, who: str, ignore_index: int | None) -> None:
        if ignore_index is not None and (isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer))):
            raise TypeError(f"{who}: ignore_index must be an integer or None, got {ignore_index!r}: it is one of the labels")
        self.who, self.ignore_index = who, ignore_index
        self.total, self.count = 0.0, 0
        self.right: Any = 0.0  # on the GPU a number of its own, which is read at the end

    def batches(self, net: Module, loader: Loader) -> Iterator[tuple[Tensor, Tensor, int]]:
        """The loader's batches (x, labels, how many labels count) on the net's device, but for those where none does."""
        device = _device_of(net)
        for batch in loader:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                parts = len(batch) if isinstance(batch, (tuple, list)) else type(batch).__name__
                raise TypeError(f"{self.who}: every batch must be a pair (x, labels), got {parts}"
                                f"{' arrays' if isinstance(parts, int) else ''}: pass DataLoader(images, labels, ...)")
            x, labels = (part if isinstance(part, Tensor) else Tensor(part) for part in batch)
            counted = self.count_of(labels)
            if counted:
                yield x.to(device), labels.to(device), counted

    def add(self, loss: float, outputs: Any, labels: Tensor, counted: int) -> None:
        """One batch: `loss` is its mean; an answer is where the scores, the first of the outputs, are largest."""
        scores = outputs[0] if isinstance(outputs, tuple) and outputs else outputs
        self.total += loss * counted
        self.count += counted
        if _are_scores(scores, labels):
            right = (scores.argmax(axis=1) == labels).data
            if self.ignore_index is not None:
                right &= labels.data != self.ignore_index
            self.right = self.right + right.sum()
        else:
            self.right = math.nan  # numbers to come close to, for example: no answer is right or wrong

    def count_of(self, labels: Tensor) -> int:
        """How many labels count. Asked of the loader's labels, which are on the host."""
        return labels.size if self.ignore_index is None else int((labels.data != self.ignore_index).sum())

    @property
    def loss(self) -> float:
        return self.total / self.count

    @property
    def accuracy(self) -> float:
        return float(to_numpy(self.right)) / self.count


def predict(net: Module, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """The scores (N, C) of images (N, ...) on the host, in evaluation mode and without a graph."""
    batch_size = whole_number("predict", "batch_size", batch_size)
    if not isinstance(images, np.ndarray) or images.ndim < 2 or not len(images):
        what = f"an array {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(f"predict: images must be a NumPy array (N, ...) of at least one image, got {what}; a Tensor becomes "
                         "one with t.numpy()")
    with evaluating(net):
        device = _device_of(net)
        return np.concatenate([net(Tensor(images[i : i + batch_size]).to(device)).numpy()
                               for i in range(0, len(images), batch_size)])


def _are_scores(scores: Any, labels: Tensor) -> bool:
    """Whether the labels are numbers of the classes along axis 1 of the scores."""
    return (isinstance(scores, Tensor) and scores.ndim > 1 and labels.dtype.kind in "iu"
            and scores.shape[:1] + scores.shape[2:] == labels.shape)


def _device_of(net: Module) -> str:
    return next((parameter.device for parameter in net.parameters()), "cpu")


class _ClassificationLoss:
    """`classification_loss`, told from a loss of the user's own."""

    def __init__(self, ignore_index: int | None) -> None:
        self.ignore_index = ignore_index

    def __call__(self, outputs: Any, labels: Tensor) -> Tensor:
        return classification_loss(outputs, labels, self.ignore_index)


def _look_at_labels(loss: Loss, outputs: Any, labels: Tensor) -> None:
    """Raises what is wrong with the labels, if something is: on the GPU nobody has, since the host would have had to wait."""
    if labels.device == "cuda" and isinstance(loss, _ClassificationLoss):
        scores = outputs[0] if isinstance(outputs, tuple) else outputs
        with no_grad():
            loss(Tensor(scores.numpy()), labels.to("cpu"))


def _diverged(loss: float, epoch: int, batch: int, rate: float) -> FloatingPointError:
    return FloatingPointError(
        f"fit: the loss is {loss} in epoch {epoch}, batch {batch}, at learning rate {rate:g}: training has diverged "
        f"(or the images hold NaN). Try a learning rate of {rate / 10:g} or a longer warm-up; "
        "`with minidl.detect_anomaly():` around fit names the operation")
