"""Writes operations.md, the reference page of all operations, from the table OPS. `--check` only says whether it is current."""
import sys
from pathlib import Path

from minidl import ops
from minidl.function import Function

PAGE = Path(__file__).parent / "operations.md"


def section(op: type[Function]) -> str:
    """One operation: its name, the formula and shapes of its docstring, and what it refuses."""
    first, _, rest = (op.__doc__ or "").partition("\n")
    body = "\n".join(line.strip() for line in rest.strip().splitlines())
    home = op.__module__.replace(".", "/") + ".py"
    refused = "; ".join(dict.fromkeys(f"*{words}*" for _, _, words in op.rejects()))
    lines = [f"## {op.name}", "", "```", first.strip(), "```", ""]
    lines += [body, ""] if body else []
    lines += [f"Refuses, with these words in the error: {refused}.", ""] if refused else []
    return "\n".join([*lines, f"`{op.__name__}` in `{home}`", ""])


def page() -> str:
    head = ("# Operations\n\nWritten by `docs/make_operations.py` from the docstrings of the classes in `minidl.ops.OPS`. "
            "Each class holds the formula, the kernel,\nthe gradient, the loops that define it, and the samples that test it."
            "\n\n")
    return head + "\n".join(section(op) for op in ops.OPS)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == page() else f"{PAGE.name} is stale: run docs/make_operations.py")
    PAGE.write_text(page())
    print(f"{PAGE.name}: {len(ops.OPS)} operations")
