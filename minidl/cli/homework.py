"""Homework: the list, a file to begin with, checks, hints, and the points of many submissions.

    minidl homework list
    minidl homework start 3
    minidl homework check hw3_convolution.py
    minidl homework check hw3_convolution.py --task conv_loops --hint
    minidl homework grade SUBMISSIONS --csv points.csv

Each task is checked in a process of its own, with limits on time and memory. Earlier tasks are taken from the
reference, so that a mistake costs its own points only.

Exit status: 0 all points of what ran (list, start, grade: done); 1 points were lost (grade: a submission could not be
judged: it does not load, is missing, or is there several times); 2 wrong usage or an unusable file (with --gradescope
that is written as 0 points, and the status is 1).
"""
import argparse
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from minidl.cli.arguments import at_least, between, place
from minidl.cli.errors import UserError

if TYPE_CHECKING:
    from minidl.homework.catalog import Homework
    from minidl.homework.grading import FileResult, Row, TaskResult
    from minidl.homework.runner import Limits

HELP = "homework: tasks, hints, checks and points"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`minidl homework list | start | check | grade`"""
    actions = parser.add_subparsers(title="what to do", metavar="WHAT", dest="action", required=True,
                                    parser_class=_complete(type(parser)))

    def action(name: str, text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".", allow_abbrev=False)
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")
        return sub

    action("list", "list the homeworks: tasks, points, time, the lesson each goes with")

    start = action("start", "write the file that you fill in")
    start.add_argument("number", metavar="N", type=at_least(1), help="number of the homework")
    start.add_argument("folder", metavar="DIR", type=place, nargs="?", default=Path(), help="where to put it (default: here)")

    check = action("check", "check a file, task by task")
    check.add_argument("file", metavar="FILE", type=place, help="your file, such as hw3_convolution.py")
    check.add_argument("--task", metavar="NAME", help="only this task")
    check.add_argument("--hint", metavar="K", type=_hint_number, nargs="?", const=1,
                       help="check nothing, but show hint K of --task (default: the first; there are 3)")
    check.add_argument("--mine", action="store_true", help="earlier tasks are yours, too, not taken from the reference")
    check.add_argument("--homework", metavar="N", type=at_least(1), help="which homework, where the name does not say it")
    check.add_argument("--gradescope", metavar="FILE", type=place, help="write the results.json of a Gradescope autograder")
    check.add_argument("--json", metavar="FILE", type=place, help="write the results for programs")
    _add_limits(check)

    grade = action("grade", "check many submissions: DIR/NAME/*.py or DIR/NAME_hw3_convolution.py")
    grade.add_argument("folder", metavar="DIR", type=place, help="folder of submissions")
    grade.add_argument("--csv", metavar="FILE", type=place, required=True, help="table to write: a line per submission")
    grade.add_argument("--homework", metavar="N", type=at_least(1), help="only this homework (default: what the files are for)")
    grade.add_argument("--jobs", metavar="N", type=at_least(1), default=1, help="submissions checked at a time (default: 1)")
    _add_limits(grade)


def _complete(kind: type[argparse.ArgumentParser]) -> type[argparse.ArgumentParser]:
    """A parser that refuses what is left over itself: the topmost one would point to its own help."""
    class Complete(kind):  # type: ignore[misc, valid-type]
        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            found, rest = super().parse_known_args(args, namespace)
            if rest:
                self.error(f"unrecognized arguments: {' '.join(rest)}")
            return found, rest

    return Complete


def _hint_number(text: str) -> int:
    if not text.removeprefix("-").isdigit():
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 3, or nothing, got {text!r}: FILE comes before, the task "
                                         "after --task, as in `minidl homework check FILE --task NAME --hint`")
    return between(1, 3)(text)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--time", metavar="SECONDS", type=at_least(1), default=60, help="limit for each task (default: 60)")
    parser.add_argument("--memory", metavar="MIB", type=at_least(64), default=2048, help="limit for each task (default: 2048)")


def run(args: argparse.Namespace) -> int:
    """Does what is asked."""
    return {"list": _list, "start": _start, "check": _check, "grade": _grade}[args.action](args)


# --- list and start --------------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    from minidl.homework.catalog import homeworks
    found = homeworks()
    for homework in found:
        tasks = homework.source.tasks
        minutes = sum(task.minutes for task in tasks)
        print(f"{homework.number}  {homework.source.title.rstrip('.')}")
        print(f"   {homework.points} points, about {_duration(minutes)}"
              + (f"; goes with lesson {homework.lesson}" if homework.lesson else ""))
        width = max(len(task.name) for task in tasks)
        for task in tasks:
            print(f"     {task.name:<{width}}  {task.points:2} point{'s' if task.points != 1 else ' '}  {task.minutes:3} min")
        print()
    print(f"minidl homework start {found[0].number if found else 'N'} writes the file that you fill in.")
    return 0


def _duration(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if not hours else f"{hours} h {rest} min" if rest else f"{hours} h"


def _numbered(number: int) -> "Homework":
    from minidl.homework.catalog import homeworks
    found = {homework.number: homework for homework in homeworks()}
    if number not in found:
        raise UserError(f"there is no homework {number}; there are {', '.join(map(str, found))} (minidl homework list)")
    return found[number]


def _start(args: argparse.Namespace) -> int:
    from minidl.cli.files import remove_if_empty, writable_folder, write_text
    homework = _numbered(args.number)
    target = args.folder / homework.file_name
    if os.path.lexists(target):
        raise UserError(f"{target} is there already, and was not touched: check it with `minidl homework check {target}`, or "
                        f"begin anew in another folder, as with `minidl homework start {args.number} again`")
    new = writable_folder(args.folder, "DIR")
    try:
        write_text(target, homework.stub(), "DIR")
    except UserError:
        if new:
            remove_if_empty(args.folder)
        raise
    print(f"wrote {target}: {len(homework.source.tasks)} tasks, {homework.points} points")
    print(f"next: open it, write the first task ({homework.source.tasks[0].name}), then\n"
          f"  minidl homework check {target} --task {homework.source.tasks[0].name}")
    return 0


# --- check -----------------------------------------------------------------------------------------------------------


def _check(args: argparse.Namespace) -> int:
    from minidl.cli.files import write_json
    from minidl.homework.grading import check_file, gradescope, record
    from minidl.homework.runner import clean
    try:
        homework = _homework_of(args)
    except UserError as error:
        _tell_gradescope(args, error)
    if args.hint is not None or args.task is not None:
        task = _task(homework, args)
        if args.hint is not None:
            return _hint(task, args)
    _check_outputs(args)
    console = _Screen()
    path = args.file.resolve()
    console.print(f"checking {clean(str(path))}", style="bold")
    console.print(f"{homework.source.title.rstrip('.')}\n")
    told = set[str]()  # that a file does not load, or that there is no GPU, is told once

    def tell(task: "TaskResult") -> None:
        later = task.name != homework.source.tasks[0].name
        _print_task(console, task, told, "with --mine, an earlier task of yours may be to blame" if args.mine and later else "")

    result = check_file(path, homework, [args.task] if args.task else [], args.mine, _limits(args), tell)
    for option, form in ((args.json, record), (args.gradescope, gradescope)):
        if option is not None:
            write_json(option, form(result))
    _print_total(console, result, args)
    return 0 if result.points == result.of else 1


def _tell_gradescope(args: argparse.Namespace, error: UserError) -> NoReturn:
    """The same error; where results are for Gradescope, they are 0 points with its message, and count as points lost."""
    if args.gradescope is not None:
        from minidl.cli.files import write_json
        from minidl.homework.grading import gradescope_of
        _check_outputs(args)
        write_json(args.gradescope, gradescope_of(0, str(error)))
        raise UserError(str(error), 1) from None
    raise error


def _homework_of(args: argparse.Namespace) -> "Homework":
    from minidl.cli.files import reason
    from minidl.homework.catalog import homeworks
    from minidl.homework.grading import IN_NAME, homework_of
    if not args.file.is_file():
        what = "is a folder; name the file in it" if args.file.is_dir() else f"is not there; {_beside(args.file)}"
        raise UserError(f"FILE: {args.file} {what}")
    if args.file.suffix == ".ipynb":
        raise UserError(f"FILE: {args.file} is a notebook; export it with `jupyter nbconvert --to script {args.file}`, and "
                        f"check {args.file.with_suffix('.py')}")
    try:
        found = homework_of(args.file)
    except OSError as error:
        raise UserError(f"FILE: cannot read {args.file} ({reason(error)})") from None
    if args.homework is not None:
        return _numbered(args.homework)
    if found is None:
        numbers = ", ".join(str(homework.number) for homework in homeworks())
        if named := IN_NAME.search(args.file.stem):
            raise UserError(f"FILE: {args.file}: there is no homework {named[1]}; add --homework N (there are {numbers})")
        raise UserError(f"FILE: {args.file} does not say which homework it is, by its name (hw3_convolution.py) or by a line "
                        f"`# minidl homework 3`; add --homework N (there are {numbers})")
    return found


def _beside(path: Path) -> str:
    """What somebody may have meant who named a file that is not there."""
    from contextlib import suppress
    with suppress(OSError):
        names = sorted(other.name for other in path.parent.iterdir() if other.suffix in (".py", ".ipynb"))
        if names:
            return f"is the name right? {path.parent} has {', '.join(names[:5])}{' and more' * (len(names) > 5)}"
    return "is the name right?"


def _task(homework: "Homework", args: argparse.Namespace) -> Any:
    import difflib
    tasks = {task.name: task for task in homework.source.tasks}
    if args.task is None:
        raise UserError(f"--hint: which task? Add --task NAME; homework {homework.number} has {', '.join(tasks)}")
    if args.task not in tasks:
        near = difflib.get_close_matches(args.task, tasks, 1, cutoff=0.5)
        raise UserError(f"--task: homework {homework.number} has no task {args.task!r}; "
                        + (f"did you mean {near[0]}?" if near else f"it has {', '.join(tasks)}"))
    return tasks[args.task]


def _hint(task: Any, args: argparse.Namespace) -> int:
    print(textwrap.fill(f"{task.name}, hint {args.hint} of {len(task.hints)}: {task.hints[args.hint - 1]}", 100))
    if args.hint < len(task.hints):
        print(f"the next one: minidl homework check {args.file} --task {task.name} --hint {args.hint + 1}")
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    from minidl.cli.files import no_input, writable_file
    for path, option in ((args.json, "--json"), (args.gradescope, "--gradescope")):
        if path is not None:
            no_input(path, option, args.file)
            writable_file(path, option)
    if args.json is not None and args.gradescope is not None:
        no_input(args.gradescope, "--gradescope", args.json)


def _limits(args: argparse.Namespace) -> "Limits":
    from minidl.homework.runner import Limits
    return Limits(args.time, args.memory)


class _Screen:
    """Colours where a terminal is; brackets are brackets; letters that the output does not have become question marks."""

    def __init__(self) -> None:
        from rich.console import Console
        self.console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.width = max(60, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))

    def print(self, text: str = "", style: str = "") -> None:
        encoding = getattr(self.console.file, "encoding", None) or "utf-8"
        self.console.print(text.encode(encoding, "replace").decode(encoding), style=style)

    def message(self, text: str, by: int) -> None:
        """What a check says, indented, in lines of at most `width`."""
        self.print("\n".join(line for paragraph in _paragraphs(text) for line in self._filled(paragraph, by)))

    def _filled(self, line: str, by: int) -> list[str]:
        spaces = " " * (by + len(line) - len(line.lstrip()))
        return textwrap.wrap(line.lstrip(), self.width, initial_indent=spaces, subsequent_indent=spaces + "    ",
                             break_on_hyphens=False) or [""]


def _paragraphs(text: str) -> list[str]:
    """The lines, those joined again that the doctor has broken because a word more would not have fitted in."""
    joined: list[str] = []
    last = ""
    for line in text.splitlines():
        word = line.split(maxsplit=1)[:1]
        if word and len(last) <= WIDTH < len(last) + 1 + len(word[0]):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
        last = line
    return joined


WIDTH = 100  # the doctor's
STYLES = {"passed": "green", "lost": "red", "not run": "yellow"}


def _print_task(console: _Screen, task: "TaskResult", told: set[str], blame: str) -> None:
    of, not_run = task.count("passed", "lost"), task.count("not run")
    got = task.count("passed")
    console.print(f"{task.name}: {got} of {of} points" + (f"; {not_run} NOT RUN" if not_run else ""),
                  style="bold green" if got == of and of else "bold")
    here = {""}  # what is the same for several parts is told once
    for part, verdict in task.parts:
        word = "passed" if verdict.status == "passed" else verdict.status.upper()
        console.print(f"  {word:<7} {part.points}  {part.title}", style=STYLES[verdict.status])
        if verdict.message not in (here | told):
            console.message(verdict.message, 6)
        here.add(verdict.message)
        if verdict.status == "not run" or verdict.message.startswith("the file does not load"):
            told.add(verdict.message)
    if blame and task.count("lost"):
        console.print(f"  {blame}")
    if task.output:
        lines = "\n".join(f"      {_cut(line)}" for line in task.output.splitlines())
        console.print(f"  the file printed (its last lines):\n{lines}", style="dim")
    console.print()


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[:WIDTH]} ... {len(line) - WIDTH} more characters"


def _print_total(console: _Screen, result: "FileResult", args: argparse.Namespace) -> None:
    all_of_them = result.points == result.of
    console.print(result.summary(), style="bold green" if all_of_them and result.of else "bold")
    lost = [task.name for task in result.tasks if task.count("lost")]
    if lost and not result.load_error:
        console.print(f"a hint: minidl homework check {args.file} --task {lost[0]} --hint")


# --- grade -----------------------------------------------------------------------------------------------------------


def _grade(args: argparse.Namespace) -> int:
    from minidl.cli.files import reason, writable_file, write_text
    from minidl.homework.grading import grade, submissions, table
    from minidl.homework.runner import clean
    if args.homework is not None:
        _numbered(args.homework)
    if not args.folder.is_dir():
        raise UserError(f"DIR: {args.folder} is not a folder; name the one that holds the submissions")
    writable_file(args.csv, "--csv")
    try:
        rows = list(submissions(args.folder.resolve(), args.homework))
    except OSError as error:
        raise UserError(f"DIR: cannot read {args.folder} ({reason(error)})") from None
    if not rows:
        raise UserError(f"DIR: {args.folder} holds no submissions; they must be NAME/*.py or NAME_hw3_convolution.py")
    done: list[Row] = []

    def tell(row: "Row") -> None:
        done.append(row)
        what = "; ".join(filter(None, [row.result.summary(), row.note])) if row.result else row.status
        print(f"[{len(done)}/{len(rows)}] {clean(' '.join(f'{row.student}: {what}'.split()))}", file=sys.stderr, flush=True)

    grade(rows, args.jobs, _limits(args), tell)
    write_text(args.csv, table(rows), "--csv")
    failed = sum(not row.judged for row in rows)
    print(f"wrote {args.csv}: {len(rows)} submission{'s' * (len(rows) != 1)}"
          + (f", {failed} of them not judged: the column status says why" if failed else ""))
    return 1 if failed else 0
