"""Holds a gradient against measured slopes, element by element, and collects what speaks for a cause.

    loss = sum of dy * f(x)         dy: random, so that no mistake hides in a sum that happens to be constant
    d loss / d x[i]  by backward    must equal    (loss(x + h e_i) - loss(x - h e_i)) / 2 h    measured

Every element is measured while the input is small; for a large one, random directions are, and a direction that
disagrees is bisected down to an element. Before an element is called wrong, other step sizes and, where the function
takes complex numbers, a complex step have their say: a right gradient is never refused for the referee's own error.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.checking.causes import diagnose
from minidl.checking.evidence import Evidence
from minidl.checking.picture import Picture
from minidl.checking.report import Cause, Finding, GradcheckError, Report
from minidl.checking.slopes import Expected, Outputs, Slope, measure, other_steps, step_of
from minidl.checking.subject import BrokenRuleError, Subject
from minidl.checking.wrong_shape import explain_shape

COTANGENTS = 2
MAX_KINKS, MAX_WRONG = 20, 5  # of a large input: how many are located before the check gives up
MOST_NUMBERS = 4_000_000  # of slopes that are kept, elements * outputs: 32 MB
SAMPLED = 200  # of a large input that is wrong: how many elements are measured for the cause
MOST_TIES = 64
FLOAT32 = 2e-5  # parts of the sum of magnitudes that float32 may lose: 300 units in the last place
COMPLEX_STEP = 1e-30


@dataclass
class Limits:
    """What is measured, and what may differ."""

    eps: float = 1e-6
    rtol: float = 1e-5
    atol: float = 1e-7
    max_elements: int = 500
    projections: int = 8


class Examiner:
    """One check: the function at one point, its outputs strung into one vector, two random cotangents."""

    def __init__(self, subject: Subject, seed: int, limits: Limits, reference: Callable[[], Any] | None = None) -> None:
        self.subject, self.seed, self.limits, self.reference = subject, seed, limits, reference
        self.report = Report(subject.name, seed, tolerance=f"{limits.atol:g} + {limits.rtol:g} * |expected|")
        self.rng = np.random.default_rng(seed)
        self.measured: dict[str, dict[int, Slope]] = {}
        self.low_precision = getattr(subject, "dtype", np.dtype(np.float64)) == np.float32

    def run(self) -> Report:
        """The whole check. Raises GradcheckError only where nothing can be checked."""
        try:
            self.subject.keeps_the_rules()
        except BrokenRuleError as broken:
            return self._broken(broken.code, broken.why, broken.name)
        self.y = self.subject.outputs()
        differs = self._forward_differs()
        self.cotangents = self.rng.standard_normal((COTANGENTS, self.y.size))
        try:
            gradients = [self.subject.gradients(dy) for dy in self.cotangents]
        except BrokenRuleError as broken:
            return self._broken(broken.code, broken.why, broken.name)
        self.gradients = gradients
        for name, x in self.subject.values.items():
            self._check_input(name, x)
        if not self.report.wrong:
            self._check_ties()
        if differs:
            self._forward_comes_first(differs)
        self._conclude()
        return self.report

    # --- what comes before the numbers -------------------------------------------------------------------------------

    def _broken(self, code: str, why: str, name: str | None) -> Report:
        self.report.ok = False
        self.report.diagnoses.append(Cause(code, why, input=name))
        return self.report

    def _forward_differs(self) -> Cause | None:
        """What is to be said if the reference computes something else."""
        if self.reference is None:
            return None
        want = np.asarray(self.reference())
        if want.shape != self.subject.y_shape:
            return Cause("forward-differs", f"forward returned shape {self.subject.y_shape}, the reference {want.shape}")
        got, want = self.y, want.reshape(-1).astype(np.float64)
        scale = float(abs(want).max(initial=0.0))
        bad = ~(abs(got - want) <= 1e-7 * abs(want) + 1e-9 * scale + 1e-12)
        if not bad.any():
            return None
        worst = int(np.argmax(np.where(bad, abs(got - want), 0)))
        index = tuple(int(i) for i in np.unravel_index(worst, self.subject.y_shape)) if self.subject.y_shape else ()
        ratios = got[bad & (want != 0)] / want[bad & (want != 0)]
        constant = bad.all() and len(ratios) and np.allclose(ratios, ratios[0], rtol=1e-6)
        extra = f"; everywhere {ratios[0]:.6g} times the reference" if constant else ""
        return Cause("forward-differs", f"forward differs from the reference at {int(bad.sum())} of {bad.size} outputs, most "
                     f"at out{list(index)}: got {got[worst]:.9g}, expected {want[worst]:.9g}{extra}")

    def _forward_comes_first(self, differs: Cause) -> None:
        self.report.ok = False
        fits = "backward fits this forward" if not self.report.wrong else "backward does not fit this forward either"
        differs.why += f". ({fits})"
        if not self.report.wrong:
            self.report.diagnoses.clear()
        self.report.diagnoses.insert(0, differs)

    # --- one input ---------------------------------------------------------------------------------------------------

    def _check_input(self, name: str, x: np.ndarray) -> None:
        got = [g[name] for g in self.gradients]
        if any(g is not None and (g.dtype.kind not in "fiub" or (g.dtype.kind == "f" and g.dtype.itemsize < 4)) for g in got):
            self._wrong_kind(name, got)
            return
        wrong_dtype = next((g.dtype for g in got if g is not None and not self._dtype_kept(g)), None)
        if any(g is None or g.shape != x.shape for g in got):
            self._wrong_shape(name, x, got)
            return
        self.flat = [g.reshape(-1).astype(np.float64) for g in got]
        self.measured[name] = {}
        before = len(self.report.findings)
        if x.size <= self.limits.max_elements:
            verdicts = {i: self._check_element(name, i) for i in range(x.size)}
        else:
            verdicts = self._check_directions(name, x)
        if wrong_dtype is not None:
            self._remember(name, x, verdicts, got, failed=True)
            self.report.diagnoses.append(Cause("wrong-dtype", f"d{name} has dtype {wrong_dtype}, where {name} has "
                                               f"{self._dtype()}: an array made inside backward has another dtype", input=name))
            return
        failed = "wrong" in verdicts.values() or len(self.report.findings) > before
        self._remember(name, x, verdicts, got, failed)

    def _dtype(self) -> np.dtype:
        return np.dtype(getattr(self.subject, "dtype", np.float64))

    def _dtype_kept(self, g: np.ndarray) -> bool:
        """Wider is harmless in float32, where a student's buffers are often float64."""
        return g.dtype.kind == "f" and g.dtype.itemsize >= self._dtype().itemsize

    def _wrong_kind(self, name: str, got: list) -> None:
        kind = next(g.dtype for g in got if g is not None)
        self.report.wrong[name] = 0
        self.report.diagnoses.append(Cause("wrong-dtype", f"the gradient of {name} has dtype {kind}: it must hold floating "
                                           "numbers", input=name))

    def _slope(self, name: str, i: int) -> Slope:
        """The slope of all outputs along element i, measured once."""
        found = self.measured.setdefault(name, {}).get(i)
        if found is None:
            x = self.subject.values[name]
            direction = np.zeros(x.size)
            direction[i] = 1.0
            h = step_of(x.reshape(-1)[i : i + 1], self.limits.eps)
            with np.errstate(all="ignore"):
                found = measure(self._line(name, direction), h)
            if not np.isfinite(found.value).all():
                index = [int(j) for j in np.unravel_index(i, x.shape)]
                raise GradcheckError(f"{self.subject.name}: f is not finite within eps = {self.limits.eps:g} of {name}{index} "
                                     f"= {x.reshape(-1)[i]:g}, so there is no slope to measure: move the input")
            if len(self.measured[name]) * self.y.size <= MOST_NUMBERS:
                self.measured[name][i] = found
        return found

    def _line(self, name: str, direction: np.ndarray) -> Outputs:
        """The outputs along `direction` (flat) of one input. Every point is evaluated once."""
        x, step = self.subject.values[name], direction.reshape(self.subject.values[name].shape)
        seen: dict[float, np.ndarray] = {0.0: self.y}

        def outputs(t: float) -> np.ndarray:
            if t not in seen:
                seen[t] = self.subject.outputs({name: x + t * step})
            return seen[t]

        return outputs

    def _check_element(self, name: str, i: int) -> str:
        """Checks element i (flat): "agrees", "kink" or "wrong"; the last two go into the report."""
        self.report.elements += 1
        slope = self._slope(name, i)
        index = tuple(int(j) for j in np.unravel_index(i, self.subject.values[name].shape))
        for k, dy in enumerate(self.cotangents):
            got, expected = float(self.flat[k][i]), slope.expected(dy)
            if self._accepts(got, expected):
                self._note(got, expected)
                continue
            direction = np.zeros(self.subject.values[name].size)
            direction[i] = 1.0
            settled = self._referee(name, direction, got, expected, dy)
            if settled is None:
                continue
            between = None if slope.kinked is None else (expected.low, expected.high)
            self.report.findings.append(Finding(name, index, got, settled, between))
            return "wrong"
        if slope.kinked is not None and any((slope.kinked & (dy != 0)).any() for dy in self.cotangents):
            self.report.kinks.append((name, index))
            self.report.skipped[name] = self.report.skipped.get(name, 0) + 1
            return "kink"
        return "agrees"

    def _accepts(self, got: float, expected: Expected) -> bool:
        rtol, atol = self.limits.rtol, self.limits.atol
        if self.low_precision:
            atol += FLOAT32 * expected.terms
            rtol = max(rtol, 1e-4)
        return expected.accepts(got, rtol, atol)

    def _note(self, got: float, expected: Expected) -> None:
        """Remembers how close to the limit an accepted comparison came."""
        allowed = self.limits.atol + self.limits.rtol * abs(expected.value) + expected.rounding
        if expected.low == expected.high:
            self.report.worst = max(self.report.worst, abs(got - expected.value) / allowed)

    def _referee(self, name: str, direction: np.ndarray, got: float, expected: Expected, dy: np.ndarray) -> float | None:
        """None if `got` is right by any other way of measuring; else the best value for what it should be."""
        if not np.isfinite(got) or expected.low != expected.high:
            return expected.value
        line, h = self._line(name, direction), step_of(self.subject.values[name][:1] if direction.size > 1 else
                                                       self.subject.values[name], self.limits.eps)
        with np.errstate(all="ignore"):
            exact = self._complex_step(name, direction, dy, expected)
            if exact is not None:
                right = abs(got - exact) <= self.limits.rtol * abs(exact) + self.limits.atol
                return None if right and not self.low_precision else exact
            for slope in other_steps(line, h):
                if self._accepts(got, slope.expected(dy)):
                    return None
        return expected.value

    def _complex_step(self, name: str, direction: np.ndarray, dy: np.ndarray, expected: Expected) -> float | None:
        """The imaginary part of dy . f(x + i h e) / h: a slope without cancellation, where f is smooth and takes it.

        It is believed only if it is near the measured one: code that compares, or drops the imaginary part, is not.
        """
        if not self.subject.takes_complex():
            return None
        x = self.subject.values[name]
        try:
            import warnings
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                y = self.subject.outputs({name: x + 1j * COMPLEX_STEP * direction.reshape(x.shape)})
        except Exception:
            return None
        if y.dtype.kind != "c" or not np.isfinite(y).all():
            return None
        exact = float(dy @ (y.imag / COMPLEX_STEP))
        near = abs(exact - expected.value) <= 0.05 * max(abs(exact), abs(expected.value)) + expected.rounding + self.limits.atol
        return exact if near else None

    # --- a large input: along random directions ----------------------------------------------------------------------

    def _check_directions(self, name: str, x: np.ndarray) -> dict[int, str]:
        """Checks random directions. Each that disagrees is bisected to an element, which later ones leave out."""
        verdicts: dict[int, str] = {}
        for _ in range(self.limits.projections):
            direction = self.rng.choice([-1.0, 1.0], x.size)
            self.report.directions += 1
            while True:
                direction[list(verdicts)] = 0.0
                found = self._disagreement(name, direction)
                if found is None:
                    break
                i = self._locate(name, direction)
                verdicts[i] = self._check_element(name, i)
                wrong = [*verdicts.values()].count("wrong")
                if verdicts[i] == "agrees":  # the mistake is spread too thin to show in a single element
                    self.report.findings.append(Finding(name, None, *found))
                if verdicts[i] == "agrees" or wrong == MAX_WRONG:
                    return self._measure_more(name, x, verdicts)
                if len(verdicts) > MAX_KINKS:
                    self._blind(f"more than {MAX_KINKS} of the elements of {name} sit on a kink")
        if "wrong" in verdicts.values():
            return self._measure_more(name, x, verdicts)
        return verdicts

    def _disagreement(self, name: str, direction: np.ndarray) -> tuple[float, float] | None:
        """(got, expected) for the first cotangent that disagrees along `direction`."""
        h = step_of(self.subject.values[name], self.limits.eps)
        with np.errstate(all="ignore"):
            line = self._line(name, direction)
            value = (line(h) - line(-h)) / (2 * h)
            rounding = 8 * np.finfo(float).eps * np.maximum(abs(line(h)), abs(self.y)) / h
        slope = Slope(value, value, value, rounding)
        for g, dy in zip(self.flat, self.cotangents):
            got, expected = float(g @ direction), slope.expected(dy)
            if self.low_precision:  # every element may be off by as much as it is large
                expected.terms = float(abs(g) @ abs(direction)) * 30
            self._note(got, expected) if self._accepts(got, expected) else None
            if not self._accepts(got, expected) and self._referee(name, direction, got, expected, dy) is not None:
                return got, expected.value
        return None

    def _locate(self, name: str, direction: np.ndarray) -> int:
        """The element that contributes most to the disagreement along `direction`, by halving its support."""
        support = np.flatnonzero(direction)
        h = step_of(self.subject.values[name], self.limits.eps)
        while len(support) > 1:
            halves = np.array_split(support, 2)
            errors = []
            for half in halves:
                part = np.zeros_like(direction)
                part[half] = direction[half]
                with np.errstate(all="ignore"):
                    line = self._line(name, part)
                    value = (line(h) - line(-h)) / (2 * h)
                errors.append(max(abs(float(g @ part) - float(dy @ value)) for g, dy in zip(self.flat, self.cotangents)))
            support = halves[int(np.argmax(np.nan_to_num(errors, nan=np.inf)))]
        return int(support[0])

    def _measure_more(self, name: str, x: np.ndarray, verdicts: dict[int, str]) -> dict[int, str]:
        """Elements here and there, so that a cause can be told."""
        for i in self.rng.choice(x.size, min(SAMPLED, x.size), replace=False):
            if int(i) not in verdicts:
                verdicts[int(i)] = self._check_element(name, int(i))
        return verdicts

    # --- kinks -------------------------------------------------------------------------------------------------------

    def _check_ties(self) -> None:
        """All elements of one output's kink moving together: where that direction is smooth, its slope must be matched.

        Of equal maxima, one may get all of dy, or all may share it; dy to each of them, or to none, is wrong.
        """
        tied: dict[int, list[tuple[str, int]]] = {}
        for name, found in self.measured.items():
            for i, slope in found.items():
                for o in np.flatnonzero(slope.kinked) if slope.kinked is not None else ():
                    tied.setdefault(int(o), []).append((name, i))
        for place in [o for o, elements in tied.items() if len(elements) > 1][:MOST_TIES]:
            self._check_tie(place, tied[place])

    def _check_tie(self, o: int, elements: list[tuple[str, int]]) -> None:
        directions = {name: np.zeros(self.subject.values[name].size) for name, _ in elements}
        for name, i in elements:
            directions[name][i] = 1.0

        def output(t: float) -> np.ndarray:
            moved = {name: self.subject.values[name] + t * d.reshape(self.subject.values[name].shape)
                     for name, d in directions.items()}
            return self.subject.outputs(moved)[o : o + 1]

        slope = measure(output, self.limits.eps)
        if slope.kinked is not None or not np.isfinite(slope.value).all():
            return
        one = np.zeros(self.y.size)
        one[o] = 1.0
        gradients = self.subject.gradients(one)
        got = sum(float(np.asarray(gradients[name]).reshape(-1)[i]) for name, i in elements)
        expected = slope.expected(np.ones(1))
        if self._accepts(got, expected):
            return
        place = tuple(int(j) for j in np.unravel_index(o, self.subject.y_shape)) if self.subject.y_shape else ()
        if not self.report.diagnoses:
            self.report.ok = False
            self.report.diagnoses.append(Cause(
                "ties", f"at a tie the shares add up to the wrong sum: {len(elements)} equal elements make out{list(place)}; "
                f"if all grow by 1 it grows by {expected.value:.6g}, but for dout = 1 their gradients add up to {got:.6g}",
                input=elements[0][0]))
        for name, i in elements:
            self.report.wrong[name] = self.report.wrong.get(name, 0) + 1
            index = tuple(int(j) for j in np.unravel_index(i, self.subject.values[name].shape))
            got_here = float(np.asarray(gradients[name]).reshape(-1)[i])
            self.report.findings.append(Finding(name, index, got_here, expected.value / len(elements)))
            for picture in self.report.pictures:
                if picture.name == name:
                    picture.states[index] = "#"

    def _blind(self, what: str) -> None:
        raise GradcheckError(f"{self.subject.name}: {what}, so hardly anything was checked: choose inputs without ties and "
                             "away from 0")

    # --- what is remembered, and what it means -----------------------------------------------------------------------

    def _remember(self, name: str, x: np.ndarray, verdicts: dict[int, str], got: list, failed: bool) -> None:
        """The picture of one input and, where it is wrong, the cause."""
        kinks = [*verdicts.values()].count("kink")
        if 2 * kinks > x.size and not failed:
            self._blind(f"{kinks} of the {x.size} elements of {name} sit on a kink")
        self.report.checked[name] = len(verdicts) or x.size
        states, errors = np.full(x.size, "." if len(verdicts) < x.size and not failed else "?"), np.full(x.size, np.nan)
        for i, verdict in verdicts.items():
            expected = [self._slope(name, i).expected(dy).value for dy in self.cotangents]
            errors[i] = max(abs(float(g[i]) - e) for g, e in zip(self.flat, expected))
            nothing = verdict == "wrong" and all(g[i] == 0 for g in self.flat)
            states[i] = "0" if nothing else {"agrees": ".", "kink": "~", "wrong": "#"}[verdict]
        self.report.pictures.append(Picture(name, states.reshape(x.shape), errors.reshape(x.shape)))
        if failed:
            self.report.ok = False
            self.report.wrong[name] = [*verdicts.values()].count("wrong")
            if all(self._dtype_kept(g) for g in got):
                self.report.diagnoses.append(diagnose(self._evidence(name, list(verdicts), verdicts)))

    def _evidence(self, name: str, index: list[int], verdicts: dict[int, str]) -> Evidence:
        slopes = [self._slope(name, i) for i in index]
        return Evidence(
            name=name, subject=self.subject, cotangents=self.cotangents, y=self.y, got=np.stack(self.flat),
            index=np.array(index, int), wrong=np.array([verdicts.get(i) == "wrong" for i in index], bool),
            smooth=np.array([s.kinked is None for s in slopes], bool),
            slopes=np.stack([s.value for s in slopes]) if slopes else np.zeros((0, self.y.size)),
            slopes_of=lambda other: np.stack([self._slope(other, i).value for i in range(self.subject.values[other].size)]),
            limits=self.limits)

    def _wrong_shape(self, name: str, x: np.ndarray, got: list) -> None:
        self.report.ok = False
        self.report.wrong[name] = x.size
        self.flat = [np.zeros(x.size)] * COTANGENTS
        if x.size > self.limits.max_elements:
            index = sorted(int(i) for i in self.rng.choice(x.size, SAMPLED, replace=False))
        else:
            index = list(range(x.size))
        evidence = self._evidence(name, index, dict.fromkeys(index, "wrong"))
        if got[0] is None:
            if abs(evidence.expected).max(initial=0.0) > self.limits.atol:
                why = f"backward returned None for {name}, on which out depends"
                self.report.diagnoses.append(Cause("zero", why, input=name))
            else:
                del self.report.wrong[name]
                self.report.ok = not self.report.wrong
            return
        self.report.diagnoses.append(explain_shape(evidence, got))

    def _conclude(self) -> None:
        """Ready for reading: the worst five first, causes by how much they explain."""
        report = self.report
        report.ok = not (report.wrong or report.diagnoses)
        if report.ok and not report.elements and not report.directions:
            raise GradcheckError(f"{self.subject.name}: nothing was checked, for the inputs have no elements")
        report.findings.sort(key=lambda f: -abs(f.got - f.expected) if f.got == f.got else -np.inf)
        del report.findings[5:]
        order = {id(c): (c.code == "unknown", n) for n, c in enumerate(report.diagnoses)}
        report.diagnoses.sort(key=lambda c: order[id(c)])
