"""Without onnx: minidl loads, and says what to install."""
import subprocess
import sys

import pytest

from minidl import nn
from minidl.interop import export_onnx


def test_interop_loads_without_onnx():
    script = "import sys, minidl.interop; print({'onnx', 'onnxruntime', 'google.protobuf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_missing_onnx_is_answered_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'minidl\[onnx\]'"):
        export_onnx(nn.ReLU(), tmp_path / "net.onnx", (3,))
    assert list(tmp_path.iterdir()) == []
