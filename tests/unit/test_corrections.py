"""Corrections: amendments and forced transitions, on both backends. ``test_tombstones`` has deletions and seals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ledger
import projections
from ledger import Status
from ledger.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture(params=["memory:", "directory"])
def book(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[ledger.Ledger]:
    """A ledger of each kind, which checks itself at the end."""
    place = "memory:" if request.param == "memory:" else str(tmp_path / "runs.ledger")
    with ledger.open(place, clock=clock, durability="relaxed") as opened:
        yield opened
        opened.log.backend.check()


@pytest.fixture
def exp(book: ledger.Ledger) -> ledger.Experiment:
    """An experiment with one trial that has succeeded."""
    exp = book.experiment("tuning", objectives={"loss": "min"})
    exp.new_trial({"lr": 0.1, "layers": 2}, label="base").complete({"loss": 0.5, "rows": 10})
    return exp


@pytest.fixture
def trial(exp: ledger.Experiment) -> ledger.Trial:
    """The trial that has succeeded."""
    return exp.trial(1)


def _types(thing: ledger.Trial | ledger.Experiment) -> list[str]:
    return [record.type for record in thing.history()]


# ------------------------------------------------------------------------------------------------------------ amend


@pytest.mark.parametrize(
    ("change", "field", "amended", "recorded"),
    [
        ({"results": {"loss": 0.25}}, "results", {"loss": 0.25, "rows": 10}, {"loss": 0.5, "rows": 10}),
        ({"results": {"loss": "n/a"}}, "results", {"loss": "n/a", "rows": 10}, {"loss": 0.5, "rows": 10}),
        ({"withdraw": ["loss"]}, "results", {"rows": 10}, {"loss": 0.5, "rows": 10}),
        ({"withdraw": ["loss", "rows"]}, "results", {}, {"loss": 0.5, "rows": 10}),
        ({"config": {"lr": 0.2}}, "config", {"lr": 0.2, "layers": 2}, {"lr": 0.1, "layers": 2}),
        ({"label": "other"}, "label", "other", "base"),
        ({"label": ""}, "label", "", "base"),
        ({"status": "FAILED"}, "status", Status.FAILED, Status.SUCCEEDED),
        ({"status": Status.PRUNED}, "status", Status.PRUNED, Status.SUCCEEDED),
    ],
)
def test_an_amendment_counts_and_the_first_value_stays(
    trial: ledger.Trial, change: dict[str, Any], field: str, amended: object, recorded: object
) -> None:
    """The state has the new value, ``as_recorded`` and history the first one, and the record says why."""
    appended = trial.amend(reason="read from the wrong line", **change)
    assert getattr(trial.state, field) == amended
    assert getattr(trial.as_recorded, field) == recorded
    assert (trial.state.is_amended, trial.as_recorded.is_amended) == (True, False)
    last = list(trial.history())[-1]
    assert (last.position, last.type, last.reason) == (appended.position, "TrialAmended", "read from the wrong line")
    ended = next(record.event for record in trial.history() if record.type == "TrialCompleted")
    assert ended.results == {"loss": 0.5, "rows": 10}


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_every_correction_that_must_say_why_does(exp: ledger.Experiment, trial: ledger.Trial, reason: Any) -> None:
    """Amendments, redactions, unsealing and forced statuses without a reason are refused and leave nothing."""
    trial.note("x")
    exp.seal()
    head = exp.book.log.head
    steps: list[Callable[[], object]] = [
        lambda: trial.amend(label="x", reason=reason),
        lambda: trial.amend_note(5, "y", reason=reason),
        lambda: exp.book.redact(2, reason=reason),
        lambda: exp.unseal(reason),
        lambda: trial.force_status("FAILED", reason=reason),
    ]
    for step in steps:
        with pytest.raises(ledger.CommandRefused, match="reason"):
            step()
    assert exp.book.log.head == head


def test_only_what_was_recorded_can_be_amended(trial: ledger.Trial) -> None:
    """An unknown result or parameter is refused by name, with those that there are; so is an empty amendment."""
    head = trial.version
    for change, words in (
        ({"results": {"los": 1}}, r"no result 'los' .*it has: loss, rows.*report"),
        ({"withdraw": ["gone"]}, "no result 'gone'"),
        ({"config": {"momentum": 1}}, r"no parameter 'momentum' .*layers, lr.*configure"),
    ):
        with pytest.raises(ledger.CommandRefused, match=words):
            trial.amend(reason="r", **change)  # type: ignore[arg-type]
    with pytest.raises(ledger.InvalidValue, match="nothing to amend"):
        trial.amend(reason="r")
    with pytest.raises(ledger.InvalidValue, match="set"):
        trial.amend(results={"loss": {1, 2}}, reason="r")
    assert trial.version == head
    trial.amend(withdraw=["loss"], reason="r")
    with pytest.raises(ledger.CommandRefused, match="no result 'loss'"):
        trial.amend(results={"loss": 1}, reason="withdrawn before")


def test_a_status_is_amended_from_an_end_to_an_end_only(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """Waiting and held trials, and waiting and running as the new status, are for force_status."""
    for status in ("PENDING", "READY", "RUNNING"):
        with pytest.raises(ledger.InvalidTransition, match="force_status"):
            trial.amend(status=status, reason="r")
    with pytest.raises(ledger.InvalidValue, match="no trial status"):
        trial.amend(status="DONE", reason="r")
    waiting = exp.new_trial({})
    with pytest.raises(ledger.InvalidTransition, match="PENDING"):
        waiting.amend(status="FAILED", reason="r")
    waiting.start()
    with pytest.raises(ledger.InvalidTransition, match="RUNNING"):
        waiting.amend(status="FAILED", reason="r")
    for status in (Status.LOST, Status.UNKNOWN, Status.ABANDONED, Status.SUCCEEDED):
        trial.amend(status=status, reason="r")
        assert trial.status is status
    assert trial.as_recorded.status is Status.SUCCEEDED


def test_a_trial_goes_on_after_an_amendment(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """Reports, a requeue and a new attempt are folded into both readings, and the amendment does not come back."""
    trial.amend(results={"loss": 0.4}, config={"lr": 0.2}, status="FAILED", reason="r")
    trial.report({"extra": 1})
    assert trial.results == {"loss": 0.4, "rows": 10, "extra": 1}
    assert trial.as_recorded.results == {"loss": 0.5, "rows": 10, "extra": 1}
    exp.trial(1).requeue("again")
    assert (trial.state.results, trial.as_recorded.results) == ({}, {})
    job = exp.claim()
    assert job is not None
    assert job.config == {"lr": 0.2, "layers": 2}
    job.complete({"loss": 0.3})
    assert (trial.results, trial.as_recorded.results) == ({"loss": 0.3}, {"loss": 0.3})
    assert (trial.status, trial.state.attempt, trial.state.is_amended) == (Status.SUCCEEDED, 2, True)
    assert (trial.state.config["lr"], trial.as_recorded.config["lr"]) == (0.2, 0.1)


def test_a_parameter_of_an_amended_trial_is_not_configured_again(exp: ledger.Experiment) -> None:
    """Not even with its present value, which a redaction of the amendment would contradict; a new one is taken."""
    trial = exp.new_trial({"a": 1})
    trial.configure({"a": 1})
    trial.amend(config={"a": 2}, reason="r")
    for value in (1, 2):
        with pytest.raises(ledger.InvalidValue, match="'a' = 2 already"):
            trial.configure({"a": value})
    trial.configure({"b": 3})
    exp.book.redact(next(r.position for r in trial.history() if r.type == "TrialAmended"), reason="secret")
    assert trial.state.config == {"a": 1, "b": 3}


def test_tables_show_either_reading(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """``amended=False`` is the table as if nothing had been amended; ``is_amended`` marks the row in both."""
    exp.new_trial({"lr": 1.0}).complete({"loss": 9.0})
    trial.amend(results={"loss": 0.4}, withdraw=["rows"], config={"lr": 0.2}, label="new", status="FAILED", reason="r")
    tables = projections.Tables(exp.book)
    columns = ["trial_id", "status", "label", "is_amended", "config.lr", "result.loss"]
    amended, recorded = tables.trials("tuning"), tables.trials("tuning", amended=False)
    assert amended[columns].iloc[0].tolist() == [1, "FAILED", "new", True, 0.2, 0.4]
    assert recorded[columns].iloc[0].tolist() == [1, "SUCCEEDED", "base", True, 0.1, 0.5]
    assert "result.rows" not in amended
    assert recorded["result.rows"].tolist()[0] == 10
    assert amended[["status", "is_amended"]].iloc[1].tolist() == ["SUCCEEDED", False]
    before = tables.trials("tuning", as_of=exp.book.log.head - 1)
    assert before[columns].iloc[0].tolist() == [1, "SUCCEEDED", "base", False, 0.1, 0.5]
    counts = tables.experiments()[["succeeded", "failed"]].iloc[0].tolist()
    assert counts == [1, 1]


def test_notes_are_amended_by_version(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """notes() shows the last text and the first; versions that are no note, or of another stream, are refused."""
    for thing in (exp, trial):
        thing.note("fan was off")
        thing.note("second")
        first = thing.notes()[0]
        thing.amend_note(first.version, "fan was on", reason="seen later")
        thing.amend_note(first.version, "fan was loud", reason="heard")
        assert [(note.text, note.first_text) for note in thing.notes()] == [("fan was loud", "fan was off"), ("second", "second")]
        for version, words in ((1, "is an? .*Created, not a note"), (99, "does not exist"), (0, "does not exist")):
            with pytest.raises(ledger.CommandRefused, match=words):
                thing.amend_note(version, "x", reason="r")


# ------------------------------------------------------------------------------------------------ forced transitions


@pytest.mark.parametrize("target", list(Status))
def test_any_status_can_be_forced_with_a_reason(exp: ledger.Experiment, trial: ledger.Trial, target: Status) -> None:
    """From an end to anywhere: a new attempt, the reason on the record, times that fit the status."""
    trial.force_status(target, reason="repair", results={"loss": 7.0})
    state = trial.state
    assert (state.status, state.attempt, state.deadline) == (target, 2, None)
    assert state.results == {"loss": 7.0, "rows": 10}
    assert (state.ended_at is not None) is target.is_finished
    assert list(trial.history())[-1].reason == "repair"
    job = exp.claim()
    assert (job is not None) is (target is Status.PENDING)


def test_a_trial_held_by_force_is_deleted_as_held(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """A forced RUNNING trial has no lease; deleted and restored it is CANCELED like any other that was held."""
    trial.force_status("RUNNING", reason="import")
    trial.delete()
    trial.restore()
    assert trial.status is Status.CANCELED


def test_what_is_not_there_is_said_so(book: ledger.Ledger) -> None:
    """An experiment or trial that never was raises its own error, a LookupError too."""
    exp = book.experiment("e")
    for error, step in (
        (ledger.UnknownExperiment, lambda: book.get_experiment("x")),
        (ledger.UnknownExperiment, lambda: ledger.Experiment(book, ledger.new_uuid7()).delete()),
        (ledger.UnknownExperiment, lambda: ledger.Experiment(book, ledger.new_uuid7()).seal()),
        (ledger.UnknownTrial, lambda: exp.trial(7)),
        (ledger.UnknownTrial, lambda: ledger.Trial(exp, 7).delete()),
        (ledger.UnknownTrial, lambda: ledger.Trial(exp, 7).amend(label="x", reason="r")),
    ):
        with pytest.raises(error) as caught:
            step()  # type: ignore[no-untyped-call]
        assert isinstance(caught.value, LookupError)
    assert ledger.Trial(exp, 7).delete(ensure=False).events == ()
