"""What mlos_bench's schedulers do with an experiment: add trials, run them, load what became of them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from mlos_bench.environments.status import Status
from mlos_bench.tunables.tunable_groups import TunableGroups

import ledger
import projections
from ledger.integrations.mlos import LedgerStorage
from tests.integrations.mlos.conftest import experiment_of, now, utc

DEFAULTS = {"idle": "halt", "latency_ns": "2000000", "ratio": "0.25"}


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/Chicago"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have this machine in another time zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_a_new_experiment_has_nothing_to_load_and_nothing_pending(experiment: Any) -> None:
    """All of it is empty."""
    assert experiment.load() == ([], [], [], [])
    assert list(experiment.pending_trials(now(), running=True)) == []
    assert experiment.load_telemetry(1) == []
    assert experiment.load_tunable_config(1) == {}


def test_an_experiment_is_not_there_before_its_block(storage: LedgerStorage, tunables: Any) -> None:
    """Making the object records nothing, and what needs the experiment says so."""
    experiment = experiment_of(storage, tunables)
    assert storage.experiments == {}
    with pytest.raises(ledger.UnknownExperiment, match="enter its `with` block first"):
        experiment.load()


def test_exceptions_pass_through_the_block(storage: LedgerStorage, tunables: Any) -> None:
    """The block hides nothing, and can be entered again after it, but not inside of it."""
    experiment = experiment_of(storage, tunables)
    with pytest.raises(KeyError, match="lost"), experiment:
        raise KeyError("lost")
    with experiment:
        assert experiment._in_context
        with pytest.raises(AssertionError):
            experiment.__enter__()
    assert not experiment._in_context


def test_a_trial_waits_with_its_tunables_and_parameters(experiment: Any, tunables: Any) -> None:
    """It is handed out with equal tunables, and with its parameters as texts."""
    trial = experiment.new_trial(tunables, config={"location": "westus2", "num_repeats": 100})
    assert trial.config() == {"location": "westus2", "num_repeats": 100, "experiment_id": "Test-001", "trial_id": 1}
    (pending,) = experiment.pending_trials(now(), running=True)
    assert (pending.trial_id, pending.tunables) == (trial.trial_id, tunables)
    assert pending.config() == {"location": "westus2", "num_repeats": "100", "experiment_id": "Test-001", "trial_id": 1}
    assert pending.config({"location": "here", "x": 1})["x"] == 1


def test_parameters_that_are_no_json_are_refused(experiment: Any, tunables: Any) -> None:
    """A function among them, be it deep inside, leaves no trial behind."""
    for config in ({"f": len}, {"deep": {"f": len}}):
        with pytest.raises(ValueError, match=r"(?i)unsupported|type"):
            experiment.new_trial(tunables, config=config)
    assert list(experiment.pending_trials(now(), running=True)) == []


def test_equal_configs_have_one_number(experiment: Any, tunables: Any) -> None:
    """Whatever the object, equal values have one number, from 1 on in order of first appearance."""
    first, second = tunables.copy().assign({"idle": "mwait"}), tunables.copy().assign({"idle": "noidle"})
    trials = [experiment.new_trial(each) for each in (first, first, first.copy(), second, second.copy())]
    assert [trial.tunable_config_id for trial in trials] == [1, 1, 1, 2, 2]
    assert repr(trials[3]) == "Test-001:4:2"
    assert [each.tunable_config_id for each in experiment.pending_trials(now(), running=True)] == [1, 1, 1, 2, 2]
    assert experiment.load_tunable_config(2) == {**DEFAULTS, "idle": "noidle"}


def test_a_trial_may_have_no_tunables(storage: LedgerStorage) -> None:
    """An experiment of an environment without tunables has trials with an empty config."""
    with experiment_of(storage, TunableGroups({})) as experiment:
        experiment.new_trial(TunableGroups({}), config={})
        (pending,) = experiment.pending_trials(now(), running=True)
        assert pending.tunables == TunableGroups({})
        assert pending.config() == {"experiment_id": "Test-001", "trial_id": 1}
        pending.update(Status.SUCCEEDED, now(), {"score": 1.0})
        assert experiment.load() == ([1], [{}], [{"score": "1.0"}], [Status.SUCCEEDED])
    frame = storage.experiments["Test-001"].results_df
    assert [name for name in frame.columns if name.startswith(("config.", "result."))] == ["result.score"]


def test_values_are_loaded_as_texts(experiment: Any, tunables: Any) -> None:
    """Numbers and others come back as the texts that mlos_bench stores; scores only of those that succeeded."""
    good, bad, called_off, waiting = (experiment.new_trial(tunables) for _ in range(4))
    good.update(Status.SUCCEEDED, now(), {"score": 99.9, "benchmark": "test", "is_ok": True, "none": None, "parts": [1, 2]})
    bad.update(Status.FAILED, now(), {"score": 1})
    called_off.update(Status.CANCELED, now(), {"score": 2})
    ids, configs, scores, statuses = experiment.load()
    assert (ids, statuses) == ([good.trial_id, bad.trial_id], [Status.SUCCEEDED, Status.FAILED])
    assert configs == [DEFAULTS, DEFAULTS]
    assert scores == [{"score": "99.9", "benchmark": "test", "is_ok": "True", "none": None, "parts": "[1, 2]"}, None]
    assert tunables.copy().assign(configs[0]).reset() == good.tunables
    assert experiment.load(last_trial_id=good.trial_id) == ([bad.trial_id], [DEFAULTS], [None], [Status.FAILED])
    (pending,) = experiment.pending_trials(now(), running=True)
    assert pending.trial_id == waiting.trial_id
    assert experiment.storage.experiments["Test-001"].trials[3].results_dict == {"score": 2}


def test_a_trial_ends_once(experiment: Any, tunables: Any) -> None:
    """A second end is refused by every handle, and the handle's status stays what it was."""
    trial = experiment.new_trial(tunables)
    trial.update(Status.FAILED, now())
    for handle in (trial, experiment.get_trial_by_id(1)):
        with pytest.raises(RuntimeError, match=r"Failed to update the status of the trial Test-001:1:1 to .* is FAILED"):
            handle.update(Status.SUCCEEDED, now(), {"score": 1.0})
        assert handle.status is Status.FAILED
        with pytest.raises(RuntimeError, match="is FAILED"):
            handle.update(Status.RUNNING, now())
    assert experiment.load() == ([1], [DEFAULTS], [None], [Status.FAILED])


def test_metrics_come_with_the_end(experiment: Any, tunables: Any) -> None:
    """With another status they are refused, and a success without any is."""
    trial = experiment.new_trial(tunables)
    with pytest.raises(ValueError, match="come with the end"):
        trial.update(Status.RUNNING, now(), {"score": 1.0})
    with pytest.raises(AssertionError):
        trial.update(Status.SUCCEEDED, now())
    assert trial.status is Status.PENDING


def test_trials_wait_for_their_time(experiment: Any, tunables: Any) -> None:
    """Those are pending that are scheduled until the time asked for; handed out before, they are listed again."""
    start, minute, hour = now(), timedelta(minutes=1), timedelta(hours=1)

    def pending(until: datetime, *, running: bool = False) -> set[int]:
        return {trial.trial_id for trial in experiment.pending_trials(until, running=running)}

    now1, now2 = experiment.new_trial(tunables, config={"n": 1}), experiment.new_trial(tunables, start)
    in_1h, in_2h = experiment.new_trial(tunables, start + hour), experiment.new_trial(tunables, start + 2 * hour)
    first, second, third, fourth = (trial.trial_id for trial in (now1, now2, in_1h, in_2h))
    assert pending(start + minute) == {first, second}
    assert pending(start + hour) == {first, second, third}
    assert pending(start + 3 * hour) == {first, second, third, fourth}
    now1.update(Status.RUNNING, start + minute)
    now2.update(Status.RUNNING, start + minute)
    assert experiment.load() == ([], [], [], [])
    assert pending(start + 3 * hour) == {third, fourth}
    assert pending(start + 3 * hour, running=True) == {first, second, third, fourth}
    now1.update(Status.SUCCEEDED, start + 2 * minute, {"score": 1.0})
    now2.update(Status.FAILED, start + 2 * minute)
    in_1h.update(Status.SUCCEEDED, start + 2 * hour, {"score": 1.0})
    assert experiment.load()[0] == [first, second, third]
    assert experiment.load(last_trial_id=second)[0] == [third]
    assert pending(start + 3 * hour, running=True) == {fourth}


def test_a_running_trial_began_when_it_ran(experiment: Any, tunables: Any) -> None:
    """Not when it was added: ts_start is the time of RUNNING, ts_end that of the end, and before it the time it waits for."""
    data = experiment.storage.experiments["Test-001"]
    trial = experiment.new_trial(tunables, utc(2030, 1, 1))
    assert data.trials[1].ts_start == utc(2030, 1, 1)
    trial.update(Status.RUNNING, utc(2026, 5, 1, 12))
    assert (data.trials[1].ts_start, data.trials[1].ts_end, data.trials[1].status) == (utc(2026, 5, 1, 12), None, Status.RUNNING)
    trial.update(Status.RUNNING, utc(2026, 5, 1, 13))
    trial.update(Status.SUCCEEDED, utc(2026, 5, 1, 14), {"score": 1})
    assert (data.trials[1].ts_start, data.trials[1].ts_end) == (utc(2026, 5, 1, 12), utc(2026, 5, 1, 14))


def test_what_its_runner_asks_for_first_has_it_running(experiment: Any, tunables: Any) -> None:
    """Schedulers never say RUNNING: asking a trial that was handed out for its config with the global one does."""
    experiment.new_trial(tunables)
    (pending,) = experiment.pending_trials(now())
    data = experiment.storage.experiments["Test-001"]
    assert (pending.status, data.trials[1].status) == (Status.PENDING, Status.READY)
    pending.config()
    assert data.trials[1].status is Status.READY
    before = now()
    pending.config({})
    assert (pending.status, data.trials[1].status) == (Status.RUNNING, Status.RUNNING)
    assert before <= data.trials[1].ts_start <= now()
    pending.config({})
    pending.update(Status.SUCCEEDED, now(), {"score": 1})
    pending.config({})
    assert data.trials[1].status_history_df["status"].tolist() == ["PENDING", "READY", "RUNNING", "SUCCEEDED"]


@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=-7))])
def test_times_without_a_zone_are_local(experiment: Any, tunables: Any, zone: Any, local_zone: str) -> None:
    """Telemetry and status times of every zone come back as UTC, to the microsecond."""
    at = datetime.now(zone)
    later = at + timedelta(seconds=1)
    sent = [
        (at, "cpu", 10.1),
        (at, "memory", 20),
        (at, "setup", "prod"),
        (later, "cpu", 30.1),
        (later, "on", True),
        (later, "x", None),
    ]
    trial = experiment.new_trial(tunables)
    trial.update_telemetry(Status.RUNNING, at, sent)
    expected = [(each.astimezone(UTC), name, None if value is None else str(value)) for each, name, value in sent]
    assert experiment.load_telemetry(1) == expected
    data = experiment.storage.experiments["Test-001"].trials[1]
    assert [tuple(row) for row in data.telemetry_df.astype(object).where(data.telemetry_df.notna(), None).to_numpy()] == expected
    trial.update(Status.SUCCEEDED, later, {"score": 1})
    assert experiment.storage.experiments["Test-001"].trials[1].ts_end == later.astimezone(UTC)


def test_telemetry_sent_again_is_there_once(open_storage: Callable[..., LedgerStorage], tunables: Any) -> None:
    """By the same handle, by another process, in parts; a value that differs from one of the same time stays beside it."""
    points = [(utc(2026, 1, 1, 0, 0, second), "cpu", 0.5 * second) for second in range(3)]
    with experiment_of(open_storage(), tunables) as experiment:
        trial = experiment.new_trial(tunables)
        for _ in range(2):
            trial.update_telemetry(Status.RUNNING, utc(2026, 1, 1), points)
        found = experiment.load_telemetry(1)
        assert [value for _, _, value in found] == ["0.0", "0.5", "1.0"]
        records = experiment.log.head
    with experiment_of(open_storage(), tunables) as other:
        again = other.get_trial_by_id(1)
        again.update_telemetry(Status.RUNNING, utc(2026, 1, 1), points[:2])
        assert other.log.head == records
        again.update_telemetry(Status.RUNNING, utc(2026, 1, 1), [(utc(2026, 1, 1), "cpu", 7)])
        assert [value for _, _, value in other.load_telemetry(1)] == ["0.0", "7", "0.5", "1.0"]


def test_telemetry_takes_any_value_and_comes_after_the_end_too(experiment: Any, tunables: Any) -> None:
    """Long texts, large ints and objects are kept as their texts; an ended trial stays as it ended."""
    trial = experiment.new_trial(tunables)
    trial.update(Status.SUCCEEDED, utc(2026, 1, 2), {"score": 1})
    sent = [(utc(2026, 1, 1), "long", "x" * 9_000), (utc(2026, 1, 1), "big", 2**80), (utc(2026, 1, 1), "list", [1, "a"])]
    trial.update_telemetry(Status.RUNNING, utc(2026, 1, 1), sent)
    found = {name: value for _, name, value in experiment.load_telemetry(1)}
    assert found == {"long": "x" * 9_000, "big": str(2**80), "list": "[1, 'a']"}
    assert trial.status is Status.SUCCEEDED


def test_the_status_history_loses_nothing_at_equal_times(experiment: Any, tunables: Any) -> None:
    """Two changes and two polls at one time are four rows, with who and when; a refused change is none."""
    trial, at = experiment.new_trial(tunables), utc(2026, 1, 1)
    trial.update(Status.RUNNING, at)
    trial.update_telemetry(Status.READY, at, [])
    trial.update_telemetry(Status.RUNNING, at, [])
    trial.update(Status.SUCCEEDED, at, {"score": 1})
    with pytest.raises(RuntimeError):
        trial.update(Status.FAILED, utc(2026, 1, 2))
    data = experiment.storage.experiments["Test-001"]
    history = data.trials[1].status_history_df
    rows = history[history["ts"] == at]
    assert rows[["status", "event"]].to_numpy().tolist() == [
        ["READY", "TrialClaimed"], ["RUNNING", "TrialStarted"], ["READY", "polled"], ["RUNNING", "polled"],
        ["SUCCEEDED", "TrialCompleted"],
    ]  # fmt: skip
    assert len(history) == 6
    assert history["worker"].iloc[-1] == experiment.storage.worker
    assert data.status_history_df.equals(history)


def test_a_resumed_experiment_keeps_what_it_began_with(
    storage: LedgerStorage, tunables: Any, repository: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Numbers go on; other targets, another description and another commit are told of, the last is recorded."""
    with experiment_of(storage, tunables, trial_id=5) as experiment:
        assert experiment.trial_id == 5
        assert [experiment.new_trial(tunables).trial_id for _ in range(2)] == [5, 6]
        assert experiment.trial_id == 7
        began = experiment._git_commit
    os.system("git -c user.name=t -c user.email=t@t commit -q --allow-empty -m more")
    more = {"description": "another", "opt_targets": {"time": "max"}}
    with caplog.at_level(logging.WARNING), experiment_of(storage, tunables, **more) as experiment:
        assert experiment.trial_id == 7
        assert experiment._git_commit != began
        assert experiment.new_trial(tunables).trial_id == 7
    for told in ("goes on from", "has the targets", "has the description"):
        assert told in caplog.text
    data = storage.experiments["Test-001"]
    assert (data.description, data.objectives) == ("of a test", {"score": "min"})
    assert data.root_env_config == ("environment.jsonc", "https://example.invalid/configs.git", began)
    attributes = storage.book.get_experiment("Test-001").state.attributes
    assert attributes["mlos.resumed"]["git_commit"] == experiment._git_commit
    records = storage.book.log.head
    with experiment_of(storage, tunables, **more):
        pass
    assert storage.book.log.head == records


def test_numbers_may_begin_at_0(storage: LedgerStorage, tunables: Any) -> None:
    """The first trial has the number that mlos_bench was told, the next ones follow."""
    with experiment_of(storage, tunables, trial_id=0) as experiment:
        assert [experiment.new_trial(tunables).trial_id for _ in range(3)] == [0, 1, 2]
    with experiment_of(storage, tunables, trial_id=0) as experiment:
        assert experiment.trial_id == 3


def test_handles_of_one_experiment_do_not_collide(open_storage: Callable[..., LedgerStorage], tunables: Any) -> None:
    """Each new trial gets the next free number, whoever adds it."""
    with experiment_of(open_storage(), tunables) as first, experiment_of(open_storage(), tunables) as second:
        numbers = [each.new_trial(tunables).trial_id for _ in range(20) for each in (first, second)]
    assert numbers == list(range(1, 41))


def test_runners_and_parameters_are_added(experiment: Any, tunables: Any) -> None:
    """A runner is set until the trial has begun; a parameter once, whichever handle knows of it."""
    trial = experiment.new_trial(tunables, config={"a": 1})
    assert trial.trial_runner_id is None
    other = experiment.get_trial_by_id(1)
    assert (trial.set_trial_runner(1), trial.set_trial_runner(2), trial.trial_runner_id) == (2 - 1, 2, 2)
    trial.add_new_config_data({"b": "x"})
    with pytest.raises(ValueError, match="'b' = 'x' already"):
        other.add_new_config_data({"b": "y"})
    with pytest.raises(ValueError, match="'a' = 1 already"):
        trial.add_new_config_data({"a": 1})
    again = experiment.get_trial_by_id(1)
    assert again.trial_runner_id == 2
    assert {name: again.config()[name] for name in ("a", "b")} == {"a": "1", "b": "x"}
    trial.update(Status.RUNNING, now())
    assert (again.set_trial_runner(3), again.trial_runner_id) == (2, 2)
    assert experiment.get_trial_by_id(99) is None


def test_pending_trials_may_be_asked_for_by_runner(experiment: Any, tunables: Any) -> None:
    """Those that have one, those that have none, or all."""
    first, second = experiment.new_trial(tunables), experiment.new_trial(tunables)
    first.set_trial_runner(3)
    found = {
        wanted: [trial.trial_id for trial in experiment.pending_trials(now(), trial_runner_assigned=wanted)]
        for wanted in (True, False, None)
    }
    assert found == {True: [first.trial_id], False: [second.trial_id], None: [1, 2]}


def test_its_trials_are_ordinary_ones(storage: LedgerStorage, tunables: Any) -> None:
    """Tables, histories and the queue of the ledger show them, and mlos_bench is shown those that the ledger's own doors add."""
    with experiment_of(storage, tunables) as experiment:
        experiment.new_trial(tunables).update(Status.SUCCEEDED, now(), {"score": 1.5})
        plain = storage.book.get_experiment("Test-001")
        values = {tunable.name: tunable.value for tunable, _ in tunables}
        plain.new_trial({**values, "idle": "mwait"}, priority=1)
        plain.new_trial({"not_a_tunable": 1}, priority=2)
        (pending,) = experiment.pending_trials(now())
        assert (pending.trial_id, pending.tunables["idle"]) == (2, "mwait")
        pending.update(Status.FAILED, now())
    tables = projections.Tables(storage.book)
    frame = tables.trials("Test-001")
    assert frame["status"].tolist() == ["SUCCEEDED", "FAILED", "PENDING"]
    assert frame["result.score"].tolist()[0] == 1.5
    assert frame["config.latency_ns"].tolist()[:2] == [2_000_000, 2_000_000]
    types = [record.type for record in storage.book.log.read(stream=plain.trial(1).stream)]
    assert types == ["TrialCreated", "TrialClaimed", "TrialStarted", "TrialCompleted"]
    with plain.trial(3).run() as trial:
        trial.complete({"score": 3})
    assert storage.experiments["Test-001"].trials[3].results_dict == {"score": 3}
