"""A write transaction on LMDB: a view for commands, and everything that one group of submissions writes.

Reads go through the checks of every value. Writes are collected while submissions are accepted, one after the other,
each seeing what those before it left, and put at the end: one block, one entry a list, one head.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec

from ledger.backends.base import Appended, Submission
from ledger.backends.blocks import Stored, find_block, write_blocks
from ledger.backends.jobindex import LEASED, READY, WAITING, job_key, possible_keys, queue_prefix, ready_key, time_of, trial_of
from ledger.backends.postings import ListEntry, entry_decoder, unpack_chunk
from ledger.backends.staging import Staging, answer_retry, config_of
from ledger.codec import decode_experiment_state, decode_trial_state, encode_record, encode_state, record_salts
from ledger.errors import AppendIdReused, Corrupted
from ledger.format import (
    HEAD_KEY,
    Checks,
    Head,
    append_key,
    config_key,
    experiment_key,
    name_key,
    posting_key,
    stream_key,
    tile_key,
)
from ledger.records import Record
from ledger.state import ExperimentState, TrialState, claim_order, evolve_trial
from ledger.streams import Subject, trial_stream
from ledger.tree import Edge

_encoder = msgspec.msgpack.Encoder()
_head_decoder = msgspec.msgpack.Decoder(Head)


class LmdbView:
    """The state of the log in one LMDB transaction."""

    def __init__(self, checks: Checks, txn: Any, clock_now: int) -> None:
        self._checks, self._txn = checks, txn
        self.head = self._read_head()
        self.now = max(clock_now, self.head.recorded_at)

    def _read_head(self) -> Head:
        value = self._txn.get(HEAD_KEY)
        return Head() if value is None else _head_decoder.decode(self._checks.open_meta(HEAD_KEY, value))

    def _get(self, key: bytes) -> bytes | None:
        value = self._txn.get(key)
        return None if value is None else self._checks.open(key, value)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys with the prefix and their tested contents."""
        cursor = self._txn.cursor()
        found = cursor.set_range(prefix)
        while found and (key := cursor.key()).startswith(prefix):
            yield key, self._checks.open(key, cursor.value())
            found = cursor.next()

    def entry(self, key: bytes) -> ListEntry | None:
        """Return a posting list's entry."""
        content = self._get(key)
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
            records += block.records_at(positions[start:i])
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
        content = self._get(name_key(name))
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
        return self._fold(Subject(experiment_id, trial_id), key)

    def _fold(self, subject: Subject, key: bytes) -> TrialState | None:
        state = None
        for record in self.records_at(self.positions(key)):
            state = evolve_trial(state, subject, record.event, record.happened_at)
        return state

    def first_ready(self, experiment_id: UUID) -> TrialState | None:
        first = next(self.scan(queue_prefix(experiment_id, READY)), None)
        keys = [key for key, _ in self._due(experiment_id)] + ([first[0]] if first else [])
        return min((self._job(experiment_id, key) for key in keys), key=claim_order, default=None)

    def _due(self, experiment_id: UUID) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the trials that waited for a time which has come."""
        for key, content in self.scan(queue_prefix(experiment_id, WAITING)):
            if time_of(key) > self.now:
                return
            yield key, content

    def expired(self, experiment_id: UUID, limit: int) -> list[TrialState]:
        late: list[TrialState] = []
        for key, _ in self.scan(queue_prefix(experiment_id, LEASED)):
            if time_of(key) >= self.now or len(late) == limit:
                break
            late.append(self._job(experiment_id, key))
        return late

    def _job(self, experiment_id: UUID, key: bytes) -> TrialState:
        state = self.trial(experiment_id, trial_of(key))
        if state is None:
            raise Corrupted(f"the index 'jobs' names trial {trial_of(key)} of experiment {experiment_id}, which does not exist.")
        return state


class LmdbTransaction(LmdbView):
    """A view that also writes. For each submission ``find`` it or stage and ``accept`` it; then ``finish``."""

    def __init__(self, checks: Checks, txn: Any, clock_now: int) -> None:
        super().__init__(checks, txn, clock_now)
        self._position = self.head.position
        self._entries: dict[bytes, ListEntry] = {}
        self._new_positions: dict[bytes, list[int]] = {}
        self._keys: dict[str, bytes] = {}
        self._experiment_states: dict[UUID, ExperimentState] = {}
        self._trial_states: dict[tuple[UUID, int], TrialState] = {}
        self._appends: dict[bytes, bytes] = {}
        self._stored: list[Stored] = []
        self._leaves: list[bytes] = []

    # -- the view, with what was accepted in this transaction

    def version(self, stream: str) -> int:
        key = self._stream_key(stream)
        entry = self._entry(key)
        return (0 if entry is None else entry.count) + len(self._new_positions.get(key, ()))

    def experiment(self, experiment_id: UUID) -> ExperimentState | None:
        return self._experiment_states.get(experiment_id) or super().experiment(experiment_id)

    def trial(self, experiment_id: UUID, trial_id: int) -> TrialState | None:
        state = self._trial_states.get((experiment_id, trial_id))
        if state is None:
            state = super().trial(experiment_id, trial_id)
            if state is not None:
                self._trial_states[experiment_id, trial_id] = state
        return state

    def experiments(self) -> Iterator[ExperimentState]:
        seen = set()
        for state in super().experiments():
            seen.add(state.id)
            yield self._experiment_states.get(state.id, state)
        yield from (state for key, state in self._experiment_states.items() if key not in seen)

    def first_ready(self, experiment_id: UUID) -> TrialState | None:
        self._promote(experiment_id)
        return super().first_ready(experiment_id)

    def _promote(self, experiment_id: UUID) -> None:
        """Move trials whose time has come from the waiting to the ready: each once, so that claiming stays O(log n)."""
        for key, _ in list(self._due(experiment_id)):
            self._txn.delete(key)
            self._put(ready_key(self._job(experiment_id, key)), b"")

    # -- accepting

    def accept(self, submission: Submission, staging: Staging) -> Appended:
        """Take in what was staged on this view; from here on nothing may fail but the transaction as a whole."""
        if not staging.events:
            return Appended(UUID(bytes=submission.append_id), self._position, (), self.now)
        first = self._position + 1
        salts = record_salts(submission.salt, 0, len(staging.events))
        for ordinal, (stream, subject, payload) in enumerate(staging.events):
            key = self._stream_key(stream)
            version = self.version(stream) + 1
            self._position += 1
            raw, leaf = encode_record(
                payload, position=self._position, stream=stream, version=version, recorded_at=self.now,
                append_id=submission.append_id, ordinal=ordinal, actor=submission.actor,
                context=submission.context_of(ordinal), salt=salts[ordinal],
            )  # fmt: skip
            kind = (payload.type.name, payload.type.schema)
            self._stored.append(Stored(raw, submission.salt, ordinal, kind, self.now))
            self._leaves.append(leaf)
            self._index(key, subject, config_of(payload.event))
        self._remember(submission, first, len(staging.events))
        self._take_states(staging)
        events = tuple((stream, payload.event) for stream, _, payload in staging.events)
        return Appended(UUID(bytes=submission.append_id), first, events, self.now)

    def find(self, submission: Submission) -> Appended | None:
        """Answer a submission that is in the log, or None."""
        identifiers: tuple[bytes, ...] = (submission.append_id,)
        places = [self._append_place(submission.append_id)]
        if places == [None]:
            identifiers = submission.record_ids
            places = [self._append_place(identifier) for identifier in identifiers]
        found = [place for place in places if place is not None]
        if not found:
            return None
        known = identifiers[0]
        if len(found) != len(places):
            raise AppendIdReused(UUID(bytes=known), found[0][0], "only some of the ids are known")
        positions = [position for first, count in found for position in range(first, first + count)]
        if max(positions) > self.head.position:  # written by this very group: flush, so that it can be read
            self._write()
        records = {record.position: record for record in self.records_at(sorted(positions))}
        return answer_retry(submission, [records[position] for position in positions], known)

    def _append_place(self, identifier: bytes) -> tuple[int, int] | None:
        key = append_key(identifier)
        content = self._appends.get(key) or self._get(key)
        return None if content is None else (int.from_bytes(content[:8], "big"), int.from_bytes(content[8:], "big"))

    def _remember(self, submission: Submission, first: int, count: int) -> None:
        self._appends[append_key(submission.append_id)] = first.to_bytes(8, "big") + count.to_bytes(4, "big")
        for ordinal, record_id in enumerate(submission.record_ids):
            self._appends[append_key(record_id)] = (first + ordinal).to_bytes(8, "big") + (1).to_bytes(4, "big")

    def _index(self, key: bytes, subject: Subject | None, digest: bytes | None) -> None:
        keys = [key]
        if subject is not None:
            keys.append(experiment_key(subject.experiment_id))
        if digest is not None:
            keys.append(config_key(digest))
        for each in keys:
            self._new_positions.setdefault(each, []).append(self._position)

    def _take_states(self, staging: Staging) -> None:
        self._experiment_states.update(staging.experiments)
        for name, holder in staging.names.items():
            key = name_key(name)
            if holder is None:
                self._txn.delete(key)
            else:
                self._put(key, _encoder.encode((name, holder.bytes)))
        for identity, state in staging.trials.items():
            before = self._trial_states.get(identity)
            self._trial_states[identity] = state
            self._move_job(before, state)

    def _move_job(self, before: TrialState | None, after: TrialState) -> None:
        if before is after:
            return
        new = job_key(after, self.now)
        old = possible_keys(before) if before is not None else []
        for key in old:
            if key != new:
                self._txn.delete(key)
        if new is not None:
            self._put(new, b"")

    # -- writing

    def finish(self) -> int:
        """Write what was accepted; return the new head position."""
        self._write()
        return self.head.position

    def _write(self) -> None:
        if not self._stored:
            return
        self._write_lists()
        self._put_many(sorted(self._appends.items()))
        unsealed_from, unsealed_bytes = write_blocks(self._txn, self._checks, self.head, self._stored)
        edge = Edge(self.head.position, self.head.edge)
        tiles = [(tile_key(level, index), node) for level, index, node in edge.extend(self._leaves)]
        self._put_many(sorted(tiles))
        self.head = Head(self._position, self.now, unsealed_from, unsealed_bytes, edge.hashes)
        content = self._checks.seal_meta(HEAD_KEY, _encoder.encode(self.head))
        self._txn.put(HEAD_KEY, content)
        for collected in (self._stored, self._leaves, self._appends, self._new_positions, self._entries):
            collected.clear()

    def _write_lists(self) -> None:
        kept = {experiment_key(identity): encode_state(state) for identity, state in self._experiment_states.items()}
        for (experiment_id, trial_id), state in self._trial_states.items():
            key = self._stream_key(trial_stream(experiment_id, trial_id))
            kept[key] = b"" if state.status.is_finished else encode_state(state)
        items, chunks = [], []
        for key in sorted(self._new_positions):
            positions = self._new_positions[key]
            # A list's id is its first position and its kind, so that it is unique without a counter.
            before = positions[0] - 1
            entry = self._entry(key) or ListEntry(positions[0] << 2 | b"sec".index(key[1:2]), last=before, base=before)
            entry.add(positions)
            if key in kept:
                entry.state = kept[key] or None
            spilled = entry.spill()
            if spilled is not None:
                chunks.append((posting_key(entry.id, spilled[0]), spilled[1]))
            items.append((key, _encoder.encode(entry)))
        self._put_many(items)
        self._put_many(sorted(chunks))

    def _put_many(self, items: list[tuple[bytes, bytes]]) -> None:
        if items:
            self._txn.cursor().putmulti([(key, self._checks.seal(key, content)) for key, content in items])

    def _put(self, key: bytes, content: bytes) -> None:
        self._txn.put(key, self._checks.seal(key, content))

    def _stream_key(self, stream: str) -> bytes:
        key = self._keys.get(stream)
        if key is None:
            key = self._keys[stream] = stream_key(stream)
        return key

    def _entry(self, key: bytes) -> ListEntry | None:
        entry = self._entries.get(key)
        if entry is None:
            entry = super().entry(key)
            if entry is not None:
                self._entries[key] = entry
        return entry
