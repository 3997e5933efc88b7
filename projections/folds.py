"""Fold: one projection of a ledger, as it stands at the positions asked for, with its checkpoints."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

import lmdb

from ledger.backends.directory import is_read_only
from ledger.backends.lmdb import LmdbBackend
from ledger.caller import warn_caller
from ledger.errors import CheckpointDiscarded, InvalidValue
from ledger.log import EventLog
from projections.builder import Progress, build
from projections.checkpoints import LAYOUT, CheckpointStore, Gone, Key
from projections.pieces import Damaged
from projections.projection import Projection

P = TypeVar("P", bound=Projection)

_MOST_CHECKPOINTS = 16
_STEPS = 8  # so many checkpoints are made, at most, while a log is folded for the first time
_LEAST_SECONDS = 0.25  # of folding; what took less is saved when nobody waits for a table any more
_LEAST_RECORDS = 5_000  # fewer are folded again sooner than they are saved
_LOOKS = 3  # for a checkpoint, when others remove those that were found
_SAVING_SHARE = 0.05  # of the time of folding that saving may take while it goes on


class _Another(Damaged):
    """A checkpoint that can be read, and is of something else."""


class Fold(Generic[P]):
    """A projection that is kept as far as it was asked for; what is asked for next goes on from the nearest place before.

    One thread at a time.
    """

    def __init__(self, kind: type[P], log: EventLog, store: CheckpointStore | None, progress: Progress | None = None) -> None:
        self._kind, self._log, self._store, self._progress = kind, log, store, progress
        self._kept: list[P] = []  # the one at the head, and the one asked for last before it
        self._saved = 0  # position of the newest checkpoint
        self._save_seconds = self._unsaved_seconds = 0.0

    def at(self, position: int) -> P:
        """Return the projection as of a position, which is not beyond the head. It stays the fold's own."""
        redactions = self._log.backend.redactions().total
        self._kept = [each for each in self._kept if each.redactions == redactions]
        before = [each for each in self._kept if each.position <= position]
        newest = max((each.position for each in self._kept), default=0)
        best = max(before, key=lambda each: each.position, default=None)
        if self._store is not None and (best is None or position - best.position > _LEAST_RECORDS):
            best = self._loaded(position, best, redactions) or best
        projection = best or self._kind()
        self._kept = [each for each in self._kept if each is not projection]  # what is half folded must not be shown
        is_newest = position >= newest
        self._go(projection, position, save=is_newest)
        # One instance follows the head; another serves those who look back, often at one place several times.
        followers = [each for each in self._kept if each.position >= newest] if not is_newest else []
        self._kept = [*followers[:1], projection]
        return projection

    def _go(self, projection: P, position: int, *, save: bool) -> None:
        """Fold up to the position, in steps, between which what is folded is saved: a build that is killed goes on there."""
        step = max(_LEAST_RECORDS, (position - projection.position) // _STEPS + 1)
        while True:
            began = time.monotonic()
            end = projection.position + step
            end = position if position - end < _LEAST_RECORDS else end  # what is left is no step of its own
            build(projection, self._log, as_of=end, progress=self._told(position))
            self._unsaved_seconds += time.monotonic() - began
            is_due = self._unsaved_seconds >= max(_LEAST_SECONDS, self._save_seconds / _SAVING_SHARE)
            if save and is_due and self._can_save(projection):
                self._save(projection)
            if projection.position >= position:
                return

    def _can_save(self, projection: P) -> bool:
        return self._store is not None and not self._store.readonly and projection.position > self._saved

    def _told(self, target: int) -> Progress | None:
        progress = self._progress
        return None if progress is None else lambda done, _: progress(done, target)

    # --------------------------------------------------------------------------------------------- checkpoints

    def save(self) -> None:
        """Save what is not saved yet, if that is worth it."""
        newest = max(self._kept, key=lambda each: each.position, default=None)
        if newest is None or not self._can_save(newest):
            return
        least = min(_LEAST_SECONDS, self._save_seconds or _LEAST_SECONDS)  # to fold it again takes no longer than to save it
        if newest.position - self._saved >= _LEAST_RECORDS or self._unsaved_seconds >= least:
            self._save(newest)

    def _save(self, projection: P) -> None:
        assert self._store is not None
        began = time.monotonic()
        key = self._key(projection.position, projection.redactions)
        content = (projection.name, projection.position, key, *projection.save(), _MOST_CHECKPOINTS)
        try:
            try:
                self._store.save(*content)
            except Damaged as error:  # in what is kept of this or of another projection: no save would ever get by it
                self._tell(f"checkpoints in {self._store.directory} are damaged: {_said(error)}. They are made anew.")
                self._discard(None)
                self._store.save(*content)
        except (OSError, lmdb.Error, Damaged) as error:
            self._tell(
                f"a checkpoint of {projection.name!r} could not be saved in {self._store.directory}: {_said(error)}. "
                "The table is right without it; with cache_dir= it is kept elsewhere."
            )
        self._saved, self._unsaved_seconds = projection.position, 0.0
        self._save_seconds = time.monotonic() - began

    def _loaded(self, position: int, best: P | None, redactions: int, looks: int = _LOOKS) -> P | None:
        """Return the projection of the newest checkpoint up to the position; None when there is none beyond ``best``."""
        assert self._store is not None
        name, directory = self._kind.name, self._store.directory
        projection = self._kind()
        try:
            place = self._usable(position, redactions)
            if place <= (0 if best is None else best.position):
                return None
            projection.load(*self._store.load(name, place))
        except Gone:
            return self._loaded(position, best, redactions, looks - 1) if looks else None
        except (Damaged, lmdb.Error, OSError, ValueError, TypeError, KeyError) as error:
            # Whatever a damaged file, or the code of another version, has left there.
            self._tell(f"the checkpoint of {name!r} in {directory} cannot be used: {_said(error)}. The log is folded instead.")
            # Of a damaged file all goes: what misleads who reads it would mislead who mends it, too.
            self._discard(name if isinstance(error, _Another) else None)
            return None
        projection.position, projection.redactions = place, redactions
        return projection

    def _usable(self, position: int, redactions: int) -> int:
        """Return the position of the newest checkpoint up to the given one, 0 without one; raises Damaged."""
        assert self._store is not None
        found = self._store.positions(self._kind.name)
        self._saved = max(found, default=0)
        if self._saved > self._log.head:
            raise _Another(f"it stands at position {self._saved}, and the log ends at {self._log.head}")
        place = max((each for each in found if each <= position), default=0)
        key = self._store.key(self._kind.name, place) if place else None
        expected = self._key(place, redactions) if place else None
        if key is None or expected is None or key == expected:
            return place
        if key.ledger_id != expected.ledger_id:
            raise _Another("it is of another ledger")
        if (key.layout, key.schema_version) != (expected.layout, expected.schema_version):
            raise _Another("it was saved by another version")
        if key.kind != expected.kind:
            raise _Another(
                "it was saved by another class of that name, or before the class had other columns (a name is for one class; "
                "raise its schema_version when it makes another table)"
            )
        if key.redactions == redactions:
            raise _Another(f"it is of another copy of the ledger, with another record at position {place}")
        self._discard(None)  # it may hold what was redacted since; that is as it should be, and nobody need be told
        return 0

    def _key(self, position: int, redactions: int) -> Key:
        (record,) = self._log.backend.read_positions([position])
        ledger_id = self._log.backend.ledger_id.hex
        kind = f"{self._kind.__qualname__} {dict(self._kind.columns)}"
        return Key(LAYOUT, ledger_id, self._kind.schema_version, kind, redactions, record.append_id, record.ordinal)

    def _discard(self, name: str | None) -> None:
        assert self._store is not None
        self._saved = 0
        if self._store.readonly:
            return
        try:
            self._store.discard(name)
        except (OSError, lmdb.Error, Damaged):
            with suppress(OSError):  # where nothing can be removed, what is there is not used, either
                self._store.discard()

    def _tell(self, text: str) -> None:
        warn_caller(CheckpointDiscarded(text), "projections")


def _said(error: Exception) -> str:
    return str(error).rstrip(".")


def open_store(log: EventLog, cache_dir: str | os.PathLike[str] | None) -> CheckpointStore | None:
    """Return where checkpoints of a ledger are kept: beside its log, or in a directory of its own in ``cache_dir``.

    None for a ledger in memory, and for one in whose directory nothing can be written or read. Raises InvalidValue for a
    ``cache_dir`` that cannot be written to.
    """
    if cache_dir is not None:
        directory = Path(cache_dir) / log.backend.ledger_id.hex
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidValue(f"cache_dir is {str(cache_dir)!r}, where nothing can be kept: {error}. Give another.") from error
        if not os.access(directory, os.W_OK):
            raise InvalidValue(f"cache_dir is {str(cache_dir)!r}, where this user may not write. Give another.")
        return CheckpointStore(directory)
    if not isinstance(log.backend, LmdbBackend):
        return None
    directory = log.backend.path / "projections"
    if os.access(directory if directory.exists() else directory.parent, os.W_OK):
        return CheckpointStore(directory)
    # Without the right to lock, what is there can be read only where nobody else can save.
    return CheckpointStore(directory, readonly=True) if directory.exists() and is_read_only(log.backend.path) else None
