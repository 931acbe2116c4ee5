"""A task of a student's file, judged in a process of its own, with limits on time and memory.

The parent (`run_task`) starts a child (`child_main`) with Python's own program. The child tells what it does, one line of JSON
each, over what was its standard output; what the student prints goes to its standard error, of which the parent keeps the end.
"""
import faulthandler
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from minidl.backend import NoCudaError, working_cupy
from minidl.homework.catalog import Homework
from minidl.homework.fingerprint import Fingerprint
from minidl.homework.judge import LoadError, Verdict, load_student, run_part
from minidl.homework.parts import Part

SECONDS = 60
MEGABYTES = 2048
SHORT = 2  # seconds in which no child gets anywhere on a busy machine
KEPT_OUTPUT = 4000  # characters of what the student printed
KEPT_LINES = 8
KEPT_MESSAGE = 6000  # characters of a message: a student's exception may hold a whole array

# The child's first lines: the package comes from where the parent has it, and is then the last place to look for modules.
BOOT = """
import sys
folder, job = sys.argv[1:]
sys.path.insert(0, folder)
from minidl.homework.runner import child_main
del sys.path[0]
sys.path.append(folder)
child_main(job)
"""
PACKAGE = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Limits:
    """Of one task: seconds of time, and MiB beyond what Python and minidl take."""
    seconds: float = SECONDS
    megabytes: int = MEGABYTES


@dataclass
class TaskRun:
    """What became of a task: a verdict for each of its parts, the end of what the file printed, whether the file loaded."""
    verdicts: list[Verdict]
    output: str = ""
    load_error: str = ""


# --- the parent ------------------------------------------------------------------------------------------------------


def run_task(path: Path, homework: Homework, task: str, mine: bool = False, limits: Limits | None = None) -> TaskRun:
    """Judges one task of the file at `path`. Whatever the file does becomes a verdict.

    Errors: RuntimeError if the checker itself does not start, as where memory is short.
    """
    limits = limits or Limits()
    parts = homework.parts_of(task)
    plain = [part for part in parts if not part.gpu]
    on_gpu = [part for part in parts if part.gpu]
    done: dict[int, Verdict] = {}
    run = TaskRun([])
    if on_gpu and no_gpu():
        done |= {part.number: Verdict("not run", no_gpu()) for part in on_gpu}
        on_gpu = []
    for group in (plain, on_gpu):
        end = time.monotonic() + limits.seconds
        waiting = group
        while waiting:  # a part that ends its process costs itself alone
            seconds = end - time.monotonic()
            if waiting is not group and seconds < SHORT:
                done |= {part.number: Verdict("lost", "not reached: time was up") for part in waiting}
                break
            child = _Child(path, homework, waiting, mine, limits, seconds)
            done |= child.verdicts
            run.output = (run.output + child.output)[-KEPT_OUTPUT:]
            run.load_error = run.load_error or child.load_error
            waiting = [part for part in waiting if part.number not in done]
    run.verdicts = [done[part.number] for part in parts]
    run.output = "\n".join(clean(run.output).splitlines()[-KEPT_LINES:])
    return run


@functools.cache
def no_gpu() -> str:
    """Why no GPU can be used here; "" if one can."""
    try:
        working_cupy()
    except NoCudaError as error:
        return str(error)
    return ""


class _Child:
    """One process, from its start to its end: `verdicts` of the parts that it ran, or that its end has cost."""

    def __init__(self, path: Path, homework: Homework, parts: Sequence[Part], mine: bool, limits: Limits,
                 seconds: float) -> None:
        self.path, self.parts, self.seconds = path, parts, seconds
        self.verdicts: dict[int, Verdict] = {}
        self.output = self.load_error = ""
        self.ready = False  # whether the child got as far as the student's file
        self.running: int | None = None  # the part that has begun and not ended
        with tempfile.TemporaryDirectory(prefix="minidl-homework-", ignore_cleanup_errors=True) as scratch:
            room = Path(scratch) / "cwd"
            room.mkdir()
            where = Path(scratch) / "where"
            job = {"folder": str(homework.folder), "file": str(path), "task": parts[0].task, "mine": mine, "seconds": seconds,
                   "parts": [part.number for part in parts], "where": str(where),
                   "megabytes": 0 if parts[0].gpu else limits.megabytes}  # CUDA reserves addresses without end
            timed_out, status = self._run(job, room)
            self._settle(timed_out, status, _place(where, path))

    def _run(self, job: dict[str, Any], room: Path) -> tuple[bool, int]:
        """Whether time was up, and the exit status."""
        single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = os.environ | single | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUTF8": "1",
                                             "PYTHONIOENCODING": "utf-8:backslashreplace", "MPLBACKEND": "Agg"}
        process = subprocess.Popen([sys.executable, "-P", "-B", "-c", BOOT, str(PACKAGE), json.dumps(job)], cwd=room,
                                   env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        _running.add(process)
        readers = [threading.Thread(target=target, args=(pipe,), daemon=True)
                   for target, pipe in ((self._read_news, process.stdout), (self._read_output, process.stderr))]
        timed_out = False
        try:
            for reader in readers:
                reader.start()
            if _stopping.is_set():
                raise RuntimeError("interrupted")
            process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _end(process)
            _running.discard(process)
        for reader, pipe in zip(readers, (process.stdout, process.stderr)):
            reader.join(1)  # a process that has left the group may hold the pipe open for ever
            if pipe is not None and not reader.is_alive():
                pipe.close()
        return timed_out, process.returncode

    def _read_news(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            with suppress(ValueError, TypeError, KeyError):  # half a line of a process that was killed
                news = json.loads(line)
                if "ready" in news:
                    self.ready = True
                elif "load_error" in news:
                    self.load_error = news["load_error"]
                elif "begins" in news:
                    self.running = news["begins"]
                else:
                    number = news.pop("ends")
                    self.verdicts[number] = Verdict(**news)
                    self.running = None

    def _read_output(self, pipe: IO[bytes]) -> None:
        while data := os.read(pipe.fileno(), 1 << 16):
            self.output = (self.output + data.decode(errors="replace"))[-KEPT_OUTPUT:]

    def _settle(self, timed_out: bool, status: int, place: str) -> None:
        """Gives a verdict to the parts that have none, where their process's end decides it."""
        missing = [part.number for part in self.parts if part.number not in self.verdicts]
        if not missing:
            return
        if not self.ready:
            raise RuntimeError(f"the checker did not start within {self.seconds:.3g} s; is the machine busy?" if timed_out else
                               f"the checker did not start: {clean(self.output).strip() or _exit(status)}")
        how = f"it was not done within {self.seconds:.3g} s; does a loop never end?" if timed_out else _exit(status)
        if self.load_error:
            message = self.load_error
        elif self.running is None and not self.verdicts:
            message = self.load_error = f"the file does not load: {how}{place}"
        else:
            running = self.running or missing[0]
            self.verdicts[running] = Verdict("lost", how + place)
            if not timed_out:
                return  # the others get a process of their own
            message = f"not reached: time was up in part {running}"
        self.verdicts |= {number: Verdict("lost", message) for number in missing if number not in self.verdicts}


_running: set[subprocess.Popen] = set()
_stopping = threading.Event()


def stop() -> None:
    """Ends all processes of this program's threads, for good: it was interrupted, and they are in groups of their own."""
    _stopping.set()
    for process in list(_running):
        with suppress(OSError):
            process.kill()


def _end(process: subprocess.Popen) -> None:
    """Kills the process and all that it has started."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _exit(status: int) -> str:
    if status >= 0:
        return f"the process ended by itself (exit status {status}); is there an os._exit?"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"the process was killed ({name})"


def _place(where: Path, path: Path) -> str:
    """The line of the student's file that ran when time was up or the process crashed."""
    with suppress(OSError):
        notes = where.read_text(errors="replace").rpartition("Fatal Python error")[2]  # a crash comes last
        match = re.search(rf'File "{re.escape(str(path))}", line (\d+) in (\S+)', notes)
        if match:
            inside = "" if match[2] == "<module>" else f", in {match[2]}"
            lines = path.read_text(errors="replace").splitlines()[int(match[1]) - 1:]
            return f"\nin line {match[1]}{inside}: {lines[0].strip() if lines else ''}"
    return ""


def clean(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
                   for letter in text.replace("\r\n", "\n"))


# --- the child -------------------------------------------------------------------------------------------------------


def child_main(text: str) -> None:
    """Judges what the job (JSON) names, and leaves without a word more."""
    job = json.loads(text)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")  # not inherited by what the student starts
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    homework = Homework(Path(job["folder"]))
    parts = [part for part in homework.parts_of(job["task"]) if part.number in job["parts"]]
    ref = homework.reference()
    bodies = [part.body for part in parts]
    path = Path(job["file"])
    fingerprint = Fingerprint(bodies)
    _limit(job)

    def tell(**news: object) -> None:
        channel.write(json.dumps(news) + "\n")
        channel.flush()

    sys.argv[:] = [str(path)]
    tell(ready=True)
    missing = no_gpu() if parts[0].gpu else ""  # a GPU that the parent has may be out of reach here
    if missing:
        for part in parts:
            tell(ends=part.number, status="not run", message=missing)
        os._exit(0)
    try:
        hw = _load(path, homework, ref, job)
    except BaseException as error:  # a LoadError, if the file has left Python in order
        changed = fingerprint.changed()
        why = f"it changes {changed}, with which it is judged" if changed else repr(error)
        tell(load_error=cut(str(error) if isinstance(error, LoadError) else f"the file does not load: {why}"))
    else:
        fingerprint.restore_builtins()
        for part in parts:
            tell(begins=part.number)
            tell(ends=part.number, **_judged(part, hw, ref, path, fingerprint))
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(0)  # threads of the student's may run on, and exit handlers of theirs are nobody's business


def _load(path: Path, homework: Homework, ref: ModuleType, job: dict[str, Any]) -> ModuleType:
    """Its neighbours can be imported; afterwards the file's folder is the last place to look, so that none hides a module."""
    folder = str(path.parent)
    sys.path.insert(0, folder)
    sys.meta_path.insert(0, _NoSolutions())
    try:
        return load_student(path, homework, ref, job["task"], job["mine"])
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
            sys.path.append(folder)


class _NoSolutions:
    """Refuses to import the solutions and the checks."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Part of Python's way to import; None says that somebody else may look for it."""
        if re.match(r"minidl\.homework\.hw\d", name):
            raise ImportError(f"{name} belongs to those who check: write the functions yourself")


def _judged(part: Part, hw: ModuleType, ref: ModuleType, path: Path, fingerprint: Fingerprint) -> dict[str, Any]:
    """The fields of a Verdict: the class itself may be among what the file has changed."""
    try:
        told = vars(run_part(part, hw, ref, path))
    except BaseException as error:
        fingerprint.restore_builtins()
        told = {"status": "lost", "message": f"the part could not be judged: {error!r}", "seconds": 0.0}
    changed = fingerprint.changed()
    if changed:
        told = {"status": "lost", "seconds": 0.0, "message":
                f"the file changes {changed}, with which it is judged: leave what other modules define as it is"}
    return told | {"message": cut(told["message"])}


def cut(text: str) -> str:
    """The text without its middle, where it is long."""
    half = KEPT_MESSAGE // 2
    if len(text) > KEPT_MESSAGE:
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters ...\n{text[-half:]}"
    return clean(text)


def _limit(job: dict[str, Any]) -> None:
    """Memory, core files, and a note of the line that runs shortly before time is up."""
    where = open(job["where"], "w")  # noqa: SIM115  (open as long as the process)
    faulthandler.enable(where)
    faulthandler.dump_traceback_later(max(job["seconds"] - 1.5, job["seconds"] / 2), file=where)
    with suppress(ImportError, ValueError, OSError):  # not on POSIX, or a lower limit holds already
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = 2 * int(job["seconds"]) + 10  # who loops for ever ends even if nobody is left to end him
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
        if job["megabytes"]:
            most = _addresses() + job["megabytes"] * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _addresses() -> int:
    """Bytes of address space that the process has."""
    with suppress(OSError, ValueError):
        pages = Path("/proc/self/statm").read_text().split()[0]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0
