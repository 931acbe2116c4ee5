"""The function at one point: its outputs, its slopes along an element or a direction, its gradient there."""
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.checking.report import GradcheckError
from minidl.checking.slopes import Outputs, Slope, measure, step_of
from minidl.checking.subject import Subject

MOST_NUMBERS = 4_000_000  # of slopes that are kept, elements * outputs: 32 MB


class Point:
    """The subject at its own inputs, or at inputs of which some are `moved`. Slopes are measured once."""

    def __init__(self, subject: Subject, moved: Mapping[str, np.ndarray] | None = None) -> None:
        self.subject, self.moved = subject, dict(moved or {})
        self.values = {**subject.values, **self.moved}
        self.y_shape, self.numbers = subject.y_shape, subject.numbers
        self.y = self.outputs()
        self.measured: dict[str, dict[int, Slope]] = {}

    def outputs(self, changed: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """All outputs in one vector, with some inputs `changed`."""
        return self.subject.outputs({**self.moved, **(changed or {})})

    def gradients(self, dy: np.ndarray) -> dict[str, Any]:
        """What backward gives here, in float64."""
        return self.subject.gradients(dy, self.moved)

    def line(self, name: str, direction: np.ndarray) -> Outputs:
        """The outputs along `direction` (flat) of one input. Every point is evaluated once; one that fails gives NaN."""
        x, step = self.values[name], direction.reshape(self.values[name].shape)
        seen: dict[float, np.ndarray] = {0.0: self.y}

        def outputs(t: float) -> np.ndarray:
            if t not in seen:
                try:
                    seen[t] = self.outputs({name: x + t * step})
                except Exception:  # forward refuses what lies beside the point: there is no slope to that side
                    seen[t] = np.full(self.y.shape, np.nan)
            return seen[t]

        return outputs

    def element(self, name: str, i: int) -> np.ndarray:
        """The direction of element i alone."""
        direction = np.zeros(self.values[name].size)
        direction[i] = 1.0
        return direction

    def index(self, name: str, i: int) -> tuple[int, ...]:
        """Element i, counted flat, as an index of its array."""
        return tuple(int(j) for j in np.unravel_index(i, self.values[name].shape))

    def slope(self, name: str, i: int, eps: float) -> Slope:
        """The slope of all outputs along element i. Errors: GradcheckError where there is none."""
        found = self.measured.setdefault(name, {}).get(i)
        if found is None:
            x = float(self.values[name].reshape(-1)[i])
            with np.errstate(all="ignore"):
                found = measure(self.line(name, self.element(name, i)), step_of(x, eps))
            if not np.isfinite(found.value).all():
                raise GradcheckError(f"{self.subject.name}: f is not finite within eps = {eps:g} of {name}"
                                     f"{list(self.index(name, i))} = {x:g}, so there is no slope to measure: move the input")
            if len(self.measured[name]) * self.y.size <= MOST_NUMBERS:
                self.measured[name][i] = found
        return found
