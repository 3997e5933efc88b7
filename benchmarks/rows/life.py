"""A trial's life, and the bytes that lives take on disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.disk import bytes_of
from benchmarks.rivals import load
from benchmarks.row import Bound, Figures, Line, Row, Task, gaps, quantiles
from benchmarks.size import Size


class Life(Row):
    name = "life"
    title = "a trial's life"
    work = (
        "A trial is created with five parameters, set running, given five telemetry points and completed with five metrics; "
        "then the next. On return of the last call all of it is as safe as the store makes it."
    )
    lines = (Line("rate", title, "lives/s", "more", [Bound(5.0, "mlos")], "8 times SqlStorage"),)

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "mlos", "mlos:wal", "optuna")

    def name_of(self, contestant: str, size: Size) -> str:
        return "WAL (not durable)" if contestant == "mlos:wal" else ""

    def measure(self, task: Task) -> Figures:
        with contextlib.closing(load(task.rival, "Lives")(task.place, task.variant)) as store:
            return lived(store, task.size.lives)


def lived(store: Any, lives: int) -> Figures:
    """Live so many lives, after a twentieth of them that is not timed."""
    for number in range(max(lives // 20, 1)):
        store.live(number)
    times = [time.perf_counter()]
    for number in range(lives):
        store.live(10**6 + number)
        times.append(time.perf_counter())
    taken = gaps(times)
    return {"rate": len(taken) / sum(taken), **quantiles(taken)}


class LifeBytes(Row):
    name = "life-bytes"
    title = "bytes on disk of trials' lives"
    work = (
        "The same lives, many, then the store is closed and what its directory takes on disk is divided by their number. "
        "SqlStorage runs without flushes here: it writes the same file."
    )
    lines = (Line("bytes", title, "bytes/trial", "less", [Bound(1 / 3, "mlos")], "1/6 of SqlStorage's"),)
    limit = (
        "the events themselves are sealed and compressed. What takes the rest is what does not compress: the ids "
        "and salts of each append, by which a retry is known and a payload can be dropped, the entries of the trial's "
        "stream and of its config, and the room in LMDB's pages, which are split in half where a new key belongs between others."
    )
    rounds = 1  # it is no matter of chance
    limit_seconds = 1800.0

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "mlos", "optuna")

    def measure(self, task: Task) -> Figures:
        before = bytes_of(task.place)
        with contextlib.closing(load(task.rival, "Lives")(task.place, "nosync" if task.rival == "mlos" else "")) as store:
            for number in range(task.size.kept_lives):
                store.live(number)
        taken = sum(bytes_of(each) if each.is_dir() else each.stat().st_blocks * 512 for each in _kept(task)) - before
        return {"bytes": taken / task.size.kept_lives}


def _kept(task: Task) -> list:  # type: ignore[type-arg]
    """Return what the store keeps, without the git repository that one of them wants to see."""
    return [each for each in task.place.iterdir() if each.name not in (".git", "env.jsonc")]
