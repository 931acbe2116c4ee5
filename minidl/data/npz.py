"""Write .npz files whose bytes depend on the arrays alone, so that a hash can vouch for them."""
from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minidl.files import write_atomically

_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can hold


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to `path`; the same arrays give the same bytes on every run and machine.

    Entries carry a fixed date and are stored uncompressed, because compressed bytes change with the zlib version (git
    and wheels compress them anyway). A reader never sees half a file: it is written beside `path`, then renamed.

    Raises TypeError or ValueError for what would need pickle, before anything is written.
    """
    content = npz_bytes(arrays)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"write_npz: the folder of path must exist, but got {path}; create {path.parent} first")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of the .npz that `write_npz` writes; np.load reads it with allow_pickle=False."""
    if not arrays:
        raise ValueError("write_npz: arrays names at least one array, but got none; pass {'name': array}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype.hasobject:
                got = f"{array.dtype} array" if isinstance(array, np.ndarray) else type(array).__name__
                raise TypeError(f"write_npz: each value is a NumPy array of numbers, but {name!r} is a {got}; "
                                f"give it a numeric dtype: object arrays need pickle, which can run code when loaded")
            entry = zipfile.ZipInfo(f"{name}.npy", _NO_TIME)
            entry.create_system = 3  # said to be Unix everywhere, or Windows would write another byte
            entry.external_attr = 0o644 << 16
            data = io.BytesIO()
            np.lib.format.write_array(data, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
            archive.writestr(entry, data.getvalue())
    return buffer.getvalue()
