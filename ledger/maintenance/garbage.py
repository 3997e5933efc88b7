"""Garbage collection: blobs that no record refers to are removed, when somebody asks for it.

What refers to blobs is every record of an artifact in the log, of deleted trials too, so that what was deleted can be
restored; only a redacted record refers to nothing any more. Blobs that came without a record are of saves that were killed,
or could not be recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ledger.artifacts.blobs import SAVING, BlobStore
from ledger.artifacts.reading import Stored
from ledger.artifacts.references import references_of
from ledger.backends.base import Backend
from ledger.errors import Corrupted, InvalidValue, ReadOnlyLedger
from ledger.maintenance.artifacts import artifact_records
from ledger.partial import abandoned, clear_abandoned

GRACE_SECONDS = 3600.0
_PER_GUARD = 256  # blobs looked at while nobody can record an artifact
_WAIT_SECONDS = 30.0


class GarbageReport(NamedTuple):
    """What a collection removed, or would: the blobs in ``removed``, and ``leftovers`` of saves.

    ``kept`` blobs of ``kept_bytes`` are referred to; ``young`` ones are not, and are left for the time being.
    """

    removed: tuple[Stored, ...]
    leftovers: int
    kept: int
    kept_bytes: int
    young: int
    is_dry_run: bool
    seconds: float


def collect_garbage(
    backend: Backend, *, grace_seconds: float = GRACE_SECONDS, dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> GarbageReport:  # fmt: skip
    """Remove the blobs that no record of the log refers to, and what killed saves left; others may go on writing.

    Kept is what any record refers to, those of deleted trials and experiments included, and what is younger than
    ``grace_seconds``. With ``dry_run`` nothing is removed. ``progress`` is called with the blobs looked at and their number.

    Raises Corrupted, before anything is removed, when the manifest of a directory cannot be read: what that refers to is not
    known then. Raises LedgerBusy when artifacts are recorded all the time.

    >>> import ledger
    >>> book = ledger.open("memory:")
    >>> trial = book.experiment("demo").new_trial({})
    >>> _ = trial.log_artifact(b"the key is 123", name="secret")
    >>> _ = book.redact(3, reason="leaked key")
    >>> [stored.size for stored in collect_garbage(book.log.backend, grace_seconds=0).removed]
    [14]
    """
    begun = time.monotonic()
    if not grace_seconds >= 0:
        raise InvalidValue(f"grace_seconds is {grace_seconds!r}; give a number of seconds from 0.")
    blobs = backend.blobs
    if blobs.readonly and not dry_run:
        raise ReadOnlyLedger(f"{backend.name} was opened with readonly=True; nothing can be removed there.")
    marks = _Marks(backend)
    marks.catch_up()
    found = list(blobs.blobs())
    oldest = time.time() - grace_seconds
    removed: list[Stored] = []
    young = 0
    for start in range(0, len(found), _PER_GUARD):
        some = [stored for stored in found[start : start + _PER_GUARD] if not marks.has(stored)]
        old = [stored for stored in some if _age_mark(stored) <= oldest]
        young += len(some) - len(old)
        if old:
            removed += old if dry_run else _remove(blobs, marks, old)
        if progress is not None:
            progress(min(start + _PER_GUARD, len(found)), len(found))
    leftovers = len(abandoned(blobs.directory, SAVING)) if dry_run else clear_abandoned(blobs.directory, SAVING)
    kept = [stored for stored in found if marks.has(stored)]
    return GarbageReport(
        tuple(removed), leftovers, len(kept), sum(stored.size for stored in kept), young, dry_run, time.monotonic() - begun
    )


def _remove(blobs: BlobStore, marks: _Marks, old: list[Stored]) -> list[Stored]:
    with blobs.guard(alone_within=_WAIT_SECONDS):
        marks.catch_up()  # whoever records an artifact now waits for the guard: nothing comes after this
        free = [stored for stored in old if not marks.has(stored)]
        for stored in free:
            blobs.remove(stored)
    return free


def _age_mark(stored: Stored) -> float:
    try:
        return stored.path.stat().st_mtime
    except FileNotFoundError:  # another collection was faster
        return float("inf")


class _Marks:
    """The digests that the log refers to, as far as it has been read."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._position = 0
        self._digests: set[bytes] = set()

    def has(self, stored: Stored) -> bool:
        return bytes.fromhex(stored.digest) in self._digests

    def catch_up(self) -> None:
        """Read what was recorded since."""
        for reached, records in artifact_records(self._backend, self._position):
            for record in records:
                try:
                    self._digests.update(bytes.fromhex(each.digest) for each in references_of(record, self._backend.blobs))
                except Corrupted as error:
                    raise Corrupted(
                        f"nothing was removed: what a directory refers to cannot be told. {error.problem}", record.position
                    ) from error
            self._position = reached
