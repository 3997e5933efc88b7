"""A write transaction on LMDB: a view for commands, and everything that one group of submissions writes.

Writes are collected while submissions are accepted, one after the other, each seeing what those before it left, and put
at the end: one block, one entry a list, one head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, repeat
from typing import Any
from uuid import UUID

import msgspec

from ledger import events as ev
from ledger.backends.appendindex import AppendIndex
from ledger.backends.base import Appended, Entry, Submission
from ledger.backends.blocks import Stored, own_salt, write_blocks
from ledger.backends.delegation import Place
from ledger.backends.erasure import Erasure
from ledger.backends.jobwriter import JobWriter
from ledger.backends.postings import ListEntry
from ledger.backends.staging import Staging, answer_retry, config_of
from ledger.backends.view import FoldedStates, LmdbView
from ledger.codec import decode_envelopes, decode_records, encode_records, encode_state, encode_types, leaf_of
from ledger.errors import AppendIdReused, InvalidValue
from ledger.format import (
    HEAD_KEY,
    OWN_SALT,
    Checks,
    Head,
    array_header,
    config_key,
    experiment_key,
    name_key,
    posting_key,
    stream_key,
    tile_key,
)
from ledger.records import Record
from ledger.state import ExperimentState, TrialState
from ledger.streams import Subject
from ledger.tree import Edge

_encoder = msgspec.msgpack.Encoder()


class LmdbTransaction(LmdbView):
    """A view that also writes. ``submit`` each submission, then ``finish``."""

    def __init__(self, checks: Checks, txn: Any, clock_now: int, folded: FoldedStates | None = None) -> None:
        super().__init__(checks, txn, clock_now, folded)
        self._position = self.head.position
        self._entries: dict[bytes, ListEntry | None] = {}
        self._new_positions: dict[bytes, list[int]] = {}
        self._known_experiments: dict[UUID, ExperimentState] = {}  # as they were before
        self._experiment_states: dict[UUID, ExperimentState] = {}
        self._trial_states: dict[tuple[UUID, int], TrialState] = {}
        self._changed_trials: set[tuple[UUID, int]] = set()  # those whose state is not what is kept
        self._appends = AppendIndex(self, checks, txn)
        self._adopted = b"", 0  # append id and next ordinal of what was taken in last
        self._stored: list[Stored] = []
        self._leaves: list[bytes] = []
        self._jobs = JobWriter(self, checks, txn)
        self._promoted: set[UUID] = set()  # experiments whose trials that were due are among the ready
        self._none_late: set[UUID] = set()  # experiments in which no lease has run out by ``now``

    # -- the view, with what was accepted in this transaction

    def entry(self, key: bytes) -> ListEntry | None:
        if key not in self._entries:
            self._entries[key] = super().entry(key)
        return self._entries[key]

    def version(self, stream: str) -> int:
        key = stream_key(stream)
        entry = self.entry(key)
        return (0 if entry is None else entry.count) + len(self._new_positions.get(key, ()))

    def experiment(self, experiment_id: UUID) -> ExperimentState | None:
        state = self._experiment_states.get(experiment_id) or self._known_experiments.get(experiment_id)
        if state is None:
            state = super().experiment(experiment_id)
            if state is not None:
                self._known_experiments[experiment_id] = state
        return state

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

    def record(self, stream: str, version: int) -> Record | None:
        if stream_key(stream) in self._new_positions:  # it may be of this very transaction: flush, so that it can be read
            self._write()
        return super().record(stream, version)

    def due(self, experiment_id: UUID) -> Iterator[bytes]:
        if experiment_id not in self._promoted:
            self._promoted.add(experiment_id)  # time stands still in a transaction: what comes later is ready at once
            self._jobs.promote(experiment_id, super().due(experiment_id))
        return iter(())

    def expired(self, experiment_id: UUID, limit: int) -> list[TrialState]:
        if experiment_id in self._none_late:
            return []
        late = super().expired(experiment_id, limit)
        if not late:
            self._none_late.add(experiment_id)
        return late

    # -- accepting

    def submit(self, submission: Submission) -> Appended:
        """Take one submission in, or answer a known one; raises what its command raises, leaving no trace."""
        known = self._find(submission)
        if known is not None:
            return known
        staging = Staging(submission, self)
        if not staging.events:
            return Appended(UUID(bytes=submission.append_id), self._position, (), self.now)
        return self._accept(submission, staging, *self._encode(submission, staging))

    def place_of(self, appended: Appended) -> Place:
        """Return where the records of an accepted submission will be, and the records if they are not written yet."""
        count = len(appended.events)
        begin = appended.position - self.head.position - 1
        stored = self._stored[begin : begin + count] if begin >= 0 else []
        records = array_header(count) + b"".join([each.raw for each in stored]) if count and len(stored) == count else b""
        types = encode_types({each.type for each in stored}) if records else b""
        return Place(appended.position, count, appended.recorded_at, records, types)

    def _encode(self, submission: Submission, staging: Staging) -> tuple[list[bytes], list[bytes]]:
        """Return the records' bytes and leaf hashes; nothing is changed yet."""
        versions: dict[str, int] = {}
        items = []
        for stream, _, payload in staging.events:
            version = versions[stream] = (versions.get(stream) or self.version(stream)) + 1
            items.append((payload, stream, version))
        return encode_records(
            items, position=self._position + 1, recorded_at=self.now, append_id=submission.append_id, salt=submission.salt,
            actor=submission.actor, contexts=submission.contexts(),
        )  # fmt: skip

    def _accept(self, submission: Submission, staging: Staging, raws: list[bytes], leaves: list[bytes]) -> Appended:
        first = self._position + 1
        kinds = [payload.type.key for _, _, payload in staging.events]
        self._stored += map(Stored, raws, repeat(submission.salt), count(), kinds, repeat(self.now), repeat(submission.append_id))
        self._leaves += leaves
        self._enlist((stream, subject, config_of(payload.event)) for stream, subject, payload in staging.events)
        self._remember(submission, first, len(raws))
        self._take_states(staging)
        self._redact(staging)
        events = tuple([(stream, payload.event) for stream, _, payload in staging.events])
        return Appended(UUID(bytes=submission.append_id), first, events, self.now)

    def _enlist(self, records: Iterable[tuple[str, Subject | None, bytes | None]]) -> None:
        """Take the next positions for records, given by stream, subject and config, and put them into their lists."""
        known, lists = None, []
        for stream, subject, config in records:
            self._position += 1
            if stream != known:
                known, lists = stream, [self._list(stream_key(stream))]
                if subject is not None:
                    lists.append(self._list(experiment_key(subject.experiment_id)))
            for positions in lists:
                positions.append(self._position)
            if config is not None:
                self._list(config_key(config)).append(self._position)

    def _list(self, key: bytes) -> list[int]:
        positions = self._new_positions.get(key)
        if positions is None:
            positions = self._new_positions[key] = []
        return positions

    def _redact(self, staging: Staging) -> None:
        """Drop the payloads that a submission's redactions name, and make again what was derived from them."""
        redactions = [
            (stream, subject, payload.event)
            for stream, subject, payload in staging.events
            if isinstance(payload.event, ev.PayloadRedacted)
        ]
        if not redactions:
            return
        self._write()
        erasure = Erasure(self, self._checks, self._txn)
        known = {stream: self.positions(stream_key(stream)) for stream, _, _ in redactions}
        is_dropped = erasure.drop({known[stream][event.version - 1]: event.remainder for stream, _, event in redactions})
        if is_dropped:
            for subject in dict.fromkeys(subject for _, subject, _ in redactions if subject is not None):
                self._fold_again(subject, erasure)
        self._entries.clear()  # the erasure has written others in their place
        self._put_head(
            msgspec.structs.replace(
                self.head, redactions=self.head.redactions + len(redactions),
                erased=self.head.erased + (0 if is_dropped else len(redactions)),
                unsealed_bytes=self.head.unsealed_bytes + erasure.unsealed_bytes,
            )
        )  # fmt: skip

    def _fold_again(self, subject: Subject, erasure: Erasure) -> None:
        if subject.trial_id is not None:
            trial = erasure.trial(subject)
            self._trial_states[subject.experiment_id, subject.trial_id] = trial
            erasure.keep_state(stream_key(trial.stream), None if trial.status.is_finished else encode_state(trial))
            return
        before = self.experiment(subject.experiment_id)
        assert before is not None  # its first record is in its stream
        after = erasure.experiment(before)
        self._experiment_states[after.id] = after
        erasure.keep_state(experiment_key(after.id), encode_state(after))
        if before.deleted_at is None and before.name != after.name:
            self._txn.delete(name_key(before.name))
            self._put(name_key(after.name), _encoder.encode((after.name, after.id.bytes)))

    # -- copying

    def adopt(self, entries: Iterable[Entry]) -> None:
        """Take records in as they are: positions, ids, times, bytes and salts. ``finish`` writes them.

        Raises InvalidValue for a record that does not follow the one before it or whose hash is not that of its bytes,
        and what ``ledger.state`` raises for one that could not have happened.
        """
        for entry in entries:
            self._adopt(entry)

    def _adopt(self, entry: Entry) -> None:
        (envelope,) = decode_envelopes(b"\x91" + entry.raw)
        what = f"the record at position {envelope.position}"
        if envelope.position != self._position + 1 or envelope.recorded_at < self.now:
            raise InvalidValue(f"{what} does not follow the one at {self._position}; the copy is damaged or not in order.")
        kind = envelope.type, envelope.schema
        ordinal = OWN_SALT if entry.has_own_salt else envelope.ordinal
        stored = Stored(entry.raw, entry.salt, ordinal, kind, envelope.recorded_at, envelope.append_id)
        if leaf_of(entry.raw, envelope, own_salt(stored)) != entry.leaf:
            raise InvalidValue(f"{what} fails its hash: the copy is damaged.")
        (record,) = decode_records(b"\x91" + entry.raw, encode_types({kind}))
        self.now = envelope.recorded_at
        event = record.event
        submission = Submission(lambda view: [(record.stream, event)], record.append_id, b"", record.actor, record.context)
        staging = Staging(msgspec.structs.replace(submission, record_ids=()), self, is_copy=True)
        ((stream, subject, _),) = staging.events
        if self.version(stream) + 1 != record.version:
            raise InvalidValue(f"{what} is version {record.version} of {stream!r}, which is at {self.version(stream)}.")
        self._count_append(record)
        self._stored.append(stored)
        self._leaves.append(entry.leaf)
        self._enlist([(stream, subject, config_of(event, is_redacted=record.is_redacted))])
        self._take_states(staging)
        self._redact(staging)

    def _count_append(self, record: Record) -> None:
        if record.ordinal:
            before = self._adopted if self._adopted[1] else self._last_appended()
            is_next = before == (record.append_id, record.ordinal)
        else:
            is_next = self._appends.entry(record.append_id) is None
        if not is_next:
            raise InvalidValue(f"the record at position {record.position} is out of place in its append; the copy is damaged.")
        self._adopted = record.append_id, record.ordinal + 1
        self._appends.remember(record.append_id, record.position - record.ordinal, record.ordinal + 1)
        if record.context is not None and record.context.record_id is not None:
            self._appends.remember(record.context.record_id, record.position, 1)

    def _last_appended(self) -> tuple[bytes, int]:
        """Return the append id of the last record in the log, and the ordinal that would be next."""
        (record,) = self.records_at([self.head.position])
        return record.append_id, record.ordinal + 1

    # -- finding

    def _find(self, submission: Submission) -> Appended | None:
        """Answer a submission that is in the log, or None."""
        identifiers: tuple[bytes, ...] = (submission.append_id,)
        places = [None if submission.is_first_try else self._appends.find(submission.append_id)]
        if places == [None]:
            identifiers = submission.record_ids
            places = [self._appends.entry(identifier) for identifier in identifiers]
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

    def _remember(self, submission: Submission, first: int, count: int) -> None:
        self._appends.remember(submission.append_id, first, count)
        for ordinal, record_id in enumerate(submission.record_ids):
            self._appends.remember(record_id, first + ordinal, 1)

    def _take_states(self, staging: Staging) -> None:
        self._experiment_states.update(staging.experiments)
        for name, holder in staging.names.items():
            key = name_key(name)
            if holder is None:
                self._txn.delete(key)
            else:
                self._put(key, _encoder.encode((name, holder.bytes)))
        known = self._trial_states
        changes = [(known.get(identity), after) for identity, after in staging.trials.items() if known.get(identity) is not after]
        for _, after in changes:
            identity = after.experiment_id, after.id
            known[identity] = after
            self._changed_trials.add(identity)
        for before, after in changes:
            self._jobs.move(before, after)
            if after.deadline is not None and after.deadline < self.now:
                self._none_late.discard(after.experiment_id)

    # -- writing

    def finish(self) -> int:
        """Write what was accepted; return the new head position."""
        self._write()
        return self.head.position

    def _write(self) -> None:
        if not self._stored:
            return
        self._folded = None  # what is read from here on is not committed yet
        self._write_lists()
        written = write_blocks(self._txn, self._checks, self.head, self._stored)
        self._put_many(self._appends.write(written.sealed))
        edge = Edge(self.head.position, self.head.edge)
        tiles = [(tile_key(level, index), node) for level, index, node in edge.extend(self._leaves)]
        self._put_many(sorted(tiles))
        head = Head(
            self._position, self.now, written.unsealed_from, written.unsealed_bytes, edge.hashes, self.head.redactions,
            self.head.erased,
        )  # fmt: skip
        self._put_head(head)
        for collected in (self._stored, self._leaves, self._new_positions, self._entries, self._changed_trials):
            collected.clear()

    def _put_head(self, head: Head) -> None:
        self.head = head
        self._txn.put(HEAD_KEY, self._checks.seal_meta(HEAD_KEY, _encoder.encode(head)))

    def _write_lists(self) -> None:
        kept = {experiment_key(identity): encode_state(state) for identity, state in self._experiment_states.items()}
        for identity in self._changed_trials:
            state = self._trial_states[identity]
            kept[stream_key(state.stream)] = b"" if state.status.is_finished else encode_state(state)
        items, chunks = [], []
        for key in sorted(self._new_positions):
            positions = self._new_positions[key]
            # A list's id is its first position and its kind, so that it is unique without a counter.
            before = positions[0] - 1
            entry = self.entry(key) or ListEntry(positions[0] << 2 | b"sec".index(key[1:2]), last=before, base=before)
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
        if len(items) == 1:
            self._put(*items[0])
        elif items:
            self._txn.cursor().putmulti([(key, self._checks.seal(key, content)) for key, content in items])

    def _put(self, key: bytes, content: bytes) -> None:
        self._txn.put(key, self._checks.seal(key, content))
