"""The gradient of one input, held against slopes: element by element, or along random directions where there are many."""
from dataclasses import dataclass, field

import numpy as np

from minidl.checking.evidence import Evidence
from minidl.checking.picture import Picture
from minidl.checking.point import Point
from minidl.checking.referee import Question, complex_step, settled
from minidl.checking.report import Finding
from minidl.checking.slopes import Expected, Slope, central, step_of

MAX_KINKS, MAX_WRONG = 20, 5  # of a large input: how many are located before the check gives up
SAMPLED = 200  # of a large input that is wrong: how many elements are measured for the cause
SETTLED = 12  # wrong elements after which the measurement of an input is trusted, where it is far off
SMALLEST = 1e-12  # what may always differ


@dataclass
class Limits:
    """What is measured, and what may differ."""

    eps: float = 1e-6
    rtol: float = 1e-5
    atol: float = 1e-7
    max_elements: int = 500
    projections: int = 8


class TooManyKinksError(Exception):
    """Hardly anything can be said at this point. The message says where the kinks are."""


@dataclass
class OneInput:
    """One input at one point: what backward gave, and what became of each element: "agrees", "kink" or "wrong"."""

    point: Point
    name: str
    got: np.ndarray  # (2, elements)
    cotangents: np.ndarray  # (2, outputs)
    limits: Limits
    rng: np.random.Generator
    verdicts: dict[int, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    directions: int = 0
    worst: float = 0.0
    terms: float = 0.0
    atol: float = 0.0

    def check(self) -> None:
        """Fills verdicts and findings. Errors: TooManyKinksError where kinks leave too little."""
        self.atol = self.limits.atol
        size = self.point.values[self.name].size
        if size <= self.limits.max_elements:
            self.atol = self._smaller_atol(size)
            for i in range(size):
                self.verdicts[i] = self.check_element(i)
            kinks = [*self.verdicts.values()].count("kink")
            if 2 * kinks > size and not self.failed:
                raise TooManyKinksError(f"{kinks} of the {size} elements of {self.name} sit on a kink")
        else:
            self._check_directions(size)
            if self.failed:
                self._measure_more(size)

    @property
    def failed(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.findings)

    def _smaller_atol(self, size: int) -> float:
        """Where all slopes are small but well measured, what may differ is small, too."""
        expected = [self._slope(i).expected(dy) for i in range(size) for dy in self.cotangents]
        self.terms = max((e.terms for e in expected), default=0.0)
        largest, rounding = (max((f(e) for e in expected), default=0.0) for f in (lambda e: abs(e.value), lambda e: e.rounding))
        return min(self.limits.atol, max(SMALLEST, 1e-4 * largest)) if largest > 1000 * rounding else self.limits.atol

    def _slope(self, i: int) -> Slope:
        return self.point.slope(self.name, i, self.limits.eps)

    # --- one element -------------------------------------------------------------------------------------------------

    def check_element(self, i: int) -> str:
        """The verdict on element i (flat), for both cotangents."""
        slope, index, kinked = self._slope(i), self.point.index(self.name, i), False
        for k, dy in enumerate(self.cotangents):
            got, expected = float(self.got[k, i]), slope.expected(dy)
            wanted = self._wanted(i, got, expected, dy)
            if wanted is not None:
                between = None if expected.low == expected.high else (expected.low, expected.high)
                self.findings.append(Finding(self.name, index, got, wanted, between))
                return "wrong"
            kinked |= expected.high - expected.low > self.limits.atol + expected.rounding  # else noise looked like a kink
        return "kink" if kinked else "agrees"

    def _wanted(self, i: int, got: float, expected: Expected, dy: np.ndarray) -> float | None:
        """None if `got` is right; else what it should be."""
        rtol = self.limits.rtol
        if expected.accepts(got, rtol, self.atol, with_rounding=False):
            self._note(got, expected)
            return None
        direction = self.point.element(self.name, i)
        if expected.accepts(got, rtol, self.atol):  # by the grace of rounding alone
            self._note(got, expected)
            exact = complex_step(self.point, self.name, direction, dy, expected.terms)
            near = exact is not None and abs(exact - expected.value) <= expected.rounding + rtol * abs(expected.value)
            far = near and abs(got - exact) > rtol * abs(exact) + self.atol + 1e-9 * expected.terms  # type: ignore[arg-type, operator]
            return exact if far else None
        far_off = abs(got - expected.value) > 0.01 * max(abs(got), expected.terms) + 1e3 * expected.rounding
        if far_off and len(self.findings) >= SETTLED and expected.low == expected.high:
            return expected.value
        h = step_of(float(self.point.values[self.name].reshape(-1)[i]), self.limits.eps)
        return settled(Question(self.point, self.name, direction, h, dy, got, expected, rtol, self.atol))

    def _note(self, got: float, expected: Expected) -> None:
        """Remembers how close to the limit an accepted comparison came."""
        allowed = self.atol + self.limits.rtol * abs(expected.value) + expected.rounding
        if expected.low == expected.high:
            self.worst = max(self.worst, abs(got - expected.value) / allowed if allowed else 0.0)

    # --- many elements: along random directions ----------------------------------------------------------------------

    def _check_directions(self, size: int) -> None:
        """Checks random directions. Each that disagrees is bisected to an element, which later ones leave out."""
        x = self.point.values[self.name].reshape(-1)
        steps = np.maximum(1.0, abs(x))  # an element moves in proportion to its size
        for _ in range(self.limits.projections):
            direction = self.rng.choice([-1.0, 1.0], size) * steps
            self.directions += 1
            while True:
                direction[list(self.verdicts)] = 0.0
                found = self._disagreement(direction)
                if found is None:
                    break
                i = self._locate(direction)
                self.verdicts[i] = self.check_element(i)
                if self.verdicts[i] == "agrees":  # the mistake is spread too thin to show in a single element
                    self.findings.append(Finding(self.name, None, *found))
                if self.verdicts[i] == "agrees" or [*self.verdicts.values()].count("wrong") == MAX_WRONG:
                    return
                if len(self.verdicts) > MAX_KINKS and not self.failed:
                    raise TooManyKinksError(f"more than {MAX_KINKS} of the elements of {self.name} sit on a kink")

    def _along(self, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            return central(self.point.line(self.name, direction), self.limits.eps)

    def _disagreement(self, direction: np.ndarray) -> tuple[float, float] | None:
        """(got, expected) for the first cotangent that disagrees along `direction`."""
        value, rounding = self._along(direction)
        slope = Slope(value, value, value, rounding)
        for g, dy in zip(self.got, self.cotangents):
            got, expected = float(g @ direction), slope.expected(dy)
            if expected.accepts(got, self.limits.rtol, self.limits.atol):
                self._note(got, expected)
                continue
            question = Question(self.point, self.name, direction, self.limits.eps, dy, got, expected, self.limits.rtol,
                                self.limits.atol)
            wanted = settled(question, may_jump=False)
            if wanted is not None:
                return got, wanted
        return None

    def _locate(self, direction: np.ndarray) -> int:
        """The element that contributes most to the disagreement along `direction`, by halving its support."""
        support = np.flatnonzero(direction)
        while len(support) > 1:
            halves = np.array_split(support, 2)
            errors = []
            for half in halves:
                part = np.zeros_like(direction)
                part[half] = direction[half]
                value, _ = self._along(part)
                errors.append(max(abs(float(g @ part) - float(dy @ value)) for g, dy in zip(self.got, self.cotangents)))
            support = halves[int(np.argmax(np.nan_to_num(errors, nan=np.inf)))]
        return int(support[0])

    def _measure_more(self, size: int) -> None:
        """Elements here and there, so that a cause can be told."""
        for i in self.rng.choice(size, min(SAMPLED, size), replace=False):
            if int(i) not in self.verdicts:
                self.verdicts[int(i)] = self.check_element(int(i))

    # --- for the report ----------------------------------------------------------------------------------------------

    def picture(self) -> Picture:
        """The states of all elements, and by how much they are off."""
        x = self.point.values[self.name]
        all_right = len(self.verdicts) < x.size and not self.failed
        states, errors = np.full(x.size, "." if all_right else "?"), np.full(x.size, np.nan)
        for i, verdict in self.verdicts.items():
            expected = [self._slope(i).expected(dy).value for dy in self.cotangents]
            errors[i] = max(abs(float(g[i]) - value) for g, value in zip(self.got, expected))
            nothing = verdict == "wrong" and (self.got[:, i] == 0).all()
            states[i] = "0" if nothing else {"agrees": ".", "kink": "~", "wrong": "#"}[verdict]
        return Picture(self.name, states.reshape(x.shape), errors.reshape(x.shape))

    def evidence(self) -> Evidence:
        """All that a hypothesis may look at."""
        index = list(self.verdicts)
        slopes = [self._slope(i) for i in index]
        values = self.point.values
        return Evidence(
            name=self.name, point=self.point, cotangents=self.cotangents, got=self.got, index=np.array(index, int),
            wrong=np.array([self.verdicts[i] == "wrong" for i in index], bool),
            smooth=np.array([s.kinked is None for s in slopes], bool),
            slopes=np.stack([s.value for s in slopes]) if slopes else np.zeros((0, self.point.y.size)),
            slopes_of=lambda other: np.stack([self.point.slope(other, i, self.limits.eps).value
                                              for i in range(values[other].size)]),
            atol=self.atol)
