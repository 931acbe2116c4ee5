"""What several trained nets came to: one record each, as a table and as JSON."""
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from minidl.show.count import short_number
from minidl.train.loop import Epoch

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Result:
    """One trained net."""

    name: str
    title: str
    parameters: int
    multiply_adds: int
    """For one image."""
    seconds: float
    """Wall-clock time of training, validation included."""
    train_accuracy: float
    """Over the last epoch, while it was learning: augmented images, batch statistics."""
    validation_accuracy: float
    test_accuracy: float
    history: list[Epoch]

    def as_json(self) -> dict[str, Any]:
        """Numbers, strings and lists only."""
        return asdict(self)


def results_table(results: Sequence[Result]) -> "Table":
    """A row per net, in the order given; fits 80 columns."""
    from rich import box
    from rich.table import Table
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("net", no_wrap=True)
    for header in ("parameters", "multiply-\nadds/image", "seconds", "train", "validation", "test"):
        table.add_column(header, justify="right", no_wrap=True)
    for r in results:
        accuracies = (f"{100 * a:.1f} %" for a in (r.train_accuracy, r.validation_accuracy, r.test_accuracy))
        table.add_row(r.title, f"{r.parameters:,}", short_number(r.multiply_adds), f"{r.seconds:.1f}", *accuracies)
    return table
