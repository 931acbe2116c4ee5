"""The IDX format of MNIST and its relatives (LeCun, http://yann.lecun.com/exdb/mnist/).

    bytes 0, 1   zero
    byte 2       type of the elements
    byte 3       number of dimensions D
    4 * D bytes  the dimensions, big-endian unsigned 32-bit
    the rest     the elements, big-endian, last dimension fastest
"""
from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, plain or gzipped (told apart by content, not by name), in this machine's byte order.

    MNIST images come as uint8 (N, 28, 28) with values 0..255, labels as uint8 (N,).

    Raises FileNotFoundError, and ValueError for a file that is not IDX, is cut short, or is longer than it says.
    """
    return parse_idx(read_maybe_gzipped(path), str(path))


def read_maybe_gzipped(path: str | Path) -> bytes:
    """The content of a file, unpacked if it is gzipped; a damaged gzip is a ValueError."""
    path = Path(path)
    if not path.is_file():
        what = "that is a folder" if path.is_dir() else "nothing is there"
        raise FileNotFoundError(f"read_idx: path is a file, but got {path} and {what}; check the spelling, "
                                f"and that the download finished")
    content = path.read_bytes()
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"read_idx: {path} is not a whole gzip file ({error}); it was probably cut short while it "
                         f"was downloaded: fetch it again") from None


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """The array in the unpacked bytes of an IDX file; `name` is what errors call it."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise ValueError(f"read_idx: an IDX file starts with 00 00, a type code and a number of dimensions, but {name} "
                         f"starts with {content[:4].hex(' ') or 'nothing'}; is it another format, or an error page "
                         f"saved by a browser?")
    dtype, ndim = np.dtype(_TYPES[content[2]]), content[3]
    start = 4 + 4 * ndim
    if ndim == 0 or len(content) < start:
        raise ValueError(f"read_idx: {name} has {len(content)} bytes, too few for the {ndim} dimensions that its "
                         f"header promises (at least 1 is needed); it was cut short: fetch it again")
    shape = tuple(int.from_bytes(content[4 + 4 * i:8 + 4 * i], "big") for i in range(ndim))
    expected = start + math.prod(shape) * dtype.itemsize  # Python integers: a hostile header cannot overflow them
    if len(content) != expected:
        fix = "it was cut short: fetch it again" if len(content) < expected else "is something appended to it?"
        raise ValueError(f"read_idx: {name} says shape {shape}, which takes {expected} bytes, "
                         f"but it has {len(content)}; {fix}")
    try:
        return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError:  # more dimensions, or a longer empty one, than NumPy knows
        raise ValueError(f"read_idx: {name} says shape {shape}, which no NumPy array can have; "
                         f"is it another format?") from None
