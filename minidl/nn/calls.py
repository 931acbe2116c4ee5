"""Watching modules being called."""
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


class _Calls(threading.local):
    """Who watches modules being called, in the current thread."""

    watchers: tuple[Callable[[Any], AbstractContextManager], ...] = ()


calls = _Calls()


@contextmanager
def watch_calls(watcher: Callable[[Any], AbstractContextManager]) -> Iterator[None]:
    """A `with` block in which every module's forward runs inside `with watcher(module):`, for tables and drawings."""
    before, calls.watchers = calls.watchers, (*calls.watchers, watcher)
    try:
        yield
    finally:
        calls.watchers = before
