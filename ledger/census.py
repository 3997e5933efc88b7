"""Census: what a ledger holds and how much room it takes, by event type.

One pass over the blocks reads each record's first fields only (its type, stream and time), never its event: about 1.7
seconds for a million records. Without it, the blocks' headers say how many records there are and how many bytes they take.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import msgspec

from ledger import events as ev
from ledger.backends.base import Backend
from ledger.backends.blocks import Block, Peek, blocks_from
from ledger.backends.environment import Environment, Options
from ledger.backends.lmdb import LmdbBackend
from ledger.codec import decode_records
from ledger.errors import Corrupted, InvalidValue
from ledger.format import Checks, array_header, unpack_body
from ledger.state import TRANSITIONS
from ledger.status import HELD, Status

HOUR_NS = 3600 * 1_000_000_000
DAY_NS = 24 * HOUR_NS
Progress = Callable[[int, int], None]

_META_PAGES = 2
_PAGE_BLOCKS = 64  # read in one transaction: a long one would keep freed pages from being used again


class TypeCensus(msgspec.Struct):
    """What there is of one event type; times are ns since 1970 UTC.

    ``record_bytes`` is the size of its records as they are hashed, ``stored_bytes`` their share of the blocks that hold
    them: a block's bytes in the file are shared out by the sizes of its records.
    """

    type: str
    records: int = 0
    record_bytes: int = 0
    stored_bytes: float = 0.0
    first_at: int = 0
    last_at: int = 0
    last_day: int = 0  # records of the last 24 hours

    @property
    def ratio(self) -> float:
        """How many times smaller the records are in the file."""
        return self.record_bytes / self.stored_bytes if self.stored_bytes else 1.0

    @property
    def per_hour(self) -> float | None:
        """Records an hour between the first and the last one; None for less than a second."""
        return rate(self.records, self.last_at - self.first_at, HOUR_NS)


class Census(msgspec.Struct):
    """What a ledger held at one moment; sizes are in bytes.

    ``log_bytes`` are the blocks of records, ``index_bytes`` everything else in use in the file, which has ``free_bytes`` to
    be used again. ``types``, ``statuses`` (of trials that are not deleted) and ``deleted_trials`` are None after a quick one.
    """

    head: int = 0
    blocks: int = 0
    sealed_records: int = 0
    unsealed_records: int = 0
    log_bytes: int = 0
    index_bytes: int = 0
    free_bytes: int = 0
    file_bytes: int = 0
    experiments: int = 0
    deleted_experiments: int = 0
    paused_experiments: int = 0
    types: list[TypeCensus] | None = None
    statuses: Counter[str] | None = None
    deleted_trials: int | None = None


_peeks = msgspec.msgpack.Decoder(list[Peek])
_raws = msgspec.msgpack.Decoder(list[msgspec.Raw])


def rate(count: int, nanoseconds: int, unit: int) -> float | None:
    """Return how many come in one ``unit`` of time; None when they span less than a second, which says nothing.

    >>> rate(120, 2 * HOUR_NS, HOUR_NS), rate(5, 0, HOUR_NS)
    (60.0, None)
    """
    return count * unit / nanoseconds if nanoseconds >= 1_000_000_000 else None


def take_census(backend: Backend, *, quick: bool = False, now: int | None = None, progress: Progress | None = None) -> Census:
    """Count a ledger's records, trials and bytes as they are now.

    ``quick`` reads no record, the blocks' headers only. ``now`` (ns since 1970 UTC) is where the last 24 hours end.
    ``progress`` is called with the records done and their number.

    Raises InvalidValue for a ledger in memory, which has no file; Corrupted for damaged blocks. One pass over the log,
    or over the headers of its blocks when quick; memory grows with the number of trials.

    >>> import ledger, tempfile
    >>> with tempfile.TemporaryDirectory() as directory, ledger.open(directory) as book:
    ...     _ = book.experiment("demo").new_trial({"lr": 0.1})
    ...     census = take_census(book.log.backend)
    >>> census.head, sorted(kind.type for kind in census.types), dict(census.statuses)
    (2, ['ExperimentCreated', 'TrialCreated'], {'PENDING': 1})
    """
    if not isinstance(backend, LmdbBackend):
        raise InvalidValue(f"{backend.name} has no file to measure; only a ledger in a directory has.")
    census = Census(head=backend.head())
    with backend.view() as view:
        states = list(view.experiments())
    census.experiments = sum(state.deleted_at is None for state in states)
    census.deleted_experiments = len(states) - census.experiments
    census.paused_experiments = sum(state.paused_at is not None and state.deleted_at is None for state in states)
    deleted = {state.id.hex for state in states if state.deleted_at is not None}
    counter = None if quick else _Counter((time.time_ns() if now is None else now) - DAY_NS)
    # The backend's own environment, shared: a file is opened once in a process.
    environment = Environment.acquire(backend.path, Options(), create=False, readonly=True)
    try:
        _count_blocks(environment, Checks(backend.ledger_id.bytes), census, counter, progress)
        _measure_file(environment, census)
    finally:
        environment.release()
    if counter is not None:
        census.types = sorted(counter.types.values(), key=lambda kind: (-kind.record_bytes, kind.type))
        live = {stream: status for stream, status in counter.live_trials() if stream.split("/")[1] not in deleted}
        census.statuses = Counter(dict(sorted(Counter(map(str, live.values())).items())))
        census.deleted_trials = len(counter.statuses) - len(live)
    return census


def _count_blocks(
    environment: Environment, checks: Checks, census: Census, counter: _Counter | None, progress: Progress | None
) -> None:
    done = 0
    while done < census.head:
        with environment.read() as txn:
            blocks = [block for block, _ in zip(blocks_from(txn, checks, done + 1), range(_PAGE_BLOCKS), strict=False)]
        if not blocks:
            raise Corrupted(f"the record at position {done + 1} is missing (the log ends at {census.head}).", done + 1)
        for block in blocks:
            last = min(block.last, census.head)
            new = last - max(done, block.position - 1)  # a seal since the last page may have put it together with known ones
            if new <= 0:
                continue
            stored = round(len(block.value) * new / block.header.count)
            census.blocks += 1
            census.log_bytes += stored
            census.sealed_records += new if block.is_sealed else 0
            if counter is not None:
                counter.count(block, done, last)
            done = last
        if progress is not None:
            progress(done, census.head)
    census.unsealed_records = census.head - census.sealed_records


def _measure_file(environment: Environment, census: Census) -> None:
    with environment.read() as txn:
        stat = txn.stat()
    pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    census.file_bytes = (environment.path / "data.mdb").stat().st_size
    census.index_bytes = max(pages * stat["psize"] - census.log_bytes, 0)
    census.free_bytes = max(census.file_bytes - (pages + _META_PAGES) * stat["psize"], 0)


class _Counter:
    """Count records by type, and keep the status of each trial."""

    def __init__(self, day_ago: int) -> None:
        self.types: dict[str, TypeCensus] = {}
        self.statuses: dict[str, Status] = {}
        self._deleted: set[str] = set()
        self._day_ago = day_ago

    def count(self, block: Block, after: int, last: int) -> None:
        """Count the block's records after one position and up to another."""
        body = unpack_body(block.position, block.value, block.header)
        raws = _raws.decode(body.records)
        share = len(block.value) / sum(map(len, raws))
        for peek, raw in zip(_peeks.decode(body.records), raws, strict=True):
            if not after < peek.position <= last:
                continue
            kind = self.types.get(peek.type)
            if kind is None:
                kind = self.types[peek.type] = TypeCensus(peek.type, first_at=peek.recorded_at)
            size = len(raw)
            kind.records += 1
            kind.record_bytes += size
            kind.stored_bytes += size * share
            kind.last_at = peek.recorded_at
            kind.last_day += peek.recorded_at >= self._day_ago
            change = _STATUS_AFTER.get(peek.type)
            if change is not None and peek.stream[:6] == "trial/":
                self._follow(peek, change, raw, block)

    def _follow(self, peek: Peek, change: Status | str, raw: msgspec.Raw, block: Block) -> None:
        """Take over the trial's status after the record, as ``ledger.state`` has it."""
        if isinstance(change, Status):
            self.statuses[peek.stream] = change
        elif change == "deleted":
            self._deleted.add(peek.stream)
            if self.statuses[peek.stream] in HELD:
                self.statuses[peek.stream] = Status.CANCELED
        elif change == "restored":
            self._deleted.discard(peek.stream)
        else:  # the event itself names it
            (record,) = decode_records(array_header(1) + bytes(raw), block.header.types)
            named = getattr(record.event, "status", None)
            if named is not None:
                self.statuses[peek.stream] = Status(named)

    def live_trials(self) -> list[tuple[str, Status]]:
        """Return streams and statuses of the trials that are not deleted themselves."""
        return [item for item in self.statuses.items() if item[0] not in self._deleted]


#: Name of an event type -> the status it leads to, or how to find it.
_STATUS_AFTER: dict[str, Status | str] = {
    **{cls.__name__: status for cls, (_, status) in TRANSITIONS.items() if status is not None},
    ev.TrialCreated.__name__: Status.PENDING,
    ev.StatusForced.__name__: "named",
    ev.TrialAmended.__name__: "named",
    ev.TrialDeleted.__name__: "deleted",
    ev.TrialRestored.__name__: "restored",
}
