"""Staging: one submission decided, checked and folded, before anything is written.

Both backends run every submission through here, so that what may happen is decided in one place, and a submission that
is refused half-way has left no trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ledger import events as ev
from ledger.backends.base import Appended, Submission, View, config_digest
from ledger.codec import Payload, encode_event
from ledger.errors import AppendIdReused, CommandRefused, ExperimentExists, InvalidValue, WrongExpectedVersion
from ledger.identity import default_actor, new_uuid7
from ledger.records import Record, iso_nanoseconds
from ledger.redaction import check_redaction
from ledger.registry import Event
from ledger.state import MAX_TIME, ExperimentState, TrialState, check_stream, evolve_experiment, evolve_trial
from ledger.streams import Subject
from ledger.values import with_article

_NAMING = ev.ExperimentCreated | ev.ExperimentRenamed | ev.ExperimentDeleted | ev.ExperimentRestored
MAX_STREAM_BYTES = 400  # an LMDB key ends at 511


class Staging:
    """The outcome of one submission: its events encoded, and the states they lead to.

    Raises what the command raises, WrongExpectedVersion, InvalidValue, or a CommandRefused from ``ledger.state``.
    """

    def __init__(self, submission: Submission, view: View, *, is_copy: bool = False) -> None:
        self.view = view
        self._is_copy = is_copy
        self.experiments: dict[UUID, ExperimentState] = {}
        self.trials: dict[tuple[UUID, int], TrialState] = {}
        self.names: dict[str, UUID | None] = {}  # live names changed: the new holder, or None when freed
        self.events: list[tuple[str, Subject | None, Payload]] = []
        self._redacted: set[tuple[str, int]] = set()
        for stream, expected in submission.expect.items():
            version = view.version(stream)
            if version != expected:
                raise WrongExpectedVersion(stream, expected, version)
        _check_ids(submission)
        context = submission.context
        if context is not None and context.occurred_at is not None and abs(context.occurred_at) > MAX_TIME:
            raise InvalidValue(f"occurred_at is {context.occurred_at!r} ns; give a time between the years 1678 and 2262.")
        at = view.now if context is None or context.occurred_at is None else context.occurred_at
        self._checked: tuple[str | None, type | None, Subject | None] = None, None, None  # stream, type before; about whom
        for stream, event in submission.command(view):
            self._add(stream, event, at)
        if submission.record_ids and len(submission.record_ids) != len(self.events):
            raise InvalidValue(
                f"{len(submission.record_ids)} ids were given for {len(self.events)} events; give one for each, or none."
            )

    def _add(self, stream: str, event: Event, at: int) -> None:
        known, kind, subject = self._checked
        if known is None or stream is not known:
            check_stream_name(stream)
        payload = encode_event(event)
        if stream is not known or type(event) is not kind:
            subject = check_stream(stream, event)
            self._checked = stream, type(event), subject
        if isinstance(payload.event, ev.PayloadRedacted):
            self._check_redaction(stream, payload.event)
        if subject is not None:
            self._evolve(subject, payload.event, at)
        self.events.append((stream, subject, payload))

    def _check_redaction(self, stream: str, event: ev.PayloadRedacted) -> None:
        check_redaction(stream, event, self.view.record(stream, event.version), is_copy=self._is_copy)
        if (stream, event.version) in self._redacted:
            raise CommandRefused(f"version {event.version} of {stream!r} is to be redacted twice; name it once.")
        self._redacted.add((stream, event.version))

    def _evolve(self, subject: Subject, event: Event, at: int) -> None:
        experiment_id, trial_id = subject
        before = self.experiments.get(experiment_id) or self.view.experiment(experiment_id)
        after = evolve_experiment(before, subject, event, at)
        if isinstance(event, _NAMING):
            self._take_name(before, after)
        if after is not before:
            self.experiments[experiment_id] = after
        if trial_id is not None:
            key = (experiment_id, trial_id)
            trial = self.trials.get(key) or self.view.trial(experiment_id, trial_id)
            self.trials[key] = evolve_trial(trial, subject, event, at)

    def _take_name(self, before: ExperimentState | None, after: ExperimentState) -> None:
        old = before.name if before is not None and before.deleted_at is None else None
        if old is not None and (old != after.name or after.deleted_at is not None):
            self.names[old] = None
        if after.deleted_at is not None:
            return
        holder = self.names[after.name] if after.name in self.names else self.view.experiment_named(after.name)
        if holder is not None and holder != after.id:
            raise ExperimentExists(
                f"the name {after.name!r} is taken by experiment {holder}. Choose another, or rename that one first."
            )
        self.names[after.name] = after.id


def _check_ids(submission: Submission) -> None:
    ids = submission.record_ids
    if len({submission.append_id, *ids}) != len(ids) + 1:
        raise InvalidValue("an id is given twice: each record's own id must differ from the others and from the append id.")


def check_stream_name(stream: str) -> None:
    """Refuse a stream name that no index could carry."""
    if type(stream) is not str or not stream:
        raise InvalidValue(f"a stream is named by a text that is not empty, not {stream!r}.")
    try:
        size = len(stream) if stream.isascii() else len(stream.encode())
    except UnicodeEncodeError:
        raise InvalidValue(f"the stream name {stream!r} is not valid text (a lone surrogate).") from None
    if size > MAX_STREAM_BYTES:
        raise InvalidValue(f"the stream name {stream[:40]!r}... takes {size} bytes; at most {MAX_STREAM_BYTES} fit an index key.")


def config_of(event: Event, *, is_redacted: bool = False) -> bytes | None:
    """Return the digest under which the event is indexed by config, or None."""
    return config_digest(event.config) if type(event) is ev.TrialCreated and not is_redacted else None


def answer_retry(submission: Submission, records: Sequence[Record], known: bytes) -> Appended:
    """Answer a submission whose append id (or record id, ``known``) is in the log with what was recorded then.

    Raises AppendIdReused when the content differs. A command is not run again: its first answer stands.
    """
    first = records[0]
    if submission.content is not None:
        difference = _difference(submission, records)
        if difference:
            raise AppendIdReused(UUID(bytes=known), first.position, difference)
    events = tuple((record.stream, record.event) for record in records)
    return Appended(UUID(bytes=first.append_id), first.position, events, first.recorded_at)


def _difference(submission: Submission, records: Sequence[Record]) -> str:
    content = submission.content or ()
    if len(content) != len(records):
        return f"{len(records)} events then, {len(content)} now"
    for number, ((stream, event), record) in enumerate(zip(content, records, strict=True)):
        if stream != record.stream:
            return f"event {number} went to stream {record.stream!r} then, to {stream!r} now"
        if record.is_redacted:
            continue  # what it was compared with is gone
        then, now = encode_event(record.event), encode_event(event)
        if (then.type.name, then.data) != (now.type.name, now.data):
            return (
                f"event {number} was {with_article(then.type.name)} with other content then, is {with_article(now.type.name)} now"
            )
    stored = records[0].context
    reasons = (stored.reason if stored else None, submission.context.reason if submission.context else None)
    return "" if reasons[0] == reasons[1] else f"its reason was {reasons[0]!r} then, is {reasons[1]!r} now"


def skew_submission(raw_time: int, behind: int) -> Submission:
    """Return the submission that records what a clock said that stands behind the log."""
    append_id = new_uuid7().bytes
    command = lambda view: [("ledger", ev.ClockSkewed(raw_time, behind / 1e9))]  # noqa: E731
    return Submission(command, append_id, append_id, default_actor())


def skew_warning(raw_time: int, behind: int) -> str:
    """Say what is wrong with the clock, and what was done about it."""
    return (
        f"the clock says {iso_nanoseconds(raw_time)}, {behind / 1e9:,.0f} s before the newest record; records get the time "
        "of that one until the clock has caught up, and a ClockSkewed event keeps the raw time. Set the clock right."
    )
