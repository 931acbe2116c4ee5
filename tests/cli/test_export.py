"""`minidl export`: what is refused, and what stands in the file."""
import importlib.util
import sys

import numpy as np
import pytest

import minidl
from minidl import Tensor, models
from minidl.cli.main import main
from minidl.interop import save

needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnx") is None,
                                reason="writes ONNX files: pip install -c constraints.txt -e '.[test,test-onnx]'")


def read(path):
    import onnx
    model = onnx.load(path)
    return model, {p.key: p.value for p in model.metadata_props}


@needs_onnx
def test_random_weights_are_named_as_such_and_repeat(tmp_path, capsys):
    paths = [tmp_path / f"{name}.onnx" for name in ("a", "b", "c")]
    for path, seed in zip(paths, "001"):
        assert main(["export", "Mini_VGG", str(path), "--width", "0.25", "--classes", "3", "--channels", "3", "--size", "32",
                     "--seed", seed]) == 0
    text = capsys.readouterr().out
    assert "The weights are random (seed 0)" in text
    assert "mini-vgg: images (N, 3, 32, 32) -> logits (N, 3)" in text
    assert f"22 nodes, opset 17, {paths[0].stat().st_size:,} bytes -> {paths[0]}" in text
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    metadata = read(paths[0])[1]
    assert metadata == {"network": "mini-vgg", "weights": "random, seed 0",
                        "options": '{"num_classes": 3, "in_channels": 3, "width": 0.25}'}


@needs_onnx
def test_weights_are_loaded_and_the_batch_may_be_fixed(tmp_path, capsys):
    minidl.manual_seed(3)
    net, weights, path = models.build("mini-resnet", width=0.25).eval(), tmp_path / "mine.safetensors", tmp_path / "net.onnx"
    save(net, weights)
    assert main(["export", "mini-resnet", str(path), "--weights", str(weights), "--option", "width=0.25", "--batch", "2"]) == 0
    text = capsys.readouterr().out
    assert "random" not in text
    assert "images (2, 1, 28, 28) -> logits (2, 10)" in text
    assert read(path)[1]["weights"] == "mine.safetensors"
    onnxruntime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
    (got,) = onnxruntime.InferenceSession(path).run(None, {"images": x})
    want = net(Tensor(x)).numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * abs(want).max())


@needs_onnx
@pytest.mark.parametrize("heads", [True, False])
def test_googlenets_weights_load_with_and_without_auxiliary_heads(heads, tmp_path, capsys):
    small = dict(width=1 / 32, num_classes=4, image_size=64)
    weights, path = tmp_path / "w.safetensors", tmp_path / "net.onnx"
    save(models.build("googlenet-torchvision", aux=heads, **small), weights)
    options = [f"--option={key}={value}" for key, value in small.items()]
    status = main(["export", "googlenet-torchvision", str(path), "--weights", str(weights), *options])
    assert status == 0, capsys.readouterr().err
    model, metadata = read(path)
    assert not [t.name for t in model.graph.initializer if t.name.startswith("aux")]
    assert '"transform_input": true' in metadata["options"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["vgg66", "net.onnx"], "there is no network called 'vgg66': did you mean vgg16"),
    (["net.onnx", "vgg16"], "the name must end in .onnx, got vgg16; the network's name comes first"),
    (["mini-vgg", "missing/net.onnx"], "there is no folder"),
    (["mini-vgg", "taken.onnx"], "is there already; choose another name, or --force"),
    (["mini-vgg", "net.onnx", "--option", "depth=3"], "mini-vgg has no option 'depth'"),
    (["mini-vgg", "net.onnx", "--option", "depth"], "must be KEY=VALUE"),
    (["mini-vgg", "net.onnx", "--option", "width=2", "--width", "3"], "width is given twice, as 3.0 and as 2"),
    (["fcn8s", "net.onnx", "--option", "image_size=64"], "fcn8s has no option 'image_size'"),
    (["mini-vgg", "net.onnx", "--size", "1x2x3"], "must be N or HEIGHTxWIDTH"),
    (["mini-vgg", "net.onnx", "--size", "4097"], "pixels from 1 to 4096, got '4097'"),
    (["mini-vgg", "net.onnx", "--option", "vgg16=3"], "mini-vgg has no option 'vgg16'"),
    (["mini-vgg", "net.onnx", "--width", "-1"], "width must be a factor"),
    (["mini-vgg", "net.onnx", "--size", "2"], "images 1x2x2 do not fit mini-vgg"),
    (["mini-vgg", "net.onnx", "--batch", "all"], "must be an integer, got 'all'; or the word dynamic"),
    (["mini-vgg", "net.onnx", "--batch", "0"], "must be at least 1, got 0; or the word dynamic"),
    (["mini-vgg", "net.onnx", "--weights", "missing.pth"], "missing.pth must be a file, but nothing is there"),
    (["mini-vgg", "net.onnx", "--weights", "taken.onnx"], "--weights: "),
    (["mini-vgg", "net.onnx", "--weights", "three.safetensors", "--classes", "4"], "does not fit mini-vgg"),
    (["mini-resnet", "net.onnx", "--weights", "three.safetensors", "--classes", "3"], "does not fit mini-resnet"),
])
def test_what_cannot_be_exported_is_refused_in_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.onnx").write_text("old")
    save(models.build("mini-vgg", num_classes=3), "three.safetensors")
    before = sorted(tmp_path.iterdir())
    assert main(["export", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "taken.onnx").read_text() == "old"


@needs_onnx
def test_a_net_of_any_image_size_is_exported_for_the_size_asked_for(tmp_path, capsys):
    assert main(["export", "fcn32s", str(tmp_path / "net.onnx"), "--width", "0.05", "--size", "64"]) == 0
    assert "images (N, 3, 64, 64) -> scores (N, 21, 64, 64)" in capsys.readouterr().out


@needs_onnx
def test_force_replaces_the_file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("old")
    assert main(["export", "mini-vgg", str(path), "--width", "0.25", "--force"]) == 0
    assert path.read_bytes()[:3] != b"old"


@needs_onnx
def test_images_of_any_height_and_width_go_through_the_network_as_it_is(tmp_path, capsys):
    assert main(["export", "mini-resnet", str(tmp_path / "a.onnx"), "--width", "0.25", "--size", "36x44"]) == 0
    assert "images (N, 1, 36, 44) -> logits (N, 10)\n" in capsys.readouterr().out
    assert main(["export", "alexnet", str(tmp_path / "b.onnx"), "--width", "0.02", "--size", "99"]) == 0
    assert "images (N, 3, 99, 99) -> logits (N, 1000) (built for 99x99)" in capsys.readouterr().out
    assert '"image_size": 99' in read(tmp_path / "b.onnx")[1]["options"]


@needs_onnx
def test_weights_fix_the_network(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(models.build("alexnet", width=0.02, num_classes=7, image_size=99), "w.safetensors")
    small = ["export", "alexnet", "net.onnx", "--weights", "w.safetensors", "--width", "0.02"]
    assert main([*small, "--option", "image_size=99", "--size", "131"]) == 2
    error = capsys.readouterr().err
    assert "images 3x131x131 do not fit alexnet" in error and "say --option image_size=131" in error
    assert main([*small, "--size", "99"]) == 2
    assert "--option num_classes=... or width=... or in_channels=... or image_size=..." in capsys.readouterr().err
    assert main([*small, "--option", "image_size=99", "--size", "99"]) == 0


def test_the_weights_are_never_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(models.build("mini-vgg", width=0.25), "w.safetensors")
    (tmp_path / "w.onnx").symlink_to("w.safetensors")
    before = (tmp_path / "w.safetensors").read_bytes()
    assert main(["export", "mini-vgg", "w.onnx", "--weights", "w.safetensors", "--width", "0.25", "--force"]) == 2
    assert "OUT.onnx: w.onnx (the same file as w.safetensors) is read" in capsys.readouterr().err
    assert (tmp_path / "w.safetensors").read_bytes() == before


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    from minidl import interop

    def full(*_, **__):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(interop, "export_onnx", full)
    assert main(["export", "mini-vgg", str(tmp_path / "net.onnx"), "--width", "0.25"]) == 2
    error = capsys.readouterr().err
    assert "cannot write" in error and "(no space left on device)" in error and error.count("\n") == 1


def test_a_missing_onnx_is_answered_with_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "mini-vgg", str(tmp_path / "net.onnx")]) == 2
    assert "pip install 'minidl[onnx]'" in capsys.readouterr().err


@needs_onnx
def test_the_number_of_classes_is_read_off_the_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(models.build("mini-vgg", num_classes=3), "three.safetensors")
    assert main(["export", "mini-vgg", "net.onnx", "--weights", "three.safetensors"]) == 0
    assert "-> logits (N, 3)" in capsys.readouterr().out
