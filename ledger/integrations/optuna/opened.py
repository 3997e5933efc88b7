"""A ledger that each process opens for itself: what is handed to other processes carries the path, not the handle."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Self, cast

from ledger import session
from ledger.backends.lmdb import LmdbBackend
from ledger.errors import InvalidValue
from ledger.identity import default_actor
from ledger.session import Ledger


class OpenedLedger:
    """Hold a ledger, given as a handle or a path; after a fork, and when unpickled, it is opened again from the path.

    A handle that was given stays the caller's to close; what is opened here is closed by ``close``, or when
    nothing has this object any more. An actor that the caller has named goes along to other processes.

    >>> import pickle, tempfile
    >>> with tempfile.TemporaryDirectory() as place, OpenedLedger(os.path.join(place, "runs.ledger")) as opened:
    ...     with pickle.loads(pickle.dumps(opened)) as other:
    ...         other.book.id == opened.book.id
    True
    """

    def __init__(self, place: Ledger | str | os.PathLike[str]) -> None:
        self._is_given = isinstance(place, Ledger)
        book = place if isinstance(place, Ledger) else session.open(place)
        backend = book.log.backend
        self._path = str(backend.path) if isinstance(backend, LmdbBackend) else None
        self._actor = None if book.log.actor == default_actor() else book.log.actor
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._book: Ledger | None = book
        if not self._is_given:
            self._own(book)

    @property
    def book(self) -> Ledger:
        """The ledger, open in this process. Raises what opening it raises."""
        if self._book is not None and self._pid == os.getpid():
            return self._book
        if self._pid != os.getpid():  # forked: the lock may be held by a thread that is not in this process
            self._mutex, self._book, self._pid, self._is_given = threading.Lock(), None, os.getpid(), False
        with self._mutex:
            if self._book is None:
                self._own(session.open(self._require_path(), create=False, actor=self._actor))
            return cast("Ledger", self._book)

    def _own(self, book: Ledger) -> None:
        """Take a ledger that was opened here; it is closed when nothing has this object any more."""
        self._book = book
        self._closing: Any = weakref.finalize(self, _close, book, os.getpid())

    def _require_path(self) -> str:
        if self._path is None:
            raise InvalidValue("a ledger in memory belongs to the process that made it. Give the path of a directory.")
        return self._path

    def close(self) -> None:
        """Close the ledger unless it is the caller's; it is opened again if it is used again."""
        if not self._is_given and self._book is not None and self._pid == os.getpid():
            self._closing()
            self._book = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._require_path(), "actor": self._actor}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path, self._actor = state["path"], state["actor"]
        self._book, self._is_given, self._pid, self._mutex = None, False, os.getpid(), threading.Lock()


class OnLedger:
    """What works on a ledger that it opens, or is given: closed by ``close`` or the end of a ``with``."""

    def __init__(self, place: Ledger | str | os.PathLike[str]) -> None:
        self._opened = OpenedLedger(place)

    def close(self) -> None:
        """Close the ledger, unless it was given as a handle."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _close(book: Ledger, pid: int) -> None:
    if os.getpid() == pid:  # a forked child, too, ends what it has inherited
        book.close()
