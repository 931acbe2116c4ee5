"""The safetensors form: 8 bytes of length, a header in JSON, the numbers.

    {"__metadata__": {"note": "..."}, "conv1.weight": {"dtype": "F32", "shape": [64, 3, 7, 7], "data_offsets": [0, 37632]}, ...}

The library of that name writes our files (`save`). Reading is done here, because a header turned into Python objects as a whole
takes ten times its size: ours is taken apart with one tensor's facts in memory at a time, and charged to an Account. The rule
is the library's: every byte behind the header belongs to exactly one array of exactly the right size.
"""
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.interop.account import NUMBER, SHELF, SLOT, TEXT, Account
from minidl.interop.archive import short
from minidl.interop.numbers import fill, in_memory, on_disk

# The form's words for dtypes.
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
          "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool"}
NOTES = "__metadata__"
_LONGEST_FACTS = 4096  # characters: 64 axes of 19 digits fit

_SPACE = r"[ \t\n\r]*+"
_STRING = r'"(?>[^"\\]++|\\.)*+"'
_MEMBER = re.compile(rf'{_SPACE}({_STRING}){_SPACE}:{_SPACE}(null|\{{(?>[^{{}}"]++|{_STRING})*+\}}){_SPACE}([,}}])', re.DOTALL)
_FLAT_TEXTS = re.compile(rf'null|\{{(?>{_SPACE}{_STRING}{_SPACE}:{_SPACE}{_STRING}{_SPACE},?+)*+{_SPACE}\}}', re.DOTALL)


def read_safetensors(data: memoryview, account: Account) -> dict[str, np.ndarray]:
    """name -> array. Errors: ValueError for a header or numbers that are not sound, and dtypes that NumPy lacks."""
    numbers = data[8 + _header_length(data):]
    arrays: dict[str, np.ndarray] = {}
    spans: list[tuple[int, int]] = []
    for name, facts in _members(data, account):
        if name == NOTES:
            continue
        dtype, shape, start, end = _facts(name, facts)
        if name in arrays:
            raise _unsound(f"two tensors are called {short(name)}")
        nbytes = math.prod(shape) * on_disk(dtype).itemsize
        if not 0 <= start <= end <= len(numbers) or nbytes != end - start:
            raise _unsound(f"{short(name)} takes {short(nbytes)} bytes, but lies at bytes {short(start)} to {short(end)} "
                           f"of {len(numbers)}")
        account.charge(SHELF + 2 * SLOT + 4 * NUMBER)  # in `arrays`, and in `spans`
        account.charge_array(len(shape), math.prod(shape) * in_memory(dtype).itemsize)
        spans.append((start, end))
        arrays[name] = np.empty(shape, in_memory(dtype))
        fill(arrays[name], np.ndarray(shape, on_disk(dtype), numbers[start:end]), dtype)
    spans.sort()
    covered = 0
    for start, end in spans:
        if start != covered:
            raise _unsound(f"bytes {covered} to {start} belong to no tensor, or to two")
        covered = end
    if covered != len(numbers):
        raise _unsound(f"bytes {covered} to {len(numbers)} belong to no tensor")
    return arrays


def read_notes(data: memoryview, account: Account) -> dict[str, str]:
    """The notes in the header; {} if it has none. Errors: ValueError."""
    for name, facts in _members(data, account):
        if name == NOTES:
            if not _FLAT_TEXTS.fullmatch(facts):
                raise _unsound("a note is not text")
            account.charge((SHELF + TEXT) * facts.count('"') // 2 + _width(facts) * len(facts))  # strings have two quotes
            return _parsed(facts) or {}
    return {}


def _members(data: memoryview, account: Account) -> Iterator[tuple[str, str]]:
    """(name, the JSON text of its facts), one after the other."""
    length = _header_length(data)
    account.charge(2 * length)
    raw = bytes(data[8:8 + length])
    if not raw.isascii():
        account.charge(4 * length)
    try:
        text = str(raw, "utf-8")
    except UnicodeDecodeError:
        raise _unsound("the header is not text (UTF-8)") from None
    del raw
    if not text.startswith("{"):
        raise _unsound("the header does not begin with {")
    at, more = 1, re.fullmatch(rf"\{{{_SPACE}\}}{_SPACE}", text) is None
    while more:
        member = _MEMBER.match(text, at)
        if member is None:
            raise _unsound(f"the header is no list of tensors at character {at}")
        at, more = member.end(), member[3] == ","
        account.charge(TEXT + _width(member[1]) * len(member[1]))
        yield _parsed(member[1]), member[2]
    if at > 1 and text[at:].strip(" \t\n\r"):
        raise _unsound(f"the header goes on behind its end, at character {at}")


def _facts(name: str, facts: str) -> tuple[str, list[int], int, int]:
    """(dtype, shape, first byte, byte behind the last) of one tensor."""
    info = _parsed(facts) if len(facts) <= _LONGEST_FACTS else None
    if type(info) is not dict or not info.keys() >= {"dtype", "shape", "data_offsets"}:
        raise _unsound(f"{short(name)} lacks a dtype, a shape or its place")
    word, shape, place = info["dtype"], info["shape"], info["data_offsets"]
    for row in (shape, place):
        if type(row) is not list or any(type(n) is not int or n < 0 for n in row):
            raise _unsound(f"the shape or the place of {short(name)} is no list of numbers from 0 on")
    if len(place) != 2:
        raise _unsound(f"the place of {short(name)} is no start and end")
    if type(word) is not str or word not in DTYPES or len(shape) > 64 or math.prod(n or 1 for n in shape) >= 2**60:
        raise ValueError(f"{short(name)} is {short(word)} of shape {short(str(shape))}, which minidl has no "
                         "arrays for; convert it to float32 before saving")
    return DTYPES[word], shape, *place


def _header_length(data: memoryview) -> int:
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise ValueError(f"claims a header of {length} bytes, but has {len(data) - 8}: the download was cut off, get it again")
    return length


def _width(text: str) -> int:
    """Bytes that a character of the parsed text may take, and take while it is parsed."""
    return 1 if text.isascii() and "\\" not in text else 5


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unsound(str(error)) from None


def _unsound(what: str) -> ValueError:
    return ValueError(f"is not sound as a safetensors file ({what}): it is damaged, get it again")
