"""Write a network as an ONNX file, which onnxruntime and many other programs run without minidl.

    minidl export resnet18 resnet18.onnx --weights resnet18.pth
    minidl export mini-vgg mine.onnx --weights mine.safetensors --batch 1

The file holds what the network does in evaluation mode. Input "images" (N, channels, height, width), prepared as the
weights expect them; output "logits" (N, classes), before the softmax, or "scores" (N, classes, height, width) of the
FCNs. The file is checked before it gets its name. Needs the package onnx: pip install 'minidl[onnx]'.

Exit status: 0; 2 for wrong usage, unusable weights, or a file that cannot be written.
"""
import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidl.cli.arguments import at_least, between, key_and_value, place
from minidl.cli.errors import UserError
from minidl.cli.files import writable_file
from minidl.cli.networks import find_network, net_with_weights, user_errors

if TYPE_CHECKING:
    from minidl.models import Network

HELP = "write a network as an ONNX file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `minidl export`."""
    parser.add_argument("name", metavar="NAME", help="the network, such as resnet18, vgg16, fcn8s or mini-vgg")
    parser.add_argument("out", metavar="OUT.onnx", type=place, help="the file to write")
    parser.add_argument("--weights", metavar="FILE", type=place,
                        help="the weights: .safetensors, .pth or .npz (default: random ones, to try a runtime with)")
    parser.add_argument("--size", metavar="N", type=between(1, 4096), help="images of N x N (default: the network's own size)")
    parser.add_argument("--classes", metavar="N", type=at_least(1), help="number of classes (default: read off the "
                        "weights, or the network's own)")
    parser.add_argument("--channels", metavar="N", type=at_least(1), help="channels of the images (default: the network's own)")
    parser.add_argument("--width", metavar="F", type=float, help="factor for the channels of all hidden layers (default: 1)")
    parser.add_argument("--option", metavar="KEY=VALUE", type=key_and_value, action="append", default=[],
                        help="another option of the network, such as batch_norm=true; may be repeated")
    parser.add_argument("--batch", metavar="N", type=_batch, default="dynamic",
                        help="a fixed number of images, or dynamic: any number (the default)")
    parser.add_argument("--seed", metavar="N", type=at_least(0), default=0, help="of random weights (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace OUT.onnx if there is such a file")


def run(args: argparse.Namespace) -> int:
    """Builds the network, writes the file, and says what is in it."""
    from minidl.interop import export_onnx
    _check_out(args.out, args.force)
    net, options = _make_net(args)
    weights = f"random, seed {args.seed}" if args.weights is None else args.weights.name
    side = args.size or net.image_size
    shape = net.in_channels, side, side
    try:
        made = export_onnx(net, args.out, shape, batch=args.batch,
                           metadata={"network": args.name, "options": json.dumps(options), "weights": weights})
    except (ImportError, ValueError, OSError) as error:
        raise UserError(str(error).removeprefix("export_onnx: ")) from error
    if args.weights is None:
        print(f"The weights are random (seed {args.seed}), which serves to try a runtime; --weights FILE loads trained ones.")
    print(f"{args.name}: images {_text((args.batch, *shape))} -> {made.output} {_text(made.output_shape)}")
    print(f"{made.nodes:,} nodes, opset {made.opset}, {made.size:,} bytes -> {args.out}")
    return 0


def _check_out(out: Path, force: bool) -> None:
    if out.suffix != ".onnx":
        raise UserError(f"OUT.onnx: the name must end in .onnx, got {out.name}; the network's name comes first")
    writable_file(out, "OUT.onnx")
    if out.exists() and not force:
        raise UserError(f"OUT.onnx: {out} is there already; choose another name, or --force to replace it")


def _make_net(args: argparse.Namespace) -> "tuple[Network, dict[str, Any]]":
    """The network, with the weights of the file if one is named, and the options it was built with."""
    import inspect

    from minidl import models
    from minidl.randomness import manual_seed
    args.name = find_network(args.name)
    given = {"image_size": args.size, "num_classes": args.classes, "in_channels": args.channels, "width": args.width}
    options = {key: value for key, value in given.items() if value is not None} | dict(args.option)
    if "image_size" not in inspect.signature(models.ZOO[args.name].build).parameters:
        options.pop("image_size", None)  # an FCN takes images of any size
    if args.weights is not None:
        return net_with_weights(args.name, options, args.weights)
    manual_seed(args.seed)
    with user_errors(args.name, ValueError, TypeError):
        return models.build(args.name, **options), options


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
