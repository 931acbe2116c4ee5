"""The house keeps its shape: imports point one way, one door leads to CuPy, and the face costs next to nothing."""
import ast
import subprocess
import sys
import types
from pathlib import Path

import pytest

import minidl

PACKAGE = Path(minidl.__file__).parent
HEAVY = {"matplotlib", "rich", "cupy", "torch", "hypothesis", "threadpoolctl", "pytest", "safetensors", "PIL", "onnx"}

# Each part of the house, and the parts that it may import. Not listed: not allowed.
MAY_IMPORT = {
    "randomness": set(),
    "files": set(),
    "backend": set(),
    "threads": set(),
    "anomaly": {"backend"},
    "cuda": {"backend"},
    "function": {"backend"},
    "arithmetic": {"threads", "backend", "function"},
    "autograd": {"threads", "backend", "function", "arithmetic", "anomaly"},
    "ops": {"threads", "backend", "cuda", "function", "arithmetic", "autograd", "randomness"},
    "checking": {"backend", "function", "autograd", "ops"},
    "testing": {"checking"},
    "nn": {"backend", "function", "autograd", "ops", "randomness"},
    "optim": {"threads", "backend", "cuda", "autograd"},
    "data": {"randomness", "files"},
    "models": {"backend", "function", "autograd", "ops", "nn"},
    "train": {"backend", "autograd", "ops", "nn", "optim", "data", "models"},
    "parity": {"backend", "function", "autograd", "ops", "nn", "optim", "models", "train", "randomness"},
    "interop": {"backend", "function", "arithmetic", "autograd", "ops", "nn", "files"},
    "show": {"backend", "autograd", "function", "nn", "models", "train", "data"},
    "homework": {"backend"},
    "cli": {"threads", "backend", "function", "autograd", "ops", "nn", "optim", "data", "models", "train", "show", "checking",
            "randomness", "files", "homework", "interop", "parity"},
    "__main__": {"cli"},
    "__init__": {"threads", "backend", "function", "autograd", "ops", "nn", "optim", "randomness", "checking"},
}


def is_written_as_by_a_user(path: Path) -> bool:
    """What a homework consists of is written as a student writes it: with `import minidl`. Nothing imports it."""
    return path.parent.parent == PACKAGE / "homework" and path.name in {"solution.py", "checks.py"}


def part_of(path: Path) -> str:
    """The part of the house that a file belongs to: its folder, or its own name at the top."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports_of(path: Path) -> list[tuple[str, ast.AST, bool]]:
    """(module, node, whether at module level) for every import in the file."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda))]
    typing_only = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    late = {id(inner) for outer in functions + typing_only for inner in ast.walk(outer)}
    found = []
    for node in ast.walk(tree):
        top = id(node) not in late
        if isinstance(node, ast.Import):
            found += [(alias.name, node, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; write minidl.x in full"
            if node.module == "minidl":
                found += [(f"minidl.{alias.name}", node, top) for alias in node.names]
            else:
                found.append((node.module, node, top))
    return found


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "bundled" not in path.parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = part_of(path)
    assert part in MAY_IMPORT, f"{part} is new: give it a line in the table"
    for module, _, _ in imports_of(path):
        if module.split(".")[0] != "minidl" or is_written_as_by_a_user(path):
            continue
        assert module != "minidl", f"{path.name} imports the face"
        target = module.split(".")[1]
        if part in {"cli", "interop"} and target == "__version__":
            continue  # the version lives in the face's file and is read, not imported, elsewhere
        assert target == part or target in MAY_IMPORT[part], f"{part} may not import {target} ({path.name})"


def test_the_table_has_no_cycle():
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {part for part, targets in MAY_IMPORT.items() if part not in done and targets <= done}
        assert ready, f"a cycle among {set(MAY_IMPORT) - done}"
        done |= ready


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_own_modules_are_imported_at_the_top_and_heavy_ones_are_not(path):
    for module, _, top in imports_of(path):
        root = module.split(".")[0]
        if root == "minidl" and part_of(path) != "cli":  # a command loads what it needs when it runs
            assert top, f"{path.name}: a late import of {module} hides a cycle"
        if root in HEAVY:
            assert not top, f"{path.name}: {root} is heavy; import it where it is used"


def test_only_the_backend_knows_cupy():
    for path in SOURCES:
        named = {module.split(".")[0] for module, _, _ in imports_of(path)} & {"cupy", "cupyx"}
        assert not named, f"{path.name} imports cupy"
        if part_of(path) != "backend":
            assert 'import_module("cupy")' not in path.read_text(), f"{path.name} imports cupy"


def test_no_code_imports_an_operation_as_a_module():
    """`minidl.ops.softmax` is the function, `minidl.data.shapes` too: a module of that name would be shadowed."""
    roots = [PACKAGE, PACKAGE.parent / "tests", PACKAGE.parent / "lessons"]
    functions = {"ops": set(minidl.ops.__all__), "data": set(__import__("minidl.data", fromlist=["x"]).__all__)}
    for path in (p for root in roots if root.exists() for p in root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    parts = alias.name.split(".")
                    shadowed = parts[0] == "minidl" and len(parts) == 3 and parts[2] in functions.get(parts[1], ())
                    assert not shadowed, f"{path.name}: import {alias.name} gives the package, not the function"
    for part, names in functions.items():
        module = sys.modules[f"minidl.{part}"]
        assert not [name for name in names if isinstance(getattr(module, name), types.ModuleType)]
    assert callable(minidl.ops.softmax)
    assert callable(minidl.ops.lrn)


def test_importing_minidl_loads_numpy_and_nothing_heavy():
    script = "import sys, minidl; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not HEAVY & set(loaded)


def test_no_user_input_is_checked_with_assert():
    """`python -O` drops assert statements."""
    for path in SOURCES:
        asserts = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
        assert not asserts, f"{path.name}, lines {asserts}: raise an error instead of assert"


def test_the_face_offers_every_part_and_loads_the_rarer_ones_on_demand():
    script = ("import sys, minidl; before = 'minidl.data' in sys.modules; minidl.data.DataLoader; minidl.testing;"
              "print(before, 'data' in dir(minidl))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'tensor'; it has"):
        minidl.tensor
