"""Work over CPU threads, and memory that stays warm.

NumPy uses several cores for matrix products (inside BLAS) and for nothing else: a copy, a sum, a ReLU run on one. But while it
works it lets other Python threads run. So a kernel cuts its work into parts (the images of a batch, say) and a pool of threads
takes one part after the other, each with BLAS on one thread:

    def body(part):                         # runs on some thread
        cols, = scratch(x.dtype, (C * 9, OH * OW))
        ...
    for_each(body, ranges(N, 4))            # four images at a time

Three promises. Results do not depend on which thread does what: parts write to places of their own, and sums over parts are
added in the order of the parts. Calls may be nested (the inner one runs on its own thread), come from several Python threads,
and go on after a fork. BLAS's own number of threads, which the whole process shares, is put back after every call.
"""
import ctypes
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

MOST_THREADS = 1024

LARGEST_SCRATCH = 160 * 2**20
"""Bytes of scratch memory that each thread keeps between calls, for all purposes together; what a kernel needs beyond that is
given back at once."""

_ALIGNMENT = 64  # a cache line, and the widest vector


class _State:
    """What the process shares. Made anew in a forked child, which inherits no threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pool: ThreadPoolExecutor | None = None
        self.callers = 0  # how many for_each are at work, each with BLAS on one thread
        self.blas_before: list[tuple[Any, int]] = []


class _Local(threading.local):
    """What one thread has: whether it is inside for_each, and its scratch memory."""

    busy = False

    def __init__(self) -> None:  # runs once in every thread
        self.buffers: dict[str, np.ndarray] = {}


_state = _State()
_local = _Local()
_threads: int | None = None  # None: as many as there are cores
_blas: list[Any] | None = None
_allocator_set = False


# how many

def set_num_threads(n: int) -> None:
    """How many threads kernels use on the CPU. At first: MINIDL_NUM_THREADS, else the cores that this process may use.

    Results are the same bits on every run with one number of threads. Errors: TypeError, ValueError.
    """
    global _threads
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"set_num_threads: needs a whole number, got {n!r} ({type(n).__name__})")
    if not 1 <= n <= MOST_THREADS:
        raise ValueError(f"set_num_threads: needs from 1 to {MOST_THREADS} threads, got {n}")
    with _state.lock:
        pool, _state.pool, _threads = _state.pool, None, int(n)
    if pool is not None:
        pool.shutdown(wait=False)  # what was handed to it still runs


def get_num_threads() -> int:
    """How many threads kernels use on the CPU."""
    global _threads
    if _threads is None:
        _threads = _threads_at_start()
    return _threads


def _threads_at_start() -> int:
    wanted = os.environ.get("MINIDL_NUM_THREADS", "").strip()
    if wanted:
        if not (wanted.isascii() and wanted.isdecimal()) or not 1 <= int(wanted[:9]) <= MOST_THREADS:
            raise ValueError(f"MINIDL_NUM_THREADS must be a whole number from 1 to {MOST_THREADS}, got {wanted!r}: "
                             "set it to the number of threads, or unset it for all cores")
        return int(wanted)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux: the cores that this process may use
    return len(affinity(0)) if affinity else os.cpu_count() or 1


# work

def ranges(count: int, step: int) -> list[slice]:
    """0:step, step:2 step, ... up to count."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def even(count: int, most: int, multiple: int = 1) -> list[slice]:
    """range(count) in nearly equal parts of at most `most`; their number is a multiple of `multiple`, if count allows."""
    parts = -(-count // most)
    parts = min(count, -(-parts // multiple) * multiple)
    return [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


def shares(count: int, least: int = 1) -> list[slice]:
    """range(count) in one nearly equal part per thread, none smaller than `least`."""
    parts = max(1, min(get_num_threads(), count // max(1, least)))
    return [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]


def for_each(body: Callable[[Any], None], parts: Sequence[Any]) -> None:
    """Calls body(part) for every part, on all threads, and returns when all are done. The first error is raised here.

    Inside another for_each it is a plain loop. BLAS runs on one thread meanwhile, also where there is only one part: its own
    threads go on turning for some 25 milliseconds after a product, waiting for the next, and take the cores from ours.
    """
    keep_freed_memory()
    if _local.busy:
        for part in parts:
            body(part)
        return
    helpers = min(get_num_threads(), len(parts)) - 1
    waiting, lock = iter(parts), threading.Lock()

    def work() -> None:
        _local.busy = True
        try:
            while True:
                with lock:
                    part = next(waiting, waiting)
                if part is waiting:
                    return
                body(part)
        except BaseException:
            with lock:
                for _ in waiting:  # nobody starts another part
                    pass
            raise
        finally:
            _local.busy = False

    with blas_on_one_thread():
        others = []
        for _ in range(helpers):
            try:
                others.append(_pool(helpers).submit(work))
            except RuntimeError:  # the interpreter is ending, or set_num_threads has just closed this pool: fewer do the work
                break
        error = theirs = None
        try:
            work()
        except BaseException as mine:
            error = mine
        for other in others:
            theirs = other.exception()  # waits: nobody may still write when this returns
            error = error or theirs
        if error is not None:
            try:
                raise error
            finally:
                del error, theirs, others  # else the error holds this frame and the frame the error, with all arrays in between


SMALL_PRODUCT = 600_000
"""Up to about a million multiplications OpenBLAS takes matrices as they lie. For more it first copies them into an order of its
own, which is dear where each number is used a few times only: where rows or filters are few, products are cut down to this."""

MOST = 2**20
"""Elements that a part of an elementwise kernel should have at most."""

ENOUGH = 2**18
"""Elements from which on threads help. Parts are as large as they can be: a thread that comes back from NumPy has to wait for
the interpreter until the other thread goes into NumPy again, and is woken up late. Calls of some 100 microseconds make that
rare; smaller parts, which would stay in the cache, lose more than they win."""


def split(shape: tuple[int, ...]) -> list[tuple]:
    """Indices that cut an array of this shape, along its first two axes, into equally many parts for every thread."""
    total, threads = math.prod(shape), get_num_threads()
    if not shape or total < ENOUGH or (threads == 1 and total <= MOST):
        return [(...,)]
    parts = -(-total // MOST)
    parts = -(-parts // threads) * threads
    if shape[0] >= parts or len(shape) == 1:
        return [(part,) for part in even(shape[0], 1 + (shape[0] - 1) // parts, threads)]
    across = -(-parts // shape[0])
    return [(slice(n, n + 1), part) for n in range(shape[0]) for part in even(shape[1], 1 + (shape[1] - 1) // across)]


def split_keeping_channels(shape: tuple[int, ...]) -> list[tuple]:
    """Indices that cut an array (N, C, ...) into a part per thread, all channels in each: by images, few large ones by rows."""
    if split(shape) == [(...,)]:
        return [(...,)]
    if shape[0] >= get_num_threads() or len(shape) == 2:
        return [(images,) for images in shares(shape[0])]
    return [(slice(None), slice(None), rows) for rows in shares(shape[2])]


def in_parts(body: Callable[..., Any], *arrays: np.ndarray) -> None:
    """body(part of each array) for all parts. The arrays have one shape; body writes into the last."""
    if arrays[-1].size < ENOUGH:
        body(*arrays)
        return
    for_each(lambda index: body(*(x[index] for x in arrays)), split(arrays[-1].shape))


def _pool(helpers: int) -> ThreadPoolExecutor:
    with _state.lock:
        if _state.pool is None:
            _state.pool = ThreadPoolExecutor(max(helpers, get_num_threads() - 1), "minidl", _one_blas_thread_here)
        return _state.pool


# BLAS

def _blas_libraries() -> list[Any]:
    """Handles of the BLAS libraries in this process. Looking for them takes milliseconds, so it is done once."""
    global _blas
    if _blas is None:
        from threadpoolctl import ThreadpoolController
        _blas = [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]
    return _blas


def _of_each_thread(library: Any) -> bool:
    """Whether every Python thread has a number of its own there (MKL, OpenMP); else the process has one (OpenBLAS)."""
    return library.internal_api == "mkl" or getattr(library, "threading_layer", "") == "openmp"


def _set_blas(library: Any, number: int) -> None:
    """For the process's one number, threadpoolctl listens to the first thread that sets it, and to no other until told to."""
    forget = getattr(library, "clear_controlling_thread", None)
    if forget is not None:
        forget(force=True)
    library.set_num_threads(number)
    if forget is not None:
        forget(force=True)


def _one_blas_thread_here() -> None:
    """For a thread of the pool, which multiplies for `for_each` alone."""
    for library in _blas_libraries():
        if _of_each_thread(library):
            library.set_num_threads(1)


@contextmanager
def blas_on_one_thread() -> Iterator[None]:
    """A `with` block in which BLAS uses one thread; where its number is the process's, in all Python threads.

    Blocks of several threads may overlap: the first sets the number, the last puts it back.
    """
    libraries = _blas_libraries()
    own = [(library, library.get_num_threads()) for library in libraries if _of_each_thread(library)]
    for library, _ in own:
        library.set_num_threads(1)
    state = _state  # a child forked in the block has another one, in which it has not entered
    with state.lock:
        if state.callers == 0:
            shared = [library for library in libraries if not _of_each_thread(library)]
            state.blas_before = [(library, n) for library in shared if (n := library.get_num_threads()) != 1]
            for library, _ in state.blas_before:
                _set_blas(library, 1)
        state.callers += 1
    try:
        yield
    finally:
        if state is _state:
            with state.lock:
                state.callers -= 1
                if state.callers == 0:
                    for library, before in state.blas_before:
                        _set_blas(library, before)
        for library, before in own:
            library.set_num_threads(before)


# memory

def scratch(dtype: Any, *shapes: tuple[int, ...], purpose: str = "") -> list[np.ndarray]:
    """Arrays for use until this thread's next call of `scratch` for the same purpose: their numbers are whatever was there.

    They lie one behind the other in a buffer of the thread's own that is kept, up to LARGEST_SCRATCH bytes: fresh memory costs
    more than most kernels, since the system clears every page of it, and no cache holds it.
    """
    dtype = np.dtype(dtype)
    sizes = [-(-math.prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT for shape in shapes]
    total = sum(sizes) + _ALIGNMENT
    kept = _local.buffers
    buffer = kept.get(purpose)
    if buffer is None or buffer.nbytes < total:
        kept.pop(purpose, None)  # given back before the larger one is taken
        buffer = np.empty(total, np.uint8)
        if total + sum(other.nbytes for other in kept.values()) <= LARGEST_SCRATCH:
            kept[purpose] = buffer
    start = -buffer.ctypes.data % _ALIGNMENT
    arrays = []
    for shape, size in zip(shapes, sizes):
        arrays.append(np.ndarray(shape, dtype, buffer, start))
        start += size
    return arrays


def keep_freed_memory() -> None:
    """Tells glibc, once, to keep freed arrays for the next ones instead of giving them back to the system.

    M_MMAP_MAX = 0: large arrays come from the heap; M_TRIM_THRESHOLD at its largest: the heap does not shrink; M_ARENA_MAX = 1:
    all threads share it, since heaps of their own would shrink. So the process stays as large as it has ever been.
    MINIDL_MALLOC=0 turns it off; other C libraries are left alone.
    """
    global _allocator_set
    if _allocator_set:
        return
    _allocator_set = True
    if os.environ.get("MINIDL_MALLOC", "1").lower() in ("0", "false", "off", "no") or not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # only glibc has it
        libc.mallopt(-4, 0)
        libc.mallopt(-1, 2**31 - 1)
        libc.mallopt(-8, 1)
    except (OSError, AttributeError):
        pass


# fork

def _after_fork() -> None:
    """In the child: the parent's threads are not here, and whatever they were doing will not be finished."""
    global _state
    before = _state.blas_before if _state.callers else []
    _state = _State()
    _local.busy = False
    for library, number in before:
        _set_blas(library, number)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
