"""PyTorch's .pth files, read without PyTorch and without running what is in them.

A .pth is what `torch.save` wrote: a pickle (a program, see `unpickle.py`) that builds dictionaries and lists, and beside it
the numbers. The program does not hold the numbers but refers to them: "rebuild a tensor from storage 3, starting at element
0, of size (64, 3, 7, 7), with strides (147, 49, 7, 1)". Two forms are in use:

zip     PyTorch 1.6 and later. A zip file with archive/data.pkl (the program), archive/data/0, archive/data/1, ... (a
        storage each) and archive/byteorder. The folder may have any name.
legacy  before 1.6, such as torchvision's older files. Five pickles in a row (a magic number, the version 1001, facts about
        the machine, the program, the list of storages), then each storage: its length in 8 bytes, and its bytes.

A file that holds a whole model instead of its state_dict names the model's classes, and is refused: only PyTorch and the
model's own source could make sense of it. So is every other name that is not listed below.

Sizes, offsets and strides come from the file and are not trusted: each tensor is checked against its storage, and charged to
an Account, before an array is made.
"""
import math
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minidl.interop.account import NUMBER, SHELF, SLOT, TEXT, Account
from minidl.interop.archive import STORED, Archive, short
from minidl.interop.forms import PTH_LEGACY, PTH_ZIP, opened
from minidl.interop.numbers import ByteOrder, fill, in_memory, on_disk
from minidl.interop.unpickle import Machine, Name, set_item

SHARED = ("it is damaged, made to fill the memory, or has tensors that were expanded or share their numbers; "
          "save tensor.clone() of these")

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001

# Storage class -> the dtype of its elements.
DTYPES = {"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
          "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
          "ByteStorage": "uint8", "BoolStorage": "bool"}
STORAGES = {f"{module}.{name}": dtype for module in ("torch", "torch.cuda") for name, dtype in DTYPES.items()}
STORAGES["torch.storage.UntypedStorage"] = "uint8"
TENSOR_DTYPES = {f"torch.{dtype}": dtype for dtype in (*DTYPES.values(), "uint16", "uint32", "uint64")}
CALLS = {"collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device", "torch.nn.parameter.Parameter",
         "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3",
         "torch._utils._rebuild_parameter", "_codecs.encode", "numpy.dtype", "numpy.core.multiarray.scalar",
         "numpy._core.multiarray.scalar"}
NUMPY_DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
LITTLE = ("<", "|")
ALLOWED = CALLS | set(STORAGES) | set(TENSOR_DTYPES)

# Parts of names that say what kind of tensor it is that NumPy and minidl have no like of.
FOREIGN = {"Complex": "complex numbers", "QInt": "quantized tensors", "QUInt": "quantized tensors",
           "qtensor": "quantized tensors", "sparse": "sparse tensors", "nested": "nested tensors",
           "meta_tensor": "tensors without numbers (device 'meta')",
           "float8": "8-bit floats", "complex": "complex numbers"}


class Storage(NamedTuple):
    """What the program says of a storage: a row of numbers, kept elsewhere in the file."""

    key: str
    dtype: str
    numel: int
    claims: list["Claim"]

    @property
    def nbytes(self) -> int:
        """How many bytes it takes in the file."""
        return self.numel * on_disk(self.dtype).itemsize


class Claim(NamedTuple):
    """An array that waits for its storage's numbers: where they are in it, in elements."""

    array: np.ndarray
    dtype: str
    offset: int
    strides: tuple[int, ...]


def read_pth(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` was given, with NumPy arrays for tensors: a state_dict, or dicts and lists with such in them.

    bfloat16 comes as float32. Each array owns its numbers, even where tensors shared a storage. Errors: FileNotFoundError;
    ValueError for everything that is not a readable .pth.
    """
    with opened(path, "read_pth") as (form, data):
        if form not in (PTH_ZIP, PTH_LEGACY):
            raise ValueError(f"must be a file that torch.save wrote, but is {form}; minidl.load reads that")
        return read_zip(data) if form == PTH_ZIP else read_legacy(data)


def read_zip(data: memoryview) -> Any:
    """The form of PyTorch 1.6 and later."""
    account = Account(len(data))
    archive = Archive(data, account)
    if any(entry.method != STORED for entry in archive.entries.values()):
        raise ValueError("is a zip with packed entries, which torch.save never writes; load it in PyTorch and save it again")
    programs = [name for name in archive.entries if name.split("/")[1:] == ["data.pkl"]]
    if len(programs) != 1:
        raise ValueError(f"must have one program, data.pkl, but has {len(programs)}: it is damaged, get it again")
    folder = programs[0].removesuffix("data.pkl")
    byte_order = bytes(archive.read(folder + "byteorder")) if folder + "byteorder" in archive.entries else b"little"
    if byte_order not in (b"little", b"big"):
        raise ValueError(f"must say little or big of its byte order, not {short(str(byte_order))}: it is damaged, get it again")

    def check(storage: Storage) -> None:
        entry = archive.entries.get(f"{folder}data/{storage.key}")
        if entry is None or entry.size != storage.nbytes:
            has = "is missing" if entry is None else f"has {entry.size} bytes"
            raise ValueError(f"storage {short(storage.key)} must have {short(storage.nbytes)} bytes, but {has}: "
                             "the file is damaged, get it again")

    program = archive.read(programs[0])
    machine = TorchMachine(program, 0, account, check)
    result = machine.run()
    if machine.position != len(program):
        raise ValueError("has bytes behind the end of its program: it is damaged, get it again")
    for storage in machine.storages.values():
        fill_from(storage, archive.read(f"{folder}data/{storage.key}"), "<" if byte_order == b"little" else ">")
    return result


def read_legacy(data: memoryview) -> Any:
    """The form before PyTorch 1.6. Numbers are little-endian whatever machine wrote them."""
    def check(storage: Storage) -> None:
        if storage.nbytes > len(data):
            raise ValueError(f"storage {short(storage.key)} must have {short(storage.nbytes)} bytes, but the file has "
                             f"{len(data)}: it is damaged, get it again")

    account = Account(len(data))
    head = Machine(data, 0, account)
    for expected in (MAGIC, VERSION):
        number = head.run()
        if type(number) is not int or number != expected:
            raise ValueError("does not begin as torch.save begins a file: it is damaged, get it again")
    head.run()  # facts about the machine that wrote it
    machine = TorchMachine(data, head.position, account, check)
    result = machine.run()
    tail = Machine(data, machine.position, account)
    keys = tail.run()
    for key in keys if type(keys) is list else ():
        storage = machine.storages.pop(key, None) if type(key) is str else None
        if storage is None or tail.number("<q") != storage.numel:
            raise ValueError(f"has a storage {short(key)} that differs from what its program says: it is damaged, get it again")
        fill_from(storage, tail.take(storage.nbytes), "<")
    if machine.storages or tail.position != len(data):
        raise ValueError("has storages missing, or something behind the last one: it is damaged, get it again")
    return result


class TorchMachine(Machine):
    """The machine that knows what the names in weights stand for.

    An array is made when its tensor is met, and filled once all storages are known: in the legacy form they follow the program.
    `check` refuses a storage that the file cannot hold.
    """

    def __init__(self, data: memoryview, position: int, account: Account, check: Callable[[Storage], None]) -> None:
        super().__init__(data, position, account)
        self.check = check
        self.storages: dict[str, Storage] = {}

    def name(self, name: str) -> Name:
        if name not in ALLOWED:
            raise ValueError(refusal(name, alone=len(self.stack) == sum(type(below) is str for below in self.stack)))
        return Name(name)

    def fetch(self, key: Any) -> Storage:
        """("storage", class, key, device, number of elements), in the legacy form with one more, which is None."""
        if (type(key) is not tuple or len(key) not in (5, 6) or [type(part) for part in key[:3]] != [str, Name, str]
                or key[0] != "storage" or key[1] not in STORAGES or type(key[4]) is not int or key[4] < 0):
            raise ValueError("refers to something that is no storage: it is damaged, or not a file of weights")
        if len(key) == 6 and key[5] is not None:
            raise ValueError("has a storage that is part of another, as PyTorch before 0.4 wrote; load and save it there again")
        known = self.storages.get(key[2])
        storage = known or Storage(key[2], STORAGES[key[1]], key[4], [])
        if known is None:
            self.account.charge(SHELF + sys.getsizeof(storage) + sys.getsizeof(storage.claims))
            self.check(storage)
            self.storages[storage.key] = storage
        elif (storage.dtype, storage.numel) != (STORAGES[key[1]], key[4]):
            raise ValueError(f"says two different things of storage {short(storage.key)}: it is damaged, get it again")
        return storage

    def build(self, target: Any, state: Any) -> None:
        """Attributes are dropped: an OrderedDict's _metadata, an old Parameter's flags. A dtype's are the byte order."""
        if isinstance(target, np.dtype):
            if type(state) is tuple and len(state) > 1 and type(state[1]) is str and state[1] in LITTLE:
                return
        elif isinstance(target, (dict, np.ndarray)) and isinstance(state, (dict, tuple)):
            return
        raise ValueError("sets attributes of what has none: it is damaged, or not a file of weights")

    def call(self, function: Name, arguments: tuple) -> Any:
        """Our own answer to what the function would have given."""
        if len(arguments) <= 8:
            match (str(function), *arguments):
                case ("collections.OrderedDict" | "collections.Counter",):
                    return self.dictionary([])
                case ("collections.OrderedDict", list() as pairs):  # Python 2
                    return self.dictionary(pairs)
                case ("collections.Counter", dict() as counts):
                    return counts
                case ("torch.Size", tuple() as size):
                    return size
                case ("torch.device", str() as device, *_):
                    return device
                case ("torch._utils._rebuild_tensor", Storage() as storage, offset, size, strides):  # before 0.4
                    return self.tensor(storage, storage.dtype, offset, size, strides)
                case ("torch._utils._rebuild_tensor_v2", Storage() as storage, offset, size, strides, _, _):
                    return self.tensor(storage, storage.dtype, offset, size, strides)
                case ("torch._utils._rebuild_tensor_v3", Storage() as storage, offset, size, strides, _, _, Name() as dtype):
                    return self.tensor(storage, TENSOR_DTYPES.get(dtype, ""), offset, size, strides)
                case ("torch._utils._rebuild_parameter", np.ndarray() as array, _, _):
                    return array
                case ("torch.nn.parameter.Parameter", np.ndarray() as array, *_):  # before 1.0
                    return array
                case ("numpy.dtype", str() as descr, *_) if descr in NUMPY_DTYPES:
                    return np.dtype(f"<{descr}")  # one for each kind, however often
                case ("_codecs.encode", str() as text, str()):  # how Python 3 writes bytes for Python 2
                    self.account.charge(len(text) + TEXT)
                    return text.encode("latin-1", "replace")
                case ("numpy.core.multiarray.scalar" | "numpy._core.multiarray.scalar", np.dtype() as dtype, bytes() as raw):
                    if len(raw) == dtype.itemsize:
                        self.account.charge(NUMBER)
                        return np.frombuffer(raw, dtype)[0].item()
        raise ValueError(f"calls {function} with arguments that do not fit it: it is damaged, or has an unusual kind of tensor")

    def dictionary(self, pairs: list[Any]) -> dict:
        """The dict of a list of [key, value]."""
        made: dict = {}
        self.account.charge(sys.getsizeof(made))
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise ValueError("has a dictionary of something other than pairs: it is damaged, get it again")
            set_item(made, pair[0], pair[1], self.account)
        return made

    def tensor(self, storage: Storage, dtype: str, offset: Any, size: Any, strides: Any) -> np.ndarray:
        """An array of that size; its numbers follow. All arguments are checked, for they come from the file."""
        if (not dtype or type(size) is not tuple or type(strides) is not tuple or len(size) != len(strides) or len(size) > 64
                or any(type(number) is not int or number < 0 for number in (offset, *size, *strides))):
            raise ValueError(f"tensor {self.name_of_next()}: offset, size and strides must be numbers from 0 on, a stride per "
                             "size: the file is damaged, get it again")
        element = on_disk(dtype).itemsize
        end = offset + sum((n - 1) * stride for n, stride in zip(size, strides)) + 1 if 0 not in size else offset
        if end * element > storage.nbytes or math.prod(n or 1 for n in size) >= 2**60:
            raise ValueError(f"tensor {self.name_of_next()}: lies at elements {short(offset)} to {short(end)} of its storage, "
                             f"which has {storage.nbytes // element}: the file is damaged, get it again")
        self.account.charge_array(len(size), math.prod(size) * in_memory(dtype).itemsize, SHARED)
        array = np.empty(size, in_memory(dtype))
        # A stride along a single element is never taken, and may be any number in the file.
        claim = Claim(array, dtype, offset, tuple(s if n > 1 else 0 for n, s in zip(size, strides)))
        self.account.charge(sys.getsizeof(claim) + sys.getsizeof(claim.strides) + 2 * SLOT)
        storage.claims.append(claim)
        return array

    def name_of_next(self) -> str:
        """The name of the tensor being made, for errors only: its key waits on the stack, however far down."""
        return short(next((word for word in reversed(self.stack) if type(word) is str), ""))


def fill_from(storage: Storage, content: memoryview, byte_order: ByteOrder) -> None:
    """Puts the numbers of a storage, `content`, into the arrays that claim them."""
    for array, dtype, offset, strides in storage.claims:
        if not array.size:
            continue
        element = on_disk(dtype, byte_order)
        numbers = np.ndarray(array.shape, element, content, offset * element.itemsize,
                             [stride * element.itemsize for stride in strides])
        fill(array, numbers, dtype)


def refusal(name: str, alone: bool) -> str:
    """What to say of a name that is not allowed; `alone`: it is what the whole file is made from."""
    kind = next((kind for part, kind in FOREIGN.items() if part in name), "")
    if kind and name.startswith("torch."):
        return f"holds {kind} ({short(name)}), which minidl has no arrays for; convert them in PyTorch before saving"
    if name.startswith("torch.nn.") or (alone and name.rpartition(".")[2][:1].isupper()):
        return f"this file holds a whole model (class {short(name)}); load it in PyTorch once and save model.state_dict()"
    return (f"names {short(name)}, which is not among the names that weights need; nothing was imported or run. "
            "If you trust the file, load it in PyTorch once and save model.state_dict() alone")
