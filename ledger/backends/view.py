"""The state of a log in LMDB, as one transaction sees it.

Every value is tested by its check as it is read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any
from uuid import UUID

import msgspec

from ledger.backends.blocks import UnpackedBlocks, find_block
from ledger.backends.jobindex import (
    LEASED,
    WAITING,
    order_key,
    order_of,
    queue_prefix,
    ready_prefixes,
    time_of,
    timed_prefix,
    trial_of,
)
from ledger.backends.postings import ListEntry, entry_decoder, unpack_chunk
from ledger.codec import decode_experiment_state, decode_trial_state
from ledger.errors import Corrupted
from ledger.format import BLOCKS, HEAD_KEY, META, Checks, Head, block_position, experiment_key, name_key, posting_key, stream_key
from ledger.records import Record
from ledger.state import ExperimentState, TrialState, evolve_trial
from ledger.streams import Subject, trial_stream

_head_decoder = msgspec.msgpack.Decoder(Head)


class FoldedStates:
    """States of ended trials, which are not kept in the log, as they were folded last: so that many events on one, long
    after its end, do not read it from the beginning each time. What is committed changes by a redaction only; so each is
    kept with the number of redactions that it was folded under.
    """

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._states: dict[bytes, tuple[int, int, TrialState]] = {}
        self._lock = threading.Lock()

    def get(self, key: bytes, up_to: int, redactions: int) -> tuple[int, TrialState | None]:
        """Return the state and the position of the last record in it, or (0, None)."""
        with self._lock:
            position, known, state = self._states.get(key, (0, redactions, None))
        return (position, state) if position <= up_to and known == redactions else (0, None)

    def put(self, key: bytes, position: int, redactions: int, state: TrialState) -> None:
        """Keep a state; the one kept longest makes room."""
        with self._lock:
            self._states.pop(key, None)
            self._states[key] = position, redactions, state
            if len(self._states) > self._size:
                del self._states[next(iter(self._states))]


class LmdbView:
    """The state of the log in one LMDB transaction."""

    def __init__(
        self, checks: Checks, txn: Any, clock_now: int, folded: FoldedStates | None = None, unpacked: UnpackedBlocks | None = None
    ) -> None:
        self._checks, self._txn = checks, txn
        self._folded, self._unpacked = folded, unpacked
        self.head = self._read_head()
        self.now = max(clock_now, self.head.recorded_at)

    def _read_head(self) -> Head:
        value = self._txn.get(HEAD_KEY)
        if value is not None:
            return _head_decoder.decode(self._checks.open_meta(HEAD_KEY, value))
        self._check_absent(HEAD_KEY)
        cursor = self._txn.cursor()
        if cursor.set_range(BLOCKS) and cursor.key()[:1] == BLOCKS:  # taken for empty, the log would be written over
            raise Corrupted("the ledger's 'head' value is missing, but it has records.")
        return Head()

    def value(self, key: bytes) -> bytes | None:
        """Return what an entry holds, or None."""
        value = self._txn.get(key)
        if value is None:
            self._check_absent(key)
            return None
        return self._checks.open(key, value)

    def _check_absent(self, key: bytes) -> None:
        """Raise Corrupted when the place where the key would stand is damaged: a flipped bit must not hide an entry.

        The entries on both sides must be right, and in order; a search led astray by a damaged page above them ends
        between two that are not.
        """
        cursor = self._txn.cursor()
        if cursor.set_range(key):
            self._check_after(cursor, key)
        self._check_before(cursor, key)

    def _check_after(self, cursor: Any, key: bytes) -> None:
        """Check that the entry at the cursor, which follows the key, is one that may; and that another follows it."""
        following = cursor.key()
        self._check_neighbour(cursor, key, is_ordered=following > key)
        if cursor.next() and cursor.key() <= following:
            raise Corrupted(f"the index is out of order at key {following!r}.")

    def _check_before(self, cursor: Any, key: bytes) -> None:
        """Check in the same way what stands before the place of the key."""
        if not (cursor.prev() if cursor.set_range(key) else cursor.last()):
            return
        preceding = cursor.key()
        self._check_neighbour(cursor, key, is_ordered=preceding < key)
        if cursor.prev() and cursor.key() >= preceding:
            raise Corrupted(f"the index is out of order at key {preceding!r}.")

    def _check_neighbour(self, cursor: Any, key: bytes, *, is_ordered: bool) -> None:
        if not is_ordered:
            raise Corrupted(f"the index is out of order at key {key!r}.")
        other = cursor.key()
        if other[:1] == BLOCKS:
            # Its bytes are tested when it is read; to hash a block for each new append id would cost more than the append.
            # That an entry of another kind looks like a block takes two flipped bits and a key of another length.
            block_position(other)
        elif other[:1] == META:
            self._checks.open_meta(other, cursor.value())
        else:
            self._checks.open(other, cursor.value())

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys with the prefix and their tested contents."""
        return self._scan_from(prefix, prefix)

    def _scan_from(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys with the prefix from one on; Corrupted where a flipped bit could hide some of them.

        The entries before the first one and after the last one must be right, too: an entry with a damaged key would end
        the iteration early, or lead the search for its beginning astray.
        """
        cursor = self._txn.cursor()
        self._check_before(cursor, start)
        found = cursor.set_range(start)
        previous = b""
        while found and (key := cursor.key()).startswith(prefix):
            if key <= previous:
                raise Corrupted(f"the index is out of order at key {key!r}.")
            yield key, self._checks.open(key, cursor.value())
            previous = key
            found = cursor.next()
        if found:
            self._check_after(cursor, max(previous, start))

    def entry(self, key: bytes) -> ListEntry | None:
        """Return a posting list's entry."""
        content = self.value(key)
        return None if content is None else entry_decoder.decode(content)

    def positions(self, key: bytes) -> list[int]:
        """Return all positions of a posting list; Corrupted when one is missing."""
        entry = self.entry(key)
        if entry is None:
            return []
        found: list[int] = []
        if entry.tail_count < entry.count:
            for chunk_key, content in self.scan(posting_key(entry.id)):
                try:
                    found += unpack_chunk(content)
                except ValueError as error:
                    raise Corrupted(f"the index 'postings' is damaged at key {chunk_key!r}: {error}.") from error
        found += entry.positions()
        if len(found) != entry.count:
            raise Corrupted(f"the index of {key!r} holds {len(found)} positions, not {entry.count}.")
        return found

    def records_at(self, positions: list[int]) -> list[Record]:
        """Return the records at ascending positions; those beyond the head are left out."""
        records: list[Record] = []
        i = 0
        while i < len(positions):
            block = find_block(self._txn, self._checks, positions[i])
            if block is None:
                if positions[i] <= self.head.position:
                    raise Corrupted(f"the record at position {positions[i]} is missing.", positions[i])
                break
            start = i
            while i < len(positions) and positions[i] <= block.last:
                i += 1
            records += block.records_at(positions[start:i], self._unpacked)
        return records

    # -- what commands ask

    def version(self, stream: str) -> int:
        entry = self.entry(stream_key(stream))
        return 0 if entry is None else entry.count

    def experiment(self, experiment_id: UUID) -> ExperimentState | None:
        entry = self.entry(experiment_key(experiment_id))
        return None if entry is None or entry.state is None else decode_experiment_state(entry.state)

    def experiments(self) -> Iterator[ExperimentState]:
        # By first position: ids of the same millisecond are not in order.
        entries = sorted((entry_decoder.decode(content) for _, content in self.scan(b"le")), key=lambda entry: entry.id)
        for entry in entries:
            if entry.state is not None:
                yield decode_experiment_state(entry.state)

    def experiment_named(self, name: str) -> UUID | None:
        content = self.value(name_key(name))
        if content is None:
            return None
        stored, identifier = msgspec.msgpack.decode(content, type=tuple[str, bytes])
        return UUID(bytes=identifier) if stored == name else None

    def trial(self, experiment_id: UUID, trial_id: int) -> TrialState | None:
        stream = trial_stream(experiment_id, trial_id)
        key = stream_key(stream)
        entry = self.entry(key)
        if entry is None:
            return None
        if entry.state is not None:
            return decode_trial_state(entry.state)
        return self.fold_trial(Subject(experiment_id, trial_id), self.head.position)

    def fold_trial(self, subject: Subject, up_to: int) -> TrialState | None:
        """Fold a trial from its records up to a position; it goes on from where it was folded before, if it was."""
        key = stream_key(trial_stream(subject.experiment_id, subject.trial_id or 0))
        position, state = (0, None) if self._folded is None else self._folded.get(key, up_to, self.head.redactions)
        for record in self.records_at([p for p in self.positions(key) if position < p <= up_to]):
            state = evolve_trial(state, subject, record.event, record.happened_at)
            position = record.position
        if self._folded is not None and state is not None:
            self._folded.put(key, position, self.head.redactions, state)
        return state

    def record(self, stream: str, version: int) -> Record | None:
        positions = self.positions(stream_key(stream))
        return self.records_at([positions[version - 1]])[0] if 1 <= version <= len(positions) else None

    def ready(
        self, experiment_id: UUID, worker: str = "", *, after: TrialState | None = None, limit: int = 1
    ) -> list[TrialState]:
        start = b"" if after is None else order_key(after)
        due = [self.job(experiment_id, trial_of(key)) for key in self.due(experiment_id)]
        waited = [order for state in due if state.assigned_to in ("", worker) and (order := order_key(state)) > start]
        # As many of each as are wanted of all: one, mostly, and then this is cheaper than to merge.
        queues = [islice(self._orders(prefix, start), limit) for prefix in ready_prefixes(experiment_id, worker)]
        return [self.job(experiment_id, trial_of(order)) for order in sorted(chain(waited, *queues))[:limit]]

    def _orders(self, prefix: bytes, start: bytes) -> Iterator[bytes]:
        """Iterate over what stands in a queue of the ready, after one place."""
        for key, _ in self._scan_from(prefix, prefix + start):
            if order_of(key) != start:
                yield order_of(key)

    def due(self, experiment_id: UUID) -> Iterator[bytes]:
        """Iterate over the keys of trials that waited for a time which has come."""
        for key, _ in self.scan(queue_prefix(experiment_id, WAITING)):
            if time_of(key) > self.now:
                return
            yield key

    def next_due(self, experiment_id: UUID) -> int | None:
        moments = []
        for queue, begin in ((WAITING, self.now + 1), (LEASED, self.now)):
            first = next(self._scan_from(queue_prefix(experiment_id, queue), timed_prefix(experiment_id, queue, begin)), None)
            if first is not None:
                moments.append(time_of(first[0]) + (queue == LEASED))  # a lease has run out after its deadline
        return min(moments, default=None)

    def expired(self, experiment_id: UUID, limit: int) -> list[TrialState]:
        late: list[TrialState] = []
        for key, _ in self.scan(queue_prefix(experiment_id, LEASED)):
            if time_of(key) >= self.now or len(late) == limit:
                break
            late.append(self.job(experiment_id, trial_of(key)))
        return late

    def first_leased(self, experiment_id: UUID) -> TrialState | None:
        first = next(self.scan(queue_prefix(experiment_id, LEASED)), None)
        return None if first is None else self.job(experiment_id, trial_of(first[0]))

    def job(self, experiment_id: UUID, trial_id: int) -> TrialState:
        """Return a trial that the index of jobs names."""
        state = self.trial(experiment_id, trial_id)
        if state is None:
            raise Corrupted(f"the index 'jobs' names trial {trial_id} of experiment {experiment_id}, which does not exist.")
        return state
