"""Whatever is missing for the GPU is named, with what to do about it, and the CPU works all the same."""
import importlib.util
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import backend
from minidl.backend import NoCudaError, to_device
from minidl.cli.main import main

pytestmark = pytest.mark.ladder

CHECKOUT = Path(minidl.__file__).parents[1]
TRAINS = """
import numpy as np, minidl
from minidl import nn, ops, optim
net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
optimizer = optim.SGD(net.parameters(), lr=0.1)
ops.cross_entropy(net(np.ones((2, 1, 4, 4), np.float32)), np.array([0, 1])).backward()
optimizer.step()
print("trained on", next(net.parameters()).device)
try:
    net.to("cuda")
except minidl.NoCudaError as error:
    print("stage", error.stage)
    print(error)
assert next(net.parameters()).device == "cpu"
"""


class CUDARuntimeError(RuntimeError):
    """As CuPy's: no ImportError."""


def raising(error):
    def f(*args):
        raise error
    return f


def cupy_with(device_count=lambda: 1, arange=None):
    """A module that looks like CuPy, as far as the four stages look."""
    runtime = types.SimpleNamespace(getDeviceCount=device_count)
    return types.SimpleNamespace(ndarray=type("ndarray", (), {}), __version__="14.2.0", arange=arange,
                                 cuda=types.SimpleNamespace(runtime=runtime))


NO_DRIVER = CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")
BROKEN = [
    (None, "installed", "CuPy is not installed: pip install 'minidl[cuda13]'"),
    (cupy_with(raising(NO_DRIVER)), "device", "CuPy 14.2.0 finds no GPU (CUDARuntimeError: cudaErrorInsufficientDriver"),
    (cupy_with(lambda: 0), "device", "does nvidia-smi list one?"),
    (cupy_with(arange=raising(RuntimeError("Failure finding libnvrtc"))), "kernel",
     "a first kernel failed with RuntimeError: Failure finding libnvrtc"),
    (cupy_with(arange=lambda n: np.zeros(n)), "kernel", "a first kernel computed 1 + 2 + 3 = 3"),
]


@pytest.mark.parametrize("cupy, stage, words", BROKEN, ids=[f"{stage}-{words[:20]}" for _, stage, words in BROKEN])
def test_what_is_missing_is_named_wherever_cuda_is_asked_for(cupy, stage, words, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(backend, "_proven", None)
    with pytest.raises(NoCudaError) as caught:
        to_device(np.zeros(1), "cuda")
    assert caught.value.stage == stage
    assert words in str(caught.value) and str(caught.value).endswith("or stay on 'cpu'")
    assert main(["info"]) == 0
    assert words in capsys.readouterr().out
    minidl.free_gpu_memory()  # nothing to give back
    for command in (["info", "--test-gpu"], ["demo", "--quick", "--device", "cuda"]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1


def run(folder, script, **environment):
    """A fresh Python that looks for modules in `folder` first."""
    path = os.pathsep.join([str(folder), str(CHECKOUT)])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=folder,
                          env=os.environ | {"PYTHONPATH": path} | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_named_cupy_is_not_taken_for_cupy(tmp_path):
    if importlib.util.find_spec("cupy_backends") is not None:
        pytest.skip("the real CuPy is installed here, and a folder without __init__.py does not hide it")
    (tmp_path / "cupy").mkdir()
    said = run(tmp_path, TRAINS)
    assert "trained on cpu" in said and "stage imports" in said
    assert f"{tmp_path / 'cupy'}, is not CuPy: rename that file or folder" in said


def test_a_file_named_cupy_is_not_taken_for_cupy(tmp_path):
    (tmp_path / "cupy.py").write_text("answer = 42")
    said = run(tmp_path, TRAINS)
    assert "trained on cpu" in said and "stage imports" in said and f"{tmp_path / 'cupy.py'}, is not CuPy" in said


def test_a_cupy_that_does_not_import_is_told_with_its_reason(tmp_path):
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    said = run(tmp_path, TRAINS)
    assert "trained on cpu" in said and "stage imports" in said
    assert f"importing CuPy ({tmp_path / 'cupy' / '__init__.py'}) failed with OSError: libcudart.so.13" in said


@pytest.mark.parametrize("content, words", [
    ("1 / 0", "failed with ZeroDivisionError"), ("raise SystemExit(3)", "failed with SystemExit: 3"),
    ("from numpy import *", "is not CuPy")])
def test_a_file_of_ones_own_named_cupy_is_named_whatever_it_does(content, words, tmp_path):
    (tmp_path / "cupy.py").write_text(content)
    said = run(tmp_path, TRAINS)
    assert "stage imports" in said and words in said and str(tmp_path / "cupy.py") in said


def test_the_real_cupy_without_a_driver_is_told_from_no_cupy(tmp_path):
    if importlib.util.find_spec("cupy_backends") is None:
        pytest.skip("needs CuPy: pip install -c constraints.txt -e '.[test,cuda-check]'")
    said = run(tmp_path, TRAINS, CUDA_VISIBLE_DEVICES="")
    assert "trained on cpu" in said and "stage device" in said and "finds no GPU" in said


def test_importing_minidl_never_imports_cupy(tmp_path):
    (tmp_path / "cupy.py").write_text("raise SystemExit('cupy was imported')")
    run(tmp_path, "import minidl, minidl.models, minidl.train, minidl.interop; minidl.synchronize(); minidl.Tensor([1.0]) * 2")


def on_a_real_gpu(required):
    """What `pytest -m gpu` says, in a process of its own: the real CuPy, once imported, does not leave."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs", "-p", "no:cacheprovider", "tests/test_gpu.py"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT,
                          env=os.environ | {"MINIDL_REQUIRE_GPU": required, "PYTEST_ADDOPTS": ""})


def test_a_real_gpu_computes_what_the_cpu_computes_or_its_absence_is_told():
    done = on_a_real_gpu(required="0")
    assert done.returncode == 0, done.stdout[-3000:]
    if " passed" not in done.stdout.splitlines()[-1]:
        assert "needs a GPU: device 'cuda' needs CuPy and a working GPU" in done.stdout
        required = on_a_real_gpu(required="1")
        assert required.returncode == 1 and "MINIDL_REQUIRE_GPU=1, but device 'cuda' needs" in required.stdout
        pytest.skip(re.search(r"needs a GPU: (.*)", done.stdout)[1])
