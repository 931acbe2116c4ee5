"""List the networks: their names, papers, parameters and image sizes.

    minidl models
    minidl models resnet
    minidl models batch norm 2015
    minidl models --json

FILTER keeps those whose name, paper or description holds every word. `minidl summary NAME` shows one layer by layer.
"""
import argparse
import json
from typing import Any

from minidl.cli.errors import UserError

HELP = "list the networks"
ROOMY, NARROWEST = 76, 64
"""A terminal as wide as the first has room for papers; on one narrower than the second, lines are folded."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `minidl models`."""
    parser.add_argument("filter", metavar="FILTER", nargs="*", help="words from names, papers or descriptions")
    parser.add_argument("--json", action="store_true", help="print a JSON list for programs instead of the table")


def run(args: argparse.Namespace) -> int:
    """Prints the list."""
    from rich.console import Console
    console = Console(highlight=False)
    found = [_record(name) for name in _matching(args.filter)]
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        console.width = max(console.width, NARROWEST)
        console.print(_table(found, with_papers=console.width >= ROOMY))
    return 0


def _matching(words: list[str]) -> list[str]:
    """The names of the networks that every word belongs to."""
    import difflib

    from minidl.models import ZOO
    wanted = [word.lower().replace("_", "-") for word in words]
    texts = {name: f"{name} {entry.paper} {entry.about}".lower() for name, entry in ZOO.items()}
    found = [name for name, text in texts.items() if all(word in text for word in wanted)]
    if not found:
        near = difflib.get_close_matches(" ".join(wanted), ZOO, 3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "leave the words out to see all of them"
        raise UserError(f"no network has {' and '.join(map(repr, words))} in its name, paper or description; {hint}")
    return found


def _record(name: str) -> dict[str, Any]:
    """What is told of one network. It is built without values: its parameters are counted, not remembered."""
    from minidl.models import ZOO, build
    from minidl.nn import init
    from minidl.show import count_parameters
    with init.no_values():
        net = build(name)
    return {"name": name, "paper": ZOO[name].paper, "parameters": count_parameters(net),
            "input": [net.in_channels, net.image_size, net.image_size], "about": ZOO[name].about}


def _table(records: list[dict[str, Any]], with_papers: bool) -> Any:
    """A paper is its first author and year there: what the list is read for needs the room."""
    from rich import box
    from rich.table import Table
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("name", no_wrap=True)
    if with_papers:
        table.add_column("paper", max_width=10)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("image", no_wrap=True)
    table.add_column("what it is", min_width=16)
    for record in records:
        words = record["paper"].split()
        table.add_row(record["name"], *[f"{words[0]} {words[-1]}"] * with_papers, f"{record['parameters']:,}",
                      "x".join(map(str, record["input"])), record["about"])
    return table
