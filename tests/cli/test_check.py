"""`minidl check` from outside: what is right takes a line, what is wrong has its cause told, student code may do anything."""
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl.cli.main import main
from minidl.ops import OPS

RELU = """
import numpy as np
def relu_forward(x):
    return np.maximum(x, 0), x
def relu_backward(dout, x):
    return dout * (x > 0)
"""
RELU_SAMPLES = """
def relu_samples(rng):
    yield rng.normal(size=(3, 4)),
    yield (rng.normal(size=(2, 5)),), {}
"""
HALVED = """
def affine_forward(x, w, b):
    return x @ w + b, (x, w)
def affine_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout / 2, dout.sum(axis=0)
def affine_samples(rng):
    yield rng.normal(size=(2, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
    yield rng.normal(size=(1, 3)), rng.normal(size=(3, 2)), rng.normal(size=2)
"""
TWICE = """
def twice_forward(x):
    {forward}
    return 2 * x, None
def twice_backward(dout, cache):
    {backward}
    return 2 * dout
def twice_samples(rng):
    yield rng.normal(size=(2, 3)),
"""
SWISH = """
import numpy as np
import minidl
class Swish(minidl.Function):
    def forward(self, x):
        self.x, self.s = x, 1 / (1 + np.exp(-x))
        return x * self.s
    def backward(self, dy):
        return dy * (self.s + self.x * self.s * (1 - self.s))
    @staticmethod
    def samples(rng):
        yield (rng.normal(size=(2, 3)),), {}
"""


COMMAND = [sys.executable, "-m", "minidl", "check", "layers.py"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(minidl.__file__).parents[1])}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the student's files are, and the command is run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(capsys, source, *options, name="", status):
    """What the command prints about a file of that source: (standard output, standard error)."""
    Path("layers.py").write_text(source)
    assert main(["check", f"layers.py{name}", *options]) == status
    return capsys.readouterr()


def twice(forward="pass", backward="pass"):
    return TWICE.format(forward=forward, backward=backward)


# --- what is right, and what is wrong --------------------------------------------------------------------------------


def test_what_is_right_is_one_line_with_its_numbers(folder, capsys):
    out, err = checked(capsys, RELU + RELU_SAMPLES, status=0)
    assert re.fullmatch(r"right +relu +2 samples +22 elements +0 skipped at kinks +\d+\.\d\d s\n", out)
    assert err == ""
    assert os.listdir(folder) == ["layers.py"]


def test_what_is_wrong_is_told_with_its_cause_its_line_and_the_command_that_repeats_it(folder, capsys):
    out, _ = checked(capsys, RELU + RELU_SAMPLES + HALVED, status=1)
    lines = out.splitlines()
    assert lines[0].startswith("right        relu  ")
    assert lines[1] == "WRONG        affine  2 of 2 samples fail"
    for words in ("likely cause: scale (gradient of w)", "x.T @ dout / 2", "got / expected = 0.5"):
        assert words in out
    assert lines[-2] == "    again: minidl check layers.py::affine --seed 0"
    assert lines[-1].startswith("2 found: 1 right, 1 WRONG; ")
    assert "minidl.check" not in out
    assert all(len(line) <= 104 for line in lines[:-1])


def test_the_command_that_repeats_a_check_repeats_it(folder, capsys):
    out, _ = checked(capsys, HALVED, "--seed", "4", "--float32", status=1)
    again = out.splitlines()[-1].removeprefix("    again: minidl ").split()
    assert again == ["check", "layers.py::affine", "--seed", "4", "--float32"]
    assert main(again) == 1
    assert capsys.readouterr().out == out


def test_a_function_class_is_checked_at_its_own_samples(folder, capsys):
    out, _ = checked(capsys, SWISH, status=0)
    assert out.startswith("right        Swish")
    out, _ = checked(capsys, SWISH.replace("(1 - self.s)", "self.s"), status=1)
    assert out.startswith("WRONG        Swish")


@pytest.mark.parametrize("names", [
    ("forward_relu", "backward_relu", "samples_relu"), ("forward_relu", "backward_relu", "relu_samples"),
    ("relu_forward_naive", "relu_backward_naive", "relu_samples_naive")])
def test_pairs_have_other_names_too(names, folder, capsys):
    source = RELU + RELU_SAMPLES
    for old, new in zip(("relu_forward", "relu_backward", "relu_samples"), names):
        source = source.replace(old, new)
    assert checked(capsys, source, status=0).out.startswith("right        relu")


def test_like_gives_the_inputs_and_the_definition(folder, capsys):
    out, _ = checked(capsys, RELU, "--like", "relu", name="::relu", status=0)
    assert "3 samples" in out
    wrong = RELU.replace("np.maximum(x, 0), x", "np.maximum(x, 0) * 2, x").replace("dout *", "2 * dout *")
    out, _ = checked(capsys, wrong, "--like", "ReLU", status=1)
    assert "forward-differs" in out and "backward fits this forward" in out
    assert "again: minidl check layers.py::relu --like relu --seed 0" in out


def test_a_reference_beside_the_pair_is_what_forward_is_compared_with(folder, capsys):
    assert "forward-differs" in checked(capsys, twice() + "def twice_reference(x): return 3 * x", status=1).out
    assert checked(capsys, twice() + "def twice_reference(x): return 2 * x", status=0).out.startswith("right")


def test_many_seeds_are_checked_and_the_wrong_one_is_named(folder, capsys):
    out, _ = checked(capsys, RELU + RELU_SAMPLES, "--seeds", "3", status=0)
    assert "6 samples" in out and "66 elements" in out
    seldom = (twice().replace("yield rng.normal(size=(2, 3)),", "yield rng.normal(size=1),")
              .replace("return 2 * x, None", "return 2 * x, x").replace("return 2 * dout", "return (2 + (cache > 1)) * dout"))
    first = next(seed for seed in range(20) if np.random.default_rng(seed).normal() > 1)
    assert first > 0
    out, _ = checked(capsys, seldom, "--seeds", "20", status=1)
    assert f"again: minidl check layers.py::twice --seed {first}" in out


def test_float32_is_the_precision_of_backward(folder, capsys):
    narrow = twice().replace("return 2 * dout", "return (2 * dout).astype('float32')")
    assert "wrong-dtype" in checked(capsys, narrow, status=1).out
    checked(capsys, narrow, "--float32", status=0)


def test_elements_at_a_kink_are_counted(folder, capsys):
    source = RELU + "def relu_samples(rng):\n    yield np.array([0.0, 1.0, -1.0, 2.0]),"
    assert "4 elements   1 skipped at kinks" in checked(capsys, source, status=0).out


def test_backward_runs_on_every_device(folder, capsys, device):
    source = twice("import minidl; print(minidl.backend.device_of(x))")
    out, _ = checked(capsys, source, "--device", device, "--json", "-", status=0)
    assert set(json.loads(out)["results"][0]["printed"].split()) == {"cpu", device}
    assert main(["check", "--all-operations", "--device", device]) == 0


def test_all_operations_are_right_a_line_each(capsys):
    start = time.perf_counter()
    assert main(["check", "--all-operations"]) == 0
    assert time.perf_counter() - start < 60
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["right", kind.name] for kind in OPS]
    assert lines[-1].startswith(f"{len(OPS)} operations: {len(OPS)} right; ")
    elements = [int(re.search(r"(\d+) elements", line)[1]) for line in lines]
    assert sum(elements[:-1]) == elements[-1]


def test_a_wrong_operation_of_minidls_is_found(monkeypatch, capsys):
    kind = next(kind for kind in OPS if kind.name == "tanh")
    monkeypatch.setattr(kind, "backward", lambda self, dy: dy)
    assert main(["check", "--all-operations"]) == 1
    out = capsys.readouterr().out
    assert "WRONG        tanh" in out and "again: minidl check --all-operations --seed 0" in out
    assert f"{len(OPS)} operations: {len(OPS) - 1} right, 1 WRONG" in out


# --- what cannot be checked ------------------------------------------------------------------------------------------


def test_a_pair_without_inputs_is_answered_with_what_to_write(folder, capsys):
    out, err = checked(capsys, RELU, status=2)
    assert out == ""
    example = re.search(r"def relu_samples.*?yield.*?\n", err.replace("\n    ", "\n"), re.DOTALL)[0]
    assert example.count("\n") == 3
    assert "minidl check layers.py::relu --like relu" in err
    checked(capsys, RELU + example, status=0)


def test_the_example_names_inputs_and_options_as_forward_does(folder, capsys):
    source = "def scale_forward(x, w, s=2.0):\n    return s * x * w, None\n"
    _, err = checked(capsys, source + "def scale_backward(dout, cache):\n    return dout, dout\n", status=2)
    assert "x, w = rng.normal" in err and "yield (x, w), {'s': 2.0}" in err and "--like OP" in err


def test_what_has_no_inputs_beside_others_is_named_as_not_checked(folder, capsys):
    out, _ = checked(capsys, RELU + twice(), status=1)
    assert "NOT CHECKED  relu" in out and "def relu_samples(rng):" in out
    assert "right        twice" in out and "2 found: 1 right, 1 NOT CHECKED" in out
    checked(capsys, RELU + twice(), name="::twice", status=0)


def test_half_a_pair_is_named(folder, capsys):
    out, _ = checked(capsys, twice() + RELU.replace("relu_backward", "relu_bakward"), status=1)
    assert "relu_forward is there, but no relu_backward; is it relu_bakward?" in out
    half = "import minidl\nclass Half(minidl.Function):\n    def forward(self, x):\n        return x"
    _, err = checked(capsys, half, status=2)
    assert "Half: the class defines no backward" in err


def test_a_class_that_others_build_on_is_not_missed(folder, capsys):
    base = "class Base(minidl.Function):\n    pass\nclass Swish(Base)"
    assert "found" not in checked(capsys, SWISH.replace("class Swish(minidl.Function)", base), status=0).out


def test_what_a_file_imports_is_checked_only_if_it_is_asked_for(folder, capsys):
    Path("others.py").write_text(RELU + RELU_SAMPLES)
    source = "from others import *\n" + twice()
    assert "relu" not in checked(capsys, source, status=0).out
    assert "right        relu" in checked(capsys, source, name="::relu", status=0).out
    assert not Path("__pycache__").exists()


@pytest.mark.parametrize(("samples", "words"), [
    ("return (rng.normal(size=3),)", "twice_samples yielded ndarray"),
    ("rng.normal(size=3)", "twice_samples returned NoneType"),
    ("yield rng.nrmal(size=3),", "in twice_samples: yield rng.nrmal(size=3),"),
    ("return []", "nothing was yielded"),
    ("yield np.arange(3),", "no floating"),
    ("yield np.full(3, np.nan),", "forward returned NaN"),
    ("yield np.ones(3),\n    yield np.arange(3),", "1 sample right, but 1 left out"),
    ("yield np.ones(3),\n    yield (np.ones(3),), {'k': 1}", "with options k and 1 inputs it does not fit forward"),
    ("raise SystemExit", "SystemExit"),
])
def test_samples_that_are_none_leave_the_pair_unchecked(samples, words, folder, capsys):
    source = "import numpy as np\n" + twice().replace("yield rng.normal(size=(2, 3)),", samples)
    out, _ = checked(capsys, source, status=1)
    assert out.startswith("NOT CHECKED  twice") and words in out


def test_a_reference_that_fails_is_not_the_pairs_fault(folder, capsys):
    out, _ = checked(capsys, twice() + "def twice_reference(x):\n    return y\n", status=1)
    assert out.startswith("NOT CHECKED") and "the reference failed with NameError" in out
    assert "in twice_reference: return y" in out


# --- what students' code does ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(("statement", "words"), [
    ("import sys; sys.exit(0)", "SystemExit: 0"), ("return nothing", "NameError"), ("x = [][3]", "IndexError"),
    ("f = lambda: f(); f()", "RecursionError"), ("input()", "EOFError"), ("raise NotImplementedError", "NotImplementedError"),
    ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})", "Odd"),
])
def test_an_error_in_forward_or_backward_is_shown_with_its_line(where, statement, words, folder, capsys):
    out, err = checked(capsys, twice(**{where: statement}), status=1)
    number = {"forward": 3, "backward": 6}[where]
    assert out.startswith("WRONG        twice")
    assert words in out and f"in line {number}, in " in out and statement in out
    assert "Traceback" not in out + err


def test_debug_shows_the_traceback_of_the_students_error(folder, capsys):
    _, err = checked(capsys, twice("return nothing"), "--debug", status=1)
    assert "Traceback" in err and "layers.py\", line 3" in err
    _, err = checked(capsys, "x = nothing", "--debug", status=1)
    assert "Traceback" in err


@pytest.mark.parametrize(("source", "words"), [
    ("x = 1\ny = 1 / 0\n", "ZeroDivisionError: division by zero\nin line 2: y = 1 / 0"),
    ("def f(:\n    pass\n", "SyntaxError: invalid syntax, in line 1: def f(:"),
    ("import sys\nsys.exit(0)\n", "in line 2: sys.exit(0)"),
    ("def f():\n    f()\nf()\n", "RecursionError"),
    ("import not_there_at_all\n", "in line 1: import not_there_at_all"),
    ("\0", "does not load"),
])
def test_a_file_that_does_not_load_is_told_with_the_line(source, words, folder, capsys):
    out, err = checked(capsys, source, status=1)
    assert out == "" and err.startswith("minidl check: layers.py does not load: ")
    assert words in err and "Traceback" not in err


def test_what_the_file_prints_is_kept_apart_and_its_end_is_shown(folder, capsys):
    talkative = twice("print('forward', x.shape)", "import sys; print('b', file=sys.stderr)")
    out, err = checked(capsys, "print('loaded')\n" + talkative, status=0)
    assert out.startswith("layers.py printed:\n    | loaded\nright ")
    assert re.search(r"twice printed \d+ lines, the last:\n(    \| .*\n){5}$", out)
    assert err == ""
    out, _ = checked(capsys, "print('loaded')\n" + twice("print('forward')"), "--json", "-", status=0)
    assert json.loads(out)["results"][0]["printed"].startswith("forward\n")


def test_of_much_that_is_printed_the_end_is_shown(folder, capsys):
    out, _ = checked(capsys, "for i in range(5000):\n    print(i)\n" + twice(), status=0)
    assert "printed 5000 lines, the last:" in out and "    | 4999\n" in out


def test_the_file_finds_its_neighbours_and_leaves_everything_as_it_was(folder, capsys):
    Path("neighbour.py").write_text("two = 2\n")
    before = sys.path[:], sys.argv, sys.dont_write_bytecode, sys.stdin, sys.stdout, np.geterr(), os.getcwd()
    source = ("import argparse, os, numpy\nimport neighbour\nargparse.ArgumentParser().parse_args()\n"
              "os.chdir('/')\nnumpy.seterr(all='raise')\n")
    checked(capsys, source + twice(), "--json", "out.json", status=0)
    assert (sys.path[:], sys.argv, sys.dont_write_bytecode, sys.stdin, sys.stdout, np.geterr(), os.getcwd()) == before
    assert "layers" not in sys.modules
    assert sorted(os.listdir(folder)) == ["layers.py", "neighbour.py", "out.json"]


def test_ctrl_c_in_a_loop_without_end_is_status_130(folder):
    Path("layers.py").write_text(twice("while True: pass") + "print('x')\nopen('loaded', 'w').close()\n")
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as started:
        end = time.monotonic() + 60
        while not Path("loaded").exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "stopped while checking twice in line 3, in twice_forward: while True: pass\n" in err
    assert err.strip().splitlines()[-1].startswith("minidl: interrupted") and "Traceback" not in err


def test_progress_is_shown_on_a_terminal_only(folder):
    Path("layers.py").write_text(RELU + RELU_SAMPLES)
    ours, theirs = pty.openpty()
    done = subprocess.run(COMMAND, stdout=subprocess.PIPE, stderr=theirs, timeout=120, env=ENVIRONMENT)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0 and done.stdout.startswith(b"right")
    assert "relu: seed 0, sample 2" in shown and shown.endswith("\r\x1b[K")


# --- files and words -------------------------------------------------------------------------------------------------


def test_the_first_wrong_gradient_is_drawn(folder, capsys):
    _, err = checked(capsys, RELU + RELU_SAMPLES + HALVED, "--plot", "wrong.png", status=1)
    assert Path("wrong.png").read_bytes().startswith(b"\x89PNG") and "wrote wrong.png" in err
    _, err = checked(capsys, RELU + RELU_SAMPLES, "--plot", "right.png", status=0)
    assert "right.png was not drawn: nothing is wrong" in err and not Path("right.png").exists()
    _, err = checked(capsys, twice("x = [][3]"), "--plot", "failed.png", status=1)
    assert "failed.png was not drawn: of twice no element was measured" in err


def test_json_has_the_numbers_and_nothing_else_is_printed_for_a_dash(folder, capsys):
    out, _ = checked(capsys, RELU + RELU_SAMPLES + HALVED, "--json", "-", status=1)
    record = json.loads(out)
    right, wrong = record["results"]
    assert (record["right"], record["seed"], record["dtype"]) == (False, 0, "float64")
    assert (right["verdict"], right["samples"], right["elements"], right["causes"]) == ("right", 2, 22, [])
    assert (wrong["verdict"], wrong["causes"]) == ("wrong", ["scale"])
    assert wrong["again"] == "minidl check layers.py::affine --seed 0"
    worst = wrong["findings"][0]
    assert worst["input"] == "w" and abs(worst["got"] / worst["expected"] - 0.5) < 1e-6
    out, _ = checked(capsys, "1 / 0", "--json", "result.json", status=1)
    assert "ZeroDivisionError" in json.loads(Path("result.json").read_text())["error"]


def test_json_has_no_nan(folder, capsys):
    out, _ = checked(capsys, "import numpy as np\n" + twice(backward="return dout * np.nan"), "--json", "-", status=1)
    assert json.loads(out, parse_constant=pytest.fail)["results"][0]["verdict"] == "wrong"


@pytest.mark.parametrize(("arguments", "words"), [
    (["layers.py::rlu"], "did you mean layers.py::relu?"),
    (["layers.py::xyzzy"], "it has relu, twice"),
    (["layers.py::"], "the name after :: is missing"),
    (["layer.py"], "layer.py is not there"),
    (["."], "is a folder"),
    ([], "--all-operations"),
    (["layers.py", "--all-operations"], "leave FILE out"),
    (["--like", "relu", "--all-operations"], "leave --like out"),
    (["layers.py", "--like", "relu"], "for which of relu, twice? Write layers.py::relu"),
    (["layers.py::relu", "--like", "relo"], "did you mean relu?"),
    (["layers.py", "--plot", "wrong.txt"], ".png, .svg or .pdf"),
    (["layers.py", "--json", "layers.py"], "must not be replaced"),
    (["layers.py", "--json", "none/x.json"], "there is no folder none"),
    (["empty.py"], "defines nothing to check"),
    (["layers.py", "--seeds", "0"], "must be at least 1"),
    (["layers.py", "--seeed", "1"], "Did you mean --seed"),
])
def test_wrong_usage_is_one_line_and_status_2(arguments, words, folder, capsys):
    Path("layers.py").write_text(RELU + RELU_SAMPLES + twice())
    Path("empty.py").write_text("x = 1\n")
    assert main(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and "Traceback" not in err


def test_a_name_with_blanks_is_quoted_in_the_command(folder, capsys):
    Path("my layers.py").write_text(HALVED)
    assert main(["check", "my layers.py"]) == 1
    assert "again: minidl check 'my layers.py::affine' --seed 0" in capsys.readouterr().out


def test_the_help_lists_it_and_tells_the_exit_status(capsys):
    assert main(["--help"]) == 0
    assert re.search(r"^ +check +check gradients", capsys.readouterr().out, re.MULTILINE)
    assert main(["check", "--help"]) == 0
    text = capsys.readouterr().out
    assert "0 all that was found was checked and is right" in text
    assert all(len(line) <= 128 for line in text.splitlines())
