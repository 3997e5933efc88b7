"""Writers killed with SIGKILL at random moments, while a tailer follows: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path

import pytest

import ledger
from tests.torture import oracle
from tests.torture.children import end, lines_of, program, start, wait_for_line

WRITERS = 3


def _rounds(path: Path, place: Path, rounds: int, seed: int, *options: str, writers: int = WRITERS) -> list[Path]:
    """Start writers and kill them, again and again; return the files of what they printed."""
    random_ = random.Random(seed)
    files = []
    for round_ in range(rounds):
        outs = [place / f"{round_}-{number}.out" for number in range(writers)]
        running = [start(program("writer", path, out.stem, *options), out) for out in outs]
        for out in outs:
            wait_for_line(out, "ready")
        time.sleep(random_.uniform(0.0, 0.15))
        for process in running:
            end(process)
            time.sleep(random_.uniform(0.0, 0.02))
        files += outs
    return files


def _seen(file: Path, head: int) -> list[int]:
    """Wait until the tailer has seen the newest record, and return what it has seen."""
    wait_for_line(file, str(head))
    return [int(line) for line in lines_of(file) if line.strip().isdigit()]


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_killed_writers_lose_nothing_and_a_tailer_sees_each_event_once(
    ledger_path: Path, tmp_path: Path, durability: str
) -> None:
    """24 kills of 3 writers in 8 rounds: every acknowledged batch is there once and whole; the tailer saw all, in order."""
    ledger.open(ledger_path).close()
    followed = tmp_path / "tailer.seen"
    tailer = start(program("tailer", ledger_path), followed)
    try:
        wait_for_line(followed, "ready")
        files = _rounds(ledger_path, tmp_path, 8, 7, "--durability", durability, "--seal-records", "40")
        with ledger.open(ledger_path) as book:
            seen = _seen(followed, book.log.head)
        told = oracle.read_told(lines_of(*files))
        assert len(told) > 100
        assert oracle.check(ledger_path, told, seen) == len(seen) > len(told)
    finally:
        end(tailer)


def test_the_oracle_finds_writers_that_acknowledge_too_early(tmp_path: Path) -> None:
    """The test above can fail: a writer that acknowledges before it appends is found out within some kills."""
    for seed in range(20):
        path = tmp_path / f"{seed}.ledger"
        ledger.open(path).close()
        (place := tmp_path / str(seed)).mkdir()
        files = _rounds(path, place, 2, seed, "--careless", "early", writers=1)
        with contextlib.suppress(AssertionError):
            oracle.check(path, oracle.read_told(lines_of(*files)))
            continue
        return
    pytest.fail("the oracle found nothing")


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(10))
def test_the_same_for_longer(ledger_path: Path, tmp_path: Path, seed: int) -> None:
    """A thousand kills a seed."""
    ledger.open(ledger_path).close()
    followed = tmp_path / "tailer.seen"
    tailer = start(program("tailer", ledger_path), followed)
    try:
        wait_for_line(followed, "ready")
        files = _rounds(ledger_path, tmp_path, 250, seed, "--seal-records", "40", writers=4)
        with ledger.open(ledger_path) as book:
            seen = _seen(followed, book.log.head)
        oracle.check(ledger_path, oracle.read_told(lines_of(*files)), seen)
    finally:
        end(tailer)


def test_four_processes_that_grow_the_map_together_lose_nothing(ledger_path: Path, tmp_path: Path) -> None:
    """Each begins with a map of 128 KiB: it grows in the middle of batches, under the others' feet."""
    ledger.open(ledger_path).close()
    outs = [tmp_path / f"{number}.out" for number in range(4)]
    arguments = ("--map-bytes", 1 << 17, "--batches", 40, "--size", 40, "--padding", 600, "--durability", "relaxed")
    running = [start(program("writer", ledger_path, out.stem, *arguments), out) for out in outs]
    try:
        assert [process.wait(120) for process in running] == [0] * 4, [out.with_suffix(".err").read_text() for out in outs]
    finally:
        end(*running)
    told = oracle.read_told(lines_of(*outs))
    assert len(told) == 160
    assert oracle.check(ledger_path, told) == 6400
    assert os.stat(ledger_path / "data.mdb").st_size > 8 << 17


@pytest.mark.parametrize("map_bytes", [1 << 16, 1 << 17, 3 << 16])
def test_a_map_that_is_full_in_the_middle_of_a_batch_loses_nothing(ledger_path: Path, tmp_path: Path, map_bytes: int) -> None:
    """Wherever in a batch of 200 records the map ends, the batch is written once, whole."""
    out = tmp_path / "w.out"
    arguments = ("--map-bytes", map_bytes, "--batches", 8, "--size", 200, "--padding", 300)
    assert start(program("writer", ledger_path, "w", *arguments), out).wait(60) == 0
    assert oracle.check(ledger_path, oracle.read_told(lines_of(out))) == 1600


@pytest.mark.parametrize("kib", [40, 64, 100, 256, 1024])
def test_a_full_disk_loses_nothing(ledger_path: Path, tmp_path: Path, kib: int) -> None:
    """A writer that runs into RLIMIT_FSIZE, early or late, is told; what was acknowledged is there, and the ledger goes on."""
    ledger.open(ledger_path).close()
    out = tmp_path / "w.out"
    command = program("writer", ledger_path, "w", "--file-bytes", kib << 10, "--padding", 2000, "--seal-records", 50)
    assert start(command, out).wait(60) == 3
    assert "DiskFull: no space left" in out.with_suffix(".err").read_text()
    told = oracle.read_told(lines_of(out))
    assert told
    oracle.check(ledger_path, told)
