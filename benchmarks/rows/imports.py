"""What it costs to import the package."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.row import Bound, Figures, Line, Row, Task
from benchmarks.size import Size

_STATEMENTS = {
    "ledger": "import ledger",
    "bare_lmdb": "import msgspec, lmdb, zstandard",
    "umadb": "import umadb",
    "eventsourcing": "import eventsourcing.sqlite",
    "optuna": "import optuna",
    "mlos": "import mlos_bench.storage.sql.storage",
    "wandb": "import wandb",
    "trackio": "import trackio",
    "tensorboard": "import tensorboardX",
    "aim": "import aim",
}
_CODE = "import time; t = time.perf_counter(); {}; print('SECONDS', time.perf_counter() - t)"


class Imports(Row):
    name = "imports"
    title = "`import ledger`"
    work = (
        "The statement in a new process, the interpreter's own start not counted, its byte code cached; the median of some "
        "processes a round."
    )
    lines = (Line("ms", title, "ms", "less", [Bound(2.0, "bare_lmdb")]),)
    limit = (
        "the modules of the core, OpenSSL's library for SHA-256, and the classes of some fifty event types; artifacts "
        "and capture, among others, are loaded when they are used."
    )
    rounds = 3

    def contestants(self, size: Size) -> Sequence[str]:
        return tuple(_STATEMENTS)

    def name_of(self, contestant: str, size: Size) -> str:
        return f"`{_STATEMENTS[contestant]}`"

    def measure(self, task: Task) -> Figures:
        code = _CODE.format(_STATEMENTS[task.rival])
        # The first one writes the byte code, which an installed package has and a checkout may be kept from having.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": task.directory}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        times = [_seconds(code, environment) for _ in range(task.size.imports + 1)]
        return {"ms": statistics.median(times[1:]) * 1e3}


def _seconds(code: str, environment: dict[str, str]) -> float:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout.rpartition("SECONDS")[2])
