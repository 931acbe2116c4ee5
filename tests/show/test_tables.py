"""Tables: what they say, and that 80 columns are enough."""
import io

import pytest
from rich.console import Console

from minidl.models import MINI_NETS
from minidl.nn import Linear, Module
from minidl.show import Result, count_multiply_adds, count_parameters, results_table, summary_table
from minidl.train import Epoch


def rendered(table, width=80):
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue()


@pytest.mark.parametrize("name", MINI_NETS)
def test_a_summary_fits_80_columns_and_ends_with_the_totals(name):
    net = MINI_NETS[name]()
    text = rendered(summary_table(net, (1, 28, 28), title=name))
    assert "…" not in text
    total = next(line.split() for line in text.splitlines() if line.strip().startswith("total"))
    assert total == ["total", f"{count_parameters(net):,}", f"{count_multiply_adds(net, (1, 28, 28)):,}"]
    assert "features.0.0" in text and "12x14x14" in text and "classifier" in text


def test_parameters_that_forward_never_uses_are_shown():
    class Idle(Module):
        def __init__(self):
            self.used, self.idle = Linear(2, 2), Linear(4, 4)

        def forward(self, x):
            return self.used(x)

    lines = rendered(summary_table(Idle(), (2,))).splitlines()
    assert any(line.split() == ["(not", "used)", "20"] for line in lines)
    assert any(line.split() == ["total", "26", "4"] for line in lines)


def test_results_fit_80_columns():
    history = [Epoch(1, 0.5, 0.8, 0.81, 0.1, 2.0)]
    results = [Result(name, f"mini {name}", 123_456, 3_120_528, 123.4, 1.0, 1.0, 1.0, history)
               for name in ("VGG", "Inception")]
    text = rendered(results_table(results))
    assert "…" not in text
    assert text.splitlines()[-2].split() == ["mini", "Inception", "123,456", "3.12", "M", "123.4", *["100.0", "%"] * 3]


def test_a_result_becomes_plain_json_values():
    import json
    result = Result("vgg", "mini VGG", 1, 2, 3.0, 0.5, 0.25, 0.75, [Epoch(1, 0.5, 0.8, None, 0.1, 2.0)])
    record = json.loads(json.dumps(result.as_json()))
    assert record["validation_accuracy"] == 0.25
    assert record["history"][0]["validation_accuracy"] is None
