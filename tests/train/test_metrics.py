"""Accuracy, top-k accuracy and the confusion matrix on cases small enough to count."""
import numpy as np
import pytest

from minidl.autograd import Tensor
from minidl.train import accuracy, confusion_matrix, top_k_accuracy

SCORES = np.array([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [3.0, 1.0, 2.0]])
LABELS = np.array([0, 2, 2, 1])  # rank of the label: 0, 1, 0, 2


@pytest.mark.parametrize(("k", "expected"), [(1, 0.5), (2, 0.75), (3, 1.0)])
def test_top_k_counts_labels_among_the_k_largest_scores(k, expected):
    assert top_k_accuracy(SCORES, LABELS, k) == expected


def test_accuracy_takes_arrays_and_tensors():
    assert accuracy(SCORES, LABELS) == accuracy(Tensor(SCORES), Tensor(LABELS)) == 0.5


def test_of_equal_scores_the_first_class_counts_as_the_largest():
    assert accuracy(np.zeros((2, 3)), np.array([0, 1])) == 0.5
    assert top_k_accuracy(np.zeros((3, 3)), np.array([0, 1, 2]), 2) == pytest.approx(2 / 3)


def test_the_confusion_matrix_has_true_classes_in_rows():
    matrix = confusion_matrix(np.array([1, 1, 0, 2]), np.array([1, 0, 0, 2]), 4)
    np.testing.assert_array_equal(matrix, [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(("scores", "labels", "k", "words"), [
    (SCORES, LABELS[:3], 1, "one label per row"),
    (SCORES, np.array([0, 3, 1, 1]), 1, "0..2"),
    (SCORES, np.array([0, -1, 1, 1]), 1, "got -1"),
    (SCORES.argmax(axis=1), LABELS, 1, "not their argmax"),
    (np.full((4, 3), np.nan), LABELS, 1, "NaN"),
    (SCORES[:0], LABELS[:0], 1, "at least 1"),
    (SCORES, LABELS, 4, "1..3"),
    (SCORES, LABELS, 0, "1..3"),
])
def test_wrong_values_are_refused(scores, labels, k, words):
    with pytest.raises(ValueError, match=words):
        top_k_accuracy(scores, labels, k)


@pytest.mark.parametrize(("scores", "labels", "k", "words"), [
    (SCORES, LABELS.astype(float), 1, "argmax"),
    (SCORES.tolist(), LABELS, 1, "np.array"),
    (SCORES, LABELS, True, "bool"),
    (SCORES, LABELS, 1.5, "integer"),
])
def test_wrong_types_are_refused(scores, labels, k, words):
    with pytest.raises(TypeError, match=words):
        top_k_accuracy(scores, labels, k)


def test_confusion_matrix_refuses_what_does_not_belong_together():
    with pytest.raises(ValueError, match="one prediction per label"):
        confusion_matrix(np.array([0, 1]), np.array([0]), 2)
    with pytest.raises(ValueError, match="predictions must be in 0..1"):
        confusion_matrix(np.array([2]), np.array([0]), 2)
    with pytest.raises(ValueError, match="num_classes"):
        confusion_matrix(np.array([0]), np.array([0]), 0)
