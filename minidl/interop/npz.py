"""NumPy's .npz: a zip of .npy files, each a line of text about an array, and its bytes.

`np.load` is not used: it evaluates that line as a Python expression, and believes what the zip says about sizes.
"""
import math
import re
import struct
import sys

import numpy as np

from minidl.interop.account import SHELF, Account
from minidl.interop.archive import PACKED, Archive, short
from minidl.interop.numbers import fill, on_disk

_FIELDS = {"descr": r"'([<>|=]?[a-zA-Z]\d*)'", "fortran_order": r"(True|False)", "shape": r"\(([\d, ]*)\)"}
_KINDS = "?bhilqBHILQefd"  # the kinds of numbers that weights are made of, in NumPy's letters


def read_npz(archive: Archive) -> dict[str, np.ndarray]:
    """name -> array for every .npy file in the archive. Errors: ValueError for what is no array of plain numbers."""
    arrays: dict[str, np.ndarray] = {}
    for entry in archive.entries:
        name = entry.removesuffix(".npy")
        archive.account.charge(SHELF + sys.getsizeof(name))
        try:
            arrays[name] = _read_npy(archive.read(entry), archive.account)
        except ValueError as error:
            raise ValueError(f"{short(name)}: {error}") from None
    return arrays


def _read_npy(content: memoryview, account: Account) -> np.ndarray:
    head = bytes(content[:12])
    if head[:6] != b"\x93NUMPY" or len(head) < 12 or head[6] not in (1, 2, 3):
        raise ValueError("is not an array in NumPy's .npy form: save with np.savez(file, **arrays)")
    start, length = (10, struct.unpack_from("<H", head, 8)[0]) if head[6] == 1 else (12, struct.unpack_from("<I", head, 8)[0])
    text = bytes(content[start:start + min(length, 4096)]).decode("utf-8", "replace")  # NumPy writes 118 characters
    found = {name: re.search(f"'{name}': *{pattern}", text) for name, pattern in _FIELDS.items()}
    if not all(found.values()):
        raise ValueError(f"is no array of plain numbers ({short(text.strip())}): Python objects and records are not read, "
                         "since they may run code; convert it to a numeric dtype before saving")
    descr, order, sizes = (match[1] for match in found.values() if match)
    dtype, shape = _dtype(descr), tuple(int(size) for size in sizes.replace(",", " ").split())
    numbers = content[start + length:]
    if len(shape) > 64 or math.prod(shape) * dtype.itemsize != len(numbers) or math.prod(d or 1 for d in shape) >= 2**60:
        raise ValueError(f"claims {short(str(shape))} numbers of {dtype}, but has {len(numbers)} bytes for them: "
                         "the file is damaged, get it again")
    account.charge_array(len(shape), len(numbers), PACKED)
    array = np.empty(shape, dtype.newbyteorder("="))
    element = on_disk(dtype.name, ">" if dtype.byteorder == ">" else "<")
    fill(array, np.ndarray(shape, element, numbers, order="F" if order == "True" else "C"), dtype.name)
    return array


def _dtype(descr: str) -> np.dtype:
    try:
        dtype = np.dtype(descr)
    except TypeError:
        dtype = None
    if dtype is None or dtype.char not in _KINDS:
        raise ValueError(f"has the dtype {short(descr)}, but weights are real numbers, integers or booleans; "
                         "convert it before saving")
    return dtype
