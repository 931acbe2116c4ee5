"""A strict stand-in for CuPy: NumPy computes, and whatever the real CuPy lacks or refuses is refused.

`install()` puts it where `import cupy` finds it; then every test that takes device "cuda" runs on a machine without a GPU.
What runs here must run on the real CuPy: names and parameters come from `cupy_names.json` (written by `make_table.py`), and
host and device memory meet in a few places alone. Up: `cupy.asarray(host)`, `cupy.array(host)`, `x.set(host)`. Down: `x.get()`
and `cupy.asnumpy(x)`. Anything else with a NumPy array in it raises TypeError, also where the real CuPy would move it
silently. Looking at a value (`float(x)`, `if x`, `x.item()`, `x[mask]`, printing) waits for the device, as `get` does:
`with counting() as syncs` counts it.

One liberty, for tests alone: while `tests_may_read` is true, a file below `tests/` may hand a device array to NumPy
(`np.testing.assert_allclose(x.grad, want)`), which reads it uncounted, and a host array to a device array's operators and
assignments (`x.grad - want`, `buffer[...] = numbers`). The same in the package raises.

Stricter than CuPy on purpose: memory from `empty` holds NaN or large odd numbers; an index array out of range raises (CuPy
wraps it around); so does an assignment whose outcome CuPy leaves open (a place named twice, overlapping source and target).

What only a GPU shows: the order of atomic additions, the last digits of its exp and log, results whose memory is laid out
otherwise than NumPy's (ask `flags`, or for `ascontiguousarray`), running out of memory, and how long anything takes.
"""
import contextlib
import functools
import importlib.machinery
import json
import math
import re
import sys
import types
from pathlib import Path

import numpy as np
import standin_device
from standin_device import allocate, count_read, counting, pool, release, synchronisations

__all__ = ["counting", "install", "ndarray", "synchronisations", "uninstall"]

tests_may_read = True
"""Whether a test file may mix device and host arrays, and look at values uncounted."""

HERE = Path(__file__).resolve().parent
TABLE = json.loads((HERE / "cupy_names.json").read_text())

DTYPES = frozenset("?bhilqBHILQefd")  # CuPy has complex numbers, too; minidl has not
SCALARS = (bool, int, float, np.bool_, np.integer, np.floating)
NO_CONVERSION = ("Implicit conversion to a NumPy array is not allowed. "
                 "Please use `.get()` to construct a NumPy array explicitly.")


def _words(text):
    return frozenset(text.split())


# --- who reads -----------------------------------------------------------------------------------------------------


@functools.cache
def _kind_of_file(name):
    """"inner" (NumPy, the stand-in itself), "door" (where minidl moves arrays), "test", or "other"."""
    if name.startswith((str(Path(np.__file__).parent), str(HERE / "standin"), contextlib.__file__)) or "/_pytest/" in name:
        return "inner"  # also pytest.approx, which a test hands a device array to
    path = Path(name).resolve()
    if path == HERE.parents[1] / "minidl" / "backend.py":
        return "door"
    return "test" if path.is_relative_to(HERE.parent) and not path.is_relative_to(HERE) else "other"


def _caller(*skipped):
    """The nearest stack frame in a file of none of these kinds."""
    frame = sys._getframe(2)
    while frame.f_back is not None and _kind_of_file(frame.f_code.co_filename) in skipped:
        frame = frame.f_back
    return frame


def _a_test_reads():
    return tests_may_read and _kind_of_file(_caller("inner").f_code.co_filename) == "test"


def _wait():
    """Counts one read of device memory by the host, unless a test reads."""
    if not _a_test_reads():
        frame = _caller("inner", "door")
        count_read(f"{frame.f_code.co_filename}:{frame.f_lineno}")


# --- between NumPy's arrays and the device's -----------------------------------------------------------------------


def _unsupported(x):
    return TypeError(f"Unsupported type {type(x)}")


def _new(a, base=None):
    """The device array around a NumPy array; `base` is the owner of its memory, if that is another."""
    if a.dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {a.dtype}")
    x = object.__new__(ndarray)
    x._a, x._base = a, base
    if base is None:
        allocate(a.nbytes)
    return x


def _fresh(r):
    """A result that shares no memory with the operands; NumPy turns 0-d ones into scalars, CuPy does not."""
    return _new(r if type(r) is np.ndarray else np.array(r))


def _memory(a):
    """The object that owns the memory of `a`; NumPy may have put several views in between."""
    while (base := getattr(a, "base", None)) is not None:
        a = base
    return a


def _wrap(r, inputs):
    """A result of NumPy's as the device would return it: one of the inputs itself, a view of one, or a new array."""
    if isinstance(r, np.ndarray):
        memory = None if r.base is None else _memory(r)
        for x in inputs:
            if r is x._a:
                return x
            if memory is not None and memory is _memory(x._a):
                return _new(r, x._owner())
        return _new(r)
    if isinstance(r, np.generic):
        return _fresh(r)
    if isinstance(r, (tuple, list)):
        return (list if isinstance(r, list) else tuple)(_wrap(part, inputs) for part in r)
    return r


def _bare(x, inputs):
    """An argument as NumPy takes it. Device arrays are added to `inputs`; host arrays are refused."""
    if type(x) is ndarray:
        inputs.append(x)
        return x._a
    if isinstance(x, np.ndarray):
        raise _unsupported(x)
    if type(x) in (tuple, list):
        return type(x)(_bare(part, inputs) for part in x)
    return x


def _operand(x):
    """An operand of elementwise arithmetic: a device array or a number."""
    if type(x) is ndarray:
        return x._a
    if isinstance(x, SCALARS):
        return x
    if type(x) is np.ndarray and _a_test_reads():
        return x
    raise _unsupported(x)


def _quietly(function, *args, **kwargs):
    """Calls `function` with no warnings about values: a GPU knows of none."""
    with np.errstate(all="ignore"):
        return function(*args, **kwargs)


def _poisoned(a):
    """`a`, filled with what nobody would have written."""
    if a.dtype.kind == "f":
        a.fill(np.nan)
    else:
        a.fill(True if a.dtype.kind == "b" else np.iinfo(a.dtype).max - 12)
    return a


# what those functions take whose signature says **kwargs; any others are left out
FURTHER_KEYWORDS = {"einsum": {"dtype", "optimize"}, "meshgrid": {"copy", "indexing", "sparse"},
                    "pad": {"constant_values", "end_values", "reflect_type", "stat_length"}}


class Parameters:
    """What a function accepts, read once from its entry in the table; the check of a call is two comparisons."""

    def __init__(self, name, text):
        self.name = name
        self.most, self.keywords, positional = 0, set(), True
        for word in filter(None, text.split(", ")):
            if word.startswith("**"):
                self.keywords |= FURTHER_KEYWORDS[name]
            elif word.startswith("*"):  # "*" ends the positional ones, "*args" takes any number of them
                self.most, positional = (math.inf if len(word) > 1 else self.most), False
            elif word != "/":
                self.most += positional
                self.keywords.add(word.rstrip("="))

    def check(self, args, kwargs):
        if len(args) > self.most:
            raise TypeError(f"{self.name}() takes at most {self.most} positional arguments, got {len(args)}")
        if kwargs and not self.keywords.issuperset(kwargs):
            unknown = ", ".join(sorted(set(kwargs) - self.keywords))
            raise TypeError(f"{self.name}() got an unexpected keyword argument: CuPy has no {unknown} there")


# --- the array -----------------------------------------------------------------------------------------------------


class Flags:
    """What CuPy says of an array's layout."""

    def __init__(self, a, owndata):
        self.c_contiguous, self.f_contiguous, self.owndata = a.flags.c_contiguous, a.flags.f_contiguous, owndata
        self.fnc, self.forc = a.flags.fnc, a.flags.forc

    def __getitem__(self, name):
        if name not in ("C_CONTIGUOUS", "F_CONTIGUOUS", "OWNDATA"):
            raise KeyError(f"{name} is not defined for cupy.ndarray.flags")
        return getattr(self, name.lower())


class ndarray:
    """`cupy.ndarray`: a NumPy array that only the functions of this module may look into."""

    __slots__ = ("_a", "_base", "__weakref__")
    __module__ = "cupy"
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("cupy.ndarray: the stand-in has no memptr and no strides")
        self._a, self._base = _poisoned(np.empty(shape, _dtype(dtype), order)), None
        allocate(self._a.nbytes)

    def __del__(self):
        if getattr(self, "_base", self) is None:
            release(self._a.nbytes)

    def __getattr__(self, name):
        if name in TABLE["ndarray"]:
            raise NotImplementedError(f"cupy.ndarray.{name}: the stand-in has it not yet")
        raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")

    def _owner(self):
        return self if self._base is None else self._base

    # what it is

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    base = property(lambda self: self._base)
    flags = property(lambda self: Flags(self._a, self._base is None))
    data = property(lambda self: standin_device.MemoryPointer(self._a.ctypes.data))
    device = property(lambda self: standin_device.Device(0))
    T = property(lambda self: _new(self._a.T, self._owner()))
    real = property(lambda self: self)

    @shape.setter
    def shape(self, shape):
        try:
            self._a = self._a.reshape(shape, copy=False)
        except ValueError:
            raise AttributeError("incompatible shape") from None

    def __len__(self):
        if self._a.ndim == 0:
            raise TypeError("len() of unsized object")
        return len(self._a)

    # up and down

    def get(self, stream=None, order="C", out=None, blocking=True):
        _wait()
        if out is None:
            return self._a.copy(order)
        if type(out) is not np.ndarray or out.dtype != self.dtype or out.shape != self.shape:
            raise TypeError(f"get: out must be a NumPy array of {self.dtype} {self.shape}")
        out[...] = self._a
        return out

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self._a.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        self._a[...] = arr

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def tobytes(self, order="C"):
        return self.get().tobytes(order)

    def __bool__(self):
        if self.size > 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()")
        return bool(self.get())

    def __int__(self):
        return int(self.get())

    def __float__(self):
        return float(self.get())

    def __repr__(self):
        return repr(self.get())

    def __str__(self):
        return str(self.get())

    def __format__(self, form):
        return format(self.get(), form)

    def __reduce__(self):
        return _array, (self.get(),)

    def __array__(self, dtype=None, copy=None):
        if not _a_test_reads():
            raise TypeError(NO_CONVERSION)
        return np.array(self._a, dtype)

    def __array_ufunc__(self, plain, method, *inputs, **kwargs):
        if isinstance(inputs[0], np.generic) and len(inputs) == 2 and method == "__call__" and not kwargs:
            return getattr(MODULES["cupy"], plain.__name__)(*inputs)  # np.float32(3) * x is allowed, and arrives here
        if not _a_test_reads() or any(type(x) is ndarray for x in kwargs.get("out", ())):
            raise TypeError(f"numpy.{plain.__name__} of a cupy.ndarray: {NO_CONVERSION}")
        return getattr(plain, method)(*map(_on_host, inputs), **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if not _a_test_reads() or type(kwargs.get("out")) is ndarray:
            raise TypeError(f"numpy.{function.__name__} of a cupy.ndarray: {NO_CONVERSION}")
        return function(*map(_on_host, args), **{key: _on_host(value) for key, value in kwargs.items()})

    # parts

    def __iter__(self):
        if self._a.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self._a)))

    def __getitem__(self, key):
        plain, advanced = _plain_key(key)
        if advanced:
            part = self._a[plain]
            return _fresh(part if getattr(part, "base", None) is None else part.copy())
        part = self._a[plain]
        if type(part) is not np.ndarray:  # an element: with an ellipsis, NumPy returns a view of it
            part = self._a[(*plain, ...) if isinstance(plain, tuple) else (plain, ...)]
        return _new(part, self._owner())

    def __setitem__(self, key, value):
        plain, advanced = _plain_key(key)
        if type(value) is ndarray:
            source, target = value._a, self._a if advanced else self._a[plain]
            if type(target) is np.ndarray and np.may_share_memory(source, target):
                if _same_place(source, target):
                    return  # the end of x[key] += y
                raise ValueError("assignment between overlapping parts of one array: CuPy does not say what is stored; "
                                 "copy the source first")
            if advanced and source.ndim:
                _refuse_repeated_places(self._a, plain)
        else:
            source = _operand(value)
        _quietly(self._a.__setitem__, plain, source)

    # copies and views

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if casting is not None or subok is not None:
            raise TypeError("astype: CuPy supports neither casting nor subok")
        dtype = _dtype(dtype)
        if not copy and dtype == self.dtype and order in ("K", "A"):
            return self
        return _fresh(_quietly(self._a.astype, dtype, order=order))

    def copy(self, order="C"):
        return _new(self._a.copy(order))

    __copy__ = copy

    def __deepcopy__(self, memo):
        return self.copy()

    def view(self, dtype=None, type=None):
        if type is not None:
            raise NotImplementedError("cupy.ndarray.view: the stand-in has no type")
        return _new(self._a.view() if dtype is None else self._a.view(_dtype(dtype)), self._owner())

    def fill(self, value):
        if isinstance(value, np.ndarray) or (type(value) is ndarray and value.ndim):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self._a.fill(_operand(value))

    def repeat(self, repeats, axis=None):
        if type(repeats) is ndarray:
            raise ValueError("cupy.ndarray cannot be specified as `repeats` argument.")
        return _new(self._a.repeat(_bare(repeats, []), axis))

    def nonzero(self):
        _wait()
        return tuple(_new(part) for part in self._a.nonzero())

    def squeeze(self, axis=None):
        part = self._a.squeeze(axis)
        return self if part.ndim == self._a.ndim else _new(part, self._owner())


def _dtype(dtype):
    dtype = np.dtype(float if dtype is None else dtype)
    if dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


def _on_host(x):
    """An argument of a NumPy function that a test calls: device arrays read, also those in lists."""
    if type(x) is ndarray:
        return x._a.copy()
    return type(x)(map(_on_host, x)) if type(x) in (tuple, list) else x


def _plain_key(key):
    """(the index for NumPy, whether it selects with arrays). A mask decides the size of the result: the host waits for it."""
    if isinstance(key, (int, slice)) or key is None or key is Ellipsis:
        return key, isinstance(key, bool)
    parts, advanced = [], False
    for part in key if isinstance(key, tuple) else (key,):
        if type(part) is ndarray:
            if part.dtype.kind not in "biu":
                raise IndexError("arrays used as indices must be of integer or boolean type. "
                                 f"(actual: {part.dtype.type})")
            if part.dtype.kind == "b":
                _wait()
            part, advanced = part._a, True
        elif isinstance(part, np.ndarray):
            raise _unsupported(part)
        elif isinstance(part, (list, tuple)):
            part, advanced = _bare(part, []), True
        elif isinstance(part, (bool, np.bool_)):
            advanced = True
        parts.append(part)
    return tuple(parts), advanced


def _same_place(a, b):
    return a.ctypes.data == b.ctypes.data and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype


def _refuse_repeated_places(a, key):
    places = np.arange(a.size).reshape(a.shape)[key]
    if np.unique(places).size != places.size:
        raise ValueError("assignment to an index that names a place twice: CuPy does not say which value is stored; "
                         "use cupy.add.at to sum them")


def _add_operators():
    """x + y, y + x and x += y for every operator that cupy.ndarray has."""
    names = dict(add="add", sub="subtract", mul="multiply", truediv="true_divide", floordiv="floor_divide", mod="remainder",
                 pow="power", lshift="left_shift", rshift="right_shift", xor="bitwise_xor", matmul="matmul", divmod="divmod",
                 lt="less", le="less_equal", eq="equal", ne="not_equal", gt="greater", ge="greater_equal",
                 **{"and": "bitwise_and", "or": "bitwise_or"})

    def left(plain):
        def operator(self, other):
            if type(other) is not ndarray and getattr(other, "__array_ufunc__", 0) is None:
                return NotImplemented  # the other's class, a Tensor for one, wants to do it
            return _result(_quietly(plain, self._a, _operand(other)))
        return operator

    def right(plain):
        return lambda self, other: _result(_quietly(plain, _operand(other), self._a))

    def in_place(plain):
        def operator(self, other):
            _quietly(plain, self._a, _operand(other), out=self._a)
            return self
        return operator

    for word, name in names.items():
        plain = getattr(np, name)
        for prefix, make in (("", left), ("r", right), ("i", in_place)):
            if word in ("lt", "le", "eq", "ne", "gt", "ge") and prefix or word in ("matmul", "divmod") and prefix == "i":
                continue
            setattr(ndarray, f"__{prefix}{word}__", make(plain))
    for word, name in dict(neg="negative", pos="positive", abs="absolute", invert="invert").items():
        plain = getattr(np, name)
        setattr(ndarray, f"__{word}__", lambda self, plain=plain: _fresh(_quietly(plain, self._a)))


def _result(r):
    return tuple(map(_fresh, r)) if isinstance(r, tuple) else _fresh(r)


# methods that do what NumPy's do, with the parameters that the table names; ptp is no method of NumPy's any more
METHODS = _words("""all any argmax argmin argpartition argsort clip compress conj conjugate cumprod cumsum diagonal dot flatten
    max mean min partition prod ptp ravel reshape round searchsorted sort std sum swapaxes take trace transpose var""")


def _add_methods():
    for name in METHODS:
        setattr(ndarray, name, _method(name, getattr(np.ndarray, name, None) or getattr(np, name)))


def _method(name, plain):
    parameters = Parameters(name, TABLE["ndarray"][name])

    def method(self, *args, **kwargs):
        parameters.check(args, kwargs)
        inputs = [self]
        args = [_bare(x, inputs) for x in args]
        if kwargs:
            kwargs = {key: _bare(x, inputs) for key, x in kwargs.items()}
        if name == "compress":
            _wait()
        return _wrap(_quietly(plain, self._a, *args, **kwargs), inputs)

    method.__name__ = name
    return method


_add_operators()
_add_methods()


# --- ufuncs --------------------------------------------------------------------------------------------------------

AT_DTYPES = {"add": "ilqefdILQ", "subtract": "iI", "maximum": "ifdILQ", "minimum": "ifdILQ",
             "bitwise_and": "ilqILQ", "bitwise_or": "ilqILQ", "bitwise_xor": "ilqILQ"}
"""What the GPU's atomic operations know."""


class ufunc:
    """`cupy.ufunc`: out, dtype and casting are all its options, and few have a `reduce` or an `at`."""

    def __init__(self, name, entry):
        self.name, self.__name__, self._plain = f"cupy_{name}", name, getattr(np, name)
        nin, nout, *self._methods = entry.split()[1:]
        self.nin, self.nout, self.nargs = int(nin), int(nout), int(nin) + int(nout)

    def __call__(self, *args, out=None, dtype=None, casting="same_kind"):
        if len(args) not in (self.nin, self.nargs):
            raise TypeError(f"{self.__name__}: wrong number of arguments, got {len(args)}, expected {self.nin}")
        if len(args) > self.nin:
            if out is not None:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            args, out = args[:self.nin], args[self.nin]
        inputs = [_operand(x) for x in args]
        if out is None:
            return _result(_quietly(self._plain, *inputs, dtype=dtype, casting=casting))
        if type(out) is not ndarray:
            raise _unsupported(out)
        _quietly(self._plain, *inputs, out=out._a, dtype=dtype, casting=casting)
        return out

    def _refuse_unless(self, method):
        if method not in self._methods:
            raise NotImplementedError(f"`{self.name}.{method}` is not supported yet")

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        self._refuse_unless("reduce")
        array = _device_array(array)
        return (array.sum if self.__name__ == "add" else array.prod)(axis, dtype, out, keepdims)

    def accumulate(self, array, axis=0, dtype=None, out=None):
        self._refuse_unless("accumulate")
        array = _device_array(array)
        return (array.cumsum if self.__name__ == "add" else array.cumprod)(axis, dtype, out)

    def reduceat(self, array, indices, axis=0, dtype=None, out=None):
        self._refuse_unless("reduceat")
        return _fresh(self._plain.reduceat(_device_array(array)._a, _operand(indices), axis, dtype))

    def outer(self, A, B):  # noqa: N803  CuPy's names
        return _fresh(_quietly(self._plain.outer, _operand(A), _operand(B)))

    def at(self, a, indices, b=None):
        self._refuse_unless("at")
        key, advanced = _plain_key(indices)
        if advanced and _device_array(a).dtype.char not in AT_DTYPES[self.__name__]:
            raise TypeError(f"cupy.{self.__name__}.at does not support {a.dtype}")
        operands = () if self.nin == 1 else (_operand(b),)
        _quietly(self._plain.at, _device_array(a)._a, key, *operands)


# --- functions -----------------------------------------------------------------------------------------------------

# functions that make arrays of numbers: no device array among their arguments
MAKERS = _words("""arange bartlett blackman empty eye full hamming hanning identity indices kaiser linspace logspace ones tri
    zeros""")
# functions that ask about dtypes, shapes or anything else
QUESTIONS = _words("""broadcast_shapes can_cast common_type get_array_module is_available isscalar issubdtype
    min_scalar_type mintypecode promote_types result_type ndim shape size""")
# functions whose result has a size that only the values know: the host waits for it
WAITERS = _words("""argwhere bincount compress extract flatnonzero intersect1d nonzero place setdiff1d setxor1d trim_zeros
    union1d unique unique_all unique_counts unique_inverse unique_values""")
JOINERS = _words("column_stack concatenate dstack hstack stack vstack")
PRODUCTS = _words("dot inner matmul outer tensordot vdot")
ANSWERS = _words("allclose array_equal array_equiv")
UNCHANGED_IS_SELF = _words("moveaxis rollaxis squeeze")
# functions of files and text, and those that call Python for every element
REFUSED = _words("apply_over_axes asarray_chkfinite from_dlpack load piecewise save show_config who")


def _function(name, plain, entry):
    """NumPy's function, called as CuPy's can be called, with device arrays in place of arrays."""
    parameters = Parameters(name, entry)
    makes, asks, waits = name in MAKERS, name in QUESTIONS, name in WAITERS

    def call(*args, **kwargs):
        parameters.check(args, kwargs)
        if name in JOINERS:
            _check_joined(args[0] if args else kwargs.get("tup", ()))
        inputs = []
        args = [_bare(x, inputs) for x in args]
        if kwargs:
            kwargs = {key: _bare(x, inputs) for key, x in kwargs.items()}
        if makes and inputs and name != "full":
            raise TypeError(f"cupy.{name} takes numbers, not arrays")
        if not (makes or asks or inputs):
            raise TypeError(f"cupy.{name}: needs a cupy.ndarray, got {', '.join(type(x).__name__ for x in args) or 'nothing'}")
        if waits:
            _wait()
        r = _quietly(plain, *args, **kwargs)
        if name in PRODUCTS and kwargs.get("out") is None:
            r = np.asarray(r, order="C")
        elif name in UNCHANGED_IS_SELF and _same_place(r, inputs[0]._a):
            return inputs[0]
        return _fresh(np.bool_(r)) if name in ANSWERS else _wrap(r, inputs)

    call.__name__ = name
    return call


def _check_joined(arrays):
    if type(arrays) is not ndarray and not all(type(x) is ndarray for x in arrays):
        raise TypeError("Only cupy arrays can be concatenated")


def _array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    """Device arrays are copied on the device; all else is brought up from the host."""
    if subok:
        raise NotImplementedError("cupy.array: CuPy does not support subok")
    if type(obj) is ndarray and not copy and (dtype is None or _dtype(dtype) == obj.dtype) and ndmin <= obj.ndim:
        return obj
    plain = _bare(obj, []) if _holds_device_arrays(obj) else obj
    a = np.array(plain, None if dtype is None else _dtype(dtype), order=order or "K", ndmin=ndmin)
    return _new(a.astype(a.dtype.newbyteorder("="), copy=False))


def _holds_device_arrays(obj):
    return type(obj) is ndarray or type(obj) in (tuple, list) and any(map(_holds_device_arrays, obj))


def _asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    if type(a) is ndarray and not copy and (dtype is None or _dtype(dtype) == a.dtype):
        return _in_order(a, order)
    if copy is False:
        raise ValueError("cupy.asarray: unable to avoid the copy")
    return _array(a, dtype, order=order)


def _in_order(x, order):
    fits = order in (None, "K", "A") or x._a.flags.c_contiguous and order == "C" or x._a.flags.f_contiguous and order == "F"
    return x if fits else _new(np.array(x._a, order=order))


def _ascontiguousarray(a, dtype=None):
    return _asarray(_device_array(a), dtype, "C")


def _asfortranarray(a, dtype=None):
    return _asarray(_device_array(a), dtype, "F")


def _device_array(x):
    if type(x) is not ndarray:
        raise _unsupported(x)
    return x


def _asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out) if type(a) is ndarray else np.asarray(a)


def _empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def _empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    dtype = None if dtype is None else _dtype(dtype)
    return _new(_poisoned(np.empty_like(_device_array(prototype)._a, dtype, order, shape=shape)))


def _where(condition, x=None, y=None):
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return _device_array(condition).nonzero()
    return _fresh(np.where(_device_array(condition)._a, _operand(x), _operand(y)))


def _copyto(dst, src, casting="same_kind", where=None):
    if where is not None:
        raise NotImplementedError("cupy.copyto: the stand-in has no where")
    if not np.can_cast(src.dtype if type(src) is ndarray else type(_operand(src)), _device_array(dst).dtype, casting):
        raise TypeError("Cannot cast")
    dst[...] = src


def _repeat(a, repeats, axis=None):
    return _device_array(a).repeat(repeats, axis)


def _get_array_module(*args):
    return MODULES["cupy"] if any(type(x) is ndarray for x in args) else np


# --- kernels -------------------------------------------------------------------------------------------------------


class RawKernel:
    """A kernel of CUDA C. CuPy would pass on whatever bytes it is given; here only those that can be right."""

    def __init__(self, code, name, options=(), backend="nvrtc", translate_cucomplex=False, *, enable_cooperative_groups=False,
                 jitify=None):
        self._module = RawModule(code, options=options, backend=backend, translate_cucomplex=translate_cucomplex,
                                 enable_cooperative_groups=enable_cooperative_groups, jitify=jitify)
        self.name, self.code, self.options, self.backend = name, code, options, backend

    def compile(self, log_stream=None):
        self._module.compile()

    def __call__(self, grid, block, args, *, shared_mem=0):
        for what, sizes, most in (("grid", grid, 2**31 - 1), ("block", block, 1024)):
            if not isinstance(sizes, tuple) or not 1 <= len(sizes) <= 3 or not all(isinstance(n, int) for n in sizes):
                raise TypeError(f"{self.name}: {what} must be a tuple of one to three ints, got {sizes!r}")
            if min(sizes) < 1 or math.prod(sizes) > most:
                raise standin_device.CUDARuntimeError(f"{self.name}: CUDA_ERROR_INVALID_VALUE: {what} {sizes}")
        if not 0 <= shared_mem <= 48 << 10:
            raise standin_device.CUDARuntimeError(f"{self.name}: CUDA_ERROR_INVALID_VALUE: shared_mem {shared_mem}")
        if not isinstance(args, tuple):
            raise TypeError(f"{self.name}: the arguments must be a tuple, got {type(args).__name__}")
        plain = [self._argument(k, x) for k, x in enumerate(args)]
        self._module.library().launch(self.name, grid, block, plain, shared_mem=shared_mem)

    def _argument(self, k, x):
        if type(x) is ndarray:
            if not x._a.flags.c_contiguous:
                raise ValueError(f"{self.name}: argument {k} has strides {x.strides}, which the kernel does not see; "
                                 "use cupy.ascontiguousarray")
            return x._a
        if isinstance(x, np.generic):
            return x
        raise TypeError(f"{self.name}: argument {k}: Unsupported type {type(x)}; a kernel takes cupy arrays, "
                        "and NumPy scalars of exactly its parameter's type")


class RawModule:
    """CUDA C, compiled when it is first needed."""

    def __init__(self, code=None, *, path=None, options=(), backend="nvrtc", translate_cucomplex=False,
                 enable_cooperative_groups=False, name_expressions=None, jitify=None):
        if any((path, backend != "nvrtc", translate_cucomplex, enable_cooperative_groups, name_expressions, jitify)):
            raise NotImplementedError("cupy.RawModule: the stand-in knows code and options alone")
        if not isinstance(code, str):
            raise TypeError(f"cupy.RawModule: code must be a string, got {type(code).__name__}")
        if not isinstance(options, tuple):
            raise TypeError(f"cupy.RawModule: options must be a tuple, got {type(options).__name__}")
        unknown = [word for word in options if not re.fullmatch(r"--?std=c\+\+(11|14|17|20)", word)]
        if unknown:
            raise NotImplementedError(f"cupy.RawModule: the stand-in knows -std=c++17 and its like alone, got {unknown}")
        self.code, self.options, self.backend = code, options, backend
        self._library = None

    def library(self):
        """The compiled source, as `engine.build` returns it."""
        if self._library is None:
            import engine  # only where kernels are launched: it needs a C++ compiler

            self._library = engine.build(self.code)
        return self._library

    def compile(self, log_stream=None):
        self.library()

    def get_function(self, name):
        kernel = RawKernel(self.code, name, self.options, self.backend)
        kernel._module = self  # compiled once for all its kernels
        return kernel


# --- the modules ---------------------------------------------------------------------------------------------------

OWN = dict(
    ndarray=ndarray, ufunc=ufunc, array=_array, asarray=_asarray, asanyarray=_asarray, ascontiguousarray=_ascontiguousarray,
    asfortranarray=_asfortranarray, asnumpy=_asnumpy, empty=_empty, empty_like=_empty_like, where=_where, copyto=_copyto,
    repeat=_repeat, get_array_module=_get_array_module, get_default_memory_pool=lambda: pool, RawKernel=RawKernel,
    RawModule=RawModule, is_available=lambda: True, newaxis=None,
)


class Module(types.ModuleType):
    """One module of CuPy's; its names are made when they are first asked for."""

    def __init__(self, path, own, plain=None):
        super().__init__(path)
        self.__spec__ = importlib.machinery.ModuleSpec(path, loader=None, is_package=True)
        self.__path__ = []
        self.__dict__.update(own)
        self._plain = plain

    def __getattr__(self, name):
        entry = TABLE.get(self.__name__, {}).get(name)
        if entry is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = self._made(name, entry)
        setattr(self, name, value)
        return value

    def _made(self, name, entry):
        plain = getattr(self._plain, name, None)
        open_ended = "?" in entry or "**" in entry and name not in FURTHER_KEYWORDS
        if plain is None or name in REFUSED or open_ended or entry in ("module", ""):
            hint = ": minidl draws on the host" if self.__name__ == "cupy.random" else ""
            raise NotImplementedError(f"{self.__name__}.{name} exists, but the stand-in has it not{hint}")
        if entry.startswith("ufunc") and isinstance(plain, np.ufunc):
            return ufunc(name, entry)
        if entry in ("class", "value"):
            return plain
        return _function(name, plain, "x, out=, dtype=" if entry.startswith("ufunc") else entry)


def _modules():
    tricks = Module("cupy.lib.stride_tricks", {}, np.lib.stride_tricks)
    runtime = Module("cupy.cuda.runtime", standin_device.RUNTIME)
    compiler = Module("cupy.cuda.compiler", standin_device.COMPILER)
    parts = dict(lib=Module("cupy.lib", dict(stride_tricks=tricks)), linalg=Module("cupy.linalg", {}, np.linalg),
                 random=Module("cupy.random", {}, np.random),
                 cuda=Module("cupy.cuda", {**standin_device.CUDA, "runtime": runtime, "compiler": compiler}))
    cupy = Module("cupy", {**OWN, **parts, "__version__": TABLE["version"]}, np)
    return {module.__name__: module for module in (cupy, *parts.values(), tricks, runtime, compiler, Module("cupyx", {}))}


MODULES = _modules()
_before = {}


def install():
    """Puts the stand-in into `sys.modules` as `cupy`, and returns it."""
    if sys.modules.get("cupy") is not MODULES["cupy"]:
        _before.update({name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in ("cupy", "cupyx")})
        sys.modules.update(MODULES)
    return MODULES["cupy"]


def uninstall():
    """Takes it out again, and puts back what was there before."""
    if sys.modules.get("cupy") is MODULES["cupy"]:
        for name in MODULES:
            sys.modules.pop(name, None)
        sys.modules.update(_before)
        _before.clear()
