"""Writes networks.md, the page of all networks, from the table `minidl.models.ZOO` and the nets that it builds.

`--check` only says whether the page is current.
"""
import inspect
import sys
from pathlib import Path

from minidl import models, nn
from minidl.show import count_multiply_adds, count_parameters

PAGE = Path(__file__).parent / "networks.md"
HEAD = Path(__file__).parent / "networks_head.md"


def row(name: str) -> str:
    """One network: name, what it is, parameters (with those that only training uses), multiply-adds, image."""
    entry = models.ZOO[name]
    with nn.init.no_values():  # counting needs no weights
        net = models.build(name)
    image = net.in_channels, net.image_size, net.image_size
    return (f"| `{name}` | {entry.about} ({entry.paper}) | {count_parameters(net):,} | {count_multiply_adds(net, image):,} | "
            f"{'x'.join(map(str, image))} |")


def options() -> list[str]:
    """The signature of every builder, with the first sentence of its docstring."""
    lines = []
    for build in dict.fromkeys(entry.build for entry in models.ZOO.values()):
        sentence = (inspect.getdoc(build) or "").partition("\n")[0]
        arguments = str(inspect.signature(build)).partition(" ->")[0]
        lines += [f"`models.{build.__name__}{arguments}`", "", sentence, ""]
    return lines


def page() -> str:
    table = ["| name | what it is | parameters | multiply-adds | image |", "|---|---|---:|---:|---|", *map(row, models.names())]
    return "\n".join([HEAD.read_text().rstrip("\n"), "", "## All of them", "", *table, "", "## Their options", "", *options()])


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == page() else f"{PAGE.name} is stale: run docs/make_networks.py")
    PAGE.write_text(page())
    print(f"{PAGE.name}: {len(models.ZOO)} networks")
