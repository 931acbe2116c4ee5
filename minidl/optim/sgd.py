"""Stochastic gradient descent with momentum."""
from typing import Any

from minidl.autograd import Tensor
from minidl.backend import Array
from minidl.cuda import Kernels, contiguous
from minidl.optim.optimizer import Optimizer, check_number, in_slices, remembered, takes_kernel

KERNELS = Kernels(__file__)


class SGD(Optimizer):
    """g = gradient + weight_decay * p;  v = momentum * v + g, v = g at first;  p -= lr * v

    nesterov: p -= lr * (g + momentum * v). The rate stands outside of the velocity, as in PyTorch: a change of lr acts
    at once (Sutskever et al. 2013 keep it inside). Weight decay is an L2 term (Krizhevsky et al. 2012, section 5).
    """

    memory = ("momentum_buffer",)

    def __init__(self, params: Any, lr: float, momentum: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def check_options(self, options: dict[str, Any]) -> dict[str, Any]:
        checked: dict[str, Any] = {"lr": check_number("SGD", "lr", options["lr"]),
                                   "momentum": check_number("SGD", "momentum", options["momentum"], below=1),
                                   "weight_decay": check_number("SGD", "weight_decay", options["weight_decay"])}
        if not isinstance(options["nesterov"], bool):
            raise TypeError(f"SGD: nesterov must be True or False, got {options['nesterov']!r}")
        if options["nesterov"] and checked["momentum"] == 0:
            raise ValueError("SGD: nesterov looks ahead along the momentum, but momentum is 0: set momentum=0.9, say")
        return checked | {"nesterov": options["nesterov"]}

    def update(self, parameter: Tensor, gradient: Array, options: dict[str, Any], memory: dict[str, Any]) -> None:
        p, momentum, weight_decay = parameter.data, options["momentum"], options["weight_decay"]
        v = remembered(memory, "momentum_buffer", p) if momentum else None

        if takes_kernel(p):
            self.update_cuda(p, contiguous(gradient), v, options)
            parameter.data = p  # tells the graph of the change
            return

        def step(g: Array, p: Array, v: Array | None = None) -> None:
            g = g + weight_decay * p if weight_decay else g
            if v is not None:
                v *= momentum
                v += g
                g = g + momentum * v if options["nesterov"] else v
            p -= options["lr"] * g

        in_slices(step, *((gradient, p) if v is None else (gradient, p, v)))
        parameter.data = p  # tells the graph of the change

    def update_cuda(self, p: Array, g: Array, v: Array | None, options: dict[str, Any]) -> None:
        """The same by sgd.cu: one pass over the memory instead of one per operation."""
        lr, weight_decay, momentum = (float(options[key]) for key in ("lr", "weight_decay", "momentum"))  # somebody may write 1
        if v is None:
            KERNELS.launch("sgd", p.size, p, g, p.size, lr, weight_decay)
        else:
            KERNELS.launch("sgd_with_momentum", p.size, p, v, g, p.size, lr, momentum, weight_decay, options["nesterov"])
