"""What a gradient check found, for people to read."""
import textwrap
from dataclasses import dataclass, field
from typing import Any

from minidl.checking.codes import CODES
from minidl.checking.picture import Picture, draw

SHOWN = 5
MOST_LINES, WIDTH = 25, 100


class GradcheckError(AssertionError):
    """The gradient is wrong, or cannot be checked. An AssertionError, so that pytest shows it as a failed test.

    `report` is the Report where the gradient was found wrong; None where nothing could be checked.
    """

    report: "Report | None" = None


@dataclass(frozen=True)
class Finding:
    """One element (or, with index None, one direction) at which backward and measurement disagree."""

    input: str
    index: tuple[int, ...] | None
    got: float
    expected: float
    between: tuple[float, float] | None = None
    """At a kink: the range in which `got` should lie."""

    @property
    def ratio(self) -> float:
        """got / expected; NaN where nothing was expected, and at a kink."""
        return self.got / self.expected + 0.0 if self.expected and not self.between else float("nan")

    def __str__(self) -> str:
        where = f"{self.input}[{', '.join(map(str, self.index))}]" if self.index is not None else f"{self.input}, a direction"
        low, high = self.between or (self.expected, self.expected)
        wanted = f"between {low:.9g} and {high:.9g} (a kink)" if self.between else f"{self.expected:.9g}"
        ratio = f"   got / expected = {self.ratio:.6g}" if self.ratio == self.ratio else ""
        return f"{where}: got {self.got:.9g}, expected {wanted}{ratio}"


@dataclass
class Cause:
    """A likely cause: its code, what speaks for it, and the formula to compare one's code with."""

    code: str
    why: str
    input: str | None = None
    factor: float | None = None
    """For `scale`: got / expected."""
    names: frozenset[str] = frozenset()
    """For `scale`: what the factor may be called."""
    line: str = ""
    """The line of the student's backward that makes this gradient."""

    @property
    def formula(self) -> str:
        """The line of the gradient to compare one's own with."""
        return CODES[self.code][1].format(x=self.input or "x")

    def said(self) -> str:
        """`why`, with the factor and its name in their place: "1/12 times what it should be (12 is the batch, x.shape[0])"."""
        if self.factor is None:
            return self.why
        size = abs(self.factor)
        large = max(size, 1 / size)
        whole = large < 1e6 and abs(large - round(large)) < 1e-4 * large
        number = f"{round(large)}" if whole else f"{large:.6g}"
        shown = ("-" if self.factor < 0 else "") + (number if size >= 1 else f"1/{number}" if whole else f"{size:.6g}")
        telling = ("the batch", "the window", "2,")
        names = sorted(self.names, key=lambda name: (not name.startswith(telling), "root" in name, len(name)))[:3]
        is_called = f" ({number if whole or size >= 1 else f'1/{size:.6g}'} is {', or '.join(names)})" if names else ""
        return self.why.replace("{factor}", shown) + is_called


@dataclass
class Report:
    """How much was checked, what is wrong, and why probably. `str(report)` is `report.text`."""

    name: str
    seed: int
    ok: bool = True
    measured: bool = True
    """False where nothing could be measured: then nothing is known, and the first line says why."""
    findings: list[Finding] = field(default_factory=list)
    """The worst five elements: input, index, got, expected, ratio."""
    diagnoses: list[Cause] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    """Elements on a kink, by input: there a gradient need only lie between the slopes of both sides."""
    kinks: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    elements: int = 0
    directions: int = 0
    worst: float = 0.0
    """Largest |got - expected| in parts of what is allowed, of what passed: 1 is the limit."""
    beside: list[str] = field(default_factory=list)
    """Inputs with so many kinks that they were checked a little beside the point as well."""
    wrong: dict[str, int] = field(default_factory=dict)
    """Wrong elements by input."""
    checked: dict[str, int] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    repeat: str = ""
    """A line that repeats the check."""
    tolerance: str = ""
    left_out: list[str] = field(default_factory=list)
    """Samples that could not be tried, and why."""
    sample: str = ""
    """Which sample this is, where several were checked."""
    seen: str = ""
    """How many of several samples failed."""
    exception: Exception | None = None
    """What backward raised."""

    @property
    def causes(self) -> list[str]:
        """The codes of the likely causes, most likely first; empty when the gradient is right."""
        return list(dict.fromkeys(cause.code for cause in self.diagnoses)) if self.measured else []

    @property
    def text(self) -> str:
        """What a teacher would write, in at most 25 lines."""
        return self._verdict() if self.ok else "\n".join(self._lines())

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return self.ok

    def plot(self) -> Any:
        """The errors as a matplotlib figure: one heat map for each input that is wrong (all inputs, where none is)."""
        return draw(self.name, self.pictures, self.text.splitlines()[0])

    def _verdict(self) -> str:
        counted = f"{self.elements} elements" + (f" and {self.directions} directions" if self.directions else "")
        at_kinks = sum(self.skipped.values())
        kinks = f", {at_kinks} of them at a kink{f': {self.kinks[:3]}' if self.kinks else ''}" if at_kinks else ""
        beside = f"; {', '.join(self.beside[:3])} also beside the point, away from kinks" if self.beside else ""
        return "\n".join(_wrapped(f"gradients agree: {counted} checked{kinks}{beside}; largest error {self.worst:.2g} of what "
                                  f"is allowed (seed {self.seed}){self._without()}", "    "))

    def _without(self) -> str:
        many = f"{len(self.left_out)} sample{'s' * (len(self.left_out) > 1)}"
        return f"; {many} left out, as {self.left_out[0]}" if self.left_out else ""

    def _lines(self) -> list[str]:
        """First what is wrong and why; then numbers; then, as far as there is room, the picture."""
        causes = self._causes()
        head = [*_wrapped(self._headline()), *([""] if causes else []), *causes]
        numbers = self._numbers()
        tail = [*_wrapped(f"again: {self.repeat}", "       ")] if self.repeat else []
        room = MOST_LINES - len(head) - len(numbers) - len(tail)
        wrong = [picture for picture in self.pictures if picture.wrong]
        shown = wrong[0].lines(room) if wrong and room >= 3 else []
        gap = [""] if len(shown) < room else []
        return (head + gap + shown + numbers + tail)[:MOST_LINES]

    def _headline(self) -> str:
        name = f"{self.name}{self.sample}"
        if not self.wrong:
            return f"{name}: {self.diagnoses[0].said()}{self._without()}"
        parts = [f"{n} at {self.wrong[n]} of {self.checked[n]} checked elements" if self.checked.get(n) and self.wrong[n] else n
                 for n in self.wrong]
        right = [n for n in self.checked if n not in self.wrong]
        agree = f"; {_some(right)} {'agrees' if len(right) == 1 else 'agree'}" if right else ""
        return f"{name}: the gradient is wrong: {_some(parts)}{agree}{self._without()}"

    def _causes(self) -> list[str]:
        """The first cause with its formula, the next two without; one line for a cause that several inputs have."""
        if not self.measured or (self.exception is not None and self.diagnoses[0].code == "unknown"):
            return []
        lines: list[str] = []
        alike: dict[str, list[Cause]] = {}
        for cause in self.diagnoses:
            key = f"{cause.code} {cause.factor:.6g}" if cause.factor is not None else cause.code
            alike.setdefault(key, []).append(cause)
        for i, causes in enumerate(list(alike.values())[:3]):
            first, inputs = causes[0], list(dict.fromkeys(c.input for c in causes if c.input))
            of = f" (gradient of {_some(inputs)})" if inputs and (len(self.checked) > 1 or len(inputs) > 1) else ""
            why = f". {first.said()}" if self.wrong or i else ""
            lines += _wrapped(f"{'also' if i else 'likely cause'}: {first.code}{of}{why}", "    ")
            if not i and not self.exception:
                lines += _wrapped(f"formula: {first.formula}", "    ")
            lines += [line for c in causes[:2] if c.line and i < 2 for line in _wrapped(f"look at {c.line}", "    ")]
        return list(dict.fromkeys(lines))

    def _numbers(self) -> list[str]:
        lines = [line for finding in self.findings[:SHOWN] for line in _wrapped(f"  {finding}", "      ")]
        if lines and self.tolerance:
            lines.append(f"  allowed: {self.tolerance}")
        return lines


def _some(names: list[str]) -> str:
    """The names, or the first five and how many more."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
