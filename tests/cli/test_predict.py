"""`minidl predict` from outside: the answers are the net's own, files are looked at first, one bad image stops nothing."""
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minidl
from minidl import models, nn
from minidl.autograd import Tensor
from minidl.cli import predict as command
from minidl.cli.arguments import key_and_value
from minidl.cli.main import main
from minidl.data import PREPROCESSINGS, read_image
from minidl.nn import init
from minidl.train import evaluating


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the test's files are, and the command is run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path, H=40, W=30, seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)).save(path)
    return str(path)


def make_net(name="mini-vgg", seed=0, **options):
    """A net whose batch norms have seen something, so that its modes differ, and whose scores are far apart."""
    minidl.manual_seed(seed)
    net, rng = models.build(name, **options), np.random.default_rng(seed)
    for key, buffer in net.named_buffers():
        if key.endswith("running_mean"):
            buffer[...] = rng.normal(0, 0.1, buffer.shape)
    last = last_layer(net)
    last.weight.data = rng.normal(0, 0.3, last.weight.shape).astype(np.float32)
    return net


def last_layer(net):
    """The one that makes the scores."""
    return [module for module in net.modules() if isinstance(module, nn.Linear)][-1]


def weights(path, net, change=lambda state: state):
    """`path`, after the net's weights were written there as .npz."""
    state = change(net.state_dict())
    with open(path, "wb") as file:
        np.savez(file, **state)
    return str(path)


def answers_by_hand(net, preprocessing, *paths):
    """(N, C) probabilities: one image at a time, in evaluation mode, softmax in float64."""
    rows = []
    with evaluating(net):
        for path in paths:
            scores = net(Tensor(preprocessing(read_image(path))[None])).numpy()[0].astype(float)
            rows.append(np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum())
    return np.array(rows)


def predict(*arguments, status=0, capsys=None):
    """Runs the command with --json and returns what it wrote."""
    assert main(["predict", *map(str, arguments), "--json", "out.json"]) == status
    return json.loads(Path("out.json").read_text())


def probabilities(record, image=0):
    """class -> probability of an image in the JSON record"""
    return {best["class"]: best["probability"] for best in record["images"][image]["predictions"]}


# --- the answers --------------------------------------------------------------------------------------------------------


def test_the_answers_are_those_of_the_net_in_evaluation_mode_best_first(folder, capsys):
    net = make_net()
    files = [picture("a.png"), picture("b.png", seed=1)]
    expected = answers_by_hand(net, PREPROCESSINGS["grey"], *files)
    record = predict("mini-vgg", "--weights", weights("w.npz", net), *files, "--top", "3")
    assert [answer["image"] for answer in record["images"]] == files
    for answer, row in zip(record["images"], expected):
        order = [best["class"] for best in answer["predictions"]]
        assert order == list(np.argsort(-row)[:3])
        np.testing.assert_allclose([best["probability"] for best in answer["predictions"]], row[order], rtol=1e-5)
        assert all(best["name"] is None for best in answer["predictions"])
    assert record["network"] == "mini-vgg" and record["failed"] == []
    assert record["preprocessing"] == {"name": "grey", "resize": 28, "crop": 28, "order": "grey", "scale": 1 / 255,
                                       "mean": [0.28587872], "std": [0.35340142]}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mini-vgg, weights w.npz; images: grey (shorter side 28, middle 28 x 28, grey)"
    assert lines[2:4] == ["a.png", "  probability  class"]
    best = record["images"][0]["predictions"][0]
    assert lines[4] == f"  {100 * best['probability']:9.2f} %  {best['class']:5}"
    assert lines[8] == "b.png" and len(lines) == 13


def test_names_stand_beside_the_numbers(folder, capsys):
    Path("names.txt").write_text("".join(f"thing {i}\n" for i in range(10)))
    record = predict("mini-vgg", "--weights", weights("w.npz", make_net()), picture("a.png"), "--classes", "names.txt")
    printed = capsys.readouterr().out.splitlines()[3:]
    assert printed[0].split() == ["probability", "class", "name"]
    for best, line in zip(record["images"][0]["predictions"], printed[1:]):
        assert best["name"] == f"thing {best['class']}"
        assert line.endswith(f" {best['class']:5}  thing {best['class']}")


def test_many_images_in_groups_give_what_each_gives_alone_and_one_twice_is_shown_once(folder):
    net = make_net()
    files = [picture(f"{i}.png", seed=i) for i in range(2 * command.GROUP + 1)]
    expected = answers_by_hand(net, PREPROCESSINGS["grey"], *files)
    record = predict("mini-vgg", "--weights", weights("w.npz", net), *files, files[0], "--top", "10")
    assert [answer["image"] for answer in record["images"]] == files
    for i, row in enumerate(expected):
        found = probabilities(record, i)
        np.testing.assert_allclose([found[c] for c in range(10)], row, rtol=1e-4)
        assert sum(found.values()) == pytest.approx(1)


def test_equal_probabilities_rank_in_order_of_their_classes_and_fewer_classes_than_top_are_all_shown(folder):
    net = make_net(num_classes=3)
    for p in last_layer(net).parameters():
        p.data = np.zeros(p.shape, np.float32)
    record = predict("mini-vgg", "--weights", weights("w.npz", net), picture("a.png"))
    assert list(probabilities(record)) == [0, 1, 2]


def test_scores_as_large_as_they_get_do_not_overflow(folder):
    net = make_net(num_classes=3)
    last_layer(net).weight.data = np.zeros(last_layer(net).weight.shape, np.float32)
    last_layer(net).bias.data = np.array([-1e30, 2e30, 0], np.float32)
    assert probabilities(predict("mini-vgg", "--weights", weights("w.npz", net), picture("a.png")))[1] == 1


# --- the weights --------------------------------------------------------------------------------------------------------

SMALL_ALEXNET = {"width": 0.05, "image_size": 67}
SMALL_GOOGLENET = {"width": 0.05, "image_size": 64}


def options_of(options):
    return [part for key, value in options.items() for part in ("--option", f"{key}={value}")]


@pytest.mark.parametrize("change", [
    lambda state: state, lambda state: dict(reversed(state.items())), lambda state: dict(sorted(state.items())),
    lambda state: {f"module.{key}": value for key, value in state.items()},
    lambda state: {key: value.astype(np.float64) for key, value in state.items()}],
    ids=["as saved", "backwards", "sorted", "module.", "float64"])
@pytest.mark.parametrize("name, options, classes", [("alexnet", SMALL_ALEXNET, 7), ("resnet20-cifar", {"width": 0.25}, 4)])
def test_the_number_of_classes_is_read_off_the_weights_in_whatever_order_they_are(folder, name, options, classes, change):
    net = make_net(name, num_classes=classes, **options)
    arguments = [name, "--weights", weights("w.npz", net, change), picture("a.png"), *options_of(options), "--top", "99"]
    record = predict(*arguments)
    assert len(probabilities(record)) == classes
    preprocessing = PREPROCESSINGS[command._usual(name, {})].for_size(net.image_size)
    row = answers_by_hand(net, preprocessing, "a.png")[0]
    np.testing.assert_allclose([probabilities(record)[c] for c in range(classes)], row, rtol=1e-4, atol=1e-6)
    assert record["options"] == {**options, "num_classes": classes}


def test_files_from_before_batches_were_counted_load(folder):
    def without_counters(state):
        return {key: value for key, value in state.items() if "num_batches" not in key}
    net = make_net()
    assert predict("mini-vgg", "--weights", weights("w.npz", net, without_counters), picture("a.png"))["images"]


@pytest.mark.parametrize("name, options, expected", [
    ("googlenet", {}, {"aux": False}), ("googlenet-torchvision", {}, {"aux": False, "transform_input": True}),
    ("googlenet", {"variant": "torchvision"}, {"aux": False, "transform_input": True}),
    ("googlenet-torchvision", {"transform_input": False}, {"aux": False, "transform_input": False}),
    ("googlenet-torchvision", {"in_channels": 1}, {"aux": False}),
    ("googlenet-torchvision", {"aux": True}, {"aux": True, "transform_input": True})])
def test_googlenet_leaves_its_heads_out_and_normalises_as_its_weights_want(folder, name, options, expected):
    size = {"width": 0.05, "image_size": 96}
    net = make_net(name, num_classes=6, aux=True, **size, **{k: v for k, v in options.items() if k != "aux"})
    given = [*options_of(size | options), *(["--preprocessing", "grey"] if "in_channels" in options else [])]
    record = predict(name, "--weights", weights("w.npz", net), picture("a.png", 120, 100), *given, "--top", "6")
    assert record["options"] == {**size, **options, **expected, "num_classes": 6}
    torchvision = expected.get("transform_input") is not None
    usual = "grey" if "in_channels" in options else "torchvision" if torchvision else "caffe"
    assert record["preprocessing"]["name"] == usual
    if torchvision:
        net.transform_input = expected["transform_input"]
    row = answers_by_hand(net, PREPROCESSINGS[usual].for_size(96), "a.png")[0]
    np.testing.assert_allclose([probabilities(record)[c] for c in range(6)], row, rtol=1e-3, atol=1e-6)


def bad_weights(folder):
    """The file of each name, that `--weights` refuses."""
    (folder / "text.npz").write_text("no weights")
    with zipfile.ZipFile(folder / "foreign.npz", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    weights(folder / "resnet.npz", make_net("mini-resnet"))
    weights(folder / "narrow.npz", make_net(width=3))
    weights(folder / "empty.npz", make_net(), change=lambda state: {})
    weights(folder / "lacking.npz", make_net(), change=lambda state: dict(list(state.items())[:-1]))
    (folder / "folder.npz").mkdir()


@pytest.mark.parametrize("file, words", [
    ("missing.npz", "--weights: missing.npz must be a file, but nothing is there"),
    ("folder.npz", "--weights: folder.npz must be a file, but that is a folder"),
    ("text.npz", "--weights: "), ("foreign.npz", "--weights: "), ("empty.npz", "w"),
    ("resnet.npz", r"--weights: resnet.npz does not fit mini-vgg: .*missing: .*\.\.\. and \d+ more; likely fix: "),
    ("narrow.npz", "--weights: narrow.npz does not fit mini-vgg: .*misshapen: .*give the options that they were trained with"),
    ("lacking.npz", "--weights: lacking.npz does not fit mini-vgg: .*missing: .*bias"),
])
def test_weights_that_cannot_be_used_are_refused_in_one_line(folder, file, words, capsys):
    bad_weights(folder)
    assert main(["predict", "mini-vgg", "--weights", file, picture("a.png")]) == 2
    error = capsys.readouterr().err
    assert re.match(f"minidl predict: error: .*{words}", error)
    assert error.count("\n") == 1 and len(error) < 900


@pytest.mark.parametrize("name, theirs, words", [
    ("alexnet", "alexnet-torchvision", "did you mean alexnet-torchvision?"),
    ("googlenet-torchvision", "googlenet", "did you mean googlenet?"),
    ("vgg11", "vgg11-bn", "did you mean vgg11-bn?"),
    ("resnet32-cifar", "resnet20-cifar", "did you mean resnet20-cifar?"),
    ("mini-vgg", "mini-resnet", "name the network whose weights they are")])
def test_weights_of_a_relative_are_recognised(folder, name, theirs, words, capsys):
    weights("w.npz", models.build(theirs, width=0.1))
    assert main(["predict", name, "--weights", "w.npz", picture("a.png"), "--option", "width=0.1"]) == 2
    error = capsys.readouterr().err
    assert words in error and "strict" not in error and error.count("\n") == 1
    assert main(["predict", name, "--weights", "w.npz", "a.png"]) == 2  # without the width, by the names alone
    assert words in capsys.readouterr().err


def test_weights_inside_something_else_are_told(folder, capsys):
    weights("w.npz", make_net(), lambda state: {"epoch": np.ones(1)} | {f"net.{key}": x for key, x in state.items()})
    assert main(["predict", "mini-vgg", "--weights", "w.npz", picture("a.png")]) == 2
    assert "save the part 'net' of the file alone" in capsys.readouterr().err


def test_weights_that_give_no_numbers_end_with_1(folder, capsys):
    net = make_net()
    last_layer(net).bias.data = np.full(10, np.nan, np.float32)
    assert main(["predict", "mini-vgg", "--weights", weights("w.npz", net), picture("a.png")]) == 1
    assert "w.npz: the scores are not finite" in capsys.readouterr().err


# --- the network and its options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, words", [
    (["resnt18"], "resnet18"), (["fcn8s"], "fcn8s names a class for every pixel"),
    (["mini-vgg", "--option", "wdth=2"], "width"), (["mini-vgg", "--option", "width=-1"], "width"),
    (["mini-vgg", "--option", "width=wide"], "error: mini-vgg: width must be a finite number, got 'wide'\n"),
    (["mini-vgg", "--option", "width=1", "--option", "width=2"], "given twice"),
    (["mini-vgg", "--preprocessing", "cifar"], "cifar makes images of 3 channel(s), but mini-vgg with in_channels=1 takes 1"),
    (["mini-vgg", "--size", "3"], "cannot take images of 3 x 3 (see --size"),
    (["mini-vgg", "--json", "missing/out.json"], "--json: there is no folder missing"),
])
def test_what_does_not_fit_together_is_refused_with_a_hint(folder, arguments, words, capsys):
    name, *rest = arguments
    assert main(["predict", name, "--weights", weights("w.npz", make_net()), picture("a.png"), *rest]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("minidl predict: error: ") and words in output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize("target", ["w.npz", "names.txt", "a.png", "./a.png", "link.json"])
def test_the_answers_never_replace_what_they_are_made_of(folder, target, capsys):
    weights("w.npz", make_net())
    picture("a.png")
    Path("names.txt").write_text("thing\n" * 10)
    Path("link.json").symlink_to("w.npz")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    given = ["mini-vgg", "--weights", "w.npz", "b.png", "a.png", "--classes", "names.txt", "--json", target]
    assert main(["predict", *given]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith(f"minidl predict: error: --json: {Path(target)}") and "must not be replaced" in error
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_a_full_disk_is_one_line(folder, monkeypatch, capsys):
    from minidl.cli import files

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(files, "write_atomically", full)
    given = ["mini-vgg", "--weights", weights("w.npz", make_net()), picture("a.png"), "--json", "out.json"]
    assert main(["predict", *given]) == 2
    assert capsys.readouterr().err == ("minidl predict: error: --json: cannot write out.json (no space left on device); "
                                       "choose another place\n")


@pytest.mark.parametrize("arguments, words", [
    (["--top", "0"], "must be at least 1"), (["--size", "9999"], "at most 4096"), (["--option", "width"], "must be KEY=VALUE"),
    (["--option", "=3"], "must be KEY=VALUE"), (["--option", "width="], "must be KEY=VALUE"),
    (["--preprocessing", "imagenet"], "invalid choice"), (["--device", "gpu"], "invalid choice"),
    (["--clases", "x"], "--classes"),
])
def test_wrong_words_are_usage_errors(arguments, words, capsys):
    assert main(["predict", "mini-vgg", "a.png", "--weights", "w.npz", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_network_needs_weights_and_images(capsys):
    for arguments, words in ((["mini-vgg", "a.png"], "--weights"), (["mini-vgg", "--weights", "w.npz"], "IMAGE")):
        assert main(["predict", *arguments]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("text, value", [
    ("k=3", 3), ("k=0.5", 0.5), ("k=true", True), ("k=False", False), ("k=torchvision", "torchvision"), ("k=1x1", "1x1"),
    ("k=a=b", "a=b"), ('k="3"', "3"), ("k=.25", 0.25), ("k=1.", 1.0), ("k=+3", 3), ("k=-2", -2), ("k=TRUE", True),
    ("k=1e-3", 0.001), ("k=[1, 2]", [1, 2]), ("k=" + "[" * 100_000, "[" * 100_000), ("k=Adam", "Adam")])
def test_an_option_is_what_it_looks_like(text, value):
    key, found = key_and_value(text)
    assert (key, found, type(found)) == ("k", value, type(value))


def test_a_network_is_found_as_the_zoo_finds_it(folder):
    record = predict("Mini_VGG", "--weights", weights("w.npz", make_net()), picture("a.png"))
    assert (record["network"], record["preprocessing"]["name"]) == ("mini-vgg", "grey")


def test_another_size_cuts_images_to_it(folder):
    net = make_net("resnet20-cifar", width=0.25)
    record = predict("resnet20-cifar", "--weights", weights("w.npz", net), picture("a.png"), "--option", "width=0.25",
                     "--size", "24", "--top", "10")
    row = answers_by_hand(net, PREPROCESSINGS["cifar"].for_size(24), "a.png")[0]
    np.testing.assert_allclose([probabilities(record)[c] for c in range(10)], row, rtol=1e-4)
    assert record["preprocessing"]["crop"] == 24


@pytest.mark.parametrize("name, options, expected", [
    ("alexnet", {}, "caffe-alexnet"), ("alexnet", {"variant": "torchvision"}, "torchvision"),
    ("alexnet-torchvision", {}, "torchvision"), ("googlenet", {}, "caffe"), ("googlenet-torchvision", {}, "torchvision"),
    ("vgg11", {}, "torchvision"), ("vgg16-bn", {}, "torchvision"), ("vgg-c", {}, "torchvision"),
    ("resnet50", {}, "torchvision"), ("resnet50-paper", {}, "caffe"), ("plain34", {}, "torchvision"),
    ("resnet20-cifar", {}, "cifar"), ("plain20-cifar", {}, "cifar"), ("mini-resnet", {}, "grey")])
def test_each_network_has_its_usual_preparation(name, options, expected):
    assert command._usual(name, options) == expected


def test_the_usual_preparation_fits_every_network_of_the_zoo():
    assert set(command.PREPROCESSINGS) == set(PREPROCESSINGS)
    for name in models.names():
        if name.startswith("fcn") or "1202" in name:
            continue
        with init.no_values():
            net = models.build(name)
        usual = PREPROCESSINGS[command._usual(name, {})]
        assert (usual.crop, usual.channels) == (net.image_size, net.in_channels), name


def test_a_device_that_is_not_there_is_refused(folder, capsys):
    from minidl.backend import to_device
    try:
        to_device(np.zeros(1), "cuda")
    except RuntimeError:
        weights("w.npz", make_net())
        assert main(["predict", "mini-vgg", "--weights", "w.npz", picture("a.png"), "--device", "cuda"]) == 2
        assert "--device: device 'cuda' needs CuPy" in capsys.readouterr().err


def test_every_device_gives_the_same_answers(folder, device):
    net = make_net()
    row = answers_by_hand(net, PREPROCESSINGS["grey"], picture("a.png"))[0]
    record = predict("mini-vgg", "--weights", weights("w.npz", net), "a.png", "--device", device, "--top", "10")
    np.testing.assert_allclose([probabilities(record)[c] for c in range(10)], row, rtol=1e-3)


# --- the images ---------------------------------------------------------------------------------------------------------


def test_bad_images_are_reported_and_the_others_are_done(folder, capsys):
    files = [picture(f"{i}.png", seed=i) for i in range(6)]
    Path("2.png").write_bytes(Path("2.png").read_bytes()[:200])
    Path("text.png").write_text("no image")
    Image.new("RGB", (120_000, 1)).save("snake.png")
    given = [*files[:3], "missing.png", "text.png", ".", "snake.png", *files[3:]]
    record = predict("mini-vgg", "--weights", weights("w.npz", make_net()), *given, status=1)
    assert [answer["image"] for answer in record["images"]] == [f for f in files if f != "2.png"]
    errors = capsys.readouterr().err.splitlines()
    expected = [("2.png", "cannot be decoded"), ("missing.png", "nothing is there"), ("text.png", "not in an image format"),
                (".", "that is a folder"), ("snake.png", "crop it first")]
    assert len(errors) == len(record["failed"]) == len(expected)
    for (name, words), line, failed in zip(expected, errors, record["failed"]):
        assert line.startswith(f"minidl predict: error: {name}: ") and words in line and not line.count(f"{name}: {name}")
        assert failed["image"] == name and failed["error"] in line


def test_when_no_image_can_be_read_the_json_is_written_all_the_same(folder):
    record = predict("mini-vgg", "--weights", weights("w.npz", make_net()), "missing.png", status=1)
    assert record["images"] == [] and len(record["failed"]) == 1


def test_without_pillow_it_says_how_to_install_it(folder, monkeypatch, capsys):
    file, arguments = picture("a.png"), ["--weights", weights("w.npz", make_net())]
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["predict", "mini-vgg", file, *arguments]) == 2
    assert "pip install pillow" in capsys.readouterr().err


# --- names of classes ---------------------------------------------------------------------------------------------------

PAIRS = {str(i): [f"n{i:08}", f"thing {i}"] for i in range(10)}


@pytest.mark.parametrize("content", [
    "\n".join(f"thing {i}" for i in range(10)), "\ufeff" + "\r\n".join(f"thing {i}  " for i in range(10)) + "\r\n\r\n",
    json.dumps([f"thing {i}" for i in range(10)]), json.dumps(PAIRS), json.dumps(dict(reversed(PAIRS.items()))),
    "  " + json.dumps(list(PAIRS.values())), json.dumps({str(i): f"thing {i}" for i in range(10)}, indent=1)])
def test_names_come_as_lines_or_json(folder, content):
    Path("names").write_bytes(content.encode())
    weights("w.npz", make_net())
    record = predict("mini-vgg", "--weights", "w.npz", picture("a.png"), "--classes", "names", "--top", "10")
    assert all(best["name"] == f"thing {best['class']}" for best in record["images"][0]["predictions"])


@pytest.mark.parametrize("content, words", [
    (b"", "names no class"), (b" \n\n", "names no class"), (b"[]", "names no class"), (b"one\ntwo\n", "each of the 10 classes"),
    (b"one\n\nthree\n" + b"x\n" * 8, "line 2 of names is empty"), (b"\xff\xfe\0", "UTF-8"),
    (b'{"0": "one"', "begins like JSON"), (b"[" * 100_000, "begins like JSON"),
    (b'{"tench": 0, "goldfish": 1}', '"0" to "1", but names has \'tench\''),
    (b'["one", 2]', "has 2 for class 1"), (b'[["n1", ""]]', "for class 0"), (b'["one", []]', "has [] for class 1"),
    (None, "cannot read names (no such file or directory)")])
def test_files_that_name_no_classes_are_refused(folder, content, words, capsys):
    if content is not None:
        Path("names").write_bytes(content)
    assert main(["predict", "mini-vgg", "--weights", weights("w.npz", make_net()), picture("a.png"), "--classes", "names"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minidl predict: error: --classes: ") and words in error
    assert len(error) < 500


# --- the screen ---------------------------------------------------------------------------------------------------------


def in_a_pipe(*arguments, **env):
    env = {**{k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}, **env}
    env["PYTHONPATH"] = str(Path(minidl.__file__).parents[1])
    return subprocess.run([sys.executable, "-m", "minidl", "predict", *arguments], capture_output=True, text=True, env=env,
                          timeout=120)


def test_odd_names_are_spelt_out_and_a_plain_terminal_is_enough(folder):
    Path("names.txt").write_text("x [bold]Käfer[/]\x1b[31m :smile:\n" * 10)
    files = [picture("[red]x.png"), picture("ä\n.png", seed=1)]
    arguments = ["mini-vgg", "--weights", weights("w.npz", make_net()), *files, "b\x1b.png", "--classes", "names.txt"]
    done = in_a_pipe(*arguments)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "\n[red]x.png\n" in done.stdout and "\nä\\n.png\n" in done.stdout
    assert done.stdout.count("  x [bold]Käfer[/]\\x1b[31m :smile:\n") == 10
    assert "b\\x1b.png: " in done.stderr
    done = in_a_pipe(*arguments, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 1 and done.stdout.isascii()
    assert "x [bold]K\\xe4fer" in done.stdout


def test_long_names_are_not_cut_and_pipes_get_no_progress(folder):
    Path("names.txt").write_text(("a name " * 30 + "end\n") * 10)
    files = [picture(f"{i}.png", seed=i) for i in range(2 * command.GROUP)]
    done = in_a_pipe("mini-vgg", "--weights", weights("w.npz", make_net()), *files, "--classes", "names.txt")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.count("a name " * 30 + "end\n") == 5 * len(files)
    assert "\r" not in done.stdout
