"""Measured slopes of a function: what a gradient is held against, and how a kink is told from a mistake."""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MACHINE = float(np.finfo(np.float64).eps)
KINK_STEPS = (8, 64)
"""Where the slopes of both sides differ, the step is divided by these: they meet if the function is smooth."""

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
    """Sum of the magnitudes of what adds up to the element."""

    @property
    def value(self) -> float:
        """The middle of the interval."""
        return (self.low + self.high) / 2

    def accepts(self, got: float, rtol: float, atol: float, with_rounding: bool = True) -> bool:
        """low <= got <= high, up to atol + rtol * |bound| + rounding. NaN is never accepted."""
        slack = atol + (self.rounding if with_rounding else 0.0)
        return self.low - slack - rtol * abs(self.low) <= got <= self.high + slack + rtol * abs(self.high)


def step_of(x: float, eps: float) -> float:
    """The step for an element: eps, or as much more as it is larger than 1; adding it to a number of that size is exact."""
    size = max(1.0, abs(x))
    return float((size + eps * size) - size)


def central(outputs: Outputs, h: float) -> tuple[np.ndarray, np.ndarray]:
    """(y(h) - y(-h)) / 2h, off by h**2 y''' / 6; and how far rounding can move it. What does not move at all is 0."""
    up, down = outputs(h), outputs(-h)
    rounding = 8 * MACHINE * np.maximum(abs(up), abs(down)) / h
    return (up - down) / (2 * h), np.where(up == down, 0.0, rounding)


def measure(outputs: Outputs, h: float) -> Slope:
    """The slopes at t = 0, and where there is none, those of both sides.

    A kink shows as a gap between the slopes of both sides that does not shrink with the step; the gap of a smooth
    function does, in proportion, and that of rounding grows. Where a kink lies beside the point, the smaller step leaves it
    behind.
    """
    value, rounding = central(outputs, h)
    here = outputs(0.0)
    left, right = _sides(outputs, here, h)
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
