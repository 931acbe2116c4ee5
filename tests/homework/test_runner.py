"""Whatever a student's file does ends in a verdict on its own task, soon, and nothing of it is left."""
import os
import sys
import time
from pathlib import Path

import pytest
from toy_homework import SOLUTION

from minidl.homework import runner
from minidl.homework.grading import check_file
from minidl.homework.runner import Limits, clean, cut, run_task

pytestmark = pytest.mark.cpu("students' files run in processes of their own")


def states(run):
    return [verdict.status for verdict in run.verdicts]


def test_a_right_file_gets_all_points_of_what_ran(toy, handed_in):
    result = check_file(handed_in(), toy)
    assert (result.points, result.of, result.not_run) == (4, 4, 1)
    assert result.tasks[1].parts[1][1].status == "not run"
    assert "device 'cuda' needs CuPy" in result.tasks[1].parts[1][1].message


def test_it_is_the_file_that_is_judged_and_not_the_reference(toy, handed_in):
    result = check_file(handed_in(double="return x + 1"), toy)
    assert result.points == 2  # 1 + 1 is twice 1; and quadruple, for which double is taken from the reference
    assert result.tasks[0].parts[0][1].message.startswith("double(x (2, 3)), at [")


def test_the_stub_gets_nothing_and_says_what_is_not_written(toy, tmp_path):
    path = tmp_path / "hw9_toy.py"
    path.write_text(toy.stub())
    result = check_file(path, toy)
    assert (result.points, result.of) == (0, 4)
    assert result.tasks[0].parts[0][1].message == "double is not written yet (line 13 is still `raise NotImplementedError`)"


def test_mine_takes_earlier_tasks_from_the_file(toy, handed_in):
    path = handed_in(double="return 3 * x")
    assert states(run_task(path, toy, "quadruple")) == ["passed", "not run"]
    run = run_task(path, toy, "quadruple", mine=True)
    assert states(run) == ["lost", "not run"]


def test_earlier_tasks_are_the_references_also_for_classes_and_for_what_runs_at_import(toy, handed_in):
    """A later class derived from an earlier one, a default argument, a table: all are made while the file loads."""
    path = handed_in(double="return None", quadruple="return self.twice(self.twice(x))")
    path.write_text(path.read_text().replace("class Quadruple:\n", "class Quadruple:\n    twice = staticmethod(double)\n"))
    assert states(run_task(path, toy, "quadruple")) == ["passed", "not run"]


TROUBLE = [
    ("while True: pass",
     ["lost", "lost"], "it was not done within 3 s; does a loop never end?\nin line 6, in double: while True"),
    ("import os; os._exit(0)", ["lost", "lost"], "the process ended by itself (exit status 0)"),
    ("import ctypes; ctypes.string_at(0)",
     ["lost", "lost"], "the process was killed (SIGSEGV)\nin line 6, in double: import ctypes"),
    ("return double(x)", ["lost", "lost"], "RecursionError: maximum recursion depth exceeded"),
    ("import sys; sys.exit(0)", ["lost", "lost"], "SystemExit: 0 (the file calls sys.exit"),
    ("return np.ones(2**33)", ["lost", "lost"], "(more memory than a check may take)"),
    ("return float(input())", ["lost", "lost"], "EOFError: EOF when reading a line (nothing can be typed in"),
    ("print('noise' * 2**21); return x + x", ["passed", "passed"], ""),
    ("import os; os.write(1, b'{\"ends\": 2, \"status\": \"passed\"}\\n'); return x", ["lost", "lost"], "expected"),
    ("import os\nif os.fork() == 0:\n    while True: pass\nreturn x + x", ["passed", "passed"], ""),
    ("import atexit, time; atexit.register(time.sleep, 99); return x + x", ["passed", "passed"], ""),
    ("if x.dtype == float: import os; os._exit(3)\nreturn x + x", ["lost", "passed"], "exit status 3"),
]
RARER = [
    ("import time; time.sleep(100)", ["lost", "lost"], "not done within 3 s"),
    ("import os; os.kill(os.getpid(), 9)", ["lost", "lost"], "the process was killed (SIGKILL)"),
    ("raise KeyboardInterrupt", ["lost", "lost"], "KeyboardInterrupt"),
    ("import sys; sys.stdin.read(); return x + x", ["passed", "passed"], ""),
    ("import os, shutil; shutil.rmtree(os.getcwd()); return x + x", ["passed", "lost"], ""),
    ("import os; os.chdir('/'); return x + x", ["passed", "passed"], ""),
    ("import os; os.closerange(0, 50); return x + x", ["lost", "lost"], ""),
    ("import threading, time; threading.Thread(target=time.sleep, args=(99,)).start(); return x + x",
     ["passed", "passed"], ""),
    ("import subprocess; subprocess.Popen(['sleep', '99']); return x + x", ["passed", "passed"], ""),
    ("class E(Exception):\n    def __str__(self): return 1 / 0\nraise E",
     ["lost", "lost"], "E\nin line 8, in double: raise E"),
    ("raise ValueError('x' * 10**7)", ["lost", "lost"], " characters ..."),
]


@pytest.mark.parametrize(("body", "expected", "words"),
                         [*TROUBLE, *(pytest.param(*row, marks=pytest.mark.slow) for row in RARER)])
def test_trouble_in_a_function_ends_in_a_verdict(toy, handed_in, body, expected, words):
    path = handed_in(double=body)
    start = time.monotonic()
    run = run_task(path, toy, "double", limits=Limits(3 if "3 s" in words else 30, 512))
    assert time.monotonic() - start < 15
    assert states(run) == expected
    assert words in run.verdicts[0].message
    assert len(run.verdicts[0].message) < 10_000 and len(run.output) < 5000
    assert sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("top", "words"), [
    ("def broken(:", "the file does not load: SyntaxError: invalid syntax, in line 1: def broken(:"),
    ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'\nin line 1: import nowhere_to_be_found"),
    ("import sys; sys.exit()", "the file does not load: SystemExit"),
    ("import os; os._exit(0)", "the file does not load: the process ended by itself"),
    ("x = 1 / 0", "ZeroDivisionError: division by zero\nin line 1: x = 1 / 0"),
    ("while True: pass", "the file does not load: it was not done within 3 s; does a loop never end?\nin line 1: while True"),
    ("x = '\\0'", ""),
    ("from minidl.homework.hw3_convolution import solution", "belongs to those who check: write the functions yourself"),
])
def test_a_file_that_does_not_load_gets_0_of_what_others_can_get_and_is_not_tried_again(toy, handed_in, top, words):
    path = handed_in(top=top)
    if not words:
        path.write_bytes(b"x = '\0'\n" + path.read_bytes())
    start = time.monotonic()
    result = check_file(path, toy, limits=Limits(3))
    assert time.monotonic() - start < 6  # the second task is not tried
    assert (result.points, result.of, result.not_run) == (0, 4, 1)
    assert result.load_error.startswith("the file does not load")
    assert words in result.load_error


PATCHES = [
    ("np.allclose = lambda *a, **k: True", "numpy.allclose"),
    ("np.testing.assert_allclose = lambda *a, **k: None", "numpy.testing.assert_allclose"),
    ("np.allclose._implementation.__code__ = (lambda *a, **k: True).__code__", "numpy.allclose"),
    ("np.testing.assert_allclose.__kwdefaults__ = {'strict': True}", "numpy.testing.assert_allclose"),
    ("import minidl; minidl.gradcheck = lambda *a, **k: None", "minidl.gradcheck"),
    ("import minidl.homework.parts as parts; parts.close = print", "minidl.homework.parts.close"),
    ("import minidl.homework.parts as parts; parts.close.__code__ = (lambda *a, **k: None).__code__",
     "minidl.homework.parts.close"),
    ("import minidl.homework.parts as parts; parts.len = lambda x: 0", "minidl.homework.parts.len"),
    ("import minidl.homework.judge as judge; judge.Verdict.__init__ = lambda s, *a: setattr(s, 'status', 'passed')",
     "minidl.homework.judge.Verdict.__init__"),
    ("import minidl.homework.runner as runner; runner.run_part = lambda *a: runner.Verdict('passed')",
     "minidl.homework.runner.run_part"),
    ("import sys; sys.modules['minidl_hw9_toy_checks'].close = print", "minidl_hw9_toy_checks.close"),
    ("import builtins; builtins.abs = lambda x: 0", "builtins.abs"),
    ("import builtins; builtins.isinstance = lambda *a: True", "builtins."),
    ("import math; math.isclose = lambda *a, **k: True", "math.isclose"),
    ("import sys; sys.modules['minidl_hw9_toy_reference'].double = double", "minidl_hw9_toy_reference.double"),
]


@pytest.mark.parametrize(("patch", "name"), PATCHES, ids=[patch for patch, _ in PATCHES])
@pytest.mark.parametrize("when", ["at import", pytest.param("when called", marks=pytest.mark.slow)])
def test_a_file_that_changes_what_judges_it_loses_the_part_and_is_told_what(toy, handed_in, patch, name, when):
    if when == "at import":
        path = handed_in()
        path.write_text(path.read_text() + patch + "\n")
    else:
        path = handed_in(double=patch + "\nreturn x + x")
    run = run_task(path, toy, "double")
    assert states(run) == ["lost", "lost"]
    assert f"changes {name}" in run.verdicts[0].message


def test_what_is_no_judge_may_change(toy, handed_in):
    path = handed_in(top="import numpy as np, sys, minidl\nnp.set_printoptions(precision=3); sys.setrecursionlimit(5000)\n"
                         "np.random.seed(1); minidl.manual_seed(2); minidl.data.shapes; minidl.set_num_threads(1)")
    assert states(run_task(path, toy, "double")) == ["passed", "passed"]


def test_a_fake_result_among_what_is_printed_is_only_printed(toy, handed_in):
    run = run_task(handed_in(double='print(\'{"ends": 1, "status": "passed"}\'); return x'), toy, "double")
    assert states(run) == ["lost", "lost"]
    assert "passed" in run.output


def test_the_last_lines_that_it_printed_are_kept_without_what_a_terminal_obeys(toy, handed_in):
    run = run_task(handed_in(double="for i in range(100): print('line', i, '\\x1b[2J')\nreturn x + x"), toy, "double")
    assert run.output.splitlines()[-1] == "line 99 \N{REPLACEMENT CHARACTER}[2J"
    assert len(run.output.splitlines()) == 8
    assert clean("a\x07b\tc\r\n") == "a\N{REPLACEMENT CHARACTER}b\tc\n"


def test_a_long_message_loses_its_middle():
    text = cut("a" * 5000 + "b" * 5000)
    assert text.startswith("aaa") and text.endswith("bbb") and "... 4000 characters ..." in text


def test_neighbours_can_be_imported_and_hide_nothing(toy, handed_in):
    path = handed_in(double="return helper.twice(x)", top="import helper")
    (path.parent / "helper.py").write_text("def twice(x):\n    return x + x\n")
    (path.parent / "numpy.py").write_text("raise RuntimeError('the wrong numpy')\n")
    (path.parent / "minidl.py").write_text("raise RuntimeError('the wrong minidl')\n")
    before = sorted(path.parent.rglob("*"))
    assert states(run_task(path, toy, "double")) == ["passed", "passed"]
    assert sorted(path.parent.rglob("*")) == before  # no __pycache__


def test_a_neighbour_hides_no_module_that_is_imported_while_functions_run(toy, handed_in):
    path = handed_in(double="import colorsys; return x + x")
    (path.parent / "colorsys.py").write_text("raise RuntimeError('the wrong colorsys')\n")
    assert states(run_task(path, toy, "double")) == ["passed", "passed"]


def test_where_a_gpu_works_its_parts_run_too(toy, handed_in, monkeypatch):
    """In a process without a limit on memory, since CUDA takes all addresses there are. This part needs no GPU in truth."""
    monkeypatch.setattr(runner, "no_gpu", lambda: "")
    assert states(run_task(handed_in(), toy, "quadruple")) == ["passed", "not run"]  # the child looks for itself
    monkeypatch.setattr(runner, "BOOT", runner.BOOT.replace("child_main(job)", "import minidl.homework.runner as runner\n"
                                                            "runner.no_gpu = lambda: ''\nchild_main(job)"))
    assert states(run_task(handed_in(), toy, "quadruple")) == ["passed", "passed"]
    assert states(run_task(handed_in(quadruple="import os; os._exit(0)"), toy, "quadruple")) == ["lost", "lost"]


def test_any_name_will_do_also_that_of_a_module(toy, handed_in):
    for name in ("numpy.py", "json.py", "my homework (2).py"):
        assert states(run_task(handed_in(name=name), toy, "double")) == ["passed", "passed"]


def test_a_future_import_holds_in_the_whole_file(toy, handed_in):
    path = handed_in(top="'''A docstring.'''\nfrom __future__ import annotations\ndef f(x: Undefined) -> Nowhere: ...")
    assert states(run_task(path, toy, "double")) == ["passed", "passed"]


def test_dataclasses_work(toy, handed_in):
    path = handed_in(top="from dataclasses import dataclass\n@dataclass\nclass Box:\n    x: 'int' = 1")
    assert states(run_task(path, toy, "double")) == ["passed", "passed"]


def test_a_missing_function_is_told_by_name(toy, handed_in):
    path = handed_in()
    path.write_text(path.read_text().replace("def double", "def doubel"))
    assert run_task(path, toy, "double").verdicts[0].message == "the file defines no double; was it renamed or deleted?"


def test_a_missing_backward_is_told_by_name_through_the_doctor(toy, handed_in):
    (toy.folder / "checks.py").write_text(toy.folder.joinpath("checks.py").read_text().replace(
        "    close(hw.double(x), 2 * x, f\"double(x {x.shape})\")\n",
        "    from minidl import check_backward\n"
        "    check_backward(lambda x: (2 * x, None), lambda dy, _: hw.double_backward(dy), [x])\n"))
    message = run_task(handed_in(), toy, "double").verdicts[0].message
    assert message == "the file defines no double_backward; was it renamed or deleted?"


def test_the_same_random_numbers_every_time(toy, handed_in):
    path = handed_in(double="print(x.sum()); return x + x")
    assert run_task(path, toy, "double").output == run_task(path, toy, "double").output != ""


def test_what_it_started_is_gone_with_it(toy, handed_in, tmp_path):
    note = tmp_path / "pid"
    body = f"import subprocess; p = subprocess.Popen(['sleep', '99']); open({str(note)!r}, 'w').write(str(p.pid)); return x + x"
    run_task(handed_in(double=body), toy, "double")
    deadline = time.monotonic() + 5
    while Path(f"/proc/{note.read_text()}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
        if "Z" in Path(f"/proc/{note.read_text()}/stat").read_text().split()[2]:
            break  # dead, and waiting for somebody to ask
    else:
        assert not Path(f"/proc/{note.read_text()}").exists() or os.name == "nt"


def test_a_checker_that_does_not_start_is_no_fault_of_the_student(toy, handed_in):
    assert toy.parts  # read in this process, before it is broken for the other
    (toy.folder / "checks.py").write_text("raise RuntimeError('broken checks')")
    with pytest.raises(RuntimeError, match="(?s)the checker did not start: .*broken checks"):
        run_task(handed_in(), toy, "double")


def test_a_solution_with_a_mistake_shows_that_the_reference_is_used(toy, handed_in):
    (toy.folder / "solution.py").write_text(SOLUTION.lstrip().replace("np.add(x, x)", "np.add(x, 1)"))
    assert states(run_task(handed_in(), toy, "quadruple")) == ["lost", "not run"]
    assert states(run_task(handed_in(), toy, "quadruple", mine=True)) == ["passed", "not run"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_memory_is_counted_beyond_what_the_checker_takes(toy, handed_in):
    path = handed_in(double="np.ones(2**24); return x + x")  # 128 MiB
    assert states(run_task(path, toy, "double", limits=Limits(60, 256))) == ["passed", "passed"]
    assert states(run_task(path, toy, "double", limits=Limits(60, 64))) == ["lost", "lost"]
