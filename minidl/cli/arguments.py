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
    """The type of KEY=VALUE: true, false and numbers are what they look like, the rest is text."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier() or not value:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, such as num_classes=10, got {text!r}")
    try:
        return key, json.loads(value.lower())
    except ValueError:
        return key, value
