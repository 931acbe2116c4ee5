"""The scripts that made the bundled files: same input, same bytes; other input, a clear refusal and no file."""
import gzip
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from minidl.data import bundled, datasets
from minidl.data.npz import npz_bytes


def script(name):
    path = bundled.find("datasets", f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fashion, digits = script("make_fashion_mnist_5k"), script("make_digits")
NAMES = list(fashion.SHA256)


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Four tiny IDX files, with the script told to expect them: 60 + 30 images of 2x2 whose pixels are their number."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for part, n in (("train", 60), ("t10k", 30)):
        numbers = np.arange(n, dtype=np.uint8) + (100 if part == "t10k" else 0)
        contents = {f"{part}-images-idx3-ubyte": np.repeat(numbers, 4).reshape(n, 2, 2),
                    f"{part}-labels-idx1-ubyte": np.arange(n, dtype=np.uint8) // (n // 10)}  # sorted, like the trap
        for name, array in contents.items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
            monkeypatch.setitem(fashion.SHA256, name, hashlib.sha256(idx_bytes(array)).hexdigest())
    monkeypatch.setattr(fashion, "TRAIN_IMAGES", 40)
    monkeypatch.setattr(fashion, "TEST_IMAGES", 20)
    return folder


def test_the_excerpt_is_balanced_shuffled_and_keeps_image_and_label_together(small):
    arrays = fashion.build(small)
    assert list(arrays) == ["train_images", "train_labels", "test_images", "test_labels"]
    for part, first, a_class in (("train", 0, 6), ("test", 100, 3)):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        numbers = images[:, 0, 0].astype(int) - first
        assert (numbers // a_class == labels).all() and (images == images[:, :1, :1]).all()
        assert len(set(numbers)) == len(numbers) and len(set(np.bincount(labels))) == 1
        assert (np.diff(labels.astype(int)) != 0).mean() > 0.6


def test_two_runs_write_the_same_bytes(small, tmp_path, capsys):
    for name in ("a.npz", "b.npz"):
        assert fashion.main([str(small), "--out", str(tmp_path / name)]) == 0
    content = (tmp_path / "a.npz").read_bytes()
    assert content == (tmp_path / "b.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() in capsys.readouterr().out


def test_unpacked_input_gives_the_same_arrays(small, tmp_path):
    expected = npz_bytes(fashion.build(small))
    for packed in list(small.iterdir()):
        (small / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    assert npz_bytes(fashion.build(small)) == expected


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-9])


def wrong_magic(path):
    path.write_bytes(gzip.compress(b"\1" + gzip.decompress(path.read_bytes())[1:]))


def other_content(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(content))


@pytest.mark.parametrize("spoil, words", [
    (cut_short, "not a whole gzip file"), (wrong_magic, "starts with 01"), (other_content, "should have sha256"),
    (Path.unlink, "nothing is there")])
@pytest.mark.parametrize("name", NAMES)
def test_a_spoiled_input_is_named_and_nothing_is_written(small, tmp_path, capsys, name, spoil, words):
    spoil(small / f"{name}.gz")
    assert fashion.main([str(small), "--out", str(tmp_path / "x.npz")]) == 1
    error = capsys.readouterr().err
    assert words in error and name in error
    assert [path.name for path in tmp_path.iterdir()] == ["idx"]


@pytest.mark.skipif(not Path(fashion.DEBIAN).is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_the_bundled_fashion_file_is_what_the_script_makes_of_debians_files():
    content = npz_bytes(fashion.build(Path(fashion.DEBIAN)))
    assert hashlib.sha256(content).hexdigest() == datasets.SHA256["fashion_mnist_5k.npz"]


def bundled_csv():
    """The csv that digits.npz came from, written again from the npz."""
    with np.load(bundled.find("datasets", "digits.npz"), allow_pickle=False) as arrays:
        rows = np.column_stack([arrays["images"].reshape(-1, 64), arrays["labels"]])
    return "".join(",".join(map(str, row)) + "\n" for row in rows.tolist()).encode()


@pytest.mark.parametrize("packed", [False, True])
def test_the_csv_gives_the_bundled_digits_byte_for_byte(tmp_path, packed, capsys):
    content = bundled_csv()
    (tmp_path / "digits.csv").write_bytes(gzip.compress(content) if packed else content)
    assert digits.main([str(tmp_path / "digits.csv"), "--out", str(tmp_path / "d.npz")]) == 0
    assert hashlib.sha256((tmp_path / "d.npz").read_bytes()).hexdigest() == datasets.SHA256["digits.npz"]


ROW = ",".join(["0"] * 64 + ["3"])


@pytest.mark.parametrize("text, words", [
    ("", "is empty"),
    (ROW + "\n" + ROW[2:], "row 2 has 64 fields"),
    (ROW.replace("0", "17", 1), "row 1 has 65"),
    (ROW[:-1] + "10", "row 1"),
    (ROW.replace("0", "-1", 1), "row 1"),
    ("\u00b2" + ROW[1:], "row 1"),
    (ROW, "should have sha256"),
])
def test_a_csv_that_is_not_the_digits_is_refused_and_nothing_is_written(tmp_path, capsys, text, words):
    (tmp_path / "digits.csv").write_text(text, encoding="utf-8")
    assert digits.main([str(tmp_path / "digits.csv"), "--out", str(tmp_path / "d.npz")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "d.npz").exists()
