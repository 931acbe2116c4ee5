"""What `minidl bench` does not show: does cost grow in proportion, does memory grow at all, what does a small operation cost?

    python tests/bench/scaling.py [depth] [batch] [growth] [small]

Prints figures, judges nothing: these machines are shared. Nothing else should run meanwhile.
"""
import gc
import statistics
import sys
import time

import numpy as np

from minidl import Tensor, models, ops, optim
from minidl.train import classification_loss


def step_of(name, batch):
    """A training step of a CIFAR net."""
    net = models.build(name)
    optimizer = optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((batch, 3, 32, 32), np.float32), rng.integers(0, 10, batch)

    def step():
        loss = classification_loss(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def seconds(programs, runs=7):
    """The median seconds of each program; they run by turns, once before it counts."""
    taken = [[] for _ in programs]
    for k in range(runs + 1):
        for program, row in zip(programs, taken):
            start = time.perf_counter()
            program()
            if k:
                row.append(time.perf_counter() - start)
    return [statistics.median(row) for row in taken]


def depth():
    """ResNet-20 to 110, batch 32, against their multiply-adds."""
    depths = (20, 32, 44, 56, 110)
    times = seconds([step_of(f"resnet{d}-cifar", 32) for d in depths])
    work = [d - 2 for d in depths]  # 6 n layers of one cost each, but for the first and the last
    for d, t, w in zip(depths, times, work):
        print(f"resnet{d}-cifar, batch 32: {t:.3f} s, {t / w / (times[0] / work[0]):.2f} of proportional")


def batch():
    """ResNet-20, batch 16 to 256."""
    sizes = (16, 32, 64, 128, 256)
    times = seconds([step_of("resnet20-cifar", n) for n in sizes])
    for n, t in zip(sizes, times):
        print(f"resnet20-cifar, batch {n}: {t:.3f} s, {t / n / (times[-1] / sizes[-1]):.2f} of batch 256's seconds per image")


def growth():
    """Resident memory over 200 steps."""
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096 / 2**20
    step = step_of("resnet20-cifar", 32)
    for k in range(201):
        step()
        if k % 50 == 10 or k == 200:
            print(f"after step {k}: {resident():.1f} MiB, {len(gc.get_objects())} objects")


def small():
    """One elementwise operation on (32, 32), forward and backward, beside PyTorch's where it is installed."""
    x = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    dy = np.ones((32, 32), np.float32)
    ours = {"relu": ops.relu, "add": lambda t: t + t, "multiply": lambda t: t * t, "tanh": lambda t: t.tanh()}

    def minidl_program(f):
        t = Tensor(x, requires_grad=True)

        def run():
            for _ in range(200):
                t.grad = None
                f(t).backward(dy)
        return run

    programs = {name: minidl_program(f) for name, f in ours.items()}
    try:
        import torch
        theirs = {"relu": torch.relu, "add": lambda t: t + t, "multiply": lambda t: t * t, "tanh": torch.tanh}
        tdy = torch.from_numpy(dy)

        def torch_program(f):
            t = torch.from_numpy(x).requires_grad_()

            def run():
                for _ in range(200):
                    t.grad = None
                    f(t).backward(tdy)
            return run
        programs |= {f"PyTorch's {name}": torch_program(f) for name, f in theirs.items()}
    except ImportError:
        pass
    times = dict(zip(programs, seconds(list(programs.values()), runs=15)))
    for name in ours:
        other = times.get(f"PyTorch's {name}")
        print(f"{name} on (32, 32), forward and backward: {times[name] / 200 * 1e6:.1f} us"
              + (f", PyTorch {other / 200 * 1e6:.1f} us, ratio {times[name] / other:.2f}" if other else ""))


if __name__ == "__main__":
    for part in sys.argv[1:] or ("depth", "batch", "growth", "small"):
        {"depth": depth, "batch": batch, "growth": growth, "small": small}[part]()
