"""Threads and processes that race: one winner each, and readers that see every record."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

import ledger
from ledger.backends import blocks, postings
from ledger.backends.transaction import LmdbTransaction
from ledger.format import Checks, block_key
from ledger.log import EventLog
from ledger.session import Ledger

RACER = Path(__file__).with_name("racer.py")
SECONDS = 3.0  # of reading while others write
SEEDS = (1, 2, 3)


def _load_racer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("racer", RACER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


racer = _load_racer()


def together(*works: Callable[[], Any]) -> list[Any]:
    """Run each in a thread of its own, begun at once; return what they return, or raise what one raised."""
    results: list[Any] = [None] * len(works)
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(place: int, work: Callable[[], Any]) -> None:
        try:
            start.wait()
            results[place] = work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


@pytest.fixture
def spawn(ledger_path: Path) -> Iterator[Callable[..., list[list[int]]]]:
    """Run racers in processes of their own, begun at once; return what each won."""
    children: list[subprocess.Popen[str]] = []

    def run(count: int, what: str, *arguments: object) -> list[list[int]]:
        for number in range(count):
            command = [sys.executable, "-W", "error", str(RACER), what, str(ledger_path), f"p{number}", *map(str, arguments)]
            children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        lines = [child.communicate(timeout=100)[0] for child in children]
        assert [child.returncode for child in children] == [0] * count
        return [json.loads(line) for line in lines]

    yield run
    for child in children:
        if child.poll() is None:
            child.kill()
            child.communicate()


@pytest.fixture
def race(ledger_path: Path) -> Iterator[Ledger]:
    """A ledger with an experiment of 300 trials."""
    with Ledger(racer.open_relaxed(ledger_path), "starter") as book:
        book.experiment("race").new_trials({"n": n} for n in range(300))
        yield book


def _check_winners(log: EventLog, won: dict[str, list[int]], rounds: int) -> None:
    """Each version was won once, by the one whose name stands there."""
    assert sorted(version for versions in won.values() for version in versions) == list(range(rounds))
    written = {record.version - 1: record.event.text for record in log.read(stream="race")}
    assert written == {version: name for name, versions in won.items() for version in versions}


def test_of_two_threads_with_one_expected_version_one_wins(ledger_path: Path) -> None:
    """In thousands of races of two handles in one process, each version has exactly one winner, and both win some.

    A thread that is always one version late wins none: then they were no races, and are run again.
    """
    for number in range(5):
        won = _race_of_two(ledger_path.with_name(f"race-{number}.ledger"), 3000)
        if all(won.values()):
            return
    raise AssertionError("one of the threads never won")


def _race_of_two(path: Path, rounds: int) -> dict[str, list[int]]:
    """Let two handles race, and check that each version has one winner; return what each has won."""
    one, two = racer.open_relaxed(path), racer.open_relaxed(path)
    try:
        logs = {"one": EventLog(one), "two": EventLog(two)}
        results = together(*(lambda name=name, log=log: racer.race_appends(log, name, rounds) for name, log in logs.items()))
        won = dict(zip(logs, results, strict=True))
        _check_winners(logs["one"], won, rounds)
        return won
    finally:
        one.close()
        two.close()


def test_without_the_check_of_the_version_both_win(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: were the expected version not compared in the transaction, a version would have two winners."""
    submit = LmdbTransaction.submit
    monkeypatch.setattr(LmdbTransaction, "submit", lambda self, each: submit(self, msgspec.structs.replace(each, expect={})))
    with pytest.raises(AssertionError):
        _race_of_two(ledger_path, 100)


def test_of_threads_on_one_handle_one_wins(ledger_path: Path) -> None:
    """Threads that share a handle, and so share commits, win each version once too."""
    rounds = 800
    backend = racer.open_relaxed(ledger_path)
    try:
        log = EventLog(backend)
        names = [f"t{i}" for i in range(4)]
        results = together(*(lambda name=name: racer.race_appends(log, name, rounds) for name in names))
        _check_winners(log, dict(zip(names, results, strict=True)), rounds)
    finally:
        backend.close()


def test_of_two_processes_with_one_expected_version_one_wins(race: Ledger, spawn: Callable[..., list[list[int]]]) -> None:
    """In hundreds of races of two processes, each version has exactly one winner."""
    rounds = 600
    results = spawn(2, "append", rounds)
    _check_winners(race.log, {f"p{number}": won for number, won in enumerate(results)}, rounds)


def _check_claims(book: Ledger, won: dict[str, list[int]]) -> None:
    assert sorted(number for numbers in won.values() for number in numbers) == list(range(1, 301))
    claims = [(r.stream, r.event.worker) for r in book.log.read(types=[ledger.TrialClaimed])]
    assert len(claims) == 300
    experiment = book.get_experiment("race")
    by_stream = {experiment.trial(n).stream: name for name, numbers in won.items() for n in numbers}
    assert dict(claims) == by_stream
    assert all(trial.status is ledger.Status.SUCCEEDED for trial in experiment.trials())


def test_threads_claim_each_trial_once(race: Ledger) -> None:
    """Eight threads that claim from one experiment get each trial once."""
    names = [f"w{i}" for i in range(8)]
    results = together(*(lambda name=name: racer.race_claims(race, name) for name in names))
    _check_claims(race, dict(zip(names, results, strict=True)))


def test_processes_claim_each_trial_once(race: Ledger, spawn: Callable[..., list[list[int]]]) -> None:
    """Three processes that claim from one experiment get each trial once."""
    results = spawn(3, "claim")
    _check_claims(race, {f"p{number}": won for number, won in enumerate(results)})


def test_readers_see_every_record_while_others_append_and_seal(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that begin anywhere, page by page, find no gap, whatever is appended and sealed under them."""
    print(f"{SEEDS=}")
    _read_while_others_seal(ledger_path, monkeypatch)


def test_readers_that_go_from_key_to_key_miss_records(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: were a page begun at the next block's key, what was sealed into the one before would be missed."""

    def next_block(txn: Any, checks: Checks, position: int) -> blocks.Block | None:
        cursor = txn.cursor()
        if not cursor.set_range(block_key(position)) or cursor.key()[:1] != b"b":
            return None
        return blocks._open(checks, cursor.key(), cursor.value())

    monkeypatch.setattr(blocks, "find_block", next_block)
    with pytest.raises((AssertionError, ledger.Corrupted)):
        _read_while_others_seal(ledger_path, monkeypatch)


def _read_while_others_seal(ledger_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SEAL_RECORDS", 11)
    monkeypatch.setattr(blocks, "MAX_BLOCK_RECORDS", 7)
    monkeypatch.setattr(postings, "TAIL_POSITIONS", 4)
    monkeypatch.setattr("ledger.backends.lmdb._PAGE_RECORDS", 3)
    backend = racer.open_relaxed(ledger_path)
    log, end = EventLog(backend), time.monotonic() + SECONDS
    runs: list[int] = []

    def write() -> None:
        rng = random.Random(0)
        while time.monotonic() < end:
            log.append([ledger.NoteAdded("x")] * rng.choice([1, 1, 1, 2, 5, 30]), stream=rng.choice("ab"))
            time.sleep(0.0003)

    def read(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < end:
            head = log.head
            after = rng.randrange(max(head - 60, 0), head + 1)
            place = after
            for _ in range(rng.randrange(1, 30)):
                page, reached = backend.read_page(place)
                assert [record.position for record in page] == list(range(place + 1, reached + 1)), (seed, place)
                place = reached
            runs.append(place - after)
            stream = rng.choice("ab")
            versions = [record.version for record in log.read(after=after, stream=stream)]
            assert versions == list(range(versions[0], versions[0] + len(versions))) if versions else True
            positions = sorted(rng.sample(range(1, head + 1), min(head, 9)))
            assert [record.position for record in backend.read_positions(positions)] == positions

    def follow() -> None:
        with log.subscribe(poll_seconds=0.05) as records:
            place = 0
            while time.monotonic() < end or place < log.head:
                record = records.next(timeout=0.1)
                assert record is None or record.position == place + 1
                place += record is not None

    try:
        together(write, follow, *(lambda seed=seed: read(seed) for seed in SEEDS))
        assert [record.position for record in log.read()] == list(range(1, log.head + 1))
        assert sum(runs) > 300
    finally:
        backend.close()
