"""Show what minidl runs on: versions, BLAS and its threads, the GPU if there is one, and where the bundled data is.

    minidl info
    minidl info --test-gpu                       is the GPU right, and how fast is it? Writes minidl-gpu-report.txt

--test-gpu computes every operation, every optimizer, the three mini nets and an epoch of training on the GPU and on
the CPU, compares them, and times networks on the GPU. The report is one text file, to be sent along with a question
or a bug report; of your machine it names hardware and versions, nothing else. It takes some minutes, most of them the
CPU's.

Exit status: 0; 1 if the GPU disagrees with the CPU; 2 if there is no GPU to test or the report cannot be written.
"""
import argparse
import os
import platform
import re
import sys
from pathlib import Path

from minidl.cli.arguments import place
from minidl.cli.errors import UserError

REPORT = Path("minidl-gpu-report.txt")
HELP = "show versions, BLAS, GPU and where the bundled data is; test the GPU"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `minidl info`."""
    parser.add_argument("--test-gpu", action="store_true", help="compare the GPU with the CPU, operation by operation, time "
                        "networks on it, and write a report")
    parser.add_argument("--out", type=place, metavar="FILE", help="the report of --test-gpu, replacing it (default: "
                        f"{REPORT})")


def run(args: argparse.Namespace) -> int:
    """Prints a line per fact; with --test-gpu the rows of the test as they are done."""
    if args.out is not None and not args.test_gpu:
        raise UserError("--out names the report of --test-gpu, which was not asked for: add --test-gpu, or leave --out out")
    facts = _facts()
    print("\n".join(_lines(facts)), flush=True)
    if not args.test_gpu:
        return 0
    from minidl.cli.gpu_report import test_gpu
    without_paths = {name: re.sub(r" \(/.*\)", "", value) for name, value in facts.items() if name != "data"}
    return test_gpu(args.out or REPORT, _lines(without_paths))


def _facts() -> dict[str, str]:
    return {"minidl": _minidl(), "Python": f"{platform.python_version()} ({sys.executable})",
            "system": f"{platform.system()} {platform.machine()}, {_cores()} cores usable", "NumPy": _numpy(),
            "BLAS": _blas(), "threads": _threads(), **_gpu(), "data": _data()}


def _lines(facts: dict[str, str]) -> list[str]:
    width = max(map(len, facts))
    return [f"{name:<{width}}  {value}" for name, value in facts.items()]


def _minidl() -> str:
    from minidl import __version__
    return f"{__version__} ({Path(__file__).resolve().parents[1]})"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _numpy() -> str:
    import numpy
    return numpy.__version__


def _blas() -> str:
    """Name, version and threads of every BLAS that is loaded."""
    from threadpoolctl import threadpool_info
    found = [f"{pool['internal_api']} {pool['version'] or ''}".strip() + f", {pool['num_threads']} threads"
             for pool in threadpool_info() if pool["user_api"] == "blas"]
    return "; ".join(found) or "none that threadpoolctl knows"


def _threads() -> str:
    """How many threads minidl's own kernels use, and where the number is from."""
    from minidl.threads import get_num_threads
    try:
        number = get_num_threads()
    except ValueError as error:
        return f"not known: {error}"
    source = "MINIDL_NUM_THREADS" if os.environ.get("MINIDL_NUM_THREADS") else "all cores usable"
    return f"{number} for minidl's kernels ({source})"


def _gpu() -> dict[str, str]:
    """Whether device "cuda" works, proven by running something on it; else the first thing that is missing."""
    from minidl.backend import NoCudaError, gpu_memory, working_cupy
    try:
        cupy = working_cupy()
    except NoCudaError as error:
        return {"GPU": f"not usable: {error}"}
    runtime, memory, mib = cupy.cuda.runtime, gpu_memory(), 2**20
    card = runtime.getDeviceProperties(0)
    return {
        "GPU": f"{card['name'].decode()}, compute capability {card['major']}.{card['minor']}",
        "CuPy": f"{cupy.__version__}, CUDA {_version(runtime.runtimeGetVersion())}, driver for CUDA "
                f"{_version(runtime.driverGetVersion())}",
        "GPU memory": f"{memory.free // mib:,} MiB free of {memory.total // mib:,}; CuPy's pool holds "
                      f"{memory.kept_by_pool // mib:,} MiB, arrays use {memory.used_by_arrays // mib:,}",
    }


def _version(number: int) -> str:
    """13020 -> "13.2", as CUDA counts."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _data() -> str:
    from minidl.data import find
    try:
        return str(find("datasets"))
    except FileNotFoundError as error:
        return f"missing: {error}"
