"""The command line: help, hints, errors in one line, exit statuses."""
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl.cli import main as entry
from minidl.cli.errors import UserError
from minidl.cli.main import main


def minidl_command(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "minidl", *arguments], capture_output=True, text=True, timeout=120,
                          **options)


def test_help_lists_the_commands_and_loads_nothing_heavy():
    script = ("import sys\nfrom minidl.cli.main import main\nmain(['--help'])\n"
              "print({'matplotlib', 'rich', 'threadpoolctl', 'minidl.data', 'minidl.train'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for word in ("demo", "info", "summary", "minidl COMMAND --help"):
        assert word in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("command", ["check", "demo", "export", "homework", "info", "models", "predict", "summary"])
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: minidl {command}")
    assert all(len(line) <= 120 for line in text.splitlines())


def test_no_command_prints_the_help(capsys):
    assert main([]) == 0
    assert "commands:" in capsys.readouterr().out


def test_python_m_minidl_is_the_command():
    done = minidl_command("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"minidl {minidl.__version__}")


@pytest.mark.parametrize(("arguments", "words"), [
    (["dmo"], "Did you mean demo?"),
    (["demo", "--sed", "3"], "Did you mean --seed?"),
    (["summary", "resnet18", "--dept", "1"], "Did you mean --depth?"),
    (["summary"], "required: NAME"),
    (["demo", "--nets", "vgg,lenet"], "'lenet' is not one of them"),
    (["demo", "--nets", "vgg,vgg"], "each once"),
    (["demo", "--nets", ","], "at least one"),
    (["demo", "--epochs", "0"], "must be at least 1, got 0"),
    (["demo", "--epochs", "many"], "must be an integer, got 'many'"),
    (["demo", "--seed", "-1"], "must be at least 0"),
    (["demo", "--qui"], "Did you mean --quick?"),
    (["xyzzy"], "See `minidl --help`."),
])
def test_a_wrong_word_is_answered_with_a_hint_and_status_2(arguments, words, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("usage: minidl")


def fake_command(monkeypatch, error):
    def run(args):
        raise error
    monkeypatch.setattr(entry.COMMANDS["info"], "run", run)


@pytest.mark.parametrize(("error", "status", "words"), [
    (UserError("--out: no\nroom"), 2, "minidl info: error: --out: no room"),
    (FloatingPointError("the loss is nan"), 1,
     "minidl info: error: FloatingPointError: the loss is nan (minidl info --debug shows the traceback)"),
    (KeyboardInterrupt(), 130, "minidl: interrupted"),
])
def test_errors_are_one_line(error, status, words, monkeypatch, capsys):
    fake_command(monkeypatch, error)
    assert main(["info"]) == status
    text = capsys.readouterr().err.strip()
    assert text.startswith(words)
    assert "\n" not in text


@pytest.mark.parametrize("arguments", [["--debug", "info"], ["info", "--debug"]])
def test_debug_shows_the_traceback(arguments, monkeypatch):
    fake_command(monkeypatch, ValueError("inside"))
    with pytest.raises(ValueError, match="inside"):
        main(arguments)


def test_a_reader_that_leaves_early_causes_no_traceback():
    shell = f"{sys.executable} -m minidl summary resnet152 | head -n 1"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("resnet152: ")
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["summary", "vgg-a"], ["info"], ["--version"],
                                       ["convert", "w.npz", "--list"]])
def test_every_command_ends_with_141_where_the_reader_has_gone(arguments, tmp_path):
    np.savez(tmp_path / "w.npz", **{f"layer{i}": np.zeros(1) for i in range(5000)})
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "minidl", *arguments], stdout=write, stderr=subprocess.PIPE, text=True,
                          timeout=120, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path(minidl.__file__).parents[1])})
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("arguments", [["models"], ["info"]])
def test_output_to_a_full_disk_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "minidl", *arguments], stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=120)
    assert done.returncode == 1
    assert "no space left on device" in done.stderr and done.stderr.count("\n") == 1


def test_ctrl_c_while_the_commands_are_loading_ends_quietly():
    script = ("import runpy, sys\n"
              "class Interrupt:\n"
              "    def find_spec(self, name, *_):\n"
              "        if name == 'minidl.cli.main': raise KeyboardInterrupt\n"
              "sys.meta_path.insert(0, Interrupt())\n"
              "runpy.run_module('minidl', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "")


def test_info_names_what_minidl_runs_on(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in text.splitlines())
    gpu = ["GPU"] if facts["GPU"].startswith("not usable") else ["GPU", "CuPy", "GPU memory"]
    assert list(facts) == ["minidl", "Python", "system", "NumPy", "BLAS", "threads", *gpu, "data"]
    assert facts["minidl"].startswith(minidl.__version__)
    assert os.path.isdir(facts["data"])


def test_output_survives_a_terminal_without_unicode():
    done = minidl_command("summary", "vgg-a", env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
