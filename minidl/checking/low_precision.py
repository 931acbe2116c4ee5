"""backward in float32, or on the GPU, against backward in float64 on the CPU, which has just been held against slopes."""
from dataclasses import dataclass, field

import numpy as np

from minidl.checking.subject import Subject

FLOAT32 = 6e-8  # half a unit in the last place, in parts of the number
DRAWS = 3
RTOL, OF_LARGEST, MOVES = 1e-4, 2e-5, 20  # of the element, of the largest one, and times what the last place moves it
ALLOWED = f"{RTOL:g} of |expected|, {OF_LARGEST:g} of its largest, {MOVES} times what float32's last place moves"


@dataclass
class Off:
    """What is off in the gradient of one input: all of it (`why`), or elements: index -> (got, expected)."""

    code: str
    why: str
    elements: dict[tuple[int, ...], tuple[float, float]] = field(default_factory=dict)


def off_in_low_precision(subject: Subject, cotangents: np.ndarray, gradients: list[dict]) -> dict[str, Off]:
    """By input, what float32 does not excuse.

    It may lose 1e-4 of an element, 2e-5 of the largest one, and twenty times as much as the gradient in float64 moves if
    every input is moved by float32's last place: that is what cancellation makes of rounding.
    """
    off: dict[str, Off] = {}
    if subject.dtype == np.float64 and subject.device == "cpu":
        return off
    where = f"in {subject.dtype} on {subject.device}"
    moved = _sensitivity(subject, cotangents[0], gradients[0])
    for dy, exact in zip(cotangents, gradients):
        low = subject.gradients_low(dy)
        for name, want in exact.items():
            if want is None:
                continue
            if low[name] is None:
                off[name] = Off("zero", f"{where} backward returned None for {name}, though not in float64")
                continue
            if low[name].shape != want.shape:
                off[name] = Off("wrong-shape", f"{where} d{name} has shape {low[name].shape}, but {want.shape} in float64")
                continue
            allowed = RTOL * abs(want) + OF_LARGEST * float(abs(want).max(initial=0.0)) + MOVES * moved[name]
            for index in np.argwhere(~(abs(low[name] - want) <= allowed)):
                place = tuple(int(i) for i in index)
                why = f"d{name} is right in float64, but off by more than rounding {where}"
                one = off.setdefault(name, Off("unknown", why))
                one.elements.setdefault(place, (float(low[name][place]), float(want[place])))
    return off


def _sensitivity(subject: Subject, dy: np.ndarray, exact: dict) -> dict[str, float]:
    """How much the float64 gradient of each input moves with the last place of float32."""
    rng, moved = np.random.default_rng(0), dict.fromkeys(exact, 0.0)
    for _ in range(DRAWS):
        inputs = {name: x * (1 + FLOAT32 * rng.choice([-1.0, 1.0], x.shape)) for name, x in subject.values.items()}
        there = subject.gradients(dy, inputs)
        for name, g in exact.items():
            if g is not None and there[name] is not None:
                moved[name] = max(moved[name], float(abs(there[name] - g).max(initial=0.0)))
    return moved
