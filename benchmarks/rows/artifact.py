"""What it costs to keep a large file as an artifact."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import ledger
from benchmarks.machine import process_memory
from benchmarks.row import Bound, Figures, Line, Row, Task
from benchmarks.size import Size

_PIECE = 1 << 20
_MEGABYTE = 1_000_000


class Artifact(Row):
    name = "artifact"
    title = "keep a large file as an artifact"
    work = (
        "A file of random bytes is kept as an artifact of a trial (hashed, copied, on disk, recorded), then read again and "
        "proved; beside it `cp` and fdatasync of the copy. The file is in memory before, the copy is removed after. `peak` is "
        "the largest resident set of the process that keeps it; `cp` has none of Python."
    )
    lines = (
        Line("save_mb", "kept", "MB/s", "more", [Bound(0.5, "file_append:cp")]),
        Line("read_mb", "read and proved", "MB/s", "more"),
        Line("peak_mb", "peak resident set", "MB", "less", [Bound(200.0)]),
    )
    rounds = 5

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger", "file_append:cp")

    def name_of(self, contestant: str, size: Size) -> str:
        return "" if contestant == "ledger" else "`cp` and fdatasync"

    def measure(self, task: Task) -> Figures:
        source = task.place / "source"
        with open(source, "wb") as file:
            for _ in range(task.size.artifact_bytes // _PIECE):
                file.write(os.urandom(_PIECE))
        os.sync()
        return self._keep(task, source) if task.rival == "ledger" else self._copy(task, source)

    def _keep(self, task: Task, source: Path) -> Figures:
        with ledger.open(task.place / "ledger") as book:
            trial = book.experiment("benchmark").new_trial({})
            begun = time.perf_counter()
            artifact = trial.log_artifact(source)
            saved = time.perf_counter() - begun
            begun = time.perf_counter()
            with artifact.open() as file:
                while file.read(_PIECE):
                    pass
            read = time.perf_counter() - begun
        size = task.size.artifact_bytes / _MEGABYTE
        return {"save_mb": size / saved, "read_mb": size / read, "peak_mb": process_memory("peak")}

    def _copy(self, task: Task, source: Path) -> Figures:
        target = task.place / "copy"
        program = shutil.which("cp")
        if program is None:
            raise RuntimeError("there is no cp here")
        begun = time.perf_counter()
        subprocess.run([program, str(source), str(target)], check=True)
        descriptor = os.open(target, os.O_RDONLY)
        try:
            getattr(os, "fdatasync", os.fsync)(descriptor)
        finally:
            os.close(descriptor)
        return {"save_mb": task.size.artifact_bytes / _MEGABYTE / (time.perf_counter() - begun)}
