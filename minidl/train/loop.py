"""Training and evaluation, written out: what every framework's `fit` does inside.

    loader = DataLoader(images, labels, batch_size=64, shuffle=True)
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
    history = fit(net, optimizer, loader, epochs=8, validation=DataLoader(other_images, other_labels, batch_size=250))
    print(history[-1].validation_accuracy)
"""
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from minidl.autograd import Tensor, no_grad
from minidl.nn import Module
from minidl.nn.checks import whole_number
from minidl.ops import cross_entropy
from minidl.optim import Optimizer, Schedule

Loader = Iterable[tuple[np.ndarray, ...]]
"""Yields batches (x, labels) of NumPy arrays, each time it is walked through: a `minidl.data.DataLoader`."""


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave."""

    epoch: int
    """1, 2, ..."""
    train_loss: float
    """Mean over the pass, while the weights were changing."""
    train_accuracy: float
    """Fraction of right answers in the pass, in training mode: augmented images, batch statistics."""
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
    count: int


def fit(net: Module, optimizer: Optimizer, loader: Loader, epochs: int, schedule: Schedule | None = None, *,
        loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy, validation: Loader | None = None,
        on_batch: Callable[[int, int, float], None] | None = None,
        on_epoch: Callable[[Epoch], None] | None = None) -> list[Epoch]:
    """Trains `net` for `epochs` passes over `loader` and returns one record per pass.

    schedule: stepped after every update, so its steps count batches. loss(scores, labels) must give one number, the mean
    over the batch. on_batch(epoch, batch, loss) is called after every update (both count from 1), on_epoch(record)
    after every pass. Modules that are in evaluation mode stay in it (a frozen batch norm), unless all are; afterwards
    every module is in the mode that it had.
    Errors: FloatingPointError as soon as the loss is NaN or infinite, before it reaches the weights.
    """
    epochs = whole_number("fit", "epochs", epochs)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in trained for p in net.parameters()):
        raise ValueError("fit: the optimizer holds none of the net's parameters, so the net would never change: "
                         "make it with this net's parameters(), after the net")
    history = []
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        train_loss, train_accuracy, rate = _one_pass(net, optimizer, loader, schedule, loss, epoch, on_batch)
        seconds = time.perf_counter() - start
        score = None if validation is None else evaluate(net, validation, loss).accuracy
        history.append(Epoch(epoch, train_loss, train_accuracy, score, rate, seconds))
        if on_epoch is not None:
            on_epoch(history[-1])
    return history


def _one_pass(net: Module, optimizer: Optimizer, loader: Loader, schedule: Schedule | None, loss: Callable, epoch: int,
              on_batch: Callable[[int, int, float], None] | None) -> tuple[float, float, float]:
    """One update per batch. Returns mean loss, accuracy, and the learning rate of the last update."""
    total, right, count, rate = 0.0, 0, 0, math.nan
    with _mode(net, training=True):
        for batch, (x, labels) in enumerate(_batches("fit", net, loader), start=1):
            rate = optimizer.param_groups[0]["lr"]
            optimizer.zero_grad()
            scores = net(x)
            value = loss(scores, labels)
            _refuse_non_finite(value.item(), epoch, batch, rate)
            value.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            total += value.item() * labels.size  # labels (N,) or, per pixel, (N, H, W)
            right += _right_answers(scores, labels)
            count += labels.size
            if on_batch is not None:
                on_batch(epoch, batch, value.item())
    if not count:
        raise ValueError(f"fit: the loader gave no batch in epoch {epoch}: a generator can be walked through once only, "
                         "a DataLoader as often as you like")
    return total / count, right / count, rate


def evaluate(net: Module, loader: Loader, loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy) -> Evaluation:
    """Mean loss and accuracy over `loader`, in evaluation mode and without a graph; the net is left as it was."""
    total, right, count = 0.0, 0, 0
    with evaluating(net):
        for x, labels in _batches("evaluate", net, loader):
            scores = net(x)
            total += loss(scores, labels).item() * labels.size
            right += _right_answers(scores, labels)
            count += labels.size
    if not count:
        raise ValueError("evaluate: the loader gave no batch, so there is nothing to average over: is it a used-up generator?")
    return Evaluation(total / count, right / count, count)


def predict(net: Module, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """The scores (N, C) of images (N, ...) on the host, in evaluation mode and without a graph."""
    batch_size = whole_number("predict", "batch_size", batch_size)
    if not isinstance(images, np.ndarray) or images.ndim < 2 or not len(images):
        raise ValueError("predict: images must be a NumPy array (N, ...) of at least one image, got "
                         f"{getattr(images, 'shape', type(images).__name__)}")
    with evaluating(net):
        device = _device_of(net)
        return np.concatenate([net(Tensor(images[i : i + batch_size]).to(device)).numpy()
                               for i in range(0, len(images), batch_size)])


@contextmanager
def evaluating(net: Module) -> Iterator[None]:
    """A `with` block in evaluation mode and without a graph; afterwards every module is in the mode that it had."""
    with _mode(net, training=False), no_grad():
        yield


@contextmanager
def _mode(net: Module, training: bool) -> Iterator[None]:
    # One by one: somebody may have frozen a part of the net by putting it alone into evaluation mode.
    before = [(module, module.training) for module in net.modules()]
    if not training or not any(mode for _, mode in before):
        net.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def _batches(who: str, net: Module, loader: Loader) -> Iterator[tuple[Tensor, Tensor]]:
    """The loader's batches (x, labels) as tensors on the net's device."""
    device = _device_of(net)
    for batch in loader:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            parts = len(batch) if isinstance(batch, (tuple, list)) else type(batch).__name__
            raise TypeError(f"{who}: every batch must be a pair (x, labels), got {parts}"
                            f"{' arrays' if isinstance(parts, int) else ''}: pass DataLoader(images, labels, ...)")
        x, labels = (part if isinstance(part, Tensor) else Tensor(part) for part in batch)
        yield x.to(device), labels.to(device)


def _device_of(net: Module) -> str:
    return next((parameter.device for parameter in net.parameters()), "cpu")


def _right_answers(scores: Tensor, labels: Tensor) -> int:
    return int((scores.argmax(axis=1) == labels).numpy().sum())


def _refuse_non_finite(loss: float, epoch: int, batch: int, rate: float) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"fit: the loss is {loss} in epoch {epoch}, batch {batch}, at learning rate {rate:g}: training has diverged "
            f"(or the images hold NaN). Try a learning rate of {rate / 10:g} or a longer warm-up; "
            "`with minidl.detect_anomaly():` around fit names the operation")
