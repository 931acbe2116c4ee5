"""Does the GPU compute what the CPU computes? A table of everything that runs on it, each row compared with the CPU.

    for row in rows("cuda"):
        print(row.name, row.check())        # the largest error, as a share of what is allowed: up to 1 is right

`minidl info --test-gpu` prints it, `pytest -m gpu` asserts it. Every row starts from seeded numbers made on the host, computes
them on both devices, and compares outputs and gradients.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidl.autograd import Tensor, apply
from minidl.backend import to_numpy
from minidl.function import Function
from minidl.models import MINI_NETS
from minidl.nn import Module, Parameter
from minidl.ops import OPS, cross_entropy
from minidl.optim import SGD, Adam, AdamW, Optimizer
from minidl.randomness import manual_seed
from minidl.train import fashion
from minidl.train.loop import Epoch

FLOAT64, FLOAT32, NET = 1e-9, 3e-5, 1e-3
"""Errors that are allowed, relative to the largest number of an array: the order of sums and the last digits of exp, log and
pow differ, and a net of 15 layers carries that on."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    kind: str
    """operation, optimizer, network or training."""
    name: str
    check: Callable[[], float]
    """Computes on both devices. The largest error divided by the allowed one; raises what the computation raises."""


def rows(device: str = "cuda") -> Iterator[Row]:
    """Every operation, optimizer and mini net, and one epoch of training."""
    for op in OPS:
        yield Row("operation", op.name, lambda op=op: _of_operation(op, device))  # type: ignore[misc]
    for name, make in OPTIMIZERS.items():
        yield Row("optimizer", name, lambda make=make: _of_optimizer(make, device))  # type: ignore[misc]
    for name in MINI_NETS:
        yield Row("network", f"mini {name}", lambda name=name: _of_net(name, device))  # type: ignore[misc]
    yield Row("training", "one epoch of the mini VGG", lambda: _of_training(device))


# --- operations --------------------------------------------------------------------------------------------------------


def _of_operation(op: type[Function], device: str) -> float:
    """All samples of an operation, and the larger ones that `LARGE` has for it; float64 and float32."""
    worst = 0.0
    for dtype, allowed in ((np.float64, FLOAT64), (np.float32, FLOAT32)):
        large = LARGE[op.name](np.random.default_rng(1)) if op.name in LARGE else []
        for inputs, options in [*op.samples(np.random.default_rng(0)), *large]:
            cast = tuple(_as(dtype, x) for x in inputs)
            want, got = _forward_and_backward(op, cast, options, "cpu"), _forward_and_backward(op, cast, options, device)
            worst = max(worst, *(error(g, w) / allowed for g, w in zip(got, want, strict=True)))
    return worst


def _as(dtype: Any, x: Any) -> np.ndarray:
    array = np.asarray(x)
    return array.astype(dtype) if array.dtype.kind == "f" else array


def _forward_and_backward(op: type[Function], inputs: tuple, options: dict, device: str) -> list[np.ndarray]:
    """The output and the gradients of the floating inputs, on the host."""
    tensors = [Tensor(x).to(device) for x in inputs]
    for x in tensors:
        x.requires_grad = x.dtype.kind == "f"
    y = apply(op(**options), *tensors)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    y.backward(Tensor(np.asarray(dy, y.dtype)).to(device))
    return [y.numpy(), *(to_numpy(x.grad) for x in tensors if x.grad is not None)]


def error(got: np.ndarray, want: np.ndarray, least: float = 0.0) -> float:
    """max |got - want| / max |want|, or `least` if that is more; infinite where shapes, dtypes, NaNs or infinities differ."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return np.inf
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return np.inf
    if not finite.any():
        return 0.0
    with np.errstate(invalid="ignore"):
        off = np.abs(got[finite] - want[finite]).max()
    return float(off / (max(np.abs(want[finite]).max(), least) or 1.0)) if np.isfinite(off) else np.inf


def _normal(*shapes: tuple, **options: Any) -> Callable[[np.random.Generator], list]:
    return lambda rng: [(tuple(rng.standard_normal(shape) for shape in shapes), options)]


LARGE: dict[str, Callable[[np.random.Generator], list]] = {
    "relu": _normal((3, 70_001)),
    "dropout": lambda rng: [((rng.standard_normal((3, 7_001)), rng.random((3, 7_001)) > 0.3), {"p": 0.3})],
    "softmax": _normal((5, 700, 3), dim=1),
    "log_softmax": _normal((5, 700, 3), dim=1),
    "cross_entropy": lambda rng: [((rng.standard_normal((3, 21, 33, 40)), rng.integers(0, 21, (3, 33, 40))),
                                   {"ignore_index": 7})],
    "im2col": _normal((3, 5, 31, 45), kernel_size=(3, 5), stride=(2, 1), padding=(1, 2)),
    "col2im": _normal((3, 45, 600), output_size=(40, 30), kernel_size=3, stride=(2, 1), padding=1),
    "conv2d": _normal((3, 6, 31, 45), (8, 3, 3, 5), (8,), stride=(2, 1), padding=(1, 2), groups=2),
    "max_pool2d": lambda rng: [((rng.permutation(3 * 5 * 61 * 45).reshape(3, 5, 61, 45) / 7,),
                                {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True})],
    "avg_pool2d": _normal((3, 5, 61, 45), kernel_size=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    "lrn": _normal((3, 11, 31, 45), alpha=0.5),
    "batch_norm": lambda rng: [((rng.standard_normal((7, 5, 31, 45)) * 2 + 10, *rng.standard_normal((2, 5))), {})],
    "batch_norm_eval": lambda rng: [((rng.standard_normal((7, 5, 31, 45)), *rng.standard_normal((3, 5)),
                                      rng.uniform(0.5, 2, 5)), {})],
}
"""operation -> samples that fill many blocks of threads and leave something over: its own samples are too small for that."""


# --- optimizers --------------------------------------------------------------------------------------------------------


OPTIMIZERS: dict[str, Callable[[list], Optimizer]] = {
    "SGD": lambda params: SGD(params, lr=0.1, weight_decay=0.01),
    "SGD with momentum": lambda params: SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01),
    "SGD, Nesterov's": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda params: Adam(params, lr=0.1, weight_decay=0.01),
    "AdamW": lambda params: AdamW(params, lr=0.1, weight_decay=0.1),
}


def _of_optimizer(make: Callable[[list], Optimizer], device: str) -> float:
    """Five steps with random gradients, of a small parameter and of one that fills many blocks."""
    worst = 0.0
    for dtype, allowed in ((np.float64, FLOAT64), (np.float32, FLOAT32)):
        for shape in ((2, 3), (70_001,)):
            start = np.random.default_rng(0).standard_normal(shape).astype(dtype)
            cpu, gpu = (after_steps(make, start, where) for where in ("cpu", device))
            worst = max(worst, error(gpu, cpu) / allowed)
    return worst


def after_steps(make: Callable[[list], Optimizer], start: np.ndarray, device: str) -> np.ndarray:
    p = Parameter(Tensor(start).to(device).data)
    optimizer, rng = make([p]), np.random.default_rng(1)
    for _ in range(5):
        p.grad = Tensor(rng.standard_normal(start.shape).astype(start.dtype)).to(device).data
        optimizer.step()
    return p.numpy()


# --- networks and training ---------------------------------------------------------------------------------------------


def one_step(net: Module, images: np.ndarray, labels: np.ndarray, device: str) -> dict[str, np.ndarray]:
    """One training step: the scores, the loss, every parameter's gradient, and the parameters after it, all on the host."""
    net.to(device)
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scores = net(Tensor(images).to(device))
    loss = cross_entropy(scores, Tensor(labels).to(device))
    loss.backward()
    found = {"scores": scores.numpy(), "loss": loss.numpy()}
    found |= {f"gradient of {name}": to_numpy(p.grad) for name, p in net.named_parameters()}
    optimizer.step()
    return found | {f"{name} after the step": x for name, x in net.state_dict().items()}


def _of_net(name: str, device: str) -> float:
    """One training step of a mini net on the CPU and on `device`, from the same weights, on the same images."""
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((16, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 16)
    results = []
    for where in ("cpu", device):
        manual_seed(0)
        results.append(one_step(MINI_NETS[name](), images, labels, where))
    want, got = results
    # the gradient of a bias in front of batch norm is 0 but for rounding, so what is far below the rest of the net counts less
    least = 1e-3 * max(float(np.abs(x).max()) for key, x in want.items() if key.startswith("gradient"))
    return max(error(got[key], want[key], least) / NET for key in want)


def _of_training(device: str) -> float:
    """An epoch of training from the same seed. Rounding grows from step to step, so only the mean loss is compared, to 5 %."""
    cpu, gpu = (train_an_epoch(where) for where in ("cpu", device))
    return abs(gpu.train_loss / cpu.train_loss - 1) / 0.05


def train_an_epoch(device: str) -> Epoch:
    """One pass of the mini VGG over 800 images of Fashion-MNIST, by the recipe of `minidl demo --quick`."""
    recipe = replace(fashion.QUICK["vgg"], epochs=1)
    data = fashion.load(recipe.train_images)
    manual_seed(0)
    net = fashion.make_net("vgg", data).to(device)
    return fashion.train(net, data, recipe)[0]
