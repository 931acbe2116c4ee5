"""Every lesson runs from top to bottom as a script, without a display, and says what it observed."""
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import minidl
from minidl.data import find

CHECKOUT = Path(minidl.__file__).parents[1]
SECONDS = 300  # far above what any lesson takes: a limit against hanging, not a measurement

SLOW = {"03_plain_against_residual": "trains 18 networks: 40 s on two quiet cores"}
CLAIMS = {  # what must come out on every machine: these had room to spare in all runs and seeds that were tried
    "01_chain_rule_and_tape": ["the order matters (tape 4, impatient walk 6)", "the step has an optimum"],
    "02_convolution_as_one_matrix_product": ["speed, ", "memory, 9 times the image",
                                             "the bug passes without overlap and is caught with it"],
    "03_plain_against_residual": ["plain 56 optimises worse than plain 8", "plain 56 optimises worse than residual 56",
                                  "batch statistics cost 20 points on sorted images"],
}

LESSONS = [pytest.param(lesson, id=lesson.stem, marks=[pytest.mark.slow(reason=SLOW[lesson.stem])]
                        if lesson.stem in SLOW else [])
           for lesson in sorted(find("lessons").glob("[0-9][0-9]_*.py"))]


def run(lesson, folder, **environment):
    """The finished process, in an empty folder, without a display and with no say over where the plot goes."""
    clean = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MINIDL_LESSON_OUTPUT")}
    environment = clean | {"PYTHONPATH": str(CHECKOUT), "MPLBACKEND": "Agg", "PYTHONWARNINGS": "error",
                           "MPLCONFIGDIR": str(folder.parent / "matplotlib")} | environment
    return subprocess.run([sys.executable, lesson], cwd=folder, env=environment, capture_output=True, text=True,
                          timeout=SECONDS, check=False)


def width_and_height(png):
    """Read from the header, in pixels."""
    head = png.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_every_lesson_is_found_and_has_claims_to_check():
    assert len(LESSONS) >= 3
    assert {lesson.id for lesson in LESSONS} == set(CLAIMS)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_runs_saves_one_plot_and_computes_its_claims(lesson, empty):
    done = run(lesson, empty)
    assert done.returncode == 0, done.stdout + done.stderr
    written = [path.relative_to(empty) for path in empty.rglob("*") if path.is_file()]
    assert written == [Path("lesson-output", f"{lesson.stem}.png")]
    assert f"plot: {written[0]}" in done.stdout
    width, height = width_and_height(empty / written[0])
    assert 800 <= width <= 2400
    assert 400 <= height <= 2400
    assert (empty / written[0]).stat().st_size > 10_000, "an empty picture?"

    verdicts = re.findall(r"^(observed|not observed): (.+)$", done.stdout, re.M)
    for claim in CLAIMS[lesson.stem]:
        assert [verdict for verdict, text in verdicts if text.startswith(claim)] == ["observed"], done.stdout
    assert re.search(r"^exercise: still to do, \w+", done.stdout, re.M)


def test_the_plot_goes_where_the_environment_says(empty, tmp_path):
    done = run(find("lessons", "01_chain_rule_and_tape.py"), empty, MINIDL_LESSON_OUTPUT=str(tmp_path / "a" / "b"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["01_chain_rule_and_tape.png"]
    assert not list(empty.iterdir())
