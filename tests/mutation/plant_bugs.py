"""Plants bugs in every operation, one at a time, and sees whether the checks that every operation must pass notice.

    python tests/mutation/plant_bugs.py                      all of them
    python tests/mutation/plant_bugs.py --operation Conv2d   one operation or helper (see --list)
    python tests/mutation/plant_bugs.py --list               what would be planted

A bug is a small change of the source: + for -, = for +=, > for >=, a dropped term, a swapped pair, another axis. It is
made in the syntax tree of `__init__`, `forward`, `backward`, their faster forms and the functions they call, compiled into
a fresh copy of the module, and judged by tests/support/operation_checks.py. Loops, samples and refusals stay those of the
original.
Helpers that several operations import (windows.py, broadcasting.py, ...) are judged by all operations that do.

A survivor is either a hole in the operation's samples, to be filled there, or no bug at all, to be explained in
equivalents.py beside this file. Exit status 1 if one is neither.
"""
import argparse
import ast
import copy
import functools
import inspect
import os
import resource
import signal
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
for folder in (HERE.parent / "support", HERE.parent / "cuda_on_cpu", HERE):
    sys.path.insert(0, str(folder))
if __name__ == "__main__":  # as a script: the package of this checkout; under pytest: the one that pytest tests
    sys.path.insert(0, str(HERE.parents[1]))

import standin  # noqa: E402
from cases import POINTED_CHECKS  # noqa: E402
from equivalents import EQUIVALENT  # noqa: E402
from operation_checks import (  # noqa: E402
    CHECKS,
    FASTER,
    check_backward_against_differences,
    check_cuda_kernels_against_the_plain_ones,
)
from small_parts import small_parts  # noqa: E402

from minidl.function import Function, plain_kernels  # noqa: E402
from minidl.ops import OPS  # noqa: E402


def check_pointedly(op: type[Function]) -> None:
    """What only this operation has and no sample can show."""
    if op.name in POINTED_CHECKS:
        POINTED_CHECKS[op.name](op)


# The slowest last: most bugs are noticed before.
SLOWEST = check_backward_against_differences


def plainly(check: Callable) -> Callable:
    """The check of `forward` and `backward`, where faster kernels would run in their place."""
    @functools.wraps(check)
    def run(op: type[Function]) -> None:
        with plain_kernels():
            check(op)
    return run


def check_faster_kernels(op: type[Function]) -> None:
    """forward_cpu and backward_cpu against the plain ones. (What they call is judged by fast_paths.py.)"""
    if op.forward_cpu is not None:
        with small_parts():
            for check in [*FASTER, *(check for check in CHECKS if check is not SLOWEST)]:
                check(op)


def check_on_the_stand_in(op: type[Function]) -> None:
    """On device "cuda": the launch code of those with kernels, the plain form of the others. Needs g++.

    In a process of its own: a wrong launch writes where it likes, as on a GPU. (Kernels are judged by plant_cuda_bugs.py.)
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where a C library says that its memory is destroyed
        said = "passed"
        try:
            standin.install()
            check_cuda_kernels_against_the_plain_ones(op)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, said[:2000].encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said == "passed", f"on cuda: {said or 'the process ended without a word'}"


JUDGES = [*(plainly(check) for check in CHECKS if check is not SLOWEST), check_pointedly, check_faster_kernels,
          check_on_the_stand_in, plainly(SLOWEST)]
SECONDS = 10  # for all checks of one bug: an endless loop counts as noticed
GIGABYTES = 4  # more memory than this is refused, which counts as noticed too

NOT_PLANTED_IN = {
    "naive", "samples", "rejects",  # the judges
    "multiply_adds", "window",  # describe the operation for a summary, compute nothing
    "check", "check_shapes", "check_range", "check_images", "check_groups", "check_bias", "check_pool_padding",
    "broadcast_shape", "_check_alike",  # they only refuse
    "shares_of_work", "batches",  # cut the work; tests/cuda_on_cpu/test_kernels.py looks at the latter
    "check_places",  # only refuses
    "over_elements", "_over_groups", "over_rows", "_pairs",  # belong to the loops and samples
}


class TooSlowError(Exception):
    """The checks of one bug took too long."""


# --- where bugs are planted ----------------------------------------------------------------------------------------


@dataclass
class Place:
    """One function whose source is changed, and the operations that would suffer."""

    owner: str  # the operation, or "windows.fold" for a helper of several
    module: types.ModuleType
    path: tuple[str, ...]  # ("Conv2d", "forward") or ("fold",)
    judges: list[type[Function]]

    @property
    def name(self) -> str:
        return f"{self.module.__name__.rpartition('.')[2]}.{'.'.join(self.path)}"


def source_tree(module: types.ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def functions_in(tree: ast.Module) -> dict[tuple[str, ...], ast.FunctionDef]:
    """Every function and method of a module by its path."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[(node.name,)] = node
        if isinstance(node, ast.ClassDef):
            found.update({(node.name, f.name): f for f in node.body if isinstance(f, ast.FunctionDef)})
    return found


def names_used(op: type[Function]) -> set[str]:
    """Global names that an operation's own methods use (not its loops, samples and refusals)."""
    used: set[str] = set()
    for cls in op.__mro__:
        if not cls.__module__.startswith("minidl.") or cls is Function:
            continue
        for path, function in functions_in(source_tree(sys.modules[cls.__module__])).items():
            if path[0] == cls.__name__ and path[-1] not in NOT_PLANTED_IN:
                used |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return used


def helpers_of(op: type[Function]) -> set[types.FunctionType]:
    """The package's functions that an operation calls, directly or through another."""
    found: set[types.FunctionType] = set()
    waiting = [(op.__module__, name) for name in names_used(op)]
    while waiting:
        module, name = waiting.pop()
        f = getattr(sys.modules[module], name, None)
        package = getattr(f, "__module__", "") or ""
        if not isinstance(f, types.FunctionType) or f in found or not package.startswith(("minidl.ops", "minidl.arithmetic")):
            continue
        if f.__name__ in NOT_PLANTED_IN:
            continue
        found.add(f)
        node = functions_in(source_tree(sys.modules[package]))[(f.__name__,)]
        waiting += [(package, inner.id) for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    return found


def places() -> list[Place]:
    """Every function that bugs are planted in. A helper of one operation belongs to it, one of several to itself."""
    users: dict[tuple[str, tuple[str, ...]], list[type[Function]]] = {}
    for op in OPS:
        for cls in op.__mro__:
            if cls is Function or not cls.__module__.startswith("minidl."):
                continue
            for path in functions_in(source_tree(sys.modules[cls.__module__])):
                if path[0] == cls.__name__ and path[-1] not in NOT_PLANTED_IN:
                    users.setdefault((cls.__module__, path), []).append(op)
        for f in sorted(helpers_of(op), key=lambda f: (f.__module__, f.__name__)):
            users.setdefault((f.__module__, (f.__name__,)), []).append(op)
    found = []
    for (module, path), judges in users.items():
        short = module.rpartition(".")[2]
        owner = judges[0].__name__ if len(judges) == 1 else f"{short}.{'.'.join(path)}"
        found.append(Place(owner, sys.modules[module], path, judges))
    return found


# --- what is planted -----------------------------------------------------------------------------------------------


@dataclass
class Bug:
    """One change: `tree` is the module's whole tree with it."""

    place: Place
    line: str
    change: str
    tree: ast.Module = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """What equivalents.py calls it: stays the same while that line of source does."""
        return self.place.name, self.line, self.change


OTHER_OPERATOR: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}
OTHER_NAME = {"min": "max", "max": "min", "argmax": "argmin", "maximum": "minimum"}
PASSES_ITS_ARGUMENT = {"sum_to", "abs", "_per_channel"}  # dropped: the argument stays
COMMUTATIVE = {"min", "max", "maximum", "swapaxes"}
PASSES_ITS_OWNER = {"sum", "transpose", "swapaxes", "copy", "reshape", "mean"}  # dropped: what it was called on stays


def is_guard(statement: ast.stmt) -> bool:
    """`if ...: raise`, or a loop over nothing but that: tested by `rejects`, not by planted bugs."""
    if isinstance(statement, ast.If):
        return isinstance(statement.body[-1], ast.Raise) and not statement.orelse
    if isinstance(statement, ast.For):
        return all(is_guard(inner) for inner in statement.body)
    return isinstance(statement, ast.Raise) or (isinstance(statement, ast.Expr) and (
        isinstance(statement.value, ast.Constant)  # the docstring
        or (isinstance(statement.value, ast.Call) and getattr(statement.value.func, "id", getattr(
            statement.value.func, "attr", "")) in NOT_PLANTED_IN)))


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Every wrong version of one node."""
    def changed(**values: object) -> ast.AST:
        other = copy.deepcopy(node)
        for name, value in values.items():
            setattr(other, name, value)
        return other

    if isinstance(node, ast.BinOp):
        if type(node.op) in OTHER_OPERATOR:
            yield changed(op=OTHER_OPERATOR[type(node.op)]())
        if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Pow)):
            yield node.left
        if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
            yield node.right
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        yield node.operand
    elif isinstance(node, ast.AugAssign):
        yield ast.Assign([node.target], node.value)
        if type(node.op) in OTHER_OPERATOR:
            yield changed(op=OTHER_OPERATOR[type(node.op)]())
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield changed(value=not node.value)
        elif isinstance(node.value, (int, float)):
            yield changed(value=node.value + 1)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OTHER_OPERATOR:
        yield changed(ops=[OTHER_OPERATOR[type(node.ops[0])]()])
    elif isinstance(node, ast.Tuple):
        for i in range(len(node.elts) - 1):
            pair = node.elts[i:i + 2]
            if not any(isinstance(e, (ast.Starred, ast.Slice, ast.Constant)) for e in pair) and (
                    ast.dump(pair[0]) != ast.dump(pair[1])):
                yield changed(elts=[*node.elts[:i], pair[1], pair[0], *node.elts[i + 2:]])
    elif isinstance(node, ast.IfExp):
        yield changed(body=node.orelse, orelse=node.body)
    elif isinstance(node, ast.If):
        yield changed(test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.BoolOp):
        for i in range(len(node.values)):
            rest = node.values[:i] + node.values[i + 1:]
            yield rest[0] if len(rest) == 1 else changed(values=rest)
    elif isinstance(node, ast.Slice) and node.step is not None:
        yield changed(step=None)
    elif isinstance(node, ast.Call):
        yield from variants_of_call(node, changed)


def variants_of_call(node: ast.Call, changed: Callable) -> Iterator[ast.AST]:
    """Arguments swapped, the call left out, another function of the kind."""
    function = node.func
    if isinstance(function, ast.Name):
        if function.id in PASSES_ITS_ARGUMENT:
            yield node.args[0]
        if function.id in OTHER_NAME:
            yield changed(func=ast.Name(OTHER_NAME[function.id], ast.Load()))
    if isinstance(function, ast.Attribute):
        if function.attr in PASSES_ITS_OWNER:
            yield function.value
        if function.attr in OTHER_NAME and isinstance(function.value, ast.Name):
            yield changed(func=ast.Attribute(function.value, OTHER_NAME[function.attr], ast.Load()))
    name = getattr(function, "id", getattr(function, "attr", ""))
    if name in COMMUTATIVE or name in ("isinstance", "hasattr", "pair"):
        return
    for i in range(len(node.args) - 1):
        two = node.args[i:i + 2]
        if not any(isinstance(a, (ast.Starred, ast.Constant)) for a in two) and ast.dump(two[0]) != ast.dump(two[1]):
            yield changed(args=[*node.args[:i], two[1], two[0], *node.args[i + 2:]])


def is_not_planted_in(child: object, node: ast.AST) -> bool:
    """Guards, error handling, the types of isinstance, and the -1 of reshape: NumPy takes any negative size for it."""
    if not isinstance(child, ast.AST) or isinstance(child, ast.ExceptHandler):
        return True
    if isinstance(child, ast.stmt):
        return is_guard(child)
    function = node.func if isinstance(node, ast.Call) else None
    return (isinstance(child, ast.UnaryOp) and getattr(function, "attr", "") == "reshape") or (
        isinstance(child, ast.Tuple) and getattr(function, "id", "") == "isinstance")


def planted(node: ast.AST, statement: ast.stmt | None = None) -> Iterator[tuple[ast.stmt, str, str]]:
    """Walks a function and changes it in place, one bug at a time: (statement, what, by what) while it is changed."""
    for name, value in ast.iter_fields(node):
        if name in ("args", "decorator_list", "returns", "annotation") and isinstance(node, (ast.FunctionDef, ast.AnnAssign)):
            continue
        children = value if isinstance(value, list) else [value]
        for i, child in enumerate(children):
            if is_not_planted_in(child, node):
                continue
            around = child if isinstance(child, ast.stmt) else statement
            for other in variants(child):
                ast.copy_location(other, child)
                if isinstance(value, list):
                    value[i] = other
                else:
                    setattr(node, name, other)
                yield around, head(child), head(other)
                if isinstance(value, list):
                    value[i] = child
                else:
                    setattr(node, name, child)
            yield from planted(child, around)


def head(node: ast.AST) -> str:
    """A node as source; of compound statements the first line."""
    return ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split("\n")[0]


def bugs_in(place: Place) -> Iterator[Bug]:
    """Every automatic bug of one function. The tree is shared: use each bug before you ask for the next."""
    tree = source_tree(place.module)
    function = functions_in(tree)[place.path]
    lines = inspect.getsource(place.module).split("\n")
    seen: dict[tuple[str, str], int] = {}
    for statement, before, after in planted(function):
        line, change = lines[statement.lineno - 1].strip(), f"{before} -> {after}"
        seen[line, change] = seen.get((line, change), 0) + 1
        if seen[line, change] > 1:
            change += f" ({seen[line, change]})"
        yield Bug(place, line, change, ast.fix_missing_locations(tree))


# Classics of other frameworks that no single change of one node gives: (function, text in it, other text).
BY_HAND = [
    ("windows.fold", "SH, kw : kw + (OW - 1) * SW + 1 : SW] += windows[..., kh, kw]",
     "SH, kw : kw + (OW - 1) * SW + 1 : SW] += windows[..., KH - 1 - kh, KW - 1 - kw]"),  # kernel flipped
    ("avg_pool2d.AvgPool2d.forward", "/ self.divisor", "/ (self.kernel[0] * self.kernel[1])"),
    ("avg_pool2d.AvgPool2d.backward", "dy / self.divisor", "dy / (self.kernel[0] * self.kernel[1])"),
    ("max_pool2d.MaxPool2d.forward", "fill=-np.inf", "fill=0"),
    ("max_pool2d.MaxPool2d.forward", "windows.argmax(axis=4)", "windows[..., ::-1].argmax(axis=4)"),
    ("max_pool2d.MaxPool2d.backward", "(self.first == places)", "1"),
    ("lrn.LRN.backward", "(seen, self.after, self.before)", "(seen, self.before, self.after)"),
    ("lrn.LRN.backward", "(-self.beta - 1)", "-self.beta"),
    ("batch_norm.BatchNorm.backward", "(dy - mean_dy - self.x_hat * mean_dy_x)", "dy"),  # statistics as constants
    ("batch_norm.BatchNorm.forward", "x.var(axis=self.axes)", "x.var(axis=self.axes, ddof=1)"),
    ("batch_norm.BatchNorm.forward", "array_module(x).sqrt(self.var + self.eps)",
     "(array_module(x).sqrt(self.var) + self.eps)"),
    ("softmax.Softmax.backward", "(dy * self.y)", "dy"),
    ("softmax.log_probabilities", "x - x.max(axis=axis, keepdims=True)", "x - x.max()"),  # shared maximum: underflow
    ("cross_entropy.CrossEntropy.gradient", "dlogits *= counts * (dy / self.count)", "dlogits *= dy / self.count"),
    ("cross_entropy.CrossEntropy.take_labels", "self.count = int(self.counts.sum())", "self.count = labels.size"),
    ("conv2d.Conv2d.forward", "y += b.reshape(self.groups, -1, 1)", "y = b.reshape(self.groups, -1, 1) + 0 * y * y"),
    ("conv2d.as_matrix", "transpose(1, 4, 5, 0, 2, 3)", "transpose(1, 5, 4, 0, 2, 3)"),  # KH and KW swapped
    ("conv2d.as_matrix", "transpose(1, 4, 5, 0, 2, 3)", "transpose(4, 1, 5, 0, 2, 3)"),  # groups no longer contiguous
    ("linear.Linear.backward", "rows.T @ self.x.reshape(len(rows), D)",
     "(self.x.reshape(len(rows), D).T @ rows).reshape(F, D)"),
    ("reductions.Max.backward", "rows[xp.arange(len(rows)), self.first] =", "rows[:, self.first] ="),
    ("shaping.GetItem.backward", "xp.add.at(dx, self.index, dy)", "dx[self.index] += dy"),  # repeats kept once
    ("shaping.Cast.backward", "self.x_dtype", "np.float32"),
    ("shaping.Cast.backward", "dy.astype(self.x_dtype)", "dy"),
    ("shaping.Cast.forward", "x.astype(self.dtype)", "x"),
    ("shaping.Reshape.backward", "dy.reshape(self.x_shape)", "dy.T.reshape(self.x_shape)"),
    ("shaping.Reshape.forward", "x.reshape(self.shape)", "x.reshape(self.shape, order='F')"),
    ("shaping.Transpose.forward", "[a % x.ndim for a in axes]", "axes"),  # negative axes sort first
    ("shaping.Transpose.backward", "self.inverse", "self.axes"),
    ("elementwise.Negate.backward", "-dy", "0 * dy"),
    ("elementwise.Exp.forward", "exp(x)", "expm1(x)"),
    ("elementwise.Exp.backward", "dy * self.y", "dy * dy * self.y"),
    ("elementwise.Log.forward", "log(x)", "log2(x)"),
    ("elementwise.Sqrt.forward", "sqrt(x)", "cbrt(x)"),
    ("elementwise.Where.backward", "~self.condition", "self.condition"),
    ("relu.ReLU.forward", "maximum(x, 0,", "maximum(x, -x,"),
    ("relu.ReLU.backward", "dy * (self.y > 0)", "array_module(dy).maximum(dy, 0)"),  # masks by the wrong array
    ("crop.Crop.backward", "dx[self.inside] = dy", "dx[..., :dy.shape[2], :dy.shape[3]] = dy"),
    ("dropout.Dropout.backward", "dy * self.keep", "dy"),
    ("reductions._Reduction.spread", "dy.reshape(self.kept)", "dy"),
    ("reductions.Sum.backward", "self.spread(dy)", "dy"),
    ("reductions.Sum.backward", "self.spread(dy)", "self.spread(dy) / self.count"),
    ("reductions.Sum.forward", "axis=self.axes", "axis=None"),
]


def bugs_by_hand(place: Place) -> Iterator[Bug]:
    """The bugs of BY_HAND in one function."""
    for name, before, after in BY_HAND:
        if name != place.name:
            continue
        source = inspect.getsource(place.module)
        node = functions_in(ast.parse(source))[place.path]
        lines = source.split("\n")
        body = "\n".join(lines[node.lineno - 1:node.end_lineno])
        if body.count(before) != 1:
            raise LookupError(f"BY_HAND: {name} must hold {before!r} once, but holds it {body.count(before)} times: "
                              "adapt the entry to the source")
        line = next(text for text in body.split("\n") if before.split("\n")[0] in text).strip()
        lines[node.lineno - 1:node.end_lineno] = body.replace(before, after).split("\n")
        yield Bug(place, line, f"{before} -> {after}", ast.parse("\n".join(lines)))


def all_bugs(wanted: list[Place]) -> Iterator[Bug]:
    for place in wanted:
        yield from bugs_in(place)
        yield from bugs_by_hand(place)


# --- the judgement -------------------------------------------------------------------------------------------------


def compiled(tree: ast.Module, module: types.ModuleType) -> types.ModuleType:
    """A module of its own, made from a changed tree."""
    fresh = types.ModuleType(f"planted.{module.__name__}")
    fresh.__file__ = module.__file__  # beside which its CUDA kernels lie
    exec(compile(tree, f"planted in {module.__file__}", "exec"), fresh.__dict__)
    return fresh


_untouched: dict[str, ast.Module] = {}


def with_bug(bug: Bug) -> list[type[Function]]:
    """Fresh copies of the operations that the bug touches, with the loops, samples and refusals of the originals."""
    changed = compiled(bug.tree, bug.place.module)
    copies = {bug.place.module.__name__: changed}
    judged = []
    for op in bug.place.judges:
        if op.__module__ not in copies:
            original = sys.modules[op.__module__]
            fresh = copies[op.__module__] = compiled(
                _untouched.setdefault(op.__module__, source_tree(original)), original)
            for name, value in vars(original).items():  # what it imports from the changed module
                if getattr(value, "__module__", None) == bug.place.module.__name__ and hasattr(changed, name):
                    setattr(fresh, name, getattr(changed, name))
        planted_op = getattr(copies[op.__module__], op.__name__)
        for judge in ("naive", "samples", "rejects"):
            setattr(planted_op, judge, staticmethod(getattr(op, judge)))
        judged.append(planted_op)
    return judged


def noticed_by(ops: list[type[Function]], seconds: float = SECONDS) -> str:
    """The first check that fails and why, or "" when all of them pass."""
    def too_slow(*_: object) -> None:
        raise TooSlowError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        for check in JUDGES:
            for op in ops:
                try:
                    with warnings.catch_warnings(), np.errstate(all="ignore"):
                        warnings.simplefilter("ignore")
                        check(op)
                except Exception as error:
                    reason = str(error).split("\n")[0]
                    return f"{check.__name__} on {op.__name__}: {type(error).__name__}: {reason}"
        return ""
    except TooSlowError as error:
        return str(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Score:
    """What became of the bugs of one operation or helper."""

    planted: int = 0
    killed: int = 0
    equivalent: int = 0
    survivors: list[Bug] = field(default_factory=list)


def judge(wanted: list[Place], say: Callable[[str], None], verbose: bool = False) -> tuple[dict[str, Score], set[tuple]]:
    """Plants and judges everything in `wanted`: scores by owner, and the keys of EQUIVALENT that were met."""
    scores: dict[str, Score] = {}
    met: set[tuple] = set()
    owner = ""
    for bug in all_bugs(wanted):
        if bug.place.owner != owner:
            owner = bug.place.owner
            say(f"{owner} ...")
        score = scores.setdefault(owner, Score())
        score.planted += 1
        reason = noticed_by(with_bug(bug))
        if bug.key in EQUIVALENT:
            met.add(bug.key)
            if reason:
                say(f"  listed as equivalent, but noticed: {bug.key}: {reason}")
                met.discard(bug.key)
        if reason:
            score.killed += 1
            if verbose:
                say(f"  noticed   {bug.place.name}: {bug.change}\n            {reason[:150]}")
        elif bug.key in EQUIVALENT:
            score.equivalent += 1
        else:
            score.survivors.append(bug)
            say(f"  SURVIVED  {bug.key!r}")
    return scores, met


def stale(met: set[tuple], wanted: list[Place]) -> list[tuple]:
    """Entries of EQUIVALENT for these places that no longer describe a surviving change."""
    names = {place.name for place in wanted}
    everything = {place.name for place in places()}
    return [key for key in EQUIVALENT if key not in met and (key[0] in names or key[0] not in everything)]


def report(scores: dict[str, Score], leftover: list[tuple], say: Callable[[str], None]) -> bool:
    """Prints the table; whether everything was noticed or explained."""
    say(f"\n{'operation or helper':36} killed / planted")
    for owner, score in sorted(scores.items(), key=lambda item: ("." in item[0], item[0])):
        notes = [f"{score.equivalent} equivalent"] * bool(score.equivalent)
        notes += [f"{len(score.survivors)} SURVIVED"] * bool(score.survivors)
        say(f"{owner:36} {score.killed:6} / {score.planted:<7} {', '.join(notes)}")
    for key in leftover:
        say(f"stale entry in equivalents.py, nothing survives there any more: {key!r}")
    planted_in_all, killed = sum(s.planted for s in scores.values()), sum(s.killed for s in scores.values())
    equivalent = sum(s.equivalent for s in scores.values())
    survivors = sum(len(s.survivors) for s in scores.values())
    few = [op.__name__ for op in OPS if op.__name__ in scores and scores[op.__name__].planted < 3]
    for name in few:
        say(f"fewer than three bugs planted in {name}: add some to BY_HAND")
    say(f"\nequivalent (no bug at all, explained in equivalents.py): {equivalent}; survived: {survivors}")
    say(f"killed / planted: {killed} / {planted_in_all}")
    return not survivors and not leftover and not few


def refuse_much_memory() -> None:
    """A planted bug that asks for a huge array gets a MemoryError instead of the machine's memory."""
    statm = Path("/proc/self/statm")  # what is mapped already: BLAS reserves a lot for every core
    mapped = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = mapped + GIGABYTES * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def main() -> int:
    parser = argparse.ArgumentParser(description="Plants bugs in every operation and sees its checks fail.")
    parser.add_argument("--operation", help="only this operation (Conv2d) or helper (windows.fold)")
    parser.add_argument("--list", action="store_true", help="print what would be planted")
    parser.add_argument("--verbose", action="store_true", help="print which check noticed which bug")
    arguments = parser.parse_args()
    wanted = [place for place in places() if arguments.operation in (None, place.owner)]
    if not wanted:
        known = ", ".join(sorted({place.owner for place in places()}))
        print(f"no operation or helper is called {arguments.operation!r}; there are: {known}")
        return 2
    if arguments.list:
        for bug in all_bugs(wanted):
            print(f"{bug.place.owner}: {bug.place.name}: {bug.line}\n    {bug.change}")
        return 0
    refuse_much_memory()

    def say(text: str) -> None:
        print(text, flush=True)

    start = time.perf_counter()
    scores, met = judge(wanted, say, arguments.verbose)
    fine = report(scores, stale(met, wanted), say)
    say(f"{time.perf_counter() - start:.0f} s")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
