"""The toy homework, and a student's file for it with what a test puts into it."""
import textwrap

import pytest
from toy_homework import CHECKS, RIGHT, SOLUTION

from minidl.homework import catalog, grading, runner


@pytest.fixture(autouse=True)
def _no_stand_in_for_students(request, monkeypatch):
    """In the second run this process has a stand-in for a GPU, and the students' processes have none: so nobody has."""
    if request.config.option.stand_in:
        for module in (grading, runner):
            monkeypatch.setattr(module, "no_gpu", lambda: "device 'cuda' needs CuPy, which is not there for students")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy, as the only homework that there is."""
    folder = tmp_path / "installed" / "hw9_toy"
    folder.mkdir(parents=True)
    (folder / "solution.py").write_text(SOLUTION.lstrip())
    (folder / "checks.py").write_text(CHECKS.lstrip())
    monkeypatch.setattr(catalog, "FOLDER", folder.parent)
    return catalog.Homework(folder)


@pytest.fixture
def handed_in(tmp_path):
    """handed_in(double="body", top="lines") writes a student's file, right but for these, and returns its path."""
    folder = tmp_path / "student"
    folder.mkdir()

    def write(double="return x * 2", quadruple="return 2 * double(x)", top="", name="hw9_toy.py"):
        text = RIGHT.replace("    return x * 2\n", textwrap.indent(textwrap.dedent(double).strip(), "    ") + "\n")
        text = text.replace("        return 2 * double(x)\n",
                            textwrap.indent(textwrap.dedent(quadruple).strip(), "        ") + "\n")
        path = folder / name
        path.write_text(textwrap.dedent(top).strip() + "\n" + text)
        return path
    return write
