"""Every kernel compiles to machine code, with the compiler and the options that CuPy uses, and takes what is passed to it."""
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nvrtc import ARCHITECTURES, all_kernels

import minidl
from minidl.cuda import DTYPES

pytestmark = pytest.mark.ladder

PACKAGE = Path(minidl.__file__).parent
PTX_TYPES = {"float": "f32", "double": "f64", "int": "u32", "long long": "u64", "bool": "u8", "unsigned char": "u8"}


def is_missing(distribution):
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


@pytest.fixture(scope="module")
def compiled():
    missing = [name for name, distribution in (("CuPy", "cupy-cuda13x"), ("NVRTC", "nvidia-cuda-nvrtc"))
               if is_missing(distribution)]
    if missing:
        reason = f"needs {' and '.join(missing)}: pip install -c constraints.txt -e '.[test,cuda-check]'"
        if os.environ.get("MINIDL_REQUIRE_NVRTC") == "1":
            pytest.fail(f"MINIDL_REQUIRE_NVRTC=1, but this {reason}")
        pytest.skip(reason)
    done = subprocess.run([sys.executable, Path(__file__).with_name("nvrtc.py")], capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_cu_file_of_the_package_belongs_to_the_python_file_of_its_name():
    assert set(all_kernels()) == {path.name for path in PACKAGE.rglob("*.cu")}


@pytest.mark.parametrize("name", all_kernels())
def test_a_file_compiles_for_every_architecture(name, compiled):
    sizes = compiled["files"][name]["machine code"]
    assert set(sizes) == set(ARCHITECTURES)
    assert all(size > 1000 for size in sizes.values())


@pytest.mark.parametrize("name", all_kernels())
def test_the_compiled_kernels_take_what_the_launcher_passes(name, compiled):
    names = {dtype: name for name, dtype in DTYPES.items()}
    wanted = {kernel: ["u64" if p.is_array else PTX_TYPES[names[p.dtype]] for p in parameters]
              for kernel, parameters in all_kernels()[name].parameters.items()}
    assert compiled["files"][name]["parameters"] == wanted


def test_the_options_are_those_of_cupy(compiled):
    assert compiled["options"] == ["-std=c++17", "-ftz=true"]
