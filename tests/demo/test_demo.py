"""The demo as a whole: run, killed at any moment, resumed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger.audit import verify

ENDED = ("TrialCompleted", "TrialFailed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the demo's ledger is."""
    return tmp_path / "demo.ledger"


@pytest.fixture
def start(path: Path, request: pytest.FixtureRequest) -> Callable[..., subprocess.Popen[str]]:
    """Start the demo in a process group of its own; whatever of it is left at the end is killed."""

    def run(*options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "ledger", "demo", str(path), *map(str, options)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        request.addfinalizer(lambda: end(process))
        return process

    return run


def end(process: subprocess.Popen[str]) -> None:
    """Kill the whole process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a good end and return what was printed."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def wait_for(path: Path, wanted: Callable[[list[ledger.Record]], bool]) -> None:
    """Wait until the ledger's records are as wanted."""
    deadline = time.monotonic() + 60
    while not (path / "open.lock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with ledger.open(path) as book, book.subscribe() as records:
        seen: list[ledger.Record] = []
        while not wanted(seen):
            assert time.monotonic() < deadline, [record.type for record in seen]
            record = records.next(timeout=1)
            if record is not None:
                seen.append(record)


def count(records: list[ledger.Record], *types: str) -> int:
    """Count records of some types."""
    return sum(record.type in types for record in records)


def half_way(records: list[ledger.Record]) -> bool:
    """Say that some trials have ended, and trial 6 is under way, which with seed 0 is a slow one."""
    slow = any(record.type == "TrialStarted" and record.stream.endswith("/6") for record in records)
    return slow and count(records, *ENDED) >= 2


def worker_pids(path: Path) -> dict[str, int]:
    """Return the process ids of the workers, as their actors tell."""
    with ledger.open(path) as book:
        actors = {record.actor for record in book.log.read(types=["TrialClaimed"])}
    return {actor.split("/")[2]: int(actor.split("/")[1]) for actor in actors}


def check_whole(path: Path, trials: int) -> list[ledger.Record]:
    """Check that every trial has ended well exactly once, and that the ledger is intact; return its records."""
    with ledger.open(path) as book:
        records = list(book.log.read())
        assert [trial.status for trial in book.get_experiment("zstd-tuning").trials()] == [ledger.Status.SUCCEEDED] * trials
    ended = Counter(record.stream for record in records if record.type == "TrialCompleted")
    assert set(ended.values()) == {1}
    assert count(records, "TrialCreated") == len(ended) == trials
    over: set[str] = set()
    for record in records:
        assert not (record.stream in over and record.type == "TrialClaimed"), "a finished trial was begun again"
        if record.type in ENDED:
            over.add(record.stream)
    assert verify(path).problems == []
    return records


def is_alive(pid: int) -> bool:
    """Say whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of the processes is there any more."""
    deadline = time.monotonic() + 30
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.05)


def test_the_whole_demo_and_what_it_shows(start, path):
    """It tunes with several workers, then shows the best configs, a history, the verification and what to try next."""
    text = finish(start("--trials", 6, "--workers", 2, "--seed", 1))
    records = check_whole(path, 6)
    assert "6 SUCCEEDED" in text
    assert f"{len(records)} events recorded" in text
    for heading in ("Smallest: ", "Fastest: ", "The history of trial ", "Verification\nok: all ", "Try next\n"):
        assert heading in text
    assert re.search(r"TrialCreated.*\n.*TrialClaimed.*\n.*TrialStarted", text)
    assert "\x1b" not in text
    commands = text.partition("Try next\n")[2].strip().splitlines()
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command.replace("python -m ledger", f"{sys.executable} -m ledger").replace(" --follow", ""))
        assert subprocess.run(words, capture_output=True, check=True, timeout=60).stdout
    again = finish(start("--trials", 6))
    assert len(again.splitlines()) >= 20
    assert "6 SUCCEEDED" in again
    assert "trials, " not in again.splitlines()[0]
    with ledger.open(path) as book:
        assert book.log.head == len(records), "a demo that is finished appends nothing"


def test_more_trials_are_added_to_a_finished_demo(start, path):
    """--trials larger than before runs the missing ones only."""
    finish(start("--trials", 2, "--workers", 1, "--seed", 2))
    text = finish(start("--trials", 4, "--workers", 1))
    check_whole(path, 4)
    assert "2 of 4 trials are finished already" in text


def test_killed_as_a_whole_and_started_again(start, path):
    """kill -9 of everything half-way: no finished trial is repeated, those under way are seen LOST and tried again."""
    demo = start("--trials", 8, "--workers", 2, "--seed", 0)
    wait_for(path, half_way)
    os.killpg(demo.pid, signal.SIGKILL)
    demo.communicate()
    text = finish(start("--trials", 8, "--workers", 2))
    records = check_whole(path, 8)
    lost = [record.stream for record in records if record.type == "TrialLost"]
    assert lost
    for stream in lost:
        types = [record.type for record in records if record.stream == stream]
        after = types[types.index("TrialLost") :]
        assert [each for each in after if each not in ("MetricsLogged", "LeaseRenewed")] == [
            "TrialLost", "TrialRequeued", "TrialClaimed", "TrialStarted", "TrialCompleted"
        ]  # fmt: skip
    assert "lost on the way and tried again" in text
    assert re.search(r"The history of trial (\d+)", text)[1] in [stream.split("/")[2] for stream in lost]


def test_a_worker_that_is_killed_is_replaced(start, path):
    """kill -9 of one worker: the run goes on by itself, and its trial is lost and tried again."""
    demo = start("--trials", 8, "--workers", 2, "--seed", 0)
    wait_for(path, half_way)
    with ledger.open(path) as book:
        worker = book.get_experiment("zstd-tuning").trial(6).state.worker
    os.kill(worker_pids(path)[worker], signal.SIGKILL)
    text = finish(demo)
    records = check_whole(path, 8)
    assert [record.event.worker for record in records if record.type == "TrialLost"] == [worker]
    assert "1 lost on the way and tried again" in text


def test_a_demo_with_its_only_worker_killed_goes_on(start, path):
    """With one worker, the kill leaves nobody: the parent starts another."""
    demo = start("--trials", 3, "--workers", 1, "--seed", 0)
    wait_for(path, lambda records: count(records, "TrialStarted") >= 1)
    os.kill(worker_pids(path)["w1"], signal.SIGKILL)
    finish(demo)
    check_whole(path, 3)
    assert "w2" in worker_pids(path)


def test_interrupted_and_started_again(start, path):
    """Ctrl-C ends all of it in good order, says how to go on, exits 130; the next run goes on at once."""
    demo = start("--trials", 8, "--workers", 2, "--seed", 0)
    wait_for(path, half_way)
    pids = list(worker_pids(path).values())
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to the whole group
    out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (130, "")
    assert re.search(rf"Stopped: \d of 8 trials are finished. To go on: python -m ledger demo {re.escape(str(path))}", out)
    wait_until_gone(pids)
    with ledger.open(path) as book:
        assert {trial.status for trial in book.get_experiment("zstd-tuning").trials()} <= {"PENDING", "SUCCEEDED"}
    finish(start("--trials", 8, "--workers", 2))
    records = check_whole(path, 8)
    released = [record for record in records if record.type == "TrialReleased"]
    assert [record.reason for record in released] == ["the demo was stopped"] * len(released)
    assert count(records, "TrialLost") == 0


def test_workers_die_with_their_parent(start, path):
    """kill -9 of the parent alone leaves no worker running."""
    demo = start("--trials", 50, "--workers", 2, "--seed", 0)
    wait_for(path, half_way)
    pids = list(worker_pids(path).values())
    os.kill(demo.pid, signal.SIGKILL)
    wait_until_gone(pids)


def test_a_different_seed_is_refused_with_the_cure(start, path):
    """Another seed on the same path is an error of one line, and nothing is appended."""
    finish(start("--trials", 1, "--seed", 3))
    with ledger.open(path) as book:
        head = book.log.head
    other = start("--trials", 1, "--seed", 4)
    out, err = other.communicate(timeout=60)
    assert (other.returncode, out, err.count("\n")) == (4, "", 1)
    assert "seed 3, not 4" in err
    with ledger.open(path) as book:
        assert book.log.head == head
