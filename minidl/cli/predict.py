"""Say what is in pictures: a network, a file with its weights, the most probable classes of every image.

    minidl predict resnet18 --weights resnet18.pth --classes imagenet.txt cat.jpg dog.jpg
    minidl predict mini-vgg --weights mine.safetensors --json answers.json shirts/*.png

Weights are .safetensors, PyTorch's .pth, or .npz; no code in them is ever run. How many classes there are is read off
the weights; name other options that they were trained with by --option. googlenet-torchvision takes
transform_input=true unless told otherwise: its published weights need it.

A file of class names is text, one name per line, the first for class 0; or JSON, a list of names or {"0": name,
"1": name, ...}, where a name may be a pair such as ["n01440764", "tench"]. Without one, classes are numbers.

Weights answer well only to images prepared as in their training. Each network has a usual preparation, shown above the
answers; --preprocessing takes another one:
    torchvision    red, green, blue, minus ImageNet's mean, over its standard deviation (the usual one)
    caffe          blue, green, red from 0 to 255, minus 104, 117, 123 (googlenet, resnet50-paper and the like)
    caffe-alexnet  the same, cut to 227 x 227 (alexnet)
    vgg            blue, green, red from 0 to 255, minus 103.939, 116.779, 123.68 (the authors' VGG-16 and VGG-19)
    cifar          as torchvision, 32 x 32 (resnet20-cifar and the like)
    grey           one channel, 28 x 28, as `minidl demo` prepares Fashion-MNIST (mini-vgg, mini-inception, mini-resnet)

Exit status: 0; 1 if an image could not be read (the others are done); 2 for wrong usage or unusable weights; 130 after
Ctrl-C.
"""
import argparse
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidl.cli.arguments import add_device, at_least, between, key_and_value, place
from minidl.cli.classes import read_classes
from minidl.cli.errors import UserError
from minidl.cli.files import no_input, writable_file, write_json
from minidl.cli.networks import find_network, given_options, last_matrix, net_with_weights, user_errors

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from minidl.data import Preprocessing
    from minidl.nn import Module

HELP = "name what is in pictures, by a network and its weights"
PREPROCESSINGS = ("torchvision", "caffe", "caffe-alexnet", "vgg", "cifar", "grey")
USUAL = {"alexnet": "caffe-alexnet", "googlenet": "caffe", "resnet*-paper": "caffe", "*-cifar": "cifar", "mini-*": "grey",
         "*": "torchvision"}
"""The preparation by the network's name, the first pattern that fits: where the weights that one finds were trained."""
GROUP = 4
"""How many images go through the net together; its maps and the convolutions' scratch memory grow with them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `minidl predict`."""
    parser.add_argument("name", metavar="NAME", help="the network, such as resnet18, vgg16, googlenet-torchvision or mini-vgg")
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=place, help="image files of any usual format")
    parser.add_argument("--weights", metavar="FILE", type=place, required=True, help="the weights: .safetensors, .pth or .npz")
    parser.add_argument("--classes", metavar="FILE", type=place, help="names of the classes: one per line, or JSON")
    parser.add_argument("--top", metavar="K", type=at_least(1), default=5, help="how many classes to show (default: 5)")
    parser.add_argument("--preprocessing", metavar="P", choices=PREPROCESSINGS,
                        help=f"how the weights expect images: {', '.join(PREPROCESSINGS)} (default: the network's usual one)")
    parser.add_argument("--size", metavar="N", type=between(1, 4096),
                        help="cut images to N x N (default: the network's own image size)")
    add_device(parser)
    parser.add_argument("--json", metavar="FILE", type=place, help="also write the answers to this file, replacing it")
    parser.add_argument("--option", metavar="KEY=VALUE", type=key_and_value, action="append", default=[],
                        help="an option of the network, such as num_classes=10, width=0.5 or batch_norm=true; may be repeated")


def run(args: argparse.Namespace) -> int:
    """Looks at all files that are named once, loads the weights, then goes through the images. Returns the exit status."""
    from rich.console import Console
    console = Console(highlight=False)
    args.name = _network(args.name)
    given = given_options(args.option)
    if args.json is not None:
        no_input(args.json, "--json", args.weights, args.classes, *args.images)
        writable_file(args.json, "--json")
    classes = None if args.classes is None else read_classes(args.classes, "--classes")
    net, options = net_with_weights(args.name, given, args.weights)
    _check_classes(classes, net, args)
    chosen = args.preprocessing or _usual(args.name, options)
    preprocessing = _preprocessing(chosen, args, net)
    with user_errors("--device", RuntimeError):
        net.to(args.device)
    p = preprocessing
    _print(console, f"{args.name}, weights {args.weights}; images: {chosen} (shorter side {p.resize}, "
                    f"middle {p.crop} x {p.crop}, {p.order})")
    answers, failed = _predict(console, args, net, preprocessing, classes)
    if args.json is not None:
        settings = {"network": args.name, "options": options, "preprocessing": {"name": chosen} | vars(preprocessing)}
        write_json(args.json, _record(args, settings, answers, failed))
    for path, message in failed.items():
        print(_printable(f"minidl predict: error: {path}: {message}", sys.stderr.encoding), file=sys.stderr)
    return 1 if failed else 0


# --- the network --------------------------------------------------------------------------------------------------------


def _network(name: str) -> str:
    """The name as the zoo writes it. Not that of a net for maps."""
    name = find_network(name)
    if name.startswith("fcn"):
        raise UserError(f"{name} names a class for every pixel, not for the whole image: build it in Python with "
                        f"minidl.models.build({name!r}) and take scores.argmax(axis=1)")
    return name


def _check_classes(classes: list[str] | None, net: "Module", args: argparse.Namespace) -> None:
    count = dict(net.named_parameters())[last_matrix(net)].shape[0]
    if classes is not None and len(classes) != count:
        raise UserError(f"--classes: there must be a name for each of the {count} classes of {args.weights}, but "
                        f"{args.classes} has {len(classes)}; is it the file of another data set?")


# --- the images ---------------------------------------------------------------------------------------------------------


def _usual(name: str, options: dict[str, Any]) -> str:
    """The preparation that published weights of the network expect."""
    usual = next(value for pattern, value in USUAL.items() if fnmatchcase(name, pattern))
    return "torchvision" if options.get("variant") == "torchvision" else usual


def _preprocessing(chosen: str, args: argparse.Namespace, net: Any) -> "Preprocessing":
    """The one of that name, for images of the network's size."""
    from minidl.data import PREPROCESSINGS as TABLE
    preprocessing = TABLE[chosen]
    if preprocessing.channels != net.in_channels:
        raise UserError(f"--preprocessing: {chosen} makes images of {preprocessing.channels} channel(s), but {args.name} with "
                        f"in_channels={net.in_channels} takes {net.in_channels}; choose another one")
    return preprocessing.for_size(args.size or net.image_size)


def _predict(console: "Console", args: argparse.Namespace, net: "Module", preprocessing: "Preprocessing",
             classes: list[str] | None) -> tuple[list[dict[str, Any]], dict[Path, str]]:
    """What --json holds of each image, and the errors of those that could not be read. Prints as it goes."""
    from rich.console import Console
    from rich.progress import Progress
    paths = list(dict.fromkeys(args.images))
    bars = console if console.is_terminal else Console(stderr=True)
    answers: list[dict[str, Any]] = []
    failed: dict[Path, str] = {}
    with Progress(console=bars, transient=True, disable=not bars.is_terminal or len(paths) <= GROUP) as progress:
        task = progress.add_task("images", total=len(paths))
        for group in _groups(paths, preprocessing, failed):
            for path, probabilities in zip(group, _probabilities(net, list(group.values()), args)):
                answers.append({"image": str(path), "predictions": _best(probabilities, args.top, classes)})
                _show(console, answers[-1], named=classes is not None)
            progress.update(task, completed=len(answers) + len(failed))
    return answers, failed


def _groups(paths: list[Path], preprocessing: "Preprocessing", failed: dict[Path, str]) -> "Iterator[dict[Path, np.ndarray]]":
    """A few images at a time, as the net takes them: there may be more than fit into memory."""
    from minidl.data import read_image
    group: dict[Path, np.ndarray] = {}
    for path in paths:
        try:
            group[path] = preprocessing(read_image(path))
        except ImportError as error:
            raise UserError(str(error)) from None
        except (OSError, ValueError, MemoryError) as error:
            text = " ".join(str(error).removeprefix("read_image: ").split())
            failed[path] = text.removeprefix(f"{path} ") or type(error).__name__
        if len(group) == GROUP:
            yield group
            group = {}
    if group:
        yield group


def _probabilities(net: "Module", images: "list[np.ndarray]", args: argparse.Namespace) -> "np.ndarray":
    """(N, C), rows that add up to 1."""
    import numpy as np

    from minidl.autograd import Tensor
    from minidl.ops import softmax
    from minidl.train import predict
    size = images[0].shape[-1]
    with user_errors(f"{args.name} cannot take images of {size} x {size} (see --size and --option image_size=N)", ValueError):
        scores = predict(net, np.stack(images), batch_size=len(images))
    if not np.isfinite(scores).all():
        raise UserError(f"{args.weights}: the scores are not finite, so they rank nothing: are the weights damaged, or from a "
                        "training that diverged?", status=1)
    return softmax(Tensor(scores.astype(np.float64)), dim=1).numpy()


def _best(probabilities: "np.ndarray", top: int, classes: list[str] | None) -> list[dict[str, Any]]:
    """The most probable classes, the best first."""
    order = (-probabilities).argsort(kind="stable")[:top]  # stable: equal ones in order of their numbers
    return [{"class": int(c), "name": None if classes is None else classes[c], "probability": float(probabilities[c])}
            for c in order]


# --- what is printed and written ------------------------------------------------------------------------------------------


def _show(console: "Console", answer: dict[str, Any], named: bool) -> None:
    _print(console, "")
    _print(console, answer["image"], style="bold")
    _print(console, f"  probability  {'class':>5}" + "  name" * named)
    for best in answer["predictions"]:
        _print(console, f"  {100 * best['probability']:9.2f} %  {best['class']:5}" + f"  {best['name']}" * named)


def _print(console: "Console", text: str, style: str = "") -> None:
    """One line as it is: brackets are no markup, and names that the terminal cannot show are spelt out."""
    from rich.text import Text
    console.print(Text(_printable(text, console.encoding), style), soft_wrap=True)


def _printable(text: object, encoding: str) -> str:
    """`text` with \\x1b and the like for what is no character, or none that `encoding` has."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return plain.encode(encoding, "backslashreplace").decode(encoding)


def _record(args: argparse.Namespace, settings: dict[str, Any], answers: list[dict[str, Any]],
            failed: dict[Path, str]) -> dict[str, Any]:
    """What --json writes."""
    from minidl import __version__
    return {"minidl": __version__, **settings, "weights": str(args.weights), "device": args.device, "images": answers,
            "failed": [{"image": str(path), "error": message} for path, message in failed.items()]}
