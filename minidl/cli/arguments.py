"""Types of options: each turns the text of an argument into a value, or says what it must be."""
import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def place(text: str) -> Path:
    """A path; whether anything is there is looked at later."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must name a place, got an empty string")
    return Path(text)


def at_least(least: int) -> Callable[[str], int]:
    """The type of integers of at least `least`."""
    return between(least, None)


def between(least: int, most: int | None) -> Callable[[str], int]:
    """The type of integers from `least` to `most`."""
    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer, got {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {value}")
        return value
    return whole


def key_and_value(text: str) -> tuple[str, Any]:
    """The type of KEY=VALUE: true, false, and numbers as Python takes them, are what they look like; so is JSON; the rest is
    text."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier() or not value:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, such as num_classes=10, got {text!r}")
    if value.lower() in ("true", "false"):
        return key, value.lower() == "true"
    for kind in (int, float, json.loads):
        try:
            return key, kind(value)
        except (ValueError, RecursionError):
            continue
    return key, value


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option --device, of every command that computes."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute: cpu, or cuda for an NVIDIA "
                        "GPU (default: cpu; `minidl info` says what cuda lacks here)")


def number(text: str) -> float:
    """The type of numbers."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def image_size(most: int) -> Callable[[str], tuple[int, int]]:
    """The type of image sizes of at most so many pixels a side: "224" -> (224, 224), "240x320" -> (240, 320)."""
    def size(text: str) -> tuple[int, int]:
        parts = text.lower().split("x")
        if len(parts) > 2 or not all(part.isascii() and part.isdigit() and 1 <= int(part[:7]) <= most for part in parts):
            raise argparse.ArgumentTypeError(f"must be N or HEIGHTxWIDTH, pixels from 1 to {most}, got {text!r}")
        return int(parts[0]), int(parts[-1])
    return size
