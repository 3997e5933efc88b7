"""Completion, driven as the shells do it: by a variable, with the words typed so far."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import ledger


@pytest.fixture
def complete(sample):
    """Ask what may come next after some words; PATH stands for the sample."""

    def ask(*words: str, shell: str = "bash") -> list[str]:
        words = tuple(str(sample) if word == "PATH" else word for word in words)
        line = " ".join(["ledger", *words])
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words))} if shell == "bash" else {
            "_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "ledger"], capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, "_LEDGER_COMPLETE": f"complete_{shell}", **asked},
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split("\n")[:-1] if done.stdout.strip() else []

    return ask


def test_commands(complete):
    """Commands are completed by their beginning."""
    assert complete("hist") == ["history"]


@pytest.mark.parametrize("name", ["trials", "show", "history", "diff"])
def test_experiments(complete, name):
    """Names of experiments come from the ledger at PATH, the newest first; odd ones are quoted for bash."""
    assert complete(name, "PATH", "") == ["'größe 🚀'", "sqlite-tuning"]
    assert complete(name, "PATH", "sq") == ["sqlite-tuning"]
    assert complete(name, "PATH", "x") == []


def test_experiments_as_an_option(complete):
    """The value of --experiment is completed as well, which typer asks for without having parsed the path."""
    assert complete("tail", "PATH", "--experiment", "sq") == ["sqlite-tuning"]
    assert complete("diff", "PATH", "sqlite-tuning", "1", "1", "--other-experiment", "sq") == ["sqlite-tuning"]


def test_other_shells_quote_by_themselves(complete):
    """For fish the name is given as it is."""
    assert "größe 🚀" in complete("show", "PATH", "gr", shell="fish")[0]


def test_trials(complete):
    """Numbers of trials are those of the experiment, the newest first."""
    assert complete("show", "PATH", "sqlite-tuning", "") == ["5", "4", "3", "2", "1"]
    assert complete("history", "PATH", "sqlite-tuning", "4") == ["4"]
    assert complete("diff", "PATH", "sqlite-tuning", "1", "") == ["5", "4", "3", "2", "1"]
    assert complete("show", "PATH", "nothing", "") == []


def test_types_and_statuses(complete):
    """Event types and statuses are completed."""
    assert complete("tail", "PATH", "--type", "TrialF") == ["TrialFailed"]
    assert complete("history", "PATH", "--type", "TrialC") == [
        "TrialCanceled", "TrialCaptured", "TrialClaimed", "TrialCompleted", "TrialConfigured", "TrialCreated",
    ]  # fmt: skip
    assert complete("trials", "PATH", "sqlite-tuning", "--status", "FA") == ["FAILED"]


@pytest.mark.parametrize("kind", ["nothing", "file", "empty", "damaged", "foreign"])
def test_wherever_there_is_no_ledger_nothing_is_offered(complete, tmp_path, kind):
    """A path that is wrong, damaged or somebody else's offers nothing, says nothing and is left as it was."""
    path = tmp_path / "place"
    if kind == "file":
        path.write_text("mine")
    elif kind != "nothing":
        path.mkdir()
    if kind == "damaged":
        with ledger.open(path) as book:
            book.experiment("e")
        data = bytearray((path / "data.mdb").read_bytes())
        (path / "data.mdb").write_bytes(data.replace(b"\xa1e", b"\xa1f"))
    elif kind == "foreign":
        (path / "data.mdb").write_bytes(b"SQLite format 3")
    before = sorted(each.name for each in tmp_path.rglob("*"))
    assert complete("show", str(path), "") == []
    assert complete("show", str(path), "e", "") == []
    if kind in ("nothing", "file", "empty"):
        assert sorted(each.name for each in tmp_path.rglob("*")) == before


def test_it_is_fast_and_loads_no_pandas(sample):
    """What Tab waits for imports neither pandas nor projections, and does not wait for a writer."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(sorted({'pandas', 'projections', 'watchdog'} & set(sys.modules))))\n"
        "from ledger.cli.main import main\n"
        "main()"
    )
    environment = {**os.environ, "_LEDGER_COMPLETE": "complete_bash", "COMP_WORDS": f"ledger show {sample} s", "COMP_CWORD": "3"}
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["sqlite-tuning", "[]"]
    assert time.monotonic() - begun < 10


def test_the_script_for_the_shell(call):
    """--show-completion prints a script that asks by the variable the program listens to, however it was called."""
    done = call("--show-completion", "bash")
    if done.returncode == 2:  # typer finds the shell out by itself when it can
        done = call("--show-completion")
    assert "_LEDGER_COMPLETE=complete_" in done.stdout
    assert "ledger" in done.stdout
