"""Writes cupy_names.json: what CuPy has, and how it is called. The stand-in allows that and nothing else.

    python tests/cuda_on_cpu/make_table.py              # with a Python that has CuPy; no GPU is needed
    python tests/cuda_on_cpu/make_table.py --compare    # how the installed CuPy differs; exit 1 if something is gone

A function is written as its parameters, "a, axis=, *, blocking=": the sign "=" marks a default. A ufunc is written as
"ufunc nin nout" and the methods that it supports. "?" stands for a function that does not tell its parameters.
"""
import argparse
import importlib
import inspect
import json
import re
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("cupy_names.json")
WITH_PARAMETERS = ("cupy", "cupy.linalg", "cupy.lib.stride_tricks")
NAMES_ONLY = ("cupy.random", "cupy.cuda", "cupy.cuda.compiler", "cupy.cuda.runtime", "cupyx")


def parameters_of(function):
    """The parameters as text, or "?"."""
    try:
        listed = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return _parameters_in_docstring(function)
    words, star_written, positional_only = [], False, False
    for p in listed:
        if positional_only and p.kind is not p.POSITIONAL_ONLY:
            words.append("/")
        positional_only = p.kind is p.POSITIONAL_ONLY
        if p.kind is p.KEYWORD_ONLY and not star_written:
            words.append("*")
        star_written = star_written or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        words.append(stars + p.name + ("" if p.default is p.empty else "="))
    return ", ".join(word for word in words if word != "self")


def _parameters_in_docstring(function):
    """Compiled functions write "name(self, int axis=-1, kind=None)" into the first line of their docstring."""
    first_line = (function.__doc__ or "").strip().split("\n")[0]
    match = re.match(r"[\w.]+\((.*)\)", first_line)
    if match is None:
        return "?"
    words = []
    for part in filter(None, re.split(r",\s*", match[1])):
        name, has_default, _ = part.replace("\\", "").partition("=")
        name = name.split()[-1]  # without its C type
        if name != "self":
            words.append(name + has_default)
    return ", ".join(words)


def _ufunc(cupy, ufunc, empty):
    """The counts, and those methods that do more than refuse. Without a GPU, "does more" ends in a driver error."""
    words = ["ufunc", str(ufunc.nin), str(ufunc.nout)]
    for method, arguments in (("reduce", ()), ("accumulate", ()), ("reduceat", (empty,)), ("at", (empty, 1.0))):
        try:
            getattr(ufunc, method)(empty, *arguments)
        except NotImplementedError:
            continue
        except Exception:  # the driver's, or the index's: the method exists
            pass
        words.append(method)
    return " ".join(words)


def _names(module, describe):
    return {name: describe(getattr(module, name)) for name in sorted(dir(module)) if not name.startswith("_")}


def fresh_table():
    """The table of the installed CuPy."""
    import cupy

    nowhere = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(8, 8, None, 0), 0)  # never read: the array has no elements
    empty = cupy.ndarray((0,), dtype="int32", memptr=nowhere)

    def describe(value):
        if isinstance(value, cupy.ufunc):
            return _ufunc(cupy, value, empty)
        if inspect.ismodule(value):
            return "module"
        if isinstance(value, type):
            return "class"
        return parameters_of(value) if callable(value) else "value"

    table = {"version": cupy.__version__}
    for path in WITH_PARAMETERS:
        table[path] = _names(importlib.import_module(path), describe)
    for path in NAMES_ONLY:
        table[path] = _names(importlib.import_module(path), lambda value: "")
    table["ndarray"] = _names(cupy.ndarray, lambda value: parameters_of(value) if callable(value) else "attribute")
    table["ndarray.flags"] = _names(type(empty.flags), lambda value: "attribute")
    return table


def differences(old, new):
    """(lines, whether code written for `old` may fail on `new`)."""
    lines, matter = [], False
    if old["version"] != new["version"]:
        lines.append(f"version: {old['version']} -> {new['version']}")
    for part in (key for key in old if key != "version"):
        was, now = old[part], new.get(part, {})
        for name in sorted(was.keys() | now.keys()):
            if name not in now:
                lines.append(f"{part}.{name}: gone")
                matter = True
            elif name not in was:
                lines.append(f"{part}.{name}: new")
            elif was[name] != now[name]:
                worse = _takes_less(was[name], now[name])
                lines.append(f"{part}.{name}: ({was[name]}) -> ({now[name]}){', takes less' if worse else ''}")
                matter = matter or worse
    return lines, matter


def _takes_less(was, now):
    """Whether a call that fits `was` may not fit `now`: a word gone, or a parameter without default added."""
    if "?" in (was, now):
        return False
    if was.startswith("ufunc") or now.startswith("ufunc"):
        return not set(was.split()) <= set(now.split())
    old, new = was.split(", ") if was else [], now.split(", ") if now else []
    gone = {word.rstrip("=") for word in old} - {word.rstrip("=") for word in new} - {"/", "*"}
    demanded = {word for word in new if not word.endswith("=")} - {word.rstrip("=") for word in old} - {"/", "*"}
    return bool(gone or {word for word in demanded if not word.startswith("*")})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compare", action="store_true", help="print the differences to the committed table")
    if not parser.parse_args().compare:
        TABLE.write_text(json.dumps(fresh_table(), indent=0) + "\n")
        return 0
    lines, matter = differences(json.loads(TABLE.read_text()), fresh_table())
    print("\n".join(lines) or "no differences")
    return int(matter)


if __name__ == "__main__":
    sys.exit(main())
