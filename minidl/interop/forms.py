"""What is in a file of weights, told from its first bytes: the ending of a name promises nothing."""
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minidl.interop.account import Account
from minidl.interop.archive import Archive, map_file

SAFETENSORS = "a safetensors file"
PTH_ZIP = "a .pth file of PyTorch 1.6 or later"
PTH_LEGACY = "a .pth file of PyTorch before 1.6"
NPZ = "a NumPy .npz file"

# First bytes of what is often taken for weights, what that is, and what to do about it.
_STRANGERS = [
    (rb"version https://git-lfs", "is a pointer of git-lfs, not the weights themselves", "run git lfs pull where it is from"),
    (rb"\s*<", "is a web page, not weights", "open the address in a browser and look for the download link of the file itself"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf", "is a packed file (gzip, bzip2, xz, zstd, 7z)", "unpack it first"),
    (rb"(?s:.{257})ustar", "is a tar archive, the form of PyTorch 0.1 or something packed",
     "unpack it, or load it in PyTorch and save it again with torch.save"),
    (rb"\x89HDF", "is an HDF5 file (Keras)", "read it with h5py and save the arrays with minidl.save"),
    (rb"\x93NUMPY", "is a single array (.npy)", "read it with np.load; a net's weights are several arrays with names"),
    (rb"\x80[\x02-\x05]", "is a plain pickle, and opening one can run whatever program its author put in",
     "where you trust it, open it there and save the arrays with np.savez or minidl.save"),
]
_MAGIC = rb"\x80[\x02-\x05](?s:\x95.{8})?\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\."


@contextmanager
def opened(path: str | os.PathLike[str], who: str) -> Iterator[tuple[str, memoryview]]:
    """(form, bytes) of a file of weights. Every ValueError inside gets "who: path: " in front.

    Errors: FileNotFoundError, IsADirectoryError; ValueError for what is no file of weights.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{who}: there is no file {path}; is the name or the folder misspelt?")
    if path.is_dir():
        raise IsADirectoryError(f"{who}: needs a file, but {path} is a folder; name a file in it")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("is a device or a pipe, but weights are read from a file; save them as a file first")
        if path.stat().st_size == 0:
            raise ValueError("is empty: the download or the disk failed, get the file again")
        data = map_file(path)
        yield _form(data), data
    except ValueError as error:
        raise ValueError(f"{who}: {path}: {error}") from None


def _form(data: memoryview) -> str:
    head = bytes(data[:512])
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_form(Archive(data, Account(len(data))))
    if re.match(_MAGIC, head):
        return PTH_LEGACY
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= len(data) - 8:  # any length may begin like a stranger
        return SAFETENSORS
    for pattern, what, fix in _STRANGERS:
        if re.match(pattern, head):
            raise ValueError(f"{what}; {fix}")
    if head[8:9] == b"{":
        return SAFETENSORS
    raise ValueError("is no file of weights that minidl knows (safetensors, .pth, .npz): it is damaged, or something else")


def _zip_form(archive: Archive) -> str:
    names = list(archive.entries)
    if all(name.endswith(".npy") for name in names):
        return NPZ
    if any(name.split("/")[1:] == ["constants.pkl"] for name in names):
        raise ValueError("is a TorchScript program (torch.jit.save); load it with torch.jit.load and save its .state_dict() "
                         "with torch.save")
    if any(name.split("/")[1:] == ["data.pkl"] for name in names):
        return PTH_ZIP
    raise ValueError("is a zip file, but of neither PyTorch nor NumPy; if it holds a file of weights, unpack it first")
