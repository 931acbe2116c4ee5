"""Networks for commands: by name, with options, and with the weights of a file."""
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidl.cli.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from minidl.models import Network
    from minidl.nn import Module

State = dict[str, "np.ndarray"]


def find_network(name: str) -> str:
    """The name as the zoo writes it."""
    from minidl import models
    with user_errors("NAME", ValueError):
        return models.find(name)


def net_with_weights(name: str, options: dict[str, Any], path: Path) -> "tuple[Network, dict[str, Any]]":
    """The network with the weights of the file, and the options that it was built with.

    The number of classes is read off the weights. Nothing is drawn.
    """
    from minidl import models
    from minidl.nn import init
    state = _read_weights(path)
    if name.startswith("googlenet"):
        state, options = _without_heads(name, state, options)
    with user_errors(name, ValueError, TypeError), init.no_values():
        net = models.build(name, **options)
        last = state.get(last_matrix(net))
        if last is not None and last.ndim == 2 and "num_classes" not in options:
            options = options | {"num_classes": last.shape[0]}
            net = models.build(name, **options)
    try:
        net.load_state_dict(state)
    except ValueError as error:
        raise UserError(f"--weights: {path} does not fit {name}: {_shortened(str(error))}") from None
    return net, options


def _read_weights(path: Path) -> State:
    """name -> array, without the prefix that PyTorch's DataParallel gives to every name."""
    from minidl import interop
    from minidl.models.network import without_prefix
    if not path.is_file():
        raise UserError(f"--weights: {path} must be a file, but "
                        f"{'that is a folder' if path.is_dir() else 'nothing is there'}; check the spelling")
    with user_errors("--weights", ValueError, OSError):
        return without_prefix(interop.load(path))


def _without_heads(name: str, state: State, options: dict[str, Any]) -> tuple[State, dict[str, Any]]:
    """What GoogLeNet's files need: the auxiliary heads, which serve training only, are left out of the net and the weights."""
    options = {"aux": False} | options
    if not options["aux"]:
        state = {key: array for key, array in state.items() if not key.startswith(("aux1.", "aux2."))}
    torchvision = name == "googlenet-torchvision" or options.get("variant") == "torchvision"
    if torchvision and options.get("in_channels", 3) == 3:
        options = {"transform_input": True} | options  # the published weights saw images normalised in another way
    return state, options


def last_matrix(net: "Module") -> str:
    """The name of the matrix with a row per class, "" for nets without one (FCNs). A file may hold its arrays in any order."""
    return next((name for name, p in reversed(list(net.named_parameters())) if p.ndim == 2), "")


def _shortened(message: str, most: int = 3) -> str:
    """The first and the last line and a few in between: weights of another network may not fit in a thousand places."""
    head, *lines = [line.strip() for line in message.splitlines()]
    if len(lines) > most + 1:
        lines = [*lines[:most], f"... and {len(lines) - 1 - most} more", lines[-1]]
    return "; ".join([head, *lines])


@contextlib.contextmanager
def user_errors(what: str, *kinds: type[Exception]) -> Iterator[None]:
    """A `with` block whose errors of these kinds are the user's to put right."""
    try:
        yield
    except kinds as error:
        raise UserError(f"{what}: {error}") from error
