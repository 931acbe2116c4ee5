"""read_idx: every type of the format, and every way to be broken."""
import gzip
import struct

import numpy as np
import pytest

from minidl.data import read_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    """What the format says, written down from its description and without the reader's code."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("packed", [False, True])
def test_an_array_comes_back_as_it_was_written(tmp_path, dtype, shape, packed):
    array = (np.random.default_rng(0).standard_normal(shape) * 100).astype("f8").astype(dtype, casting="unsafe")
    path = tmp_path / "file-without-a-telling-name"
    path.write_bytes(gzip.compress(idx_bytes(array), mtime=0) if packed else idx_bytes(array))
    read = read_idx(path)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(dtype) and read.dtype.isnative and read.flags.writeable


WHOLE = idx_bytes(np.arange(12, dtype="u1").reshape(3, 4))


@pytest.mark.parametrize("content, words", [
    (b"", "starts with nothing"),
    (WHOLE[:3], "starts with 00 00 08"),
    (b"<!DOCTYPE html>", "error page"),
    (b"\0\0\x07\x01" + WHOLE[4:], "00 00 07 01"),
    (b"\x01" + WHOLE[1:], "starts with 01 00"),
    (WHOLE[:9], "too few for the 2 dimensions"),
    (b"\0\0\x08\0", "too few for the 0 dimensions"),
    (WHOLE[:-1], "takes 24 bytes, but it has 23; it was cut short"),
    (WHOLE + b"x", "but it has 25; is something appended"),
    (b"\0\0\x08\x03" + b"\xff" * 12, "cut short"),
    (b"\0\0\x08" + bytes([200]) + b"\0\0\0\1" * 200 + b"x", "no NumPy array can have"),
    (b"\0\0\x08\x04" + b"\0" * 4 + b"\xff" * 12, "no NumPy array can have"),
    (gzip.compress(WHOLE, mtime=0)[:-5], "not a whole gzip file"),
    (gzip.compress(WHOLE, mtime=0)[:10] + b"\xff" * 30, "not a whole gzip file"),
    (b"\x1f\x8b", "not a whole gzip file"),
    (gzip.compress(WHOLE[:-1], mtime=0), "cut short"),
])
def test_a_broken_file_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "broken.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_idx(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_a_bad_checksum_inside_the_gzip_is_refused(tmp_path):
    content = bytearray(gzip.compress(WHOLE, mtime=0))
    content[-8] ^= 1
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(ValueError, match="not a whole gzip file"):
        read_idx(tmp_path / "a.gz")


@pytest.mark.parametrize("name, words", [("missing", "nothing is there"), ("", "that is a folder")])
def test_a_missing_file_or_a_folder_is_refused(tmp_path, name, words):
    with pytest.raises(FileNotFoundError, match=words):
        read_idx(str(tmp_path / name))
