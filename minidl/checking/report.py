"""What a gradient check found, for people to read."""
from dataclasses import dataclass, field

from minidl.checking.slopes import Expectation

SHOWN = 5


class GradientError(AssertionError):
    """The gradient is wrong, or cannot be checked. An AssertionError, so that pytest shows it as a failed test."""


@dataclass
class Mismatch:
    """One element (or, with index None, one direction) at which backward and measurement disagree."""

    name: str
    index: tuple[int, ...] | None
    got: float
    expected: Expectation
    cotangent: int

    def __str__(self) -> str:
        where = f"{self.name}[{', '.join(map(str, self.index))}]" if self.index is not None else f"{self.name}, a direction"
        low, high = self.expected.low, self.expected.high
        wanted = f"{low:.9g}" if low == high else f"between {low:.9g} and {high:.9g} (a kink)"
        ratio = f"   got / expected = {self.got / low:.6g}" if low == high and low != 0 else ""
        return f"{where}: got {self.got:.9g}, expected {wanted}{ratio}"


@dataclass
class GradientReport:
    """How much was checked, the largest error, and the kinks that were stepped around."""

    seed: int
    eps: float
    rtol: float
    atol: float
    elements: int = 0
    directions: int = 0
    worst: float = 0.0
    """Largest |got - expected| / (atol + rtol * |expected| + rounding) of what passed: 1 is the limit."""
    kinks: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)
    blind_spots: list[str] = field(default_factory=list)
    """Inputs with so many kinks that the check says nothing about them."""

    def note_error(self, got: float, expected: Expectation) -> None:
        """Remembers how close to the limit an accepted comparison came."""
        if expected.accepts(got, self.rtol, self.atol):
            allowed = self.atol + self.rtol * abs(expected.low) + expected.rounding
            error = abs(got - expected.low)
            self.worst = max(self.worst, error / allowed if allowed else 0.0)

    def conclude(self) -> None:
        """Raises GradientError if something is wrong, or if kinks left too little to check."""
        if self.mismatches:
            raise GradientError(self.failure())
        if not self.elements and not self.directions:
            raise GradientError("gradcheck: nothing was checked, for the inputs have no elements")
        if self.blind_spots:
            raise GradientError(f"gradcheck: {'; '.join(self.blind_spots)}, so hardly anything was checked: "
                                "choose inputs without ties and away from 0")

    def failure(self) -> str:
        """The message of a failed check: input, index, got, expected, worst first."""
        worst = sorted(self.mismatches, key=lambda m: -abs(m.got - m.expected.low))
        inputs = ", ".join(dict.fromkeys(m.name for m in self.mismatches))
        lines = [f"gradcheck: the gradient of {inputs} is wrong; {len(worst)} of {self.elements} checked elements differ:"]
        lines += [f"  {mismatch}" for mismatch in worst[:SHOWN]]
        if len(worst) > SHOWN:
            lines.append(f"  ... and {len(worst) - SHOWN} more")
        lines.append(f"  allowed: {self.atol:g} + {self.rtol:g} * |expected|; "
                     f"the same again with seed={self.seed}, eps={self.eps:g}")
        return "\n".join(lines)

    def __str__(self) -> str:
        checked = f"{self.elements} elements" + (f" and {self.directions} directions" if self.directions else "")
        kinks = f", {len(self.kinks)} at a kink: {self.kinks[:SHOWN]}" if self.kinks else ""
        return (f"gradients agree: {checked} checked{kinks}; "
                f"largest error {self.worst:.2g} of what is allowed (seed {self.seed})")
