"""What schedy's users had, under our names: one test for each row of its table of features (E: experiments, J: jobs).

E1 is every experiment here. E2 and E3 are about samplers, of which the queue has the part that queued jobs go first.
E10 cannot happen: an experiment is made by its ledger. J8's freedom is ``force_status``, with a reason.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import Status


@pytest.fixture
def exp(book: ledger.Ledger) -> ledger.Experiment:
    """An experiment on a fresh ledger."""
    return book.experiment("tuning", objectives={"loss": "min"})


def _types(trial: ledger.Trial) -> list[str]:
    return [record.type for record in trial.history()]


def test_an_experiment_is_done_or_runs(exp: ledger.Experiment) -> None:
    """E1: DONE is paused (claims give nothing, until resume) or sealed (read-only); RUNNING is neither."""
    exp.new_trial({"lr": 0.1})
    exp.pause("enough for today")
    assert (exp.is_paused, exp.claim()) == (True, None)
    exp.pause()  # it is so already
    exp.resume()
    assert [record.type for record in exp.history()] == ["ExperimentCreated", "ExperimentPaused", "ExperimentResumed"]
    assert not exp.is_paused
    exp.seal("published")
    with pytest.raises(ledger.ExperimentReadOnly):
        exp.claim()


def test_queued_trials_go_first(exp: ledger.Experiment) -> None:
    """E2: what somebody queued is claimed before anything is generated: a generator adds when claim gives None."""
    exp.new_trial({"lr": 1.0})
    seen = []
    for _ in range(3):
        job = exp.claim() or exp.new_trial({"lr": 0.5})
        seen.append(job.config["lr"])
        job.complete({"loss": 1.0})
    assert seen == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("status", "types"),
    [
        ("SUCCEEDED", ["TrialClaimed", "TrialStarted", "TrialCompleted"]),
        ("FAILED", ["TrialClaimed", "TrialStarted", "TrialFailed"]),
        ("PRUNED", ["TrialClaimed", "TrialStarted", "TrialPruned"]),
        ("TIMED_OUT", ["TrialClaimed", "TrialStarted", "TrialTimedOut"]),
        ("CANCELED", ["ResultsReported", "TrialCanceled"]),
        ("ABANDONED", ["ResultsReported", "TrialAbandoned"]),
        ("PENDING", ["ResultsReported"]),
    ],
)
def test_a_job_is_added_with_status_and_results(exp: ledger.Experiment, status: str, types: list[str]) -> None:
    """E4: in one atomic step, with the events that would have recorded it; it is not run again."""
    trial = exp.new_trial({"lr": 0.1}, status=status, results={"loss": 0.5})
    assert (trial.status, trial.results) == (status, {"loss": 0.5})
    assert _types(trial) == ["TrialCreated", *types]
    assert len({record.append_id for record in trial.history()}) == 1
    assert (exp.claim() is None) is (status != "PENDING")


def test_a_job_is_not_added_with_a_status_that_is_none(exp: ledger.Experiment) -> None:
    """E4: a bogus status, one that only a worker can give, and a result out of bounds are seen at the call."""
    for status in ("DONE", "RUNNING", "LOST"):
        with pytest.raises(ledger.InvalidValue, match=f"cannot be added as '{status}'"):
            exp.new_trial({}, status=status)
    assert list(exp.trials()) == []
    exp.set_objectives({"loss": ledger.Objective("min", 0, 1)})
    assert exp.new_trial({}, status="SUCCEEDED", results={"loss": 7}).status is Status.FAILED
    waiting = exp.new_trial({})
    with pytest.raises(ledger.CommandRefused, match=r"waits until .* \(PENDING\)"):
        exp.new_trial({}, status="SUCCEEDED", depends_on=[waiting])


def test_the_next_job_is_running_and_is_nobody_elses(exp: ledger.Experiment) -> None:
    """E5: claim gives a trial once, READY until it is started, and None (schedy: NoJobError) when nothing waits."""
    exp.new_trials({"n": n} for n in range(3))
    jobs = [exp.claim(worker=f"w{n}") for n in range(4)]
    assert [job.id for job in jobs if job] == [1, 2, 3]
    assert jobs[3] is None
    assert jobs[0] is not None
    with jobs[0].run():
        assert jobs[0].status is Status.RUNNING


def test_listed_jobs_are_read_as_one_goes_and_can_be_updated(exp: ledger.Experiment) -> None:
    """E6: trials() reads lazily, sees what is added meanwhile only as far as it has not been passed, and its items write."""
    exp.new_trials({"n": n} for n in range(3))
    listed = exp.trials()
    first = next(listed)
    first.tag("seen", expected_version=first.version)
    for trial in listed:
        trial.complete({"loss": trial.config["n"]}, expected_version=trial.version)
    assert [(trial.status, trial.state.tags) for trial in exp.trials()] == [
        ("PENDING", ("seen",)), ("SUCCEEDED", ()), ("SUCCEEDED", ()),
    ]  # fmt: skip


def test_a_job_is_found_by_its_number(exp: ledger.Experiment) -> None:
    """E7: trial(id) finds it; UnknownTrial names the last one there is."""
    exp.new_trial({"lr": 0.1})
    assert exp.trial(1).config == {"lr": 0.1}
    with pytest.raises(ledger.UnknownTrial, match="its last one is 1"):
        exp.trial(2)


def test_updates_of_an_experiment_know_of_each_other(exp: ledger.Experiment) -> None:
    """E8: with the version that one looked at, the second of two updates is refused, with both states; it can be rebased."""
    seen = exp.version
    exp.describe("first", expected_version=seen)
    with pytest.raises(ledger.WrongExpectedVersion) as caught:
        exp.describe("second", expected_version=seen)
    error = caught.value
    assert (error.expected_state.description, error.state.description) == ("", "first")
    exp.describe(f"{error.state.description} and second", expected_version=error.version)
    assert exp.description == "first and second"


def test_deletion_is_ensured_or_not(exp: ledger.Experiment) -> None:
    """E9 and J4: what is gone already is an error, or with ensure=False left as it is; a stale version is refused."""
    trial = exp.new_trial({})
    seen = trial.version
    trial.tag("kept")
    with pytest.raises(ledger.WrongExpectedVersion):
        trial.delete(expected_version=seen)
    for thing, error in ((trial, ledger.UnknownTrial), (exp, ledger.UnknownExperiment)):
        thing.delete("not needed")
        with pytest.raises(error, match="deleted already"):
            thing.delete()
        assert thing.delete(ensure=False).events == ()


def test_a_job_has_more_than_a_document(exp: ledger.Experiment) -> None:
    """J1: id, experiment, status, config, results and version; and worker, times, attempts, parents beside."""
    parent = exp.new_trial({"lr": 0.2})
    trial = exp.new_trial({"lr": 0.1}, parents=[parent], priority=9)
    job = exp.claim(worker="w1")
    assert job is not None
    job.start()
    job.complete({"loss": 0.4})
    state = trial.state
    assert (trial.id, trial.experiment.name, trial.version, trial.config, trial.results) == (
        2,
        "tuning",
        4,
        {"lr": 0.1},
        {"loss": 0.4},
    )
    assert (state.worker, state.attempt, state.parents) == ("w1", 1, (parent.stream,))
    assert state.created_at < (state.started_at or 0) < (state.ended_at or 0)


def test_a_stale_update_of_a_job_is_refused_and_loses_nothing(exp: ledger.Experiment) -> None:
    """J2: with expected_version; without, the update is recorded all the same, and history has both."""
    trial = exp.new_trial({})
    seen = trial.version
    exp.trial(1).set_attributes({"owner": "ada"})
    with pytest.raises(ledger.WrongExpectedVersion) as caught:
        trial.set_attributes({"owner": "bob"}, expected_version=seen)
    assert caught.value.state.attributes == {"": {"owner": "ada"}}
    trial.set_attributes({"owner": "bob"})
    assert [record.event.attributes["owner"] for record in trial.history() if record.type == "AttributesSet"] == ["ada", "bob"]


def test_of_two_who_try_to_run_a_job_one_does(exp: ledger.Experiment) -> None:
    """J3: start() claims this very trial; the second is told who holds it."""
    exp.new_trial({})
    exp.trial(1).start()
    with pytest.raises(ledger.InvalidTransition, match="It is held by"):
        exp.trial(1).start()


def test_a_block_ends_its_job(exp: ledger.Experiment) -> None:
    """J5: SUCCEEDED, or FAILED by any exception, with the results so far; what is set inside stays."""
    with exp.new_trial({}).run() as done:
        pass
    failed, pruned = exp.new_trial({}), exp.new_trial({})
    with pytest.raises(KeyboardInterrupt), failed.run():
        failed.report({"loss": 3.0})
        raise KeyboardInterrupt
    with pruned.run():
        pruned.prune({"loss": 9.0})
    assert [(t.status, t.results) for t in (done, failed, pruned)] == [
        ("SUCCEEDED", {}), ("FAILED", {"loss": 3.0}), ("PRUNED", {"loss": 9.0}),
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["lost", "canceled", "deleted"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_conflict_at_the_end_of_a_block_loses_nothing(exp: ledger.Experiment, how: str, fails: bool) -> None:
    """J5: LeaseLost, from the block's own exception if there was one; results and exception are kept as late evidence."""
    trial = exp.new_trial({})
    other = exp.trial(1)
    taken: dict[str, Any] = {"lost": lambda: exp.claim(worker="other"), "canceled": other.cancel, "deleted": other.delete}
    with pytest.raises(ledger.LeaseLost) as caught, trial.run(lease_seconds=0.05):
        trial.report({"partial": 1})
        trial.let_go()  # as if it had been stopped
        time.sleep(0.1)
        taken[how]()
        if fails:
            raise ValueError("mine")
        trial.complete({"loss": 2.0})
    late = [record.event for record in trial.history() if record.type == "LateResultReceived"]
    assert len(late) == 1
    if fails:
        assert isinstance(caught.value.__cause__, ValueError)
        assert (late[0].status, late[0].error.message) == ("FAILED", "mine")
    else:
        assert (late[0].status, late[0].results) == ("SUCCEEDED", {"loss": 2.0})
    assert [record.event.results for record in trial.history() if record.type == "ResultsReported"] == [{"partial": 1}]


def test_a_late_end_is_kept_before_a_version_is_looked_at(exp: ledger.Experiment) -> None:
    """J5: an end with an expected version, of an attempt that was lost, is late evidence all the same."""
    trial = exp.new_trial({})
    trial.start()
    seen = trial.version
    exp.trial(1).cancel()
    for write in (lambda: trial.report({"a": 1}, expected_version=seen), lambda: trial.complete({"b": 2}, expected_version=seen)):
        with pytest.raises(ledger.LeaseLost):
            write()
    assert [r.event.results for r in trial.history() if r.type == "LateResultReceived"] == [{"a": 1}, {"b": 2}]


def test_metrics_of_its_own_are_no_conflict(exp: ledger.Experiment) -> None:
    """J2: what this handle has buffered does not stand in the way of its end with an expected version."""
    trial = exp.new_trial({})
    trial.start()
    trial.log(step=1, loss=0.5)
    trial.complete({"loss": 0.5}, expected_version=trial.version)
    assert _types(trial)[-2:] == ["TrialCompleted", "MetricsLogged"]


def test_intermediate_results_are_events_of_their_own(exp: ledger.Experiment) -> None:
    """J6: report() records what is new, not the whole again."""
    with exp.new_trial({}).run() as trial:
        trial.report({"epoch_1": 0.5})
        trial.report({"epoch_2": 0.4})
    assert [r.event.results for r in trial.history() if r.type == "ResultsReported"] == [{"epoch_1": 0.5}, {"epoch_2": 0.4}]
    assert trial.results == {"epoch_1": 0.5, "epoch_2": 0.4}


def test_a_killed_workers_job_is_run_again(ledger_path: Path, script: Any) -> None:
    """J7: its lease runs out, the next claim records LOST and takes it as the next attempt."""
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        exp.new_trial({})
        worker = script(
            """
            import sys, time, ledger
            with ledger.open(sys.argv[1]) as book:
                with book.get_experiment("e").claim(worker="doomed", lease_seconds=0.3).run():
                    print("running")
                    time.sleep(60)
            """,
            ledger_path,
        )
        assert worker.line() == "running"
        worker.kill()
        worker.finish()
        job = exp.claim(worker="next", timeout=30)
        assert job is not None
        assert job.attempt == 2
        assert [r.event.worker for r in job.history() if r.type == "TrialLost"] == ["doomed"]
        job.complete()


def test_a_status_follows_rules_that_can_be_left_with_a_reason(exp: ledger.Experiment) -> None:
    """J8: what the status forbids is refused; force_status says why."""
    trial = exp.new_trial({})
    trial.complete()
    with pytest.raises(ledger.InvalidTransition):
        trial.fail()
    trial.force_status("FAILED", reason="the fan was off")
    assert (trial.status, list(trial.history())[-1].reason) == ("FAILED", "the fan was off")


def test_values_keep_their_types(exp: ledger.Experiment) -> None:
    """J9: NaN and infinities are values; numpy's scalars are taken as numbers, its arrays are refused with the cure."""
    trial = exp.new_trial({"nan": math.nan, "inf": math.inf})
    assert math.isnan(trial.config["nan"])
    numpy = pytest.importorskip("numpy")
    config = exp.trial(exp.new_trial({"x": numpy.float64(1.5), "n": numpy.int64(3)}).id).config
    assert (config, type(config["x"]), type(config["n"])) == ({"x": 1.5, "n": 3}, float, int)
    with pytest.raises(ledger.InvalidValue, match=r"Record value.tolist\(\)"):
        exp.new_trial({"x": numpy.array([1, 2])})
