"""The pool of threads: right values however it is used, BLAS's own number put back, memory that is kept within bounds."""
import os
import platform
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from operation_checks import relative_error
from threadpoolctl import ThreadpoolController

import minidl
from minidl import ops, threads
from minidl.ops import OPS

pytestmark = pytest.mark.cpu("these are the CPU's threads")


@pytest.fixture(autouse=True)
def number_kept():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def set_blas(number):
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        threads._set_blas(library, number)


@pytest.fixture
def two_blas_threads():
    """BLAS has two threads, as it has for a user; tests run with one."""
    before = blas_threads()
    set_blas(2)
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        library.set_num_threads(2)  # as a user does it: threadpoolctl will listen to this thread alone
    assert set(blas_threads()) == {2}
    yield
    for library, number in zip(ThreadpoolController().select(user_api="blas").lib_controllers, before):
        threads._set_blas(library, number)


def blas_threads():
    return [library.num_threads for library in ThreadpoolController().select(user_api="blas").lib_controllers]


def run_python(script, **variables):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# how many

@pytest.mark.parametrize(("n", "error", "words"), [
    (0, ValueError, "from 1 to 1024 threads, got 0"), (-1, ValueError, "from 1 to"), (10**30, ValueError, "from 1 to"), (2.0,
    TypeError, "whole number, got 2.0"), (True, TypeError, "whole number"), ("2", TypeError, "whole number")])
def test_the_number_of_threads_is_a_whole_number_from_1_on(n, error, words):
    with pytest.raises(error, match=words):
        minidl.set_num_threads(n)


def test_the_number_comes_from_the_environment_else_from_the_cores():
    script = "import minidl; print(minidl.get_num_threads())"
    assert run_python(script, MINIDL_NUM_THREADS="3") == "3"
    assert run_python(script, MINIDL_NUM_THREADS="") == str(len(os.sched_getaffinity(0)))
    for wrong in ("0", "two", "-1", "1.5", "9" * 20):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                              env={**os.environ, "MINIDL_NUM_THREADS": wrong})
        assert f"MINIDL_NUM_THREADS must be a whole number from 1 to 1024, got {wrong!r}" in done.stderr


def test_set_num_threads_holds_also_when_the_pool_is_there_already():
    for n in (2, 4, 1, 3):
        minidl.set_num_threads(n)
        together, names = threading.Barrier(n, timeout=30), set()

        def body(part, together=together, names=names):
            together.wait()  # only n threads at once get past it
            names.add(threading.get_ident())

        threads.for_each(body, range(n))
        assert len(names) == minidl.get_num_threads() == n


# cutting

@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (1, 5), (5, 3), (2, 7, 3), (1, 1, 9), (4, 0, 3), (9, 2, 2, 2)], ids=str)
def test_split_covers_every_element_once(monkeypatch, n, shape):
    monkeypatch.setattr(threads, "MOST", 4)
    monkeypatch.setattr(threads, "ENOUGH", 1)
    threads.set_num_threads(n)
    count = np.zeros(shape, int)
    for index in threads.split(shape):
        count[index] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 12])
def test_ranges_and_shares_cover_every_number_once(n, count):
    threads.set_num_threads(n)
    cuts = [threads.ranges(count, 2), threads.even(count, 2, n), threads.even(count, 100, n), threads.shares(count),
            threads.shares(count, least=3)]
    for parts in cuts:
        assert [i for part in parts for i in range(count)[part]] == list(range(count)), parts
    assert all(part.stop - part.start <= 2 for part in cuts[1])
    assert len(cuts[2]) == min(n, count) and (len(cuts[4]) == 1 or all(p.stop - p.start >= 3 for p in cuts[4]))


# using it

def test_an_error_in_a_part_is_raised_here_and_stops_the_rest():
    threads.set_num_threads(2)
    done = []

    def body(part):
        if part == 3:
            raise KeyError("three")
        time.sleep(0.001)
        done.append(part)

    with pytest.raises(KeyError, match="three"):
        threads.for_each(body, range(1000))
    assert len(done) < 100
    threads.for_each(done.append, [-1, -2])
    assert {-1, -2} <= set(done), "the pool is of no use after an error"


def test_an_error_of_the_other_thread_is_raised_here():
    threads.set_num_threads(2)
    both_inside, here = threading.Barrier(2, timeout=30), threading.get_ident()

    def body(part):
        both_inside.wait()
        if threading.get_ident() != here:
            raise KeyError("over there")

    with pytest.raises(KeyError, match="over there"):
        threads.for_each(body, range(2))


def test_all_threads_have_stopped_when_an_error_is_raised():
    threads.set_num_threads(2)
    both_inside, here, done = threading.Barrier(2, timeout=30), threading.get_ident(), []

    def body(part):
        both_inside.wait()
        if threading.get_ident() == here:
            raise KeyError("here")
        time.sleep(0.2)
        done.append(part)

    with pytest.raises(KeyError, match="here"):
        threads.for_each(body, range(2))
    assert len(done) == 1, "the other thread goes on behind the caller's back"


def test_nested_use_runs_on_its_own_thread():
    threads.set_num_threads(2)
    idents, both_inside = {}, threading.Barrier(2, timeout=30)

    def outer(part):
        both_inside.wait()  # so the pool's only thread is busy when the inner loops begin
        threads.for_each(lambda inner: idents.setdefault(part, set()).add(threading.get_ident()), range(8))

    threads.for_each(outer, range(2))
    assert set(idents) == {0, 1} and all(len(found) == 1 for found in idents.values())


def convolution(seed):
    rng = np.random.default_rng(seed)
    x, w = (minidl.Tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)
            for shape in ((4, 9, 24, 20), (8, 9, 3, 3)))
    y = ops.max_pool2d(ops.relu(ops.conv2d(x, w, padding=1)), 2)
    y.backward(rng.standard_normal(y.shape).astype(np.float32))
    return y.numpy(), x.grad, w.grad


def test_several_python_threads_get_right_values(threads_share):
    want = [convolution(seed) for seed in range(6)]
    got = [None] * 6

    def work(seed):
        for _ in range(3):
            got[seed] = convolution(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for arrays, others in zip(got, want):
        assert all(np.array_equal(a, b) for a, b in zip(arrays, others))


def test_blas_is_put_back_also_after_an_error_and_with_several_callers(two_blas_threads):
    inside = []
    threads.for_each(lambda part: inside.extend(blas_threads()), range(4))
    assert set(inside) == {1} and set(blas_threads()) == {2}
    with pytest.raises(ZeroDivisionError):
        threads.for_each(lambda part: 1 / 0, range(4))
    assert set(blas_threads()) == {2}
    square = np.ones((50, 50))
    workers = [threading.Thread(target=threads.for_each, args=(lambda part: square @ square, range(50))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize("first", ["main", "other"])
def test_blas_stays_on_one_thread_until_the_last_caller_is_done_whoever_came_first(two_blas_threads, first):
    """threadpoolctl listens to one Python thread alone, the first that sets a number, until it is told to forget it."""
    inside, other_is_done, seen = threading.Event(), threading.Event(), []

    def long(part):
        inside.set()
        assert other_is_done.wait(30)
        seen.extend(blas_threads())

    def short():
        assert inside.wait(30)
        threads.for_each(lambda part: None, [0])
        other_is_done.set()

    programs = [lambda: threads.for_each(long, [0]), short]
    worker = threading.Thread(target=programs[0 if first == "other" else 1])
    worker.start()
    programs[1 if first == "other" else 0]()
    worker.join()
    assert set(seen) == {1} and set(blas_threads()) == {2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_makes_a_pool_of_its_own():
    script = """
import os, numpy as np, minidl
from minidl import ops, threads
minidl.set_num_threads(2)
x, w = np.random.default_rng(0).standard_normal((4, 9, 24, 20)), np.ones((8, 9, 3, 3))
want = ops.conv2d(x, w).numpy()
threads.for_each(lambda part: None, range(4))
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(ops.conv2d(x, w).numpy(), want) else 1)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children], np.array_equal(ops.conv2d(x, w).numpy(), want))
"""
    assert run_python(script) == "[0, 0, 0] True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_in_the_middle_of_a_kernel_has_blas_as_it_was():
    script = """
import os, minidl
from minidl import threads
from threadpoolctl import ThreadpoolController
minidl.set_num_threads(2)
numbers = lambda: {library.num_threads for library in ThreadpoolController().select(user_api="blas").lib_controllers}
before, status = numbers(), []
def body(part):
    if part == 0:
        child = os.fork()
        if child == 0:
            done = []
            threads.for_each(done.append, range(3))
            os._exit(0 if sorted(done) == [0, 1, 2] and numbers() == before else 1)
        status.append(os.waitpid(child, 0)[1])
threads.for_each(body, range(2))
print(status)
"""
    assert run_python(script, OPENBLAS_NUM_THREADS="2") == "[0]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_leaves_the_kernel_it_was_forked_in_has_not_entered_it():
    script = """
import os, minidl
from minidl import threads
minidl.set_num_threads(2)
children = []
def body(part):
    if part == 0:
        children.append(os.fork())
threads.for_each(body, range(1))
if children == [0]:
    os._exit(0 if threads._state.callers == 0 else 1)
print(os.waitpid(children[0], 0)[1], threads._state.callers)
"""
    assert run_python(script) == "0 0"


def test_a_thread_that_outlives_the_main_program_computes_alone():
    script = """
import threading, time, numpy as np, minidl
from minidl import ops
minidl.set_num_threads(2)
def work():
    time.sleep(0.3)  # by now the interpreter takes no more work for pools
    print(ops.conv2d(np.ones((4, 9, 24, 20)), np.ones((8, 9, 3, 3))).numpy().sum())
threading.Thread(target=work).start()
"""
    assert run_python(script) == str(float(4 * 8 * 22 * 18 * 81))


def test_the_number_may_change_while_kernels_run():
    stop, errors = threading.Event(), []

    def work():
        while not stop.is_set():
            found = []
            try:
                threads.for_each(found.append, range(6))
                assert sorted(found) == list(range(6))
            except BaseException as error:
                errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for k in range(300):
        threads.set_num_threads(2 + k % 2)
    stop.set()
    for worker in workers:
        worker.join()
    assert not errors, errors[0]


# memory

def test_scratch_is_kept_aligned_apart_and_within_its_cap(monkeypatch):
    monkeypatch.setattr(threads, "LARGEST_SCRATCH", 10_000)
    threads._local.buffers.clear()
    a, b = threads.scratch(np.float32, (3, 5), (7,))
    a[...], b[...] = 1, 2
    assert a.shape == (3, 5) and (a == 1).all() and (b == 2).all() and not np.shares_memory(a, b)
    assert a.ctypes.data % 64 == b.ctypes.data % 64 == 0
    again, = threads.scratch(np.float64, (2, 2))
    assert np.shares_memory(again, a), "memory that was kept is used again"
    large, = threads.scratch(np.uint8, (20_000,))
    assert not np.shares_memory(large, threads.scratch(np.uint8, (20_000,))[0])
    other, = threads.scratch(np.float32, (1000,), purpose="another")
    assert not np.shares_memory(other, threads.scratch(np.float32, (1000,))[0]), "each purpose has memory of its own"
    third, = threads.scratch(np.float32, (1000,), purpose="a third, beyond the cap")
    assert not np.shares_memory(third, threads.scratch(np.float32, (1000,), purpose="a third, beyond the cap")[0])
    assert sum(buffer.nbytes for buffer in threads._local.buffers.values()) <= 10_000
    threads._local.buffers.clear()
    others = []
    worker = threading.Thread(target=lambda: others.extend(threads.scratch(np.float32, (3, 5))))
    worker.start()
    worker.join()
    assert not np.shares_memory(others[0], threads.scratch(np.float32, (3, 5))[0])


@pytest.mark.parametrize(("setting", "kept"), [("1", True), ("0", False), ("off", False)])
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is told")
def test_freed_memory_is_kept_unless_told_otherwise(setting, kept):
    script = """
import numpy as np
from minidl import threads
threads.for_each(lambda part: None, range(2))
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
x = np.ones(50_000_000, np.uint8); del x
print(resident() - before > 40_000_000)
"""
    assert run_python(script, MINIDL_MALLOC=setting) == str(kept)


# the same results

def large_samples(op):
    """Inputs large enough for several threads to share."""
    rng = np.random.default_rng(0)

    def r(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    images, C = r(6, 12, 60, 52), 12
    return {
        "conv2d": [((images, r(16, 12, 3, 3), r(16)), dict(padding=1)), ((images, r(16, 12, 3, 3)), dict(stride=2)),
                   ((images, r(7, 12, 1, 1)), {}), ((r(5, 96, 20, 22), r(96, 96, 3, 3)), dict(padding=1))],
        "conv_transpose2d": [((r(2, 8, 20, 20), r(8, 4, 4, 4)), dict(stride=2)),
                             ((r(3, 12, 40, 44), r(12, 5, 3, 3), r(10)), dict(groups=2, padding=1))],
        "linear": [((r(16, 600), r(900, 600), r(900)), {}), ((r(4, 600), r(1900, 600), r(1900)), {})],
        "cross_entropy": [((r(2, 21, 90, 80), rng.integers(0, 21, (2, 90, 80))), {}),
                          ((r(1, 21, 130, 120), rng.integers(0, 21, (1, 130, 120))), dict(ignore_index=3)),
                          ((r(400, 700), rng.integers(0, 700, 400)), {})],
        "concat": [((images, images[:, :5].copy(), r(6, 40, 60, 52)), dict(axis=1))],
        "batch_norm": [((images, r(C), r(C)), {})],
        "batch_norm_eval": [((images, r(C), r(C), r(C), abs(r(C))), {})],
        "max_pool2d": [((images,), dict(kernel_size=3, stride=2, padding=1))],
        "avg_pool2d": [((images,), dict(kernel_size=3, stride=2, padding=1))],
        "add": [((images, images[::-1].copy()), {})], "dropout": [((images, images > 0), dict(p=0.3))],
        "lrn": [((images,), dict(alpha=0.5))],
    }.get(op.name, [((images,), {})])


@pytest.mark.parametrize("op", [op for op in OPS if op.forward_cpu is not None], ids=lambda op: op.__name__)
def test_results_are_the_same_bits_on_every_run_and_nearly_so_for_every_number_of_threads(op):
    for inputs, options in large_samples(op):
        results = []
        for n in (1, 2, 2, 3):
            threads.set_num_threads(n)
            tensors = [minidl.Tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
            y = minidl.apply(op(**options), *tensors)
            y.backward(np.random.default_rng(1).standard_normal(y.shape).astype(np.float32))
            results.append([y.numpy(), *(t.grad for t in tensors if t.requires_grad)])
        one, two, again, three = results
        for k, arrays in enumerate(zip(one, two, again, three)):
            assert np.array_equal(arrays[1], arrays[2]), f"{op.name}: result {k} differs between two runs"
            for other in arrays[1:]:
                assert relative_error(other, arrays[0]) <= 1e-5, f"{op.name}: result {k} depends on the number of threads"
