"""Compaction: the log written anew without free pages, and without a byte of what was redacted."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from ledger.backends.directory import describe_directory, require_writable
from ledger.backends.exclusive import hold_exclusively
from ledger.maintenance.artifacts import erase_artifacts
from ledger.maintenance.duplicate import Progress, check_place, duplicate_log, telling_of_trouble
from ledger.maintenance.swap import clear_leftovers, drop_caches, swap_log
from ledger.partial import partial_directory


class CompactionReport(NamedTuple):
    """What a compaction did: the log's bytes before and after, and the redactions whose last bytes it erased.

    ``erased_blobs`` held what redacted artifacts were. ``head`` and ``root`` are as they were before.
    """

    path: str
    ledger_id: UUID
    head: int
    root: bytes
    before_bytes: int
    after_bytes: int
    erased: int
    erased_blobs: int
    seconds: float


def compact(path: str | os.PathLike[str], progress: Progress | None = None) -> CompactionReport:
    """Write the log anew, without free pages, and erase for good what was redacted.

    Positions, ids, hashes and the root stay. A redacted payload leaves the log at once, but its bytes stay in the file
    until this has run; then no byte of it is in any file of the ledger's directory. Tables that were kept there are
    dropped when something was erased, since they may hold it; they are made again. What a redacted artifact held goes as
    well, unless another record refers to the same content. Backups that were made before, and tables that are kept
    elsewhere, still hold what they hold.

    It needs the ledger alone: nobody may have it open, in this process neither. The new file is verified in full before
    it takes the old one's place; a kill at any moment leaves the one or the other. ``progress`` is called with the
    records verified and their number.

    Raises an OpenError when there is no ledger, LedgerBusy, naming who has it open, Corrupted when it is damaged, DiskFull
    or OSError when there is no room for the copy; then the ledger is as it was. Costs about as much as a verification,
    and the space of a copy.

    >>> import ledger, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = pathlib.Path(directory, "runs.ledger")
    ...     with ledger.open(path) as book:
    ...         _ = book.experiment("demo")
    ...     report = compact(path)
    >>> report.head, report.erased, report.after_bytes <= report.before_bytes
    (1, 0, True)
    """
    begun = time.monotonic()
    place = Path(os.path.realpath(check_place(path, "the ledger")))
    describe_directory(place, create=False)
    require_writable(place)
    before = (place / "data.mdb").stat().st_size
    with telling_of_trouble(place, before), hold_exclusively(place, "compaction"):
        clear_leftovers(place)
        before = (place / "data.mdb").stat().st_size
        with partial_directory(place, "compacting-") as partial:
            made = partial / "ledger"
            made.mkdir()
            copied = duplicate_log(place, made, is_alone=True, progress=progress)
            erased_blobs = 0
            if copied.pending:  # before the swap: the log says from then on that all is erased
                drop_caches(place)
                erased_blobs = erase_artifacts(place, made)
            swap_log(made / "data.mdb", place)
        after = (place / "data.mdb").stat().st_size
    return CompactionReport(
        str(path), copied.ledger_id, copied.head, copied.root, before, after, copied.pending, erased_blobs,
        time.monotonic() - begun,
    )  # fmt: skip
