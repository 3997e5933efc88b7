"""Power cuts on real file systems: each durability mode against what it promises."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import ledger
from tests.torture import oracle
from tests.torture.children import end, lines_of, program, start, wait_for_line
from tests.torture.machine import Disk, disk

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]
ROUNDS = 8


def _cut_while_writing(made: Disk, outs: list[Path], seconds: float, *options: object) -> None:
    """Let two writers append, cut the power, and mount the disk again."""
    path = made.path / "runs.ledger"
    running = [start(program("writer", path, out.stem, "--seal-records", 30, *options), out) for out in outs]
    try:
        for out in outs:
            wait_for_line(out, "ready")
        time.sleep(seconds)
        made.cut_power()
    finally:
        end(*running)
    made.unmount()
    made.mount()


def _rounds(made: Disk, place: Path, *options: object, rounds: int = ROUNDS) -> tuple[Path, dict[str, int]]:
    random_ = random.Random(3)
    outs: list[Path] = []
    for round_ in range(rounds):
        new = [place / f"{round_}-{number}.out" for number in range(2)]
        _cut_while_writing(made, new, random_.uniform(0.05, 0.8), *options)
        outs += new
    told = oracle.read_told(lines_of(*outs))
    print(f"{len(told)} acknowledged in {rounds} rounds")
    return made.path / "runs.ledger", told


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_full_durability_loses_nothing(tmp_path: Path, kind: str) -> None:
    """Whatever was acknowledged before the power went is there, whole, after each of the cuts."""
    with disk(tmp_path, kind) as made:
        path, told = _rounds(made, tmp_path)
        assert len(told) > 100
        oracle.check(path, told)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_relaxed_durability_loses_from_the_end_only(tmp_path: Path, kind: str) -> None:
    """What is lost are the last commits, whole; what is there is in order."""
    with disk(tmp_path, kind) as made:
        lost = 0
        for round_ in range(ROUNDS):
            outs = [tmp_path / f"{round_}-{number}.out" for number in range(2)]
            _cut_while_writing(made, outs, 0.3, "--durability", "relaxed")
            told = oracle.read_told(lines_of(*outs))
            path = made.path / "runs.ledger"
            with ledger.open(path) as book:
                head = book.log.head
            kept = {batch: position for batch, position in told.items() if position <= head}
            lost += len(told) - len(kept)
            oracle.check(path, kept)
        print(f"{lost} of the last appends lost in {ROUNDS} cuts")


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_without_syncs_events_are_lost(tmp_path: Path, kind: str) -> None:
    """The tests above can fail: a writer that does not wait for the disk loses what it acknowledged."""
    with disk(tmp_path, kind) as made:
        path, told = _rounds(made, tmp_path, "--careless", "unsynced", rounds=1)
        with pytest.raises((AssertionError, ledger.LedgerError)):
            oracle.check(path, told)
