"""Progress: a live display on terminals, plain lines elsewhere, no escape code where none belongs."""
import io
import re

import pytest
from rich.console import Console

from minidl.show import reporter
from minidl.show.progress import LiveReporter, PlainReporter
from minidl.train import Epoch

RECORD = Epoch(1, 1.234, 0.8, 0.815, 0.1, 2.5)


def run(console):
    with reporter(console) as report:
        report.begin("mini Inception", 2, 3)
        for batch in (1, 2, 3):
            report.on_batch(1, batch, 2.0)
        report.on_epoch(RECORD)
    return console.file.getvalue()


def test_a_pipe_gets_one_plain_line_per_epoch():
    text = run(Console(file=io.StringIO(), width=80))
    assert text == "mini Inception   epoch 1/2  loss 1.234  train 80.0 %  val 81.5 %    2.5 s\n"


def test_a_narrow_pipe_gets_whole_lines():
    assert run(Console(file=io.StringIO(), width=20)).count("\n") == 1


def test_a_terminal_gets_the_live_display():
    text = run(Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard"))
    assert "\x1b[" in text
    assert "mini Inception" in text and "val 81.5 %" in text and "…" not in text


def test_a_terminal_that_wants_no_colour_gets_none():
    text = run(Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard", no_color=True))
    assert not re.search(r"\x1b\[[\d;]*[34]\dm", text)


@pytest.mark.parametrize(("options", "kind"), [
    (dict(force_terminal=True, _environ={"TERM": "xterm"}), LiveReporter),
    (dict(force_terminal=True, _environ={"TERM": "dumb"}), PlainReporter),
    (dict(force_terminal=False), PlainReporter),
])
def test_the_terminal_decides_which(options, kind):
    assert isinstance(reporter(Console(file=io.StringIO(), **options)), kind)


def test_the_screen_is_given_back_after_an_error():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with pytest.raises(KeyboardInterrupt), reporter(console) as report:
        report.begin("net", 1, 1)
        raise KeyboardInterrupt
    assert console.file.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is visible again


def test_without_validation_none_is_shown():
    console = Console(file=io.StringIO(), width=80)
    with reporter(console) as report:
        report.begin("net", 1, 1)
        report.on_epoch(Epoch(1, 1.0, 0.5, None, 0.1, 1.0))
    assert "val" not in console.file.getvalue()
