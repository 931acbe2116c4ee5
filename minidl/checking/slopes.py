"""Measured slopes of a function: what a gradient is held against, and how a kink is told from a mistake."""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MACHINE = float(np.finfo(np.float64).eps)
SHRINK = (1, 8, 64)
"""The step is divided by these when a kink is suspected: a smooth function's one-sided slopes meet, a kink's do not."""


@dataclass
class Line:
    """All outputs of the checked function along one direction from the point: `outputs(t)` at point + t * direction."""

    outputs: Callable[[float], np.ndarray]
    eps: float

    def central(self, shrink: int = 1) -> np.ndarray:
        """(y(+h) - y(-h)) / 2h for every output, h = eps / shrink. Off by h**2 y''' / 6 and by rounding / h."""
        h = self.eps / shrink
        return (self.outputs(h) - self.outputs(-h)) / (2 * h)

    def one_sided(self, shrink: int) -> tuple[np.ndarray, np.ndarray]:
        """Left and right slopes of every output."""
        h, here = self.eps / shrink, self.outputs(0.0)
        return (here - self.outputs(-h)) / h, (self.outputs(h) - here) / h

    def rounding(self, dy: np.ndarray, shrink: int = 1) -> float:
        """How far rounding alone can move dy . central(shrink): the outputs carry a few units in their last place."""
        return 8 * MACHINE * float(abs(dy) @ abs(self.outputs(0.0))) * shrink / self.eps


@dataclass
class Expectation:
    """The interval in which dy . slope must lie; a single number but at a kink."""

    low: float
    high: float
    rounding: float
    kink: bool = False

    def accepts(self, got: float, rtol: float, atol: float) -> bool:
        """low <= got <= high, up to atol + rtol * |bound| + rounding. NaN is never accepted."""
        slack = atol + self.rounding
        return self.low - slack - rtol * abs(self.low) <= got <= self.high + slack + rtol * abs(self.high)


def expect(line: Line, dy: np.ndarray) -> Expectation:
    """What dy . slope is, supposing that there is no kink."""
    slope = float(dy @ line.central())
    return Expectation(slope, slope, line.rounding(dy))


def expect_at_kink(line: Line, dy: np.ndarray) -> Expectation | None:
    """What dy . slope may be if a kink is within eps of the point; None if the function is smooth there.

    A kink beside the point is left behind by a smaller step. At a kink of its own every output may take any value
    between its left and its right slope (the subgradients), so the sum lies between the sums of the extremes.
    """
    for shrink in SHRINK:
        left, right = line.one_sided(shrink)
        noise = 16 * MACHINE * abs(line.outputs(0.0)) * shrink / line.eps
        kinked = abs(right - left) > 1e-3 * np.maximum(abs(left), abs(right)) + noise
        if not kinked.any():
            if shrink == 1:
                return None
            slope = float(dy @ line.central(shrink))
            return Expectation(slope, slope, line.rounding(dy, shrink), kink=True)
    sides = np.stack([dy * left, dy * right])
    return Expectation(float(sides.min(axis=0).sum()), float(sides.max(axis=0).sum()), line.rounding(dy, SHRINK[-1]), True)
