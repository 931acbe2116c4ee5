"""How an entry of the corpus is written: a NumPy pair forward/backward, right or wrong, as a student might hand it in.

    softmax = Operation("softmax", samples, reference, forward)

    @softmax.mistake("sign")
    def forgets_the_minus(dout, cache): ...           # the backward; it goes with softmax's own forward

    @softmax.correct(forward=einsum_forward)
    def by_einsum(dout, cache): ...

What is decorated may also be a `minidl.Function` class, which is forward and backward in one.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OPERATIONS: list["Operation"] = []


@dataclass
class Case:
    """One entry. `code`: the cause that a teacher would name first; None for a correct solution."""

    operation: "Operation"
    name: str
    forward: Callable | None
    backward: Any
    code: str | None

    def __str__(self) -> str:
        return f"{self.operation.name}-{self.name}"


class Operation:
    """What the entries of one operation share.

    samples(rng): yields (inputs, options), inputs as a tuple of float64 (and integer) arrays.
    reference(*inputs, **options): the right output, by plain loops or an independent formula.
    forward(*inputs, **options) -> (out, cache): the forward that backwards go with unless they bring another.
    """

    def __init__(self, name: str, samples: Callable, reference: Callable, forward: Callable | None = None) -> None:
        self.name, self.samples, self.reference, self.forward = name, samples, reference, forward
        self.cases: list[Case] = []
        OPERATIONS.append(self)

    def mistake(self, code: str, forward: Callable | None = None) -> Callable:
        """Decorates a backward (or a Function class) that is wrong; `code` is the cause that must come first."""
        return self._entry(code, forward)

    def correct(self, forward: Callable | None = None) -> Callable:
        """Decorates a backward (or a Function class) that is right."""
        return self._entry(None, forward)

    def _entry(self, code: str | None, forward: Callable | None) -> Callable:
        def enter(backward: Any) -> Any:
            alone = isinstance(backward, type)  # a Function class has a forward of its own
            self.cases.append(Case(self, backward.__name__, None if alone else forward or self.forward, backward, code))
            return backward
        return enter
