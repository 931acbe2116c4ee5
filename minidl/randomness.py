"""The one seedable source of random numbers in minidl.

Weight initialisation, dropout, shuffling and augmentation all draw from `generator()`; `manual_seed(n)` therefore makes
a whole run repeatable. It stands on NumPy alone and never touches `np.random`'s own global state, so a library that
calls `np.random.seed` cannot change a run of minidl, and minidl cannot change that library's.
"""
from __future__ import annotations

import operator

import numpy as np

# Made at the first use, not at import: importing minidl must not consume entropy, and must not depend on import order.
_generator: np.random.Generator | None = None


def generator() -> np.random.Generator:
    """The generator that everything in minidl draws from: one object for the life of the process.

    Until `manual_seed` is called it starts from the operating system's entropy, so two unseeded runs differ.
    """
    global _generator
    if _generator is None:
        _generator = np.random.Generator(np.random.PCG64())
    return _generator


def manual_seed(seed: int) -> None:
    """Restart the generator from `seed`, an integer >= 0; the same seed gives the same bits afterwards.

    The generator is reset in place: a layer that kept the object `generator()` gave it follows the new seed too.
    The bits are those of `np.random.Generator(np.random.PCG64(seed))`.

    Raises TypeError for what is not an integer (bool and None included), ValueError for a negative one.
    """
    # Checked before anything changes: a refused seed leaves the stream where it was.
    state = np.random.PCG64(check_seed(seed, "manual_seed")).state
    generator().bit_generator.state = state


def check_seed(seed: object, who: str) -> int:
    """`seed` as a Python int, or an error in the name of `who`, the function the user called."""
    rule = f"{who}: a seed is an integer >= 0"
    if isinstance(seed, (bool, np.bool_)):
        raise TypeError(f"{rule}, but got the bool {seed!r}; pass 0 or 1 if that is what you mean")
    try:
        value = operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        fix = "leave the call out to stay unseeded" if seed is None else f"did you mean {who}(0), or int(...)?"
        raise TypeError(f"{rule}, but got {seed!r} ({type(seed).__name__}); {fix}") from None
    if value < 0:
        raise ValueError(f"{rule}, but got {value}; did you mean {-value}?")
    return value
