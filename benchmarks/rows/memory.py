"""The memory of a writer and of a reader, by the size of the log."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import ledger
from benchmarks.disk import copy_store
from benchmarks.machine import process_memory
from benchmarks.payload import appends
from benchmarks.rivals.ledger import NAME, Store
from benchmarks.row import Figures, Fixture, Line, Row, Task
from benchmarks.size import Size


class Memory(Row):
    name = "memory"
    title = "memory of a writer and of a reader"
    work = (
        "A process opens the ledger and appends, or reads everything record by record without keeping any. `private` is what "
        "belongs to the process alone at the end, the interpreter and imports (which `import` shows) among it; `peak` is the "
        "largest resident set, into which pages of the file count that the kernel may drop at any time."
    )
    lines = (
        Line("import_mb", "private memory after `import ledger`", "MB", "less"),
        Line("writer_mb", "private memory of a writer", "MB", "less"),
        Line("reader_mb", "private memory of a reader of everything", "MB", "less"),
        Line("peak_mb", "peak resident set", "MB", "less"),
    )
    rounds = 1

    def contestants(self, size: Size) -> Sequence[str]:
        return [f"ledger:{part}-{count}" for count in (size.few_trial_events, size.trial_events) for part in ("write", "read")]

    def name_of(self, contestant: str, size: Size) -> str:
        part, _, count = contestant.partition(":")[2].partition("-")
        return f"{'writer' if part == 'write' else 'reader'}, {int(count):,} events"

    def fixture(self, contestant: str, size: Size) -> Fixture:
        return Fixture("trials", "ledger", int(contestant.rpartition("-")[2]))

    def measure(self, task: Task) -> Figures:
        figures = {"import_mb": process_memory("private")}
        if task.variant.startswith("write"):
            copy_store(Path(task.fixture), task.place)
            with contextlib.closing(Store(task.place)) as store:
                for per_append, count in ((1, task.size.singles), (1000, task.size.thousands)):
                    for number in range(count):  # made one by one: what waits to be appended is not the ledger's memory
                        store.append(appends(f"memory-{per_append}-{number % 100}", 1, per_append)[0])
                figures["writer_mb"] = process_memory("private")
        else:
            with ledger.open(Path(task.fixture) / NAME) as book:
                for _ in book.log.read():
                    pass
                figures["reader_mb"] = process_memory("private")
        return {**figures, "peak_mb": process_memory("peak")}
