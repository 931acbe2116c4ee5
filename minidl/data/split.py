"""Split labelled data so that every class is held out equally often."""
from __future__ import annotations

import numpy as np

from minidl.data import checks
from minidl.randomness import check_seed


def balanced_split(labels: np.ndarray, held_out: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices (rest, held): `held` has `held_out` of them, equally many from each class that occurs in `labels`.

    With 10 classes and held_out=500 each class gives 50. What does not divide evenly is taken one each from the classes
    with the smallest labels. Both index arrays are in random order, never sorted by class, and depend on labels,
    held_out and seed only: not on the global generator, and not on the NumPy version.

        rest, held = balanced_split(labels, 500)
        train, validation = images[rest], images[held]

    Raises ValueError when a class has too few examples or nothing would be left in `rest`.
    """
    labels = checks.label_vector("balanced_split", labels)
    held_out = checks.whole_number("balanced_split", "held_out", held_out, 1)
    if held_out >= labels.size:
        raise ValueError(f"balanced_split: held_out leaves at least one example, but got {held_out} of {labels.size}; "
                         f"hold out fewer")
    order = _fixed_permutation(labels.size, check_seed(seed, "balanced_split"))
    classes = np.unique(labels)
    chosen = np.zeros(labels.size, dtype=bool)
    for i, label in enumerate(classes):
        members = order[labels[order] == label]
        wanted = held_out // classes.size + (i < held_out % classes.size)
        if wanted > members.size:
            raise ValueError(f"balanced_split: every class gives {held_out} / {classes.size} examples, but class "
                             f"{label} has {members.size} and {wanted} are wanted; hold out fewer")
        chosen[members[:wanted]] = True
    return order[~chosen[order]], order[chosen[order]]


def _fixed_permutation(n: int, seed: int) -> np.ndarray:
    # Sorting raw bits: NumPy promises that a bit generator's stream stays, but lets Generator.permutation change.
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")
