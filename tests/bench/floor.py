"""The least time that a network can take with NumPy on this machine: its products alone, and its bytes over the bandwidth.

    python tests/bench/floor.py [NAME...]

Products: every convolution and linear layer as the bare products that it comes down to, forward and both gradients, on all
threads, with operands that lie ready: nothing is unfolded, padded or added, and Winograd's kernels are not transformed. For 3x3
kernels at stride 1 Winograd's products are timed, too, and the lesser counts. Bytes: every other operation reads its inputs and
writes its output once (batch norm reads twice: the mean comes before the rest), backward likewise, the optimizer reads three
arrays and writes two; at the speed at which `c = a + b` runs through large arrays. What a real program needs on top, copies and
Python, is left out, so no program of NumPy calls that computes operation by operation can be faster.

Beside it stands PyTorch's time from last.json, if that has the network. Prints figures, judges nothing.
"""
import functools
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from minidl import Tensor, models, no_grad, threads
from minidl.autograd import shapes_only, watch
from minidl.cli.bench import SUITE

COLUMNS = 3136
"""Columns of a product, at least: several small images are multiplied together."""


def seconds(body, runs=7):
    """The median time of body(k) on all threads at once."""
    number = range(threads.get_num_threads())
    threads.for_each(body, number)
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        threads.for_each(body, number)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


@functools.cache
def product(M, K, N, kind="nn"):
    """Seconds of out (M, N) = a (M, K) @ b (K, N), shared by all threads. kind "nt": b lies transposed."""
    rng, number = np.random.default_rng(0), threads.get_num_threads()
    operands = [(rng.standard_normal((M, K), np.float32),
                 rng.standard_normal((K, N) if kind == "nn" else (N, K), np.float32), np.empty((M, N), np.float32))
                for _ in range(number)]
    repeat = max(1, int(2e8 / (M * K * N)))

    def body(k):
        a, b, out = operands[k]
        for _ in range(repeat):
            np.matmul(a, b if kind == "nn" else b.T, out=out)
    return seconds(body) / repeat / number


def convolution(x, w, y, stride, first):
    """Seconds of (forward, backward); the gradient of the first layer's images is not computed."""
    (N, C, _, _), (F, Cg, KH, KW), pixels = x, w, y[2] * y[3]
    groups, Fg, K = C // Cg, F // (C // Cg), Cg * KH * KW
    columns = pixels * max(1, min(N, -(-COLUMNS // pixels)))
    count = N * pixels / columns * groups
    forward = count * product(Fg, K, columns)
    dw = count * min(product(Fg, columns, K, "nt"), product(K, columns, Fg, "nt"))
    dx = count * product(K, Fg, columns)
    if stride == (1, 1):
        dx = min(dx, count * product(Cg, Fg * KH * KW, columns))
    if (KH, KW) == (3, 3) and stride == (1, 1):
        tiles = N * -(-y[2] // 4) * -(-y[3] // 4)
        T = min(tiles, 1024)
        count = groups * tiles / T

        def gathered(channels):
            return product(36, 36, channels * T)

        def scattered(channels):
            return product(channels * T, 36, 16)
        forward = min(forward, count * (36 * product(Fg, Cg, T) + gathered(Cg) + scattered(Fg)))
        dx = min(dx, count * (36 * product(Cg, Fg, T) + gathered(Fg) + scattered(Cg)))
        dw = min(dw, count * (36 * product(Fg, T, Cg, "nt") + gathered(Cg) + product(36, 16, Fg * T)))
    return forward, dw if first else dx + dw


def linear(x, w):
    """Seconds of (forward, backward)."""
    rows, (F, D) = x[0], w
    return product(F, D, rows, "nt"), product(rows, F, D) + product(F, rows, D)


@functools.cache
def seconds_per_number():
    """Of arrays that are read or written, on all threads: a third of a number's time in c = a + b."""
    size = 2**24
    arrays = [[np.ones(size, np.float32) for _ in range(3)] for _ in range(threads.get_num_threads())]

    def body(k):
        a, b, c = arrays[k]
        np.add(a, b, out=c)
    return seconds(body) / (3 * size * len(arrays))


def steps_of(name, batch, training):
    """(function, shapes of its inputs, their identities, shape of its output) of all that a forward pass runs; how many numbers
    the parameters have."""
    net = models.build(name)
    net = net.train() if training else net.fuse()
    steps, held = [], []

    def record(function, inputs, y):
        held.append((inputs, y))  # as long as they live, their ids are their own
        steps.append((function, [x.shape for x in inputs], [id(x) for x in inputs], y.shape))
    images = np.zeros((batch, net.in_channels, net.image_size, net.image_size), np.float32)
    with no_grad(), shapes_only(), watch(record):
        net(Tensor(images))
    return steps, sum(p.size for p in net.parameters())


def floor(name, batch, training):
    """Seconds of (products, bytes)."""
    steps, parameters = steps_of(name, batch, training)
    products = numbers = 0.0
    readers = Counter(i for _, _, ids, _ in steps for i in set(ids[:1]))
    for place, (function, shapes, _, y) in enumerate(steps):
        size, inputs = np.prod(y), sum(np.prod(shape) for shape in shapes)
        if function.name in ("conv2d", "linear"):
            times = (convolution(shapes[0], shapes[1], y, function.stride, place == 0) if function.name == "conv2d"
                     else linear(*shapes[:2]))
            products += sum(times) if training else times[0]
        elif function.name == "batch_norm":
            numbers += 3 * size + (5 * size if training else 0)
        elif function.name == "relu":
            numbers += 2 * size + (3 * size if training else 0)
        elif function.name not in ("reshape", "getitem", "transpose", "batch_norm_eval"):
            back = 0 if function.name in ("add", "concat") else size + inputs  # sums and joints hand dy on
            numbers += inputs + size + (back if training else 0)
    if training:
        sizes = {i: np.prod(shape) for _, shapes, ids, _ in steps for i, shape in zip(ids, shapes)}
        numbers += sum(3 * sizes[i] * (count - 1) for i, count in readers.items()) + 5 * parameters
    return products, numbers * seconds_per_number()


def main(names):
    """A line for each network and mode."""
    path = Path(__file__).with_name("last.json")
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    theirs = {(row["name"], row["mode"]): row["torch_seconds"] for row in rows}
    print(f"{threads.get_num_threads()} threads; c = a + b moves {4e-9 / seconds_per_number():.1f} GB/s")
    for name in names or SUITE:
        for mode in ("training step", "inference"):
            products, moved = floor(name, SUITE.get(name, 8), mode == "training step")
            torch = theirs.get((name, mode))
            print(f"{name:22} {mode:13}  products {products:.3f} s + bytes {moved:.3f} s = {products + moved:.3f} s"
                  + (f"; PyTorch {torch:.3f} s: {(products + moved) / torch:.2f}" if torch else ""))


if __name__ == "__main__":
    main(sys.argv[1:])
