"""Stochastic gradient descent with momentum."""
from typing import Any

from minidl.autograd import Tensor
from minidl.backend import Array
from minidl.optim.optimizer import Optimizer, check_number, remembered


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
        momentum, weight_decay = options["momentum"], options["weight_decay"]
        g = gradient + weight_decay * parameter.data if weight_decay else gradient
        if momentum:
            v = remembered(memory, "momentum_buffer", parameter.data)
            v *= momentum
            v += g
            g = g + momentum * v if options["nesterov"] else v
        parameter.data -= options["lr"] * g
