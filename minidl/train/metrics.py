"""How good are the scores? On arrays or tensors, computed in NumPy."""
import operator
from typing import Any

import numpy as np

from minidl.autograd import Tensor


def accuracy(scores: Any, labels: Any) -> float:
    """The fraction of examples whose largest score is the label's; of equal scores the first counts as the largest.

    scores (N, C), logits or probabilities; labels (N,) integers in 0 .. C - 1.
    """
    return top_k_accuracy(scores, labels, k=1)


def top_k_accuracy(scores: Any, labels: Any, k: int = 5) -> float:
    """The fraction of examples whose label is among the k largest scores; equal scores rank in order of their class.

    scores (N, C), labels (N,). Errors: ValueError for shapes, ranges, k outside 1 .. C, and for scores that are NaN.
    """
    scores, labels = _scores_and_labels("accuracy" if k == 1 else "top_k_accuracy", scores, labels)
    C = scores.shape[1]
    k = _whole("top_k_accuracy", "k", k)
    if not 1 <= k <= C:
        raise ValueError(f"top_k_accuracy: k must be in 1..{C} for {C} classes, got {k}: use a smaller k")
    own = np.take_along_axis(scores, labels[:, None], axis=1)  # (N, 1): the score of the right class
    earlier = np.arange(C) < labels[:, None]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return float((rank < k).mean())


def confusion_matrix(predictions: Any, labels: Any, num_classes: int) -> np.ndarray:
    """matrix[i, j] = how many examples of class i were taken for class j: int64 (num_classes, num_classes)

    predictions, labels (N,) integers in 0 .. num_classes - 1. The diagonal counts what is right, rows add up to the
    examples of each class.
    """
    who = "confusion_matrix"
    num_classes = _whole(who, "num_classes", num_classes)
    if num_classes < 1:
        raise ValueError(f"{who}: num_classes must be at least 1, got {num_classes}")
    predictions, labels = (_classes(who, name, value, num_classes)
                           for name, value in (("predictions", predictions), ("labels", labels)))
    if predictions.shape != labels.shape:
        raise ValueError(f"{who}: needs one prediction per label, got predictions {predictions.shape} and labels "
                         f"{labels.shape}: do they come from the same images?")
    return np.bincount(labels * num_classes + predictions, minlength=num_classes**2).reshape(num_classes, num_classes)


# --- what the arguments must be ---------------------------------------------------------------------------------------


def _scores_and_labels(who: str, scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    scores = _array(who, "scores", scores)
    if scores.ndim != 2 or 0 in scores.shape:
        hint = ": pass the scores, not their argmax" if scores.ndim == 1 else ""
        raise ValueError(f"{who}: scores must be (N, C), one row per example, N and C at least 1, got shape "
                         f"{scores.shape}{hint}")
    if scores.dtype.kind == "f" and np.isnan(scores).any():
        raise ValueError(f"{who}: scores hold NaN, which no number is larger than: has training diverged? "
                         "Lower the learning rate, or find the operation with minidl.detect_anomaly()")
    labels = _classes(who, "labels", labels, scores.shape[1])
    if len(labels) != len(scores):
        raise ValueError(f"{who}: needs one label per row of scores, got scores {scores.shape} and labels "
                         f"{labels.shape}: do they come from the same images?")
    return scores, labels


def _classes(who: str, name: str, value: Any, C: int) -> np.ndarray:
    """`value` as int64 (N,) in 0 .. C - 1."""
    classes = _array(who, name, value)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"{who}: {name} must be integers (one class number each), got {classes.dtype} {classes.shape}: "
                        "one-hot rows or scores become class numbers with .argmax(axis=1)")
    if classes.ndim != 1 or classes.size == 0:
        raise ValueError(f"{who}: {name} must be (N,) with N at least 1, got shape {classes.shape}")
    if classes.min() < 0 or classes.max() >= C:
        wrong = classes.min() if classes.min() < 0 else classes.max()
        raise ValueError(f"{who}: {name} must be in 0..{C - 1} for {C} classes, got {wrong}: do they start at 1?")
    return classes.astype(np.int64)


def _array(who: str, name: str, value: Any) -> np.ndarray:
    """`value`, an array on any device or a Tensor, as a NumPy array."""
    if isinstance(value, (list, tuple)):
        raise TypeError(f"{who}: {name} must be an array or a Tensor, got a {type(value).__name__}: use np.array({name})")
    return (value if isinstance(value, Tensor) else Tensor(value)).numpy()


def _whole(who: str, name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who}: {name} must be an integer, got the bool {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{who}: {name} must be an integer, got {value!r} ({type(value).__name__}): use int(...)") from None
