"""A file that a student wrote: loaded by its path, with nothing left beside it, and what in it has a forward and a backward."""
import difflib
import inspect
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from minidl.cli.errors import UserError
from minidl.function import Function
from minidl.homework.judge import told

KEPT = 4000  # characters of what the file prints


class StudentError(Exception):
    """The student's own code failed where no gradient is to blame; the message names the line."""


@dataclass
class Subject:
    """What can be checked: a pair (forward, backward) or a Function class, and what the file has for it."""

    name: str
    what: Any
    samples: Callable | None = None
    reference: Callable | None = None
    lacks: str = ""
    """Why it cannot be checked: a half is missing."""

    @property
    def parts(self) -> tuple:
        """Its functions, or the class."""
        return self.what if isinstance(self.what, tuple) else (self.what,)

    @property
    def forward(self) -> Callable:
        """What takes the inputs."""
        return self.parts[0].forward if isinstance(self.what, type) else self.parts[0]

    @property
    def takes(self) -> list[inspect.Parameter]:
        """The parameters of forward; none where they cannot be told."""
        try:
            return list(inspect.signature(self.forward).parameters.values())[isinstance(self.what, type):]
        except (TypeError, ValueError):
            return []


# --- the file --------------------------------------------------------------------------------------------------------


class _End(io.RawIOBase):
    """Keeps the end of what is written, and how many lines there were."""

    kept, lines = b"", 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.lines += bytes(data).count(b"\n")
        self.kept = (self.kept + bytes(data))[-KEPT:]
        return len(data)


@dataclass
class Home:
    """Where a student's file runs: what it prints is kept, nothing can be typed in."""

    path: Path
    module: ModuleType = field(default_factory=lambda: ModuleType(""))

    def __post_init__(self) -> None:
        self._end = _End()
        self._stream = io.TextIOWrapper(self._end, encoding="utf-8", errors="replace", write_through=True)  # type: ignore[type-var]

    @contextmanager
    def running(self) -> Iterator[None]:
        """A `with` block around every call of the student's code. It may change folder, or what NumPy does about overflow."""
        before, sys.stdin = sys.stdin, io.StringIO()
        try:
            with redirect_stdout(self._stream), redirect_stderr(self._stream), chdir("."), np.errstate():
                yield
        finally:
            sys.stdin = before

    def printed(self) -> tuple[int, str]:
        """How many lines were printed since the last time, and the end of them."""
        lines, text = self._end.lines, self._end.kept.decode("utf-8", "replace")
        self._end.kept, self._end.lines = b"", 0
        return lines + (bool(text) and not text.endswith("\n")), text

    def told(self, error: BaseException) -> str:
        """The error, with the line of the file that led to it."""
        return told(error, self.path)


@contextmanager
def visited(path: Path) -> Iterator[Home]:
    """A `with` block in which the file's folder is on sys.path and no __pycache__ is written; afterwards all is as before."""
    home = Home(path.resolve())
    before = sys.path[:], sys.argv, sys.dont_write_bytecode
    sys.path.insert(0, str(home.path.parent))
    sys.argv, sys.dont_write_bytecode = [str(path)], True
    name = path.stem if path.stem not in sys.modules else f"checked_{path.stem}"
    home.module = sys.modules[name] = ModuleType(name)
    home.module.__file__ = str(home.path)
    try:
        yield home
    finally:
        sys.modules.pop(name, None)
        sys.path[:], sys.argv, sys.dont_write_bytecode = before


def load(home: Home, source: bytes) -> None:
    """Runs the file. Errors: StudentError, also where it calls sys.exit; its cause is the error itself."""
    try:
        with home.running():
            exec(compile(source, str(home.path), "exec", dont_inherit=True), home.module.__dict__)
    except (Exception, SystemExit) as error:
        raise StudentError(home.told(error)) from error


# --- what is in it ---------------------------------------------------------------------------------------------------


def subjects(module: ModuleType) -> dict[str, Subject]:
    """All pairs and Function classes of the file by name, in its order; first its own, then what it imports."""
    found: dict[str, Subject] = {}
    things = vars(module)
    bases = {base for thing in things.values() if isinstance(thing, type) for base in thing.__mro__[1:]}
    for name in sorted(things, key=lambda name: not is_own(module, (things[name],))):
        subject = _class(module, name, bases) or _pair(module, name)
        if subject is None:
            continue
        other = found.get(subject.name)
        if other is not None and [*map(id, other.parts)] == [*map(id, subject.parts)]:  # relu_backward after relu_forward
            continue
        if other is not None:
            subject.name = name
        found[subject.name] = subject
    return found


def is_own(module: ModuleType, parts: tuple) -> bool:
    """Whether the file defines one of them; a function or class that it imports bears another module's name."""
    return any(not isinstance(part, (FunctionType, type)) or part.__module__ == module.__name__ for part in parts)


def _class(module: ModuleType, name: str, bases: set) -> Subject | None:
    kind = getattr(module, name)
    if not isinstance(kind, type) or not issubclass(kind, Function) or kind is Function:
        return None
    missing = [part for part in ("forward", "backward") if getattr(kind, part) is getattr(Function, part)]
    if missing and kind in bases:  # what others of the file build on
        return None
    own = kind.samples if kind.samples is not Function.samples else None
    return Subject(kind.__name__, kind, _function(module, f"{name}_samples") or own, _function(module, f"{name}_reference"),
                   f"the class defines no {' and no '.join(missing)}" if missing else "")


def _pair(module: ModuleType, name: str) -> Subject | None:
    """relu_forward with relu_backward, forward_relu with backward_relu, conv_forward_naive with conv_backward_naive."""
    words = name.split("_")
    if len(words) == 1 or not {"forward", "backward"} & set(words) or isinstance(getattr(module, name), type) \
            or not callable(getattr(module, name)):
        return None
    here = "forward" if "forward" in words else "backward"
    place = words.index(here)
    base = "_".join(words[:place] + words[place + 1:])

    def called(word: str) -> str:
        return "_".join([*words[:place], word, *words[place + 1:]])

    def beside(word: str) -> Callable | None:
        return _function(module, f"{base}_{word}") or _function(module, called(word))

    forward, backward = _function(module, called("forward")), _function(module, called("backward"))
    if not (forward and backward):
        missing = called("backward" if forward else "forward")
        others = [other for other in vars(module) if other != name and _function(module, other)]
        near = difflib.get_close_matches(missing, others, 1, cutoff=0.85)
        return Subject(base, (forward or backward,), lacks=f"{name} is there, but no {missing}"
                       + (f"; is it {near[0]}?" if near else ""))
    return Subject(base, (forward, backward), beside("samples"), beside("reference"))


def _function(module: ModuleType, name: str) -> Callable | None:
    found = getattr(module, name, None)
    return found if callable(found) else None


def chosen(home: Home, shown: Path, name: str | None) -> list[Subject]:
    """The subject called `name`, or all that the file itself defines. Errors: UserError where there is none."""
    everything = subjects(home.module)
    own = [subject for subject in everything.values() if is_own(home.module, subject.parts)]
    if name is not None:
        wanted = {**{n: s for s in everything.values() for n in _also_called(s)}, **everything}
        if name in wanted:
            return [wanted[name]]
        near = difflib.get_close_matches(name, everything, 1, cutoff=0.5)
        names = ", ".join(subject.name for subject in own) or "nothing that can be checked"
        hint = f"did you mean {shown}::{near[0]}?" if near else f"it has {names}"
        raise UserError(f"{shown} has no {name!r} to check; {hint}")
    if not own:
        raise UserError(f"{shown} defines nothing to check; it needs a pair such as relu_forward(x) -> (out, cache) and "
                        "relu_backward(dout, cache) -> dx, or a subclass of minidl.Function")
    return own


def _also_called(subject: Subject) -> list[str]:
    """The names of its functions."""
    return [getattr(part, "__name__", "") for part in subject.parts]


# --- its inputs ------------------------------------------------------------------------------------------------------


@contextmanager
def _blamed(home: Home, who: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        raise StudentError(f"{who} failed with {home.told(error)}") from error


def samples_of(subject: Subject, home: Home) -> Callable:
    """The subject's samples as (inputs, options), whichever of the two forms they have.

    Errors, as they are drawn: StudentError.
    """
    given: Any = subject.samples
    name, end = getattr(given, "__name__", "samples"), object()

    def normal(rng: Any) -> Iterator[tuple[tuple, dict]]:
        with _blamed(home, name):
            yielded = given(rng)
        if not isinstance(yielded, Iterable):
            raise StudentError(f"{name} returned {type(yielded).__name__}; it must yield samples, such as `yield (x,), {{}}`")
        with _blamed(home, name):
            rest = iter(yielded)
            one = next(rest, end)
        while one is not end:
            yield _sample(one, name)
            with _blamed(home, name):
                one = next(rest, end)

    return normal


def _sample(one: Any, name: str) -> tuple[tuple, dict]:
    """(inputs, options) of what was yielded: that itself, or the inputs alone."""
    if isinstance(one, (tuple, list)) and len(one) == 2 and isinstance(one[0], (tuple, list)) and isinstance(one[1], dict):
        return tuple(one[0]), one[1]
    if not isinstance(one, (tuple, list)):
        raise StudentError(f"{name} yielded {type(one).__name__}; each sample is a tuple of inputs, such as (x,), or (inputs, "
                           "options), such as (x,), {}")
    return tuple(one), {}


def reference_of(subject: Subject, home: Home) -> Callable | None:
    """The subject's reference, whose own failures are told from those of what is checked. Errors, later: StudentError."""
    given = subject.reference
    if given is None:
        return None

    def guarded(*inputs: Any, **options: Any) -> Any:
        with _blamed(home, "the reference"):
            return given(*inputs, **options)

    return guarded


def example(subject: Subject) -> str:
    """Three lines that give the subject its inputs."""
    parameters = [p for p in subject.takes if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    inputs = [p.name for p in parameters if p.default is p.empty] or ["x"]
    options = ", ".join(f"{p.name!r}: {p.default!r:.30}" for p in parameters if p.default is not p.empty)
    comma = "," * (len(inputs) == 1)
    values = ", ".join(["rng.normal(size=(2, 3))"] * len(inputs))
    return (f"def {subject.name}_samples(rng):\n"
            f"    {', '.join(inputs)} = {values}  # in the shapes that forward takes\n"
            f"    yield ({', '.join(inputs)}{comma}), {{{options}}}")
