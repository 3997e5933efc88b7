"""Tombstones and seals: what is deleted or closed takes nothing, and comes back as it was; on both backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

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


def _last(book: ledger.Ledger) -> ledger.Record:
    return next(book.log.read(after=book.log.head - 1))


# -------------------------------------------------------------------------------------------------- deleted trials


def test_a_deleted_trial_is_out_of_sight_and_comes_back(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """Handles, iteration and tables leave it out unless asked, history does not; restored, it is as it was."""
    before, tables = trial.state, projections.Tables(exp.book)
    other = exp.new_trial({"lr": 1.0})
    trial.delete("wrong machine")
    with pytest.raises(ledger.UnknownTrial, match=r"was deleted at .*deleted=True"):
        exp.trial(1)
    assert exp.trial(1, deleted=True).status is Status.SUCCEEDED
    assert [each.id for each in exp.trials()] == [other.id]
    assert [each.id for each in exp.trials(deleted=True)] == [1]
    assert tables.trials("tuning")["trial_id"].tolist() == [2]
    shown = tables.trials("tuning", deleted=True)
    assert shown["deleted_at"].notna().tolist() == [True, False]
    assert tables.configs("tuning")["config.lr"].tolist() == [1.0]
    assert tables.experiments()[["trials", "succeeded"]].iloc[0].tolist() == [1, 0]
    assert _last(exp.book).reason == "wrong machine"
    trial.restore("it was the right one")
    assert trial.state == before
    assert tables.trials("tuning")["trial_id"].tolist() == [1, 2]
    assert tables.configs("tuning")["config.lr"].tolist() == [0.1, 1.0]
    assert _types(trial)[-2:] == ["TrialDeleted", "TrialRestored"]


def test_a_second_deletion_is_refused_unless_it_need_not_be(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """With ensure (the default) it raises UnknownTrial with the time; without, nothing is recorded; likewise restoring."""
    with pytest.raises(ledger.CommandRefused, match="is not deleted"):
        trial.restore()
    trial.delete()
    head = exp.book.log.head
    with pytest.raises(ledger.UnknownTrial, match="was deleted already, at 20"):
        trial.delete()
    assert trial.delete(ensure=False).events == ()
    assert exp.book.log.head == head


def test_nothing_but_evidence_is_recorded_of_a_deleted_trial(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """Every handle method and every raw event raises UnknownTrial; metrics and telemetry are taken."""
    waiting = exp.new_trial({})
    trial.delete()
    waiting.delete()
    steps: list[Callable[[], object]] = [
        lambda: trial.note("x"), lambda: trial.tag("x"), lambda: trial.report({"x": 1}),
        lambda: trial.amend(label="x", reason="r"),
        lambda: trial.requeue(), lambda: trial.force_status("FAILED", reason="r"), lambda: trial.set_group("g"), waiting.start,
        lambda: trial.set_parents([]), lambda: trial.set_attributes({"a": 1}), lambda: trial.complete(), lambda: trial.cancel(),
        lambda: exp.book.log.append([ledger.NoteAdded("x")], stream=trial.stream),
    ]  # fmt: skip
    head = exp.book.log.head
    for step in steps:
        with pytest.raises(ledger.UnknownTrial, match="Restore it first"):
            step()
    assert exp.book.log.head == head
    trial.log_metrics({"loss": 1.0}, at=1)
    trial.log_telemetry({"cpu": 1.0}, at=1)
    trial.flush()
    trial.log_many({"loss": [1.0, 2.0]})
    assert _types(trial)[-3:] == ["MetricsLogged", "TelemetryLogged", "MetricsLogged"]


@pytest.mark.parametrize("method", ["complete", "fail", "prune", "time_out", "report"])
def test_a_worker_whose_trial_was_deleted_gets_lease_lost(exp: ledger.Experiment, method: str) -> None:
    """What it reports is kept as LateResultReceived, does not count, and the trial comes back as CANCELED."""
    exp.new_trial({"lr": 3.0})
    job = exp.claim()
    assert job is not None
    job.start()
    exp.trial(job.id).delete("not wanted")
    arguments = {"results": {"loss": 1.0}}
    with pytest.raises(ledger.LeaseLost):
        getattr(job, method)(**arguments)
    late = _last(exp.book).event
    assert isinstance(late, ledger.LateResultReceived)
    assert (late.results, late.attempt) == ({"loss": 1.0}, 1)
    with pytest.raises(ledger.LeaseLost):
        job.configure({"x": 1})
    job.restore()
    assert (job.status, job.results, job.state.deadline) == (Status.CANCELED, {}, None)
    job.requeue("go on")
    again = exp.claim()
    assert again is not None
    assert (again.id, again.attempt) == (job.id, 2)


@pytest.mark.parametrize("later", [0, 30])
def test_a_waiting_trial_is_not_claimed_while_deleted(exp: ledger.Experiment, clock: FakeClock, later: int) -> None:
    """Restored it waits again, also one whose time came meanwhile."""
    waiting = exp.new_trial({}, scheduled_at=clock() + later * 10**9 if later else None)
    waiting.delete()
    clock.advance(60)
    assert exp.claim() is None
    waiting.restore()
    job = exp.claim()
    assert job is not None
    assert job.id == waiting.id


def test_the_number_of_a_deleted_trial_is_not_given_again(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """Neither by counting on nor by asking for it."""
    trial.delete()
    assert exp.new_trial({}).id == 2
    with pytest.raises(ledger.TrialExists):
        exp.new_trial({}, number=1)


# --------------------------------------------------------------------------------------------- deleted experiments


def test_a_deleted_experiment_frees_its_name_and_comes_back_under_another(book: ledger.Ledger, exp: ledger.Experiment) -> None:
    """Its name is taken by a new one; restoring needs another name then, and everything of it is there again."""
    tables = projections.Tables(book)
    exp.delete("wrong machine")
    with pytest.raises(ledger.UnknownExperiment, match=r"One was deleted at .*--undo"):
        book.get_experiment("tuning")
    assert book.get_experiment("tuning", deleted=True).id == exp.id == book.get_experiment(exp.id, deleted=True).id
    second = book.experiment("tuning")
    assert second.id != exp.id
    with pytest.raises(ledger.ExperimentExists, match=rf"'tuning' is taken by experiment {second.id}"):
        exp.restore()
    assert [each.id for each in book.experiments()] == [second.id]
    assert [each.id for each in book.experiments(deleted=True)] == [exp.id]
    assert tables.experiments()["experiment_id"].tolist() == [str(second.id)]
    assert tables.experiments(deleted=True)["deleted_at"].notna().tolist() == [True, False]
    assert tables.trials(exp.id)["trial_id"].tolist() == [1]
    exp.restore("tuning (old)")
    assert (book.get_experiment("tuning (old)").id, book.get_experiment("tuning").id) == (exp.id, second.id)
    assert tables.trials("tuning (old)")["result.loss"].tolist() == [0.5]
    with pytest.raises(ledger.UnknownExperiment, match="deleted experiment 'tuning'"):
        book.get_experiment("tuning", deleted=True)


def test_the_last_deleted_of_a_name_is_found(book: ledger.Ledger, clock: FakeClock) -> None:
    """Of several deleted experiments of one name get_experiment gives the one deleted last."""
    first, second = book.experiment("a"), None
    first.rename("b")
    second = book.experiment("a")
    second.delete()
    clock.advance(1)
    first.rename("a")
    clock.advance(1)
    first.delete()
    assert book.get_experiment("a", deleted=True).id == first.id
    assert book.get_experiment(second.id, deleted=True).id == second.id


def test_a_restored_experiment_keeps_its_name_when_it_is_free(book: ledger.Ledger, exp: ledger.Experiment) -> None:
    """Without a name restore gives back the old one; what is not deleted cannot be restored, nor deleted twice."""
    with pytest.raises(ledger.CommandRefused, match="'tuning' is not deleted"):
        exp.restore()
    exp.delete()
    with pytest.raises(ledger.UnknownExperiment, match="'tuning' was deleted already, at 20"):
        exp.delete()
    assert exp.delete(ensure=False).events == ()
    exp.restore()
    assert book.get_experiment("tuning").id == exp.id
    for name in ("", " ", 5):
        exp.delete(ensure=False)
        with pytest.raises(ledger.InvalidValue):
            exp.restore(name)  # type: ignore[arg-type]


def test_nothing_but_evidence_is_recorded_of_a_deleted_experiment(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """Its handles and those of its trials raise UnknownExperiment, claims too; metrics are taken."""
    waiting = exp.new_trial({})
    exp.delete()
    head = exp.book.log.head
    steps: list[Callable[[], object]] = [
        lambda: exp.rename("x"), lambda: exp.note("x"), lambda: exp.new_trial({}), exp.claim, exp.seal, waiting.start,
        lambda: trial.note("x"), lambda: trial.amend(label="x", reason="r"), trial.delete, lambda: waiting.cancel(),
        lambda: exp.describe("x"), lambda: exp.set_objectives({}), lambda: exp.set_parents([]), lambda: exp.new_trials([{}]),
    ]  # fmt: skip
    for step in steps:
        with pytest.raises(ledger.UnknownExperiment, match=rf"'tuning' \({exp.id}\) was deleted at .* Restore it first"):
            step()
    assert exp.book.log.head == head
    waiting.log_metrics({"loss": 1.0})
    waiting.flush()
    assert _types(waiting)[-1] == "MetricsLogged"


def test_a_worker_whose_experiment_was_deleted_goes_on_when_it_is_restored_in_time(exp: ledger.Experiment) -> None:
    """While it is deleted, results are late evidence; the lease itself was not taken away."""
    exp.new_trial({})
    job = exp.claim()
    assert job is not None
    exp.delete()
    with pytest.raises(ledger.LeaseLost):
        job.report({"loss": 1.0})
    assert isinstance(_last(exp.book).event, ledger.LateResultReceived)
    exp.restore()
    job.complete({"loss": 2.0})
    assert (job.status, job.results) == (Status.SUCCEEDED, {"loss": 2.0})


# ------------------------------------------------------------------------------------------------------------ seals


def test_a_sealed_experiment_takes_nothing(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """Every command and every event of it and its trials raises ExperimentReadOnly, which names the event and the time."""
    waiting = exp.new_trial({})
    exp.seal("published")
    assert _last(exp.book).reason == "published"
    steps: dict[str, Callable[[], object]] = {
        "TrialClaimed": exp.claim, "ExperimentRenamed": lambda: exp.rename("x"), "ExperimentSealed": exp.seal,
        "ExperimentDeleted": exp.delete, "TrialDeleted": trial.delete, "NoteAdded": lambda: trial.note("x"),
        "TrialAmended": lambda: trial.amend(label="x", reason="r"), "ResultsReported": lambda: trial.report({"x": 1}),
        "TrialCreated": lambda: exp.new_trial({}), "TrialCanceled": waiting.cancel, "StatusForced":
        lambda: waiting.force_status("FAILED", reason="r"), "TrialConfigured": lambda: waiting.configure({"x": 1}),
        "TrialAssigned": lambda: waiting.assign("w"), "ExperimentPaused": exp.pause, "ExperimentResumed": exp.resume,
        "TrialGrouped": lambda: trial.set_group("g"), "TagsChanged": lambda: exp.tag("x"), "ParentsSet":
        lambda: exp.set_parents([]), "AttributesSet": lambda: exp.set_attributes({"x": 1}), "ObjectivesChanged":
        lambda: exp.set_objectives({"x": "min"}), "ExperimentDescribed": lambda: exp.describe("x"), "TrialRequeued":
        lambda: exp.book.log.append([ledger.TrialRequeued()], stream=trial.stream), "MetricsLogged":
        lambda: trial.log_many({"loss": [1.0]}), "EnvironmentCaptured": lambda: trial.capture_environment({"x": 1}),
        "TrialCaptured": trial.capture,
        "LateResultReceived": lambda: exp.book.log.append([ledger.LateResultReceived(1, "FAILED")], stream=trial.stream),
    }  # fmt: skip
    head = exp.book.log.head
    for name, step in steps.items():
        with pytest.raises(ledger.ExperimentReadOnly, match=rf"'tuning' was sealed at 20.*Z; {name} is not allowed\. Unseal it"):
            step()
    with pytest.raises(ledger.ExperimentReadOnly):
        exp.book.experiment("tuning", description="other")
    assert exp.book.log.head == head
    assert exp.book.experiment("tuning").id == exp.id  # resuming it as it is changes nothing
    assert projections.Tables(exp.book).experiments()["is_sealed"].tolist() == [True]


def test_an_unsealed_experiment_goes_on(exp: ledger.Experiment) -> None:
    """With a reason, which is on the record; what is not sealed cannot be unsealed; sealing again works."""
    with pytest.raises(ledger.CommandRefused, match="is not sealed"):
        exp.unseal("nothing to open")
    exp.seal()
    exp.unseal("a late result")
    assert _last(exp.book).reason == "a late result"
    exp.new_trial({}).complete()
    exp.seal()
    assert [kind for kind in _types(exp) if "seal" in kind.lower()] == [
        "ExperimentSealed",
        "ExperimentUnsealed",
        "ExperimentSealed",
    ]
    assert exp.state.sealed_at is not None


@pytest.mark.parametrize("started", [False, True])
def test_nothing_is_sealed_over_a_worker(exp: ledger.Experiment, started: bool) -> None:
    """A claimed or running trial keeps its experiment open, and the refusal names the trial and the worker."""
    waiting = exp.new_trial({})
    exp.new_trial({})
    job = exp.claim(worker="w7")
    assert job is not None
    if started:
        job.start()
    with pytest.raises(ledger.CommandRefused, match=rf"trial {waiting.id} is {'RUNNING' if started else 'READY'} \(by w7\)"):
        exp.seal()
    job.release()
    exp.seal()
    assert exp.state.sealed_at is not None


def test_metrics_are_refused_at_the_call_when_sealed(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """What was logged before the seal is recorded by it; after it, logging raises and nothing is left to be flushed."""
    trial.log(step=1, loss=0.5)
    exp.seal()
    assert "MetricsLogged" in [record.type for record in trial.history()]
    with pytest.raises(ledger.ExperimentReadOnly):
        trial.log(step=2, loss=0.4)
    with pytest.raises(ledger.ExperimentReadOnly):
        trial.log_telemetry({"cpu": 97.0})
    trial.flush()


def test_a_seal_holds_through_redaction_and_restart(exp: ledger.Experiment, trial: ledger.Trial) -> None:
    """A redaction is taken by a sealed experiment, which stays sealed with everything else of it."""
    exp.seal()
    before = exp.state
    exp.book.redact(2, reason="leaked key")
    assert exp.state == before
    assert trial.state.config == {}
    with pytest.raises(ledger.ExperimentReadOnly):
        trial.note("x")
