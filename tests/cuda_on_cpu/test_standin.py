"""The stand-in for CuPy refuses what the real one lacks or refuses, and does the rest as NumPy does."""
import copy
import gc
import importlib
import importlib.util
import inspect
import json
import pickle
import sys

import make_table
import numpy as np
import pytest
import standin

pytestmark = pytest.mark.ladder

host = np.arange(6.0).reshape(2, 3)


@pytest.fixture(autouse=True)
def cupy():
    """The stand-in in CuPy's place; afterwards whatever was there before."""
    installed = sys.modules.get("cupy") is standin.MODULES["cupy"]
    yield standin.install()
    (standin.install if installed else standin.uninstall)()


def device(a=host, dtype=None):
    return standin.install().asarray(a, dtype)


def values(x):
    return x.get() if isinstance(x, standin.ndarray) else x


# --- what it refuses -----------------------------------------------------------------------------------------------

MIXING = {
    "x + host": lambda cp, x: x + host,
    "host + x": lambda cp, x: host + x,
    "x @ host.T": lambda cp, x: x @ host.T,
    "host @ x.T": lambda cp, x: host @ x.T,
    "x == host": lambda cp, x: x == host,
    "host < x": lambda cp, x: host < x,
    "x += host": lambda cp, x: x.__iadd__(host),
    "x + list": lambda cp, x: x + [1.0, 2.0, 3.0],
    "x == None": lambda cp, x: x == None,  # noqa: E711
    "cupy.add(x, host)": lambda cp, x: cp.add(x, host),
    "cupy.add(x, x, out=host)": lambda cp, x: cp.add(x, x, out=host.copy()),
    "cupy.where(x, host, x)": lambda cp, x: cp.where(x > 0, host, x),
    "cupy.where(host, x, x)": lambda cp, x: cp.where(host > 0, x, x),
    "cupy.concatenate([x, host])": lambda cp, x: cp.concatenate([x, host]),
    "cupy.concatenate([x, list])": lambda cp, x: cp.concatenate([x, [[1.0, 2.0, 3.0]]]),
    "cupy.stack([host, host])": lambda cp, x: cp.stack([host, host]),
    "cupy.tensordot(x, host)": lambda cp, x: cp.tensordot(x, host, axes=2),
    "cupy.einsum(x, host)": lambda cp, x: cp.einsum("ij,ij->", x, host),
    "cupy.add.at(x, host index)": lambda cp, x: cp.add.at(x, np.array([0]), 1.0),
    "cupy.add.at(host)": lambda cp, x: cp.add.at(host.copy(), 0, 1.0),
    "x.sum(out=host)": lambda cp, x: x.sum(axis=0, out=np.empty(3)),
    "x.dot(host)": lambda cp, x: x.dot(host.T),
    "x[host index]": lambda cp, x: x[np.array([0])],
    "x[host mask]": lambda cp, x: x[host > 1],
    "x[host index] = 1": lambda cp, x: x.__setitem__(np.array([0]), 1),
    "x[...] = host": lambda cp, x: x.__setitem__(..., host),
    "x[:] = list": lambda cp, x: x.__setitem__(slice(None), [1.0, 2.0, 3.0]),
    "cupy.sum(host)": lambda cp, x: cp.sum(host),
    "cupy.sum(list)": lambda cp, x: cp.sum([1.0, 2.0]),
    "cupy.exp(host)": lambda cp, x: cp.exp(host),
    "cupy.ascontiguousarray(host)": lambda cp, x: cp.ascontiguousarray(host),
    "cupy.zeros_like(host)": lambda cp, x: cp.zeros_like(host),
    "cupy.empty_like(host)": lambda cp, x: cp.empty_like(host),
    "cupy.array_equal(x, host)": lambda cp, x: cp.array_equal(x, host),
    "cupy.linalg.norm(host)": lambda cp, x: cp.linalg.norm(host),
    "sliding_window_view(host)": lambda cp, x: cp.lib.stride_tricks.sliding_window_view(host, 2, 0),
    "np.asarray(x)": lambda cp, x: np.asarray(x),
    "np.array([x, x])": lambda cp, x: np.array([x, x]),
    "np.sum(x)": lambda cp, x: np.sum(x),
    "np.exp(x)": lambda cp, x: np.exp(x),
    "np.add(host, x)": lambda cp, x: np.add(host, x),
    "np.concatenate([x, x])": lambda cp, x: np.concatenate([x, x]),
    "np.testing from elsewhere": lambda cp, x: np.testing.assert_allclose(x, host),
    "host[...] = x": lambda cp, x: host.copy().__setitem__(..., x),
    "host[x]": lambda cp, x: host[x.astype(np.int64)],
    "x.set(x)": lambda cp, x: x.set(x),
    "x.set(other dtype)": lambda cp, x: x.set(host.astype(np.float32)),
    "range(x)": lambda cp, x: range(x[0, 0].astype(np.int64)),
    "len(0-d)": lambda cp, x: len(x.sum()),
    "iter(0-d)": lambda cp, x: list(x.sum()),
    "hash(x)": lambda cp, x: hash(x),
}


@pytest.mark.parametrize("what", MIXING)
def test_host_and_device_do_not_mix(cupy, what):
    with pytest.raises(TypeError):
        MIXING[what](cupy, device())


KEYWORDS = {
    "cupy.sum(where=)": lambda cp, x: cp.sum(x, where=x > 0),
    "cupy.max(initial=)": lambda cp, x: cp.max(x, initial=0),
    "x.sum(initial=)": lambda cp, x: x.sum(initial=0),
    "x.mean(where=)": lambda cp, x: x.mean(where=x > 0),
    "x.var(mean=)": lambda cp, x: x.var(mean=0),
    "x.var(correction=)": lambda cp, x: x.var(correction=1),
    "cupy.exp(where=)": lambda cp, x: cp.exp(x, where=x > 0),
    "cupy.exp(order=)": lambda cp, x: cp.exp(x, order="C"),
    "cupy.zeros(device=)": lambda cp, x: cp.zeros(3, device="cpu"),
    "cupy.zeros(like=)": lambda cp, x: cp.zeros(3, like=x),
    "cupy.take(mode=)": lambda cp, x: cp.take(x, 0, mode="clip"),
    "cupy.argsort(stable=)": lambda cp, x: cp.argsort(x, stable=True),
    "cupy.einsum(out=)": lambda cp, x: cp.einsum("ij->i", x, out=cp.empty(2)),
    "cupy.count_nonzero(keepdims=)": lambda cp, x: cp.count_nonzero(x, keepdims=True),
    "too many arguments": lambda cp, x: cp.sum(x, None, None, None, False, 0),
    "too many of a ufunc's": lambda cp, x: cp.exp(x, x, x),
    "x.item(0)": lambda cp, x: x.item(0),
    "x.astype(casting=)": lambda cp, x: x.astype(np.float32, casting="unsafe"),
    "cupy.arange(device array)": lambda cp, x: cp.arange(x[0, 0]),
    "int += float": lambda cp, x: cp.arange(3).__iadd__(0.5),
    "True - True": lambda cp, x: (x > 0) - (x > 1),
}


@pytest.mark.parametrize("what", KEYWORDS)
def test_arguments_that_cupy_does_not_have_are_refused(cupy, what):
    with pytest.raises(TypeError):
        KEYWORDS[what](cupy, device())


NAMES = ["errstate", "seterr", "block", "insert", "frompyfunc", "nditer", "ndenumerate", "geomspace", "einsum_path", "unstack",
         "vecdot", "matvec", "longdouble", "datetime64", "no_such_name"]
ARRAY_NAMES = ["setflags", "ctypes", "resize", "__contains__", "__imatmul__", "__index__", "no_such_name"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_cupy_does_not_have_are_no_attributes(cupy, name):
    assert not hasattr(cupy, name)
    assert not hasattr(cupy.random, name) and not hasattr(cupy.cuda, name)


@pytest.mark.parametrize("name", ARRAY_NAMES)
def test_array_attributes_that_cupy_does_not_have_are_none(name):
    assert not hasattr(device(), name)


NOT_IMPLEMENTED = {
    "maximum.reduce": lambda cp, x: cp.maximum.reduce(x),
    "maximum.accumulate": lambda cp, x: cp.maximum.accumulate(x),
    "subtract.reduce": lambda cp, x: cp.subtract.reduce(x),
    "multiply.at": lambda cp, x: cp.multiply.at(x, 0, 2.0),
    "multiply.reduceat": lambda cp, x: cp.multiply.reduceat(x, device([0])),
    "random.normal": lambda cp, x: cp.random.normal,
    "random.default_rng": lambda cp, x: cp.random.default_rng,
    "ElementwiseKernel": lambda cp, x: cp.ElementwiseKernel,
    "x.flat": lambda cp, x: x.flat,
    "an unknown compiler option": lambda cp, x: cp.RawModule(code="", options=("--use_fast_math",)),
}


@pytest.mark.parametrize("what", NOT_IMPLEMENTED)
def test_what_exists_but_does_nothing_here_says_so(cupy, what):
    with pytest.raises(NotImplementedError):
        NOT_IMPLEMENTED[what](cupy, device())


OTHER_ERRORS = {
    "an index array out of range": (IndexError, lambda cp, x: x[device([0, 2])]),
    "an index out of range": (IndexError, lambda cp, x: x[2]),
    "a float index array": (IndexError, lambda cp, x: x[x]),
    "an assignment out of range": (IndexError, lambda cp, x: x.__setitem__(device([0, 2]), 1.0)),
    "shapes that do not broadcast": (ValueError, lambda cp, x: x + cp.ones(2)),
    "overlapping assignment": (ValueError, lambda cp, x: x.__setitem__((slice(None), slice(1, None)), x[:, :-1])),
    "a place named twice": (ValueError, lambda cp, x: x.__setitem__(device([0, 0]), x + 1)),
    "truth of many": (ValueError, lambda cp, x: bool(x)),
    "item of many": (ValueError, lambda cp, x: x.item()),
    "strings": (ValueError, lambda cp, x: cp.asarray(["a"])),
    "objects": (ValueError, lambda cp, x: cp.zeros(3, object)),
    "complex numbers": (ValueError, lambda cp, x: x.astype(complex)),
    "a shape that does not fit": (AttributeError, lambda cp, x: setattr(x, "shape", (4, 2))),
    "flags that NumPy alone has": (AttributeError, lambda cp, x: x.flags.writeable),
    "one such by index": (KeyError, lambda cp, x: x.flags["WRITEABLE"]),
    "float16 with maximum.at": (TypeError, lambda cp, x: cp.maximum.at(x.astype(np.float16), device([0]), 1.0)),
    "setting a strided array": (RuntimeError, lambda cp, x: x[:, ::2].set(host[:, ::2])),
    "a list of compiler options": (TypeError, lambda cp, x: cp.RawModule(code="", options=["-std=c++17"])),
}


@pytest.mark.parametrize("what", OTHER_ERRORS)
def test_other_mistakes_are_errors(cupy, what):
    error, call = OTHER_ERRORS[what]
    with pytest.raises(error):
        call(cupy, device())


# --- what it allows: the same as NumPy -----------------------------------------------------------------------------

AGREEING = {
    "arithmetic": lambda xp, x: (2 * x - x / (x + 1)) ** 2 // 3 % 2,
    "python and numpy scalars": lambda xp, x: np.float32(3) * x + True - np.int64(2),
    "a numpy scalar on the left": lambda xp, x: np.float64(3) * x.astype(np.float32),
    "a python float keeps float32": lambda xp, x: 3.0 * x.astype(np.float32),
    "comparison": lambda xp, x: (x > 2) & ~(x == 4) | x.__ge__(3),
    "divmod": lambda xp, x: divmod(x, 2),
    "matmul": lambda xp, x: x @ x.T,
    "ufunc with dtype": lambda xp, x: xp.square(x.astype(np.float32), dtype=np.float64),
    "log of zero, silently": lambda xp, x: xp.log(x * 0) if xp is not np else np.full((2, 3), -np.inf),
    "a two-output ufunc": lambda xp, x: xp.modf(x / 4),
    "where": lambda xp, x: xp.where(x > 2, x, 0.0),
    "reductions": lambda xp, x: (x.sum(axis=0), x.max(axis=(0, 1)), x.var(ddof=1), xp.mean(x, keepdims=True), x.argmax(1)),
    "concatenate": lambda xp, x: xp.concatenate([x, x], axis=1),
    "stack": lambda xp, x: xp.stack((x, x), axis=-1),
    "split": lambda xp, x: xp.split(x, [1], axis=1),
    "pad": lambda xp, x: xp.pad(x, ((0, 1), (2, 0)), constant_values=-1),
    "einsum": lambda xp, x: xp.einsum("ij,kj->ik", x, x, optimize=True),
    "tensordot": lambda xp, x: xp.tensordot(x, x, axes=((0,), (0,))),
    "take_along_axis": lambda xp, x: xp.take_along_axis(x, x.argsort(axis=1), axis=1),
    "clip": lambda xp, x: xp.clip(x, 1, 3, out=x * 1),
    "views": lambda xp, x: x.transpose(1, 0)[::-1, None].reshape(3, -1).swapaxes(0, 1).ravel(),
    "sliding_window_view": lambda xp, x: xp.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(0, 1)),
    "as_strided": lambda xp, x: xp.lib.stride_tricks.as_strided(x, (2, 2), (24, 8)),
    "broadcast_to": lambda xp, x: xp.broadcast_to(x[0], (4, 3)),
    "an element": lambda xp, x: x[1, 2] + 0,
    "a list as index": lambda xp, x: x[:, [0, 2, 2]],
    "an array as index": lambda xp, x: x[xp.asarray([1, -1]), xp.arange(2)],
    "a mask as index": lambda xp, x: x[x > 1],
    "makers": lambda xp, x: (xp.zeros((2, 1)), xp.arange(3), xp.full(2, 7, np.int32), xp.eye(2), xp.ones_like(x, dtype=bool)),
    "norm": lambda xp, x: xp.linalg.norm(x, axis=1),
    "reduce and accumulate": lambda xp, x: (xp.add.reduce(x), xp.multiply.accumulate(x, axis=1)),
    "array_equal": lambda xp, x: xp.array(xp.array_equal(x, x)),
    "dtypes": lambda xp, x: xp.zeros(1, xp.result_type(xp.float32, xp.int8)),
    "int sums widen": lambda xp, x: x.astype(np.int32).sum(),
}


def pairs(got, want):
    return [pair for parts in zip(got, want, strict=True) for pair in pairs(*parts)] if isinstance(want, (tuple, list)) \
        else [(got, want)]


@pytest.mark.parametrize("what", AGREEING)
def test_results_are_those_of_numpy_on_the_device(cupy, what):
    call = AGREEING[what]
    for got, want in pairs(call(cupy, device()), call(np, host.copy())):
        assert type(got) is standin.ndarray, f"{what}: {type(got)}"
        assert got.dtype == want.dtype, what
        np.testing.assert_array_equal(got.get(), want, err_msg=what)


WRITING = {
    "x[0] = 1": lambda xp, x: x.__setitem__(0, 1),
    "x[mask] = 0": lambda xp, x: x.__setitem__(x > 2, 0),
    "x[index] = y": lambda xp, x: x.__setitem__((xp.asarray([1, 0]), xp.asarray([2, 2])), x[0, :2] * 10),
    "x[:, 1:] += y": lambda xp, x: x[:, 1:].__iadd__(x[:, :2].copy()),
    "x[...] = 0-d": lambda xp, x: x.__setitem__(..., x.sum()),
    "add.at": lambda xp, x: xp.add.at(x, (slice(None), xp.asarray([0, 0, 1])), 1.5),
    "maximum out": lambda xp, x: xp.maximum(x, 2, out=x),
    "fill": lambda xp, x: x.fill(3),
    "sort": lambda xp, x: x.sort(axis=0),
    "shape": lambda xp, x: setattr(x, "shape", (3, 2)),
}


@pytest.mark.parametrize("what", WRITING)
def test_writing_changes_what_it_changes_in_numpy(cupy, what):
    x, a = device(), host.copy()
    WRITING[what](cupy, x)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(x.get(), (WRITING[what](np, a), a)[1], err_msg=what)


def test_the_end_of_an_augmented_assignment_is_no_overlap():
    x = device()
    x[:, 1:] += 1
    x[x > 3] *= 2
    np.testing.assert_array_equal(x.get(), [[0, 2, 3], [3, 10, 12]])


def test_an_upload_and_a_download_are_copies(cupy):
    a = host.copy()
    x = cupy.asarray(a)
    a[...] = -1
    back = cupy.asnumpy(x)
    back[...] = -2
    x.get()[...] = -3
    np.testing.assert_array_equal(x.get(), host)
    assert cupy.asarray(x) is x and cupy.asarray(x, np.float32) is not x and cupy.array(x) is not x


def test_results_without_axes_are_arrays_on_the_device(cupy):
    x = device()
    for scalar in (x.sum(), x[0, 0], x[0][1], cupy.exp(x[0, 0]), -x[0, 0], cupy.array_equal(x, x), cupy.zeros(()), x.max() > 1):
        assert type(scalar) is standin.ndarray and scalar.shape == ()


def test_an_element_is_a_view():
    x = device()
    element = x[0, 1]
    element[...] = 9
    assert element.base is x and x[0, 1].item() == 9


def test_every_view_names_the_same_owner(cupy):
    x = device()
    views = [x[0], x[0][1:], x.T, x.T[1], x.reshape(3, 2), x.reshape(-1)[2:], x.ravel(), x.view(), x[None], x[...],
             cupy.broadcast_to(x, (4, 2, 3)), cupy.lib.stride_tricks.sliding_window_view(x, 2, 1), x.swapaxes(0, 1),
             cupy.split(x, 2)[1], cupy.moveaxis(x, 0, 1), cupy.expand_dims(x, 0), x.transpose(0, 1), x[:1].squeeze()]
    assert all(view.base is x for view in views)
    assert not any(view.flags.owndata for view in views)
    product = cupy.tensordot(x, x, axes=1 if x.shape[0] == x.shape[1] else ((0,), (0,)))
    for owner in (x, x + 1, x.copy(), x.sum(axis=0), x.T.reshape(-1), x[cupy.arange(2)], x.astype(np.float32), product):
        assert owner.base is None and owner.flags.owndata
    assert product[0].base is product


def test_what_changes_nothing_is_the_array_itself(cupy):
    x = device()
    for same in (x.squeeze(), cupy.squeeze(x), cupy.moveaxis(x, 0, 0), cupy.ascontiguousarray(x), x.astype(float, copy=False),
                 x.real):
        assert same is x
    assert cupy.ascontiguousarray(x.T).flags.c_contiguous and cupy.ascontiguousarray(x.sum()).shape == ()


def test_out_is_what_is_returned(cupy):
    x, out = device(), cupy.empty(3)
    for same in (x.sum(axis=0, out=out), cupy.max(x, axis=0, out=out), cupy.clip(out, 0, 1, out=out), cupy.exp(out, out),
                 cupy.add.reduce(x, out=out)):
        assert same is out
    np.testing.assert_array_equal(out.get(), host.sum(axis=0))


def test_the_attributes_of_an_array():
    x = device()
    assert (x.shape, x.ndim, x.size, x.itemsize, x.nbytes, x.strides) == ((2, 3), 2, 6, 8, 48, (24, 8))
    assert x.flags.c_contiguous and not x.flags.f_contiguous and x.flags["OWNDATA"] and not x.T.flags["C_CONTIGUOUS"]
    assert x[1].data.ptr - x.data.ptr == 24 and x.device.id == 0


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i4", "i8", "?"])
def test_unwritten_memory_holds_poison(cupy, dtype):
    for x in (cupy.empty(4, dtype), cupy.empty_like(cupy.zeros(4, dtype)), cupy.ndarray((4,), dtype)):
        a = x.get()
        assert a.dtype == dtype and (np.isnan(a).all() if a.dtype.kind == "f" else (a == a[0]).all() and a[0] != 0)


def test_products_are_contiguous(cupy):
    x = device()
    assert all(y.flags.c_contiguous for y in (x.T @ x, cupy.dot(x.T, x), cupy.tensordot(x.T, x, 1)))


def test_arrays_are_copied_and_pickled(cupy):
    x = device()
    for y in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert y is not x and y.base is None
        np.testing.assert_array_equal(y.get(), host)


def test_an_operand_that_wants_to_answer_is_let():
    class Tensor:
        __array_ufunc__ = None

        def __rmul__(self, other):
            return "asked"

    assert device() * Tensor() == "asked"


# --- who waits -----------------------------------------------------------------------------------------------------

READS = {
    "get": (1, lambda cp, x: x.get()),
    "asnumpy": (1, lambda cp, x: cp.asnumpy(x)),
    "item": (1, lambda cp, x: x.sum().item()),
    "tolist": (1, lambda cp, x: x.tolist()),
    "float": (1, lambda cp, x: float(x[0, 0])),
    "int": (1, lambda cp, x: int(x[0, 0])),
    "if": (1, lambda cp, x: 1 if (x > 0).any() else 0),
    "repr": (1, lambda cp, x: repr(x)),
    "format": (1, lambda cp, x: f"{x.sum():.2f}"),
    "x[mask]": (1, lambda cp, x: x[x > 0]),
    "x[mask] = 0": (1, lambda cp, x: x.__setitem__(x > 0, 0)),
    "nonzero": (2, lambda cp, x: (x.nonzero(), cp.nonzero(x))),
    "where of one argument": (1, lambda cp, x: cp.where(x > 0)),
    "unique": (1, lambda cp, x: cp.unique(x)),
    "array_equal": (1, lambda cp, x: bool(cp.array_equal(x, x))),
    "in": (3, lambda cp, x: 2.0 in x[0]),
    "pickle": (1, lambda cp, x: pickle.dumps(x)),
    "nothing read": (0, lambda cp, x: ((x @ x.T).sum() > 1, cp.where(x > 0, x, 0), x[cp.arange(2)], [row + 1 for row in x])),
    "waiting alone": (0, lambda cp, x: (cp.cuda.Device().synchronize(), cp.cuda.Stream.null.synchronize())),
}


@pytest.mark.parametrize("what", READS)
def test_reads_are_counted(cupy, what):
    x = device()
    expected, call = READS[what]
    before = standin.synchronisations.count
    with standin.counting() as syncs:
        call(cupy, x)
    assert syncs.count == len(syncs.places) == standin.synchronisations.count - before == expected
    assert all(place.startswith(__file__) for place in syncs.places), syncs.places
    assert syncs.waits == (2 if what == "waiting alone" else 0)


TEST_FILE = """
import numpy as np
def read(x, want):
    np.testing.assert_allclose(x, want)
    assert np.array_equal(x, want) and np.isfinite(x).all() and np.asarray(x)[0, 1] == 1 and np.concatenate([x, x]).size == 12
    return float(x[0, 1])
"""


def code_in(path):
    """The functions of TEST_FILE, as if they stood in the file of that path."""
    namespace = {}
    exec(compile(TEST_FILE, str(path), "exec"), namespace)
    return namespace["read"]


def test_a_test_file_may_read_uncounted_and_the_package_may_not(monkeypatch):
    tests = standin.HERE.parent
    with standin.counting() as syncs:
        assert code_in(tests / "nn" / "test_layers.py")(device(), host) == 1
    assert syncs.count == 0
    for elsewhere in (tests.parent / "minidl" / "autograd.py", tests / "cuda_on_cpu" / "engine.py"):
        with pytest.raises(TypeError, match="Implicit conversion"):
            code_in(elsewhere)(device(), host)
    monkeypatch.setattr(standin, "tests_may_read", False)
    with pytest.raises(TypeError, match="Implicit conversion"):
        code_in(tests / "nn" / "test_layers.py")(device(), host)


# --- the device, and kernels ---------------------------------------------------------------------------------------


def test_the_device_says_that_it_is_none(cupy):
    runtime = cupy.cuda.runtime
    assert cupy.cuda.is_available() and runtime.getDeviceCount() == 1 and cupy.cuda.Device().id == 0
    assert runtime.getDeviceProperties(0)["name"] == b"stand-in (no GPU)"
    free, total = runtime.memGetInfo()
    assert 0 < free <= total
    with pytest.raises(RuntimeError, match="invalid device"):
        cupy.cuda.Device(1)
    with cupy.cuda.Device(0):
        first, second = cupy.cuda.Event(), cupy.cuda.Event()
        first.record()
        second.record(cupy.cuda.get_current_stream())
        second.synchronize()
    assert cupy.cuda.get_elapsed_time(first, second) >= 0


def test_the_memory_pool_counts_living_owners(cupy):
    gc.collect()
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes()
    x = cupy.zeros(1024)
    view = x[1:]
    assert pool.used_bytes() == before + 8192
    del x
    assert pool.used_bytes() == before + 8192, "the view keeps the memory alive"
    del view
    assert pool.used_bytes() == before and pool.total_bytes() >= before + 8192
    pool.free_all_blocks()
    assert pool.total_bytes() == before


class Engine:
    """In the place of the engine that runs CUDA C: it writes down what it was asked."""

    def __init__(self):
        self.built, self.launched = [], []

    def build(self, source):
        self.built.append(source)
        return self

    def launch(self, *args, **kwargs):
        self.launched.append((args, kwargs))


@pytest.fixture
def engine(monkeypatch):
    recorder = Engine()
    monkeypatch.setitem(sys.modules, "engine", recorder)
    return recorder


def test_a_kernel_is_compiled_once_and_late_and_gets_plain_arguments(cupy, engine):
    module = cupy.RawModule(code="source", options=("-std=c++17",))
    kernel = module.get_function("f")
    assert engine.built == []
    x = device(dtype=np.float32)
    kernel((2,), (64, 2), (x, np.int32(6)), shared_mem=16)
    module.get_function("g")((1,), (1,), ())
    assert engine.built == ["source"]
    (name, grid, block, args), options = engine.launched[0]
    assert (name, grid, block, options) == ("f", (2,), (64, 2), {"shared_mem": 16})
    assert type(args[0]) is np.ndarray and args[0].ctypes.data == x.data.ptr and args[1] == np.int32(6)
    cupy.RawKernel("other", "h")((1,), (1,), ())
    assert engine.built == ["source", "other"] and engine.launched[-1][0][0] == "h"


LAUNCHES = {
    "a Python number": (TypeError, lambda k, x: k((1,), (1,), (x, 3))),
    "a host array": (TypeError, lambda k, x: k((1,), (1,), (host,))),
    "a list of arguments": (TypeError, lambda k, x: k((1,), (1,), [x])),
    "a strided array": (ValueError, lambda k, x: k((1,), (1,), (x.T,))),
    "a number as grid": (TypeError, lambda k, x: k(1, (1,), (x,))),
    "an empty grid": (RuntimeError, lambda k, x: k((0,), (1,), (x,))),
    "a block too large": (RuntimeError, lambda k, x: k((1,), (33, 32), (x,))),
    "too much shared memory": (RuntimeError, lambda k, x: k((1,), (1,), (x,), shared_mem=50_000)),
    "an unknown keyword": (TypeError, lambda k, x: k((1,), (1,), (x,), stream=None)),
}


@pytest.mark.parametrize("what", LAUNCHES)
def test_launches_that_cannot_be_right_are_refused(cupy, engine, what):
    error, launch = LAUNCHES[what]
    with pytest.raises(error):
        launch(cupy.RawModule(code="").get_function("f"), device())
    assert engine.launched == []


# --- the modules, and the table ------------------------------------------------------------------------------------


def test_it_takes_the_place_of_cupy_and_leaves_it(monkeypatch):
    standin.uninstall()
    other = type(sys)("cupy")
    monkeypatch.setitem(sys.modules, "cupy", other)
    cupy = standin.install()
    assert importlib.import_module("cupy.lib.stride_tricks") is cupy.lib.stride_tricks
    assert importlib.import_module("cupy.cuda.runtime") is cupy.cuda.runtime
    assert sys.modules["cupy"] is cupy is standin.install() and importlib.util.find_spec("cupy") is not None
    assert cupy.__version__ == standin.TABLE["version"] and cupy.float32 is np.float32 and cupy.newaxis is None
    assert cupy.get_array_module(device()) is cupy and cupy.get_array_module(host) is np
    standin.uninstall()
    assert sys.modules["cupy"] is other and "cupy.cuda" not in sys.modules


def own_functions():
    """(table entry, name, function) of whatever this module writes out by hand."""
    for name, value in standin.OWN.items():
        if inspect.isfunction(value):
            yield standin.TABLE["cupy"][name], name, value
    for name, value in vars(standin.ndarray).items():
        if inspect.isfunction(value) and name in standin.TABLE["ndarray"] and name not in standin.METHODS:
            yield standin.TABLE["ndarray"][name], f"ndarray.{name}", value


def test_everything_written_by_hand_exists_in_cupy_with_those_parameters():
    for entry, name, function in own_functions():
        allowed = {word.strip("*=") for word in entry.split(", ")} | {"self"}
        assert set(inspect.signature(function).parameters) <= allowed, f"{name} of {entry}"
    public = {name for name in vars(standin.ndarray) if not name.startswith("_")}
    assert public <= standin.TABLE["ndarray"].keys()
    assert vars(standin.Flags(host, True)).keys() <= standin.TABLE["ndarray.flags"].keys()
    for path, module in standin.MODULES.items():
        if path in standin.TABLE:
            own = {name for name in vars(module) if not name.startswith("_")}
            assert own <= standin.TABLE[path].keys(), f"{path}: {sorted(own - standin.TABLE[path].keys())}"


def test_every_name_that_it_has_not_says_so(cupy):
    for name in standin.TABLE["cupy"]:
        try:
            getattr(cupy, name)
        except NotImplementedError as error:
            assert name in str(error)


def test_the_comparison_of_tables_tells_what_matters():
    old = dict(version="1", cupy=dict(f="a, axis=", g="x", u="ufunc 1 1 at", h="?"))
    same = json.loads(json.dumps(old))
    assert make_table.differences(old, same) == ([], False)
    cases = {"a name gone": (dict(g=None), True), "a name new": (dict(k="a"), False), "a parameter gone": (dict(f="a"), True),
             "a parameter new": (dict(f="a, axis=, out="), False), "a parameter demanded": (dict(f="a, b, axis="), True),
             "at gone": (dict(u="ufunc 1 1"), True), "not told": (dict(h="a, b"), False)}
    for label, (change, matters) in cases.items():
        functions = {name: entry for name, entry in {**old["cupy"], **change}.items() if entry is not None}
        lines, matter = make_table.differences(old, dict(version="1", cupy=functions))
        assert len(lines) == 1 and matter is matters, label


def test_the_table_is_that_of_the_installed_cupy():
    standin.uninstall()
    real = pytest.importorskip("cupy", reason="needs the real CuPy, but no GPU: pip install cupy-cuda13x")
    if real.__version__ != standin.TABLE["version"]:
        pytest.skip(f"the table is of CuPy {standin.TABLE['version']}, not {real.__version__}: make_table.py --compare")
    assert make_table.fresh_table() == standin.TABLE
    device, theirs = standin.standin_device, real.cuda
    for own, other in ((device.Device, theirs.Device), (device.Stream, theirs.Stream), (device.Event, theirs.Event),
                       (device.MemoryPool, theirs.MemoryPool), (device.MemoryPointer, theirs.MemoryPointer),
                       (device.CompileException, theirs.compiler.CompileException), (standin.RawKernel, real.RawKernel),
                       (standin.ufunc, real.ufunc)):
        assert {name for name in vars(own) if not name.startswith("_")} <= set(dir(other)), own
