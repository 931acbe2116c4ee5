"""Saving and loading: what goes in comes out, what does not fit is refused, mistakes are told apart."""
import json
import os
import struct
import subprocess
import sys
import tarfile
import tracemalloc

import numpy as np
import pytest
from pth_writer import View, zip_of, zip_pth

import minidl
from minidl import nn
from minidl.interop import load, read_metadata, save

DTYPES = ["bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
SHAPES = [(), (0,), (1,), (5,), (2, 3), (3, 0, 2), (2, 1, 3, 4)]


def arrays():
    rng = np.random.default_rng(0)
    return {f"{dtype} {shape}": (rng.normal(size=shape) if dtype[0] == "f" else rng.integers(0, 2, shape)).astype(dtype)
            for dtype in DTYPES for shape in SHAPES}


def assert_same(got, want):
    assert got.keys() == want.keys()
    for name, x in want.items():
        assert got[name].dtype == x.dtype.newbyteorder("=") and got[name].shape == x.shape, name
        np.testing.assert_array_equal(got[name], x, err_msg=name)
        assert got[name].flags.writeable


def test_every_dtype_and_shape_survives(tmp_path):
    save(arrays(), tmp_path / "x.safetensors")
    assert_same(load(tmp_path / "x.safetensors"), arrays())


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_numpys_own_files_are_read(tmp_path, write):
    want = arrays()
    want["fortran"] = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    want["big endian"] = np.arange(5, dtype=">i4")
    write(tmp_path / "x.npz", **want)
    assert_same(load(tmp_path / "x.npz"), want)


def test_the_format_is_safetensors(tmp_path):
    from safetensors.numpy import load_file
    save(arrays(), tmp_path / "x.safetensors", {"trained on": "digits", "epoch": "3"})
    assert_same(load_file(tmp_path / "x.safetensors"), arrays())
    assert read_metadata(tmp_path / "x.safetensors") == {"trained on": "digits", "epoch": "3"}


def test_what_safetensors_writes_is_read(tmp_path):
    from safetensors.numpy import save_file
    save_file(arrays(), tmp_path / "x.bin")
    assert_same(load(tmp_path / "x.bin"), arrays())
    assert read_metadata(tmp_path / "x.bin") == {}


@pytest.mark.oracle
def test_pytorchs_bfloat16_in_safetensors_is_widened(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file
    x = torch.arange(-2**15, 2**15).to(torch.int16).view(torch.bfloat16)
    save_file({"x": x}, tmp_path / "x.safetensors")
    got = load(tmp_path / "x.safetensors")["x"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, x.float().numpy())
    save({"w": np.arange(6.0).reshape(2, 3)}, tmp_path / "y.safetensors")
    assert torch.equal(load_file(tmp_path / "y.safetensors")["w"], torch.arange(6.0).double().reshape(2, 3))


def test_bfloat16_is_widened(tmp_path):
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header + b"\xc0\x3f\x00\xc0")
    x = load(tmp_path / "x")["x"]
    assert x.dtype == np.float32 and x.tolist() == [1.5, -2.0]


def test_a_net_travels_with_its_buffers(tmp_path):
    def make():
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 3))
    net, other = make(), make()
    net(minidl.Tensor(np.random.default_rng(0).normal(size=(2, 1, 5, 6)).astype(np.float32)))
    save(net, tmp_path / "net.safetensors")
    state = load(tmp_path / "net.safetensors")
    assert state["1.num_batches_tracked"].shape == () and state["1.num_batches_tracked"] == 1
    other.load_state_dict(state)
    assert_same(other.state_dict(), net.state_dict())


def test_strided_foreign_endian_scalar_and_tensor_values_are_saved_as_they_read(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    state = {"transposed": x.T, "stepped": x[::-1, ::2], "big": np.arange(3, dtype=">f8"), "number": np.float32(2.5),
             "fortran": np.asfortranarray(x), "expanded": np.broadcast_to(x[0, :1], (3, 2))}
    save({**state, "tensor": minidl.Tensor(x), "parameter": nn.Parameter(x)}, tmp_path / "x.safetensors")
    got = load(tmp_path / "x.safetensors")
    for name in ("tensor", "parameter"):
        np.testing.assert_array_equal(got.pop(name), x)
    assert_same(got, {name: np.asarray(x) for name, x in state.items()})


X = np.zeros(2, np.float32)


@pytest.mark.parametrize(("state", "error", "words"), [
    ({"x": np.zeros(2, np.complex64)}, TypeError, "'x' has the dtype complex64"),
    ({"x": np.array([{}])}, TypeError, "'x' has the dtype object"),
    ({"x": np.array(["a"])}, TypeError, "has the dtype <U1"),
    ({"x": np.zeros(2, np.longdouble)}, TypeError, "has the dtype float128|has the dtype longdouble"),
    ({"x": [1, 2]}, TypeError, "must be an array or a Tensor, got list"),
    ({"x": None}, TypeError, "got NoneType"),
    ({1: X}, TypeError, r"names are text, got 1 \(int\)"),
    ({"": X}, ValueError, "needs a name"),
    ({"__metadata__": X}, ValueError, "needs a name other than '__metadata__'"),
    ([X], TypeError, "needs a Module or a mapping"),
    (X, TypeError, "pass net or net.state_dict"),
])
def test_what_cannot_be_saved_is_refused_before_the_file_is_touched(tmp_path, state, error, words):
    path = tmp_path / "x.safetensors"
    path.write_text("old")
    with pytest.raises(error, match=f"save: .*{words}"):
        save(state, path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["net.pth", "net.NPZ", "net.onnx"])
def test_an_ending_must_not_promise_another_form(tmp_path, name):
    with pytest.raises(ValueError, match="call it net.safetensors"):
        save({"x": X}, tmp_path / name)
    save({"x": X}, tmp_path / "net")
    assert list(load(tmp_path / "net")) == ["x"]


def test_metadata_must_be_text(tmp_path):
    with pytest.raises(TypeError, match="maps text to text"):
        save({"x": X}, tmp_path / "x.safetensors", {"epoch": 3})


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save({"x": X}, path)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        save({"y": X}, path)
    assert list(load(path)) == ["x"] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"),
    (b"\n  <!DOCTYPE html><html>404", "is a web page"),
    (b"<html>", "is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "pointer of git-lfs.*git lfs pull"),
    (b"\x1f\x8b\x08\x00" + b"x" * 50, "packed file.*unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY\x01\x00", "single array"),
    (b"\x80\x04K\x01.", "plain pickle"),
    (b"hello, these are my weights", "no file of weights that minidl knows"),
    (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "claims a header of 16 bytes"),
    (struct.pack("<Q", 2**62) + b"{}", "claims a header of"),
    (struct.pack("<Q", 2) + b"{x", "not sound as a safetensors file"),
    (struct.pack("<Q", 3 * 2**20) + b"{" + b" " * 2**22, "header is no list of tensors at character 1"),
    (zip_of({"a.npy": b"\x93NUMPY\x01\x00\x05\x00hello"}), "'a': is no array of plain numbers"),
    (zip_of({"a.npy": b"hello"}), "not an array in NumPy's"),
    (zip_of({"word/document.xml": b"x"}), "of neither PyTorch nor NumPy"),
    (zip_of({"a.npy": b"\0" * 10**6}, method=8), "arrays and objects of more than .*cannot be packed that well.*np.savez"),
])
def test_files_that_people_take_for_weights_are_told_apart(tmp_path, content, words):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    for read in (load, read_metadata) if b"PK" not in content else (load,):
        with pytest.raises(ValueError, match=words) as caught:
            read(path)
        assert str(caught.value).startswith(f"{read.__name__}: {path}: ") and "\n" not in str(caught.value)


def test_a_missing_file_a_folder_a_tar_and_a_device_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*gone; is the name or the folder misspelt"):
        load(tmp_path / "gone")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        load(tmp_path)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(__file__, "x")
    with pytest.raises(ValueError, match="tar archive, the form of PyTorch 0.1"):
        load(tmp_path / "x.tar")
    with pytest.raises(ValueError, match="device or a pipe"):
        load("/dev/null")


@pytest.mark.parametrize(("levels", "is_read"), [(2, False), (5, False), (30, True), (256, True)])
def test_memory_for_a_packed_npz_stays_below_four_times_the_file(tmp_path, levels, is_read):
    """Fewer levels pack better: 5 to a third. While an array is unpacked, its bytes are there twice."""
    x = np.random.default_rng(0).integers(0, levels, (4000, 1000)).astype(np.uint8)
    np.savez_compressed(tmp_path / "x.npz", x=x)
    got, error = None, ""
    tracemalloc.start()
    try:
        got = load(tmp_path / "x.npz")["x"]
    except ValueError as refusal:
        error = str(refusal)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 4 * (tmp_path / "x.npz").stat().st_size + 2**20
    assert np.array_equal(got, x) if is_read else "cannot be packed that well" in error


def test_objects_in_an_npz_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(2), b=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"'b': has the dtype '\|O'"):
        load(tmp_path / "x.npz")


W = np.arange(3, dtype=np.float32)


@pytest.mark.parametrize(("tree", "key", "found"), [
    ({"w": W}, None, ["w"]), ({}, None, []),
    ({"epoch": 1, "state_dict": {"a": W}}, None, ["a"]),
    ({"model": {"a": W}, "ema": {"b": W}}, None, ["a"]),
    ({"epoch": 1, "generator": {"a": W}, "empty": {}, "optimizer": {"state": {0: {"m": W}}}}, None, ["a"]),
    ({"netG": {"a": W}, "netD": {"b": W}}, "netD", ["b"]),
])
def test_the_state_dict_of_a_checkpoint_is_found(tmp_path, tree, key, found):
    (tmp_path / "x.pth").write_bytes(zip_pth(tree))
    assert list(load(tmp_path / "x.pth", key)) == found


@pytest.mark.parametrize(("tree", "key", "words"), [
    ({"netG": {"a": W}, "netD": {"b": W}}, None,
     r"more than one state dict; it holds {'netG': 1 arrays, .*}; choose one by its key, such as 'netG'$"),
    ({"model": {"a": W}, "state_dict": {"b": W}}, None, "more than one state dict"),
    ({"epoch": 1}, None, "no state dict.*{'epoch': int}"),
    ({"w": W, "epoch": 1}, None, "no state dict"),
    ([W], None, "it holds a list"),
    (W, None, "it holds a ndarray"),
    ({0: W}, None, "no state dict"),
    ({"epoch": 1, "m": {"a": W}}, "epoch", "no arrays by name under the key 'epoch'"),
    ({"epoch": 1, "m": {"a": W}}, "none", "no arrays by name under the key 'none'"),
])
def test_a_checkpoint_that_leaves_doubt_is_listed(tmp_path, tree, key, words):
    (tmp_path / "x.pth").write_bytes(zip_pth(tree))
    with pytest.raises(ValueError, match=words):
        load(tmp_path / "x.pth", key)


def test_a_key_is_for_checkpoints_only(tmp_path):
    save({"x": X}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="no parts to choose from; leave out the key 'model'"):
        load(tmp_path / "x.safetensors", key="model")


def test_what_a_file_says_cannot_break_an_error_message(tmp_path):
    long = "\x1b[2J\n" + "x" * 5000
    (tmp_path / "x.pth").write_bytes(zip_pth({long: View("0", 1, 5, (1,), (1,))}, {"0": b"1234"}))
    (tmp_path / "y.pth").write_bytes(zip_pth({long: {"a": W}, long + "x": {"a": W}}))
    for name, words in (("x.pth", "tensor "), ("y.pth", "choose one by its key")):
        with pytest.raises(ValueError, match=words) as caught:
            load(tmp_path / name)
        assert len(str(caught.value).replace(str(tmp_path), "")) < 600 and str(caught.value).isprintable()


@pytest.mark.parametrize("word", ["null", "{}"])
def test_notes_are_a_dict_even_where_the_file_has_none(tmp_path, word):
    header = f'{{"__metadata__": {word}}}'.encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header)
    assert read_metadata(tmp_path / "x") == {} and load(tmp_path / "x") == {}


def test_the_face_loads_them_on_demand():
    script = ("import sys, minidl; before = 'minidl.interop' in sys.modules; minidl.save; minidl.load; minidl.interop.read_pth;"
              "print(before, 'load' in dir(minidl), 'safetensors' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
    assert minidl.load is load and minidl.save is save


@pytest.mark.parametrize("length", [0x280, 0x480, 0x580, 0x8B1F, 0x3C20], ids=hex)
def test_a_header_whose_length_looks_like_another_form_is_read(tmp_path, length):
    """Its bytes come first: 80 04 would begin a pickle, 1f 8b a packed file, " <" a web page."""
    path = tmp_path / "x.safetensors"
    save({"x": X}, path)
    content = path.read_bytes()
    old = int.from_bytes(content[:8], "little")
    path.write_bytes(length.to_bytes(8, "little") + content[8 : 8 + old].ljust(length) + content[8 + old :])
    assert np.array_equal(load(path)["x"], X)
