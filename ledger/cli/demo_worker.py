"""One worker process of the demo: claims trials, runs them, until it is told that all are done."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from typing import Any
from uuid import UUID

import ledger
from ledger.cli.demo_task import Corpus, load_corpus, run_trial
from ledger.errors import LeaseLost
from ledger.trial import Trial

LEASE_SECONDS = 5.0
_LOOK_SECONDS = 0.5


class Stopped(Exception):
    """The parent asked this worker to stop (Ctrl-C)."""


def work(path: str, experiment_id: UUID, name: str, done: Connection) -> None:
    """Claim and run trials of the experiment until ``done`` is closed by the parent, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the whole group; the parent decides
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    _die_with_parent()
    corpus = load_corpus()
    with ledger.open(path, create=False) as book:
        experiment = book.get_experiment(experiment_id)
        while not stopping.is_set():
            trial = experiment.claim(worker=name, lease_seconds=LEASE_SECONDS)
            if trial is not None:
                _run(trial, corpus, stopping)
            elif done.poll(_LOOK_SECONDS):  # closed: all trials have ended
                return
            # else others hold the rest: one that was killed is found out when its lease ends


def _run(trial: Trial, corpus: Corpus, stopping: threading.Event) -> None:
    def check() -> None:
        if stopping.is_set():
            raise Stopped

    with contextlib.suppress(LeaseLost):  # this process was held up for too long; another one has the trial now
        trial.start()
        try:
            results = run_trial(trial, corpus, check)
        except Stopped:
            trial.release(reason="the demo was stopped")
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a set of parameters leads to is a finding, and the next trial goes on
            trial.fail(error)
        else:
            trial.complete(results)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for_end, args=(parent.sentinel,), daemon=True).start()


def _wait_for_end(sentinel: Any) -> None:
    wait([sentinel])
    os._exit(1)  # at once, as a kill would: the ledger is made for it
