"""Files of class names: one name per line, or JSON."""
import json
from pathlib import Path
from typing import Any

from minidl.cli.errors import UserError


def read_classes(path: Path, option: str) -> list[str]:
    """The names in the file, in the order of the class numbers.

    Text: line i (from 0) names class i. JSON: a list of names; or {"0": name, "1": name, ...}. In JSON a name may also be a
    pair such as ["n01440764", "tench"], of which the last is taken.
    Errors: UserError that says what the file must look like.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{option}: cannot read {path} ({(error.strerror or type(error).__name__).lower()}); "
                        "check the spelling") from None
    except UnicodeDecodeError:
        raise UserError(f"{option}: a file of class names is UTF-8 text, but {path} is not; is it another file?") from None
    names = _json(text, path, option) if text.lstrip()[:1] in ("[", "{") else _lines(text, path, option)
    if not names:
        raise UserError(f"{option}: {path} names no class; write one name per line, the first is that of class 0")
    return names


def _lines(text: str, path: Path, option: str) -> list[str]:
    names = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    if "" in names:
        raise UserError(f"{option}: every line names a class, but line {names.index('') + 1} of {path} is empty, and all names "
                        "after it would go to the wrong class; delete the line, or write a name")
    return names


def _json(text: str, path: Path, option: str) -> list[str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option}: {path} begins like JSON, but is none ({error}); "
                        "mend it, or write one name per line") from None
    if isinstance(content, dict):
        numbers = [str(i) for i in range(len(content))]
        if set(content) != set(numbers):
            wrong = next(key for key in content if key not in numbers)
            raise UserError(f'{option}: the keys of a JSON file of {len(content)} classes are "0" to "{len(content) - 1}", but '
                            f"{path} has {wrong!r}; is it the table from names to numbers? Turn it round")
        content = [content[number] for number in numbers]
    names = [_name(entry) for entry in content]
    if None in names:
        raise UserError(f'{option}: a class is named by a string or a list such as ["n01440764", "tench"], but {path} has '
                        f"{content[names.index(None)]!r} for class {names.index(None)}")
    return names


def _name(entry: Any) -> Any:
    """The name that a JSON value gives, or None."""
    name = entry[-1] if isinstance(entry, list) and entry else entry
    return name.strip() if isinstance(name, str) and name.strip() else None
