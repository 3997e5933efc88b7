"""Pending trials are handed to one process each; and processes share an experiment."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlos_bench.environments.status import Status

import ledger
from ledger.integrations.mlos import LedgerStorage
from tests.integrations.mlos.conftest import TUNABLES, experiment_of, now

WORKER = f"""
import sys
import pytz
from datetime import datetime
from mlos_bench.environments.status import Status
from mlos_bench.tunables.tunable_groups import TunableGroups
from ledger.integrations.mlos import LedgerStorage

tunables = TunableGroups({TUNABLES!r}).reset()
path, adds, waits = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "wait"
with LedgerStorage({{"database": path, "lease_seconds": 1.5}}) as storage:
    with storage.experiment(
        experiment_id="Test-001", trial_id=1, root_env_config="environment.jsonc", description="of a test",
        tunables=tunables, opt_targets={{"score": "min"}},
    ) as experiment:
        print("ready", flush=True)
        for _ in range(adds):
            print("added", experiment.new_trial(tunables).trial_id, flush=True)
        for trial in experiment.pending_trials(datetime.now(pytz.UTC), running=True):
            trial.config({{}})
            print("ran", trial.trial_id, flush=True)
            if waits:
                import time
                time.sleep(600)
            trial.update_telemetry(Status.SUCCEEDED, datetime.now(pytz.UTC), [(datetime.now(pytz.UTC), "cpu", 1.0)])
            trial.update(Status.SUCCEEDED, datetime.now(pytz.UTC), {{"score": float(trial.trial_id)}})
"""
#: mlos_bench warns at import of what it is built on; the script fixture makes errors of warnings.
QUIET = "import warnings; warnings.simplefilter('ignore')\n"


def test_a_second_worker_is_refused(open_storage: Callable[..., LedgerStorage], tunables: Any) -> None:
    """Of two that set the same trials running one has each, and the other is told who; it cannot end them either."""
    with experiment_of(open_storage(), tunables) as first, experiment_of(open_storage(), tunables) as second:
        for _ in range(5):
            first.new_trial(tunables)
        own, others = [list(map(each.get_trial_by_id, range(1, 6))) for each in (first, second)]
        for mine, other in zip(own, others, strict=True):
            mine.update(Status.RUNNING, now())
            for status, metrics in ((Status.RUNNING, None), (Status.READY, None), (Status.SUCCEEDED, {"score": 1})):
                with pytest.raises(RuntimeError, match=r"is held by .*mlos-"):
                    other.update(status, now(), metrics)
            assert other.status is Status.PENDING
            mine.update(Status.SUCCEEDED, now(), {"score": 2})
        assert [scores["score"] for scores in second.load()[2]] == ["2"] * 5


def test_each_pending_trial_is_handed_to_one(open_storage: Callable[..., LedgerStorage], tunables: Any) -> None:
    """Two that ask for pending trials at once share them; asking again gives each its own."""
    with experiment_of(open_storage(), tunables) as first, experiment_of(open_storage(), tunables) as second:
        for _ in range(10):
            first.new_trial(tunables)
        took: dict[str, list[int]] = {}
        begin = threading.Barrier(2)

        def take(name: str, experiment: Any) -> None:
            begin.wait()
            took[name] = [trial.trial_id for trial in experiment.pending_trials(now())]

        threads = [threading.Thread(target=take, args=each) for each in (("first", first), ("second", second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(took["first"] + took["second"]) == list(range(1, 11))
        assert sorted(trial.trial_id for trial in first.pending_trials(now())) == sorted(took["first"])


def test_what_was_not_run_is_handed_back(open_storage: Callable[..., LedgerStorage], tunables: Any) -> None:
    """At the end of the block what was only handed out waits again; after an error what ran as well, else that goes on."""
    storage = open_storage()
    with experiment_of(storage, tunables) as experiment:
        for _ in range(2):
            experiment.new_trial(tunables)
        running, _ = experiment.pending_trials(now())
        running.config({})
    assert [trial.status for trial in storage.experiments["Test-001"].trials.values()] == [Status.RUNNING, Status.PENDING]
    with pytest.raises(KeyError), experiment_of(storage, tunables) as experiment:
        next(experiment.pending_trials(now())).config({})
        raise KeyError
    trials = storage.experiments["Test-001"].trials
    assert trials[2].status is Status.PENDING
    assert trials[2].status_history_df["reason"].tolist()[-1] == "the experiment ended in an error"


def test_a_trial_whose_process_died_is_handed_out_again(
    open_storage: Callable[..., LedgerStorage], tunables: Any, script: Callable[..., Any], ledger_path: Path
) -> None:
    """It stays with the process that was killed until its lease runs out; the history has the loss."""
    with experiment_of(open_storage(), tunables) as experiment:
        experiment.new_trial(tunables)
    worker = script(QUIET + WORKER, ledger_path, 0, "wait")
    assert [worker.line(), worker.line()] == ["ready", "ran 1"]
    worker.kill()
    with experiment_of(open_storage(), tunables) as experiment:
        deadline = experiment.storage.book.get_experiment("Test-001").trial(1).state.deadline
        found: list[Any] = []
        while not found:
            found = list(experiment.pending_trials(now(), running=True))
        assert deadline is not None
        assert time.time_ns() > deadline
        found[0].update(Status.SUCCEEDED, now(), {"score": 1})
    with open_storage() as storage:
        history = storage.experiments["Test-001"].trials[1].status_history_df
    assert history["event"].tolist() == [
        "TrialCreated", "TrialClaimed", "TrialStarted", "TrialLost", "TrialRequeued", "TrialClaimed", "TrialStarted",
        "TrialCompleted",
    ]  # fmt: skip
    assert history["worker"].nunique() == 2


def test_a_worker_that_lost_its_trial_learns_it(
    open_storage: Callable[..., LedgerStorage], tunables: Any, ledger_path: Path
) -> None:
    """It must not run it, and what it reports all the same is kept as evidence."""
    storage = open_storage()
    with experiment_of(storage, tunables) as experiment:
        experiment.new_trial(tunables)
        (trial,) = experiment.pending_trials(now())
        storage.book.get_experiment("Test-001").trial(1).force_status("PENDING", reason="taken away")
        with pytest.raises(RuntimeError, match="cannot be run"):
            trial.config({})
        with pytest.raises(RuntimeError, match="Failed to update"):
            trial.update(Status.SUCCEEDED, now(), {"score": 1})
        assert trial.status is Status.PENDING
    late = list(storage.book.log.read(types=ledger.LateResultReceived))
    assert [record.event.results for record in late] == [{"score": 1}]


def test_two_processes_share_an_experiment(
    open_storage: Callable[..., LedgerStorage], tunables: Any, script: Callable[..., Any], ledger_path: Path
) -> None:
    """Each adds trials and runs what is pending: no number twice, no trial twice, none forgotten."""
    workers = [script(QUIET + WORKER, ledger_path, 25, "go") for _ in range(2)]
    lines = [line.split() for worker in workers for line in worker.finish()]
    added = [int(number) for what, *number in lines if what == "added" for number in number]
    ran = Counter(int(number) for what, *number in lines if what == "ran" for number in number)
    assert sorted(added) == list(range(1, 51))
    with experiment_of(open_storage(), tunables) as experiment:
        for trial in experiment.pending_trials(now(), running=True):
            ran[trial.trial_id] += 1
            trial.update(Status.SUCCEEDED, now(), {"score": float(trial.trial_id)})
        assert ran == dict.fromkeys(range(1, 51), 1)
        ids, _, scores, _ = experiment.load()
        assert [(number, scores[i]["score"]) for i, number in enumerate(ids)] == [(n, f"{n}.0") for n in range(1, 51)]


def test_a_paused_experiment_hands_out_nothing(storage: LedgerStorage, tunables: Any) -> None:
    """Until the ledger's own command resumes it; and others' trials stay theirs."""
    with experiment_of(storage, tunables) as experiment:
        plain = storage.book.get_experiment("Test-001")
        experiment.new_trial(tunables)
        experiment.new_trial(tunables)
        plain.trial(2).assign("gpu-1")
        plain.pause("no machines")
        assert list(experiment.pending_trials(now())) == []
        plain.resume()
        assert [trial.trial_id for trial in experiment.pending_trials(now())] == [1]


def test_a_trial_is_put_back_and_taken(experiment: Any, tunables: Any) -> None:
    """READY takes it without beginning, PENDING puts it back, CANCELED calls it off whoever holds it."""
    trial = experiment.new_trial(tunables)
    plain = experiment.storage.book.get_experiment("Test-001").trial(1)
    trial.update(Status.READY, now())
    trial.update(Status.READY, now())
    assert (plain.status, trial.status) == ("READY", Status.READY)
    trial.update(Status.PENDING, now())
    assert plain.status == "PENDING"
    trial.update(Status.RUNNING, now())
    trial.update(Status.PENDING, now())
    assert plain.status == "RUNNING"
    experiment.get_trial_by_id(1).update(Status.CANCELED, now(), {"partial": 1})
    assert (plain.status, plain.results) == ("CANCELED", {"partial": 1})


def test_an_unknown_status_changes_nothing(experiment: Any, tunables: Any) -> None:
    """It is kept as polled."""
    trial = experiment.new_trial(tunables)
    with contextlib.suppress(RuntimeError):
        trial.update(Status.UNKNOWN, now())
    data = experiment.storage.experiments["Test-001"].trials[1]
    assert data.status is Status.PENDING
    assert data.status_history_df[["status", "event"]].to_numpy().tolist()[-1] == ["UNKNOWN", "polled"]
