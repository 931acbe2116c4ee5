"""All that is known about one wrong gradient: what backward gave, what was measured, and both once more on request."""
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minidl.checking.point import Point
from minidl.checking.slopes import step_of

CLOSE = 2e-5
MOST_OUTPUTS = 600  # for questions that ask backward for one output at a time
BUDGET = 3.0  # seconds for questions that call the forward again and again
FEW = 12  # elements on which an expensive hypothesis is tried first


@dataclass
class Evidence:
    """All that a hypothesis may look at, about one input. Elements are counted flat; `index` says which were measured."""

    name: str
    point: Point
    cotangents: np.ndarray  # (2, outputs)
    got: np.ndarray  # (2, elements): what backward gave
    index: np.ndarray  # (measured,)
    wrong: np.ndarray  # (measured,) bool
    smooth: np.ndarray  # (measured,) bool: no kink there
    slopes: np.ndarray  # (measured, outputs)
    slopes_of: Callable[[str], np.ndarray]  # the slopes of another input
    atol: float

    def __post_init__(self) -> None:
        self.y, self.y_shape, self.values = self.point.y, self.point.y_shape, self.point.values
        self.started = time.monotonic()

    @cached_property
    def x(self) -> np.ndarray:
        """The input, in its own shape."""
        return self.values[self.name]

    @cached_property
    def complete(self) -> bool:
        """Whether every element was measured."""
        return len(self.index) == self.x.size

    @cached_property
    def expected(self) -> np.ndarray:
        """(2, measured): what the gradient must be."""
        return self.cotangents @ self.slopes.T

    @cached_property
    def here(self) -> np.ndarray:
        """(2, measured): what backward gave where it was measured."""
        return self.got[:, self.index]

    @cached_property
    def scale(self) -> float:
        """The size of the numbers that are compared."""
        return float(max(abs(self.expected).max(initial=0.0), 1e-12))

    def fits(self, guess: np.ndarray, where: np.ndarray | None = None) -> bool:
        """Whether backward gave what the mistake would give, (2, measured), at all smooth elements (of `where`)."""
        chosen = self.smooth if where is None else self.smooth & where
        if not chosen.any() or guess.shape != self.here.shape:
            return False
        return bool(self.alike(self.here[:, chosen], guess[:, chosen]).all())

    def alike(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Equal, up to what measuring loses."""
        return np.isfinite(a) & np.isfinite(b) & (abs(a - b) <= CLOSE * (abs(a) + abs(b)) / 2 + 2e-7 * self.scale + self.atol)

    def pull(self, dy: np.ndarray) -> np.ndarray:
        """Backward's gradient of this input for another cotangent, flat."""
        g = self.point.gradients(dy)[self.name]
        return np.zeros(self.x.size) if g is None else np.asarray(g, np.float64).reshape(-1)

    @cached_property
    def jacobian(self) -> np.ndarray | None:
        """(measured, outputs): backward's own, one output at a time; None where that is too much."""
        if self.y.size > MOST_OUTPUTS:
            return None
        one = np.eye(self.y.size)
        return np.stack([self.pull(dy)[self.index] for dy in one], axis=1)

    def shares(self, summed: tuple[int, ...]) -> np.ndarray:
        """(2, measured, groups): what each group of outputs contributes; the axes `summed` of the output lie within a group."""
        terms = (self.cotangents[:, None, :] * self.slopes[None]).reshape(2, len(self.index), *self.y_shape)
        return terms.sum(axis=tuple(2 + a for a in summed)).reshape(2, len(self.index), -1)

    def slopes_with(self, changed: dict[str, np.ndarray], index: np.ndarray) -> np.ndarray:
        """(len(index), outputs): the slopes at elements `index` if other inputs were `changed`."""
        x, rows = changed.get(self.name, self.x), []
        for i in index:
            up, down, h = x.copy(), x.copy(), step_of(float(x.reshape(-1)[i]), 1e-6)
            up.reshape(-1)[i] += h
            down.reshape(-1)[i] -= h
            rows.append((self.point.outputs({**changed, self.name: up}) - self.point.outputs({**changed, self.name: down}))
                        / (2 * h))
        return np.stack(rows)

    @property
    def out_of_time(self) -> bool:
        """Whether the search has called the forward for so long that a student would rather have an answer."""
        return time.monotonic() - self.started > BUDGET

    def fits_if(self, changed: dict[str, np.ndarray], dy: np.ndarray | None = None) -> bool:
        """Whether backward gave the right gradient of a function whose other inputs are `changed`: first a few elements."""
        cotangents = self.cotangents if dy is None else dy
        if self.out_of_time:
            return False
        rows = np.flatnonzero(self.smooth & self.wrong)[:FEW]
        with np.errstate(all="ignore"):
            for chosen in (rows, np.flatnonzero(self.smooth)):
                if not len(chosen):
                    return False
                try:
                    guess = cotangents @ self.slopes_with(changed, self.index[chosen]).T
                except Exception:
                    return False
                if guess.shape[1] != len(chosen) or not self.alike(self.here[:, chosen], guess).all():
                    return False
        return True


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal arrays, in parts of the largest number."""
    size = max(float(abs(b).max(initial=0.0)), 1e-12)
    return np.shape(a) == np.shape(b) and bool((abs(a - b) <= 1e-5 * size).all())
