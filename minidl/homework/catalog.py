"""The homeworks that there are: a folder hwN_name each, with solution.py and checks.py."""
import functools
import re
import sys
from functools import cached_property
from pathlib import Path
from types import ModuleType

from minidl.homework.parts import Part, parts_named_by
from minidl.homework.source import Source, make_stub, parse

FOLDER = Path(__file__).parent


class Homework:
    """A folder such as hw3_convolution: what its two files say, read when it is asked for. Errors: ValueError."""

    def __init__(self, folder: Path) -> None:
        match = re.fullmatch(r"hw(\d+)_\w+", folder.name)
        if not match:
            raise ValueError(f"the folder of a homework must be named like hw3_convolution, got {folder}")
        self.folder, self.name, self.number = folder, folder.name, int(match[1])

    @property
    def file_name(self) -> str:
        """The stub's."""
        return f"{self.name}.py"

    @cached_property
    def source(self) -> Source:
        """The tasks with their hints, as solution.py tells them."""
        path = self.folder / "solution.py"
        try:
            return parse(path.read_text(encoding="utf-8"))
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{path}: {error}") from None

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What is judged, in the order of checks.py. The points of a task's parts add up to the task's."""
        found = parts_named_by(lambda: run_file(self.folder / "checks.py", f"minidl_{self.name}_checks"))
        unknown = {part.task for part in found} - {task.name for task in self.source.tasks}
        if unknown:
            raise ValueError(f"{self.folder / 'checks.py'}: solution.py has no task {', '.join(sorted(unknown))}")
        for task in self.source.tasks:
            points = sum(part.points for part in found if part.task == task.name)
            if points != task.points:
                raise ValueError(f"{self.folder / 'checks.py'}: the parts of task {task.name} give {points} points, but "
                                 f"solution.py says {task.points}")
        return found

    @cached_property
    def points(self) -> int:
        """Of all tasks."""
        return sum(task.points for task in self.source.tasks)

    @cached_property
    def lesson(self) -> str:
        """The lesson that the homework goes with: the first name such as 02_convolution that its docstring says, or nothing."""
        match = re.search(r"\b\d\d_[a-z]\w+", f"{self.source.title}\n{self.source.about}")
        return match[0] if match else ""

    def stub(self) -> str:
        """The text of the file that the student gets."""
        return make_stub(self.source, self.number, self.file_name)

    def reference(self) -> ModuleType:
        """solution.py, run anew."""
        return run_file(self.folder / "solution.py", f"minidl_{self.name}_reference")

    def parts_of(self, task: str) -> list[Part]:
        """The parts of one task, in order."""
        return [part for part in self.parts if part.task == task]


def homeworks() -> list[Homework]:
    """All, by number."""
    return _in_folder(FOLDER)


@functools.cache
def _in_folder(folder: Path) -> list[Homework]:
    found = [Homework(path.parent) for path in folder.glob("hw*_*/solution.py")]
    return sorted(found, key=lambda homework: homework.number)


def run_file(path: Path, name: str) -> ModuleType:
    """The module that a file of ours makes; nothing is written beside it."""
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look there
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module
