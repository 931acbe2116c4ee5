"""Training as it happens: a live display on a terminal, plain lines anywhere else."""
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from minidl.train.loop import Epoch

if TYPE_CHECKING:
    from rich.console import Console


class Reporter(Protocol):
    """What training tells whoever shows it. A `with` block: leaving it gives the screen back."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def begin(self, name: str, epochs: int, batches: int) -> None: ...
    def on_batch(self, epoch: int, batch: int, loss: float) -> None: ...
    def on_epoch(self, record: Epoch) -> None: ...


def reporter(console: "Console") -> Reporter:
    """The live display if `console` is a terminal that can move its cursor, else plain lines."""
    return LiveReporter(console) if console.is_terminal and not console.is_dumb_terminal else PlainReporter(console)


class PlainReporter:
    """One line per epoch: for pipes, files and continuous integration."""

    def __init__(self, console: "Console") -> None:
        self.console, self.name, self.epochs = console, "", 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: Any) -> None:
        pass

    def begin(self, name: str, epochs: int, batches: int) -> None:
        self.name, self.epochs = name, epochs

    def on_batch(self, epoch: int, batch: int, loss: float) -> None:
        pass

    def on_epoch(self, record: Epoch) -> None:
        self.console.print(f"{self.name:<15}  epoch {record.epoch}/{self.epochs}  {_state(record)}  "
                           f"{record.seconds:5.1f} s", soft_wrap=True, highlight=False, markup=False)


class LiveReporter:
    """One line per net with a bar that follows the batches."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        self.progress = Progress(TextColumn("[bold]{task.description:<14}"), BarColumn(bar_width=12),
                                 TextColumn("{task.fields[epoch]}"), TextColumn("{task.fields[state]}"),
                                 TimeElapsedColumn(), console=console, refresh_per_second=8)
        self.task: Any = None
        self.epochs = self.batches = 0

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *details: Any) -> None:
        self.progress.stop()

    def begin(self, name: str, epochs: int, batches: int) -> None:
        self.epochs, self.batches = epochs, batches
        self.task = self.progress.add_task(name, total=epochs * batches, epoch=f"1/{epochs}", state="")

    def on_batch(self, epoch: int, batch: int, loss: float) -> None:
        self.progress.update(self.task, completed=(epoch - 1) * self.batches + batch, epoch=f"{epoch}/{self.epochs}")
        if epoch == 1:  # later on, the figures of the last whole epoch stand here
            self.progress.update(self.task, state=f"loss {loss:.3f}")

    def on_epoch(self, record: Epoch) -> None:
        self.progress.update(self.task, state=_state(record))


def _state(record: Epoch) -> str:
    text = f"loss {record.train_loss:.3f}  train {100 * record.train_accuracy:.1f} %"
    return text if record.validation_accuracy is None else text + f"  val {100 * record.validation_accuracy:.1f} %"
