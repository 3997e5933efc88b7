"""Fixtures of captures: nothing known from tests before, repositories, and a machine that says what a test wants."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ledger
from ledger.capture import collect


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was captured before in this process is forgotten."""
    monkeypatch.setattr(collect, "_known", {})


@pytest.fixture
def exp(book: ledger.Ledger) -> ledger.Experiment:
    """An experiment whose trials are captured."""
    return book.experiment("tuning", objectives={"loss": "min"}, capture=True)


@pytest.fixture
def memory_book() -> Iterator[ledger.Ledger]:
    """A ledger in memory."""
    with ledger.open("memory:") as opened:
        yield opened
        opened.log.backend.check()


Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Run git in the directory ``repository`` (or another), as somebody, with no settings of this machine's."""
    place = tmp_path / "repository"
    place.mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def run(*arguments: str, directory: Path = place, data: str | None = None) -> str:
        settings = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
        settings += ["-c", "protocol.file.allow=always"]
        done = subprocess.run(
            ["git", *settings, *arguments], cwd=directory, input=data, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    return run


@pytest.fixture
def repository(git: Git, tmp_path: Path) -> Path:
    """A repository with one commit, of ``train.py``."""
    place = tmp_path / "repository"
    git("init")
    (place / "train.py").write_text("lr = 0.1\n")
    git("add", ".")
    git("commit", "-m", "first")
    return place


@pytest.fixture
def fake_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a program of that name, a shell script, first on the path."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, script: str) -> None:
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)

    return make
