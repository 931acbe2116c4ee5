"""How much memory reading a file may take: an account that everything made from the file is charged to, before it is made.

A small file can ask for much: five bytes of a .pth program make one more tensor, fifty bytes of a safetensors header an empty
one, each with a name, a shape and a place in a dictionary; packed zeros unpack to a thousand times their size. So the size
of the file buys memory, at one price for numbers and for Python's objects alike.

The prices below are upper bounds of what CPython and NumPy take on a 64-bit machine, growing tables included.
"""
GROWTH = 4
"""Bytes of memory that each byte of the file buys. Weights need 1 (bfloat16, which NumPy lacks, 2), and some 2 kB a tensor."""

FOOTING = 2**20
"""Bytes on top, for files of many small tensors: names and shapes are most of those."""

READER = 128 * 2**10
"""How much of the footing is not for sale: the reader itself uses it (buffers, the end of a zip, an error's text)."""

SLOT = 24  # a place in a list: 9 bytes, and 8 in the list that it has just outgrown
SHELF = 96  # a place in a dictionary: 55 bytes in a table half full, 27 in the one that it has just outgrown
TEXT = 64  # a string, on top of its characters
NUMBER = 32
ARRAY = 128  # an array, on top of its numbers
AXIS = 16  # a size and a stride

DAMAGED = "it is damaged, or made to fill the memory"


class Account:
    """Counts the bytes that a file of `nbytes` makes us use."""

    def __init__(self, nbytes: int) -> None:
        self.most_numbers, self.numbers = GROWTH * nbytes, 0
        self.most, self.used = GROWTH * nbytes + FOOTING - READER, 0

    def charge(self, nbytes: int, hint: str = DAMAGED) -> None:
        """Errors: ValueError, which ends in `hint`, if this makes it too much."""
        self.used += nbytes
        if self.used > self.most:
            raise ValueError(f"makes arrays and objects of more than {self.most} bytes, {GROWTH} times its size and a little: "
                             f"{hint}")

    def charge_array(self, axes: int, nbytes: int, hint: str = DAMAGED) -> None:
        """An array with `nbytes` of numbers; for all numbers together the footing does not count. Errors: those of `charge`."""
        self.numbers += nbytes
        if self.numbers > self.most_numbers:
            raise ValueError(f"makes arrays of more than {self.most_numbers} bytes, {GROWTH} times its size: {hint}")
        self.charge(ARRAY + AXIS * axes + nbytes, hint)
