"""A zip file, read with suspicion.

.pth and .npz files are zips. A zip ends with a directory that says of each entry where it lies, how long it is, and how
long it will be once unpacked. A program that trusts these numbers can be made to fill the memory ("zip bomb": 4 kB that
unpack to 4 GB, or many names for the same bytes). Here all of them are checked before the first entry is read.
"""
import mmap
import struct
import sys
import zlib
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minidl.interop.account import NUMBER, SHELF, SLOT, Account

PACKED = ("weights cannot be packed that well: it is damaged, or made to fill the memory; save arrays that are mostly zeros "
          "with np.savez")

STORED, DEFLATED = 0, 8  # the two methods that NumPy writes; PyTorch stores


class Entry(NamedTuple):
    """Where an entry's bytes lie in the file (offset, packed), and what they are unpacked (size, crc)."""

    offset: int
    packed: int
    size: int
    method: int
    crc: int


def map_file(path: Path) -> memoryview:
    """The bytes of a file that is not empty; they come into memory when they are looked at."""
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class Archive:
    """The entries of a zip file by name. Errors: ValueError for what is damaged or claims more than it holds."""

    def __init__(self, data: memoryview, account: Account) -> None:
        self.data, self.account = data, account
        self.entries = _directory(data, account)
        self.room = 0  # for the largest packed entry so far: one is unpacked at a time

    def read(self, name: str) -> memoryview:
        """The bytes of an entry: a view of the file if they are stored, a new writable buffer if they were packed.

        Let go of one buffer before you ask for the next.
        """
        entry = self.entries[name]
        content = self.data[entry.offset:entry.offset + entry.packed]
        if entry.method == DEFLATED:
            self.account.charge(max(0, entry.size - self.room), PACKED)
            self.room = max(self.room, entry.size)
            content = _inflate(content, entry.size, name)
        if entry.crc and zlib.crc32(content) != entry.crc:  # 0: none was written
            raise ValueError(f"the entry {short(name)} is not what was written (its checksum differs): the file is damaged, "
                             "get it again")
        return content


def short(text: object, most: int = 80) -> str:
    """What a file says, fit for an error message: on one line, and not too long."""
    line = ascii(text if isinstance(text, (str, int, float, bool, type(None))) else type(text).__name__)
    return line if len(line) <= most else f"{line[:most]}..."


def _directory(data: memoryview, account: Account) -> dict[str, Entry]:
    count, size, start = _end_record(data)
    if start + size > len(data):
        raise ValueError(f"its directory claims {count} entries in bytes {start} to {start + size}, but the file has "
                         f"{len(data)} bytes: it is damaged, get it again")
    entries: dict[str, Entry] = {}
    starts, ends, here = array("q"), array("q"), start
    for _ in range(count):
        name, entry, header, here = _directory_entry(data, here)
        account.charge(SHELF + 4 * NUMBER + 4 * SLOT + sys.getsizeof(entry) + sys.getsizeof(name))
        if name in entries:
            raise ValueError(f"has two entries named {short(name)}, so which one holds is unclear: do not trust it")
        entries[name] = entry
        starts.append(header)
        ends.append(entry.offset + entry.packed)
    starts.append(start)
    if (np.sort(ends) > np.sort(starts)[1:]).any():  # one begins before as many have ended
        raise ValueError("has entries that overlap: it is damaged, or made to fill the memory")
    return entries


def _end_record(data: memoryview) -> tuple[int, int, int]:
    """(number of entries, bytes of the directory, where it starts), from the record at the end of the file."""
    tail = bytes(data[-65_557:])  # 22 bytes and a comment of at most 65535
    where = tail.rfind(b"PK\x05\x06")
    if where < 0 or len(tail) - where < 22 or len(tail) - where - 22 != _unpack("<H", tail, where + 20)[0]:
        raise ValueError("ends too early or too late for a zip file: the download was cut off, or joined with something; "
                         "get it again")
    count, size, start = _unpack("<HII", tail, where + 10)
    if 0xFFFF not in (count,) and 0xFFFFFFFF not in (size, start):
        return count, size, start
    # Too large for the old record: a second one in front of it has numbers of 8 bytes.
    locator = len(data) - len(tail) + where - 20
    if locator < 0 or bytes(data[locator:locator + 4]) != b"PK\x06\x07":
        raise ValueError("lacks the record that large zip files have: it is damaged, get it again")
    (record,) = _unpack("<Q", data, locator + 8)
    if bytes(data[record:record + 4]) != b"PK\x06\x06":
        raise ValueError("lacks the record that large zip files have: it is damaged, get it again")
    count, size, start = _unpack("<QQQ", data, record + 32)
    return count, size, start


def _directory_entry(data: memoryview, here: int) -> tuple[str, Entry, int, int]:
    """(name, entry, where its own header starts, where the next entry of the directory starts)"""
    (mark, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length, _, _, _,
     header) = _unpack("<4s6H3I5H2I", data, here)
    name_bytes = bytes(data[here + 46:here + 46 + name_length])
    extra = bytes(data[here + 46 + name_length:here + 46 + name_length + extra_length])
    size, packed, header = _large_numbers(extra, size, packed, header)
    own_mark, own_name_length, own_extra_length = _unpack("<4s22xHH", data, header)
    offset = header + 30 + own_name_length + own_extra_length
    own_name = bytes(data[header + 30:header + 30 + own_name_length])
    name = name_bytes.decode("utf-8", "replace")
    if mark != b"PK\x01\x02" or own_mark != b"PK\x03\x04" or own_name != name_bytes or offset + packed > len(data):
        raise ValueError(f"its directory does not fit what it lists (at {short(name)}): it is damaged, get it again")
    if flags & 1 or method not in (STORED, DEFLATED) or (method == STORED and packed != size):
        raise ValueError(f"its entry {short(name)} is encrypted or packed in a way that neither PyTorch nor NumPy writes; "
                         "unpack it and save the weights again")
    return name, Entry(offset, packed, size, method, crc), header, here + 46 + name_length + extra_length + comment_length


def _large_numbers(extra: bytes, *numbers: int) -> list[int]:
    """Numbers that need more than 4 bytes are written as 0xFFFFFFFF, and in an extra field with tag 1."""
    here = 0
    wide: list[int] = []
    while here + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, here)
        if tag == 1:
            field = extra[here + 4:here + 4 + length]
            wide = [value for (value,) in struct.iter_unpack("<Q", field[:len(field) // 8 * 8])]
        here += 4 + length
    return [wide.pop(0) if number == 0xFFFFFFFF and wide else number for number in numbers]


def _inflate(packed: memoryview, size: int, name: str) -> memoryview:
    """Unpacks piece by piece into a buffer of the claimed size, and never beyond."""
    content, filled = memoryview(bytearray(size)), 0
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for start in range(0, len(packed), 1 << 16):
            rest = bytes(packed[start:start + (1 << 16)])
            while rest:
                piece = machine.decompress(rest, 1 << 16)
                if filled + len(piece) > size:
                    raise ValueError(f"the entry {short(name)} unpacks to more than the {size} bytes that it claims: "
                                     "it is damaged, or made to fill the memory")
                content[filled:filled + len(piece)] = piece
                filled += len(piece)
                rest = machine.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"the entry {short(name)} cannot be unpacked ({error}): the file is damaged, get it again") from None
    if filled != size or not machine.eof:
        raise ValueError(f"the entry {short(name)} unpacks to {filled} bytes, not the {size} that it claims: "
                         "the file is damaged, get it again")
    return content


def _unpack(form: str, data: bytes | memoryview, here: int) -> tuple:
    if here < 0 or here + struct.calcsize(form) > len(data):
        raise ValueError("points beyond its own end: it is damaged, get it again")
    return struct.unpack_from(form, data, here)
