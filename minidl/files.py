"""Writing a file so that nobody ever sees half of it."""
import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary name beside `path`, then renames: `path` holds the old file or the new, whole.

    A link is followed, so that the file it points to is replaced and the link stays. A file that was there keeps its
    permissions, a new one has the usual ones; a device or a pipe is never replaced. Errors: OSError if nothing can be
    written there (before `write` is called); whatever `write` raises. In either case the old file is as it was, and the
    temporary one is gone.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "the name must be that of a file, but it is a folder; add a file name", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "the name must be that of a file, but it is a device or a pipe; choose a file name",
                      str(path))
    temporary = path.with_name(f".minidl-{os.getpid()}-{secrets.token_hex(4)}.part")  # short: `path` may have the longest name
    try:
        temporary.open("xb").close()
        usual = temporary.stat().st_mode
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise type(error)(error.errno, f"cannot write in the folder {path.parent} ({reason}); choose another place",
                          str(path)) from None
    try:
        write(temporary)
        with suppress(OSError):  # a file system without permissions
            temporary.chmod(path.stat().st_mode if path.exists() else usual)  # `write` may have made one for the owner only
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut after the rename could leave an empty file under the final name
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
