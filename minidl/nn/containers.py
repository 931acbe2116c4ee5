"""Modules made of modules."""
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from minidl.nn.checks import whole_number
from minidl.nn.module import Module


class _Numbered(Module):
    """Modules in order, kept as attributes "0", "1", ... (or by the names given), as PyTorch's keys have it."""

    def _items(self) -> list[tuple[str, Module]]:
        return list(self.named_children())

    def _add(self, name: Any, module: Any) -> None:
        if not isinstance(name, str) or not name or "." in name or hasattr(self, name):
            raise ValueError(f"{type(self).__name__}: {name!r} cannot name a module: names are strings without dots, "
                             "each used once, and none that a Module has already")
        setattr(self, name, self._checked(name, module))

    def _checked(self, name: str, module: Any) -> Module:
        who = type(self).__name__
        if isinstance(module, type):
            raise TypeError(f"{who}: got the class {module.__name__} at {name!r}, not a module: "
                            f"add parentheses, {module.__name__}(...)")
        if not isinstance(module, Module):
            raise TypeError(f"{who}: holds Modules, got {type(module).__name__} at {name!r}; "
                            "wrap a function in a Module with a forward of its own")
        return module

    def _name_of(self, index: Any) -> str:
        names = [name for name, _ in self._items()]
        number = whole_number(type(self).__name__, "index", index, least=-sys.maxsize)
        if not -len(names) <= number < len(names):
            raise IndexError(f"{type(self).__name__}: index {number} is out of range, it holds {len(names)} modules")
        return names[number]

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Any]:
        return self.children()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            raise TypeError(f"{type(self).__name__}: a module goes by its number, or as an attribute by its name: net.{index}")
        return self._sliced(self._items()[index]) if isinstance(index, slice) else getattr(self, self._name_of(index))

    def _sliced(self, items: list[tuple[str, Module]]) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must say what a slice of it is: define _sliced(items)")

    def __setitem__(self, index: int, module: Module) -> None:
        """Replaces a module, under the same name and thus at the same place."""
        name = self._name_of(index)
        setattr(self, name, self._checked(name, module))

    def append(self, module: Module) -> Self:
        """Adds a module at the end, named by its number. Returns self."""
        self._add(str(len(self)), module)
        return self


class Sequential(_Numbered):
    """y = the modules applied one after the other: Sequential(a, b)(x) = b(a(x))

    Sequential(a, b, ...) names them "0", "1", ...; Sequential({"conv": a, "relu": b}) by the keys. Indices and slices
    work as in a list; a slice is a Sequential of the same modules.
    """

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = list(modules[0].items())
        else:
            if len(modules) == 1 and isinstance(modules[0], (list, tuple)):
                raise TypeError("Sequential: takes the modules themselves, got a list: "
                                "put a star before it, Sequential(*layers)")
            named = [(str(i), module) for i, module in enumerate(modules)]
        for name, module in named:
            self._add(name, module)

    def forward(self, x: Any) -> Any:
        for module in self.children():
            x = module(x)
        return x

    def _sliced(self, items: list[tuple[str, Module]]) -> Any:
        return Sequential(dict(items))  # of a subclass, too: a part of a classifier is none


class ModuleList(_Numbered):
    """A list of modules whose parameters are found, saved and moved. Its owner's `forward` decides how to call them."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        if isinstance(modules, Module) and not isinstance(modules, _Numbered) or not isinstance(modules, Iterable):
            raise TypeError(f"ModuleList: needs a list of modules, got {type(modules).__name__}: ModuleList([a, b])")
        for i, module in enumerate(modules):
            self._add(str(i), module)

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError("ModuleList does not say how its modules follow each other: "
                                  "loop over it in your forward, or use Sequential")

    def _sliced(self, items: list[tuple[str, Module]]) -> Self:
        return type(self)(module for _, module in items)
