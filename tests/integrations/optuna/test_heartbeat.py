"""Heartbeat: trials whose process has died are told from those that go on, by the rules of Optuna's RDBStorage."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import TrialState
from typer.testing import CliRunner

import ledger
from ledger.backends.portable import decode_command, encode_command
from ledger.cli.main import app
from ledger.integrations.optuna import LedgerStorage
from ledger.integrations.optuna.commands import set_state

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used with Study.optimize.:UserWarning"),
]
SECOND = 1_000_000_000
Make = Callable[..., LedgerStorage]


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    """The ledger's clock."""
    return Clock()


@pytest.fixture
def make(ledger_path: Path, clock: Clock) -> Iterator[Make]:
    """Make storages on a ledger with that clock."""
    with ledger.open(ledger_path, clock=clock) as book:
        yield lambda **options: LedgerStorage(book, **options)


def running(storage: LedgerStorage) -> tuple[int, int]:
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
    return study_id, storage.create_new_trial(study_id)


def test_trial_is_stale_after_the_grace(make: Make, clock: Clock) -> None:
    """Nothing heard for twice the interval, and not a moment less, makes a trial stale."""
    storage = make(heartbeat_interval=10)
    study_id, trial_id = running(storage)
    storage.record_heartbeat(trial_id)
    clock.pass_seconds(15)
    storage.record_heartbeat(trial_id)
    clock.pass_seconds(20)
    assert storage._get_stale_trial_ids(study_id) == []
    clock.pass_seconds(0.001)
    assert storage._get_stale_trial_ids(study_id) == [trial_id]


def test_trial_without_a_beat_is_never_stale(make: Make, clock: Clock) -> None:
    """A trial of which nothing was ever heard may be one that was asked for without `optimize`."""
    storage = make(heartbeat_interval=1)
    study_id, _ = running(storage)
    clock.pass_seconds(1e6)
    assert storage._get_stale_trial_ids(study_id) == []


def test_ended_and_waiting_trials_are_never_stale(make: Make, clock: Clock) -> None:
    """Only a trial that runs is waited for; a beat that comes after its end is no matter."""
    storage = make(heartbeat_interval=1)
    study_id, trial_id = running(storage)
    storage.record_heartbeat(trial_id)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    head = storage.book.log.head
    storage.record_heartbeat(trial_id)
    assert storage.book.log.head == head
    clock.pass_seconds(60)
    assert storage._get_stale_trial_ids(study_id) == []


@pytest.mark.parametrize(("interval", "grace"), [(1, 60), (1, 3), (7, 20), (10, None), (10, 5)])
def test_grace_is_kept_though_few_beats_are_recorded(make: Make, clock: Clock, interval: int, grace: int | None) -> None:
    """A trial is never stale within the grace of its last beat, at the latest a third later; beats are recorded sparsely."""
    storage = make(heartbeat_interval=interval, grace_period=grace)
    study_id, trial_id = running(storage)
    grace_seconds = 2 * interval if grace is None else grace
    for beats in (1, 2, 3, 8, 29):
        head = storage.book.log.head
        for _ in range(beats):
            clock.pass_seconds(interval)
            storage.record_heartbeat(trial_id)
        assert storage.book.log.head - head <= beats * interval * 3 / grace_seconds + 1
        clock.pass_seconds(grace_seconds)
        assert storage._get_stale_trial_ids(study_id) == []
        clock.pass_seconds(grace_seconds / 3 + 0.001)
        assert storage._get_stale_trial_ids(study_id) == [trial_id]


def test_stale_trial_is_failed_and_tried_again(make: Make, clock: Clock) -> None:
    """`fail_stale_trials` fails it once, whoever asks, and the callback enqueues it anew with what it was given."""
    retry = getattr(optuna.storages, "RetryHeartbeatStaleTrialCallback", None) or optuna.storages.RetryFailedTrialCallback
    storage = make(heartbeat_interval=1, heartbeat_stale_trial_callback=retry(max_retry=1))
    study = optuna.create_study(storage=storage)
    study.enqueue_trial({"x": 0.5})
    for expected in ([0], [0, 0]):
        trial = study.ask()
        assert trial.suggest_float("x", 0, 1) == 0.5
        storage.record_heartbeat(trial._trial_id)
        clock.pass_seconds(3)
        fail_stale_trials(study)
        fail_stale_trials(study)
        assert study.trials[trial.number].state == TrialState.FAIL
        waiting = study.get_trials(states=(TrialState.WAITING,))
        if len(expected) == 1:
            assert [each.system_attrs["failed_trial"] for each in waiting] == expected
        else:
            assert waiting == []  # it was tried again as often as it may be
    assert len(study.trials) == 2


def test_beats_are_hidden_from_history_and_explain_the_end(make: Make, clock: Clock) -> None:
    """A beat is a renewed lease: left out of histories unless asked for, so that a death can be explained."""
    storage = make(heartbeat_interval=1)
    study_id, trial_id = running(storage)
    storage.record_heartbeat(trial_id)
    trial = storage.experiment_of(study_id).trial(0)
    assert [record.type for record in trial.history()] == ["TrialCreated", "TrialClaimed", "TrialStarted"]
    assert [record.type for record in trial.history(renewals=True)][-1] == "LeaseRenewed"
    assert trial.state.deadline == clock.now + 2 * SECOND


@pytest.mark.parametrize("is_sent", [False, True])
def test_the_end_of_a_stale_trial_says_why(make: Make, clock: Clock, is_sent: bool) -> None:
    """Who was silent, and since when, whichever process runs the command; in the history, too."""
    storage = make(heartbeat_interval=1, actor="ada@host/1")
    study_id, trial_id = running(storage)
    storage.record_heartbeat(trial_id)
    trial = storage.experiment_of(study_id).trial(0)
    clock.pass_seconds(3)
    if is_sent:
        encoded = encode_command(set_state(trial.experiment.id, 0, int(TrialState.FAIL), None, "bob@host/2"))
        sent = None if encoded is None else decode_command(encoded)
        assert sent is not None
        storage.book.log.execute(sent)
    else:
        make(actor="bob@host/2").set_trial_state_values(trial_id, TrialState.FAIL)
    said = "ada@host/1 was silent when the lease of attempt 1 ended at 2027-01-15T08:00:02.000000000Z"
    assert trial.state.error == ledger.ErrorInfo("", said)
    told = CliRunner().invoke(app, ["history", storage.book.path, "demo", "0"]).output
    assert f"failed: {said}" in " ".join(told.split())


@pytest.mark.parametrize(("actor", "seconds", "beats"), [("ada", 3, True), ("bob", 2, True), ("bob", 3, False)])
def test_a_failure_that_no_silence_explains_has_no_reason(
    make: Make, clock: Clock, actor: str, seconds: int, beats: bool
) -> None:  # fmt: skip
    """Its own worker's, one before the time is over, and one of a trial that never had a heartbeat."""
    storage = make(heartbeat_interval=1, actor="ada")
    study_id, trial_id = running(storage)
    if beats:
        storage.record_heartbeat(trial_id)
    clock.pass_seconds(seconds)
    make(actor=actor).set_trial_state_values(trial_id, TrialState.FAIL)
    state = storage.experiment_of(study_id).trial(0).state
    assert (state.status, state.error) == ("FAILED", None)


def test_killed_process_leaves_a_trial_that_another_fails(ledger_path: Path) -> None:
    """A process that is killed while it optimizes is noticed by the next, which goes on."""
    with LedgerStorage(ledger_path) as storage:
        optuna.create_study(storage=storage, study_name="demo")
    code = """
        import sys, time, optuna
        from ledger.integrations.optuna import LedgerStorage
        def objective(trial):
            print("running", flush=True)
            time.sleep(600)
        with LedgerStorage(sys.argv[1], heartbeat_interval=1) as storage:
            optuna.load_study(study_name="demo", storage=storage).optimize(objective, n_trials=1)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), ledger_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        with LedgerStorage(ledger_path, heartbeat_interval=1) as storage:
            study = optuna.load_study(study_name="demo", storage=storage)
            _wait_until(lambda: storage.experiment_of(study._study_id).trial(0).state.deadline is not None)
            process.kill()
            _wait_until(lambda: storage._get_stale_trial_ids(study._study_id) != [])
            study.optimize(lambda trial: 1.0, n_trials=1)
            assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def _wait_until(holds: Callable[[], bool]) -> None:
    import time

    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("options", [{"heartbeat_interval": 0}, {"heartbeat_interval": 1, "grace_period": -1}])
def test_impossible_settings_are_refused(options: dict[str, int]) -> None:
    """An interval or a grace that is not above 0 is refused, by name."""
    with pytest.raises(ledger.InvalidValue, match=list(options)[-1]):
        LedgerStorage(ledger.open("memory:"), **options)
