"""Where the files that ship with minidl are: the one place that knows both layouts."""
from __future__ import annotations

from pathlib import Path, PurePosixPath

KINDS = ("datasets", "lessons")
_PACKAGE = Path(__file__).resolve().parents[1]


def find(kind: str, name: str = "") -> Path:
    """The path of a bundled file, such as find("datasets", "digits.npz"); without a name, the folder of that kind.

    An installed package carries the files in minidl/bundled/<kind>/; a checkout has them in <kind>/ beside minidl/.
    The installed package is looked at first.

    Raises ValueError for an unknown kind or a name that leaves its folder, FileNotFoundError (which names both places)
    when neither has it.
    """
    if kind not in KINDS:
        raise ValueError(f"find: kind is one of {', '.join(KINDS)}, but got {kind!r}; did you swap kind and name?")
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"find: name is a path inside {kind}/, but got {name!r}; to read a file of your own, "
                         f"open it directly")
    installed = _PACKAGE / "bundled" / kind / relative
    checkout = _PACKAGE.parent / kind / relative
    if installed.exists():
        return installed
    # Beside an installed minidl lie other people's packages, and a well-known one is called `datasets`:
    # what has no list of our hashes is not our checkout.
    if (_PACKAGE.parent / "datasets" / "SHA256SUMS").is_file() and checkout.exists():
        return checkout
    raise FileNotFoundError(f"find: no {kind}/{name} in the installed package ({installed}) nor in a checkout "
                            f"({checkout}); reinstall minidl, or restore the folder with `git checkout -- {kind}`")
