"""Trials: what running, ending, losing and describing one records."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable
from decimal import Decimal

import pytest

import ledger
from ledger import Status
from ledger.backends.appendindex import AppendIndex
from ledger.backends.lmdb import LmdbBackend


def _types(trial: ledger.Trial) -> list[str]:
    return [record.type for record in trial.history()]


@pytest.fixture
def exp(book: ledger.Ledger) -> ledger.Experiment:
    """An experiment on a fresh ledger."""
    return book.experiment("tuning", objectives={"loss": "min"})


def test_a_run_that_returns_succeeds(exp: ledger.Experiment) -> None:
    """Without complete() a block that ends well is SUCCEEDED, with no results."""
    with exp.new_trial({"lr": 0.1}).run() as trial:
        assert trial.status is Status.RUNNING
    assert (trial.status, trial.results) == (Status.SUCCEEDED, {})
    assert _types(trial) == ["TrialCreated", "TrialClaimed", "TrialStarted", "TrialCompleted"]


@pytest.mark.parametrize("error", [ValueError("bad batch"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_is_recorded_with_its_traceback_and_goes_on(exp: ledger.Experiment, error: BaseException) -> None:
    """FAILED with type, message and traceback, for interrupts and exits too; the same exception is raised."""
    trial = exp.new_trial({})
    with pytest.raises(type(error)) as caught, trial.run():
        raise error
    assert caught.value is error
    state = trial.state
    assert state.status is Status.FAILED
    assert state.error is not None
    assert (state.error.type, state.error.message) == (type(error).__name__, str(error))
    assert "test_trial.py" in state.error.traceback


def test_an_exception_that_is_no_text_is_recorded_all_the_same(exp: ledger.Experiment) -> None:
    """A message with bytes that were not UTF-8, and an endless one, do not keep a failure from being recorded."""
    for message in ("file \udcff.txt", "x" * 2_000_000):
        trial = exp.new_trial({})
        with pytest.raises(OSError, match=r"file|x"), trial.run():
            raise OSError(message)
        assert trial.status is Status.FAILED


@pytest.mark.parametrize("status", ["PRUNED", "FAILED", "CANCELED", "TIMED_OUT", "PENDING", "ABANDONED"])
def test_an_end_set_inside_the_block_stays(exp: ledger.Experiment, status: str) -> None:
    """What the handle sets inside run() is not overwritten at its end, not even by an exception."""
    ends: dict[str, Callable[[ledger.Trial], None]] = {
        "PRUNED": lambda trial: trial.prune({"loss": 9.0}),
        "FAILED": lambda trial: trial.fail("diverged"),
        "CANCELED": lambda trial: trial.cancel("not needed"),
        "TIMED_OUT": lambda trial: trial.time_out(),
        "PENDING": lambda trial: trial.release("later"),
        "ABANDONED": lambda trial: trial.force_status("ABANDONED", reason="moot"),
    }
    quiet, loud = exp.new_trial({}), exp.new_trial({})
    with quiet.run():
        ends[status](quiet)
    with pytest.raises(RuntimeError, match="stop"), loud.run():
        ends[status](loud)
        raise RuntimeError("stop")
    assert quiet.status == loud.status == status


def test_what_the_status_forbids_is_refused_by_name(exp: ledger.Experiment) -> None:
    """The error names the trial, its status and what is allowed; nothing is recorded."""
    trial = exp.new_trial({})
    trial.complete({"loss": 1.0})
    version = trial.version
    for forbidden in (trial.complete, trial.fail, trial.cancel, trial.requeue, lambda: trial.run().__enter__()):
        with pytest.raises(ledger.InvalidTransition, match=f"{trial.stream} is SUCCEEDED") as caught:
            forbidden()
        assert caught.value.status == "SUCCEEDED"
    assert trial.version == version
    running = exp.new_trial({})
    with running.run(), pytest.raises(ledger.InvalidTransition, match=r"allowed: .*TrialCompleted"):
        exp.trial(running.id).start()


def test_a_trial_nobody_claimed_can_be_completed_at_once(exp: ledger.Experiment) -> None:
    """A finished measurement is recorded in one step: claimed, started, completed."""
    trial = exp.new_trial({"a": 1})
    trial.complete({"loss": 0.5})
    assert _types(trial) == ["TrialCreated", "TrialClaimed", "TrialStarted", "TrialCompleted"]
    assert len({record.append_id for record in list(trial.history())[1:]}) == 1


def test_values_keep_their_types(exp: ledger.Experiment) -> None:
    """Configs and results come back equal and of the same type."""
    values = {
        "int": 2**100,
        "tuple": (1, (2,)),
        "decimal": Decimal("0.10"),
        "none": None,
        "inf": math.inf,
        "nested": [{"a": b"x"}],
    }
    trial = exp.new_trial(values)
    trial.complete(values)
    again = exp.trial(trial.id)
    assert again.config == again.results == values
    assert type(again.config["tuple"]) is tuple


@pytest.mark.parametrize(
    "config", [{"a": {1, 2}}, {"a": object()}, {"a": Status.LOST}, {1: "a"}, {"a": "\ud800"}, [1], {"\udcff": 1}]
)
def test_a_config_that_cannot_be_recorded_is_refused(exp: ledger.Experiment, config: object) -> None:
    """The error is an InvalidValue at the call, and no trial is made."""
    with pytest.raises(ledger.InvalidValue):
        exp.new_trial(config)  # type: ignore[arg-type]
    assert list(exp.trials()) == []


def test_a_config_too_large_for_a_record_is_refused(exp: ledger.Experiment) -> None:
    """Half a megabyte is the limit, and the error says where to put more."""
    with pytest.raises(ledger.RecordTooLarge, match="artifact"):
        exp.new_trial({"blob": "x" * 600_000})
    assert list(exp.trials()) == []


def test_errors_have_the_article_that_their_noun_has(exp: ledger.Experiment) -> None:
    """Of types of values and of events."""
    with pytest.raises(ledger.InvalidValue, match="is an object, which"):
        exp.set_attributes({"a": object()})
    with pytest.raises(ledger.InvalidValue, match="is a set, which"):
        exp.set_attributes({"a": {1}})
    with pytest.raises(ledger.RecordTooLarge, match="an AttributesSet event takes"):
        exp.set_attributes({"a": "x" * 600_000})


def test_numbers_are_dense_unless_given(exp: ledger.Experiment) -> None:
    """Trials count from 1; a caller may bring numbers from 0 with gaps, and a number taken is refused."""
    assert [exp.new_trial({}).id, exp.new_trial({}, number=0).id, exp.new_trial({}, number=10).id, exp.new_trial({}).id] == [
        1,
        0,
        10,
        11,
    ]
    with pytest.raises(ledger.TrialExists, match="/10 exists"):
        exp.new_trial({}, number=10)
    with pytest.raises(ledger.UnknownTrial, match="last one is 11"):
        exp.trial(99)
    assert [trial.id for trial in exp.trials()] == [1, 0, 10, 11]


def test_claims_go_by_priority_then_age(exp: ledger.Experiment) -> None:
    """Higher priority first, then the older; None when nothing waits."""
    for priority in (0, 5, -1, 5):
        exp.new_trial({"p": priority}, priority=priority)
    order = []
    while job := exp.claim(worker="w"):
        order.append(job.id)
        job.complete()
    assert order == [2, 4, 1, 3]


def test_a_lease_is_renewed_in_the_background(exp: ledger.Experiment) -> None:
    """A short lease outlives many of its lengths while the handle lives; the renewals are hidden from history."""
    exp.new_trial({})
    job = exp.claim(worker="w", lease_seconds=1.5)
    assert job is not None
    deadline = time.monotonic() + 20
    while sum(r.type == "LeaseRenewed" for r in job.history(renewals=True)) < 4:
        assert time.monotonic() < deadline
        assert exp.claim(worker="thief") is None
        time.sleep(0.05)
    job.complete({"loss": 1.0})
    assert _types(job) == ["TrialCreated", "TrialClaimed", "TrialStarted", "TrialCompleted"]


def test_a_worker_that_stops_renewing_loses_its_trial(exp: ledger.Experiment) -> None:
    """The next claimer records LOST, waits again, and gets it; the late results are kept but do not count."""
    exp.new_trial({})
    slow = exp.claim(worker="slow", lease_seconds=0.05)
    assert slow is not None
    slow.let_go()
    time.sleep(0.1)
    fast = exp.claim(worker="fast")
    assert fast is not None
    assert fast.id == slow.id
    with pytest.raises(ledger.LeaseLost, match=r"attempt 1 of .* attempt 2, last claimed by fast"):
        slow.complete({"loss": 666.0})
    fast.complete({"loss": 1.0})
    assert exp.trial(1).results == {"loss": 1.0}
    assert _types(fast) == [
        "TrialCreated", "TrialClaimed", "TrialLost", "TrialRequeued", "TrialClaimed", "LateResultReceived", "TrialStarted",
        "TrialCompleted",
    ]  # fmt: skip
    late = next(record for record in fast.history() if record.type == "LateResultReceived")
    assert (late.event.results, late.event.attempt) == ({"loss": 666.0}, 1)


def test_a_worker_that_is_late_and_not_yet_replaced_still_counts(exp: ledger.Experiment) -> None:
    """An expired lease that nobody took over is no reason to throw work away."""
    exp.new_trial({})
    job = exp.claim(lease_seconds=0.02)
    assert job is not None
    job.let_go()
    time.sleep(0.05)
    job.complete({"loss": 1.0})
    assert job.status is Status.SUCCEEDED


def test_a_trial_lost_too_often_stays_lost(exp: ledger.Experiment) -> None:
    """max_attempts bounds how often a trial that kills its workers is tried."""
    exp.new_trial({}, max_attempts=2)
    for _ in range(2):
        job = exp.claim(lease_seconds=0.02)
        assert job is not None
        job.let_go()
        time.sleep(0.05)
    assert exp.claim() is None
    assert exp.trial(1).status is Status.LOST
    exp.trial(1).requeue("the driver was updated")
    assert exp.claim() is not None


def test_a_run_called_off_by_somebody_else_raises_lease_lost(exp: ledger.Experiment) -> None:
    """The worker learns at the end of its block at the latest, and what it has is kept as late evidence."""
    trial = exp.new_trial({})
    with pytest.raises(ledger.LeaseLost, match="CANCELED"), trial.run():
        exp.trial(trial.id).cancel("budget")
    assert _types(trial)[-2:] == ["TrialCanceled", "LateResultReceived"]


def test_a_requeued_trial_can_be_run_again_by_its_handle(exp: ledger.Experiment) -> None:
    """Each run is an attempt of its own."""
    trial = exp.new_trial({})
    trial.fail("first")
    trial.requeue("the cable was loose")
    with trial.run():
        trial.complete({"loss": 1.0})
    assert (trial.status, trial.state.attempt) == (Status.SUCCEEDED, 2)


def test_the_heartbeat_tells_of_a_lost_lease(exp: ledger.Experiment) -> None:
    """A worker whose trial is called off hears of it by is_lost, and by LeaseLost from log()."""
    exp.new_trial({})
    job = exp.claim(lease_seconds=0.3)
    assert job is not None
    exp.trial(1).cancel("budget")
    deadline = time.monotonic() + 20
    while not job.is_lost:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(ledger.LeaseLost, match="CANCELED"):
        job.log(step=1, loss=1.0)


def test_a_released_trial_goes_to_the_next(exp: ledger.Experiment) -> None:
    """release() hands the trial back, and its handle can no longer end it."""
    exp.new_trial({})
    first = exp.claim(worker="a")
    assert first is not None
    first.release("shutting down")
    second = exp.claim(worker="b")
    assert second is not None
    assert second.id == first.id
    with pytest.raises(ledger.LeaseLost):
        first.complete()
    assert [r.reason for r in second.history() if r.type == "TrialReleased"] == ["shutting down"]


def test_a_conflict_at_the_end_of_a_run_chains_the_exception(exp: ledger.Experiment) -> None:
    """When the trial was taken away and the block fails too, both are told: LeaseLost, from the exception."""
    exp.new_trial({})
    trial = exp.trial(1)
    with pytest.raises(ledger.LeaseLost) as caught, trial.run(lease_seconds=0.05):
        trial.let_go()
        time.sleep(0.1)
        assert exp.claim(worker="other") is not None
        raise ValueError("mine")
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_forced_status_needs_a_reason(exp: ledger.Experiment) -> None:
    """The rules can be left, in the open."""
    trial = exp.new_trial({})
    with pytest.raises(ledger.CommandRefused, match="reason"):
        trial.force_status("SUCCEEDED", reason="")
    with pytest.raises(ledger.InvalidValue, match="no trial status"):
        trial.force_status("DONE", reason="import")
    trial.force_status("SUCCEEDED", reason="imported", results={"loss": 2.0})
    assert (trial.status, trial.results) == (Status.SUCCEEDED, {"loss": 2.0})
    assert list(trial.history())[-1].reason == "imported"


def test_a_config_can_be_completed_parameter_by_parameter(exp: ledger.Experiment) -> None:
    """Define-by-run: each parameter is set once, while the trial runs."""
    with exp.new_trial({"layers": 2}).run() as trial:
        trial.configure({"units": 64})
        assert trial.config == {"layers": 2, "units": 64}
        with pytest.raises(ledger.InvalidValue, match="'units' = 64 already"):
            trial.configure({"units": 128})


def test_notes_tags_attributes_and_environments_are_events(exp: ledger.Experiment) -> None:
    """They can be added to experiments and trials at any time, and show in the state."""
    trial = exp.new_trial({})
    trial.complete()
    for thing in (exp, trial):
        thing.note("fan was off")
        thing.tag("b", "a")
        thing.untag("b")
        thing.set_attributes({"sampler": "tpe", "gone": 1}, namespace="optuna")
        thing.set_attributes({"gone": None}, namespace="optuna")
        thing.capture_environment({"python": "3.13"})
        assert thing.state.tags == ("a",)
        assert thing.state.attributes == {"optuna": {"sampler": "tpe"}}
    assert trial.status is Status.SUCCEEDED


def test_results_reported_later_are_merged(exp: ledger.Experiment) -> None:
    """Results may come in parts, before and after the end."""
    with exp.new_trial({}).run() as trial:
        trial.report({"loss": 2.0, "rows": 10})
        trial.complete({"loss": 1.0})
    trial.report({"review": "ok"})
    assert trial.results == {"loss": 1.0, "rows": 10, "review": "ok"}


def test_metrics_are_in_order_and_exact(exp: ledger.Experiment) -> None:
    """Every point logged is there after the run: names, steps, times, values, with their types."""
    with exp.new_trial({}).run() as trial:
        for step in range(1000):
            trial.log(step=step, loss=1 / (step + 1), rows=step)
        trial.log_metrics({"note": "warm", "ok": True, "lr/base": 0.1}, at=123)
        trial.log_telemetry({"cpu": 97.5})
    metrics = [point for r in trial.history() if r.type == "MetricsLogged" for point in ledger.point_rows(r.event)]
    assert [(s, v) for name, s, _, v in metrics if name == "loss"] == [(i, 1 / (i + 1)) for i in range(1000)]
    assert [(s, v) for name, s, _, v in metrics if name == "rows"] == [(i, i) for i in range(1000)]
    assert [(n, s, t, v) for n, s, t, v in metrics if t == 123] == [
        ("note", None, 123, "warm"),
        ("ok", None, 123, True),
        ("lr/base", None, 123, 0.1),
    ]
    times = [t for name, _, t, _ in metrics if name == "loss"]
    assert times == sorted(times)
    assert abs(times[0] - time.time_ns()) < 60e9
    assert sum(r.type == "MetricsLogged" for r in trial.history()) <= 20
    assert sum(r.type == "TelemetryLogged" for r in trial.history()) == 1


def test_metrics_are_flushed_within_a_second_and_by_flush(exp: ledger.Experiment) -> None:
    """A point is on disk about a second after it was logged, or when flush() returns."""
    with exp.new_trial({}).run() as trial:
        trial.log(step=1, loss=1.0)
        trial.flush()
        assert _types(trial)[-1] == "MetricsLogged"
        trial.log(step=2, loss=0.5)
        begun = time.monotonic()
        while _types(trial).count("MetricsLogged") < 2:
            assert time.monotonic() - begun < 20
            time.sleep(0.05)


def test_only_what_was_submitted_before_is_looked_for(exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch's first try costs no search of the log; the second, after an outcome that is unknown, is recorded once."""
    searched: list[bytes] = []
    find = AppendIndex.find
    monkeypatch.setattr(AppendIndex, "find", lambda self, append_id: (searched.append(append_id), find(self, append_id))[1])
    trial = exp.new_trial({})
    trial.log(step=1, loss=1.0)
    trial.flush()
    assert searched == []
    commit = LmdbBackend.commit

    def fail(self: LmdbBackend, group: list) -> list:
        commit(self, group)
        raise ledger.CommitFailed("the outcome is unknown.", None)

    trial.log(step=2, loss=0.5)
    monkeypatch.setattr(LmdbBackend, "commit", fail)
    with pytest.raises(ledger.CommitFailed):
        trial.flush()
    monkeypatch.setattr(LmdbBackend, "commit", commit)
    trial.flush()
    assert len(searched) == 1
    assert _types(trial).count("MetricsLogged") == 2


def test_metrics_survive_an_exception_and_an_exit(ledger_path: object, script: Callable) -> None:
    """What was logged before an exception, and before a process that closes nothing exits, is recorded."""
    script(
        """
        import sys, ledger
        book = ledger.open(sys.argv[1])
        trial = book.experiment("e").new_trial({})
        trial.start()
        trial.log(step=1, loss=1.0)
        """,
        ledger_path,
    ).finish()
    with ledger.open(ledger_path) as book:  # type: ignore[arg-type]
        exp = book.get_experiment("e")
        assert _types(exp.trial(1))[-1] == "MetricsLogged"
        with pytest.raises(ValueError, match="x"), exp.new_trial({}).run() as trial:
            trial.log(step=1, loss=1.0)
            raise ValueError("x")
        assert _types(trial)[-2:] == ["MetricsLogged", "TrialFailed"]


def test_numpy_scalars_are_numbers(exp: ledger.Experiment) -> None:
    """numpy scalars in configs, results and metrics become the Python number of the same value."""
    np = pytest.importorskip("numpy")
    with exp.new_trial({"lr": np.float64(0.1), "n": np.int32(3), "on": np.bool_(True)}).run() as trial:
        trial.log(step=np.int64(1), loss=np.float32(0.5))
        trial.complete({"loss": np.float64(0.25)})
    state = trial.state
    assert (state.config, state.results) == ({"lr": 0.1, "n": 3, "on": True}, {"loss": 0.25})
    assert type(state.config["n"]) is int
    with pytest.raises(ledger.InvalidValue, match="tolist"):
        exp.new_trial({"w": np.zeros(3)})


def test_a_metric_that_is_no_scalar_is_refused(exp: ledger.Experiment) -> None:
    """Lists and texts as steps are refused at the call, and the points before are kept."""
    with exp.new_trial({}).run() as trial:
        trial.log(step=1, loss=1.0)
        with pytest.raises(ledger.InvalidValue, match="'loss' is a list"):
            trial.log(step=2, loss=[1.0])
        with pytest.raises(ledger.InvalidValue, match="step"):
            trial.log(step="two", loss=1.0)  # type: ignore[arg-type]
    assert sum(len(ledger.point_rows(r.event)) for r in trial.history() if r.type == "MetricsLogged") == 1


def test_many_threads_log_to_one_trial(exp: ledger.Experiment) -> None:
    """No point is lost or repeated when threads share a handle."""
    with exp.new_trial({}).run() as trial:
        threads = [
            threading.Thread(target=lambda name=name: [trial.log_metrics({name: i}, step=i) for i in range(500)])  # type: ignore[misc]
            for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    points = [p for r in trial.history() if r.type == "MetricsLogged" for p in ledger.point_rows(r.event)]
    for name in "abcd":
        assert sorted(v for n, _, _, v in points if n == name) == list(range(500))


def test_resuming_an_experiment_reports_what_changed(book: ledger.Ledger) -> None:
    """Other objectives or another description on resume are events, and a warning; leaving them out changes nothing."""
    first = book.experiment("e", objectives={"loss": "min"}, description="one")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert book.experiment("e").id == first.id
        assert book.experiment("e", objectives={"loss": "min"}, description="one").changes == ()
    with pytest.warns(ledger.ExperimentChanged, match="ObjectivesChanged, ExperimentDescribed"):
        again = book.experiment("e", objectives={"loss": "max"}, description="two")
    assert again.id == first.id
    assert (first.objectives, first.description) == ({"loss": "max"}, "two")
    assert [r.type for r in first.history()] == ["ExperimentCreated", "ObjectivesChanged", "ExperimentDescribed"]


def test_names_are_unique_among_the_living_and_can_change(book: ledger.Ledger) -> None:
    """A renamed experiment keeps its id and its trials; its old name is free."""
    first, second = book.experiment("a"), book.experiment("b 🚀 '\"\n" + "x" * 2000)
    first.new_trial({})
    with pytest.raises(ledger.ExperimentExists, match="taken"):
        second.rename("a")
    first.rename("c")
    assert book.get_experiment("c").id == first.id == book.get_experiment(str(first.id)).id
    assert book.experiment("a").id != first.id
    with pytest.raises(ledger.UnknownExperiment, match="Did you mean 'c'"):
        book.get_experiment("C")
    assert next(e.name for e in book.experiments()) == "c"


@pytest.mark.parametrize("name", ["", "  ", None, 5, "\ud800"])
def test_a_name_that_is_no_text_is_refused(book: ledger.Ledger, name: object) -> None:
    """An experiment is named by a text that is not empty."""
    with pytest.raises(ledger.InvalidValue):
        book.experiment(name)  # type: ignore[arg-type]
    assert book.log.head == 0


@pytest.mark.parametrize("lease", [0, -1, math.nan, math.inf, "60", True, 1e12])
def test_a_lease_that_is_none_is_refused(exp: ledger.Experiment, lease: object) -> None:
    """lease_seconds is a positive number of seconds."""
    exp.new_trial({})
    with pytest.raises(ledger.InvalidValue, match="lease_seconds"):
        exp.claim(lease_seconds=lease)  # type: ignore[arg-type]


def test_who_and_why_are_on_every_record(ledger_path: object) -> None:
    """The actor is user@host/process by default, the worker's name is added, and a caller may set both."""
    with ledger.open(ledger_path, actor="nightly") as book:  # type: ignore[arg-type]
        exp = book.experiment("e")
        exp.new_trial({}, reason="baseline")
        job = exp.claim(worker="w1")
        assert job is not None
        job.complete()
        book.log.append([ledger.NoteAdded("x")], stream="s", actor="alice", reason="why", correlation_id="c", causation_id="d")
        created, waiting, claimed, _, completed, note = book.log.read()
    assert (created.actor, waiting.reason) == ("nightly", "baseline")
    assert claimed.actor == completed.actor
    assert claimed.actor.endswith("/w1")
    assert (note.actor, note.reason, note.correlation_id, note.causation_id) == ("alice", "why", "c", "d")


def test_lab_events_cannot_be_appended_past_the_rules(book: ledger.Ledger) -> None:
    """A raw append to a trial's stream is checked like a command; reserved names and wrong streams are refused."""
    trial = book.experiment("e").new_trial({})
    head = book.log.head
    with pytest.raises(ledger.InvalidTransition):
        book.log.append([ledger.TrialCompleted({}, attempt=1)], stream=trial.stream)
    with pytest.raises(ledger.InvalidValue, match="belongs in the stream"):
        book.log.append([ledger.TrialCompleted({})], stream="mine")
    with pytest.raises(ledger.InvalidValue, match="not well-formed"):
        book.log.append([ledger.NoteAdded("x")], stream="trial/42")
    with pytest.raises(ledger.UnknownExperiment):
        book.log.append([ledger.TrialCreated({})], stream=f"trial/{ledger.new_uuid7().hex}/1")
    assert book.log.head == head


def test_a_trial_can_be_claimed_as_it_is_created(exp: ledger.Experiment) -> None:
    """In one step, so that no other worker is handed it; the handle renews its lease, and runs it."""
    trial = exp.new_trial({"lr": 0.1}, lease_seconds=0.3)
    assert trial.status is Status.READY
    assert len({record.append_id for record in trial.history()}) == 1
    time.sleep(0.6)
    assert exp.claim(worker="other") is None
    with trial.run():
        trial.complete({"loss": 0.5})
    assert (trial.status, trial.state.attempt) == (Status.SUCCEEDED, 1)
    assert exp.new_trial({}, lease_seconds=60, worker="w1").state.worker == "w1"


def test_a_trial_that_waits_for_others_cannot_be_claimed_as_it_is_created(exp: ledger.Experiment) -> None:
    """Nor one that has ended; then none is created."""
    first = exp.new_trial({})
    with pytest.raises(ledger.CommandRefused, match="waits until"):
        exp.new_trial({}, depends_on=[first], lease_seconds=60)
    with pytest.raises(ledger.InvalidValue, match="leave lease_seconds out"):
        exp.new_trial({}, status="SUCCEEDED", lease_seconds=60)
    with pytest.raises(ledger.InvalidValue, match="lease_seconds is -1"):
        exp.new_trial({}, lease_seconds=-1)
    assert [trial.id for trial in exp.trials()] == [1]
