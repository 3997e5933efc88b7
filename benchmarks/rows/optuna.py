"""Optuna on a ledger, beside the storages that Optuna brings: opening a large study, asking of it, and optimizing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import forget_peak, process_memory
from benchmarks.row import Bound, Figures, Fixture, Line, Row, Task
from benchmarks.size import Size
from benchmarks.workers import run_processes, span_seconds

_STORAGES = ("ledger", "optuna", "optuna:rdb")
_PROCESSES = 4


class _OptunaRow(Row):
    def contestants(self, size: Size) -> Sequence[str]:
        return _STORAGES

    def name_of(self, contestant: str, size: Size) -> str:
        return "RDBStorage (SQLite)" if contestant == "optuna:rdb" else ""


class _LargeStudy(_OptunaRow):
    rounds = 3
    limit_seconds = 900.0

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "optuna")  # to write it into an RDBStorage would take hours

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("study", contestant.replace(":", "-"), size.study_trials)


class OptunaOpen(_LargeStudy):
    name = "optuna-open"
    title = "a large study is opened"
    work = (
        "A study whose trials were 15 operations each: from making the storage until `load_study` and `best_trial` have "
        "returned, in a process that has imported everything. Memory is what is resident then above what was before. The ledger "
        "has the checkpoint that its writer left; `cold` is without. Then `get_all_trials(deepcopy=False)`, the first time: the "
        "journal has made all trials when it is open."
    )
    lines = (
        Line("open_s", "opened", "s", "less", [Bound(1 / 20, "optuna")]),
        Line("memory_mb", "memory added", "MB", "less", [Bound(1 / 4, "optuna")]),
        Line("trials_s", "then all trials", "s", "less"),
        Line("cold_s", "opened without a checkpoint", "s", "less"),
    )

    def measure(self, task: Task) -> Figures:
        import optuna

        from benchmarks.studies import STUDY, loss_of, open_storage

        figures: Figures = {}
        forget_peak()
        before, begun = process_memory("resident"), time.perf_counter()
        with open_storage(task.contestant, Path(task.fixture)) as storage:
            study = optuna.load_study(study_name=STUDY, storage=storage)
            best = study.best_trial
            figures["open_s"] = time.perf_counter() - begun
            figures["memory_mb"] = max(process_memory("resident") - before, 0.0)
            begun = time.perf_counter()
            trials = storage.get_all_trials(study._study_id, deepcopy=False)
            figures["trials_s"] = time.perf_counter() - begun
            if len(trials) != task.size.study_trials or best.value != min(map(loss_of, range(len(trials)))):
                raise AssertionError("the study that was opened is not the one that was written")
        if task.contestant == "ledger":
            begun = time.perf_counter()
            with open_storage("ledger", Path(task.fixture), cache_dir=task.place) as storage:
                _ = optuna.load_study(study_name=STUDY, storage=storage).best_trial
                figures["cold_s"] = time.perf_counter() - begun
        return figures


class _Question(_LargeStudy):
    """One question of a large study that is open, asked again and again."""

    def measure(self, task: Task) -> Figures:
        from benchmarks.studies import STUDY, open_storage

        with open_storage(task.contestant, Path(task.fixture)) as storage:
            study_id = storage.get_study_id_from_name(STUDY)
            self._ask(storage, study_id)
            begun = time.perf_counter()
            for _ in range(task.size.lookups):
                self._ask(storage, study_id)
            return {"ms": (time.perf_counter() - begun) / task.size.lookups * 1e3}

    def _ask(self, storage: Any, study_id: int) -> None:
        raise NotImplementedError


class OptunaBest(_Question):
    name = "optuna-best"
    title = "the best trial of a large study"
    work = "`get_best_trial` of the same study, open, asked again and again; the mean."
    lines = (Line("ms", "get_best_trial", "ms", "less", [Bound(1 / 50, "optuna")]),)

    def _ask(self, storage: Any, study_id: int) -> None:
        storage.get_best_trial(study_id)


class OptunaWaiting(_Question):
    name = "optuna-waiting"
    title = "the trials of a large study that wait"
    work = "`get_all_trials(states=(WAITING,))`, as each `ask` begins, of the same study, in which none waits; the mean."
    lines = (Line("ms", "waiting trials", "ms", "less", [Bound(1 / 50, "optuna")]),)

    def _ask(self, storage: Any, study_id: int) -> None:
        from optuna.trial import TrialState

        if storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.WAITING,)):
            raise AssertionError("a trial waits in a study where none should")


class OptunaOptimize(_OptunaRow):
    name = "optuna-optimize"
    title = "trials optimized"
    work = (
        "`study.optimize` with the random sampler; a trial suggests five parameters, reports five values, sets three attributes "
        "and returns: 15 operations, each as durable as the storage makes it."
    )
    lines = (Line("rate", title, "trials/s", "more", [Bound(0.8, "optuna"), Bound(3.0, "optuna:rdb")]),)
    limit = (
        "an operation is one commit, and LMDB flushes twice for each where the journal flushes its file once; what the ledger "
        "does beside it (checks, hashes, indexes) takes more time than the journal's line of JSON."
    )
    limit_seconds = 600.0
    _processes = 1

    def measure(self, task: Task) -> Figures:
        from optuna.study import StudyDirection

        from benchmarks.studies import STUDY, open_storage

        with open_storage(task.contestant, task.place) as storage:
            study_id = storage.create_new_study([StudyDirection.MINIMIZE], STUDY)
        arguments = [(task.contestant, str(task.place), number, task.size.optimized) for number in range(self._processes)]
        done = run_processes(prepare, arguments, self.limit_seconds)
        with open_storage(task.contestant, task.place) as storage:
            found = storage.get_n_trials(study_id)
        if found != self._processes * (task.size.optimized + 1):
            raise AssertionError(f"{found} trials are there")
        return {"rate": self._processes * task.size.optimized / span_seconds(done)}


class OptunaProcesses(OptunaOptimize):
    name = "optuna-processes"
    title = "trials optimized by 4 processes"
    work = f"The same by {_PROCESSES} processes on one study at once, from the first one's begin to the last one's end."
    lines = (Line("rate", title, "trials/s", "more", [Bound(1.2, "optuna"), Bound(3.0, "optuna:rdb")]),)
    limit = (
        "who waits has its operation committed by the process that writes, two to three to a commit; what is left is Python's "
        "work for each operation on two cores that four processes share, Optuna's own among it. The journal's operation is a "
        "line of JSON and one flush."
    )
    _processes = _PROCESSES


def prepare(contestant: str, place: str, number: int, trials: int) -> Callable[[], None]:
    """Open the storage in a worker, optimize one trial to warm up, and return the work."""
    import optuna

    from benchmarks.studies import STUDY, objective, open_storage

    opened = contextlib.ExitStack()
    storage = opened.enter_context(open_storage(contestant, Path(place)))
    study = optuna.load_study(study_name=STUDY, storage=storage, sampler=optuna.samplers.RandomSampler(seed=number))
    study.optimize(objective, n_trials=1)

    def work() -> None:
        with opened:
            study.optimize(objective, n_trials=trials)

    return work
