"""balanced_split: every class equally often, nothing lost, nothing twice."""
import numpy as np
import pytest

from minidl.data import balanced_split
from minidl.data.split import _fixed_permutation

LABELS = np.repeat([3, 5, 9], [40, 60, 50])


@pytest.mark.parametrize("held_out, counts", [
    (30, [10, 10, 10]), (32, [11, 11, 10]), (1, [1, 0, 0]), (120, [40, 40, 40])])
def test_every_class_gives_its_share(held_out, counts):
    _, held = balanced_split(LABELS, held_out)
    assert [int((LABELS[held] == c).sum()) for c in (3, 5, 9)] == counts


def test_rest_and_held_are_all_indices_once():
    rest, held = balanced_split(LABELS, 31)
    assert sorted([*rest, *held]) == list(range(150))


def test_neither_part_is_sorted():
    rest, held = balanced_split(LABELS, 60)
    for part in (rest, held):
        assert (np.diff(LABELS[part]) != 0).mean() > 0.4


def test_the_seed_decides_and_nothing_else():
    np.random.seed(0)
    first = balanced_split(LABELS, 30, seed=4)
    np.random.seed(1)
    np.testing.assert_array_equal(first[1], balanced_split(LABELS, 30, seed=4)[1])
    assert not np.array_equal(first[1], balanced_split(LABELS, 30, seed=5)[1])


def test_the_order_is_pinned_so_that_a_new_numpy_cannot_move_the_bundled_splits():
    assert _fixed_permutation(8, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


@pytest.mark.parametrize("labels, held_out, seed, error, words", [
    ([1, 2], 1, 0, TypeError, "got list"),
    (np.eye(3), 1, 0, ValueError, "argmax"),
    (np.array([0.0, 1.0]), 1, 0, ValueError, "float64"),
    (np.array([], int), 1, 0, ValueError, "N >= 1"),
    (LABELS, 0, 0, ValueError, "held_out is an integer >= 1"),
    (LABELS, 3.0, 0, TypeError, "3.0 (float)"),
    (LABELS, 150, 0, ValueError, "150 of 150"),
    (LABELS, 149, 0, ValueError, "class 3 has 40"),
    (LABELS, 3, -1, ValueError, "a seed is an integer >= 0"),
])
def test_what_cannot_be_split_is_refused(labels, held_out, seed, error, words):
    with pytest.raises(error) as caught:
        balanced_split(labels, held_out, seed)
    assert str(caught.value).startswith("balanced_split: ") and words in str(caught.value)
