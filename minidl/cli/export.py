"""Write a network as an ONNX file, which onnxruntime and many other programs run without minidl.

    minidl export resnet18 resnet18.onnx --weights resnet18.pth
    minidl export mini-vgg mine.onnx --weights mine.safetensors --batch 1

The file holds what the network does in evaluation mode. Input "images" (N, channels, height, width), prepared as the
weights expect them; output "logits" (N, classes), before the softmax, or "scores" (N, classes, height, width) of the
FCNs. The file is checked before it gets its name. Needs the package onnx: pip install 'minidl[onnx]'.

Images of --size go through the network as it is by default; where they do not fit, it is built for them, and a line
says so. With --weights it is what the weights are: --option image_size=N names the size that they were trained for.

Exit status: 0; 2 for wrong usage, unusable weights, or a file that cannot be written.
"""
import argparse
import json
from pathlib import Path

from minidl.cli.arguments import at_least, image_size, key_and_value, number, place
from minidl.cli.errors import UserError
from minidl.cli.files import no_input, reason, writable_file
from minidl.cli.networks import Built, build_network, find_network, given_options, on_the_command_line, user_errors

HELP = "write a network as an ONNX file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `minidl export`."""
    parser.add_argument("name", metavar="NAME", help="the network, such as resnet18, vgg16, fcn8s or mini-vgg")
    parser.add_argument("out", metavar="OUT.onnx", type=place, help="the file to write")
    parser.add_argument("--weights", metavar="FILE", type=place,
                        help="the weights: .safetensors, .pth or .npz (default: random ones, to try a runtime with)")
    parser.add_argument("--size", metavar="N|HxW", type=image_size(4096), help="size of the images that go through the network "
                        "(default: its own); without --weights it is built for them where they do not fit otherwise")
    parser.add_argument("--classes", metavar="N", type=at_least(1), help="number of classes (default: read off the "
                        "weights, or the network's own)")
    parser.add_argument("--channels", metavar="N", type=at_least(1), help="channels of the images (default: the network's own)")
    parser.add_argument("--width", metavar="F", type=number, help="factor for the channels of all hidden layers (default: 1)")
    parser.add_argument("--option", metavar="KEY=VALUE", type=key_and_value, action="append", default=[],
                        help="another option of the network, such as batch_norm=true; may be repeated")
    parser.add_argument("--batch", metavar="N", type=_batch, default="dynamic",
                        help="a fixed number of images, or dynamic: any number (the default)")
    parser.add_argument("--seed", metavar="N", type=at_least(0), default=0, help="of random weights (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace OUT.onnx if there is such a file")


def run(args: argparse.Namespace) -> int:
    """Builds the network, writes the file, and says what is in it."""
    from minidl.interop import export_onnx
    no_input(args.out, "OUT.onnx", args.weights)
    _check_out(args.out, args.force)
    built = _make_net(args)
    weights = f"random, seed {args.seed}" if args.weights is None else args.weights.name
    try:
        made = export_onnx(built.net, args.out, built.shape, batch=args.batch,
                           metadata={"network": args.name, "options": json.dumps(built.options), "weights": weights})
    except OSError as error:
        raise UserError(f"OUT.onnx: cannot write {args.out} ({reason(error)}); choose another place") from None
    except (ImportError, ValueError) as error:
        raise UserError(on_the_command_line(error)) from error
    if args.weights is None:
        print(f"The weights are random (seed {args.seed}), which serves to try a runtime; --weights FILE loads trained ones.")
    print(f"{args.name}: images {_text((args.batch, *built.shape))} -> {made.output} {_text(made.output_shape)}{built.note}")
    print(f"{made.nodes:,} nodes, opset {made.opset}, {made.size:,} bytes -> {args.out}")
    return 0


def _check_out(out: Path, force: bool) -> None:
    if out.suffix != ".onnx":
        raise UserError(f"OUT.onnx: the name must end in .onnx, got {out.name}; the network's name comes first")
    writable_file(out, "OUT.onnx")
    if out.exists() and not force:
        raise UserError(f"OUT.onnx: {out} is there already; choose another name, or --force to replace it")


def _make_net(args: argparse.Namespace) -> Built:
    """The network, with the weights of the file if one is named, or else with random ones."""
    from minidl import models
    from minidl.randomness import manual_seed
    args.name = find_network(args.name)
    options = given_options(args.option, num_classes=args.classes, in_channels=args.channels, width=args.width)
    built = build_network(args.name, options, args.size, args.weights)
    if args.weights is not None:
        return built
    manual_seed(args.seed)
    with user_errors(args.name, ValueError, TypeError):
        return built._replace(net=models.build(args.name, **built.options))


def _batch(text: str) -> str | int:
    """The type of --batch."""
    if text == "dynamic":
        return "N"
    try:
        return at_least(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; or the word dynamic") from None


def _text(shape: tuple) -> str:
    return f"({', '.join('?' if n is None else str(n) for n in shape)})"
