"""`minidl demo` from outside: what it prints and writes, and how it refuses and stops. Tiny, but for the slow test."""
import json
import os
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

PICTURES = ["confusion_matrix.png", "learning_curves.png", "predictions.png"]
TINY = ["--quick", "--epochs", "1", "--images", "100"]


def demo(*arguments, **options):
    env = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "FORCE_COLOR", "TTY_COMPATIBLE")}
    env["PYTHONPATH"] = str(Path(minidl.__file__).parents[1])  # wherever it is started
    return subprocess.run([sys.executable, "-m", "minidl", "demo", *map(str, arguments)], capture_output=True, text=True,
                          env=env, timeout=600, **options)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """One tiny run of all three nets: (process, folder, JSON record)."""
    folder = tmp_path_factory.mktemp("demo")
    done = demo(*TINY, "--out", folder / "pictures", "--json", folder / "numbers.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, folder, json.loads((folder / "numbers.json").read_text())


def test_a_pipe_gets_plain_text_that_fits_80_columns(tiny):
    done, folder, _ = tiny
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert all(len(line.rstrip()) <= 80 for line in done.stdout.splitlines() if str(folder) not in line)
    assert done.stderr == ""


def test_it_says_what_it_does_and_what_came_out(tiny):
    text = tiny[0].stdout
    assert "Quick look" in text and "100 training and 500 validation images" in text
    for title in ("mini VGG", "mini Inception", "mini ResNet"):
        assert re.search(rf"^ *{title} +epoch 1/1 .* val ", text, re.M), title
        assert re.search(rf"^ *{title} +[\d,]+ +[\d.]+ M +[\d.]+ +[\d.]+ % +[\d.]+ % +[\d.]+ % *$", text, re.M), title
    assert "Nothing was judged" in text


def test_three_pictures_and_nothing_else_are_written(tiny):
    _, folder, record = tiny
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == PICTURES
    assert sorted(path.name for path in folder.iterdir()) == ["numbers.json", "pictures"]
    for name in PICTURES:
        assert (folder / "pictures" / name).read_bytes().startswith(b"\x89PNG\r\n")
    assert sorted(record["pictures"]) == sorted(str(folder / "pictures" / name) for name in PICTURES)


def test_the_json_says_the_same_as_the_table(tiny):
    done, _, record = tiny
    assert {"minidl", "seed", "quick", "threads", "device", "recipes", "images", "nets", "best", "acceptance", "pictures",
            "seconds"} == set(record)
    assert record["images"] == {"train": 100, "validation": 500, "test": 1000}
    assert [net["name"] for net in record["nets"]] == ["vgg", "inception", "resnet"]
    assert record["acceptance"] == {"judged": False, "accepted": False, "each": 0.8, "best": 0.85, "missed": []}
    assert record["best"] == max(record["nets"], key=lambda net: net["validation_accuracy"])["name"]
    for net in record["nets"]:
        assert set(net) == {"name", "title", "parameters", "multiply_adds", "seconds", "train_accuracy",
                            "validation_accuracy", "test_accuracy", "history"}
        assert len(net["history"]) == record["recipes"][net["name"]]["epochs"] == 1
        assert net["history"][-1]["validation_accuracy"] == net["validation_accuracy"]
        row = next(line for line in done.stdout.splitlines() if net["title"] in line and f"{net['parameters']:,}" in line)
        assert f"{100 * net['test_accuracy']:.1f} %" in row


def test_the_same_seed_gives_the_same_numbers_whichever_nets_run_beside(tiny, tmp_path, capsys):
    arguments = ["demo", *TINY, "--nets", "inception", "--out", str(tmp_path), "--json", str(tmp_path / "n.json")]
    assert main(arguments) == 0
    again = json.loads((tmp_path / "n.json").read_text())["nets"][0]
    before = tiny[2]["nets"][1]
    for key in ("name", "parameters", "multiply_adds", "train_accuracy", "validation_accuracy", "test_accuracy"):
        assert again[key] == before[key], key
    np.testing.assert_equal(again["history"][0]["train_loss"], before["history"][0]["train_loss"])


@pytest.mark.parametrize("option", ["--out", "--json"])
def test_an_output_that_cannot_be_written_is_refused_before_training(option, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    wrong = tmp_path / "file" if option == "--out" else tmp_path
    places = {"--out": tmp_path / "out", "--json": tmp_path / "n.json", option: wrong}
    assert main(["demo", *(str(part) for pair in places.items() for part in pair)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"minidl demo: error: {option}: ")
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nor is a new, empty folder left


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that even root cannot write in")
def test_a_read_only_place_is_refused_for_root_too(capsys):
    assert main(["demo", "--out", "/proc/minidl-demo"]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_foreign_files_in_the_folder_stay(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "predictions.png").write_text("an old picture")
    assert main(["demo", *TINY, "--nets", "resnet", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*PICTURES, "notes.txt"])
    assert (tmp_path / "predictions.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_misses_its_figures_says_so_and_ends_with_1(tmp_path, monkeypatch, capsys):
    from dataclasses import replace

    from minidl.train import fashion
    monkeypatch.setitem(fashion.FULL, "resnet", replace(fashion.FULL["resnet"], epochs=1, train_images=100))
    assert main(["demo", "--nets", "resnet", "--out", str(tmp_path), "--json", str(tmp_path / "n.json")]) == 1
    assert "Not accepted" in capsys.readouterr().out
    acceptance = json.loads((tmp_path / "n.json").read_text())["acceptance"]
    assert acceptance["judged"] and not acceptance["accepted"]
    assert acceptance["missed"][0].startswith("mini ResNet reached")


def hear_ctrl_c():
    """In the child: a shell starts background jobs deaf to Ctrl-C, and this test may run in one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_cleanly(tmp_path):
    process = subprocess.Popen([sys.executable, "-u", "-m", "minidl", "demo", "--out", str(tmp_path / "new"), "--nets", "vgg"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c)
    while "epochs each" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == "minidl: interrupted; no half-written file was left behind"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_full_demo_is_accepted_and_reaches_86_percent(tmp_path):
    """Each run is accepted at 85 %. Of 500 validation images one is .2 %, and mere rounding (another number of threads) moves a
    run by some .5 %, so the 86 % that the best net reaches are asked of three runs' mean."""
    best = []
    for seed in range(3):
        done = demo("--seed", seed, "--out", tmp_path / str(seed), "--json", tmp_path / "n.json")
        assert done.returncode == 0, done.stdout + done.stderr
        record = json.loads((tmp_path / "n.json").read_text())
        validation = [net["validation_accuracy"] for net in record["nets"]]
        print(seed, validation)
        assert record["acceptance"]["accepted"] and min(validation) >= 0.80
        best.append(max(validation))
    assert sum(best) / 3 >= 0.86, best
