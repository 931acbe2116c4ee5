"""Measured slopes of a function: what a gradient is held against, and how a kink is told from a mistake."""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MACHINE = float(np.finfo(np.float64).eps)
KINK_STEPS = (8, 64)
"""Where the slopes of both sides differ, the step is divided by these: they meet if the function is smooth."""
REFEREE_STEPS = (1 / 512, 1 / 64, 1 / 8, 8, 64)
"""Before a gradient is called wrong, it may agree with the slope at the step divided by any of these."""

Outputs = Callable[[float], np.ndarray]
"""All outputs of the checked function, in one vector, at the point + t * direction."""


@dataclass
class Slope:
    """The slope of every output along one direction; at a kink, the range between the slopes of both sides."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rounding: np.ndarray
    """How far rounding alone can move `value`: the outputs carry a few units in their last place."""
    kinked: np.ndarray | None = None
    """Which outputs have a kink at the point itself; None if none has."""

    def expected(self, dy: np.ndarray) -> "Expected":
        """What dy . slope is. Each output at a kink may take any value between its sides, so the sums of extremes bound it."""
        rounding = float(abs(dy) @ self.rounding)
        terms = float(abs(dy) @ abs(self.value))
        if self.kinked is None:
            value = float(dy @ self.value)
            return Expected(value, value, rounding, terms)
        sides = np.stack([dy * self.low, dy * self.high])
        return Expected(float(sides.min(axis=0).sum()), float(sides.max(axis=0).sum()), rounding, terms)


@dataclass
class Expected:
    """The interval in which a gradient element must lie; a single number but at a kink."""

    low: float
    high: float
    rounding: float
    terms: float
    """Sum of the magnitudes of what adds up to the element: what the rounding of float32 is in proportion to."""

    @property
    def value(self) -> float:
        """The middle of the interval."""
        return (self.low + self.high) / 2

    def accepts(self, got: float, rtol: float, atol: float) -> bool:
        """low <= got <= high, up to atol + rtol * |bound| + rounding. NaN is never accepted."""
        slack = atol + self.rounding
        return self.low - slack - rtol * abs(self.low) <= got <= self.high + slack + rtol * abs(self.high)


def step_of(x: np.ndarray, eps: float) -> float:
    """The step for an element or an array: eps, or as much of it as the largest magnitude is more than 1.

    Rounded so that adding it to a number of that size is exact.
    """
    size = max(1.0, float(abs(x).max(initial=0.0)))
    return float((size + eps * size) - size)


def measure(outputs: Outputs, h: float) -> Slope:
    """The slopes at t = 0: (y(h) - y(-h)) / 2h, off by h**2 y''' / 6 and by rounding / h.

    A kink shows as a gap between the slopes of both sides that does not shrink with the step; the gap of a smooth
    function does, in proportion, and that of rounding grows. Where a kink lies beside the point, the smaller step leaves it
    behind.
    """
    here, up, down = outputs(0.0), outputs(h), outputs(-h)
    left, right = (here - down) / h, (up - here) / h
    size = np.maximum(abs(here), np.maximum(abs(up), abs(down)))
    value, rounding = (up - down) / (2 * h), 8 * MACHINE * size / h
    gap = abs(right - left)
    suspicious = gap > 1e-3 * np.maximum(abs(left), abs(right)) + 2 * rounding
    if not suspicious.any() or not np.isfinite(value).all():
        return Slope(value, value, value, rounding)
    left, right = _sides(outputs, here, h / KINK_STEPS[0])
    noise = 2 * rounding * KINK_STEPS[0]
    smaller = abs(right - left)
    noisy = suspicious & (smaller > 3 * gap) & (smaller < 1000 * noise)  # rounding, of more than the last place: it grows
    kinked = suspicious & ~noisy & (smaller > np.maximum(gap / 2, noise))
    beside = suspicious & ~noisy & ~kinked
    value = np.where(beside, (left + right) / 2, value)
    rounding = np.where(beside, KINK_STEPS[0] * rounding, np.where(noisy, rounding + gap, rounding))
    if not kinked.any():
        return Slope(value, value, value, rounding)
    left, right = _sides(outputs, here, h / KINK_STEPS[1])
    low, high = (np.where(kinked, f(left, right), value) for f in (np.minimum, np.maximum))
    return Slope(value, low, high, np.where(kinked, KINK_STEPS[1] * rounding, rounding), kinked)


def _sides(outputs: Outputs, here: np.ndarray, h: float) -> tuple[np.ndarray, np.ndarray]:
    """Left and right slopes at a step."""
    return (here - outputs(-h)) / h, (outputs(h) - here) / h


def other_steps(outputs: Outputs, h: float) -> list[Slope]:
    """The slopes at larger and smaller steps: for a function too bent, or too noisy, for the usual one."""
    found = []
    for shrink in REFEREE_STEPS:
        step = h / shrink
        up, down = outputs(step), outputs(-step)
        value = (up - down) / (2 * step)
        if np.isfinite(value).all():
            found.append(Slope(value, value, value, 8 * MACHINE * np.maximum(abs(up), abs(down)) / step))
    return found
