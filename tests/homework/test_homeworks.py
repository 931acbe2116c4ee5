"""Every homework keeps what the engine promises: the stub gets nothing, right answers get all, each planted mistake is found.

Right answers are tests/homework/hwN/correct_*.py; mistakes are replacements in the reference (mistakes.py beside them). The
parts run in this process, task by task, as the runner's child runs them; the reference also goes through real processes.
"""
import ast
import functools
import re
import time
import warnings
from pathlib import Path

import pytest

from minidl.homework.catalog import homeworks, run_file
from minidl.homework.grading import check_file
from minidl.homework.judge import LoadError, Verdict, load_student, run_part

pytestmark = pytest.mark.cpu("a student's functions take NumPy arrays")

HERE = Path(__file__).parent
HOMEWORKS = {homework.name: homework for homework in homeworks()}
FEWEST_MISTAKES = 12


@functools.cache
def reference(name):
    return HOMEWORKS[name].reference()


def judge(homework, path, tasks=None):
    """[(part, verdict)] for a file. What a right answer warns of is its own business."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for task in homework.source.tasks:
            if tasks is not None and task.name not in tasks:
                continue
            parts = [part for part in homework.parts_of(task.name) if not part.gpu]
            try:
                hw = load_student(path, homework, reference(homework.name), task.name)
            except LoadError as error:
                found += [(part, Verdict("lost", str(error))) for part in parts]
            else:
                found += [(part, run_part(part, hw, reference(homework.name), path)) for part in parts]
    return found


def lost(found):
    """What a student would read of what is lost."""
    return "\n\n".join(f"{part.task}, {part.title}: {verdict.message}" for part, verdict in found if verdict.status == "lost")


def folder_of(name):
    return HERE / f"hw{HOMEWORKS[name].number}"


def mistakes_of(name):
    path = folder_of(name) / "mistakes.py"
    return run_file(path, f"mistakes_of_{name}").MISTAKES if path.exists() else []


CORRECT = [(name, path) for name in HOMEWORKS for path in sorted(folder_of(name).glob("correct_*.py"))]
MISTAKES = [(name, index) for name in HOMEWORKS for index in range(len(mistakes_of(name)))]


def planted(homework, index, old, new):
    """The solution with a mistake; fails with the mistake's name where it is not clear what is to be replaced."""
    count = homework.source.text.count(old)
    if count != 1:
        task = mistakes_of(homework.name)[index][0]
        pytest.fail(f"hw{homework.number}/mistakes.py, MISTAKES[{index}] (of {task}): its `old` occurs {count} times in "
                    f"solution.py, hints included, and must occur once: {'take more lines into' if count else 'correct'} it, "
                    f"got {old!r:.200}", pytrace=False)
    return homework.source.text.replace(old, new)


def first_of_each_task(cases):
    """The plain suite plants one mistake per task; `-m slow` plants the others."""
    seen = set()
    for name, index in cases:
        task = mistakes_of(name)[index][0]
        marks = [pytest.mark.slow] if (name, task) in seen else []
        seen.add((name, task))
        yield pytest.param(name, index, marks=marks, id=f"{name}-{task}-{index}")


def test_there_are_six():
    assert [homework.number for homework in homeworks()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", HOMEWORKS)
def test_tasks_have_points_hints_and_an_honest_time(name):
    homework = HOMEWORKS[name]
    assert 4 <= len(homework.source.tasks) <= 8
    assert homework.lesson, "the docstring of solution.py names the lesson, such as 02_convolution_as_one_matrix_product"
    assert f"minidl homework check {homework.file_name}" in homework.source.text
    for task in homework.source.tasks:
        assert 10 <= task.minutes <= 40, task.name
        assert len(set(task.hints)) == 3 and all(len(hint) > 10 for hint in task.hints), task.name
        assert 2 <= len([part for part in homework.parts_of(task.name) if not part.gpu]) <= 4, task.name
        assert task.names, task.name
    assert sum(part.gpu for part in homework.parts) <= 2


@pytest.mark.parametrize("name", HOMEWORKS)
def test_the_lesson_that_it_names_exists(name):
    lessons = {path.stem for path in (HERE.parent.parent / "lessons").glob("*.py")}
    assert HOMEWORKS[name].lesson in lessons


@pytest.mark.parametrize("name", HOMEWORKS)
def test_the_stub_compiles_and_holds_no_line_of_the_solution(name):
    homework = HOMEWORKS[name]
    stub, text = homework.stub(), homework.source.text.splitlines()
    ast.parse(stub)
    assert "#:" not in stub
    kept = {line.strip() for line in text} - {line.strip() for first, last, _ in homework.source.regions
                                              for line in text[first:last - 1]}
    given_away = [line for first, last, _ in homework.source.regions for line in text[first:last - 1]
                  if line.strip() and line.strip() not in kept and line.rstrip() in stub.splitlines()]
    assert not given_away
    assert stub.count("your code here") == len(homework.source.regions)
    assert all(len(line) <= 128 for line in stub.splitlines())


@pytest.mark.parametrize("name", HOMEWORKS)
def test_the_blank_stub_gets_nothing(name, tmp_path):
    homework = HOMEWORKS[name]
    path = tmp_path / homework.file_name
    path.write_text(homework.stub())
    found = judge(homework, path)
    assert not [f"{part.task}: {part.title}" for part, verdict in found if verdict.status != "lost"]
    assert all("is not written yet" in verdict.message for _, verdict in found), lost(found)


@pytest.mark.parametrize("name", HOMEWORKS)
def test_the_reference_gets_all(name):
    found = judge(HOMEWORKS[name], HOMEWORKS[name].folder / "solution.py")
    assert not lost(found)
    assert not [(part.task, part.title) for part, verdict in found if verdict.seconds > 3]  # 1 s, on a machine with time


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if homework.number == 3 else pytest.mark.slow)
                                  for name, homework in HOMEWORKS.items()])
def test_the_reference_gets_all_in_processes_of_its_own_and_soon(name, tmp_path):
    homework = HOMEWORKS[name]
    path = tmp_path / homework.file_name
    path.write_text(homework.source.text)
    start = time.monotonic()
    result = check_file(path, homework)
    seconds = time.monotonic() - start
    assert result.points == result.of == homework.points - result.not_run, lost(
        [pair for task in result.tasks for pair in task.parts])
    assert seconds < 15


@pytest.mark.parametrize(("name", "path"), CORRECT, ids=[f"{name}-{path.stem}" for name, path in CORRECT])
def test_another_right_answer_gets_all(name, path):
    found = judge(HOMEWORKS[name], path)
    assert not lost(found)


@pytest.mark.parametrize("name", HOMEWORKS)
def test_there_are_right_answers_and_mistakes_enough(name):
    assert sum(name == other for other, _ in CORRECT) >= 3
    tasks = [task for task, _, _, _ in mistakes_of(name)]
    assert len(tasks) >= FEWEST_MISTAKES
    assert not [task.name for task in HOMEWORKS[name].source.tasks if tasks.count(task.name) < 2]


@pytest.mark.parametrize(("name", "index"), list(first_of_each_task(MISTAKES)))
def test_a_planted_mistake_loses_points_and_is_told(name, index, tmp_path):
    homework = HOMEWORKS[name]
    task, old, new, says = mistakes_of(name)[index]
    path = tmp_path / homework.file_name
    path.write_text(planted(homework, index, old, new))
    found = judge(homework, path, [task])
    assert lost(found), f"{new!r} costs no points"
    assert re.search(re.escape(says), lost(found)), f"{says!r} is not said of {new!r}, but:\n{lost(found)}"


@pytest.mark.parametrize(("old", "words"), [
    ("for", r"hw4/mistakes.py, MISTAKES\[2\] \(of max_pool\): its `old` occurs \d+ times .* hints included, .* more lines"),
    ("nowhere", "occurs 0 times .* correct it")])
def test_a_mistake_that_has_no_one_place_is_told_by_name(old, words):
    with pytest.raises(pytest.fail.Exception, match=words):
        planted(HOMEWORKS["hw4_pooling_and_norm"], 2, old, "")


def test_a_lost_gradient_is_repeated_by_the_homeworks_command_and_names_what_is_wrong(tmp_path):
    for name, task, old, new, says in (
            ("hw2_softmax", "softmax", "return y * (dy", "return 2 * y * (dy",
             "x of shape (4, 3): softmax: the gradient is wrong"),
            ("hw4_pooling_and_norm", "batch_norm", "    M = dy.size // dy.shape[1]\n", "    M = len(dy)\n",
             "batch_norm: the gradient is wrong"),
            ("hw3_convolution", "col2im", "(padded, padding)\n", "(padded, padding) / 2\n",
             "and col2im: the gradient is wrong")):
        path = tmp_path / "mine.py"
        text = HOMEWORKS[name].source.text
        at = text.rindex(old)
        path.write_text(text[:at] + new + text[at + len(old):])
        told = lost(judge(HOMEWORKS[name], path, [task]))
        assert says in told and f"again: minidl homework check mine.py --task {task}" in told
        assert "minidl.check_backward" not in told


def test_where_forward_is_wrong_backward_says_so_without_a_table(tmp_path):
    homework, path = HOMEWORKS["hw4_pooling_and_norm"], tmp_path / "mine.py"
    path.write_text(homework.source.text.replace(".sum(axis=(2, 3)) / count[i, j]\n", ".sum(axis=(2, 3))\n"))
    told = judge(homework, path, ["avg_pool"])[2][1].message
    assert "mend forward first" in told and "again: " in told
    assert "allowed:" not in told and "where in" not in told


def test_the_last_hint_of_dense_names_the_bias():
    task = next(task for task in HOMEWORKS["hw6_training"].source.tasks if task.name == "dense")
    assert "conv.bias" in task.hints[2] and "dtype" in task.hints[2]
