"""Convert weights to another form: a .safetensors, .pth or .npz file to .safetensors or .npz.

The form of IN is told from its content, the form of OUT from its ending. Nothing in IN is run. From a checkpoint, which
holds more than weights, the state dict is taken; --key says which, where there are several. --list shows what is in IN and
writes nothing.

Exit status: 0; 2 for a file that cannot be read or written.
"""
import argparse
from pathlib import Path

HELP = "convert weights (.pth, .npz, .safetensors) or list what is in them"
ENDINGS = (".safetensors", ".npz")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`minidl convert IN [OUT] [--key NAME] [--list] [--force]`"""
    parser.add_argument("source", metavar="IN", type=Path, help="file of weights")
    parser.add_argument("target", metavar="OUT", type=Path, nargs="?", help="file to write; ends in .safetensors or .npz")
    parser.add_argument("--key", metavar="NAME", help="the part of a checkpoint that is the state dict")
    parser.add_argument("--list", action="store_true", help="print names, shapes and dtypes; write nothing")
    parser.add_argument("--force", action="store_true", help="replace OUT if there is such a file")


def run(args: argparse.Namespace) -> int:
    """Reads, then prints or writes."""
    from minidl.cli.errors import UserError
    from minidl.interop import load, read_metadata
    if not args.list:
        _check_target(args.source, args.target, args.force)
    elif args.target is not None:
        raise UserError(f"--list writes nothing, but OUT is {args.target}; leave one of them out")
    try:
        arrays = load(args.source, args.key)
        metadata = read_metadata(args.source)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
    if args.list:
        _print_table(arrays)
    else:
        _write(arrays, args.target, metadata)
    nbytes = sum(x.nbytes for x in arrays.values())
    where = "" if args.list else f" -> {args.target}"
    print(f"{len(arrays):,} arrays, {sum(x.size for x in arrays.values()):,} numbers, {nbytes:,} bytes{where}")
    return 0


def _check_target(source: Path, target: Path | None, force: bool) -> None:
    """Whether OUT can be written, before a large IN is read."""
    from minidl.cli.errors import UserError
    from minidl.cli.files import no_input, writable_file
    if target is None:
        raise UserError("OUT: the file to write is missing; name one that ends in .safetensors or .npz, or ask for --list")
    if target.suffix not in ENDINGS:
        raise UserError(f"OUT: its ending chooses the form and must be .safetensors or .npz, got {target.name}; "
                        "PyTorch reads .safetensors with safetensors.torch.load_file")
    no_input(target, "OUT", source)
    writable_file(target, "OUT")
    if target.exists() and not force:
        raise UserError(f"OUT: {target} is there already; choose another name, or --force to replace it")


def _write(arrays: dict, target: Path, metadata: dict[str, str]) -> None:
    from minidl.cli.errors import UserError
    from minidl.data import write_npz
    from minidl.interop import save
    try:
        if target.suffix == ".npz":
            write_npz(target, arrays)
        else:
            save(arrays, target, metadata)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"OUT: {error}") from None


def _print_table(arrays: dict) -> None:
    # A name comes from the file, and may hold what a terminal would obey.
    names = [name if name.isascii() and name.isprintable() else ascii(name) for name in arrays]
    shapes = ["x".join(map(str, x.shape)) or "()" for x in arrays.values()]
    widths = [max(map(len, column), default=0) for column in (names, shapes)]
    for name, shape, x in zip(names, shapes, arrays.values()):
        print(f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {x.dtype}")
