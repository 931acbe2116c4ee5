"""Check gradients that you wrote by hand, and be told what is wrong with them and why, probably.

    minidl check layers.py                     every relu_forward / relu_backward and minidl.Function in the file
    minidl check layers.py::relu               one of them
    minidl check layers.py::norm --like lrn    at the inputs of minidl's own lrn, and against its definition
    minidl check layers.py::relu --plot relu.png --seeds 5
    minidl check --all-operations              minidl's own operations, in less than a minute

Inputs come from --like, from a function beside the pair, or from the samples of the class:

    def relu_samples(rng):                     each sample is (inputs, options), or the inputs alone
        x = rng.normal(size=(3, 4))
        yield (x,), {}

    def relu_reference(x):                     if it is there: what forward must compute
        return np.maximum(x, 0)

Nothing is written beside the file; of what it prints, the last lines are shown. At a kink, where there is no slope, a
gradient between those of both sides is right; such elements count as skipped.

Exit status: 0 all that was found was checked and is right; 1 something is wrong, cannot be checked, or has no inputs
where others have some; 2 wrong usage, an unusable file, or nothing in it has inputs.
"""
import argparse
import math
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidl.cli.arguments import add_device, at_least, place
from minidl.cli.errors import UserError

if TYPE_CHECKING:
    from minidl.checking.report import Report
    from minidl.cli.student_file import Home, Subject

HELP = "check gradients written by hand, and say what is wrong"

RIGHT, WRONG, NOT_CHECKED = "right", "wrong", "not checked"
STYLES = {RIGHT: "green", WRONG: "bold red", NOT_CHECKED: "yellow"}
PRINTED_LINES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`minidl check FILE.py[::NAME]`"""
    parser.add_argument("file", metavar="FILE.py[::NAME]", nargs="?", type=place, help="your file; ::NAME picks one of it")
    parser.add_argument("--like", metavar="OP", help="an operation of minidl's, such as lrn: its samples are the inputs, and "
                        "its definition is what forward must compute")
    parser.add_argument("--seed", metavar="N", type=at_least(0), default=0, help="seed of inputs and cotangents (default: 0)")
    parser.add_argument("--seeds", metavar="N", type=at_least(1), default=1, help="check N seeds, from --seed on (default: 1)")
    parser.add_argument("--float32", action="store_true", help="compute backward in float32; slopes are measured in float64")
    add_device(parser)
    parser.add_argument("--plot", metavar="FILE.png", type=place, help="draw where the first wrong gradient is wrong")
    parser.add_argument("--json", metavar="FILE", type=place, help="write the results for programs, too (-: print only them)")
    parser.add_argument("--all-operations", action="store_true", help="check minidl's own operations instead of a file")


@dataclass
class Result:
    """What became of one pair or class."""

    name: str
    verdict: str
    message: str = ""
    samples: int = 0
    left_out: int = 0
    elements: int = 0
    directions: int = 0
    kinks: int = 0
    seconds: float = 0.0
    printed: tuple[int, str] = (0, "")
    again: str = ""
    report: "Report | None" = field(default=None, repr=False)
    error: BaseException | None = field(default=None, repr=False)


def run(args: argparse.Namespace) -> int:
    """Checks, tells each result as it is there, and returns the exit status."""
    _refuse_contradictions(args)
    path, name = (None, None) if args.all_operations else _file_and_name(args.file)
    _look_at_places(args, path)
    screen = Screen(args)
    try:
        results = list(_operations(args, screen) if path is None else _of_file(path, name, args, screen))
    except ToldError as failed:
        _write_json(args, [], failed.text)
        print(f"minidl check: {failed.text}", file=sys.stderr)
        return failed.status
    screen.total(results)
    _plot(args, results)
    _write_json(args, results)
    return 0 if all(result.verdict == RIGHT for result in results) else 1


class ToldError(Exception):
    """The file does not load, or has no inputs: more than a line is to be said."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.text, self.status = text, status


# --- what is asked ---------------------------------------------------------------------------------------------------


def _refuse_contradictions(args: argparse.Namespace) -> None:
    if args.all_operations:
        if args.file is not None or args.like is not None:
            what = "FILE" if args.file is not None else "--like"
            raise UserError(f"--all-operations checks minidl's own operations; leave {what} out, or the option")
    elif args.file is None:
        raise UserError("what is to be checked? Name a file, as in `minidl check layers.py`, or add --all-operations")
    if args.like is not None:
        from minidl.checking.pairs import find_operation
        try:
            args.like = find_operation(args.like).name
        except ValueError as error:
            raise UserError(str(error).replace("check: like=", "--like: ")) from None
    if args.device == "cuda":
        from minidl.backend import working_cupy
        from minidl.cli.networks import user_errors
        with user_errors("--device", RuntimeError):
            working_cupy()


def _file_and_name(given: Path) -> tuple[Path, str | None]:
    text, colons, name = str(given).rpartition("::")
    path = Path(text) if colons and not given.exists() else given
    if not path.is_file():
        what = "is a folder; name a file in it" if path.is_dir() else "is not there; is the name right?"
        raise UserError(f"FILE: {path} {what}")
    if path is not given and not name:
        raise UserError(f"FILE: the name after :: is missing; write {path}::relu, or {path} for all that is in it")
    return path, name if path is not given else None


def _look_at_places(args: argparse.Namespace, path: Path | None) -> None:
    from minidl.cli.files import no_input, writable_file
    if args.plot is not None:
        if args.plot.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise UserError(f"--plot: the name must end in .png, .svg or .pdf, got {args.plot}")
        no_input(args.plot, "--plot", path)
        writable_file(args.plot, "--plot")
    if args.json is not None and str(args.json) != "-":
        no_input(args.json, "--json", path, args.plot)
        writable_file(args.json, "--json")


def _again(args: argparse.Namespace, subject: str, seed: int) -> str:
    """The command that repeats a check."""
    words = ["minidl", "check", subject or "--all-operations"]
    words += ["--like", args.like] if args.like else []
    words += ["--seed", str(seed), *["--float32"] * args.float32, *["--device", "cuda"] * (args.device == "cuda")]
    return shlex.join(words)


# --- checking --------------------------------------------------------------------------------------------------------


@dataclass
class Job:
    """One thing to be checked, and with what."""

    what: Any
    samples: Callable
    reference: Callable | None
    place: str = ""
    """FILE.py::NAME."""
    told: Callable[[BaseException], str] = str
    own: bool = False
    """Whether the samples are the student's: then all of them are meant to be checked."""


def _operations(args: argparse.Namespace, screen: "Screen") -> Iterator[Result]:
    from minidl.ops import OPS
    screen.width = max(len(kind.name) for kind in OPS)
    for kind in OPS:
        result = Result(kind.name, RIGHT)
        _measure(result, Job(kind, kind.samples, kind.naive), args, screen)
        screen.tell(result)
        yield result


def _of_file(path: Path, name: str | None, args: argparse.Namespace, screen: "Screen") -> Iterator[Result]:
    """The results, one by one. Errors: ToldError; UserError if there is nothing of that name."""
    from minidl.cli.files import reason
    from minidl.cli.student_file import StudentError, chosen, load, visited
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"FILE: cannot read {path} ({reason(error)})") from None
    with visited(path) as home:
        screen.progress(f"loading {path}")
        try:
            load(home, source)
        except StudentError as failed:
            _debug(args, failed.__cause__)
            raise ToldError(f"{path} does not load: {failed}{_quoted(home.printed())}", 1) from None
        finally:
            screen.progress("")
        screen.printed(f"{path}", home.printed())
        found = chosen(home, path, name)
        _refuse_unchecked(found, path, args)
        screen.width = max(len(subject.name) for subject in found)
        for subject in found:
            result = _of_subject(subject, home, path, args, screen)
            _debug(args, result.error)
            screen.tell(result)
            yield result


def _refuse_unchecked(found: "list[Subject]", path: Path, args: argparse.Namespace) -> None:
    """Where nothing can be checked, what to write."""
    names = ", ".join(subject.name for subject in found)
    if args.like is not None and len(found) > 1:
        raise UserError(f"--like: for which of {names}? Write {path}::{found[0].name}")
    if args.like is not None and not found[0].lacks or any(subject.samples and not subject.lacks for subject in found):
        return
    whole = next((subject for subject in found if not subject.lacks), None)
    if whole is None:
        raise UserError(f"{path} has nothing whole to check: {'; '.join(f'{s.name}: {s.lacks}' for s in found)}")
    have = "has" if len(found) == 1 else "have"
    raise ToldError(f"error: {names} {have} no inputs to be checked at. {_advice(whole, path)}", 2)


def _advice(subject: "Subject", path: Path) -> str:
    """What to write, and which option does without."""
    from minidl.checking.pairs import find_operation
    from minidl.cli.student_file import example
    try:
        like = find_operation(subject.name).name
    except ValueError:
        like = "OP"
    lines = "\n".join(f"    {line}" for line in example(subject).splitlines())
    known = "" if like != "OP" else ", OP an operation of minidl's"
    return (f"Write into {path}\n\n{lines}\n\nor take those of minidl's: "
            f"minidl check {shlex.quote(f'{path}::{subject.name}')} --like {like}{known}")


def _of_subject(subject: "Subject", home: "Home", path: Path, args: argparse.Namespace, screen: "Screen") -> Result:
    from minidl.checking.pairs import find_operation
    from minidl.cli.student_file import reference_of, samples_of
    result, place = Result(subject.name, NOT_CHECKED), f"{path}::{subject.name}"
    if subject.lacks:
        result.message = subject.lacks
        return result
    if args.like is not None:
        like = find_operation(args.like)
        job = Job(subject.what, like.samples, like.naive, place, home.told)
    elif subject.samples is not None:
        job = Job(subject.what, samples_of(subject, home), reference_of(subject, home), place, home.told, own=True)
    else:
        result.message = f"it has no inputs. {_advice(subject, path)}"
        return result
    with home.running():
        _measure(result, job, args, screen)
    result.printed = home.printed()
    if job.own and result.left_out and result.verdict == RIGHT:
        result.verdict = NOT_CHECKED
        reasons = result.report.left_out if result.report else []
        result.message = f"{_many(result.samples, 'sample')} right, but {result.left_out} left out: {'; '.join(reasons[:3])}"
    return result


def _measure(result: Result, job: Job, args: argparse.Namespace, screen: "Screen") -> None:
    """Checks every seed, up to the first at which something is wrong, and fills in the result."""
    start = time.perf_counter()
    for seed in range(args.seed, args.seed + args.seeds):
        result.again = _again(args, job.place, seed)
        screen.progress(f"{result.name}: seed {seed}")
        _measure_once(result, job, seed, args, screen)
        if result.verdict != RIGHT:
            break
    result.seconds = time.perf_counter() - start


def _measure_once(result: Result, job: Job, seed: int, args: argparse.Namespace, screen: "Screen") -> None:
    from minidl.checking.pairs import check
    drawn = meant = done = 0

    def counted(rng: Any) -> Iterator[Any]:
        nonlocal drawn, meant
        for inputs, options in job.samples(rng):
            drawn += 1
            meant += _is_meant(inputs, job.own)
            yield inputs, options

    def progress(n: int) -> None:
        nonlocal done
        done += 1
        screen.progress(f"{result.name}: seed {seed}, sample {n + 1}")

    try:
        report = check(job.what, samples=counted, reference=job.reference, seed=seed, raise_error=False,
                       dtype="float32" if args.float32 else "float64", device=args.device, progress=progress)
        if report.exception is not None and not report.measured:
            raise report.exception
    except KeyboardInterrupt as stop:
        where = " ".join(job.told(stop).splitlines()[1:])
        print(f"\nminidl check: stopped while checking {result.name} {where}".rstrip(), file=sys.__stderr__)
        raise
    except (Exception, SystemExit) as error:
        _not_finished(result, error, drawn, job.told)
    else:
        _add(result, report, job.told)
        result.left_out += meant - done
    result.samples += done


def _is_meant(inputs: Any, own: bool) -> bool:
    """Whether there is something to check: empty arrays are fine; integers are, where minidl's own samples have them."""
    import numpy as np

    from minidl.checking.subject import is_floating
    floating = [x for x in inputs if is_floating(x)]
    return any(np.size(x) for x in floating) or (own and not floating)


def _add(result: Result, report: "Report", told: Callable[[BaseException], str]) -> None:
    result.verdict, result.report, result.error = RIGHT if report.ok else WRONG, report, report.exception
    result.elements += report.elements
    result.directions += report.directions
    result.kinks += sum(report.skipped.values())
    if report.exception is not None and report.causes == ["unknown"]:
        result.message = f"backward fails: {told(report.exception)}"
    elif not report.ok:
        report.name = result.name
        report.repeat = "-"  # keeps a line free for the command, which is longer than a line may be
        lines = report.text.splitlines()
        place = told(report.exception).splitlines()[-1:] if report.exception else []
        result.message = "\n".join([*lines[:-1], *(line for line in place if line.startswith("in line "))])


def _not_finished(result: Result, error: BaseException, drawn: int, told: Callable[[BaseException], str]) -> None:
    """An error of the code that is checked makes it wrong; where a check was impossible, nothing is known."""
    from minidl.checking.report import GradcheckError
    from minidl.cli.student_file import StudentError
    result.verdict, result.error = NOT_CHECKED, error
    by_the_check = _raised_in(error, "checking")
    if isinstance(error, StudentError):
        result.message, result.error = str(error), error.__cause__
    elif isinstance(error, GradcheckError):
        result.message = str(error)
    elif isinstance(error, ValueError) and by_the_check:
        result.message = str(error) if drawn else "its samples are none: nothing was yielded"
    else:
        result.verdict = WRONG
        text = str(error) if by_the_check else told(error)
        result.message = text if by_the_check else f"it fails: {text}"


def _raised_in(error: BaseException, part: str) -> bool:
    """Whether a file of this part of minidl raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).parent == Path(__file__).parents[1] / part


# --- what is shown and written ---------------------------------------------------------------------------------------


class Screen:
    """Results on standard output, unless that is for --json; on standard error, if a terminal is there, what is being done."""

    width = 0

    def __init__(self, args: argparse.Namespace) -> None:
        from rich.console import Console
        self.console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, file=sys.stdout,
                               quiet=str(args.json) == "-")
        self.terminal = sys.stderr if sys.stderr.isatty() else None  # the true one, whatever a student's code runs in
        self.start, self.what = time.perf_counter(), "operations" if args.all_operations else "found"

    def progress(self, text: str) -> None:
        """Replaces the line that says what is being done."""
        if self.terminal:
            self.terminal.write(f"\r{text[:70]}\x1b[K")
            self.terminal.flush()

    def tell(self, result: Result) -> None:
        """One line of what is right; all that is known of what is not."""
        first = f"{result.verdict if result.verdict == RIGHT else result.verdict.upper():<11}  {result.name:<{self.width}}"
        if result.verdict == RIGHT:
            self._print(f"{first}  {self._counts(result)}", RIGHT)
        else:
            seen = result.report.seen if result.report is not None and result.samples > 1 else ""
            self._print(f"{first}  {seen}".rstrip(), result.verdict)
            self._print(_indented(result.message))
            if result.again:
                self._print(_indented(f"again: {result.again}"))
        self.printed(result.name, result.printed)

    @staticmethod
    def _counts(result: Result) -> str:
        directions = f" and {_many(result.directions, 'direction')}" if result.directions else ""
        left_out = f"; {_many(result.left_out, 'sample')} left out" if result.left_out else ""
        return (f"{result.samples:3} sample{'s' * (result.samples != 1):1}  {result.elements:5} elements{directions}  "
                f"{result.kinks:2} skipped at kinks  {result.seconds:6.2f} s{left_out}")

    def printed(self, who: str, printed: tuple[int, str]) -> None:
        """The end of what the student's code printed."""
        if printed[0]:
            self._print(f"{who} {_quoted(printed).lstrip()}", "dim")

    def total(self, results: list[Result]) -> None:
        """A line under several."""
        if len(results) < 2:
            return
        counts = {verdict: [result.verdict for result in results].count(verdict) for verdict in STYLES}
        parts = [f"{n} {verdict if verdict == RIGHT else verdict.upper()}" for verdict, n in counts.items() if n]
        worst = max((result.verdict for result in results), key=[RIGHT, NOT_CHECKED, WRONG].index)
        elements, kinks = sum(result.elements for result in results), sum(result.kinks for result in results)
        self._print(f"{len(results)} {self.what}: {', '.join(parts)}; {elements} elements, {kinks} skipped at kinks, "
                    f"{time.perf_counter() - self.start:.1f} s", STYLES[worst])

    def _print(self, text: str, style: str = "") -> None:
        from minidl.homework.runner import clean
        self.progress("")
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self.console.print(clean(text).encode(encoding, "replace").decode(encoding), style=STYLES.get(style, style))


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


def _quoted(printed: tuple[int, str]) -> str:
    """What was printed: how much, and the last lines."""
    lines, text = printed
    if not lines:
        return ""
    last = text.splitlines()[-PRINTED_LINES:]
    much = "" if lines <= PRINTED_LINES else f" {lines} lines, the last"
    return f"\nprinted{much}:\n" + "\n".join(f"    | {line[:200]}" for line in last)


def _debug(args: argparse.Namespace, error: BaseException | None) -> None:
    if args.debug and error is not None:
        traceback.print_exception(error, file=sys.stderr)


def _plot(args: argparse.Namespace, results: list[Result]) -> None:
    if args.plot is None:
        return
    from minidl.cli.files import write_atomically
    wrong = [result for result in results if result.verdict == WRONG]
    if not wrong or wrong[0].report is None or not wrong[0].report.pictures:
        why = "nothing is wrong" if not wrong else f"of {wrong[0].name} no element was measured"
        print(f"minidl check: {args.plot} was not drawn: {why}", file=sys.stderr)
        return
    figure = wrong[0].report.plot()
    write_atomically(args.plot, partial(figure.savefig, format=args.plot.suffix[1:].lower()))
    print(f"wrote {args.plot}: where the gradient of {wrong[0].name} is wrong", file=sys.stderr)


def _write_json(args: argparse.Namespace, results: list[Result], error: str = "") -> None:
    if args.json is None:
        return
    import json

    from minidl.cli.files import write_json
    from minidl.homework.runner import clean
    record = {"file": str(args.file) if args.file else None, "seed": args.seed, "seeds": args.seeds, "like": args.like,
              "dtype": "float32" if args.float32 else "float64", "device": args.device, "error": clean(error) or None,
              "right": bool(results) and all(result.verdict == RIGHT for result in results),
              "results": [_record(result) for result in results]}
    if str(args.json) == "-":
        print(json.dumps(record, indent=2))
    else:
        write_json(args.json, record)


def _record(result: Result) -> dict[str, Any]:
    report = result.report
    names = "name", "verdict", "message", "samples", "left_out", "elements", "directions", "kinks", "again"
    kept = {name: getattr(result, name) for name in names}
    return kept | {"seconds": round(result.seconds, 3), "printed": result.printed[1],
                   "causes": report.causes if report is not None else [], "seed": report.seed if report is not None else None,
                   "findings": [_finite(asdict(finding)) for finding in report.findings] if report is not None else []}


def _finite(finding: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN and no infinity: null."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in finding.items()}
