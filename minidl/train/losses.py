"""The loss that training takes unless it is given another."""
from typing import Any

from minidl.autograd import Tensor
from minidl.nn.checks import real_number
from minidl.ops import cross_entropy

AUXILIARY_WEIGHT = 0.3
"""What the loss of each auxiliary head counts, beside 1 for the net's own (Szegedy et al. 2015, section 5)."""


def classification_loss(outputs: Any, labels: Any, ignore_index: int | None = None,
                        auxiliary_weight: float = AUXILIARY_WEIGHT) -> Tensor:
    """loss = cross_entropy(scores) + auxiliary_weight * sum over the heads of cross_entropy(head)

    outputs: the scores (N, C) or, per pixel, (N, C, H, W); or a tuple (scores, head, head, ...), as GoogLeNet gives in
    training mode: small classifiers half-way up, whose gradient reaches the first layers. Szegedy et al. 2015, section 5.
    Errors: those of `cross_entropy`; TypeError for outputs that are neither.
    """
    weight = real_number("classification_loss", "auxiliary_weight", auxiliary_weight, least=0)
    scores, *heads = outputs if isinstance(outputs, tuple) and outputs else (outputs,)
    if not all(isinstance(output, Tensor) for output in (scores, *heads)):
        kinds = ", ".join(type(output).__name__ for output in (scores, *heads))
        raise TypeError("classification_loss: outputs must be the scores, a Tensor, or a tuple of Tensors (scores, head, ...), "
                        f"got {kinds}: give `fit` a loss(outputs, labels) of your own for other nets")
    total = cross_entropy(scores, labels, ignore_index)
    for head in heads:
        total = total + cross_entropy(head, labels, ignore_index) * weight
    return total
