"""What the tests of the ladder share."""
import shutil

import pytest


@pytest.fixture
def cupy():
    """The stand-in in CuPy's place, for one test."""
    import standin
    if shutil.which("g++") is None:
        pytest.skip("executes CUDA C on the CPU: needs g++")
    yield standin.install()
    standin.uninstall()
