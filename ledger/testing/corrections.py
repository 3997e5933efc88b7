"""The contract of corrections: tombstones, seals, redactions, and records as bytes with what proves them."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from ledger import events as ev
from ledger.backends.base import Backend, Entry, config_digest
from ledger.codec import decode_envelopes, leaf_of, record_salts
from ledger.errors import (
    AppendIdReused,
    CommandRefused,
    ExperimentExists,
    ExperimentReadOnly,
    InvalidValue,
    UnknownExperiment,
    UnknownTrial,
)
from ledger.events import NoteAdded
from ledger.records import Record
from ledger.redaction import remainder_of
from ledger.status import Status
from ledger.streams import experiment_stream
from ledger.testing.clock import FakeClock
from ledger.testing.tools import (
    EXPERIMENT,
    ContractBase,
    Trace,
    append,
    ask,
    commit,
    experiment_state,
    first_ready,
    notes,
    read_all,
    refusal,
    submission,
    trial_state,
    with_experiment,
    with_trials,
)
from ledger.tree import root_of

OTHER = UUID("01890000-0000-7000-8000-000000000002")
RETRIED = UUID(int=0x0189_0000_0000_7000_8000_0000_0000_2000)
SECRET = "the-key-is-123"
_POINT = ev.Points(["loss"], [1], [1], [[0.5]])


def redaction(backend: Backend, position: int) -> tuple[str, ev.PayloadRedacted]:
    """Return what redacts the record at the position."""
    (record,) = backend.read_positions([position])
    return record.stream, ev.PayloadRedacted(record.version, record.type, remainder_of(record.stream, record.event))


def all_entries(backend: Backend) -> list[Entry]:
    """Read every record as bytes, page by page."""
    entries: list[Entry] = []
    while page := backend.read_entries(len(entries)):
        entries += page
    return entries


def _next(backend: Backend) -> tuple[int | None, int | None]:
    """Return the numbers of the trial to be claimed next and of the one whose lease ends first."""
    with backend.view() as view:
        ready, leased = first_ready(view, EXPERIMENT), view.first_leased(EXPERIMENT)
    return (None if ready is None else ready.id), (None if leased is None else leased.id)


def _record(backend: Backend, stream: str, version: int) -> Record | None:
    with backend.view() as view:
        return view.record(stream, version)


class CorrectionContract(ContractBase):
    """What is deleted, closed or dropped, and what stays all the same."""

    # -- tombstones

    def test_a_deleted_trial_leaves_the_queue_and_comes_back(self, backend: Backend, clock: FakeClock) -> None:
        """A waiting trial is not offered while it is deleted, also when its time comes meanwhile, and is when restored."""
        with_experiment(backend)
        later = clock() + 5_000_000_000
        first, second = with_trials(backend, ev.TrialCreated({}), ev.TrialCreated({}, priority=-1, scheduled_at=later))
        append(backend, [(first, ev.TrialDeleted()), (second, ev.TrialDeleted())])
        clock.advance(10)
        assert ask(backend, lambda view: first_ready(view, EXPERIMENT)) is None
        append(backend, [(second, ev.TrialRestored())])
        assert ask(backend, lambda view: first_ready(view, EXPERIMENT)) == trial_state(backend, 2)
        append(backend, [(first, ev.TrialRestored())])
        assert ask(backend, lambda view: first_ready(view, EXPERIMENT)) == trial_state(backend, 1)

    def test_a_trial_deleted_from_under_a_worker_has_no_lease(self, backend: Backend, clock: FakeClock) -> None:
        """It is among the expired no more, nor the first leased, and is CANCELED when it comes back."""
        with_experiment(backend)
        (stream,) = with_trials(backend, ev.TrialCreated({}))
        append(backend, [(stream, ev.TrialClaimed("w", 1, 5.0, clock() + 5_000_000_000))])
        append(backend, [(stream, ev.TrialDeleted())])
        clock.advance(10)
        assert ask(backend, lambda view: (view.expired(EXPERIMENT, 9), view.first_leased(EXPERIMENT))) == ([], None)
        assert isinstance(refusal(backend, submission([(stream, NoteAdded("x"))])), UnknownTrial)
        append(backend, [(stream, ev.LateResultReceived(1, "SUCCEEDED", {"loss": 1})), (stream, ev.MetricsLogged([_POINT]))])
        append(backend, [(stream, ev.TrialRestored())])
        state = trial_state(backend, 1)
        assert (state.status, state.deadline, state.deleted_at, state.results) == (Status.CANCELED, None, None, {})

    def test_a_deleted_experiment_frees_its_name(self, backend: Backend) -> None:
        """Another can take the name; restoring asks for one that is free; what is deleted takes evidence only."""
        stream = with_experiment(backend, name="a")
        (trial,) = with_trials(backend, ev.TrialCreated({}))
        append(backend, [(stream, ev.ExperimentDeleted())])
        assert ask(backend, lambda view: view.experiment_named("a")) is None
        assert experiment_state(backend).deleted_at is not None
        assert [state.id for state in ask(backend, lambda view: list(view.experiments()))] == [EXPERIMENT]
        for place, event in ((stream, ev.ExperimentRenamed("b")), (trial, NoteAdded("x")), (stream, ev.ExperimentDeleted())):
            assert isinstance(refusal(backend, submission([(place, event)])), UnknownExperiment)
        append(backend, [(trial, ev.MetricsLogged([_POINT]))])
        with_experiment(backend, OTHER, "a")
        for name in ("", "a"):
            assert isinstance(refusal(backend, submission([(stream, ev.ExperimentRestored(name))])), ExperimentExists)
        append(backend, [(stream, ev.ExperimentRestored("b"))])
        assert ask(backend, lambda view: (view.experiment_named("a"), view.experiment_named("b"))) == (OTHER, EXPERIMENT)

    def test_a_name_freed_and_taken_in_one_append(self, backend: Backend) -> None:
        """Events of one append see what those before them did to the names."""
        stream, other = with_experiment(backend, name="a"), experiment_stream(OTHER)
        append(backend, [(stream, ev.ExperimentDeleted()), (other, ev.ExperimentCreated("a"))])
        error = refusal(backend, submission([(other, ev.ExperimentDeleted()), (stream, ev.ExperimentRestored()), *notes("x"),
                                             (other, ev.ExperimentRestored())]))  # fmt: skip
        assert isinstance(error, ExperimentExists)
        append(backend, [(other, ev.ExperimentDeleted()), (stream, ev.ExperimentRestored())])
        assert ask(backend, lambda view: view.experiment_named("a")) == EXPERIMENT

    # -- seals

    def test_a_sealed_experiment_takes_nothing(self, backend: Backend, clock: FakeClock) -> None:
        """Every event of it and its trials is refused and leaves no trace, evidence too, until it is unsealed."""
        stream = with_experiment(backend)
        (trial,) = with_trials(backend, ev.TrialCreated({}))
        append(backend, [(stream, ev.ExperimentSealed())])
        before = Trace(backend, stream, trial, "notes")
        events = [
            (stream, NoteAdded("x")), (stream, ev.ExperimentSealed()), (stream, ev.ExperimentDeleted()), (trial, NoteAdded("x")),
            (trial, ev.TrialClaimed("w", 1, 5.0, clock() + 1)), (trial, ev.TrialDeleted()), (trial, ev.MetricsLogged([_POINT])),
            (trial, ev.LateResultReceived(1, "FAILED")),
        ]  # fmt: skip
        for place, event in events:
            error = refusal(backend, submission([*notes("before"), (place, event)]))
            assert isinstance(error, ExperimentReadOnly), event
        assert Trace(backend, stream, trial, "notes") == before
        append(backend, [(stream, ev.ExperimentUnsealed()), (trial, NoteAdded("x"))])
        assert isinstance(refusal(backend, submission([(stream, ev.ExperimentUnsealed())])), CommandRefused)

    def test_the_first_leased_is_the_one_whose_lease_ends_first(self, backend: Backend, clock: FakeClock) -> None:
        """Whether it has ended or not; renewals move it; None when nobody holds a trial."""
        with_experiment(backend)
        assert ask(backend, lambda view: view.first_leased(EXPERIMENT)) is None
        streams = with_trials(backend, *[ev.TrialCreated({})] * 3)
        second = 1_000_000_000
        for stream, seconds in zip(streams, (30, 10, 20), strict=True):
            append(backend, [(stream, ev.TrialClaimed("w", 1, 5.0, clock() + seconds * second))])
        assert _next(backend)[1] == 2
        append(backend, [(streams[1], ev.LeaseRenewed(1, clock() + 40 * second))])
        clock.advance(25)
        assert _next(backend)[1] == 3
        append(backend, [(streams[2], ev.TrialReleased(1)), (streams[0], ev.TrialReleased(1)), (streams[1], ev.TrialCanceled())])
        assert ask(backend, lambda view: view.first_leased(EXPERIMENT)) is None

    # -- records by version, and as bytes

    def test_a_record_is_found_by_stream_and_version(self, backend: Backend) -> None:
        """Whatever lies between, and None for a version or a stream that there is not."""
        for number in range(30):
            append(backend, [*notes(str(number), stream="a"), *notes(str(-number), stream="b")])
        for version in (1, 2, 30):
            record = _record(backend, "a", version)
            assert record is not None
            assert (record.stream, record.version, record.event) == ("a", version, NoteAdded(str(version - 1)))
        assert [_record(backend, "a", version) for version in (0, -1, 31)] == [None] * 3
        assert _record(backend, "c", 1) is None

    def test_entries_prove_the_records(self, backend: Backend) -> None:
        """read_entries gives each record once and in order; its bytes and salt make its leaf, and the leaves the tree."""
        for size in (1, 3, 700, 1, 2):
            append(backend, notes(*(str(n) for n in range(size))))
        entries = all_entries(backend)
        envelopes = [decode_envelopes(b"\x91" + entry.raw)[0] for entry in entries]
        assert [envelope.position for envelope in envelopes] == list(range(1, 708))
        for entry, envelope in zip(entries, envelopes, strict=True):
            salt = entry.salt if entry.has_own_salt else record_salts(entry.salt, envelope.ordinal, 1)[0]
            assert leaf_of(entry.raw, envelope, salt) == entry.leaf
        assert (len(entries), root_of([entry.leaf for entry in entries])) == backend.tree_head()
        for after in (0, 1, 4, 5, 300, 703, 704, 706):
            assert backend.read_entries(after)[0] == entries[after]
        assert (backend.read_entries(707), backend.read_entries(10_000)) == ([], [])

    # -- redaction

    @pytest.mark.parametrize("size", [1, 3, 700])
    def test_a_redaction_drops_the_payload_and_keeps_the_proof(self, backend: Backend, size: int) -> None:
        """The bytes are gone, with the salt of the append; place, neighbours, leaves and the root of then are as they were."""
        append(backend, notes("before"))
        append(backend, notes(*(f"{SECRET} {n}" for n in range(size))))
        append(backend, notes("after"))
        position = 1 + (size + 1) // 2
        before, records = all_entries(backend), read_all(backend)
        append(backend, [redaction(backend, position)])
        after = all_entries(backend)
        assert [entry.leaf for entry in after[: len(before)]] == [entry.leaf for entry in before]
        assert root_of([entry.leaf for entry in after]) == backend.tree_head()[1]
        assert SECRET.encode() not in after[position - 1].raw
        assert (after[position - 1].salt, after[position - 1].has_own_salt) == (b"", True)
        assert not any(before[1].salt == entry.salt for entry in after)
        now = read_all(backend)
        assert [r for r in now[: len(records)] if r.position != position] == [r for r in records if r.position != position]
        dropped = now[position - 1]
        assert (dropped.event, dropped.is_redacted) == (NoteAdded(""), True)
        assert (dropped.position, dropped.stream, dropped.version, dropped.id) == (
            position, "notes", position, records[position - 1].id,
        )  # fmt: skip
        assert backend.read_positions([position]) == [dropped]
        assert ask(backend, lambda view: view.record("notes", position)) == dropped

    def test_what_was_derived_from_a_payload_goes_with_it(self, backend: Backend) -> None:
        """States, the name and the list of the config are those of what remains; statuses are not touched."""
        stream = with_experiment(backend, name=SECRET)
        config = {"key": SECRET}
        trials = with_trials(backend, ev.TrialCreated(config, priority=3), ev.TrialCreated(config))
        append(backend, [(trials[0], ev.TrialConfigured({"more": 1}))])
        append(backend, [redaction(backend, 1), redaction(backend, 2)])
        state = trial_state(backend, 1)
        assert (state.config, state.priority, state.status) == ({"more": 1}, 3, Status.PENDING)
        assert list(backend.config_positions(config_digest(config))) == [3]
        assert list(backend.config_positions(config_digest({}))) == []
        name = experiment_state(backend).name
        assert SECRET not in name
        assert ask(backend, lambda view: (view.experiment_named(SECRET), view.experiment_named(name))) == (None, EXPERIMENT)
        assert experiment_state(backend).next_trial_id == 3
        with_experiment(backend, OTHER, SECRET)
        append(backend, [(stream, ev.ExperimentRenamed("new"))])
        assert _next(backend)[0] == 1

    def test_redactions_are_counted(self, backend: Backend) -> None:
        """Each one, and never more of them pending than there are."""
        append(backend, notes("a", "b", "c"))
        assert backend.redactions() == (0, 0)
        append(backend, [redaction(backend, 1), redaction(backend, 3)])
        append(backend, [redaction(backend, 2)])
        found = backend.redactions()
        assert found.total == 3
        assert 0 <= found.pending <= 3

    def test_a_redaction_that_does_not_fit_leaves_no_trace(self, backend: Backend) -> None:
        """Of no record, of another type, with another remainder, of a redaction, and of what is redacted already."""
        append(backend, notes("a", "b"))
        stream, good = redaction(backend, 1)
        append(backend, [(stream, good)])
        before, entries = Trace(backend, "notes"), all_entries(backend)
        for event, kind in (
            (ev.PayloadRedacted(9, "NoteAdded", good.remainder), InvalidValue),
            (ev.PayloadRedacted(2, "NoteAmended", good.remainder), InvalidValue),
            (ev.PayloadRedacted(2, "NoteAdded", b"\xc0"), InvalidValue),
            (ev.PayloadRedacted(3, "PayloadRedacted", b"\xc0"), CommandRefused),
            (good, CommandRefused),
        ):
            error = refusal(backend, submission([*notes("x"), (stream, event)]))
            assert isinstance(error, kind), error
        assert Trace(backend, "notes") == before
        assert all_entries(backend) == entries
        assert backend.redactions().total == 1

    def test_a_group_redacts_what_it_has_just_written(self, backend: Backend) -> None:
        """A record of a submission before it in the group, as any other; a second redaction in the group is refused."""
        event = ev.PayloadRedacted(1, "NoteAdded", remainder_of("notes", NoteAdded(SECRET)))
        first, second, third = (submission(content) for content in (notes(SECRET), [("notes", event)], [("notes", event)]))
        answers = backend.commit([first, second, third])
        assert [isinstance(answer, Exception) for answer in answers] == [False, False, True]
        assert isinstance(answers[2], CommandRefused)
        assert not any(SECRET.encode() in entry.raw for entry in all_entries(backend))
        assert backend.redactions().total == 1

    def test_a_retry_of_what_was_redacted_is_answered(self, backend: Backend) -> None:
        """The first answer, where it can be compared; other content beside it is refused."""
        append(backend, notes("a", SECRET), append_id=RETRIED)
        append(backend, [redaction(backend, 2)])
        (answer,) = commit(backend, submission(notes("a", SECRET), append_id=RETRIED))
        assert (answer.position, answer.head, backend.head()) == (1, 2, 3)
        assert isinstance(refusal(backend, submission(notes("b", SECRET), append_id=RETRIED)), AppendIdReused)

    def test_redactions_outlive_the_handle(self, tmp_path: Path, backend: Backend, clock: FakeClock) -> None:
        """Opened again, the log has the remainder, the count and the tree."""
        append(backend, notes(SECRET, "b"))
        append(backend, [redaction(backend, 1)])
        entries, counted, tree = all_entries(backend), backend.redactions(), backend.tree_head()
        backend.close()
        again = self.reopen(tmp_path, clock)
        try:
            assert (all_entries(again), again.redactions(), again.tree_head()) == (entries, counted, tree)
            self.check(again)
        finally:
            again.close()
