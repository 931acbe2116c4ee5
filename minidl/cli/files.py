"""Output files: looked at before the work starts, written whole or not at all."""
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from minidl.cli.errors import UserError
from minidl.files import write_atomically

__all__ = ["no_input", "reason", "remove_if_empty", "writable_file", "writable_folder", "write_atomically", "write_json",
           "write_text"]


def writable_folder(path: Path, option: str) -> bool:
    """Makes the folder if there is none, and proves that a file can be written in it. Returns whether it is new.

    Errors: UserError that says what stands in the way.
    """
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{option}: {path} is a file, but must be a folder; choose another name") from None
    except OSError as error:
        raise UserError(f"{option}: cannot make the folder {path} ({reason(error)}); "
                        f"choose another {'place with --out DIR' if option == '--out' else option}") from None
    _prove_writable(path, option)
    return new


def writable_file(path: Path, option: str) -> None:
    """Proves that a file of that name can be written, without touching one that is there."""
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a device"
        raise UserError(f"{option}: {path} is {what}, but must name a file; choose another name")
    if not path.parent.is_dir():
        raise UserError(f"{option}: there is no folder {path.parent} for {path.name}; make it first")
    _prove_writable(path.parent, option)


def no_input(path: Path, option: str, *inputs: Path | None) -> None:
    """Refuses an output that is one of the inputs, by whatever name: writing it would destroy what it is made of."""
    for given in inputs:
        if given is not None and _same_file(path, given):
            known = "" if str(path) == str(given) else f" (the same file as {given})"
            raise UserError(f"{option}: {path}{known} is read, and must not be replaced by what is made of it; "
                            "choose another name")


def _same_file(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them is not there
        return os.path.realpath(a) == os.path.realpath(b)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Writes numbers, strings, lists and dictionaries, for programs to read. Errors: UserError, as on a full disk."""
    write_text(path, json.dumps(record, indent=2) + "\n", "--json")


def write_text(path: Path, text: str, option: str) -> None:
    """Writes a text, whole or not at all. Errors: UserError, as on a full disk."""
    try:
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{option}: cannot write {path} ({reason(error)}); choose another place") from None


def remove_if_empty(path: Path) -> None:
    """Takes away a folder that holds nothing."""
    with suppress(OSError):  # it holds something, or is gone
        path.rmdir()


def _prove_writable(folder: Path, option: str) -> None:
    probe = folder / f".minidl-probe.{os.getpid()}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(f"{option}: cannot write in {folder} ({reason(error)}); choose another place") from None


def reason(error: OSError) -> str:
    """What the system says, to stand in a sentence: "no space left on device"."""
    text = error.strerror or type(error).__name__
    return text[:1].lower() + text[1:]
