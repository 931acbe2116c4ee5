"""DataLoader: arrays in, shuffled and augmented batches out."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minidl import randomness
from minidl.data import checks

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class DataLoader:
    """Iterate over equally long NumPy arrays in batches: each batch is a tuple with one array per array given.

        for x, labels in DataLoader(images, labels, batch_size=64, shuffle=True):

    batch_size   examples in a batch; when they do not divide evenly the last batch is smaller
    drop_last    leave such a smaller batch out
    shuffle      a new random order in each pass (epoch)
    seed         give the loader a stream of its own: pass k of a loader with the same seed is the same on every run,
                 pass k + 1 differs. Without it, one number is drawn from minidl's generator at the start of each pass
                 that shuffles or transforms, so `minidl.manual_seed` makes it repeatable
    transform    transform(x, rng) -> x for the first array of each batch, for augmentation; rng is the pass's own, so
                 that two loops running at the same time do not disturb each other
    epoch        (attribute) passes begun so far; to go on where an earlier run stopped, set it before the loop

    A batch is always a copy: writing into it does not change the data.
    """

    def __init__(self, *arrays: np.ndarray, batch_size: int = 32, shuffle: bool = False, drop_last: bool = False,
                 seed: int | None = None, transform: Transform | None = None) -> None:
        self.arrays = _equally_long(arrays)
        self.batch_size = checks.whole_number("DataLoader", "batch_size", batch_size, 1)
        for name, flag in (("shuffle", shuffle), ("drop_last", drop_last)):
            if not isinstance(flag, (bool, np.bool_)):
                raise TypeError(f"DataLoader: {name} is True or False, but got {flag!r}; "
                                f"is it meant for another option?")
        if transform is not None and not callable(transform):
            raise TypeError(f"DataLoader: transform is a function (x, rng) -> x, but got {transform!r}; "
                            f"pass the function itself, without calling it")
        self.shuffle, self.drop_last, self.transform = bool(shuffle), bool(drop_last), transform
        self.seed = None if seed is None else randomness.check_seed(seed, "DataLoader")
        self.epoch = 0
        if not len(self):
            raise ValueError(f"DataLoader: drop_last leaves at least one batch, but batch_size is {batch_size} and "
                             f"there are {len(self.arrays[0])} examples; make the batches smaller or keep the last one")

    def __len__(self) -> int:
        """The number of batches in a pass."""
        N = len(self.arrays[0])
        return N // self.batch_size if self.drop_last else -(-N // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        # Everything random is settled here, not at the first batch: `_batches` is a generator and would start late.
        rng = self._next_stream()
        N = len(self.arrays[0])
        order = rng.permutation(N) if self.shuffle else np.arange(N)
        return self._batches(order, rng)

    def _next_stream(self) -> np.random.Generator:
        epoch = checks.whole_number("DataLoader", "epoch", self.epoch, 0)
        self.epoch = epoch + 1
        if self.seed is not None:
            return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(epoch,)))
        if self.shuffle or self.transform:
            return np.random.default_rng(int(randomness.generator().integers(2**63)))
        return np.random.default_rng(0)  # never drawn from: plain evaluation leaves the global stream alone

    def _batches(self, order: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
        for b in range(len(self)):
            index = order[b * self.batch_size:(b + 1) * self.batch_size]
            first, *others = (array[index] for array in self.arrays)
            if self.transform is not None:
                first = _transformed(self.transform(first, rng), len(index))
            yield (first, *others)


def _equally_long(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    rule = "DataLoader: takes NumPy arrays of equal length along axis 0"
    if not arrays:
        raise TypeError(f"{rule}, but got none; write DataLoader(images, labels, batch_size=32)")
    for i, array in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{rule}, but argument {i + 1} is {type(array).__name__}; use np.asarray(...) or "
                            f"tensor.numpy(), and pass options by name (batch_size=32)")
        if array.ndim == 0:
            raise ValueError(f"{rule}, but argument {i + 1} has no axis (shape ()); "
                             f"pass options by name (batch_size=32)")
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"{rule}, but got lengths {lengths} (shapes {[array.shape for array in arrays]}); "
                         f"did you mix train images with test labels?")
    if lengths[0] == 0:
        raise ValueError(f"{rule}, at least 1, but got 0 examples (shapes {[array.shape for array in arrays]}); "
                         f"did a selection come out empty, or was no validation split asked for?")
    return arrays


def _transformed(x: object, N: int) -> np.ndarray:
    if not isinstance(x, np.ndarray) or x.ndim == 0 or len(x) != N:
        got = f"an array of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"DataLoader: transform returns a NumPy array with the {N} examples of its batch, "
                        f"but got {got}; does it end with a return?")
    return x
