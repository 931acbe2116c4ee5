"""Saving and loading weights: names and arrays, nothing that could run."""
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import is_array, to_numpy
from minidl.files import write_atomically
from minidl.interop.account import Account
from minidl.interop.archive import Archive, short
from minidl.interop.forms import NPZ, PTH_LEGACY, PTH_ZIP, SAFETENSORS, opened
from minidl.interop.npz import read_npz
from minidl.interop.pth import read_legacy, read_zip
from minidl.interop.safetensors_file import DTYPES, read_notes, read_safetensors
from minidl.nn import Module

OTHER_ENDINGS = {".pth", ".pt", ".npz", ".npy", ".onnx", ".pkl", ".h5"}
SAVED = set(DTYPES.values()) - {"bfloat16"}

# Where training scripts put the state dict in a checkpoint.
USUAL_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights")


def save(net_or_state: Module | Mapping[str, Any], path: str | os.PathLike[str],
         metadata: Mapping[str, str] | None = None) -> None:
    """Writes a net's state_dict(), or a mapping from names to arrays or Tensors, as a safetensors file.

    metadata: notes that travel along, text to text (`read_metadata`). A reader sees the old file or the new one, never half.
    Memory: a net's arrays are copied once before they are written, and so are arrays that are not contiguous (older versions
    of safetensors make one copy more, of all). Errors: TypeError, ValueError for what such a file cannot hold, before anything
    is written; OSError.
    """
    path = Path(path)
    if path.suffix.lower() in OTHER_ENDINGS:
        raise ValueError(f"save: writes the safetensors form, which the name {path.name!r} denies; "
                         f"call it {path.stem}.safetensors")
    if not isinstance(net_or_state, (Module, Mapping)):
        raise TypeError(f"save: needs a Module or a mapping from names to arrays, got {type(net_or_state).__name__}; "
                        "pass net or net.state_dict()")
    state = net_or_state.state_dict() if isinstance(net_or_state, Module) else net_or_state
    arrays = {name: _savable(name, value) for name, value in state.items()}
    notes = dict(metadata or {})
    if any(type(word) is not str for item in notes.items() for word in item):
        raise TypeError(f"save: metadata maps text to text, got {short(str(notes))}; convert numbers with str(...)")
    from safetensors.numpy import save_file
    write_atomically(path, lambda temporary: save_file(arrays, temporary, notes or None))


def load(path: str | os.PathLike[str], key: str | None = None) -> dict[str, np.ndarray]:
    """name -> array from a safetensors, .pth (either form) or .npz file, told apart by content. Runs nothing in it.

    A checkpoint holds more than weights; its state dict is found under one of the usual names, or as the only part that
    consists of arrays. `key` names the part where that is not enough. Names stay as they are; bfloat16 becomes float32.
    Memory: at most 4 times the size of the file, and 1 MiB. Errors: FileNotFoundError, IsADirectoryError; ValueError for
    every file that is damaged, hostile or something else.
    """
    with opened(path, "load") as (form, data):
        if form in (PTH_ZIP, PTH_LEGACY):
            return state_dict_in(read_zip(data) if form == PTH_ZIP else read_legacy(data), key)
        if key is not None:
            raise ValueError(f"is {form}, which has no parts to choose from; leave out the key {short(key)}")
        account = Account(len(data))
        return read_npz(Archive(data, account)) if form == NPZ else read_safetensors(data, account)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The notes in a safetensors file; {} for the other forms, which have none. Errors: those of `load`."""
    with opened(path, "read_metadata") as (form, data):
        return read_notes(data, Account(len(data))) if form == SAFETENSORS else {}


def state_dict_in(tree: Any, key: str | None = None) -> dict[str, np.ndarray]:
    """The state dict in what `read_pth` gives. Errors: ValueError that lists what there is instead."""
    if key is not None:
        part = tree.get(key) if isinstance(tree, dict) else None
        if part is None or not _is_state(part):
            raise ValueError(f"has no arrays by name under the key {short(key)}; it holds {_contents(tree)}")
        return part
    if _is_state(tree):
        return tree
    parts = [name for name, part in tree.items() if _is_state(part) and part] if isinstance(tree, dict) else []
    found = [name for name in parts if name in USUAL_KEYS] or parts
    if len(found) != 1:
        which = "more than one state dict" if found else "no state dict, a dictionary from names to arrays"
        fix = f"choose one by its key, such as {short(found[0])}" if found else "in PyTorch, save model.state_dict()"
        raise ValueError(f"has {which}; it holds {_contents(tree)}; {fix}")
    return tree[found[0]]


def _savable(name: Any, value: Any) -> np.ndarray:
    """`value` as a contiguous array that safetensors can hold; 0-d stays 0-d."""
    if type(name) is not str:
        raise TypeError(f"save: names are text, got {short(name)} ({type(name).__name__}); use {short(str(name))}")
    if not name or name == "__metadata__":
        raise ValueError(f"save: an array needs a name other than {name!r}; call it what it is, such as 'conv1.weight'")
    x = value.numpy() if isinstance(value, Tensor) else np.asarray(value) if isinstance(value, np.generic) else value
    if not is_array(x):
        raise TypeError(f"save: {short(name)} must be an array or a Tensor, got {type(value).__name__}; "
                        "convert numbers and lists with np.asarray(...), PyTorch's tensors with .detach().numpy()")
    x = to_numpy(x)
    if x.dtype.name not in SAVED:
        raise TypeError(f"save: {short(name)} has the dtype {x.dtype}, but a file of weights holds real numbers, integers and "
                        "booleans; convert it, x.astype(np.float32)")
    return np.asarray(x, x.dtype.newbyteorder("="), order="C")  # not ascontiguousarray, which makes 0-d arrays 1-d


def _is_state(part: Any) -> bool:
    return isinstance(part, dict) and all(type(name) is str and isinstance(x, np.ndarray) for name, x in part.items())


def _contents(tree: Any) -> str:
    """What a checkpoint holds, in a line."""
    if not isinstance(tree, dict):
        return f"a {type(tree).__name__}"
    named = [f"{short(name, 40)}: {f'{len(part)} arrays' if _is_state(part) else type(part).__name__}"
             for name, part in list(tree.items())[:12]]
    return "{" + ", ".join(named) + (", ..." if len(tree) > 12 else "") + "}"
