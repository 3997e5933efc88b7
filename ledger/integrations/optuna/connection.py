"""Connection: the ledger behind a storage, open in each process that has the storage, by pickle or by fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ledger
from ledger.backends.base import Appended, Command, Submission
from ledger.backends.lmdb import LmdbBackend
from ledger.errors import InvalidValue, LedgerClosed
from ledger.integrations.optuna.artifact_index import ArtifactIndex
from ledger.integrations.optuna.follower import Follower
from ledger.integrations.optuna.studies import Studies
from ledger.log import EventLog, answers_of
from ledger.records import Record

T = TypeVar("T")

_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """Read and write one ledger; every read sees all that was acknowledged before it, by whomever.

    **Threads and processes.** Any thread may use it; writes of several share a commit. A copy made by pickle, and the one
    that a forked child has, opens the path anew when it is used first. A ledger in memory cannot go to another process.
    """

    def __init__(
        self, place: str | os.PathLike[str] | ledger.Ledger, actor: str | None, cache_dir: str | os.PathLike[str] | None,
        options: dict[str, Any],
    ) -> None:  # fmt: skip
        self._is_owner = not isinstance(place, ledger.Ledger)
        if isinstance(place, ledger.Ledger):
            backend = place.log.backend
            self._path = str(backend.path) if isinstance(backend, LmdbBackend) else None
            actor = place.log.actor if actor is None else actor
        else:
            self._path = os.path.abspath(os.fspath(place))  # another process may stand elsewhere
        self._actor = actor
        self._cache_dir = None if cache_dir is None else os.path.abspath(os.fspath(cache_dir))
        self._options = options
        self._closed = False
        self._begin(None if self._is_owner else place)

    def _begin(self, book: Any) -> None:
        self._lock = threading.RLock()
        self._book: ledger.Ledger | None = book
        self._follower: Follower | None = None
        self._artifacts = ArtifactIndex()
        self._closing: Any = None
        _connections.add(self)

    def __getstate__(self) -> dict[str, Any]:
        if self._path is None:
            raise InvalidValue("the storage of a ledger in memory cannot be pickled; open a ledger in a directory.")
        kept = ("_path", "_actor", "_cache_dir", "_options", "_closed")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._is_owner = True
        self._begin(None)

    def forget(self) -> None:
        """Let go of what was inherited by fork: it belongs to the parent."""
        book = None if self._path is not None else self._book
        self._is_owner = self._is_owner or self._path is not None
        if self._closing is not None:
            self._closing.detach()
        self._begin(book)

    # --------------------------------------------------------------------------------------------------- open

    @property
    def book(self) -> ledger.Ledger:
        """The open ledger."""
        self._open()
        assert self._book is not None
        return self._book

    @property
    def log(self) -> EventLog:
        """Its log."""
        return self.book.log

    @property
    def actor(self) -> str:
        """Who records through this connection, and as whom trials are claimed."""
        return self.log.actor if self._actor is None else self._actor

    def _open(self) -> Follower:
        found = self._follower
        if found is not None:
            return found
        with self._lock:
            if self._follower is None:
                if self._closed:
                    raise LedgerClosed(f"the storage of {self._path or 'a ledger in memory'} is closed; make it again.")
                if self._book is None:
                    self._book = ledger.open(self._path or "", actor=self._actor, **self._options)
                    self._closing = weakref.finalize(self, self._book.close)
                self._follower = Follower(self._book.log, self._cache_dir)
            return self._follower

    # ----------------------------------------------------------------------------------------------- read, write

    def read(self, look: Callable[[Studies], T]) -> T:
        """Return what is made of the studies as they stand now."""
        follower = self._open()
        with self._lock:
            return look(follower.catch_up())

    def known(self, look: Callable[[Studies], T | None]) -> T | None:
        """Return what is made of the studies as far as they were read; and if that is None, as they stand now."""
        follower = self._open()
        with self._lock:
            found = look(follower.studies)
            return look(follower.catch_up()) if found is None else found

    def find_artifact(self, name: str) -> Record | None:
        """Return the record that counts for an artifact of Optuna's."""
        return self._artifacts.find(self.log, name)

    def execute(self, command: Command, reason: str | None = None) -> Appended:
        """Run a command, and take in what it has recorded."""
        follower = self._open()
        appended = self.log.execute(command, actor=self._actor, reason=reason)
        with self._lock:
            follower.take([(appended, None)])
        return appended

    def commit(self, submissions: Sequence[tuple[Submission, int | None]]) -> list[Appended]:
        """Commit submissions, each with the time at which it is said to have happened, and take in what they recorded."""
        follower = self._open()
        answers = answers_of(self.log.commit([submission for submission, _ in submissions]))
        times = [at for _, at in submissions]
        with self._lock:
            follower.take(zip(answers, times, strict=True))
        return answers

    def save(self) -> None:
        """Save a checkpoint if that is worth it."""
        follower = self._open()
        with self._lock:
            follower.save()

    def close(self) -> None:
        """Save a checkpoint if that is worth it, and close the ledger if it was opened here; again does nothing."""
        with self._lock:
            follower, self._follower = self._follower, None
            if self._closed:
                return
            self._closed = True
            try:
                if follower is not None:
                    follower.save()
            finally:
                if self._is_owner and self._book is not None:
                    self._book.close()


def _forget_in_child() -> None:
    for connection in list(_connections):
        connection.forget()


os.register_at_fork(after_in_child=_forget_in_child)
