"""One check from the first rule to the report.

    loss = sum of dy * f(x)         dy: random, so that no mistake hides in a sum that happens to be constant
    d loss / d x[i]  by backward    must equal    (loss(x + h e_i) - loss(x - h e_i)) / 2 h    measured

First the rules that need no numbers; then every input (`one_input`), with a referee for disagreements; then ties, and
whether the gradient is in proportion to dy; at last float32 or the GPU, if they were asked for.
"""
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from minidl.checking.causes import diagnose
from minidl.checking.low_precision import ALLOWED, off_in_low_precision
from minidl.checking.one_input import Limits, OneInput, TooManyKinksError
from minidl.checking.point import Point
from minidl.checking.report import Cause, Finding, GradcheckError, Report
from minidl.checking.subject import BrokenRuleError, Subject
from minidl.checking.ties import wrong_ties
from minidl.checking.wrong_shape import explain_shape

COTANGENTS, STREAM = 2, 1012  # not the stream of numbers that default_rng(seed) gives: a student's data may come from that
NUDGE = 1e-3


def cotangents(seed: int, size: int) -> np.ndarray:
    """The (2, size) random gradients of the outputs that a check with this seed uses."""
    return np.random.default_rng([seed, STREAM]).standard_normal((COTANGENTS, size))


class Examiner:
    """One check: the function at one point, its outputs strung into one vector, two random cotangents."""

    def __init__(self, subject: Subject, seed: int, limits: Limits, reference: Callable[[], Any] | None = None) -> None:
        self.subject, self.seed, self.limits, self.reference = subject, seed, limits, reference
        self.report = Report(subject.name, seed, tolerance=f"{limits.atol:g} + {limits.rtol:g} * |expected|")
        self.rng = np.random.default_rng([seed, STREAM + 1])
        self.terms: dict[str, float] = {}  # by input, the largest sum of magnitudes that makes up an element

    def run(self) -> Report:
        """The whole check. Raises GradcheckError only where nothing can be checked."""
        try:
            self._look()
        except BrokenRuleError as broken:  # a rule that comes before all numbers, or one that a later call breaks
            self.report.ok = False
            self.report.diagnoses = [Cause(broken.code, broken.why, input=broken.name)]
            return self.report
        self._conclude()
        return self.report

    def _look(self) -> None:
        self.subject.keeps_the_rules()
        self.point = Point(self.subject)
        self.cotangents = cotangents(self.seed, self.point.y.size)
        self.gradients = [self.point.gradients(dy) for dy in self.cotangents]
        differs = self._forward_differs()
        for name in self.subject.values:
            self._check_input(name)
        if not self.report.wrong:
            self._check_ties()
        if not self.report.wrong and not self.report.diagnoses:
            self._check_proportion()
        if not self.report.wrong and not self.report.diagnoses:
            self._check_low_precision()
        if differs:
            self._forward_comes_first(differs)

    # --- the forward -------------------------------------------------------------------------------------------------

    def _forward_differs(self) -> Cause | None:
        """What is to be said if the reference computes something else."""
        if self.reference is None:
            return None
        want: Any = self.reference()
        want = np.asarray(want[0] if isinstance(want, tuple) and len(want) == 2 else want)  # it may give a cache, too
        if want.shape != self.subject.y_shape:
            return Cause("forward-differs", f"forward returned shape {self.subject.y_shape}, the reference {want.shape}")
        got, want = self.point.y, want.reshape(-1).astype(np.float64)
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
        differs.why += f" ({fits})"
        if not self.report.wrong:
            self.report.diagnoses.clear()
        self.report.diagnoses.insert(0, differs)

    # --- one input ---------------------------------------------------------------------------------------------------

    def _check_input(self, name: str) -> None:
        x, got = self.point.values[name], [g[name] for g in self.gradients]
        arrays = [g for g in got if g is not None]
        if any(g.dtype.kind not in "fiub" for g in arrays):
            self.report.wrong[name] = 0
            self._say(Cause("wrong-dtype", f"d{name} has dtype {arrays[0].dtype}: it must hold floating numbers", input=name))
            return
        if any(g.shape != x.shape for g in arrays):
            self._wrong_shape(name, got)
            return
        flat = np.stack([np.zeros(x.size) if g is None else g.reshape(-1).astype(np.float64) for g in got])
        one = self._checked(self.point, name, flat, self._limits_for(arrays, flat))
        kept = all(g.dtype.kind == "f" and g.dtype.itemsize >= self.subject.dtype.itemsize for g in arrays)
        if kept and not one.failed:
            self.report.pictures.append(one.picture())
            return
        self.report.wrong[name] = [*one.verdicts.values()].count("wrong")
        self.report.findings += one.findings
        self.report.pictures.append(one.picture())
        if not kept:
            self._say(Cause("wrong-dtype", f"d{name} has dtype {arrays[0].dtype}, where {name} has float64: an array made "
                            "inside backward has another dtype", input=name))
        elif len(arrays) < len(got):
            self._say(Cause("zero", f"backward returned None for {name}, on which out depends", input=name))
        else:
            self._say(diagnose(one.evidence()))

    def _limits_for(self, arrays: list, flat: np.ndarray) -> Limits:
        """The limits; wider ones where float32 was asked for, and backward gives nothing better."""
        if self.subject.dtype == np.float64 or all(g.dtype.itemsize >= 8 for g in arrays):
            return self.limits
        size = float(abs(np.nan_to_num(flat)).max(initial=0.0))
        return replace(self.limits, rtol=max(self.limits.rtol, 1e-3), atol=max(self.limits.atol, 1e-4 * size))

    def _checked(self, point: Point, name: str, flat: np.ndarray, limits: Limits) -> OneInput:
        """The input after its check: at the point or, where kinks leave too little there, beside it as well."""
        one = OneInput(point, name, flat, self.cotangents, limits, self.rng)
        try:
            one.check()
        except TooManyKinksError as blind:
            self._count_kinks(one)
            one = self._beside(name, limits, blind)
        self._count_kinks(one)
        self._count(one)
        return one

    def _count(self, one: OneInput) -> None:
        self.terms[one.name] = one.terms
        report, size = self.report, one.point.values[one.name].size
        report.elements += len(one.verdicts)
        report.directions += one.directions
        report.worst = max(report.worst, one.worst)
        report.checked[one.name] = len(one.verdicts) if one.failed or not one.directions else size

    def _count_kinks(self, one: OneInput) -> None:
        kinks = [i for i, verdict in one.verdicts.items() if verdict == "kink"]
        if kinks and one.point is self.point:
            self.report.kinks += [(one.name, one.point.index(one.name, i)) for i in kinks]
            self.report.skipped[one.name] = len(kinks)

    def _beside(self, name: str, limits: Limits, blind: TooManyKinksError) -> OneInput:
        """The same check a little beside the point, where zeros and ties have gone."""
        x = self.point.values[name]
        size = max(1e-3, float(np.median(abs(x))))
        moved = x + NUDGE * size * self.rng.uniform(-1, 1, x.shape)
        try:
            point = Point(self.subject, {name: moved})
            got = [point.gradients(dy)[name] for dy in self.cotangents]
            flat = np.stack([np.zeros(x.size) if g is None else np.asarray(g, np.float64).reshape(-1) for g in got])
            beside = OneInput(point, name, flat, self.cotangents, limits, self.rng)
            beside.check()
        except (TooManyKinksError, ValueError):
            raise GradcheckError(f"{self.subject.name}: {blind}, also a little beside it, so hardly anything was checked: "
                                 "choose inputs without ties and away from 0") from None
        self.report.beside.append(name)
        return beside

    def _wrong_shape(self, name: str, got: list) -> None:
        x = self.point.values[name]
        self.report.wrong[name] = x.size
        one = OneInput(self.point, name, np.zeros((COTANGENTS, x.size)), self.cotangents, self.limits, self.rng)
        index = range(x.size) if x.size <= self.limits.max_elements else self.rng.choice(x.size, 200, replace=False)
        one.verdicts = {int(i): "wrong" for i in index}
        self._say(explain_shape(one.evidence(), [np.asarray(0.0) if g is None else g for g in got]))

    def _say(self, cause: Cause) -> None:
        self.report.ok = False
        self.report.diagnoses.append(cause)

    # --- what elements alone do not show -----------------------------------------------------------------------------

    def _check_ties(self) -> None:
        wrong = wrong_ties(self.point, self.limits.eps)
        if not wrong:
            return
        first, self.report.tolerance = wrong[0], ""
        self._say(Cause("ties", f"at a tie the shares add up to the wrong sum: {len(first.elements)} equal elements make "
                        f"out{list(first.output)}; if all grow by 1 it grows by {first.total:.6g}, but for dout = 1 their "
                        f"gradients add up to {sum(first.got):.6g}", input=first.elements[0][0]))
        pictures = {picture.name: picture for picture in self.report.pictures}
        for tie in wrong:
            for (name, i), got in zip(tie.elements, tie.got):
                index = self.point.index(name, i)
                self.report.wrong[name] = self.report.wrong.get(name, 0) + (pictures[name].states[index] != "#")
                pictures[name].states[index] = "#"
                self.report.findings.append(Finding(name, index, got, tie.total / len(tie.elements)))

    def _check_proportion(self) -> None:
        """backward is linear in dout: -100 times as much (more, of a small one) gives as many times as much, and 0 gives 0."""
        largest = float(abs(self.cotangents[0]).max(initial=0.0))
        for factor in (-100.0 / min(1.0, max(largest, 1e-3)), 0.0):
            with np.errstate(all="ignore"):
                there = self.point.gradients(factor * self.cotangents[0])
                for name, g in self.gradients[0].items():
                    if g is not None and there[name] is not None and not self._in_proportion(name, factor, g, there[name]):
                        return

    def _in_proportion(self, name: str, factor: float, g: np.ndarray, there: Any) -> bool:
        got, want = np.asarray(there, np.float64), factor * g
        if factor and not (np.isfinite(got).all() and np.isfinite(want).all()):
            return True  # a hundred times as much was too much
        size = max(float(abs(g).max(initial=0.0)), 1e-3 * self.terms[name])
        allowed = max(abs(factor), 1e-3) * (1e-6 * size + 1e-3 * self.limits.atol)
        if got.shape == want.shape and (abs(got - want) <= allowed).all():
            return True
        self.report.wrong[name] = 0
        worst = np.unravel_index(int(np.argmax(np.nan_to_num(abs(got - want), nan=np.inf))), want.shape)
        index = tuple(int(i) for i in worst)
        code = "ignores-upstream" if factor == 0 and np.isfinite(got).all() else "unknown"
        self._say(Cause(code, f"d{name} is not in proportion to dout: {factor:g} times dout does not give {factor:g} "
                        f"times d{name} (at {list(index)}: {got[index]:.6g}, not {want[index]:.6g})", input=name))
        return False

    def _check_low_precision(self) -> None:
        pictures = {picture.name: picture for picture in self.report.pictures}
        for name, off in off_in_low_precision(self.subject, self.cotangents, self.gradients).items():
            self.report.tolerance = ALLOWED
            self.report.wrong[name] = len(off.elements)
            self._say(Cause(off.code, off.why, input=name))
            for index, (got, want) in off.elements.items():
                self.report.findings.append(Finding(name, index, got, want))
                pictures[name].states[index], pictures[name].errors[index] = "#", abs(got - want)

    def _conclude(self) -> None:
        """Ready for reading: the worst five first, what is unknown last."""
        report = self.report
        report.ok = not (report.wrong or report.diagnoses)
        if report.ok and not report.elements and not report.directions:
            raise GradcheckError(f"{self.subject.name}: nothing was checked, for the inputs have no elements")
        report.findings.sort(key=lambda f: -abs(f.got - f.expected) if f.got == f.got else -np.inf)
        del report.findings[5:]
        report.diagnoses.sort(key=lambda cause: cause.code == "unknown")
