"""A net as a table: its layers, what they give, what they cost and how much of the image they see."""
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from minidl.nn import Module
from minidl.nn.checks import whole_number
from minidl.show.count import Row, Walk, count_parameters, short_bytes, short_number, walk
from minidl.show.receptive import Field

if TYPE_CHECKING:
    from rich.table import Table


class Column(NamedTuple):
    """How one column of the table is headed and filled."""

    header: str
    slim_header: str
    """Where the table would be too wide otherwise."""
    justify: str
    cells: list[str]
    footer: str = ""


def summary_table(net: Module, input_shape: tuple[int, ...], title: str = "", *, batch_size: int = 1, depth: int | None = None,
                  width: int = 80) -> "Table":
    """A rich Table with a row per layer: output shape, parameters, multiply-adds, memory of its outputs, receptive field.

    input_shape: of one image, (C, H, W). Output shapes are written without the batch axis; multiply-adds and memory are for
    `batch_size` images. depth: layers deeper in the tree of modules are added up in the module above them ("layer1" at depth
    1), with the shape and receptive field of the last. Names that would make the table wider than `width` are wrapped; if that
    is not enough, memory and receptive field are left out. Numbers and shapes are never cut: the table may stay wider.
    See `trace` for what is counted. Errors: those of the net for an image that does not fit.
    """
    walked = walk(net, input_shape, batch_size)
    rows = walked.rows if depth is None else merged(net, walked.rows, whole_number("summary_table", "depth", depth))
    rows = [row for row in rows if row.operation != "Identity"]
    return _table(_columns(net, walked, rows), title or type(net).__name__, _totals(net, walked, batch_size), width)


def merged(net: Module, rows: Sequence[Row], depth: int) -> list[Row]:
    """The rows with everything deeper than `depth` added up: what follows each other in one module becomes one row.

    Its inputs are left out: rows have other numbers now.
    """
    classes = {name: type(module).__name__ for name, module in net.named_modules()}
    result: list[Row] = []
    for row in rows:
        name = ".".join(row.path[:depth])
        if len(row.path) <= depth:
            result.append(row._replace(inputs=()))
        elif result and result[-1].layer == name:
            result[-1] = _sum(result[-1], row)
        else:
            result.append(row._replace(layer=name, operation=classes[name], inputs=(), is_layer=True, window=None))
    return result


def _sum(a: Row, b: Row) -> Row:
    """Two rows of one module, `b` the later one. A layer that only hands its input on leaves shape and field as they are."""
    last = b if b.memory or b.shape else a
    return a._replace(shape=last.shape, field=last.field, parameters=a.parameters + b.parameters,
                      multiply_adds=a.multiply_adds + b.multiply_adds, memory=a.memory + b.memory)


def _columns(net: Module, walked: Walk, rows: list[Row]) -> list[Column]:
    unused = sum(walked.unused.values())
    extra = [_unused_parts(walked), "", f"{unused:,}", "", "", ""] if unused else None
    parts: list[list[str]] = [
        [row.operation for row in rows],
        ["x".join(map(str, row.shape[1:])) for row in rows],
        [f"{row.parameters:,}" if row.parameters else "" for row in rows],
        [short_number(row.multiply_adds) if row.multiply_adds else "" for row in rows],
        [short_bytes(row.memory) if row.memory else "" for row in rows],
        [field_text(row.field) for row in rows]]
    cells = [[*part, extra[i]] if extra else part for i, part in enumerate(parts)]
    return [
        Column("layer", "layer", "left", [row.layer for row in rows] + ["(not used)"] * (unused > 0), "total"),
        Column("operation", "operation", "left", cells[0]),
        Column("output", "output", "left", cells[1]),
        Column("parameters", "parameters", "right", cells[2], f"{count_parameters(net):,}"),
        Column("multiply-\nadds", "multi-\nply-\nadds", "right", cells[3],
               short_number(sum(row.multiply_adds for row in walked.rows))),
        Column("memory", "memory", "right", cells[4], short_bytes(sum(row.memory for row in walked.rows))),
        Column("receptive\nfield", "recep-\ntive\nfield", "right", cells[5]),
    ]


def field_text(field: Field | None) -> str:
    """ "404", or "11x27" where height and width differ; "" where it is not known."""
    if field is None:
        return ""
    height, width = (f"{n:.4g}" if n != round(n) else str(round(n)) for n in field.size)
    return height if height == width else f"{height}x{width}"


def _unused_parts(walked: Walk) -> str:
    """The parts of the net that evaluation leaves alone: "aux1, aux2"."""
    parts = list(dict.fromkeys(name.split(".")[0] for name in walked.unused))
    return ", ".join(parts[:3]) + (f" and {len(parts) - 3} more" if len(parts) > 3 else "")


def _totals(net: Module, walked: Walk, batch_size: int) -> str:
    """The lines under the table, with all digits."""
    total, trained = count_parameters(net), count_parameters(net, trainable_only=True)
    size = sum(p.size * p.dtype.itemsize for p in net.parameters())
    made = sum(row.memory for row in walked.rows)
    return "\n".join([
        f"parameters     {total:,} in {short_bytes(size)}" + (f", {trained:,} of them trained" if trained != total else ""),
        f"multiply-adds  {sum(row.multiply_adds for row in walked.rows):,}"
        + (f" for {batch_size:,} images" if batch_size > 1 else ""),
        f"memory         {short_bytes(made)} of outputs"])


NARROWEST = 10, 11
"""So wide are the first two columns, layer and operation, before other columns are left out in their favour."""


def _table(columns: list[Column], title: str, totals: str, width: int) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text
    for dispensable in ("memory", "receptive\nfield"):
        if sum(NARROWEST) + sum(_width(column, column.slim_header) + 1 for column in columns[2:]) > width:
            columns = [column for column in columns if column.header != dispensable]
    wide, slim = (sum(_width(column, header(column)) for column in columns) + len(columns) - 1
                  for header in (lambda column: column.header, lambda column: column.slim_header))
    roomy = wide + len(columns) - 1 <= width
    table = Table(title=Text(title, "bold"), caption=Text(totals, "none"), box=box.SIMPLE, show_footer=True, pad_edge=False,
                  title_justify="left", caption_justify="left", padding=(0, 1 if roomy else 0, 0, 0), show_edge=False)
    headers = [column.header if wide <= width else column.slim_header for column in columns]
    cells = [column.cells for column in columns]
    if min(wide, slim) > width:
        fixed = sum(_width(column, header) for column, header in zip(columns[2:], headers[2:])) + len(columns) - 1
        operation = min(_width(columns[1], headers[1]), max(NARROWEST[1], width - fixed - _width(columns[0], headers[0])))
        cells[1] = [wrapped(cell, operation) for cell in cells[1]]
        operation = max(len(line) for cell in (headers[1], *cells[1]) for line in cell.split("\n"))
        cells[0] = [wrapped(cell, max(NARROWEST[0], width - fixed - operation)) for cell in cells[0]]
    for column, header in zip(columns, headers):
        table.add_column(header, column.footer, justify=column.justify, no_wrap=True)  # type: ignore[arg-type]
    for row in zip(*cells):
        table.add_row(*map(Text, row))  # as they are: a name may hold what rich takes for markup
    return table


def _width(column: Column, header: str) -> int:
    return max(len(line) for cell in (header, column.footer, *column.cells) for line in cell.split("\n"))


def wrapped(name: str, width: int) -> str:
    """A dotted name or a class's name in lines of at most `width`, broken behind dots and spaces, and before capitals."""
    lines = [""]
    for part in re.split(r"(?<=[._ ])|(?<=[a-z0-9])(?=[A-Z])", name) if len(name) > width else [name]:
        while len(part) > width:
            part, rest = part[:width], part[width:]
            lines += [part, ""] if lines[-1] else [part]
            part = rest
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip(" ") for line in lines if line)
