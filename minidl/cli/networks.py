"""Networks for commands: by name, with options, for images of some size, and with the weights of a file."""
import contextlib
import difflib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minidl.cli.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from minidl.models import Network
    from minidl.nn import Module

State = dict[str, "np.ndarray"]


class Built(NamedTuple):
    """A network and the images that go through it."""

    net: "Network"
    options: dict[str, Any]
    """Those that it was built with."""
    shape: tuple[int, int, int]
    """(channels, height, width) of the images."""
    note: str
    """What must be said of it: " (built for 64x64)" where images of that size do not fit the default network, or ""."""


def find_network(name: str) -> str:
    """The name as the zoo writes it."""
    from minidl import models
    with user_errors("NAME", ValueError):
        return models.find(name)


def given_options(pairs: list[tuple[str, Any]], **named: Any) -> dict[str, Any]:
    """The options of a network: those that have a name of their own on the command line, unless None, and --option's."""
    options = {key: value for key, value in named.items() if value is not None}
    for key, value in pairs:
        if key in options:
            raise UserError(f"--option: {key} is given twice, as {options[key]} and as {value}; leave one out")
        options[key] = value
    return options


def build_network(name: str, options: dict[str, Any], size: tuple[int, int] | None = None,
                  weights: Path | None = None) -> Built:
    """The network with these options, for images of this size (height, width). No values are drawn.

    Images of another size than its own go through the network as it is. Only where they do not fit, and the network can be
    built for a size, it is built for this one; never with weights, which fix the network.
    """
    if weights is None:
        net = _without_values(name, options)
    else:
        net, options = net_with_weights(name, options, weights)
    side = net.image_size
    shape = net.in_channels, *(size or (side, side))
    if size is None:
        return Built(net, options, shape, "")
    try:
        with fitting(name, shape, _size_hint(name, size, weights)):
            _see_whether_images_fit(net, shape)
    except UserError:
        if weights is not None or size[0] != size[1] or "image_size" in options or "image_size" not in _knobs(name):
            raise
        options = options | {"image_size": size[0]}
        with contextlib.suppress(UserError):  # the network as it is names the layer that is too much for such images
            return Built(_without_values(name, options), options, shape, f" (built for {size[0]}x{size[1]})")
        raise
    return Built(net, options, shape, "")


@contextlib.contextmanager
def fitting(name: str, shape: tuple[int, ...], hint: str = "") -> Iterator[None]:
    """A `with` block whose errors say that images of this shape do not fit, and in which layer."""
    try:
        yield
    except (ValueError, TypeError) as error:
        where = "; ".join(getattr(error, "__notes__", []))
        raise UserError(f"images {'x'.join(map(str, shape))} do not fit {name}: {error} ({where}){hint}") from error


def net_with_weights(name: str, options: dict[str, Any], path: Path) -> "tuple[Network, dict[str, Any]]":
    """The network with the weights of the file, and the options that it was built with.

    The number of classes is read off the weights. Nothing is drawn.
    """
    given, asked = _read_weights(path), options
    state, options = _as_the_family_wants(name, given, options)
    net = _without_values(name, options)
    last = state.get(last_matrix(net))
    if last is not None and last.ndim == 2 and "num_classes" not in options:
        asked, options = asked | {"num_classes": last.shape[0]}, options | {"num_classes": last.shape[0]}
        net = _without_values(name, options)
    try:
        net.load_state_dict(state)
    except ValueError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        fix = _likely_fix(name, lines, given, asked)
        raise UserError(f"--weights: {path} does not fit {name}: {_shortened(lines)}; {fix}") from None
    return net, options


def last_matrix(net: "Module") -> str:
    """The name of the matrix with a row per class, "" for nets without one (FCNs). A file may hold its arrays in any order."""
    return next((name for name, p in reversed(list(net.named_parameters())) if p.ndim == 2), "")


@contextlib.contextmanager
def user_errors(what: str, *kinds: type[Exception]) -> Iterator[None]:
    """A `with` block whose errors of these kinds are the user's to put right."""
    try:
        yield
    except kinds as error:
        text = on_the_command_line(error)
        raise UserError(text if text.startswith(f"{what} ") else f"{what}: {text}") from error


def on_the_command_line(error: Exception) -> str:
    """The error's text without what speaks of Python: the function's name before it, and hints about types behind it."""
    text = re.sub(r"^[A-Za-z_][\w.]*: ", "", str(error))
    if not isinstance(error, TypeError):
        return text
    return re.sub(r" \([A-Za-z]+\): [^']*$|(?<=the bool )(True|False): .*$", lambda found: found[1] or "", text)


# --- building -----------------------------------------------------------------------------------------------------------


def _without_values(name: str, options: dict[str, Any]) -> "Network":
    from minidl import models
    from minidl.nn import init
    if "vgg16" in options and "vgg16" in _knobs(name):
        raise UserError("--option: vgg16 stands for a network with its weights, which only Python can give; leave it out")
    try:
        with user_errors(name, ValueError, TypeError), init.no_values():
            return models.build(name, **options)
    except (MemoryError, OverflowError):
        raise UserError(f"{name}: this machine has no room for a network of that size; choose a smaller width") from None


def _knobs(name: str) -> list[str]:
    """The options of the network of that name."""
    from minidl.models import ZOO
    return [option for option in inspect.signature(ZOO[name].build).parameters if option not in ZOO[name].options]


def _see_whether_images_fit(net: "Network", shape: tuple[int, ...]) -> None:
    from minidl.show import trace
    trace(net, shape)


def _size_hint(name: str, size: tuple[int, int], weights: Path | None) -> str:
    if weights is None or "image_size" not in _knobs(name):
        return ""
    return (f"; the weights decide what the network is: if they were trained on images of {size[0]}x{size[1]}, say "
            f"--option image_size={size[0]}, otherwise leave --size out")


# --- weights ------------------------------------------------------------------------------------------------------------


def _read_weights(path: Path) -> State:
    """name -> array, without the prefix that PyTorch's DataParallel gives to every name."""
    from minidl import interop
    from minidl.models.network import without_prefix
    if not path.is_file():
        raise UserError(f"--weights: {path} must be a file, but "
                        f"{'that is a folder' if path.is_dir() else 'nothing is there'}; check the spelling")
    with user_errors("--weights", ValueError, OSError):
        return without_prefix(interop.load(path))


def _as_the_family_wants(name: str, state: State, options: dict[str, Any]) -> tuple[State, dict[str, Any]]:
    """What GoogLeNet's files need: the auxiliary heads, which serve training only, are left out of the net and the weights."""
    if not name.startswith("googlenet"):
        return state, options
    options = {"aux": False} | options
    if not options["aux"]:
        state = {key: array for key, array in state.items() if not key.startswith(("aux1.", "aux2."))}
    torchvision = name == "googlenet-torchvision" or options.get("variant") == "torchvision"
    if torchvision and options.get("in_channels", 3) == 3:
        options = {"transform_input": True} | options  # the published weights saw images normalised in another way
    return state, options


def _shortened(lines: list[str], most: int = 3) -> str:
    """The first line and a few more: weights of another network may not fit in a thousand places. Without a fix in Python."""
    head, *lines = [line for line in lines if not line.startswith("likely fix:")]
    head = re.sub(r"^[A-Za-z_]\w*: ", "", head)
    if len(lines) > most + 1:
        lines = [*lines[:most], f"... and {len(lines) - most} more"]
    return "; ".join([head, *lines])


def _likely_fix(name: str, lines: list[str], state: State, options: dict[str, Any]) -> str:
    """What to change on the command line, from the lines of `load_state_dict`'s error."""
    if _names_fit(lines):
        knobs = [f"{knob}=..." for knob in ("num_classes", "width", "in_channels", "image_size") if knob in _knobs(name)]
        return f"likely fix: give the options that they were trained with, --option {' or '.join(knobs)}"
    near = _other_name(name, state, options)
    if near:
        return f"did you mean {near}?"
    missing, unexpected = ([line.split()[1] for line in lines if line.startswith(f"{kind}: ")]
                           for kind in ("missing", "unexpected"))
    prefix = next((key.removesuffix(missing[0]) for key in unexpected if missing and key.endswith(f".{missing[0]}")), "")
    if prefix:
        return f"likely fix: save the part {prefix.rstrip('.')!r} of the file alone, the network without what is around it"
    return "likely fix: name the network whose weights they are (`minidl models` lists all, `minidl convert --list` the file)"


def _names_fit(lines: list[str]) -> bool:
    return not any(line.startswith(("missing:", "unexpected:")) for line in lines)


def _other_name(name: str, state: State, options: dict[str, Any]) -> str:
    """The network of the same family whose layers have the names in the file, the one that fits best; or ""."""
    from minidl.models import ZOO
    family = [other for other in ZOO if ZOO[other].build is ZOO[name].build and other != name]
    close = difflib.SequenceMatcher(b=name)
    found = ""
    for other in sorted(family, key=lambda other: _closeness(close, other), reverse=True):
        with contextlib.suppress(UserError):
            changed, theirs = _as_the_family_wants(other, state, options)
            net = _without_values(other, {key: value for key, value in theirs.items() if key in _knobs(other)})
            try:
                net.load_state_dict(changed)
            except ValueError as error:
                if _names_fit([line.strip() for line in str(error).splitlines()]):
                    found = found or other
                continue
            return other
    return found


def _closeness(matcher: difflib.SequenceMatcher, name: str) -> float:
    matcher.set_seq1(name)
    return matcher.ratio()
