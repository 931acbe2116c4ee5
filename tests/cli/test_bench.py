"""`minidl bench`: what it prints and writes, with and without PyTorch, and that it compares what it says."""
import json
import re

import numpy as np
import pytest

from minidl import models
from minidl.cli import bench
from minidl.cli.main import main

SMALL = ["resnet20-cifar", "--width", "0.25", "--batch", "4", "--runs", "2"]


def test_without_pytorch_it_times_minidl_alone(capsys, tmp_path):
    file = tmp_path / "b.json"
    assert main(["bench", *SMALL, "--against", "nothing", "--no-memory", "--json", str(file)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"resnet20-cifar +batch +4 +training step +\d+\.\d{3} s\n", text)
    assert re.search(r"resnet20-cifar +batch +4 +inference +\d+\.\d{3} s\n", text) and "PyTorch" not in text
    record = json.loads(file.read_text())
    assert [row["mode"] for row in record["rows"]] == ["training step", "inference"]
    assert all(len(row["runs"]) == 2 and row["seconds"] > 0 and "ratio" not in row for row in record["rows"])
    assert {"minidl", "NumPy", "threads", "cores", "processor", "date"} == set(record["machine"])


@pytest.mark.parametrize(("option", "mode"), [("--train", "training step"), ("--inference", "inference")])
def test_one_mode_alone(capsys, option, mode):
    assert main(["bench", *SMALL, option, "--against", "nothing", "--no-memory"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resnet20")]
    assert len(rows) == 1 and mode in rows[0]


def test_memory_is_that_of_a_fresh_process(capsys):
    assert main(["bench", *SMALL, "--train", "--against", "nothing"]) == 0
    found = re.search(r"memory ([\d,]+) MiB", capsys.readouterr().out)
    assert found and 1 <= int(found[1].replace(",", "")) < 300


@pytest.mark.parametrize(("words", "error"), [
    (["resnet21"], "resnet2"), (["--train", "--inference"], "not allowed with"), (["--batch", "0"], "at least 1"),
    (["--json", "/nowhere/b.json"], "no folder")])
def test_wrong_usage_ends_in_a_line(capsys, words, error):
    assert main(["bench", *words]) == 2
    assert error in capsys.readouterr().err


def test_runs_go_by_turns_and_the_first_of_each_is_not_counted():
    order = []
    pair = bench.interleaved(lambda: order.append("ours"), lambda: order.append("theirs"), 3)
    assert order == ["ours", "theirs"] * 4
    assert len(pair.ours) == len(pair.theirs) == 3
    row = bench.row_of("x", 2, "inference", bench.Pair([2.0, 3.0, 8.0], [1.0, 2.0, 2.0]), {"minidl": 3, "torch": 4})
    assert (row["seconds"], row["torch_seconds"], row["ratio"]) == (3.0, 2.0, 2.0)
    assert row["ratio_low"] == 1.5 and row["ratio_high"] == 4.0 and row["memory"] == {"minidl": 3, "torch": 4}


# with PyTorch

NETS = {"alexnet-torchvision": dict(width=1 / 16, image_size=95), "alexnet": dict(width=1 / 16, image_size=99),
        "vgg-a-bn": dict(width=1 / 16, image_size=32), "googlenet-torchvision": dict(width=1 / 8, image_size=96),
        "googlenet": dict(width=1 / 8, image_size=128), "resnet18": dict(width=1 / 8, image_size=64),
        "resnet50": dict(width=1 / 16, image_size=64), "resnet20-cifar": dict(width=1 / 2)}


@pytest.mark.oracle
@pytest.mark.parametrize("name", NETS)
def test_the_mirror_in_pytorch_computes_what_the_net_computes(name):
    """Scores in both modes and a step's gradients, in float64: what is compared is the same work. (No dropout.)"""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    from operation_checks import relative_error

    from minidl.autograd import Tensor, no_grad
    from minidl.interop.torch_mirror import torch_mirror
    from minidl.train import classification_loss
    net = models.build(name, num_classes=5, **NETS[name]).to(dtype=np.float64)
    for module in net.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    shape = 3, net.in_channels, net.image_size, net.image_size
    x = np.random.default_rng(0).standard_normal(shape)
    mirror = torch_mirror(net.eval(), shape, training=False)
    with no_grad(), torch.no_grad():
        assert relative_error(mirror(torch.from_numpy(x.copy())).numpy(), net(Tensor(x)).numpy()) <= 1e-9
    mirror = torch_mirror(net, shape, training=True).double()
    outputs, theirs = net.train()(Tensor(x)), mirror(torch.from_numpy(x.copy()))
    labels = bench.labels_for(outputs)
    classification_loss(outputs, labels).backward()
    scores, *heads = theirs if isinstance(theirs, tuple) else (theirs,)
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels))
    for head in heads:
        loss = loss + 0.3 * torch.nn.functional.cross_entropy(head, torch.from_numpy(labels))
    loss.backward()
    want = {n.replace("/", "."): p.grad.numpy() for n, p in mirror.named_parameters()}
    largest = max(abs(g).max() for g in want.values())
    for n, p in net.named_parameters():
        if abs(want[n]).max() > 1e-6 * largest:  # a bias before batch norm has a gradient of 0 but for rounding
            assert relative_error(p.grad, want[n]) <= 1e-9, n


@pytest.mark.oracle
def test_with_pytorch_a_ratio_is_printed(capsys):
    pytest.importorskip("torch", reason="compares with PyTorch")
    assert main(["bench", *SMALL]) == 0
    text = capsys.readouterr().out
    assert len(re.findall(r"PyTorch +\d+\.\d{3} s +ratio \d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)", text)) == 2
    assert re.search(r"memory [\d,]+ MiB, PyTorch [\d,]+ MiB \(\d+\.\d\d\)", text)
