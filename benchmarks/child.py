"""One measurement, in a process of its own: ``python -m benchmarks.child TASK.json ANSWER.json``.

What one contestant imports, caches or leaves behind does not touch the next, and what hangs can be killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from benchmarks.fixture import build
from benchmarks.row import Figures, Fixture, Task
from benchmarks.rows import ROWS


def measure(task: Task) -> Figures:
    """Run one measurement in this process."""
    os.sync()  # what others have left to be written is not charged to this one
    return ROWS[task.row].measure(task)


def main() -> None:
    """Do what the file says: a measurement, or the building of a large store."""
    job, answer = Path(sys.argv[1]), Path(sys.argv[2])
    if len(sys.argv) > 3:
        fixture = msgspec.json.decode(job.read_bytes(), type=Fixture)
        build(fixture, Path(sys.argv[3]))
        os.sync()
        answer.write_text("{}")
        return
    figures = measure(msgspec.json.decode(job.read_bytes(), type=Task))
    answer.write_bytes(msgspec.json.encode(figures))


if __name__ == "__main__":
    main()
