"""The runner: rounds in which the ledger and its rivals take turns, each measurement in a process of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.child import measure
from benchmarks.fixture import build
from benchmarks.machine import commit
from benchmarks.result import Result, RowResult, Sample
from benchmarks.rivals import RIVALS
from benchmarks.row import Figures, Fixture, Row, Task
from benchmarks.size import Size

_BUILD_SECONDS = 3600.0
_ROOT = Path(__file__).parent.parent


class Failed(Exception):
    """A measurement that gave no figures, and why."""


class Runner:
    """Measure rows, one after the other; each one's contestants take turns within every round.

    ``isolate=False`` measures in this process, without time limits: for the tests, where speed is no matter.
    """

    def __init__(
        self, size: Size, directory: Path, *, rounds: int | None = None, command: str = "", isolate: bool = True,
        only: Sequence[str] = (), tell: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self._size, self._directory = size, directory
        self._rounds = rounds or size.rounds
        self._command, self._isolate, self._tell = command, isolate, tell
        self._only = frozenset(only)
        self._commit = commit()

    def run(self, row: Row, result: Result) -> RowResult:
        """Measure one row and put it into the result."""
        began = time.monotonic()
        missing, present = self._who(row)
        labels = {each: self._label(row, each) for each in row.contestants(self._size)}
        done = RowResult(row.name, row.title, row.work, list(row.lines), labels, missing)
        done.began_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        done.command, done.commit = self._command, self._commit
        rounds = min(self._rounds, row.rounds or self._rounds)
        for number in range(1, rounds + 1):
            turn = number % len(present) if present else 0
            for contestant in present[turn:] + present[:turn]:  # nobody always follows the same one
                if contestant in done.errors():
                    continue
                sample = self._sample(row, contestant, number, result)
                done.samples.append(sample)
                self._tell(f"{row.name} {number}/{rounds} {labels[contestant]}: {sample.error or _brief(row, sample.figures)}")
        done.seconds = round(time.monotonic() - began, 1)
        result.put(done)
        return done

    def _who(self, row: Row) -> tuple[dict[str, str], list[str]]:
        missing, present = {}, []
        for contestant in row.contestants(self._size):
            rival = RIVALS[contestant.partition(":")[0]]
            if self._only and rival.name not in self._only:
                missing[contestant] = "left out by --rivals"
            elif not rival.is_installed:
                missing[contestant] = f"{rival.package} is not installed"
            else:
                present.append(contestant)
        return missing, present

    def _label(self, row: Row, contestant: str) -> str:
        title, variant = RIVALS[contestant.partition(":")[0]].title, row.name_of(contestant, self._size)
        return f"{title}, {variant}" if variant else title

    def _sample(self, row: Row, contestant: str, number: int, result: Result) -> Sample:
        load, begun = os.getloadavg()[0], time.monotonic()
        place = self._directory / f"{row.name}-{contestant.replace(':', '-')}-{number}"
        figures: Figures = {}
        error = ""
        try:
            fixture = row.fixture(contestant, self._size)
            ready = "" if fixture is None else str(self._fixture(fixture, result))
            place.mkdir()
            task = Task(row.name, contestant, number, self._size, str(place), ready)
            figures = self._isolated(task, row.limit_seconds) if self._isolate else measure(task)
        except Failed as failure:
            error = str(failure)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return Sample(contestant, number, figures, round(time.monotonic() - begun, 3), round(load, 2), error)

    def _fixture(self, fixture: Fixture, result: Result) -> Path:
        """Return the directory of a large store, which is built when it is wanted for the first time."""
        place = self._directory / fixture.name
        if place.exists():
            if not (place / "built").exists():
                raise Failed(f"{fixture.name} could not be built")
            return place
        place.mkdir()
        begun = time.monotonic()
        if self._isolate:
            self._tell(f"building {fixture.name}")
            self._child(msgspec.json.encode(fixture), fixture.name, _BUILD_SECONDS, [str(place)])
        else:
            build(fixture, place)
        (place / "built").touch()
        result.fixtures[fixture.name] = round(time.monotonic() - begun, 1)
        return place

    def _isolated(self, task: Task, limit_seconds: float) -> Figures:
        answer = self._child(msgspec.json.encode(task), Path(task.directory).name, limit_seconds, [])
        return msgspec.json.decode(answer, type=Figures)

    def _child(self, job: bytes, name: str, limit_seconds: float, more: list[str]) -> bytes:
        """Run a child process to its end or its limit, and return its answer; nothing of it is left running."""
        files = [self._directory / f"{name}.{kind}" for kind in ("job", "answer", "said")]
        job_file, answer_file, said_file = files
        job_file.write_bytes(job)
        path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
        # Huge pages are what the host of a virtual machine takes away when they are free; whoever comes next waits for them.
        environment = {**os.environ, "PYTHONPATH": path, "NUMPY_MADVISE_HUGEPAGE": "0"}
        with said_file.open("wb") as said:
            child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.child", str(job_file), str(answer_file), *more],
                stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, start_new_session=True,
            )  # fmt: skip
            try:
                status = child.wait(limit_seconds)
            except subprocess.TimeoutExpired:
                raise Failed(f"stopped after {limit_seconds:,.0f} s") from None
            finally:
                # Its helpers too: servers, services that a rival starts and does not stop.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        try:
            if status:
                lines = said_file.read_text(errors="replace").strip().splitlines()
                raise Failed(lines[-1][:300] if lines else f"exit status {status}")
            return answer_file.read_bytes()
        finally:
            for file in files:
                file.unlink(missing_ok=True)


def _brief(row: Row, figures: Figures) -> str:
    found = [f"{figures[line.figure]:,.4g} {line.unit}" for line in row.lines if line.figure in figures]
    return ", ".join(found[:3]) or "nothing in this round"
