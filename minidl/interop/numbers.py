"""How numbers lie in a file, and how they come into an array."""
from typing import Literal, TypeAlias

import numpy as np

ByteOrder: TypeAlias = Literal["<", ">"]

# What lies in a file as something else than it becomes: NumPy lacks bfloat16, the upper half of a float32, and a boolean's
# byte may hold more than 0 and 1.
_ON_DISK = {"bfloat16": "uint16", "bool": "uint8"}


def on_disk(dtype: str, byte_order: ByteOrder = "<") -> np.dtype:
    """The dtype of the elements in the file."""
    return np.dtype(_ON_DISK.get(dtype, dtype)).newbyteorder(byte_order)


def in_memory(dtype: str) -> np.dtype:
    """The dtype of the array that they become."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def fill(array: np.ndarray, numbers: np.ndarray, dtype: str) -> None:
    """Puts `numbers`, an array of on_disk(dtype), into an array of in_memory(dtype) and the same shape."""
    if dtype == "bfloat16":
        np.left_shift(numbers, 16, out=array.view(np.uint32), dtype=np.uint32)
    elif dtype == "bool":
        np.not_equal(numbers, 0, out=array)
    else:
        array[...] = numbers
