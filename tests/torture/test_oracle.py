"""The oracle itself: it passes what is right, and finds each kind of wrong."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

import ledger
from ledger.format import JOBS
from tests.torture import oracle

TOLD = {"w:0": 1, "w:1": 3, "v:0": 6}


def _write(path: Path, *batches: tuple[str, int, list[int]]) -> None:
    """Append batches: each with its name, the size it says that it has, and the parts that are there."""
    with ledger.open(path) as book:
        for name, size, parts in batches:
            book.log.append([ledger.NoteAdded(f"{name}|{part}|{size}|") for part in parts], stream=name.partition(":")[0])


RIGHT = [("w:0", 2, [0, 1]), ("w:1", 3, [0, 1, 2]), ("v:0", 1, [0])]


def test_what_is_right_passes(tmp_path: Path) -> None:
    """In full and in this process, with the last line of the writers cut off."""
    _write(tmp_path / "l", *RIGHT)
    told = oracle.read_told(["ready\n", *(f"told {batch} {position}\n" for batch, position in TOLD.items()), "told w:2"])
    assert told == TOLD
    assert oracle.check(tmp_path / "l", told, seen=[1, 2, 3]) == 6
    assert oracle.check_here(tmp_path / "l", told) == 7


@pytest.mark.parametrize(
    ("batches", "told", "words"),
    [
        (RIGHT[:2], TOLD, "v:0 was acknowledged, and is lost"),
        ([RIGHT[2], *RIGHT[:2]], TOLD, "was acknowledged at"),
        ([*RIGHT, RIGHT[0]], TOLD, "not there once and whole"),
        ([("w:0", 2, [0]), *RIGHT[1:]], {}, "not there once and whole"),
        ([("w:0", 2, [1, 0]), *RIGHT[1:]], {}, "not there once and whole"),
        ([RIGHT[1], RIGHT[0]], {}, "out of its writer's order"),
    ],
    ids=["lost", "moved", "twice", "half", "turned round", "out of order"],
)
def test_what_is_wrong_is_found(tmp_path: Path, batches: list, told: dict[str, int], words: str) -> None:
    """Lost, moved, repeated, half and disordered batches."""
    _write(tmp_path / "l", *batches)
    with pytest.raises(AssertionError, match=words):
        oracle.check(tmp_path / "l", told)


@pytest.mark.parametrize("seen", [[1, 3], [1, 2, 2], [2, 1], [2]])
def test_a_tailer_that_misses_or_repeats_is_found(tmp_path: Path, seen: list[int]) -> None:
    """Positions must come from 1 on, each once, in order."""
    _write(tmp_path / "l", *RIGHT)
    with pytest.raises(AssertionError, match="missed or repeated"):
        oracle.check(tmp_path / "l", TOLD, seen)


def test_damage_is_found(tmp_path: Path) -> None:
    """What `verify` reports counts, also where no record is touched."""
    _write(tmp_path / "l", *RIGHT)
    with ledger.open(tmp_path / "l") as book:
        book.experiment("e").new_trial({})
    with lmdb.open(str(tmp_path / "l")) as env, env.begin(write=True) as txn:
        (key,) = [key for key, _ in txn.cursor() if key[:1] == JOBS]
        txn.delete(key)
    for check in (oracle.check, oracle.check_here):
        with pytest.raises(AssertionError, match="index 'jobs'"):
            check(tmp_path / "l", TOLD)
