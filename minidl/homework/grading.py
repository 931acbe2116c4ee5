"""From parts to points: one file, or a folder of submissions; and the forms in which results go to programs.

What can be had is counted from the homework's own parts, never from what a student's process says: a file that does not even
load gets 0 of all points that others can get here.
"""
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidl.homework.catalog import Homework, homeworks
from minidl.homework.parts import Part
from minidl.homework.runner import Limits, TaskRun, Verdict, no_gpu, run_task, stop

MARKER = re.compile(rb"^# minidl homework (\d+)\b", re.MULTILINE)
IN_NAME = re.compile(r"(?:^|[^a-z0-9])hw(\d+)(?!\d)", re.IGNORECASE)


@dataclass
class TaskResult:
    """A task's parts, each with its verdict, and the end of what the file printed meanwhile."""
    name: str
    parts: list[tuple[Part, Verdict]]
    output: str = ""

    def count(self, *states: str) -> int:
        """The points of the parts whose state is one of "passed", "lost", "not run"."""
        return sum(part.points for part, verdict in self.parts if verdict.status in states)


@dataclass
class FileResult:
    """What a file got. `of` counts what ran; `not_run` the points of what needs a GPU, where there is none."""
    homework: Homework
    path: Path
    tasks: list[TaskResult] = field(default_factory=list)
    load_error: str = ""

    @property
    def points(self) -> int:
        """Points got."""
        return sum(task.count("passed") for task in self.tasks)

    @property
    def of(self) -> int:
        """Points that could be had."""
        return sum(task.count("passed", "lost") for task in self.tasks)

    @property
    def not_run(self) -> int:
        """Points that nobody can know."""
        return sum(task.count("not run") for task in self.tasks)

    def summary(self) -> str:
        """In one line."""
        not_run = f"; {self.not_run} point{'s' * (self.not_run != 1)} NOT RUN" if self.not_run else ""
        return f"{self.points} of {self.of} points{' of what ran' if self.not_run else ''}{not_run}"


# --- one file --------------------------------------------------------------------------------------------------------


def homework_of(path: Path) -> Homework | None:
    """The homework that a file is for: its marker line says so, "whatever its name"; else the name (alice_hw3.py).

    Errors: OSError, if it cannot be read.
    """
    known = {homework.number: homework for homework in homeworks()}
    with path.open("rb") as file:
        marker = MARKER.search(file.read(100_000))
    for match in (marker, IN_NAME.search(path.stem)):
        if match and int(match[1]) in known:
            return known[int(match[1])]
    return None


def check_file(path: Path, homework: Homework, tasks: Sequence[str] = (), mine: bool = False, limits: Limits | None = None,
               tell: Callable[[TaskResult], None] = lambda result: None) -> FileResult:
    """Judges `tasks` (all, if none are named) and calls `tell` after each. A file that does not load gets nothing."""
    result = FileResult(homework, path)
    for task in [task.name for task in homework.source.tasks]:
        if tasks and task not in tasks:
            continue
        parts = homework.parts_of(task)
        if result.load_error:
            run = TaskRun([Verdict("not run", no_gpu()) if part.gpu and no_gpu() else Verdict("lost", result.load_error)
                           for part in parts])
        else:
            run = run_task(path, homework, task, mine, limits)
            result.load_error = run.load_error
        result.tasks.append(TaskResult(task, list(zip(parts, run.verdicts, strict=True)), run.output))
        tell(result.tasks[-1])
    return result


def record(result: FileResult) -> dict[str, Any]:
    """For programs: what `--json` writes."""
    tasks = [{"task": task.name, "points": task.count("passed"), "of": task.count("passed", "lost"),
              "not_run": task.count("not run"), "output": task.output,
              "parts": [{"title": part.title, "points": part.points, "status": verdict.status, "message": verdict.message,
                         "seconds": round(verdict.seconds, 3)} for part, verdict in task.parts]}
             for task in result.tasks]
    return {"homework": result.homework.name, "number": result.homework.number, "file": str(result.path),
            "points": result.points, "of": result.of, "not_run": result.not_run, "load_error": result.load_error,
            "tasks": tasks}


def gradescope(result: FileResult) -> dict[str, Any]:
    """Gradescope's results.json. What was not run is 0 of 0, and shown as failed with the reason: else it would be green."""
    tests = []
    for task in result.tasks:
        for part, verdict in task.parts:
            passed = verdict.status == "passed"
            tests.append({"name": f"{task.name}: {part.title}", "score": part.points if passed else 0,
                          "max_score": 0 if verdict.status == "not run" else part.points,
                          "status": "passed" if passed else "failed", "visibility": "visible",
                          "output": f"NOT RUN: {verdict.message}" if verdict.status == "not run" else verdict.message})
    return gradescope_of(result.points, f"{result.homework.source.title}\n{result.summary()}", tests)


def gradescope_of(score: int, output: str, tests: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The same of a score and what is said of it; without tests where there is no file to judge."""
    return {"score": score, "output": output, "visibility": "visible", "stdout_visibility": "hidden", "tests": list(tests)}


# --- a folder of submissions -----------------------------------------------------------------------------------------


HANDED_IN = (".py", ".ipynb", ".zip")


@dataclass
class Row:
    """What a student handed in: `result` is there where a file was judged; else `status` says why not."""
    student: str
    path: Path | None
    homework: Homework | None
    status: str = ""
    result: FileResult | None = None
    failed: bool = False  # the checker did, not the student
    note: str = ""
    """What else was handed in for this homework."""

    @property
    def judged(self) -> bool:
        """Whether its code was: a file that does not load has 0 points, but nobody has looked at what it does."""
        return self.result is not None and not self.result.load_error


def submissions(folder: Path, number: int | None = None) -> Iterator[Row]:
    """DIR/NAME/*.py (or one folder deeper) and DIR/NAME.py (also NAME_hw3_convolution.py), in the order of names; of one
    homework, if `number` is given. Who handed in nothing that can be judged has a row as well."""
    files: dict[str, list[Path]] = {}
    for place in _seen(folder):
        if place.is_dir():
            inside = _seen(place)
            found = [path for path in inside if not path.is_dir()]
            if not any(path.suffix in HANDED_IN for path in found):  # as when a folder was packed and unpacked
                found = [path for inner in inside if inner.is_dir() for path in _seen(inner) if not path.is_dir()]
            files.setdefault(place.name, []).extend(path for path in found if path.suffix in HANDED_IN)
        elif place.suffix in HANDED_IN:
            files.setdefault(_student(place), []).append(place)
    for student, paths in sorted(files.items()):
        yield from _rows(student, paths, number, folder)


def _seen(folder: Path) -> list[Path]:
    """What is in it, by name, without what systems leave behind (.DS_Store, __MACOSX)."""
    return sorted((path for path in folder.iterdir() if not path.name.startswith((".", "__"))), key=lambda path: path.name)


def _student(path: Path) -> str:
    """Whose a file is that lies bare: alice_hw3_convolution.py, hw3_alice.py, alice.py; else its folder's name says it."""
    before, *after = re.split(r"(?:^|[_ -])hw\d+", path.stem, maxsplit=1, flags=re.IGNORECASE)
    if before or not after:
        return before
    rest = re.sub(r"\(\d+\)", "", after[0])  # a browser's second copy
    for homework in homeworks():
        rest = rest.removeprefix(homework.name.removeprefix(f"hw{homework.number}"))
    return rest.strip(" _-") or path.parent.name


def _rows(student: str, files: list[Path], number: int | None, folder: Path) -> Iterator[Row]:
    found: dict[int, list[Path]] = {}
    others: list[str] = []
    by_number = {homework.number: homework for homework in homeworks()}
    for path in files:
        try:
            homework = homework_of(path)
        except OSError as error:
            others.append(f"{path.relative_to(folder)} cannot be read: {error.strerror}")
            continue
        if homework is None and path.suffix == ".py" and len(files) == 1 and number is not None:
            homework = by_number[number]
        if homework is not None and number in (None, homework.number):
            found.setdefault(homework.number, []).append(path)
        elif homework is None and path.suffix != ".py":
            others.append(_no_python(path, folder))
    if not found:
        yield Row(student, None, by_number.get(number) if number else None, "; ".join(["no file for a homework", *others]))
    for which, paths in sorted(found.items()):
        yield _row(student, paths, by_number[which], folder, others)


def _row(student: str, paths: list[Path], homework: Homework, folder: Path, others: list[str]) -> Row:
    """Of several files, the one with the homework's own name is judged; what is not judged is said."""
    python = [path for path in paths if path.suffix == ".py"]
    named = [path for path in python if path.name == homework.file_name] or python
    if not named:
        return Row(student, None, homework, "; ".join([_no_python(path, folder) for path in paths] + others))
    if len(named) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in named)
        return Row(student, None, homework, f"several files: {names}; leave one")
    left = [str(path.relative_to(folder)) for path in paths if path is not named[0]]
    return Row(student, named[0], homework, note="; ".join(([f"not judged: {', '.join(left)}"] if left else []) + others))


def _no_python(path: Path, folder: Path) -> str:
    name = path.relative_to(folder)
    if path.suffix == ".ipynb":
        return f"{name} is a notebook; export it: jupyter nbconvert --to script {path.name}"
    return f"{name} is no Python file; unpack it"


def grade(rows: list[Row], jobs: int, limits: Limits | None = None, tell: Callable[[Row], None] = lambda row: None) -> None:
    """Judges every row that has a file, `jobs` at a time, and calls `tell` as each is done. No row stops the others."""
    def judge(row: Row) -> None:
        if row.path is not None and row.homework is not None and not row.status:
            try:
                row.result = check_file(row.path, row.homework, limits=limits)
                row.status = "; ".join(filter(None, [_status(row.result), row.note]))
            except Exception as error:
                row.status, row.failed = f"not judged: {error}", True
        tell(row)

    for row in rows:
        if row.homework is not None:
            _ = row.homework.parts  # read before there are threads: parts are collected one file at a time
    pool = ThreadPoolExecutor(jobs)
    try:
        list(pool.map(judge, rows))
    except BaseException:  # Ctrl-C reaches this process alone
        stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _status(result: FileResult) -> str:
    if result.load_error:
        return result.load_error.splitlines()[0]
    return "all points" if result.points == result.of else "points lost"


def table(rows: list[Row]) -> str:
    """The CSV: student, file, homework, points by task, total, of, not run, status."""
    present = {row.homework.number: row.homework for row in rows if row.homework is not None}
    tasks = [(number, task.name) for number, homework in sorted(present.items()) for task in homework.source.tasks]
    several = len(present) > 1
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", "file", "homework", *(f"hw{number} {name}" if several else name for number, name in tasks),
                     "total", "of", "not run", "status"])
    for row in rows:
        got = {(row.result.homework.number, task.name): task.count("passed") for task in row.result.tasks} if row.result else {}
        totals = [row.result.points, row.result.of, row.result.not_run] if row.result else _nothing(row)
        writer.writerow([_cell(row.student), _cell(str(row.path or "")), row.homework.name if row.homework else "",
                         *(got.get(task, "") for task in tasks), *totals, _cell(row.status)])
    return text.getvalue()


def _nothing(row: Row) -> list[int | str]:
    """Who handed in nothing has 0 of all; whom the checker failed has no number."""
    if row.failed or row.homework is None:
        return ["", "", ""]
    not_run = sum(part.points for part in row.homework.parts if part.gpu and no_gpu())
    return [0, row.homework.points - not_run, not_run]


def _cell(text: str) -> str:
    """On one line, in letters that can be written, and nothing that a spreadsheet would compute."""
    text = " ".join(text.split()).encode("utf-8", "replace").decode()
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
