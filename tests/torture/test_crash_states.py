"""Power cuts, explored: thousands of states that the disk may be in, each opened, checked and written on."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import ledger
from ledger.backends.doorbell import head_bytes
from ledger.format import Checks
from tests.torture import oracle
from tests.torture.children import outcomes, program
from tests.torture.crash_states import State, Step, Sync, Told, Write, final_content, record, states
from tests.torture.faults import need_strace


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory for states: in memory where there is such a place, since no state outlives its check."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as directory:
        yield Path(directory)


class Recorded(NamedTuple):
    """What a writer did, and the checks of the ledger that it made."""

    steps: list[Step]
    checks: Checks


def _recorded(tmp_path: Path, *options: object, batches: int = 100) -> Recorded:
    """Record a writer that makes the ledger, appends, seals, grows the map."""
    need_strace()
    path = tmp_path / "recorded.ledger"
    arguments = ("--batches", batches, "--padding", 300, "--seal-records", 25, "--map-bytes", 1 << 16)
    steps = record(program("writer", path, "w", *arguments, *options), "data.mdb", tmp_path / "trace")
    assert final_content(steps) == (path / "data.mdb").read_bytes(), "the trace does not tell all that was done to the file"
    assert sum(isinstance(step, Told) for step in steps) == batches + 1
    with ledger.open(path, readonly=True) as book:
        return Recorded(steps, Checks(book.id.bytes))


def _check(place: Path, state: State, checks: Checks, *, may_lose_the_end: bool) -> None:
    """Open what a power cut left, in a directory of its own."""
    with tempfile.TemporaryDirectory(dir=place) as directory:
        path = Path(directory, "runs.ledger")
        path.mkdir()
        if state.content is not None:
            (path / "data.mdb").write_bytes(state.content)
        told = oracle.read_told(state.lines)
        rung = max(told.values(), default=0)
        is_there = random.Random(len(state.lines)).random() < 0.7  # the doorbell is not synced
        (path / "head").write_bytes(head_bytes(rung, checks, is_on_disk=not may_lose_the_end) if is_there else b"")
        if may_lose_the_end:
            with ledger.open(path) as book:
                head = book.log.head
            told = {batch: position for batch, position in told.items() if position <= head}
        oracle.check_here(path, told)


def _explore(
    recorded: Recorded, place: Path, count: int, *, with_syncs: bool = True, may_lose_the_end: bool = False
) -> list[str]:
    """Check states; return what was found wrong with each."""
    found = list(states(recorded.steps, count, seed=11, with_syncs=with_syncs))

    def check(state: State) -> None:
        _check(place, state, recorded.checks, may_lose_the_end=may_lose_the_end)

    answers = outcomes(check, found)
    different = len({state.content for state in found})
    print(f"{len(found)} states, {different} different, {sum(map(bool, answers))} bad")
    return answers


def test_no_power_cut_loses_what_was_acknowledged(tmp_path: Path, place: Path) -> None:
    """Over 2,000 different states of a run that appends, seals and grows: what was acknowledged is there, all checks pass."""
    recorded = _recorded(tmp_path)
    assert any(isinstance(step, Sync) for step in recorded.steps)
    assert any(isinstance(step, Write) and step.is_durable for step in recorded.steps)
    answers = _explore(recorded, place, 4000)
    assert len(answers) >= 2000  # different ones of each moment
    assert set(answers) == {""}, [answer for answer in answers if answer][:5]


def test_a_power_cut_in_relaxed_durability_takes_from_the_end_only(tmp_path: Path, place: Path) -> None:
    """What is lost are the last commits, whole; everything before them is there."""
    recorded = _recorded(tmp_path, "--durability", "relaxed", batches=40)
    assert not any(isinstance(step, Write) and step.is_durable for step in recorded.steps)
    assert set(_explore(recorded, place, 600, may_lose_the_end=True)) == {""}
    strict = _explore(recorded, place, 150)
    lost = re.compile("is lost|was on disk once")
    assert any(map(lost.search, strict)), "in full durability nothing may be lost: that is the difference"
    assert all(map(lost.search, filter(None, strict)))


def test_without_the_syncs_events_are_lost(tmp_path: Path, place: Path) -> None:
    """The tests above can fail: had no sync worked, most states would be bad."""
    answers = _explore(_recorded(tmp_path, batches=40), place, 200, with_syncs=False)
    assert sum(map(bool, answers)) > len(answers) / 2


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(5))
def test_many_more_states(tmp_path: Path, place: Path, seed: int) -> None:
    """20,000 states of each of five other runs."""
    recorded = _recorded(tmp_path, "--first", seed * 7, "--size", seed + 1)
    assert set(_explore(recorded, place, 20_000)) == {""}
