"""Changes every operator, constant and statement of the CUDA kernels, one at a time, and sees which rung of the ladder notices.

    python tests/mutation/plant_cuda_bugs.py                        all of them
    python tests/mutation/plant_cuda_bugs.py --file im2col.cu       one file (cuda.cuh: what all kernels share)
    python tests/mutation/plant_cuda_bugs.py --sample 60 --seed 1   so many of them, drawn
    python tests/mutation/plant_cuda_bugs.py --list                 what would be planted

The text is changed token by token: no parser of C is needed, and what g++ then refuses is counted apart, since it tests
nothing. A changed kernel is judged by tests/cuda_on_cpu/test_kernels.py itself, first as fibers against the loops (rung 3), in
a process of its own, which may crash; then, if nothing was wrong, on threads under each sanitizer (rung 4).

Not planted: `int` for `long long`, which shows only in arrays of 2**31 elements, and left-out casts, which cost speed or digits
beyond the tolerance.

A survivor is either a hole in the samples or the checks, to be filled there, or no bug at all, to be explained in
cuda_equivalents.py beside this file. Exit status 1 if one is neither, or if an explanation no longer explains a survivor.
"""
import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Before NumPy is loaded: the arrays are small, and every changed kernel gets a fresh process.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

HERE = Path(__file__).resolve().parent
for folder in (HERE.parent / "support", HERE.parent / "cuda_on_cpu", HERE):
    sys.path.insert(0, str(folder))
if __name__ == "__main__":  # as a script: the package of this checkout; under pytest: the one that pytest tests
    sys.path.insert(0, str(HERE.parents[1]))

import engine  # noqa: E402
import standin  # noqa: E402
import test_kernels  # noqa: E402
from cuda_equivalents import EQUIVALENT  # noqa: E402
from nvrtc import all_kernels  # noqa: E402

from minidl import parity  # noqa: E402
from minidl.cuda import PRELUDE  # noqa: E402

SECONDS = 5  # of computing, for rung 3, which needs about one: an endless loop counts as noticed
PRELUDE_IS_JUDGED_BY = ("softmax.cu", "cross_entropy.cu", "batch_norm.cu", "avg_pool2d.cu")  # together they use all of it

# --- what is planted -----------------------------------------------------------------------------------------------

OTHERS = {
    "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "%": ["/"], "+=": ["=", "-="], "-=": ["+="], "/=": ["*="], "++": ["--"],
    "<": ["<="], "<=": ["<"], ">": [">="], ">=": [">"], "==": ["!="], "!=": ["=="],
    "&&": ["||"], "||": ["&&", "|| false &&"],  # the last leaves out what follows
    "?": ["|| true ?", "&& false ?"],
    "min": ["max"], "max": ["min"], "fmaxf": ["fminf"], "block_sum": ["block_max"], "block_max": ["block_sum"],
    "expf": [""], "sqrtf": [""], "log": [""], "continue": ["break"],
    "threadIdx.x": ["0"], "blockIdx.x": ["0"], "blockDim.x": ["1"], "gridDim.x": ["1"],
}
TYPE = r"(?:long long|unsigned|float|double|int|bool)"
BEFORE_ONE_OPERAND = ("return", "else", *TYPE[3:-1].replace("long long", "long").split("|"))
TOKEN = re.compile(r'"[^"\n]*"|0[xX][0-9a-fA-F]+|\d[\w.]*|[A-Za-z_]\w*(?:\.\w+)?|\+\+|--|&&|\|\||[-+*/%<>=!]=|\S')
FUNCTION = re.compile(r"(?:__global__|__device__)[\w\s]*?(\w+)\s*\(([^)]*)\)\s*\{|#define (\w+)(\([^)]*\))")
STATEMENT = re.compile(r"(?:[;{})]|\belse)\s+(?=(\*?\w+(?:\[[^;=]*\])?\s*[-+*/]?=(?!=)[^;]*);)")
BARRIER = re.compile(r"__syncthreads\(\)(?=;)")
CONDITION = re.compile(r"\bif \(")

Change = tuple[int, int, str]  # from, to, and what stands there instead


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    path: Path
    place: str  # "softmax.row_start": file and function
    number: int  # of the line
    line: str
    change: str
    text: str = field(repr=False)  # of the whole file, with the change

    @property
    def key(self) -> tuple[str, str, str]:
        """What cuda_equivalents.py calls it: stays the same while that line of source does."""
        return self.place, self.line, self.change


@dataclass(frozen=True)
class Function:
    """A function or a macro of a file: text[start:end] is its body."""

    name: str
    parameters: str
    start: int
    end: int


def without_comments(text: str) -> str:
    """The same with spaces for comments: every position stays what it was."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)


def functions_in(code: str) -> Iterator[Function]:
    for match in FUNCTION.finditer(code):
        if match[3]:
            end = re.compile(r"(?<!\\)$", re.MULTILINE).search(code, match.end()).start()
            yield Function(match[3], "", match.end(), end)
        else:
            yield Function(match[1], match[2], match.end(), closing_brace(code, match.end()))


def closing_brace(code: str, start: int) -> int:
    """Where the brace closes that was opened just before `start`."""
    depth = 1
    for i in range(start, len(code)):
        depth += (code[i] == "{") - (code[i] == "}")
        if depth == 0:
            return i
    raise ValueError("a brace is never closed")


def split(text: str) -> list[str]:
    """At the commas that stand outside of all brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def neighbours(function: Function, code: str) -> dict[str, list[str]]:
    """name -> those that stand next to it: parameters of one type, const or not, and variables that are declared together."""
    families: dict[str, list[str]] = {}
    for parameter in split(function.parameters):
        if parameter.strip():
            *kind, name = re.sub(r"\bconst\b", "", parameter).replace("*", " * ").split()
            families.setdefault(" ".join(kind), []).append(name)
    for match in re.finditer(rf"\b{TYPE} ([^;*]*)", code[function.start:function.end]):
        names = [part.split("=")[0].strip() for part in split(match[1])]
        families[match[0]] = [name for name in names if name.isidentifier()]
    return {name: names[max(i - 1, 0):i] + names[i + 1:i + 2] for names in families.values() for i, name in enumerate(names)}


def is_unary(before: str) -> bool:
    """Whether a * after this token takes one operand: what a pointer points at, or, after a type, a declaration."""
    return before in BEFORE_ONE_OPERAND or not re.fullmatch(r"[\w.]+|[)\]]", before)


def incremented(number: str) -> str:
    """A constant plus one, of the same type."""
    if number.lower().startswith("0x"):
        return f"{int(number, 16) + 1:#x}"
    return re.sub(r"^\d+", lambda match: str(int(match[0]) + 1), number)


def changes_of_tokens(function: Function, code: str) -> Iterator[Change]:
    """Another operator, function or index, the next number, a neighbour's name."""
    names = neighbours(function, code)
    before = ";"
    for match in TOKEN.finditer(code, function.start, function.end):
        token = match[0]
        if token in names:
            others = names[token]
        elif token[0].isdigit():
            others = [incremented(token)]
        elif token == "*" and is_unary(before):
            others = []
        else:
            others = OTHERS.get(token, [])
        # to declare two variables of one name is no C
        is_declared = before in (",", *BEFORE_ONE_OPERAND) and re.match(r"\s*=(?!=)", code[match.end():])
        for other in () if is_declared else others:
            yield match.start(), match.end(), other
        before = token


def changes_of_statements(function: Function, code: str) -> Iterator[Change]:
    """An assignment or a barrier left out, a condition that always or never holds."""
    for match in STATEMENT.finditer(code, function.start - 1, function.end):
        if match[1].count("(") == match[1].count(")"):  # else it is part of a for (...)
            yield match.start(1), match.end(1), ""
    for match in BARRIER.finditer(code, function.start, function.end):
        yield match.start(), match.end(), ""
    for match in CONDITION.finditer(code, function.start, function.end):
        yield match.end(), match.end(), "true || "
        yield match.end(), match.end(), "false && "


def mutants_of(path: Path) -> list[Mutant]:
    """Every change of one file, in the order of its lines."""
    text = path.read_text()
    code, lines = without_comments(text), text.split("\n")
    found, seen = [], Counter()
    for function in functions_in(code):
        changes = {*changes_of_tokens(function, code), *changes_of_statements(function, code)}
        for start, end, other in sorted(changes):
            number = text.count("\n", 0, start) + 1
            place, line = f"{path.stem}.{function.name}", lines[number - 1].strip()
            before = " ".join(code[start:end].split())
            change = f"{before} -> {other}" if before else f"if ({other}"
            change = change.strip()
            seen[place, line, change] += 1
            if seen[place, line, change] > 1:
                change += f" ({seen[place, line, change]})"
            found.append(Mutant(path, place, number, line, change, text[:start] + other + text[end:]))
    return found


def files() -> dict[str, Path]:
    """name -> path of every file with CUDA C."""
    return {PRELUDE.name: PRELUDE} | {name: kernels.path for name, kernels in all_kernels().items()}


# --- the judgement -------------------------------------------------------------------------------------------------

VERDICTS = {
    "wrong": "rung 3: a check fails",
    "stopped": "rung 3: crashes, hangs, a launch is refused",
    "thread": "rung 4: found by ThreadSanitizer alone",
    "address": "rung 4: found by AddressSanitizer alone",
    "refused": "g++ refuses it",
    "survived": "nobody notices",
}
Verdict = tuple[str, str]  # a key of VERDICTS, and the reason


def judges() -> dict[str, list]:
    """name of a file -> the operations that launch its kernels; [] for those of optimizers."""
    chosen, optimizers = test_kernels.ON_CUDA, parity.OPTIMIZERS
    operations: dict[str, list] = {name: [] for name in files()}
    parity.OPTIMIZERS = {}
    for op in chosen:
        seen: set[str] = set()
        test_kernels.ON_CUDA = [op]
        test_kernels.everything_small(seen)
        for name, kernels in all_kernels().items():
            if seen & set(kernels.parameters):
                operations[name].append(op)
    test_kernels.ON_CUDA, parity.OPTIMIZERS = chosen, optimizers
    operations[PRELUDE.name] = [op for op in chosen if any(op in operations[name] for name in PRELUDE_IS_JUDGED_BY)]
    return operations


def check_by_fibers(ops: list, folder: Path) -> None:
    """Rung 3: what test_kernels.py does, with these operations, or with the optimizers. Writes down launches for rung 4."""
    test_kernels.ON_CUDA = ops
    if ops:
        parity.OPTIMIZERS = {}
    names = {op.name for op in ops}
    for op in ops:
        test_kernels.test_a_kernel_computes_what_its_loops_compute_in_every_order_of_blocks_and_threads(op)
    if "max_pool2d" in names:
        for x in test_kernels.NO_SLOPES.values():
            test_kernels.test_where_no_slope_can_be_measured_max_pooling_does_what_the_plain_form_does(x)
    if "relu" in names:
        test_kernels.test_relu_keeps_nan()
    if "cross_entropy" in names:
        for wrong in (3, -1):
            test_kernels.test_a_label_that_is_no_class_makes_the_loss_and_its_own_gradient_nan(wrong)
    for row in parity.rows():
        if row.kind == "operation" and row.name in names or row.kind == "optimizer":
            assert row.check() <= 1, f"{row.kind} {row.name} differs from the CPU's"
    for schedule in engine.SCHEDULES:
        test_kernels.test_optimizers_take_the_same_steps_in_every_order(schedule)
    test_kernels.test_the_same_bits_come_out_in_every_order_of_blocks()
    with engine.recording(folder):
        test_kernels.everything_small()


def plant(path: Path, text: str) -> None:
    """Every kernel that is made from this file is from now on made from this text."""
    original = path.read_text()
    for kernels in all_kernels().values():
        kernels.source = kernels.source.replace(original, text)
        kernels._compiled = None


def judged_by_fibers(path: Path, text: str, ops: list, folder: Path) -> Verdict:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            plant(path, text)
            check_by_fibers(ops, folder)
    except engine.CompileError as error:
        return "refused", first_line(error, containing="error")
    except AssertionError as error:
        return "wrong", first_line(error)
    except Exception as error:  # of the launcher, or of what looks at the results
        return "stopped", f"{type(error).__name__}: {first_line(error)}"
    return "survived", ""


def first_line(error: Exception, containing: str = "") -> str:
    return next((line for line in str(error).split("\n") if containing in line), "")[:200]


def in_a_process_of_its_own(work: Callable[[], Verdict]) -> Verdict:
    """What work() gives, or how its process ended without giving anything."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a C library that finds its memory destroyed says so there
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends the process, also from within a kernel; waiting does not count
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if answer:
        return tuple(json.loads(answer))
    how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no answer"
    return "stopped", f"no end after {SECONDS} s" if how == "SIGPROF" else how


def judge(path: Path, text: str, ops: list) -> Verdict:
    """The first rung that notices that a file has this text."""
    with tempfile.TemporaryDirectory() as folder:
        verdict = in_a_process_of_its_own(lambda: judged_by_fibers(path, text, ops, Path(folder)))
        if verdict[0] != "survived":
            return verdict
        for sanitizer in ("thread", "address"):
            findings = engine.replay(folder, sanitizer)
            if findings:
                return sanitizer, f"{findings[0].kernel}: {findings[0].text}"
    return verdict


def judge_all(mutants: list[Mutant], say: Callable[[str], None], verbose: bool = False) -> dict[Mutant, str]:
    """The verdict on each. Explained survivors are "explained"; one that is explained and noticed is "stale"."""
    operations = judges()
    for path in dict.fromkeys(mutant.path for mutant in mutants):
        verdict, reason = judge(path, path.read_text(), operations[path.name])
        if verdict != "survived":
            raise RuntimeError(f"{path.name} fails as it is, without any bug: {verdict}: {reason}")
    verdicts = {}
    for mutant in mutants:
        verdict, reason = judge(mutant.path, mutant.text, operations[mutant.path.name])
        if mutant.key in EQUIVALENT:
            verdict = "explained" if verdict == "survived" else "stale"
        verdicts[mutant] = verdict
        if verbose or verdict in ("survived", "stale"):
            say(f"{verdict.upper() if verdict == 'survived' else verdict:9} {mutant.path.name}:{mutant.number} "
                f"{mutant.key!r}{': ' if reason else ''}{reason}")
    return verdicts


def gone() -> list[tuple[str, str, str]]:
    """Explanations of changes that no file gives any more."""
    existing = {mutant.key for path in files().values() for mutant in mutants_of(path)}
    return [key for key in EQUIVALENT if key not in existing]


def report(verdicts: dict[Mutant, str], say: Callable[[str], None]) -> bool:
    """Prints the table; whether everything was noticed or explained."""
    columns = [*VERDICTS, "explained", "stale"]
    say(f"\n{'file':18} planted " + " ".join(f"{column:>9}" for column in columns))
    counts = {path.name: Counter() for path in dict.fromkeys(mutant.path for mutant in verdicts)}
    for mutant, verdict in verdicts.items():
        counts[mutant.path.name][verdict] += 1
    for name, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        say(f"{name:18} {count.total():7} " + " ".join(f"{count[column]:9}" for column in columns))
    say("\n" + "\n".join(f"{name:9} {meaning}" for name, meaning in VERDICTS.items()))
    say("explained no bug at all: cuda_equivalents.py says why\nstale     explained there, but noticed")
    missing = gone()
    for key in missing:
        say(f"stale entry in cuda_equivalents.py, nothing is changed like this any more: {key!r}")
    return not missing and not any(verdict in ("survived", "stale") for verdict in verdicts.values())


def main() -> int:
    parser = argparse.ArgumentParser(description="Plants bugs in the CUDA kernels and sees the rungs of the ladder notice.")
    parser.add_argument("--file", help="only this one, such as im2col.cu")
    parser.add_argument("--sample", type=int, help="only so many changes, drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--list", action="store_true", help="print what would be planted")
    parser.add_argument("--verbose", action="store_true", help="print who noticed which change")
    arguments = parser.parse_args()
    if arguments.file not in (None, *files()):
        print(f"no file is called {arguments.file!r}; there are: {', '.join(files())}")
        return 2
    mutants = [mutant for name, path in files().items() if arguments.file in (None, name) for mutant in mutants_of(path)]
    if arguments.sample is not None:
        mutants = random.Random(arguments.seed).sample(mutants, min(arguments.sample, len(mutants)))
    if arguments.list:
        for mutant in mutants:
            print(f"{mutant.path.name}:{mutant.number} {mutant.place}: {mutant.line}\n    {mutant.change}")
        return 0

    def say(text: str) -> None:
        print(text, flush=True)

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        engine.cache_folder = lambda: Path(scratch)  # what is compiled here is never asked for again
        standin.install()
        fine = report(judge_all(mutants, say, arguments.verbose), say)
    say(f"\n{time.perf_counter() - start:.0f} s")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
