"""Every network by name: what the command line builds, lists, summarises, exports and predicts with."""
import difflib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from minidl.models.alexnet import alexnet
from minidl.models.cifar import plain_cifar, resnet_cifar
from minidl.models.fcn import fcn8s, fcn16s, fcn32s
from minidl.models.googlenet import googlenet
from minidl.models.mini import mini_inception, mini_resnet, mini_vgg
from minidl.models.network import Network
from minidl.models.resnet import plain, resnet
from minidl.models.vgg import vgg


class Entry(NamedTuple):
    """How a network is built, and what it is."""

    build: Callable[..., Network]
    options: dict[str, Any]
    """Those that the name stands for."""
    paper: str
    about: str


KRIZHEVSKY, SIMONYAN, SZEGEDY = "Krizhevsky et al. 2012", "Simonyan and Zisserman 2015", "Szegedy et al. 2015"
HE, LONG = "He et al. 2016", "Long et al. 2015"

ZOO: dict[str, Entry] = {
    "alexnet": Entry(alexnet, {}, KRIZHEVSKY, "two groups, local response normalisation, 227x227"),
    "alexnet-torchvision": Entry(alexnet, {"variant": "torchvision"}, "Krizhevsky 2014", "one group, no normalisation"),
}

_VGG = {
    "A": "8 convolutions of 3x3", "A-LRN": "A with local response normalisation", "B": "10 convolutions of 3x3",
    "B-shallow": "one 5x5 for each pair of 3x3 in B", "C": "B with three 1x1", "D": "13 convolutions of 3x3",
    "E": "16 convolutions of 3x3",
}
_NUMBERED = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
for _name, _config in {**{f"vgg-{config.lower()}": config for config in _VGG}, **_NUMBERED}.items():
    _about = f"configuration {_config}" if _name in _NUMBERED else _VGG[_config]
    ZOO[_name] = Entry(vgg, {"config": _config}, SIMONYAN, _about)
    ZOO[f"{_name}-bn"] = Entry(vgg, {"config": _config, "batch_norm": True}, SIMONYAN, f"{_about}, batch norm")

ZOO |= {
    "googlenet": Entry(googlenet, {}, SZEGEDY, "nine Inception modules, biases, LRN, two auxiliary heads"),
    "googlenet-torchvision": Entry(googlenet, {"variant": "torchvision"}, SZEGEDY, "batch norm, and 3x3 for 5x5"),
}
for _depth in (18, 34, 50, 101, 152):
    _block = "basic blocks" if _depth < 50 else "bottlenecks"
    ZOO[f"resnet{_depth}"] = Entry(resnet, {"depth": _depth}, HE, f"{_block}, projections where the shape changes")
    if _depth >= 50:
        ZOO[f"resnet{_depth}-paper"] = Entry(resnet, {"depth": _depth, "stride_in": "1x1"}, HE, "stride in the first 1x1")
for _depth in (18, 34):
    ZOO[f"plain{_depth}"] = Entry(plain, {"depth": _depth}, HE, f"ResNet-{_depth} without shortcuts")
for _depth in (20, 32, 44, 56, 110, 1202):
    ZOO[f"resnet{_depth}-cifar"] = Entry(resnet_cifar, {"depth": _depth}, HE, "for 32x32, identity shortcuts (option A)")
    ZOO[f"plain{_depth}-cifar"] = Entry(plain_cifar, {"depth": _depth}, HE, "for 32x32, without shortcuts")
ZOO |= {
    "fcn32s": Entry(fcn32s, {}, LONG, "VGG-16 to maps of stride 32"),
    "fcn16s": Entry(fcn16s, {}, LONG, "and scores of pool4"),
    "fcn8s": Entry(fcn8s, {}, LONG, "and scores of pool3"),
    "mini-vgg": Entry(mini_vgg, {}, SIMONYAN, "the demo's, for 28x28 grey images"),
    "mini-inception": Entry(mini_inception, {}, SZEGEDY, "the demo's, for 28x28 grey images"),
    "mini-resnet": Entry(mini_resnet, {}, HE, "the demo's, for 28x28 grey images"),
}


def build(name: str, **options: Any) -> Network:
    """The network of that name, such as "vgg-c", "resnet50", "resnet20-cifar" or "fcn8s"; `names()` lists them.

    Capitals and underscores do not matter ("vgg16_bn"). options: those of the function behind the name.
    Errors: ValueError that suggests the nearest name, or lists the options.
    """
    entry = ZOO[find(name)]
    known = [option for option in inspect.signature(entry.build).parameters if option not in entry.options]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ValueError(f"build: {name} has no option {option!r}; its options are {', '.join(known)}{hint}")
    return entry.build(**entry.options, **options)


def names() -> list[str]:
    """The names that `build` knows."""
    return list(ZOO)


def find(name: Any) -> str:
    """The zoo's way of writing `name`. Errors: ValueError with the nearest names."""
    wanted = str(name).lower().replace("_", "-")
    if wanted not in ZOO:
        near = difflib.get_close_matches(wanted, ZOO, 3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the first are {', '.join(list(ZOO)[:5])}, ..."
        raise ValueError(f"there is no network called {name!r}: {hint} (`minidl models` lists all {len(ZOO)})")
    return wanted
