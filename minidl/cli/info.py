"""Show what minidl runs on: versions, BLAS and its threads, the GPU if there is one, and where the bundled data is."""
import argparse
import os
import platform
import sys

HELP = "show versions, BLAS, GPU and where the bundled data is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`minidl info` has no options."""


def run(args: argparse.Namespace) -> int:
    """Prints a line per fact."""
    facts = {"minidl": _minidl(), "Python": f"{platform.python_version()} ({sys.executable})",
             "system": f"{platform.system()} {platform.machine()}, {_cores()} cores usable", "NumPy": _numpy(),
             "BLAS": _blas(), "threads": _threads(), "GPU": _gpu(), "data": _data()}
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    return 0


def _minidl() -> str:
    from pathlib import Path

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


def _gpu() -> str:
    """Whether device "cuda" works, proven by running something on it; else the reason."""
    import numpy as np

    from minidl.backend import to_device
    try:
        to_device(np.zeros(1), "cuda")
    except RuntimeError as error:
        return f"not usable: {' '.join(str(error).split())}"
    cupy = sys.modules["cupy"]
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return f"{name}, CuPy {cupy.__version__}"


def _data() -> str:
    from minidl.data import find
    try:
        return str(find("datasets"))
    except FileNotFoundError as error:
        return f"missing: {error}"
