"""A log in memory: so plain that it must be right. The oracle for the others, and a ledger for tests.

Everything is a list or a dict. States are folded from the records, each record once, and nothing is kept on disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from ledger import events as ev
from ledger.artifacts.blobs import TemporaryBlobStore
from ledger.backends.base import Appended, Backend, Entry, Redactions, Submission, View
from ledger.backends.staging import Staging, answer_retry, config_of, skew_submission, skew_warning
from ledger.clock import Clock
from ledger.codec import decode_envelopes, decode_records, encode_records, encode_types, record_salts, redact_record
from ledger.dependencies import unmet_dependencies
from ledger.errors import AppendIdReused, Corrupted, ForkedHandle, LedgerClosed
from ledger.identity import new_uuid7
from ledger.records import Record
from ledger.state import ExperimentState, Status, TrialState, claim_order, evolve_experiment, evolve_trial
from ledger.streams import Subject, subject_of
from ledger.tree import root_of


class MemoryBackend(Backend):
    """Keep the log in lists; ``clock`` gives ns since 1970 UTC.

    >>> from ledger.log import EventLog
    >>> EventLog(MemoryBackend()).head
    0
    """

    def __init__(self, clock: Callable[[], int] | None = None, ledger_id: UUID | None = None) -> None:
        self.ledger_id = ledger_id or new_uuid7()
        self.name = "memory:"
        self.blobs = TemporaryBlobStore()
        self._clock = Clock(clock)
        self._records: list[Record] = []
        self._entries: list[Entry] = []
        self._by_id: dict[bytes, list[int]] = {}  # append ids and the callers' own -> positions
        self._folded, self._redactions = _Folded(), 0
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._closed = False
        self._warning: str | None = None

    def commit(self, group: Sequence[Submission]) -> list[Appended | Exception]:
        self.check_usable()
        with self._lock:
            reading = self._clock.read(self._records[-1].recorded_at if self._records else 0)
            if reading.behind:
                self._submit(skew_submission(reading.raw, reading.behind), reading.now)
            answers: list[Appended | Exception] = []
            for submission in group:
                try:
                    answers.append(self._submit(submission, reading.now))
                except Exception as error:  # noqa: BLE001 - a command may raise anything: it goes to its own caller
                    answers.append(error)
            self._clock.reported(reading)
        for callback in list(self._listeners):
            with contextlib.suppress(Exception):  # a reader's trouble is not the writer's, who has committed
                callback()
        if reading.behind:
            self._warning = skew_warning(reading.raw, reading.behind)
        return answers

    def take_warning(self) -> str | None:
        warning, self._warning = self._warning, None
        return warning

    def _submit(self, submission: Submission, now: int) -> Appended:
        known = self._find(submission)
        if known is not None:
            return known
        view = _MemoryView(self._records, now, self._folded)
        staging = Staging(submission, view)
        records, entries = list(self._records), list(self._entries)
        added: Counter[str] = Counter()
        items = []
        for stream, _, payload in staging.events:
            added[stream] += 1
            items.append((payload, stream, view.version(stream) + added[stream]))
        encoded = encode_records(
            items, position=len(records) + 1, recorded_at=now, append_id=submission.append_id, salt=submission.salt,
            actor=submission.actor, contexts=submission.contexts(),
        )  # fmt: skip
        for (_, _, payload), raw, leaf in zip(staging.events, *encoded, strict=True):
            records += decode_records(b"\x91" + raw, encode_types({(payload.type.name, payload.type.schema)}))
            entries.append(Entry(raw, submission.salt, False, leaf))
        redactions = 0
        for stream, _, payload in staging.events:
            if isinstance(payload.event, ev.PayloadRedacted):
                _redact(records, entries, stream, payload.event)
                redactions += 1
        before = len(self._records)
        position = before + bool(staging.events)
        self._records, self._entries = records, entries  # readers see all of it or nothing
        for record in records[before:]:
            for identifier in dict.fromkeys(_ids(record)):
                self._by_id.setdefault(identifier, []).append(record.position)
        if redactions:  # what was dropped may be in states
            self._folded, self._redactions = _Folded(), self._redactions + redactions
        events = tuple((stream, payload.event) for stream, _, payload in staging.events)
        return Appended(UUID(bytes=submission.append_id), position, events, now)

    def _find(self, submission: Submission) -> Appended | None:
        for identifiers in ((submission.append_id,), submission.record_ids):
            found = [[self._records[position - 1] for position in self._by_id.get(each, ())] for each in identifiers]
            if any(found):
                first = next(records for records in found if records)[0]
                if not all(found):
                    raise AppendIdReused(UUID(bytes=identifiers[0]), first.position, "only some of the ids are known")
                return answer_retry(submission, [record for records in found for record in records], identifiers[0])
        return None

    def check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedHandle("a ledger in memory belongs to the process that made it; open another one in this process.")
        if self._closed:
            raise LedgerClosed(f"the ledger {self.name} is closed; open it again.")

    def head(self) -> int:
        self.check_usable()
        return len(self._records)

    def read_page(self, after: int, types: frozenset[str] | None = None) -> tuple[list[Record], int]:
        self.check_usable()
        page = self._records[after : after + 100]
        reached = max(after, min(after + 100, len(self._records)))
        return [r for r in page if types is None or r.type in types], reached

    def read_positions(self, positions: Sequence[int]) -> list[Record]:
        self.check_usable()
        return [self._records[p - 1] for p in sorted(positions) if 1 <= p <= len(self._records)]

    def stream_positions(self, stream: str) -> Sequence[int]:
        self.check_usable()
        return [r.position for r in self._records if r.stream == stream]

    def experiment_positions(self, experiment_id: UUID) -> Sequence[int]:
        self.check_usable()
        mark = experiment_id.hex
        return [r.position for r in self._records if r.stream.split("/")[:2][1:] == [mark] and _is_ours(r.stream)]

    def config_positions(self, digest: bytes) -> Sequence[int]:
        self.check_usable()
        return [r.position for r in self._records if config_of(r.event, is_redacted=r.is_redacted) == digest]

    @contextmanager
    def view(self) -> Iterator[View]:
        self.check_usable()
        with self._lock:
            records, folded = self._records, self._folded
        yield _MemoryView(records, self._clock.read(records[-1].recorded_at if records else 0).now, folded)

    def tree_head(self) -> tuple[int, bytes]:
        self.check_usable()
        return len(self._entries), root_of([entry.leaf for entry in self._entries])

    def read_entries(self, after: int) -> list[Entry]:
        self.check_usable()
        return self._entries[after : after + 100]

    def redactions(self) -> Redactions:
        self.check_usable()
        return Redactions(self._redactions, 0)  # there is no file

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.check_usable()
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def check(self) -> None:
        self.check_usable()
        versions: dict[str, int] = {}
        for place, record in enumerate(self._records, start=1):
            versions[record.stream] = versions.get(record.stream, 0) + 1
            if (record.position, record.version) != (place, versions[record.stream]):
                raise Corrupted(f"record {place} has position {record.position}, version {record.version}.", place)

    def close(self) -> None:
        self._closed = True
        self.blobs.close()


def _redact(records: list[Record], entries: list[Entry], stream: str, event: ev.PayloadRedacted) -> None:
    """Drop the payload, and give each record of its append a salt of its own, without that of the append."""
    record = next(r for r in records if (r.stream, r.version) == (stream, event.version))
    for i, other in enumerate(records):
        if other.append_id != record.append_id:
            continue
        raw, salt, has_own_salt, leaf = entries[i]
        own = salt if has_own_salt else record_salts(salt, other.ordinal, 1)[0]
        if other is record:
            (envelope,) = decode_envelopes(b"\x91" + raw)
            raw, own = redact_record(raw, envelope, own, event.remainder), b""
            types = encode_types({(envelope.type, envelope.schema)})
            (records[i],) = decode_records(b"\x91" + raw, types)
        entries[i] = Entry(raw, own, True, leaf)


def _ids(record: Record) -> list[bytes]:
    own = record.context.record_id if record.context else None
    return [record.append_id] if own is None else [record.append_id, own]


def _is_ours(stream: str) -> bool:
    return stream.startswith(("experiment/", "trial/"))


class _Folded:
    """States, and versions of streams, as of the records that were folded: the first of them, in their order."""

    def __init__(self) -> None:
        self.versions: Counter[str] = Counter()
        self.experiments: dict[UUID, ExperimentState] = {}
        self.trials: dict[UUID, dict[int, TrialState]] = {}
        self._position = 0
        self._lock = threading.Lock()

    @contextmanager
    def at(self, records: list[Record]) -> Iterator[_Folded]:
        """Give what the records come to, which stays so for the length of the block."""
        with self._lock:
            is_past = len(records) < self._position
            if not is_past:
                self._fold(records)
                yield self
                return
        with _Folded().at(records) as earlier:
            yield earlier

    def _fold(self, records: list[Record]) -> None:
        for record in records[self._position :]:
            subject = subject_of(record.stream)
            if subject is not None:
                self._evolve(subject, record)
            self.versions[record.stream] += 1
            self._position += 1

    def _evolve(self, subject: Subject, record: Record) -> None:
        key, number, event, at = subject.experiment_id, subject.trial_id, record.event, record.happened_at
        self.experiments[key] = evolve_experiment(self.experiments.get(key), subject, event, at)
        trials = self.trials.setdefault(key, {})
        if number is not None:
            trials[number] = evolve_trial(trials.get(number), subject, event, at)


class _MemoryView:
    """The state at the end of a list of records."""

    def __init__(self, records: list[Record], now: int, folded: _Folded) -> None:
        self._records, self._folded = records, folded
        self.now = now

    def version(self, stream: str) -> int:
        with self._folded.at(self._records) as folded:
            return folded.versions[stream]

    def experiment(self, experiment_id: UUID) -> ExperimentState | None:
        with self._folded.at(self._records) as folded:
            return folded.experiments.get(experiment_id)

    def experiments(self) -> Iterator[ExperimentState]:
        with self._folded.at(self._records) as folded:
            found = list(folded.experiments.values())
        yield from found

    def experiment_named(self, name: str) -> UUID | None:
        return next((state.id for state in self.experiments() if state.name == name and state.deleted_at is None), None)

    def trial(self, experiment_id: UUID, trial_id: int) -> TrialState | None:
        with self._folded.at(self._records) as folded:
            return folded.trials.get(experiment_id, {}).get(trial_id)

    def _trials(self, experiment_id: UUID) -> list[TrialState]:
        with self._folded.at(self._records) as folded:
            return list(folded.trials.get(experiment_id, {}).values())

    def record(self, stream: str, version: int) -> Record | None:
        return next((r for r in self._records if (r.stream, r.version) == (stream, version)), None)

    def ready(
        self, experiment_id: UUID, worker: str = "", *, after: TrialState | None = None, limit: int = 1
    ) -> list[TrialState]:
        waiting = [t for t in self._trials(experiment_id) if t.status is Status.PENDING and t.deleted_at is None]
        ready = [t for t in waiting if (t.scheduled_at or 0) <= self.now and t.assigned_to in ("", worker)]
        ordered = sorted((t for t in ready if not unmet_dependencies(t.depends_on, self.trial)), key=claim_order)
        return [t for t in ordered if after is None or claim_order(t) > claim_order(after)][:limit]

    def next_due(self, experiment_id: UUID) -> int | None:
        trials = [t for t in self._trials(experiment_id) if t.deleted_at is None]
        times = [
            t.scheduled_at for t in trials if t.status is Status.PENDING and not unmet_dependencies(t.depends_on, self.trial)
        ]
        ends = [t.deadline + 1 for t in trials if t.deadline is not None]
        return min((time for time in (*times, *ends) if time is not None and time > self.now), default=None)

    def expired(self, experiment_id: UUID, limit: int) -> list[TrialState]:
        trials = self._trials(experiment_id)
        late = [t for t in trials if t.deadline is not None and t.deadline < self.now]
        return sorted(late, key=lambda t: (t.deadline, t.id))[:limit]

    def first_leased(self, experiment_id: UUID) -> TrialState | None:
        leased = [t for t in self._trials(experiment_id) if t.deadline is not None and t.deleted_at is None]
        return min(leased, key=lambda t: (t.deadline, t.id), default=None)
