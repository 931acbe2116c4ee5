"""Write .npz files whose bytes depend on the arrays alone, so that a hash can vouch for them."""
from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minidl.files import write_atomically

_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can hold
_LONGEST_NAME = 65_535 - len(".npy")


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to `path`; the same arrays give the same bytes on every run and machine.

    Entries carry a fixed date and are stored uncompressed, because compressed bytes change with the zlib version (git
    and wheels compress them anyway). A reader never sees half a file: it is written beside `path`, then renamed.
    Any name will do, also "file", which np.savez has no room for.

    Raises TypeError or ValueError for what would need pickle or has no place in a zip, before anything is written.
    """
    _check(arrays)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"write_npz: the folder of path must exist, but got {path}; create {path.parent} first")
    write_atomically(path, lambda temporary: _write(temporary, arrays))


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of the .npz that `write_npz` writes; np.load reads it with allow_pickle=False."""
    _check(arrays)
    buffer = io.BytesIO()
    _write(buffer, arrays)
    return buffer.getvalue()


def _check(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if "\0" in name or len(name.encode()) > _LONGEST_NAME:
            raise ValueError(f"write_npz: a zip holds names of at most {_LONGEST_NAME:,} bytes without a NUL among them, "
                             f"but got {len(name):,} characters, {name[:40]!r}...; choose another name")
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            got = f"{array.dtype} array" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"write_npz: each value is a NumPy array of numbers, but {name!r} is a {got}; "
                            f"give it a numeric dtype: object arrays need pickle, which can run code when loaded")


def _write(file: Path | io.BytesIO, arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", _NO_TIME)
            info.create_system = 3  # said to be Unix everywhere, or Windows would write another byte
            info.external_attr = 0o644 << 16
            info.file_size = array.nbytes  # nearly; from 2 GiB on, the entry needs numbers of 8 bytes
            with archive.open(info, "w") as entry:  # piece by piece, so that weights are not in memory twice
                np.lib.format.write_array(entry, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
