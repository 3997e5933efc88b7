"""Many threads and processes on one study: each trial is given once, none is lost, whoever is killed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

import ledger
from ledger.integrations.optuna import LedgerStorage

POP = Path(__file__).with_name("pop_worker.py")
OPTIMIZE = Path(__file__).with_name("optimize_worker.py")
PROCESSES, ENQUEUED, ROUNDS = 8, 40, 3


def start(script: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(script), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_enqueued_trials_are_popped_once(storage: LedgerStorage, ledger_path: Path) -> None:
    """Of 40 enqueued trials, 8 processes get each exactly once, round after round."""
    for number in range(ROUNDS):
        study = optuna.create_study(storage=storage, study_name=f"round {number}")
        for value in range(ENQUEUED):
            study.enqueue_trial({"x": value})
        processes = [start(POP, ledger_path, f"round {number}") for _ in range(PROCESSES)]
        assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * PROCESSES
        popped: list[str] = []
        with ThreadPoolExecutor(PROCESSES) as pool:
            for out, _ in pool.map(lambda process: process.communicate("go\n", timeout=120), processes):
                popped += out.split()
        assert Counter(map(int, popped)) == Counter(range(ENQUEUED))
        assert {trial.state for trial in study.trials} == {TrialState.RUNNING}


def test_waiting_trial_is_won_by_one_thread(storage: LedgerStorage) -> None:
    """Of threads that set the same trials running at once, one is told True for each; the others leave no record."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    ids = storage.add_trials(study_id, [optuna.trial.create_trial(state=TrialState.WAITING) for _ in range(20)])
    barrier, won = threading.Barrier(6), Counter[int]()

    def run() -> None:
        barrier.wait()
        for trial_id in ids:
            if storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                won[trial_id] += 1

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == Counter(ids)
    claims = list(storage.book.log.read(types=[ledger.TrialClaimed]))
    assert len(claims) == len(ids)


def test_threads_share_one_storage(storage: LedgerStorage) -> None:
    """`optimize(n_jobs=4)` gives as many trials as asked for, numbered without a gap."""
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler())
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=24, n_jobs=4)
    assert [trial.number for trial in study.trials] == list(range(24))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert study.best_value == min(trial.value for trial in study.trials)


def test_killed_processes_lose_nothing_acknowledged(storage: LedgerStorage, ledger_path: Path) -> None:
    """Processes that optimize are killed at any moment; what they acknowledged is there, and others go on."""
    study = optuna.create_study(storage=storage, study_name="demo")
    chance = random.Random(7)
    acknowledged: dict[int, float] = {}
    for _ in range(4):
        processes = [start(OPTIMIZE, ledger_path, "demo", 0) for _ in range(2)]
        lines = [process.stdout.readline() for process in processes if process.stdout]
        time.sleep(chance.random() * 0.3)
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for process, first in zip(processes, lines, strict=True):
            with process:
                out = process.stdout.read()  # not communicate(): it passes over what readline() has read ahead
            for line in (first + out).splitlines(keepends=True):
                if line.endswith("\n"):
                    number, value = line.split()
                    assert int(number) not in acknowledged
                    acknowledged[int(number)] = float(value)
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {number: trials[number].value for number in acknowledged} == acknowledged
    assert sum(not trial.state.is_finished() for trial in trials) <= 8
    process = start(OPTIMIZE, ledger_path, "demo", 3)
    added = [int(line.split()[0]) for line in process.communicate(timeout=60)[0].splitlines()]
    assert len(added) == 3
    assert not acknowledged.keys() & set(added)
    after = study.trials
    assert [trial.number for trial in after] == list(range(len(after)))
    assert all(after[number].state is TrialState.COMPLETE for number in [*acknowledged, *added])
    # A writer that was killed after LMDB had written its commit, and before it had said so, is published by the next one.
    assert len(after) - len(trials) - 3 in (0, 1)


def test_two_storages_of_one_path_see_each_other(storage: LedgerStorage, ledger_path: Path) -> None:
    """Two instances in one process see at once what the other has done, and neither its own copy of it."""
    with LedgerStorage(ledger_path) as other:
        study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
        assert other.get_study_id_from_name("demo") == study_id
        trial_id = other.create_new_trial(study_id)
        before = storage.get_trial(trial_id)
        other.set_trial_intermediate_value(trial_id, 1, 0.5)
        storage.set_trial_intermediate_value(trial_id, 2, 0.25)
        assert other.get_trial(trial_id).intermediate_values == {1: 0.5, 2: 0.25}
        assert before.intermediate_values == {}
        assert storage.create_new_trial(study_id) != other.create_new_trial(study_id)
        assert storage.get_all_trials(study_id) == other.get_all_trials(study_id)


def test_pickled_storage_opens_the_path_again(ledger_path: Path, tmp_path: Path) -> None:
    """A copy by pickle works in this process and after the first was closed, with the heartbeat that was asked for."""
    with LedgerStorage(ledger_path, heartbeat_interval=7, cache_dir=tmp_path) as storage:
        study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
        data = pickle.dumps(storage)
    with pickle.loads(data) as copy:
        assert copy.get_study_id_from_name("demo") == study_id
        assert copy.get_heartbeat_interval() == 7
        copy.create_new_trial(study_id)
        assert copy.get_n_trials(study_id) == 1


def test_storage_in_memory_cannot_be_pickled() -> None:
    """A ledger in memory has no path to open elsewhere, and says so."""
    with LedgerStorage(ledger.open("memory:")) as storage, pytest.raises(ledger.InvalidValue, match="in memory"):
        pickle.dumps(storage)


def test_forked_child_goes_on_with_the_storage(storage: LedgerStorage) -> None:
    """A child made by fork uses the storage that it inherited, while the parent goes on."""
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
    storage.create_new_trial(study_id)

    def work() -> None:
        trial_id = storage.create_new_trial(study_id)
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
        code = 0 if storage.get_n_trials(study_id) >= 2 else 1
        storage.close()
        os._exit(code)

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work) for _ in range(3)]
    for child in children:
        child.start()
    storage.create_new_trial(study_id)
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert [trial.number for trial in storage.get_all_trials(study_id)] == [0, 1, 2, 3, 4]
    assert storage.get_n_trials(study_id, TrialState.COMPLETE) == 3


def test_closed_storage_says_so(ledger_path: Path) -> None:
    """A storage that was closed raises LedgerClosed, and may be closed again."""
    storage = LedgerStorage(ledger_path)
    storage.close()
    storage.close()
    with pytest.raises(ledger.LedgerClosed):
        storage.get_all_studies()


def test_given_ledger_stays_open(book: ledger.Ledger) -> None:
    """A storage on an open ledger leaves it to its owner."""
    with LedgerStorage(book) as storage:
        storage.create_new_study([StudyDirection.MINIMIZE])
    assert book.log.head == 2
