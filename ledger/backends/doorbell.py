"""The doorbell: wake readers when there is more to read, and remember what was on disk.

After each commit the writer writes the head position to the file ``head``; readers watch that file. watchdog is
imported when the first reader listens, so that a process that only appends does not pay for it.

When the commit is on disk by then (durability "full"), the position follows once more, with a check. LMDB tells its newest
commit by numbers that have none: one flipped bit, or an older file put back, and a log ends earlier that is in order
otherwise. Whoever opens it compares.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ledger.errors import Corrupted

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.format import Checks

HEAD_BYTES = 20  # of the file at most: the position, and the same with its check before it
_POSITION_BYTES = 8
_CHECKED_AS = b"head"


def head_bytes(position: int, checks: Checks, *, is_on_disk: bool) -> bytes:
    """Return what the file begins with after a commit; what follows stays."""
    told = position.to_bytes(_POSITION_BYTES, "big")
    return told + checks.seal(_CHECKED_AS, told) if is_on_disk else told


def position_on_disk(content: bytes, checks: Checks) -> int:
    """Return the position up to which the log was on disk, from the file's content; 0 when it does not tell."""
    try:
        return int.from_bytes(checks.open(_CHECKED_AS, content[_POSITION_BYTES:HEAD_BYTES]), "big")
    except Corrupted:
        return 0


class Doorbell:
    """Watch one ``head`` file on behalf of any number of listeners in this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next = 0
        self._observer: Any = None

    def ring(self) -> None:
        """Wake the listeners of this process at once; the file wakes the others'."""
        for callback in list(self._listeners.values()):
            with contextlib.suppress(Exception):  # a reader's trouble is not the writer's, who has committed
                callback()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` when the file changes; return a function that ends it."""
        with self._lock:
            if self._observer is None:
                self._observer = self._watch()
            number = self._next
            self._next += 1
            self._listeners[number] = callback

        def stop() -> None:
            with self._lock:
                self._listeners.pop(number, None)

        return stop

    def _watch(self) -> Any:
        from watchdog.events import FileModifiedEvent, FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        bell = self

        class Handler(FileSystemEventHandler):
            def on_modified(self, event: FileSystemEvent) -> None:
                bell.ring()

        observer = Observer()
        try:
            observer.schedule(Handler(), os.fspath(self._path), event_filter=[FileModifiedEvent])
            observer.daemon = True
            observer.start()
        except OSError:  # no watches left (inotify's limit), or none on this file system: polling goes on
            return False
        return observer

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            observer, self._observer = self._observer, None
            self._listeners.clear()
        if observer:
            observer.stop()
            observer.join(1.0)
