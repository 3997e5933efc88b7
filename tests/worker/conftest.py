"""A queue, and ways to run the command line on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ledger

ENVIRONMENT = {**os.environ, "TERM": "dumb", "PYTHONWARNINGS": "error"}


@pytest.fixture
def queue(ledger_path: Path) -> Callable[..., Path]:
    """Make an experiment of trials that wait, and return the ledger's path."""

    def make(*configs: dict[str, Any], objectives: dict[str, str] | None = None, **options: Any) -> Path:
        with ledger.open(ledger_path) as book:
            book.experiment("tuning", objectives=objectives).new_trials(list(configs), **options)
        return ledger_path

    return make


@pytest.fixture
def work(ledger_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``ledger COMMAND`` on the queue to its end; ``worker`` unless another one is named."""

    def run(*words: Any, command: str = "worker", **more: Any) -> subprocess.CompletedProcess[str]:
        environment = {**ENVIRONMENT, **more.pop("variables", {})}
        return subprocess.run(
            _words(command, ledger_path, words), capture_output=True, encoding="utf-8", timeout=120, env=environment, check=False,
            **more,
        )  # fmt: skip

    return run


@pytest.fixture
def start(ledger_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a worker on the queue; killed at the end if it still runs."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            _words("worker", ledger_path, words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
        process.communicate()


def _words(command: str, path: Path, words: tuple[Any, ...]) -> list[str]:
    experiment = ["-e", "tuning", "--no-capture"] if command == "worker" else ["tuning"]
    return [sys.executable, "-m", "ledger", command, str(path), *experiment, *map(str, words)]


@pytest.fixture
def states(ledger_path: Path) -> Callable[[], list[Any]]:
    """Return the states of the trials."""

    def read() -> list[Any]:
        with ledger.open(ledger_path) as book:
            return [trial.state for trial in book.get_experiment("tuning").trials()]

    return read


@pytest.fixture
def kept(ledger_path: Path) -> Callable[..., Any]:
    """Return the bytes of an artifact of a trial."""

    def read(trial: int, name: str) -> bytes:
        with ledger.open(ledger_path) as book:
            return book.get_experiment("tuning").trial(trial).artifact(name).read_bytes()

    return read


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Wait until something is so, and return it; fails after a minute."""

    def wait(look: Callable[[], Any]) -> Any:
        end = time.monotonic() + 60
        while not (found := look()):
            assert time.monotonic() < end, "it has not come true"
            time.sleep(0.02)
        return found

    return wait


@pytest.fixture
def is_gone() -> Callable[[int], bool]:
    """Say whether a process has ended (a zombie has)."""

    def look(pid: int) -> bool:
        try:
            return ") Z " in Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True

    return look
