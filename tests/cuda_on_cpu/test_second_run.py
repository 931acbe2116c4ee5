"""Device "cuda" as a user meets it, on the strict stand-in for CuPy: training, commands, and the whole suite once more."""
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import standin

import minidl
from minidl import data, models, nn, ops, optim
from minidl.autograd import Tensor
from minidl.nn.module import evaluating
from minidl.train import evaluate, fit, predict
from minidl.train.losses import classification_loss

pytestmark = [pytest.mark.ladder, pytest.mark.usefixtures("cupy")]

HERE = Path(__file__).parent
CHECKOUT = Path(minidl.__file__).parents[1]
ON_STAND_IN = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (HERE / "as_cupy", HERE, CHECKOUT))),
                            "MINIDL_DEVICE": "cuda", "MPLBACKEND": "Agg"}


def small(name):
    options = {"num_classes": 5, "width": 1.0 if name.startswith("mini") else 0.05}
    return models.build(name, **options)


FAMILIES = ["alexnet", "vgg-a-bn", "googlenet", "resnet18", "resnet50", "resnet20-cifar", "mini-vgg", "mini-inception",
            "mini-resnet"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_waits_for_the_gpu_only_where_the_loss_is_read(name):
    net = small(name).to("cuda")
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    rng = np.random.default_rng(0)
    images = Tensor(rng.standard_normal((2, net.in_channels, net.image_size, net.image_size)).astype(np.float32)).to("cuda")
    labels = Tensor(rng.integers(0, 5, 2)).to("cuda")
    for _ in range(2):
        with standin.counting() as syncs:
            optimizer.zero_grad()
            loss = classification_loss(net(images), labels)
            loss.backward()
            optimizer.step()
        assert syncs.count == 0, syncs.places
        with standin.counting() as syncs:
            loss.item()
        assert syncs.count == 1
    with standin.counting() as syncs, evaluating(net):
        net(images)
    assert syncs.count == 0, syncs.places


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.1), lambda p: optim.Adam(p, 0.1), lambda p: optim.AdamW(p, 0.1)])
@pytest.mark.parametrize("ignore_index", [None, 3])
def test_fit_reads_one_number_per_batch_and_one_per_epoch(make, ignore_index):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.2),
                        nn.Flatten(), nn.Linear(36, 4)).to("cuda")
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((24, 1, 8, 8)).astype(np.float32), rng.integers(0, 4, 24)
    loader = data.DataLoader(images, labels, batch_size=6)
    with standin.counting() as syncs:
        (epoch,) = fit(net, make(net.parameters()), loader, epochs=1, ignore_index=ignore_index)
    assert syncs.count == 4 + 1, syncs.places
    assert 0 <= epoch.train_accuracy <= 1
    with standin.counting() as syncs:
        evaluate(net, loader)
    assert syncs.count == 4 + 1, syncs.places


def test_a_training_run_reaches_on_the_device_what_it_reaches_on_the_cpu():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((64, 1, 8, 8)).astype(np.float32)
    labels = (images.mean(axis=(1, 2, 3)) > 0).astype(np.int64)
    results = []
    for device in ("cpu", "cuda"):
        minidl.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AvgPool2d(2), nn.Dropout(0.2),
                            nn.Flatten(), nn.Linear(36, 2)).to(device)
        history = fit(net, optim.SGD(net.parameters(), lr=0.1, momentum=0.9), data.DataLoader(images, labels, batch_size=16),
                      epochs=3)
        results.append([*(epoch.train_loss for epoch in history), *predict(net, images).ravel()])
    np.testing.assert_allclose(results[1], results[0], rtol=2e-3, atol=2e-3)


def test_nothing_moves_unless_asked():
    x = np.ones((2, 3), np.float32)
    layer = nn.Linear(3, 2).to("cuda")
    for wrong in (lambda: layer(x), lambda: layer(Tensor(x)), lambda: Tensor(x).to("cuda") + Tensor(x),
                  lambda: layer(Tensor(x).to("cuda")).backward(x[:, :2].copy())):
        with pytest.raises(ValueError, match="on cpu"):
            wrong()
    with pytest.raises(ValueError, match="on cuda, got .* on cpu"):
        layer.weight.data = np.ones((2, 3), np.float32)
    moved = layer(Tensor(x).to("cuda"))
    assert moved.device == "cuda" and isinstance(moved.numpy(), np.ndarray)
    assert all(type(a) is np.ndarray for a in layer.state_dict().values())


@pytest.mark.parametrize("labels, words", [([0, 3, 1], "labels must be in 0..2"), ([0, -1, 1], "got -1"),
                                           ([7, 7, 7], "no label to average over")])
def test_a_wrong_label_makes_the_loss_nan_and_fit_says_why(labels, words):
    net = nn.Sequential(nn.Linear(4, 3)).to("cuda")
    x, labels = np.ones((3, 4), np.float32), np.array(labels)
    ignored = 7 if labels[0] == 7 else None
    loss = ops.cross_entropy(net(Tensor(x).to("cuda")), Tensor(labels).to("cuda"), ignore_index=ignored)
    assert np.isnan(loss.numpy())
    loss.backward()
    if ignored is None:
        assert np.isnan(net[0].weight.grad.get()).any()
        with pytest.raises(ValueError, match=words):
            fit(net, optim.SGD(net.parameters(), lr=0.1), data.DataLoader(x, labels, batch_size=3), epochs=1)


def test_a_loss_of_ones_own_that_diverges_is_not_taken_for_wrong_labels():
    weights = Tensor(np.ones((2, 2), np.float32)).to("cuda")
    net = nn.Sequential(nn.Linear(3, 2)).to("cuda")
    loader = data.DataLoader(np.full((4, 3), np.nan, np.float32), np.array([0, 1, 0, 1]), batch_size=2)
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1, batch 1"):
        fit(net, optim.SGD(net.parameters(), lr=0.1), loader, epochs=1, loss=lambda y, t: ops.cross_entropy(y * weights, t))


def test_evaluation_names_a_label_that_is_no_class():
    net = nn.Sequential(nn.Linear(3, 2)).to("cuda")
    with pytest.raises(ValueError, match="labels must be in 0..1 for 2 classes, got 5"):
        evaluate(net, data.DataLoader(np.ones((4, 3), np.float32), np.array([0, 1, 5, 1]), batch_size=2))


def test_an_index_goes_to_the_tensor_and_a_place_that_does_not_exist_is_refused():
    x = Tensor(np.arange(12.0, dtype=np.float32).reshape(3, 4)).to("cuda")
    rows, columns = np.array([0, 2, 1]), np.array([3, 0, 0])
    np.testing.assert_array_equal(x[rows, columns].numpy(), [3, 8, 4])
    np.testing.assert_array_equal(x[Tensor(rows).to("cuda")].numpy(), x.numpy()[rows])
    for wrong in ((rows, np.array([3, 0, 4])), np.array([3]), (slice(None), np.array([-5]))):
        with pytest.raises(IndexError, match="no element"):
            x[wrong]
    with pytest.raises(ValueError, match="x is on cpu, the index on cuda"):
        Tensor(np.ones((3, 4)))[Tensor(rows).to("cuda")]


def test_numbers_and_lists_have_no_device_and_go_where_they_are_needed():
    x = Tensor(np.array([[1.0, -2.0, 3.0]], np.float32)).to("cuda")
    np.testing.assert_array_equal(minidl.where(x > 0, 1.0, 0.0).numpy(), [[1, 0, 1]])
    np.testing.assert_array_equal(minidl.where(x > 0, x, 0.5).numpy(), [[1, 0.5, 3]])
    np.testing.assert_allclose(ops.cross_entropy(x, [2]).item(), ops.cross_entropy(x.numpy(), [2]).item(), rtol=1e-6)
    with pytest.raises(ValueError, match="skip empty batches"):
        ops.cross_entropy(x[:0], Tensor(np.zeros(0, np.int64)).to("cuda"))
    with pytest.raises(ValueError, match=r"logits is on cuda, labels on cpu: move one with labels.to\('cuda'\), an array with"):
        ops.cross_entropy(x, np.array([2]))


def test_an_operation_of_ones_own_that_leaves_the_device_is_named():
    class Leaves(minidl.Function):
        name = "leaves"

        def __init__(self, where):
            self.where = where

        def forward(self, x):
            return np.ones(x.shape, x.dtype) if self.where == "forward" else x * 2

        def backward(self, dy):
            return np.ones(dy.shape, dy.dtype)

    x = Tensor(np.ones(3, np.float32)).to("cuda")
    x.requires_grad = True
    with pytest.raises(TypeError, match="leaves: forward got arrays on cuda and returned one on cpu: .*array_module"):
        minidl.apply(Leaves("forward"), x)
    y = minidl.apply(Leaves("backward"), x * 1)
    with pytest.raises(TypeError, match="leaves.backward: gradient of input x is on cpu, but x is on cuda"):
        y.sum().backward()


def test_gradients_move_with_their_net():
    net = nn.Sequential(nn.Linear(3, 2))
    net(np.ones((2, 3), np.float32)).sum().backward()
    gradient = net[0].weight.grad.copy()
    net.to("cuda")
    np.testing.assert_array_equal(net[0].weight.grad.get(), gradient)
    net.to("cpu", dtype=np.float64)
    assert net[0].weight.grad.dtype == np.float64 and (net[0].weight.grad == gradient).all()


def test_options_written_as_whole_numbers_reach_the_kernels():
    for make in (lambda p: optim.SGD(p, 0.1), lambda p: optim.SGD(p, 0.1, momentum=0.5), lambda p: optim.Adam(p, 0.1)):
        p = nn.Parameter(Tensor(np.ones(3, np.float32)).to("cuda").data)
        optimizer = make([p])
        optimizer.param_groups[0]["lr"] = 1
        optimizer.param_groups[0]["weight_decay"] = 0
        p.grad = p.data * 0 + 1
        optimizer.step()
        np.testing.assert_allclose(p.numpy(), 0, atol=1e-5)


def test_batch_norm_keeps_digits_where_the_mean_is_large():
    x = (np.random.default_rng(0).standard_normal((64, 2, 12, 12)) + 1e4).astype(np.float32)  # 36 numbers per thread
    layer = nn.BatchNorm2d(2).to("cuda")
    y = layer(Tensor(x).to("cuda")).numpy()
    wide = x.astype(np.float64)
    want = (wide - wide.mean(axis=(0, 2, 3), keepdims=True)) / np.sqrt(wide.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-6)


def test_a_window_with_nan_gives_nan_and_its_gradient_to_the_first():
    x = np.zeros((1, 1, 2, 6), np.float32)
    x[0, 0, 1, 2] = x[0, 0, 1, 3] = np.nan
    t = Tensor(x).to("cuda")
    t.requires_grad = True
    y = ops.max_pool2d(t, 2)
    y.backward(Tensor(np.array([[[[1.0, 2.0, 3.0]]]], np.float32)).to("cuda"))
    np.testing.assert_array_equal(y.numpy()[0, 0], [[0, np.nan, 0]])
    assert t.grad.get()[0, 0].tolist() == [[1, 0, 0, 0, 3, 0], [0, 0, 2, 0, 0, 0]]


def run(*command, cwd, seconds=600):
    """A process of its own, in which `import cupy` gives the stand-in."""
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False, cwd=cwd,
                          env=ON_STAND_IN, timeout=seconds)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_demo_trains_on_the_device(tmp_path):
    options = ["--nets", "resnet", "--epochs", 1, "--images", 100, "--out", tmp_path]
    said = run("-m", "minidl", "demo", "--device", "cuda", *options, cwd=tmp_path)
    assert "on the GPU" in said and (tmp_path / "learning_curves.png").is_file()


def test_info_describes_the_device_and_its_memory(tmp_path):
    facts = run("-m", "minidl", "info", cwd=tmp_path)
    assert re.search(r"^GPU +stand-in \(no GPU\), compute capability \d+\.\d+$", facts, re.M), facts
    assert re.search(r"^CuPy +14\.\S+, CUDA \d+\.\d, driver for CUDA \d+\.\d$", facts, re.M), facts
    memory = r"^GPU memory +[\d,]+ MiB free of [\d,]+; CuPy's pool holds [\d,]+ MiB, arrays use [\d,]+$"
    assert re.search(memory, facts, re.M), facts


def test_the_gpu_report_has_a_row_for_everything_and_names_what_is_wrong(tmp_path, monkeypatch, capsys):
    from minidl import parity
    from minidl.cli import gpu_report
    from minidl.cli.main import main
    monkeypatch.setattr(gpu_report, "TIMED", {"mini-resnet": 2})
    monkeypatch.setattr(gpu_report, "RUNS", 1)
    rows = [row for row in parity.rows() if row.kind != "training"]
    monkeypatch.setattr(parity, "rows", lambda: rows[:45])
    assert main(["info", "--test-gpu", "--out", str(tmp_path / "report.txt")]) == 0
    report = (tmp_path / "report.txt").read_text()
    assert report.count(" ok ") == 45 and "everything agrees with the CPU" in report
    assert re.search(r"mini-resnet +batch +2 +training step +[\d.]+ ms +inference +[\d.]+ ms +memory", report)
    assert str(CHECKOUT) not in report and str(tmp_path) not in report, "the report names places on the user's machine"

    def broken():
        raise RuntimeError("no kernel image\nis available")

    def crashes(name, batch):
        raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    class OutOfMemoryError(MemoryError):
        """As CuPy's."""

    def does_not_fit(name, batch):
        raise OutOfMemoryError("Out of memory allocating 9,999 bytes")

    bad = [parity.Row("operation", "off", lambda: 2.5), parity.Row("network", "bad", broken)]
    monkeypatch.setattr(parity, "rows", lambda: bad)
    monkeypatch.setattr(gpu_report, "_times", crashes)
    capsys.readouterr()
    assert main(["info", "--test-gpu", "--out", str(tmp_path / "report.txt")]) == 1
    said = capsys.readouterr().out
    assert "WRONG       2.5" in said and "WRONG RuntimeError: no kernel image is available" in said
    assert "NOT RIGHT: 3 rows" in (tmp_path / "report.txt").read_text(), "an illegal access is no lack of memory"
    monkeypatch.setattr(parity, "rows", list)
    monkeypatch.setattr(gpu_report, "_times", does_not_fit)
    assert main(["info", "--test-gpu", "--out", str(tmp_path / "report.txt")]) == 0
    assert "OutOfMemoryError: Out of memory allocating" in (tmp_path / "report.txt").read_text()


def test_the_tests_for_a_real_gpu_hold_on_the_stand_in(tmp_path):
    run("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-k", "not computes", "tests/test_gpu.py", cwd=CHECKOUT)


def test_a_lesson_that_trains_runs_on_the_device(tmp_path):
    """Cut down to one seed and one epoch: what it claims needs all of it."""
    lesson = (CHECKOUT / "lessons" / "03_plain_against_residual.py").read_text()
    for whole, part in (("KINDS = (8, 20, 56), (0, 1, 2),", "KINDS = (8, 20, 56), (0,),"),
                        ("EPOCHS, BATCH, RATE = 3,", "EPOCHS, BATCH, RATE = 1,"), ("ddof=1", "ddof=0")):
        assert whole in lesson
        lesson = lesson.replace(whole, part)
    (tmp_path / "lesson.py").write_text(lesson + '\nprint("device:", next(net.parameters()).device)\n')
    said = run("lesson.py", cwd=tmp_path)
    assert "device: cuda" in said and "exercise: still to do" in said


@pytest.mark.slow(reason="an epoch of training, with every kernel executed on the CPU: 20 s")
def test_an_epoch_of_training_agrees():
    from minidl import parity
    (row,) = [row for row in parity.rows() if row.kind == "training"]
    assert row.check() <= 1


def test_the_whole_suite_runs_a_second_time(tmp_path):
    workers = str(min(4, len(os.sched_getaffinity(0))))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--stand-in", "-n", workers, "-p", "no:cacheprovider"],
                          capture_output=True, text=True, check=False, cwd=CHECKOUT, timeout=1800)
    print(done.stdout[-1500:])
    assert done.returncode == 0, done.stdout[-5000:]
    (on_device,) = re.findall(r"^(\d+) tests had something on device 'cuda'$", done.stdout, re.M)
    assert int(on_device) > 2000, "the second run no longer puts on the device what the tests make"
