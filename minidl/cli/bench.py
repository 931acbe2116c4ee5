"""Time networks: a training step and inference, beside PyTorch's where it is installed.

    minidl bench                                     six networks, as docs/performance.md has them
    minidl bench resnet18 --batch 8 --train
    minidl bench vgg16 --against torch --json vgg16.json

Both run in one process, by turns, on the same number of threads, so that whatever else the machine does meets both alike; what
is printed is the median of each and of their ratios, with the middle half of the ratios. Inference is that of `net.fuse()`. A
training step is forward, backward and SGD with momentum on one batch of random images.

Memory is how much a fresh process grows, at its largest, over a few training steps, from the moment when the network is built.

A ratio below 1 means that minidl took less. Close other programs: nothing else should run on these cores.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minidl.cli.arguments import at_least, number, place
from minidl.cli.errors import UserError
from minidl.cli.files import writable_file, write_json
from minidl.cli.networks import find_network

if TYPE_CHECKING:
    from rich.console import Console

HELP = "time networks, and compare with PyTorch where it is installed"

SUITE = {"alexnet-torchvision": 16, "vgg16": 4, "googlenet-torchvision": 8, "resnet18": 16, "resnet50": 8,
         "resnet20-cifar": 128}
"""What runs without names, and its batch."""

MODES = ("training step", "inference")
MEMORY_STEPS = 3


class Pair(NamedTuple):
    """Seconds of each run, minidl's and PyTorch's (none without PyTorch), in the order in which they ran."""

    ours: list[float]
    theirs: list[float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `minidl bench`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: {', '.join(SUITE)}); see `minidl models`")
    parser.add_argument("--batch", type=at_least(1), metavar="N", help="images in a batch (default: the suite's, else 8)")
    parser.add_argument("--width", type=number, default=1.0, metavar="F", help="factor for the channels (default: 1)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--train", action="store_true", help="training steps alone")
    mode.add_argument("--inference", action="store_true", help="inference alone")
    parser.add_argument("--against", choices=("torch", "nothing"), help="what to compare with (default: torch if it is "
                        "installed)")
    parser.add_argument("--runs", type=at_least(1), default=7, metavar="N", help="timed runs of each (default: 7)")
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="threads of each (default: all usable cores)")
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory, which starts fresh processes")
    parser.add_argument("--json", type=place, metavar="FILE", help="also write all numbers to this file, replacing it")


def run(args: argparse.Namespace) -> int:
    """Prints a row per network and mode as it is measured. Returns the exit status."""
    from rich.console import Console

    from minidl import threads
    names = [find_network(name) for name in args.names] or list(SUITE)
    against = _against(args.against)
    if args.json is not None:
        writable_file(args.json, "--json")
    if args.threads:
        threads.set_num_threads(args.threads)
    modes = [MODES[0]] if args.train else [MODES[1]] if args.inference else list(MODES)
    console = Console(highlight=False)
    machine = _machine(against)
    console.print("; ".join(f"{key} {value}" for key, value in machine.items()), soft_wrap=True)
    rows: list[dict[str, Any]] = []
    for name in names:
        batch = args.batch or SUITE.get(name, 8)
        with console.status(f"building {name}"):
            try:
                programs = prepare(name, batch, args.width, against)
            except (ValueError, MemoryError) as error:
                raise UserError(f"{name} with --width {args.width:g} and --batch {batch}: {error}") from None
        for mode in modes:
            with console.status(f"{name}, {mode}: {args.runs + 1} runs of each"):
                pair = interleaved(*programs[mode], args.runs)
            memory = {}
            if mode == MODES[0] and not args.no_memory:
                with console.status(f"{name}: memory in fresh processes"):
                    memory = {who: peak_memory(name, batch, args.width, who) for who in ("minidl", against) if who}
            rows.append(row_of(name, batch, mode, pair, memory))
            _print_row(console, rows[-1])
            if args.json is not None:
                write_json(args.json, {"machine": machine, "rows": rows})
        del programs
    return 0


def _against(wanted: str | None) -> str:
    """"torch" or ""."""
    if wanted == "nothing":
        return ""
    try:
        import torch  # noqa: F401
    except ImportError:
        if wanted == "torch":
            raise UserError("--against torch: PyTorch is not installed here; pip install torch, or leave the option "
                            "out") from None
        return ""
    return "torch"


def _machine(against: str) -> dict[str, str]:
    import numpy

    from minidl import __version__
    from minidl.threads import get_num_threads
    facts = {"minidl": __version__, "NumPy": numpy.__version__}
    if against:
        import torch
        facts["PyTorch"] = torch.__version__
    return facts | {"threads": str(get_num_threads()), "cores": str(os.cpu_count()), "processor": _processor(),
                    "date": time.strftime("%Y-%m-%d")}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# what is timed

def prepare(name: str, batch: int, width: float, against: str) -> dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]]:
    """mode -> (minidl's program, PyTorch's or None), each of one step or one inference on the same images."""
    import numpy as np

    from minidl import models
    from minidl.threads import get_num_threads
    net = models.build(name, **({} if width == 1 else {"width": width}))
    shape = batch, net.in_channels, net.image_size, net.image_size
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    theirs: tuple[Any, Any] = (None, None)
    if against:
        import torch

        from minidl.interop.torch_mirror import torch_mirror
        torch.set_num_threads(get_num_threads())
        theirs = (torch_step(torch_mirror(net, shape, training=True), images),
                  torch_inference(torch_mirror(net, shape, training=False), images))
    return {MODES[0]: (our_step(net, images), theirs[0]), MODES[1]: (our_inference(net, images), theirs[1])}


def labels_for(outputs: Any, seed: int = 0) -> Any:
    """Random labels that fit the scores (N, C) or (N, C, H, W)."""
    import numpy as np
    scores = outputs[0] if isinstance(outputs, tuple) else outputs
    shape = tuple(scores.shape)
    return np.random.default_rng(seed).integers(0, shape[1], shape[:1] + shape[2:])


def our_step(net: Any, images: Any) -> Callable[[], Any]:
    """A training step of minidl."""
    from minidl import optim
    from minidl.train import classification_loss
    optimizer = optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    labels: list[Any] = []

    def step() -> None:
        net.train()
        outputs = net(images)
        if not labels:
            labels.append(labels_for(outputs))
        loss = classification_loss(outputs, labels[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def our_inference(net: Any, images: Any) -> Callable[[], Any]:
    """Inference by the fused net; folded when it first runs, so that a training step before it moves what it starts from."""
    from minidl.autograd import no_grad
    fused: list[Any] = []

    def infer() -> Any:
        if not fused:
            fused.append(net.fuse())
        with no_grad():
            return fused[0](images)
    return infer


def torch_step(mirror: Any, images: Any) -> Callable[[], Any]:
    """A training step of PyTorch."""
    import torch

    from minidl.train.losses import AUXILIARY_WEIGHT
    optimizer = torch.optim.SGD(mirror.parameters(), lr=1e-3, momentum=0.9)
    x = torch.from_numpy(images)
    labels: list[Any] = []

    def step() -> None:
        outputs = mirror(x)
        if not labels:
            labels.append(torch.from_numpy(labels_for(outputs)))
        scores, *heads = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = torch.nn.functional.cross_entropy(scores, labels[0])
        for head in heads:
            loss = loss + AUXILIARY_WEIGHT * torch.nn.functional.cross_entropy(head, labels[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def torch_inference(mirror: Any, images: Any) -> Callable[[], Any]:
    """Inference of PyTorch, as a user has it: without a graph, nothing folded."""
    import torch
    x = torch.from_numpy(images)

    def infer() -> Any:
        with torch.no_grad():
            return mirror(x)
    return infer


def interleaved(ours: Callable[[], Any], theirs: Callable[[], Any] | None, runs: int) -> Pair:
    """Seconds of `runs` runs of each, by turns, after one of each that is not counted."""
    pair = Pair([], [])
    for k in range(runs + 1):
        for program, seconds in ((ours, pair.ours), (theirs, pair.theirs)):
            if program is not None:
                start = time.perf_counter()
                program()
                if k:
                    seconds.append(time.perf_counter() - start)
    return pair


# memory

def peak_memory(name: str, batch: int, width: float, who: str) -> int:
    """Bytes by which a fresh process that trains grows at its largest, counted from the built network on."""
    from minidl.threads import get_num_threads
    script = f"from minidl.cli.bench import measure_memory; measure_memory({name!r}, {batch}, {width}, {who!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False,
                          env={**os.environ, "MINIDL_NUM_THREADS": str(get_num_threads())})
    if done.returncode != 0:
        raise UserError(f"{name}: the process that measures {who}'s memory failed: {done.stderr.strip()[-300:]}")
    return int(json.loads(done.stdout)["bytes"])


def measure_memory(name: str, batch: int, width: float, who: str) -> None:
    """What the fresh process runs: prints how many bytes it grew by."""
    import numpy as np

    from minidl import models
    from minidl.nn import init
    from minidl.threads import get_num_threads
    options = {} if width == 1 else {"width": width}
    if who == "minidl":
        net = models.build(name, **options)
        make: Callable[..., Callable[[], Any]] = our_step
    else:
        import torch

        from minidl.interop.torch_mirror import torch_mirror
        torch.set_num_threads(get_num_threads())
        with init.no_values():  # takes no memory, which would be there for PyTorch to use again
            pattern = models.build(name, **options)
        net = torch_mirror(pattern, (batch, pattern.in_channels, pattern.image_size, pattern.image_size), training=True)
        make = torch_step
    size = (net if who == "minidl" else pattern)
    images = np.random.default_rng(0).standard_normal((batch, size.in_channels, size.image_size, size.image_size), np.float32)
    step = make(net, images)
    with suppress(OSError):  # the largest size so far is forgotten: building may have been larger than what it left
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    for _ in range(MEMORY_STEPS):
        step()
    print(json.dumps({"bytes": _status("VmHWM") - before}))


def _status(key: str) -> int:
    """A number of /proc/self/status, in bytes."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        raise UserError("memory is measured on Linux alone (it is read from /proc/self/status): add --no-memory") from None
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(key))) * 1024


# what is said of it

def row_of(name: str, batch: int, mode: str, pair: Pair, memory: dict[str, int]) -> dict[str, Any]:
    """The numbers of one network and mode, as the JSON file has them."""
    row: dict[str, Any] = {"name": name, "batch": batch, "mode": mode, "seconds": statistics.median(pair.ours),
                           "runs": pair.ours}
    if pair.theirs:
        ratios = sorted(ours / theirs for ours, theirs in zip(pair.ours, pair.theirs))
        n = len(ratios)
        row |= {"torch_seconds": statistics.median(pair.theirs), "torch_runs": pair.theirs, "ratio": statistics.median(ratios),
                "ratio_low": ratios[n // 4], "ratio_high": ratios[n - 1 - n // 4]}
    if memory:
        row["memory"] = {("torch" if who != "minidl" else who): number for who, number in memory.items()}
    return row


def _print_row(console: "Console", row: dict[str, Any]) -> None:
    text = f"{row['name']:<22} batch {row['batch']:>3}  {row['mode']:<13}  {row['seconds']:7.3f} s"
    if "ratio" in row:
        text += (f"   PyTorch {row['torch_seconds']:7.3f} s   ratio {row['ratio']:.2f} "
                 f"({row['ratio_low']:.2f} to {row['ratio_high']:.2f})")
    if "memory" in row:
        sizes = {who: number / 2**20 for who, number in row["memory"].items()}
        text += f"   memory {sizes['minidl']:,.0f} MiB"
        if "torch" in sizes:
            text += f", PyTorch {sizes['torch']:,.0f} MiB ({sizes['minidl'] / sizes['torch']:.2f})"
    console.print(text, soft_wrap=True)
