"""Tables: what they say, and that 80 columns are enough."""
import io

import pytest
from rich.console import Console

from minidl import nn
from minidl.models import MINI_NETS, build
from minidl.nn import Linear, Module
from minidl.show import (
    Field,
    Result,
    count_multiply_adds,
    count_parameters,
    results_table,
    short_bytes,
    short_number,
    summary_table,
    trace,
)
from minidl.show.summary import field_text, merged, wrapped
from minidl.train import Epoch


def rendered(table, width=80):
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue()


def footer(text):
    """name -> words, of the lines below the table."""
    lines = [line.split() for line in text.splitlines()]
    return {words[0]: words[1:] for words in lines if words and words[0] in ("total", "parameters", "multiply-adds", "memory")}


def built(name, **options):
    with nn.init.no_values():
        return build(name, **options)


def table(net, depth=None, width=80, **options):
    return rendered(summary_table(net, (net.in_channels, net.image_size, net.image_size), depth=depth, **options), width)


@pytest.mark.parametrize("name", MINI_NETS)
def test_a_summary_fits_80_columns_and_ends_with_the_totals(name):
    net = MINI_NETS[name]()
    shape = (1, 28, 28)
    text = rendered(summary_table(net, shape, title=name))
    parameters, multiply_adds = count_parameters(net), count_multiply_adds(net, shape)
    memory = sum(row.memory for row in trace(net, shape))
    assert footer(text) == {
        "total": [f"{parameters:,}", *short_number(multiply_adds).split(), *short_bytes(memory).split()],
        "parameters": [f"{parameters:,}", "in", *short_bytes(4 * parameters).split()],
        "multiply-adds": [f"{multiply_adds:,}"],
        "memory": [*short_bytes(memory).split(), "of", "outputs"]}
    assert text.splitlines()[0].strip() == name


@pytest.mark.parametrize("name", ["vgg-e-bn", "googlenet", "googlenet-torchvision", "resnet152", "fcn8s", "resnet1202-cifar"])
def test_80_columns_are_enough_and_no_name_is_cut(name):
    net = built(name)
    text = table(net)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    width = next(line for line in text.splitlines() if line.startswith("layer")).index("operation")
    column = "".join(line[:width].strip() for line in text.splitlines())  # wrapped names are whole again
    place = 0
    for row in trace(net, (net.in_channels, net.image_size, net.image_size)):
        if row.operation != "Identity":
            place = column.index(row.layer, place) + len(row.layer)


def test_a_row_tells_all_there_is_to_tell():
    lines = [line.split() for line in table(built("vgg-d")).splitlines()]
    assert ["features.28", "Conv2d", "512x14x14", "2,359,808", "462", "M", "401", "kB", "196"] in lines
    assert ["features.30", "MaxPool2d", "512x7x7", "100", "kB", "212"] in lines
    assert ["flatten", "Flatten", "25088", "404"] in lines
    assert ["classifier.2", "Dropout"] in lines


def test_depth_adds_up_what_lies_deeper():
    net = built("resnet152")
    assert [row.layer for row in merged(net, trace(net, (3, 224, 224)), 1)] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "flatten", "fc"]
    rows = [line.split() for line in table(net, depth=1).splitlines()]
    stages = {words[0]: words[1:4] for words in rows if words and words[0].startswith("layer") and words[0] != "layer"}
    assert stages == {"layer1": ["Sequential", "256x56x56", "215,808"], "layer2": ["Sequential", "512x28x28", "2,339,840"],
                      "layer3": ["Sequential", "1024x14x14", "40,613,888"], "layer4": ["Sequential", "2048x7x7", "14,964,736"]}
    assert footer(table(net, depth=1)) == footer(table(net))


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "fcn8s", "mini-vgg", "resnet20-cifar"])
@pytest.mark.parametrize("depth", [1, 2, 3, 9])
def test_every_depth_has_the_same_sums(name, depth):
    net = built(name)
    rows = trace(net, (net.in_channels, net.image_size, net.image_size), batch_size=2)
    merged_rows = merged(net, rows, depth)
    for field in ("parameters", "multiply_adds", "memory"):
        assert sum(getattr(row, field) for row in merged_rows) == sum(getattr(row, field) for row in rows), field
    assert (merged_rows[-1].shape, merged_rows[-1].field) == (rows[-1].shape, rows[-1].field)
    assert all(len(row.path) <= depth for row in merged_rows)
    if depth == 9:
        assert [row.layer for row in merged_rows] == [row.layer for row in rows]


def test_modules_that_take_turns_have_a_row_per_turn():
    class Turns(Module):
        def __init__(self):
            self.a, self.b = nn.Sequential(Linear(3, 4), Linear(5, 6)), nn.Sequential(Linear(4, 5), nn.Dropout())

        def forward(self, x):
            return self.a[1](self.b(self.a[0](x)))

    net = Turns()
    rows = merged(net, trace(net, (3,)), 1)
    assert [(row.layer, row.operation, row.shape, row.parameters) for row in rows] == [
        ("a", "Sequential", (1, 4), 16), ("b", "Sequential", (1, 5), 25), ("a", "Sequential", (1, 6), 36)]


def test_a_batch_is_told_below_the_table():
    net = built("mini-vgg")
    one, many = footer(table(net)), footer(table(net, batch_size=1000))
    assert many["multiply-adds"] == ["3,137,184,000", "for", "1,000", "images"]
    assert (one["parameters"], one["multiply-adds"]) == (many["parameters"], ["3,137,184"])


def test_frozen_parameters_are_told_below_the_table():
    assert footer(table(built("fcn32s")))["parameters"] == [
        "136,152,917", "in", "545", "MB,", "134,346,581", "of", "them", "trained"]


def test_parameters_that_forward_never_uses_are_shown():
    class Idle(Module):
        def __init__(self):
            self.used, self.idle = Linear(2, 2), Linear(4, 4)

        def forward(self, x):
            return self.used(x)

    lines = [line.split() for line in rendered(summary_table(Idle(), (2,))).splitlines()]
    assert ["(not", "used)", "idle", "20"] in lines
    assert ["total", "26", "4", "8", "B"] in lines


def test_names_may_hold_what_looks_like_markup():
    net = nn.Sequential({"[red]": Linear(2, 2), "a:smile:b": Linear(2, 2)})
    text = rendered(summary_table(net, (2,), title="[bold]net[/bold]"))
    assert "[red]" in text and "a:smile:b" in text and "[bold]net[/bold]" in text


def test_fields_that_differ_in_height_and_width_are_told_as_both():
    text = rendered(summary_table(nn.Sequential(nn.Conv2d(1, 1, (3, 5))), (1, 9, 9)))
    assert "3x5" in text
    fields = None, Field((1643, 1643), None), Field((2.5, 1), (0.5, 1))
    assert [field_text(field) for field in fields] == ["", "1643", "2.5x1"]


@pytest.mark.parametrize(("name", "width", "lines"), [
    ("conv1", 10, ["conv1"]), ("inception3a.branch2.1.conv", 16, ["inception3a.", "branch2.1.conv"]),
    ("AdaptiveAvgPool2d", 11, ["AdaptiveAvg", "Pool2d"]), ("aux1, aux2", 6, ["aux1,", "aux2"]),
    ("abcdefgh", 3, ["abc", "def", "gh"]),
    ("a.bcdefgh", 4, ["a.", "bcde", "fgh"]), ("", 5, [""])])
def test_names_are_wrapped_where_they_may_be(name, width, lines):
    assert wrapped(name, width).split("\n") == lines


@pytest.mark.parametrize("depth", [0, -1, 1.5, True])
def test_a_depth_that_is_none_is_refused(depth):
    with pytest.raises((ValueError, TypeError), match="depth"):
        summary_table(MINI_NETS["vgg"](), (1, 28, 28), depth=depth)


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
