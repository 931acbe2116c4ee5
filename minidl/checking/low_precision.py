"""backward in float32, or on the GPU, against backward in float64 on the CPU, which has just been held against slopes."""
from collections.abc import Iterator

import numpy as np

from minidl.checking.subject import Subject

FLOAT32 = 6e-8
DRAWS = 3


def off_in_low_precision(subject: Subject, cotangents: np.ndarray,
                         gradients: list[dict]) -> Iterator[tuple[str, tuple[int, ...], float, float]]:
    """(input, index, got, expected) for every element that is off by more than float32 excuses.

    What float32 may lose: 1e-4 of the element, 2e-5 of the largest one, and twenty times as much as the gradient in float64
    moves if every input is moved by a unit in float32's last place, which is what cancellation makes of rounding.
    """
    if subject.dtype == np.float64 and subject.device == "cpu":
        return
    moved = _sensitivity(subject, cotangents[0], gradients[0])
    for dy, exact in zip(cotangents, gradients):
        low = subject.gradients_low(dy)
        for name, want in exact.items():
            got = low[name]
            if want is None or got is None or got.shape != want.shape:
                continue
            allowed = 1e-4 * abs(want) + 2e-5 * float(abs(want).max(initial=0.0)) + 20 * moved[name]
            for index in zip(*np.nonzero(~(abs(got - want) <= allowed))):
                place = tuple(int(i) for i in index)
                yield name, place, float(got[place]), float(want[place])
        if any(True for name in exact if low[name] is None and exact[name] is not None):
            return


def _sensitivity(subject: Subject, dy: np.ndarray, exact: dict) -> dict[str, float]:
    """How much the float64 gradient of each input moves with the last place of float32."""
    rng, moved = np.random.default_rng(0), dict.fromkeys(exact, 0.0)
    for _ in range(DRAWS):
        inputs = {name: x * (1 + FLOAT32 * rng.choice([-1.0, 1.0], x.shape)) for name, x in subject.values.items()}
        there = subject.gradients(dy, inputs)
        for name, g in exact.items():
            if g is not None and there[name] is not None and there[name].shape == g.shape:
                moved[name] = max(moved[name], float(abs(there[name] - g).max(initial=0.0)))
    return moved
