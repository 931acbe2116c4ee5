"""Notices a student's file that changes, in memory, what it is judged with.

A file that patches NumPy, a check or a builtin, on purpose or not, would be judged by itself. This is no wall against
somebody who means harm: the code of strangers is run in a container.
"""
import builtins
import importlib
import math
import sys
from types import ModuleType
from typing import Any

JUDGES = ("minidl.checking", "minidl.homework", "minidl_hw")  # the last: checks.py and the reference, as catalog.py names them
WATCHED = ("minidl", "numpy")
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that can be changed

BUILTINS = vars(builtins)

Facts = dict[str, tuple[object, ...]]


class Fingerprint:
    """What the functions and classes of all modules that judge are, and the constants of those nearest to the judging."""

    def __init__(self, bodies: list[Any]) -> None:
        """`bodies`: the functions of the parts, whose names in checks.py hide each other."""
        importlib.import_module("numpy.testing")  # which NumPy loads when it is asked for
        self._bodies = [(body, _parts_of(body)) for body in bodies]
        modules = [module for name, module in sorted(sys.modules.items())
                   if isinstance(module, ModuleType) and name.startswith(WATCHED)]
        self._taken = [(module, _facts(module)) for module in (math, *modules)]
        self._builtins = dict(vars(builtins))
        self._changed_builtin = ""

    def changed(self) -> str:
        """The first name that is not what it was, such as "numpy.allclose"; "" if all are."""
        self.restore_builtins()
        if self._changed_builtin:
            return self._changed_builtin
        for module, before in self._taken:
            now = _facts(module)
            for name, fact in before.items():
                if name not in now or not _same(fact, now[name]):
                    return f"{module.__name__}.{name}"
            if module.__name__.startswith(JUDGES):
                for name in now:
                    if name not in before and hasattr(builtins, name):  # a `len` of its own hides the builtin
                        return f"{module.__name__}.{name}"
        for body, before_parts in self._bodies:
            if not _same(before_parts, _parts_of(body)):
                return "the checks"
        return ""

    def restore_builtins(self) -> None:
        """Puts back what Python itself offers, without which not even the result could be told; `changed` remembers it."""
        for name, value in self._builtins.items():
            if BUILTINS.get(name) is not value and name != "_":
                BUILTINS[name] = value
                self._changed_builtin = self._changed_builtin or f"builtins.{name}"


def _facts(module: ModuleType) -> Facts:
    """By name: the functions and classes of a module, the methods of its own classes, and a judge's constants."""
    found: Facts = {}
    for name, value in list(vars(module).items()):
        if callable(value):
            found[name] = _parts_of(value)
            if isinstance(value, type) and value.__flags__ & HEAP_TYPE and value.__module__ == module.__name__:
                found.update(_methods(name, value))
        elif name.isupper() and module.__name__.startswith(JUDGES):
            found[name] = (value,)
    return found


def _methods(name: str, kind: type) -> Facts:
    found: Facts = {}
    for inner, value in list(vars(kind).items()):
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if callable(function):
            found[f"{name}.{inner}"] = (value, *_parts_of(function))
    return found


def _parts_of(function: Any) -> tuple[object, ...]:
    """The objects that a function consists of; NumPy hides the one that computes behind a dispatcher."""
    inner = getattr(function, "_implementation", function)
    code = getattr(inner, "__code__", None)
    if code is None:
        return (function,)
    keywords = inner.__kwdefaults__ or {}
    return (function, code, inner.__defaults__, *keywords, *keywords.values())


def _same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    """The very same objects: equality would be asked of the objects themselves, and an array has none."""
    return len(before) == len(now) and all(old is new for old, new in zip(before, now))
