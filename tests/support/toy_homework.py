"""A homework of two tasks, for the tests of the engine; and a student's file that gets all its points."""

SOLUTION = '''
"""Homework 9: a toy, for tests.

Goes with lesson 09_toys. Check with `minidl homework check hw9_toy.py`.
"""
import numpy as np


#: task double | 3 points | 10 minutes
#: hint What is twice a number?
#: hint Add it
#:      to itself.
#: hint x + x
def double(x):
    """y = 2 x, for arrays of any shape."""
    #: solution
    return np.add(x, x)
    #: end


#: task quadruple | 2 points | 15 minutes
#: hint Twice twice.
#: hint Call double.
#: hint double(double(x))
SHIFT = 0


class Quadruple:
    """y = 4 x"""

    def __call__(self, x):
        """x: an array."""
        x = np.asarray(x) + SHIFT
        #: solution
        if x.ndim > 9:
            raise ValueError("too many axes")
        return double(double(x))
        #: end
'''

CHECKS = '''
import numpy as np

from minidl.homework.parts import close, part


@part("double", 2, "doubles")
def _(hw, ref, rng):
    x = rng.normal(size=(2, 3))
    close(hw.double(x), 2 * x, f"double(x {x.shape})")


@part("double", 1, "keeps float32")
def _(hw, ref, rng):
    x = np.ones(3, np.float32)
    close(hw.double(x), ref.double(x), f"double(x float32 {x.shape})", dtype=np.float32)


@part("quadruple", 1, "quadruples")
def _(hw, ref, rng):
    x = rng.normal(size=(2, 3))
    close(hw.Quadruple()(x), 4 * x, f"Quadruple()(x {x.shape})")


@part("quadruple", 1, "also on a GPU", gpu=True)
def _(hw, ref, rng):
    close(hw.Quadruple()(np.ones(2)), 4 * np.ones(2), "Quadruple()(ones)")
'''

RIGHT = '''
import numpy as np

def double(x):
    return x * 2

class Quadruple:
    def __call__(self, x):
        return 2 * double(x)
'''
