"""What all tests share: the support folder on the path, hypothesis profiles, devices, what plain pytest leaves out."""
import os
import shutil
import sys
from pathlib import Path

# Before NumPy is loaded: matrices in tests are small, and two BLAS threads on a busy machine mostly wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

from minidl.backend import to_device

sys.path[:0] = [str(Path(__file__).parent / folder) for folder in ("support", "cuda_on_cpu", "checking")]

# The same examples every time: a red test is red for everybody. `--hypothesis-profile=fuzz` looks at more of them.
settings.register_profile("plain", max_examples=25, deadline=None, derandomize=True, database=None)
settings.register_profile("fuzz", max_examples=300, deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("plain")


def pytest_addoption(parser):
    parser.addoption("--stand-in", action="store_true", help="run the tests on device 'cuda', where a strict stand-in for CuPy "
                     "computes on the CPU: see tests/support/second_run.py")


def pytest_configure(config):
    if config.option.stand_in:
        if shutil.which("g++") is None:
            raise pytest.UsageError("--stand-in executes CUDA C on the CPU, which needs g++: apt install g++")
        import second_run
        second_run.begin()
        config.pluginmanager.register(second_run)


@pytest.fixture(autouse=True)
def _placed(request):
    """In the second run, what a test makes goes to the device, unless it moves things itself or is about the CPU."""
    if not request.config.option.stand_in:
        yield
        return
    from second_run import during
    with during(request):
        yield


def pytest_collection_modifyitems(config, items):
    """Tests against PyTorch run on request only: plain pytest stays quick where torch happens to be installed."""
    if "oracle" in (config.option.markexpr or ""):
        return
    for item in items:
        if "oracle" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="compares with PyTorch: pip install torch==2.13.0, then pytest -m oracle"))


@pytest.fixture
def threads_share():
    """Three threads, and every kernel cut into the smallest parts that it can be cut into."""
    from small_parts import small_parts
    with small_parts():
        yield


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Every device that this machine has. Tests move with .to(device) and compare with .numpy()."""
    if request.param == "cuda":
        try:
            to_device(np.zeros(1), "cuda")
        except RuntimeError as error:
            pytest.skip(f"no CUDA device: {error}")
    return request.param
