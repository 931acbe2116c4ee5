"""Show a network layer by layer: output shapes, parameters, multiply-adds, memory, receptive fields; or draw it.

    minidl summary resnet50 --depth 1
    minidl summary vgg-d --size 288 --batch 32
    minidl summary fcn8s --graph fcn8s.svg

Nothing is computed and no weights are drawn, so this takes a moment for any network; `minidl models` lists them.
Images of --size go through the network as it is by default: VGG-D has its 138 million parameters at 288 as at 224.
Where they do not fit (AlexNet's fully connected layers fix the size), the network is built for them, and the title says
so. --option image_size=N builds a network for another size in any case.
Memory is that of all outputs in evaluation mode, as training keeps them. The receptive field is how many pixels of the
image, in height and width, one pixel of the output depends on. "(not used)" are parameters that serve training only.
"""
import argparse
from typing import TYPE_CHECKING

from minidl.cli.arguments import at_least, between, image_size, key_and_value, number, place
from minidl.cli.errors import UserError
from minidl.cli.files import writable_file, write_text
from minidl.cli.networks import Built, build_network, find_network, fitting, given_options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

HELP = "show a network layer by layer, or draw it"
DRAWINGS = (".svg", ".dot")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `minidl summary`."""
    parser.add_argument("name", metavar="NAME", help="the network, such as vgg-d, googlenet, resnet50, fcn8s or mini-vgg")
    parser.add_argument("--size", type=image_size(100_000), metavar="N|HxW", help="size of the images that go through "
                        "the network (default: its own); it is built for them only where they do not fit otherwise")
    parser.add_argument("--batch", type=at_least(1), default=1, metavar="N", help="number of images (default: 1)")
    parser.add_argument("--classes", type=between(1, 1_000_000), metavar="N", help="number of classes (default: the network's)")
    parser.add_argument("--channels", type=between(1, 1_000_000), metavar="N", help="channels of the images (default: the "
                        "network's)")
    parser.add_argument("--width", type=number, metavar="F", help="factor for the channels of all hidden layers (default: 1)")
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
    options = given_options(args.option, num_classes=args.classes, in_channels=args.channels, width=args.width)
    built = build_network(name, options, args.size)
    console = Console(highlight=False)
    title = f"{name}: {ZOO[name].paper}; {_images(args.batch)} {'x'.join(map(str, built.shape))}{built.note}"
    with fitting(name, built.shape):
        table = summary_table(built.net, built.shape, title, batch_size=args.batch, depth=args.depth, width=console.width)
    _print_whole(console, table)
    if args.graph is not None:
        _draw(built, f"{name}: {ZOO[name].paper}", args)
        console.print(f"Graph: {args.graph}", soft_wrap=True, markup=False)
    return 0


def _print_whole(console: "Console", table: "Table") -> None:
    """Lets a narrow terminal fold what is too wide: rich would cut numbers."""
    from rich.measure import Measurement
    needed = Measurement.get(console, console.options.update_width(10_000), table).maximum
    console.width = max(console.width, needed)
    console.print(table)


def _draw(built: Built, title: str, args: argparse.Namespace) -> None:
    """Draws first and writes then: a drawing that fails leaves the old file."""
    from minidl.show import to_dot, to_svg
    draw = to_svg if args.graph.suffix.lower() == ".svg" else to_dot
    write_text(args.graph, draw(built.net, built.shape, title=title, depth=args.depth), "--graph")


def _images(count: int) -> str:
    return "image" if count == 1 else f"{count:,} images"
