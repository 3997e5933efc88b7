"""Fixtures: ledgers that check themselves after every test, a clock, and processes to kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ledger
from ledger.audit import verify
from ledger.backends.environment import Environment


def pytest_configure() -> None:
    """Listen to Ctrl-C: ``pytest &`` has it ignored, and the processes that the tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def ledger_path(tmp_path: Path) -> Iterator[Path]:
    """A path for a ledger; what is there at the end must be in order."""
    path = tmp_path / "runs.ledger"
    yield path
    if (path / "data.mdb").exists():
        verify(path).raise_for_problem()


@pytest.fixture
def book(ledger_path: Path) -> Iterator[ledger.Ledger]:
    """An open ledger, closed and verified at the end."""
    with ledger.open(ledger_path) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Every handle that a test opens is closed by its end, and no thread of it lives on."""
    yield
    left = [environment.path for environment in Environment._open.values()]
    for environment in list(Environment._open.values()):
        environment._close_files()
    assert not left, f"ledgers left open: {left}"
    names = [t.name for t in threading.enumerate() if t.name == "ledger-background"]
    assert not names, "a background thread was left running"


class Script:
    """A Python program in another process, which prints lines and can be killed."""

    def __init__(self, code: str, *arguments: object) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        os.kill(self.process.pid, signal.SIGKILL)

    def finish(self) -> list[str]:
        """Wait for its end and return the lines that are left; fails when it failed by itself."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()  # not communicate(): it passes over what readline() has read ahead
        self.process.wait(timeout=120)
        self._errors.seek(0)
        assert self.process.returncode in (0, -signal.SIGKILL), self._errors.read()
        return out.splitlines()

    def close(self) -> None:
        """Kill it if it still runs, and give back what it holds."""
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait()
        self._errors.close()


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Start programs; those that still run at the end are killed."""
    started: list[Script] = []

    def start(code: str, *arguments: object) -> Script:
        started.append(Script(code, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()
