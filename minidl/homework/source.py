"""solution.py is the one source of the reference, the stub and the table of tasks: this file reads its marks.

    #: task conv_forward | 4 points | 25 minutes
    #: hint What does one output see of the image?
    #: solution
    ...                     becomes, in the stub, raise NotImplementedError("conv_forward: your code here")
    #: end
"""
import ast
import re
from dataclasses import dataclass, field

TASK = re.compile(r"#: task (\w+) \| (\d+) points? \| (\d+) minutes?")
HINTS = 3


@dataclass
class Task:
    """A task, as the marks in solution.py tell it. `names`: what it defines. `first`, `last`: its lines, from 1."""
    name: str
    points: int
    minutes: int
    first: int
    last: int = 0
    hints: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


@dataclass
class Source:
    """A solution.py, read. `regions`: first and last line (the marks) of what the student writes, with its task."""
    text: str
    title: str
    about: str
    tasks: list[Task]
    regions: list[tuple[int, int, Task]]


def parse(text: str) -> Source:
    """Reads the marks. Errors: ValueError that names the line."""
    tree = ast.parse(text)
    title, _, about = (ast.get_docstring(tree) or "").partition("\n")
    source = Source(text, title.strip(), about.strip(), [], [])
    _read_marks(source)
    for task, following in zip(source.tasks, [*source.tasks[1:], None]):
        task.last = following.first - 1 if following else len(text.splitlines())
        task.names = _names(tree, task)
    _insist(source)
    return source


def _read_marks(source: Source) -> None:
    start = 0  # the line of an open `#: solution`
    in_hint = False
    for number, line in enumerate(source.text.splitlines(), 1):
        mark = line.strip()
        if in_hint and re.match(r"#:\s\s", mark):
            source.tasks[-1].hints[-1] += " " + mark[2:].strip()
            continue
        in_hint = False
        if not mark.startswith("#:"):
            continue
        if match := TASK.fullmatch(mark):
            source.tasks.append(Task(match[1], int(match[2]), int(match[3]), number))
        elif not source.tasks:
            raise ValueError(f"line {number}: {mark!r} stands before the first `#: task NAME | N points | N minutes`")
        elif mark.startswith("#: hint "):
            source.tasks[-1].hints.append(mark[len("#: hint "):].strip())
            in_hint = True
        elif mark == "#: solution" and not start:
            start = number
        elif mark == "#: end" and start:
            source.regions.append((start, number, source.tasks[-1]))
            start = 0
        else:
            raise ValueError(f"line {number}: {mark!r} is not a mark that fits here; marks are `#: task NAME | N points | N "
                             "minutes`, `#: hint TEXT`, and pairs of `#: solution` and `#: end`")
        if start and mark != "#: solution":
            raise ValueError(f"line {number}: {mark!r} stands inside the solution that begins in line {start}")
    if start:
        raise ValueError(f"line {start}: this `#: solution` has no `#: end`")


def _names(tree: ast.Module, task: Task) -> list[str]:
    """What the task defines at the top level of the file."""
    names: list[str] = []
    for statement in tree.body:
        if not task.first <= statement.lineno <= task.last:
            continue
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            names.append(statement.name)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names += [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return names


def _insist(source: Source) -> None:
    """What every homework keeps to."""
    if not source.title:
        raise ValueError("line 1: the file must begin with a docstring, whose first line is the homework's title")
    if not source.tasks:
        raise ValueError("there is no `#: task NAME | N points | N minutes`")
    seen: set[str] = set()
    for task in source.tasks:
        if len(task.hints) != HINTS:
            raise ValueError(f"line {task.first}: task {task.name} must have {HINTS} hints, got {len(task.hints)}")
        if not any(owner is task for _, _, owner in source.regions):
            raise ValueError(f"line {task.first}: task {task.name} has no `#: solution` ... `#: end`: nothing to write")
        if task.name in seen or seen & set(task.names):
            raise ValueError(f"line {task.first}: task {task.name}, or a name that it defines, is there already")
        seen |= {task.name, *task.names}


def make_stub(source: Source, number: int, file_name: str) -> str:
    """What the student gets: the text without solutions and hints, and with a first line that says which homework it is."""
    lines = source.text.splitlines()
    replaced: dict[int, list[str]] = {}
    for first, last, task in source.regions:
        indent = lines[first - 1][:len(lines[first - 1]) - len(lines[first - 1].lstrip())]
        replaced |= dict.fromkeys(range(first, last + 1), [])
        replaced[first] = [f'{indent}raise NotImplementedError("{task.name}: your code here")']
    for task in source.tasks:
        replaced[task.first] = [f"# --- Task {task.name}: {task.points} point{'s' * (task.points != 1)}, about {task.minutes} "
                                "minutes.", f"# Check it, or ask for a hint: minidl homework check {file_name} --task "
                                f"{task.name} [--hint]"]
    kept = [f"# minidl homework {number}: this line tells which one the file is, whatever its name"]
    for at, line in enumerate(lines, 1):
        if at in replaced:
            kept += replaced[at]
        elif not line.strip().startswith("#:"):  # a hint
            kept.append(line)
    return "\n".join(kept).rstrip() + "\n"
