"""Kernels cut into the smallest parts that they can be cut into, for inputs that are too small to be cut at all."""
from contextlib import contextmanager

from minidl import threads
from minidl.ops import batch_norm_cpu, conv2d_cpu, linear_cpu, pool_cpu, winograd

SIZES = [(threads, "MOST", 4), (threads, "ENOUGH", 1), (conv2d_cpu, "PIECE", 100), (winograd, "MOST", 300),
         (winograd, "COLUMNS", 3), (pool_cpu, "BLOCK", 10), (batch_norm_cpu, "SEGMENT", 2),
         (linear_cpu, "SMALL_PRODUCT", 6), (linear_cpu, "ENOUGH", 1), (linear_cpu, "FEW_ROWS", 1),
         (conv2d_cpu, "SMALL_PRODUCT", 1000), (conv2d_cpu, "LEAST_COLUMNS", 1)]


@contextmanager
def small_parts(number_of_threads=3):
    """A `with` block in which that many threads share parts of a few elements."""
    before = [getattr(module, name) for module, name, _ in SIZES]
    number_before = threads.get_num_threads()
    threads.set_num_threads(number_of_threads)
    for module, name, size in SIZES:
        setattr(module, name, size)
    try:
        yield
    finally:
        for (module, name, _), size in zip(SIZES, before):
            setattr(module, name, size)
        threads.set_num_threads(number_before)
