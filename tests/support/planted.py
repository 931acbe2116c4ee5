"""A copy of the package with a bug in it, and what the tests that defend it say."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import minidl

PACKAGE, TESTS = Path(minidl.__file__).parent, Path(__file__).parents[1]
SECONDS = 120


def exit_status(folder, chosen, name=None, old="", new=""):
    """pytest's, for the tests `chosen` (files of tests/, options) on a copy in `folder`, where `name` has `new` for `old`."""
    package = folder / "minidl"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    if name is not None:
        source = (package / name).read_text()
        assert source.count(old) == 1, f"{name} has {source.count(old)} of: {old}"
        (package / name).write_text(source.replace(old, new))
    words = [str(TESTS / word) if word.endswith(".py") else word for word in chosen]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-c", str(TESTS.parent / "pyproject.toml"),
               *words]
    try:
        done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""},
                              capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return 1  # a check that never ends is noticed, too
    print(done.stdout[-1500:], done.stderr[-500:])
    return done.returncode
