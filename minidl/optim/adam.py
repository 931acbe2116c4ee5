"""Adam, with its weight decay inside the gradient or beside it."""
import math
from typing import Any

from minidl.autograd import Tensor
from minidl.backend import Array, array_module
from minidl.cuda import Kernels, contiguous
from minidl.optim.optimizer import Optimizer, check_number, in_slices, remembered, takes_kernel

KERNELS = Kernels(__file__)


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g**2;  p -= lr * m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps)

    g = gradient + weight_decay * p; t counts the parameter's steps, and m and v start at 0, which the divisions make up
    for. Kingma and Ba 2015, algorithm 1.
    """

    memory = ("exp_avg", "exp_avg_sq")
    counts_steps = True

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check_options(self, options: dict[str, Any]) -> dict[str, Any]:
        betas = options["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{self.name}: betas must be two numbers, such as (0.9, 0.999), got {betas!r}")
        checked = {key: check_number(self.name, key, options[key]) for key in ("lr", "eps", "weight_decay")}
        return checked | {"betas": tuple(check_number(self.name, "each of betas", b, below=1) for b in betas)}

    def update(self, parameter: Tensor, gradient: Array, options: dict[str, Any], memory: dict[str, Any]) -> None:
        self._move(parameter, gradient, options, memory, inside=options["weight_decay"])

    def _move(self, parameter: Tensor, gradient: Array, options: dict[str, Any], memory: dict[str, Any],
              inside: float = 0.0, beside: float = 0.0) -> None:
        """One update; the weight decay stands inside the gradient, or beside it."""
        memory["step"] = t = memory.get("step", 0) + 1
        b1, b2 = options["betas"]
        p = parameter.data

        def step(g: Array, p: Array, m: Array, v: Array) -> None:
            if beside:
                p *= 1 - options["lr"] * beside
            if inside:
                g = g + inside * p
            m *= b1
            m += (1 - b1) * g
            v *= b2
            v += (1 - b2) * g**2
            size = array_module(v).sqrt(v) / math.sqrt(1 - b2**t) + options["eps"]
            p -= options["lr"] / (1 - b1**t) * m / size

        m, v = remembered(memory, "exp_avg", p), remembered(memory, "exp_avg_sq", p)
        if takes_kernel(p):
            numbers = (options["lr"] / (1 - b1**t), b1, 1 - b1, b2, 1 - b2, math.sqrt(1 - b2**t), options["eps"], inside,
                       1 - options["lr"] * beside)
            KERNELS.launch("adam", p.size, p, m, v, contiguous(gradient), p.size, *map(float, numbers))  # somebody may write 1
        else:
            in_slices(step, gradient, p, m, v)
        parameter.data = p  # tells the graph of the change


class AdamW(Adam):
    """p -= lr * weight_decay * p, then Adam with the bare gradient: the decay is not divided by the gradient's size

    Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2.
    """

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, parameter: Tensor, gradient: Array, options: dict[str, Any], memory: dict[str, Any]) -> None:
        self._move(parameter, gradient, options, memory, beside=options["weight_decay"])
