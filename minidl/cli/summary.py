"""Show a network layer by layer: output shapes, parameters, multiply-adds, memory, receptive fields; or draw it.

    minidl summary resnet50 --depth 1
    minidl summary vgg-d --size 288 --batch 32
    minidl summary fcn8s --graph fcn8s.svg

Nothing is computed and no weights are drawn, so this takes a moment for any network; `minidl models` lists them.
Memory is that of all outputs in evaluation mode, as training keeps them. The receptive field is how many pixels of the
image, in height and width, one pixel of the output depends on. "(not used)" are parameters that serve training only.
"""
import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidl.cli.arguments import at_least, between, key_and_value, place
from minidl.cli.errors import UserError
from minidl.cli.files import writable_file, write_atomically
from minidl.cli.networks import find_network

if TYPE_CHECKING:
    from minidl.models import Network

HELP = "show a network layer by layer, or draw it"
DRAWINGS = (".svg", ".dot")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `minidl summary`."""
    parser.add_argument("name", metavar="NAME", help="the network, such as vgg-d, googlenet, resnet50, fcn8s or mini-vgg")
    parser.add_argument("--size", type=_size, metavar="N|HxW", help="image size (default: the network's); a number builds the "
                        "network for images of that size, HxW shows the default one such images")
    parser.add_argument("--batch", type=at_least(1), default=1, metavar="N", help="number of images (default: 1)")
    parser.add_argument("--classes", type=between(1, 1_000_000), metavar="N", help="number of classes (default: the network's)")
    parser.add_argument("--channels", type=between(1, 1_000_000), metavar="N", help="channels of the images (default: the "
                        "network's)")
    parser.add_argument("--width", type=_number, metavar="F", help="factor for the channels of all hidden layers (default: 1)")
    parser.add_argument("--depth", type=at_least(1), metavar="N", help="add up what lies deeper in the tree of modules: with 1 "
                        "a row per stage (default: a row per layer)")
    parser.add_argument("--option", type=key_and_value, action="append", default=[], metavar="KEY=VALUE",
                        help="another option of the network, such as batch_norm=true; may be repeated")
    parser.add_argument("--graph", type=place, metavar="FILE", help="also draw the network: .svg for a picture, .dot for "
                        "Graphviz; a file of that name is replaced")


def run(args: argparse.Namespace) -> int:
    """Prints the table, then writes the drawing. Returns the exit status."""
    from rich.console import Console

    from minidl.models import ZOO
    from minidl.show import summary_table
    name = find_network(args.name)
    if args.graph is not None:
        if args.graph.suffix.lower() not in DRAWINGS:
            raise UserError(f"--graph: the name must end in {' or '.join(DRAWINGS)}, got {args.graph}")
        writable_file(args.graph, "--graph")
    net = _build(name, args)
    shape = net.in_channels, *(args.size or (net.image_size, net.image_size))
    console = Console(highlight=False)
    title = f"{name}: {ZOO[name].paper}; {_images(args.batch)} {'x'.join(map(str, shape))}"
    with _fitting(name, shape):
        table = summary_table(net, shape, title, batch_size=args.batch, depth=args.depth, width=max(console.width, 60))
    console.print(table)
    if args.graph is not None:
        _draw(net, shape, f"{name}: {ZOO[name].paper}", args)
        console.print(f"Graph: {args.graph}", soft_wrap=True, markup=False)
    return 0


def _build(name: str, args: argparse.Namespace) -> "Network":
    """The network with the options asked for, without values."""
    import inspect

    from minidl.models import ZOO, build
    from minidl.nn import init
    options = {"num_classes": args.classes, "in_channels": args.channels, "width": args.width, "image_size": None}
    if args.size is not None and args.size[0] == args.size[1] and "image_size" in inspect.signature(ZOO[name].build).parameters:
        options["image_size"] = args.size[0]
    options = {key: value for key, value in options.items() if value is not None}
    for key, value in args.option:
        if key in options:
            raise UserError(f"--option: {key} is given twice, as {options[key]} and as {value}; leave one out")
        options[key] = value
    try:
        with init.no_values():
            return build(name, **options)
    except (ValueError, TypeError) as error:
        if isinstance(options.get("image_size"), int) and options["image_size"] > 0:
            _name_the_layer(name, options, args)
        raise UserError(str(error).removeprefix("build: ")) from error
    except MemoryError:
        raise UserError(f"{name}: this machine has no room for a network of that size; use a smaller --width") from None


def _name_the_layer(name: str, options: dict[str, Any], args: argparse.Namespace) -> None:
    """Raises the error that such images meet in the network as it is made by default, if they do: it names the layer."""
    from minidl.models import build
    from minidl.nn import init
    from minidl.show import trace
    try:
        with init.no_values():
            net = build(name, **{key: value for key, value in options.items() if key != "image_size"})
    except (ValueError, TypeError):
        return  # it is not the size that is wrong
    shape = net.in_channels, options["image_size"], options["image_size"]
    with _fitting(name, shape):
        trace(net, shape)


@contextmanager
def _fitting(name: str, shape: tuple[int, ...]) -> Iterator[None]:
    """A `with` block whose errors say that images of this shape do not fit, and in which layer."""
    try:
        yield
    except (ValueError, TypeError) as error:
        where = "; ".join(getattr(error, "__notes__", []))
        raise UserError(f"images {'x'.join(map(str, shape))} do not fit {name}: {error} ({where})") from error


def _draw(net: "Network", shape: tuple[int, ...], title: str, args: argparse.Namespace) -> None:
    """Draws first and writes then: a drawing that fails leaves the old file."""
    from minidl.show import to_dot, to_svg
    draw = to_svg if args.graph.suffix.lower() == ".svg" else to_dot
    text = draw(net, shape, title=title, depth=args.depth)

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    try:
        write_atomically(args.graph, write)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UserError(f"--graph: cannot write {args.graph} ({reason}); choose another place") from None


def _images(count: int) -> str:
    return "image" if count == 1 else f"{count:,} images"


# --- the options' types ------------------------------------------------------------------------------------------------


def _size(text: str) -> tuple[int, int]:
    """ "224" -> (224, 224), "240x320" -> (240, 320)"""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and 1 <= int(part[:7]) <= 100_000 for part in parts):
        raise argparse.ArgumentTypeError(f"must be N or HEIGHTxWIDTH, pixels from 1 to 100000, got {text!r}")
    return int(parts[0]), int(parts[-1])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
