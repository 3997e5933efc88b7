"""A small ledger with one of everything, and ways to call the command line."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ledger
from ledger.cli.main import app

ODD = {
    "shape": (3, 4),
    "big": 2**80,
    "exact": Decimal("0.10"),
    "raw": b"\x00\xff",
    "nan": float("nan"),
    "$odd": None,
    "text": "ü🚀",
}


@pytest.fixture(scope="session")
def sample_master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the sample ledger once."""
    path = tmp_path_factory.mktemp("sample") / "runs.ledger"
    with ledger.open(path, actor="ada@host/1") as book:
        exp = book.experiment("sqlite-tuning", objectives={"latency_ms": "min"}, description="WAL or not")
        exp.capture_environment({"python": "3.13", "cpus": 2})
        exp.set_attributes({"owner": "ada"}, namespace="team")
        with exp.new_trial({"cache_mb": 64, "journal": "wal"}).run() as trial:
            for step in range(3):
                trial.log(step=step, throughput=100.0 + step)
            trial.tag("baseline")
            trial.complete({"latency_ms": 1.9})
        failing = exp.new_trial({"cache_mb": 0, "journal": "off"})
        with pytest.raises(ValueError, match="at least 1 MB"), failing.run():
            raise ValueError("cache must be\nat least 1 MB")
        exp.new_trial({"cache_mb": 8, "journal": "wal"}).cancel(reason="no longer needed")
        exp.new_trial({"cache_mb": 16, "journal": "wal"}, priority=2)
        exp.new_trial(ODD)
        book.experiment("größe 🚀").new_trial({}, reason="to see \x1b[31mred")
        book.log.append([ledger.NoteAdded("dear diary")], stream="diary")
    return path


@pytest.fixture
def sample(sample_master: Path, tmp_path: Path) -> Path:
    """Return a copy of the sample ledger, free to be changed."""
    return Path(shutil.copytree(sample_master, tmp_path / "runs.ledger"))


@pytest.fixture
def odd() -> dict[str, Any]:
    """Return the config of the sample's trial 5: values that JSON cannot say."""
    return ODD


@pytest.fixture
def invoke() -> Callable[..., Any]:
    """Call the command line in this process; fast."""
    return lambda *args, **more: CliRunner().invoke(app, [str(arg) for arg in args], **more)


def environment() -> dict[str, str]:
    """Return an environment that shows nothing of the terminal the tests run in."""
    return {**os.environ, "TERM": "dumb", "COLUMNS": "100", "PYTHONWARNINGS": "error"}


@pytest.fixture
def call() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call the command line as a process of its own."""

    def run(*args: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ledger", *(arg if isinstance(arg, bytes) else str(arg) for arg in args)]
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, env=environment(), check=False, **more)

    return run


@pytest.fixture
def spawn() -> Any:
    """Start the command line as a process of its own, to be ended by the test; killed afterwards if it is not."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: Any, **more: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ledger", *map(str, args)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), **more)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def on_terminal() -> Callable[..., str]:
    """Call the command line as a process on a terminal, and return what that was sent, both outputs together."""

    def run(*args: Any, columns: int = 100) -> str:
        main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        variables = {**environment(), "TERM": "xterm-256color", "COLUMNS": str(columns)}
        variables.pop("NO_COLOR", None)
        with subprocess.Popen(
            [sys.executable, "-m", "ledger", *map(str, args)], stdin=other, stdout=other, stderr=other, env=variables
        ):
            os.close(other)
            parts = []
            with contextlib.suppress(OSError):  # Linux says so when the other side is gone
                while part := os.read(main, 65_536):
                    parts.append(part)
        os.close(main)
        return b"".join(parts).decode()

    return run
