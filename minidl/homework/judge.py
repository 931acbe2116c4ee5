"""Runs the parts of one task on a student's file, in this process: the runner gives each task a process of its own."""
import __future__

import ast
import linecache
import sys
import time
import traceback
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np

from minidl.homework.catalog import Homework
from minidl.homework.parts import Part


@dataclass
class Verdict:
    """What became of a part: "passed", "lost" or "not run", and what the student reads."""
    status: str
    message: str = ""
    seconds: float = 0.0


class LoadError(Exception):
    """The student's file does not load; the message says why, and in which line."""


def load_student(path: Path, homework: Homework, ref: ModuleType, task: str, mine: bool = False) -> ModuleType:
    """The student's file, by its path, as a module; the names of the tasks before `task` are the reference's, unless `mine`.

    They are replaced right after the statement that defines them, so that whatever follows builds on the reference: a class
    derived from an earlier one as much as a call. Errors: LoadError, also where the file calls sys.exit.
    """
    replaced: dict[str, Any] = {}
    for earlier in homework.source.tasks:
        if earlier.name == task or mine:
            break
        replaced |= {name: getattr(ref, name) for name in earlier.names}
    name = path.stem if path.stem not in sys.modules else f"submitted_{path.stem}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        tree = ast.parse(path.read_bytes(), str(path))
        flags = _future_flags(tree)
        for statement in tree.body:
            code = compile(ast.Module([statement], []), str(path), "exec", flags, dont_inherit=True)
            exec(code, module.__dict__)
            module.__dict__.update({key: value for key, value in replaced.items() if key in module.__dict__})
    except BaseException as error:  # SystemExit and a KeyboardInterrupt of the file's own are no reason to stop
        raise LoadError(f"the file does not load: {told(error, path)}") from None
    module.__dict__.update(replaced)
    if module.__doc__ is None and tree.body:
        module.__doc__ = ast.get_docstring(tree)
    return module


def _future_flags(tree: ast.Module) -> int:
    """What `from __future__ import ...` asks for holds in the whole file, though its statements are compiled one by one."""
    flags = 0
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            for alias in statement.names:
                feature = getattr(__future__, alias.name, None)
                flags |= feature.compiler_flag if feature else 0
    return flags


def run_part(part: Part, hw: ModuleType, ref: ModuleType, path: Path) -> Verdict:
    """Runs it; whatever it raises loses its points."""
    rng = np.random.default_rng([zlib.crc32(part.task.encode()), part.number])
    start = time.perf_counter()
    try:
        part.body(hw, ref, rng)
    except BaseException as error:
        _for_students(error, part, path)
        return Verdict("lost", told(error, path), time.perf_counter() - start)
    return Verdict("passed", "", time.perf_counter() - start)


def _for_students(error: BaseException, part: Part, path: Path) -> None:
    """What the doctor says (error.report), as the student needs it: its inputs are in the checks, so the task is repeated."""
    report = getattr(error, "report", None)
    if report is None:
        return
    report.repeat = f"minidl homework check {path.name} --task {part.task}"
    if "forward-differs" in report.causes:  # what else it says is of a gradient that nobody asked for
        report.diagnoses = [cause for cause in report.diagnoses if cause.code == "forward-differs"][:1]
        report.findings, report.pictures = [], []
    for cause in report.diagnoses:
        if not cause.line.startswith(path.name):  # a line of the checks
            cause.line = ""
    error.args = (report.text,)


def told(error: BaseException, path: Path) -> str:
    """What the student reads of an exception: what a check says as it stands, else the error with the line of the file."""
    try:
        text = str(error)
    except Exception:  # an exception class of the student's
        text = ""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"SyntaxError: {error.msg}, in line {error.lineno}: {(error.text or '').strip()}"
    if isinstance(error, AssertionError) and (isinstance(error.__cause__, NotImplementedError)
                                              or _is_missing(error.__cause__, path)):
        return told(error.__cause__, path)  # the doctor has nothing to say of a backward that is not there
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, AssertionError) and not frames and text:
        return text
    if isinstance(error, NotImplementedError) and text.endswith("your code here") and frames:
        return f"{frames[-1].name} is not written yet (line {frames[-1].lineno} is still `raise NotImplementedError`)"
    if _is_missing(error, path):
        return f"the file defines no {error.name}; was it renamed or deleted?"
    return f"{type(error).__name__}{text and f': {text}'}{_advice(error)}{_line(frames, path)}"


def _is_missing(error: BaseException | None, path: Path) -> TypeGuard[AttributeError]:
    """Whether the file was asked for a name that it does not define."""
    return isinstance(error, AttributeError) and getattr(error.obj, "__file__", None) == str(path)


def _advice(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return " (nothing can be typed in while the file is checked: do without input())"
    if isinstance(error, SystemExit):
        return " (the file calls sys.exit or exit: a function must return)"
    if isinstance(error, MemoryError):
        return " (more memory than a check may take)"
    return ""


def _line(frames: list[traceback.FrameSummary], path: Path) -> str:
    if not frames:
        return ""
    line = linecache.getline(str(path), frames[-1].lineno or 0).strip()
    inside = "" if frames[-1].name == "<module>" else f", in {frames[-1].name}"
    return f"\nin line {frames[-1].lineno}{inside}: {line}"
