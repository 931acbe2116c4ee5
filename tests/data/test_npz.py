"""write_npz: the bytes depend on the arrays alone, and a file is whole or not there."""
import os
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from minidl.data import npz, write_npz

ARRAYS = {"b": np.arange(6, dtype=np.uint8).reshape(2, 3), "a": np.array([1.5, -2.0])}


def test_arrays_come_back_without_pickle_and_in_order(tmp_path):
    write_npz(tmp_path / "x.npz", ARRAYS)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as read:
        assert read.files == ["b", "a"]
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype == array.dtype


def test_the_same_arrays_give_the_same_bytes_at_any_time_and_in_any_memory_order(monkeypatch):
    first = npz.npz_bytes(ARRAYS)
    later = time.localtime(2_000_000_000)
    monkeypatch.setattr(time, "localtime", lambda *_: later)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert npz.npz_bytes({name: np.asfortranarray(array) for name, array in ARRAYS.items()}) == first


def test_entries_are_stored_with_a_fixed_date(tmp_path):
    write_npz(tmp_path / "x.npz", ARRAYS)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.compress_type == zipfile.ZIP_STORED and entry.create_system == 3


def test_a_file_that_was_there_is_replaced_and_nothing_else_is_left(tmp_path):
    (tmp_path / "x.npz").write_text("old")
    write_npz(tmp_path / "x.npz", ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    assert (tmp_path / "x.npz").read_bytes() == npz.npz_bytes(ARRAYS)


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch, where):
    (tmp_path / "x.npz").write_text("old")

    def full(*_):
        raise OSError("no space left on device")
    monkeypatch.setattr(os, where, full)
    with pytest.raises(OSError, match="no space"):
        write_npz(tmp_path / "x.npz", ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    assert (tmp_path / "x.npz").read_text() == "old"


@pytest.mark.parametrize("arrays, error, words", [
    ({"a": np.array([{}], dtype=object)}, TypeError, "'a' is a object array"),
    ({"a": np.zeros(2), "b": [1, 2]}, TypeError, "'b' is a list"),
    ({"a\0b": np.zeros(2)}, ValueError, "without a NUL"),
    ({"a": np.zeros(2), "n" * 70_000: np.zeros(2)}, ValueError, "names of at most 65,531 bytes.*70,000 characters"),
])
def test_what_would_need_pickle_is_refused_before_anything_is_written(tmp_path, arrays, error, words):
    with pytest.raises(error, match=words):
        write_npz(tmp_path / "x.npz", arrays)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="create .*nowhere first"):
        write_npz(tmp_path / "nowhere" / "x.npz", ARRAYS)


def test_names_of_any_kind_and_no_array_at_all_are_read_back(tmp_path):
    for arrays in ({}, {"file": np.zeros(2), "a/b": np.ones(2), "é": np.zeros(0), "n" * 65_531: np.ones(1)}):
        write_npz(tmp_path / "x.npz", arrays)
        with np.load(tmp_path / "x.npz", allow_pickle=False) as read:
            assert list(read.files) == list(arrays)


def test_the_arrays_are_not_in_memory_a_second_time(tmp_path):
    arrays = {"x": np.zeros(2**25, np.uint8), "y": np.zeros(2**25, np.uint8)}  # NumPy writes pieces of 2**24 bytes
    tracemalloc.start()
    write_npz(tmp_path / "x.npz", arrays)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


def test_a_number_stays_one(tmp_path):
    write_npz(tmp_path / "x.npz", {"x": np.array(3)})
    with np.load(tmp_path / "x.npz") as file:
        assert file["x"].shape == ()
