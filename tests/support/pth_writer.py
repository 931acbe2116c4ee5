"""Writes .pth files as torch.save does, and as an attacker might, without PyTorch.

`program` turns Python objects into pickle instructions; arrays become tensors that refer to storages. Raw(instructions) is
put in as it stands, so that every instruction a test can think of may appear anywhere in an otherwise good file.
"""
import pickle
import struct
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

CLASSES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage",
           "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage", "bool": "BoolStorage"}
MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
LEGACY_HEAD = MAGIC + b"\x80\x02M\xe9\x03." + b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."


class Raw(bytes):
    """Instructions that leave one object on the stack."""


class View(NamedTuple):
    """A tensor described by hand: a storage, and which of its elements."""

    key: str
    numel: Any
    offset: Any
    size: tuple
    strides: tuple
    kind: str = "torch FloatStorage"


def word(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def program(thing: Any, storages: dict[str, bytes], legacy: bool = False) -> bytes:
    """Instructions that push `thing`; what the arrays hold is added to `storages`."""
    def of(thing: Any) -> bytes:
        match thing:
            case Raw():
                return bytes(thing)
            case None | True | False:
                return {None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}[thing]
            case int():
                data = thing.to_bytes(thing.bit_length() // 8 + 1, "little", signed=True)
                return pickle.LONG1 + bytes([len(data)]) + data
            case float():
                return pickle.BINFLOAT + struct.pack(">d", thing)
            case str():
                return word(thing)
            case View():
                return tensor(thing)
            case tuple():
                return pickle.MARK + b"".join(map(of, thing)) + pickle.TUPLE
            case list():
                return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(of, thing)) + pickle.APPENDS
            case Mapping():
                items = b"".join(of(key) + of(value) for key, value in thing.items())
                return (named("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.MARK + items
                        + pickle.SETITEMS)
            case np.ndarray():
                key = str(len(storages))
                storages[key] = np.asarray(thing, order="C").tobytes()
                strides = tuple(s // thing.itemsize for s in np.empty(thing.shape, thing.dtype).strides)
                return tensor(View(key, thing.size, 0, thing.shape, strides, f"torch {CLASSES[thing.dtype.name]}"))
        raise TypeError(type(thing))

    def tensor(view: View) -> bytes:
        pid = ("storage", Raw(named(*view.kind.split())), view.key, "cpu", view.numel, *([None] if legacy else []))
        hooks = Raw(named("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE)
        arguments = (Raw(of(pid) + pickle.BINPERSID), view.offset, view.size, view.strides, False, hooks)
        return named("torch._utils", "_rebuild_tensor_v2") + of(arguments) + pickle.REDUCE

    return of(thing)


def zip_pth(thing: Any, storages: dict[str, bytes] | None = None, folder: str = "archive", **others: bytes) -> bytes:
    """The bytes of a .pth of the zip form. `storages` holds what Views refer to; `others` are further entries."""
    contents = dict(storages or {})
    code = pickle.PROTO + b"\x02" + program(thing, contents) + pickle.STOP
    return zip_of({f"{folder}/data.pkl": code, **{f"{folder}/{name}": data for name, data in others.items()},
                   **{f"{folder}/data/{key}": data for key, data in contents.items()}})


def legacy_pth(thing: Any, storages: dict[str, bytes] | None = None, numels: Mapping[str, int] | None = None) -> bytes:
    """The bytes of a .pth of the legacy form; `numels` overrides the number of elements in front of a storage."""
    contents = dict(storages or {})
    code = pickle.PROTO + b"\x02" + program(thing, contents, legacy=True) + pickle.STOP
    sizes = {key: len(data) // 4 for key, data in contents.items()} | _numels(thing) | dict(numels or {})
    keys = sorted(contents)
    tail = pickle.dumps(keys, 2) + b"".join(struct.pack("<q", sizes[key]) + contents[key] for key in keys)
    return LEGACY_HEAD + code + tail


def _numels(thing: Any) -> dict[str, int]:
    arrays = []

    def look(part: Any) -> None:
        if isinstance(part, np.ndarray):
            arrays.append(part)
        elif isinstance(part, Mapping):
            [look(value) for value in part.values()]
        elif isinstance(part, (list, tuple)) and not isinstance(part, View):
            [look(value) for value in part]

    look(thing)
    return {str(k): array.size for k, array in enumerate(arrays)}


def zip_of(entries: Mapping[str, bytes] | list[tuple[str, bytes]], method: int = 0, claims: Mapping[str, int] | None = None,
           crc: bool = True) -> bytes:
    """A zip with these entries, in which `claims` may lie about their sizes."""
    body, directory, count = b"", b"", 0
    for name, data in entries.items() if isinstance(entries, Mapping) else entries:
        packed = data
        if method == 8:
            machine = zlib.compressobj(wbits=-15)
            packed = machine.compress(data) + machine.flush()
        size = (claims or {}).get(name, len(data))
        check = zlib.crc32(data) if crc else 0
        facts = struct.pack("<HHHIII", method, 0, 0, check, len(packed), size)
        encoded = name.encode()
        directory += (struct.pack("<4sHHH", b"PK\x01\x02", 20, 20, 0x800) + facts
                      + struct.pack("<5H2I", len(encoded), 0, 0, 0, 0, 0, len(body)) + encoded)
        body += struct.pack("<4sHH", b"PK\x03\x04", 20, 0x800) + facts + struct.pack("<HH", len(encoded), 0) + encoded + packed
        count += 1
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end
