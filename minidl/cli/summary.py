"""Show a mini net layer by layer: operations, output shapes, parameters, multiply-adds for one 28x28 image."""
import argparse

NETS = ("vgg", "inception", "resnet")
HELP = "show a net layer by layer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`minidl summary NET [--width W] [--classes C] [--channels C]`"""
    parser.add_argument("net", metavar="NET", choices=NETS, help="vgg, inception or resnet")
    parser.add_argument("--width", type=int, metavar="W", help="channels per unit of the net's table (default: the net's)")
    parser.add_argument("--classes", type=int, default=10, metavar="N", help="number of classes (default: 10)")
    parser.add_argument("--channels", type=int, default=1, metavar="N", help="channels of the images (default: 1, grey)")


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    from rich.console import Console

    from minidl.cli.errors import UserError
    from minidl.models import MINI_NETS
    from minidl.show import summary_table
    for option in ("width", "classes", "channels"):
        value = getattr(args, option)
        if value is not None and not 1 <= value <= 4096:
            raise UserError(f"--{option}: must be between 1 and 4096, got {value}")
    width = {} if args.width is None else {"width": args.width}
    net = MINI_NETS[args.net](num_classes=args.classes, in_channels=args.channels, **width)
    Console().print(summary_table(net, (args.channels, 28, 28), title=f"mini {args.net}"))
    return 0
