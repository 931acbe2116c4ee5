"""What `minidl info --test-gpu` does: the table of minidl.parity, row by row, then times, all of it into one text file."""
import statistics
import time
from pathlib import Path
from typing import Any

from minidl.cli.bench import SUITE
from minidl.cli.errors import UserError
from minidl.cli.files import writable_file, write_text

TIMED: dict[str, int] = {"mini-vgg": 64, "mini-inception": 64, "mini-resnet": 64, **SUITE}
"""The networks that are timed, and the images in a batch."""
WARM_UP, RUNS = 2, 5


def test_gpu(path: Path, facts: list[str]) -> int:
    """Tests, times, prints, and writes the report, line by line."""
    from minidl.backend import NoCudaError, working_cupy
    try:
        working_cupy()
    except NoCudaError as error:
        raise UserError(f"--test-gpu: {error}") from None
    writable_file(path, "--out")
    report = Report(path)
    report.say(f"minidl's GPU report, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}", *facts, shown=False)
    try:
        report.say("", "GPU against CPU: the largest error, as a share of what is allowed")
        _compare(report)
        report.say("", f"times on the GPU: median of {RUNS}, batches of random images")
        _time(report)
        wrong = f"NOT RIGHT: {report.wrong} rows, marked WRONG above"
        report.say("", wrong if report.wrong else "everything agrees with the CPU")
    except KeyboardInterrupt:
        report.say("", "stopped by Ctrl-C: this is what was found so far")
        raise
    finally:
        print(f"report: {path}")
    return 1 if report.wrong else 0


class Report:
    """Lines that are printed as they come, and written: a GPU may hang, and the process be killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self.wrong = 0

    def say(self, *lines: str, shown: bool = True) -> None:
        self.lines += lines
        write_text(self.path, "\n".join(self.lines) + "\n", "--out")
        if shown:
            print("\n".join(lines), flush=True)


def _compare(report: Report) -> None:
    """A line for every row of the table."""
    from minidl.parity import rows
    for row in rows():
        start = time.perf_counter()
        try:
            share = row.check()
            right, found = share <= 1, f"{share:9.2g}"
        except Exception as error:  # one broken row must not hide the others
            right, found = False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        seconds = time.perf_counter() - start
        report.say(f"{row.kind:10} {row.name:28} {'ok   ' if right else 'WRONG'} {found}   {seconds:6.1f} s")
        report.wrong += not right


def _time(report: Report) -> None:
    """A line for every network: milliseconds of a training step and of inference, and the memory."""
    from minidl.backend import free_gpu_memory, gpu_memory
    for name, batch in TIMED.items():
        label = f"{name:24} batch {batch:4}  "
        try:
            step, inference = (1000 * statistics.median(seconds) for seconds in _times(name, batch))
        except Exception as error:  # out of memory, on a small card: the others may fit
            no_room = type(error).__name__ == "OutOfMemoryError"  # CuPy's; an illegal memory access is another matter
            report.say(f"{label}{'' if no_room else 'WRONG '}{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            report.wrong += not no_room
        else:
            report.say(f"{label}training step {step:8.2f} ms   inference {inference:8.2f} ms   "
                       f"memory {gpu_memory().kept_by_pool // 2**20:6,} MiB")
        free_gpu_memory()


def _times(name: str, batch: int) -> tuple[list[float], list[float]]:
    """Seconds of each training step and of each inference."""
    import numpy as np

    from minidl.autograd import Tensor
    from minidl.backend import synchronize
    from minidl.models import build
    from minidl.nn.module import evaluating
    from minidl.optim import SGD
    from minidl.randomness import manual_seed
    from minidl.train.losses import classification_loss
    manual_seed(0)
    net = build(name).to("cuda")
    rng = np.random.default_rng(0)
    images = Tensor(rng.standard_normal((batch, net.in_channels, net.image_size, net.image_size)).astype(np.float32)).to("cuda")
    labels = Tensor(rng.integers(0, 10, batch)).to("cuda")
    optimizer = SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def train() -> None:
        optimizer.zero_grad()
        classification_loss(net(images), labels).backward()
        optimizer.step()

    def infer() -> None:
        with evaluating(net):
            net(images)

    def timed(work: Any) -> float:
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        return time.perf_counter() - start

    return ([timed(train) for _ in range(WARM_UP + RUNS)][WARM_UP:], [timed(infer) for _ in range(WARM_UP + RUNS)][WARM_UP:])
