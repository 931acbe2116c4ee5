"""solution.py is read as it is meant: tasks, hints, regions; and the stub gives nothing away."""
import ast

import pytest
from toy_homework import SOLUTION

from minidl.homework.catalog import homeworks
from minidl.homework.source import make_stub, parse

TEXT = SOLUTION.lstrip()


def test_tasks_have_points_minutes_hints_and_names():
    source = parse(TEXT)
    assert source.title == "Homework 9: a toy, for tests."
    assert [(task.name, task.points, task.minutes, task.names) for task in source.tasks] == [
        ("double", 3, 10, ["double"]), ("quadruple", 2, 15, ["SHIFT", "Quadruple"])]
    assert source.tasks[0].hints == ["What is twice a number?", "Add it to itself.", "x + x"]


def test_the_stub_has_no_solution_and_no_hint_but_all_the_rest():
    stub = make_stub(parse(TEXT), 9, "hw9_toy.py")
    assert stub.startswith('# minidl homework 9')
    assert "np.add" not in stub and "too many axes" not in stub and "hint What" not in stub and "#:" not in stub
    assert '    raise NotImplementedError("double: your code here")\n' in stub
    assert '        x = np.asarray(x) + SHIFT\n        raise NotImplementedError("quadruple: your code here")\n' in stub
    assert "minidl homework check hw9_toy.py --task double" in stub
    names = [node.name for node in ast.parse(stub).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert names == ["double", "Quadruple"]


@pytest.mark.parametrize(("old", "new", "words"), [
    ("#: hint x + x\n", "", "line 8: task double must have 3 hints, got 2"),
    ("#: task double | 3 points | 10 minutes\n", "", "line 8: '#: hint What is twice a number.' stands before the first"),
    ("#: task double | 3 points", "#: task double | three points", "is not a mark that fits here|stands before the first"),
    ("#: task quadruple | 2 points", "#: task quadruple, 2 points", "line 20: .* is not a mark that fits here"),
    ("#: task quadruple", "#: task double", "line 20: task double, or a name that it defines, is there already"),
    ("    #: end\n\n\n#: task", "\n\n#: task",
     r"line 19: .*#: task quadruple.* stands inside the solution that begins in line 15"),
    ("        #: solution\n", "", "line 36: '#: end' is not a mark that fits here"),
    ("        return double(double(x))\n        #: end\n", "        return double(double(x))\n", "line 33: .* has no `#: end`"),
    ('"""Homework 9', '"""\n\n"""\n"""Homework 9', "must begin with a docstring"),
    ("    #: solution\n    return np.add(x, x)\n    #: end\n", "    return x\n", "line 8: task double has no `#: solution`"),
])
def test_a_mark_that_is_not_right_is_refused_with_its_line(old, new, words):
    assert TEXT.count(old) >= 1
    with pytest.raises(ValueError, match=words):
        parse(TEXT.replace(old, new, 1))


def test_without_tasks_there_is_no_homework():
    with pytest.raises(ValueError, match="there is no `#: task"):
        parse('"""A title."""\n')


def test_points_of_parts_must_add_up(toy):
    checks = toy.folder / "checks.py"
    checks.write_text(checks.read_text().replace('"double", 2', '"double", 1'))
    with pytest.raises(ValueError, match="the parts of task double give 2 points, but solution.py says 3"):
        toy.parts


def test_parts_of_an_unknown_task_are_refused(toy):
    checks = toy.folder / "checks.py"
    checks.write_text(checks.read_text().replace('part("double", 2', 'part("treble", 2'))
    with pytest.raises(ValueError, match="solution.py has no task treble"):
        toy.parts


def test_homeworks_come_by_number():
    numbers = [homework.number for homework in homeworks()]
    assert numbers == sorted(numbers) and len(numbers) > 1
