"""A net as a table: its operations, what they give, and what they cost."""
from typing import TYPE_CHECKING

from minidl.nn import Module
from minidl.show.count import count_parameters, trace

if TYPE_CHECKING:
    from rich.table import Table


def summary_table(net: Module, input_shape: tuple[int, ...], title: str = "") -> "Table":
    """A rich Table with a row per operation: layer, operation, output shape, parameters, multiply-adds for one image.

    input_shape: of one image, (C, H, W). Output shapes are written without the batch axis. Errors: those of the net for
    an image that does not fit.
    """
    from rich import box
    from rich.table import Table
    rows = trace(net, input_shape)
    table = Table(title=title or type(net).__name__, box=box.SIMPLE, show_footer=True, title_justify="left",
                  title_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    unused = count_parameters(net) - sum(row.parameters for row in rows)
    for header, footer, justify in (
            ("layer", "total", "left"), ("operation", "", "left"), ("output", "", "left"),
            ("parameters", f"{count_parameters(net):,}", "right"),
            ("multiply-\nadds", f"{sum(row.multiply_adds for row in rows):,}", "right")):
        table.add_column(header, footer, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(row.layer, row.operation, "x".join(map(str, row.shape[1:])),
                      f"{row.parameters:,}" if row.parameters else "", f"{row.multiply_adds:,}" if row.multiply_adds else "")
    if unused:
        table.add_row("(not used)", "", "", f"{unused:,}", "")
    return table
