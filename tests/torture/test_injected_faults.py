"""EIO, ENOSPC and SIGKILL at every write and every sync, one by one (strace): whatever happens, the oracle holds.

For each scenario the program is run once and its system calls are counted; then once more for each call and fault.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

import ledger
from ledger.maintenance.backup import restore
from ledger.maintenance.compaction import compact
from tests.torture import oracle
from tests.torture.children import outcomes, program
from tests.torture.faults import CHANGES, SYNCS_AND_WRITES, Call, calls_of, need_strace, run_with_fault

pytestmark = pytest.mark.usefixtures("strace")
FAULTS = ("EIO", "ENOSPC", "KILL")


@pytest.fixture
def strace() -> None:
    """Skip where strace cannot be used."""
    need_strace()


class Ended(NamedTuple):
    """A run with one fault: what it left, and what it was told."""

    call: Call
    fault: str
    path: Path
    told: dict[str, int]
    code: int
    errors: str


def _write(path: Path, *options: object) -> dict[str, int]:
    """Run the writer without a fault; return what it was told."""
    done = subprocess.run(program("writer", path, *options), capture_output=True, text=True, check=True)
    return oracle.read_told(done.stdout.splitlines(keepends=True))


def _all_faults(
    master: Path | None, command: Callable[[Path], list[str]], place: Path, names: tuple[str, ...], faults: tuple[str, ...]
) -> list[Ended]:
    """Run a program on copies of a ledger, with each fault at each of its calls."""

    def fresh(name: str) -> Path:
        path = place / name / "runs.ledger"
        path.parent.mkdir()
        if master is not None:
            shutil.copytree(master, path)
        return path

    calls = calls_of(command(fresh("counted")), names, place / "trace")
    runs = [(call, fault) for call in calls for fault in faults]

    def run(number: int) -> Ended:
        call, fault = runs[number]
        path = fresh(str(number))
        done = run_with_fault(command(path), call, fault)
        return Ended(call, fault, path, oracle.read_told(done.stdout.splitlines(keepends=True)), done.returncode, done.stderr)

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(run, range(len(runs))))
    missed = sum(each.fault == "KILL" and each.code == 0 for each in ended)
    assert missed <= len(runs) / 20, f"{missed} runs were not killed: the test would show little"
    print(f"{len(runs)} runs: {', '.join(sorted({call.name for call, _ in runs}))}")
    return ended


def _hold(ended: list[Ended], told: dict[str, int]) -> list[str]:
    """Ask the oracle about each run, in children; return what it found."""

    def ask(each: Ended) -> None:
        oracle.check_here(each.path, told | each.told)

    found = outcomes(ask, ended)
    return [f"{each.call} {each.fault}: {text}" for each, text in zip(ended, found, strict=True) if text]


class Scenario(NamedTuple):
    """What is in the ledger before (nothing: there is none), and what the writer does then."""

    before: tuple[object, ...]
    options: tuple[object, ...]
    fewest: int  # calls of a kind that it must have made


SCENARIOS = {
    "a new ledger": Scenario((), ("--batches", 1), 10),
    "an append": Scenario(("--batches", 9), ("--batches", 2, "--size", 3), 9),
    "a sealing append": Scenario(
        ("--batches", 12, "--size", 40), ("--first", 12, "--batches", 1, "--size", 40, "--padding", 40), 6
    ),
    "an append that grows the map": Scenario(
        ("--batches", 3), ("--first", 3, "--map-bytes", 1 << 16, "--batches", 2, "--size", 60, "--padding", 400), 8
    ),
    "relaxed appends": Scenario(("--batches", 3), ("--durability", "relaxed", "--batches", 2), 8),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_append_with_a_fault_at_every_call_loses_nothing(name: str, tmp_path: Path) -> None:
    """A killed or failing append leaves what was acknowledged, and itself whole or not at all."""
    scenario = SCENARIOS[name]
    master, told = None, {}
    if scenario.before:
        master = tmp_path / "master"
        told = _write(master, "before", *scenario.before)
    command = lambda path: program("writer", path, "w", *scenario.options)  # noqa: E731
    ended = _all_faults(master, command, tmp_path, SYNCS_AND_WRITES if master else CHANGES, FAULTS)
    assert _hold(ended, told) == []
    assert len({each.call for each in ended}) >= scenario.fewest
    assert sum("CommitFailed" in each.errors for each in ended) >= 2, "the errors reach the caller"
    assert sum("DiskFull" in each.errors for each in ended) >= 2
    assert {each.code for each in ended} > {3}
    assert [each.errors for each in ended if "ledger/backends" in each.errors] == [], "what came out was no error of ours"


def test_a_failed_append_that_is_repeated_is_recorded_once(tmp_path: Path) -> None:
    """With EIO at any call the writer opens the ledger again and repeats the append by its id: it is acknowledged, once."""
    told = _write(tmp_path / "master", "before", "--batches", 3)
    command = lambda path: program("writer", path, "w", "--retry", "--batches", 3)  # noqa: E731
    ended = _all_faults(tmp_path / "master", command, tmp_path, ("pwrite64", "writev", "fdatasync"), ("EIO",))
    assert _hold(ended, told) == []
    assert all(len(each.told) == 3 for each in ended), "each batch was acknowledged in the end"
    assert len(ended) >= 9


def test_the_oracle_finds_a_writer_that_passes_over_errors(tmp_path: Path) -> None:
    """The tests above can fail: a writer that acknowledges an append although its commit failed is found out."""
    command = lambda path: program("writer", path, "w", "--careless", "blind", "--batches", 1)  # noqa: E731
    _write(tmp_path / "master", "before", "--batches", 3)
    ended = _all_faults(tmp_path / "master", command, tmp_path, ("pwrite64", "fdatasync"), ("EIO",))
    assert any("is lost" in text for text in _hold(ended, {}))


# ---------------------------------------------------------------------------- redaction, compaction, backup

SECRET = "hunter2-7f3a9c"
WORK = {
    "redaction": "import sys, ledger\nwith ledger.open(sys.argv[1]) as book:\n    book.redact(3, reason='leak')\n",
    "compaction": "import sys\nfrom ledger.maintenance.compaction import compact\ncompact(sys.argv[1])\n",
    "backup": "import sys\nfrom ledger.maintenance.backup import backup\nbackup(sys.argv[1], sys.argv[1] + '.tar')\n",
}


def _prepare(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    master = tmp_path / "master"
    with ledger.open(master) as book:
        book.experiment("e")
        book.log.append([ledger.NoteAdded("first"), ledger.NoteAdded(SECRET)], stream="diary")
    return master, _write(master, "before", "--batches", 12, "--seal-records", 20)


def _secrets(path: Path) -> int:
    return sum(file.read_bytes().count(SECRET.encode()) for file in path.rglob("*") if file.is_file())


def _work(name: str, tmp_path: Path, master: Path, faults: tuple[str, ...] = FAULTS) -> list[Ended]:
    command = lambda path: [sys.executable, "-W", "error", "-c", WORK[name], str(path)]  # noqa: E731
    names = SYNCS_AND_WRITES if name == "redaction" else CHANGES
    return _all_faults(master, command, tmp_path, names, faults)


def test_a_redaction_with_a_fault_at_every_call_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """The payload is gone, with the record that says why, or nothing has changed; and it can be said again."""
    master, told = _prepare(tmp_path)
    ended = _work("redaction", tmp_path, master)
    assert _hold(ended, told) == []
    counts = set()
    for each in ended:
        with ledger.open(each.path) as book:
            record = next(iter(book.log.read(2)))
            counts.add(book.log.backend.redactions().total)
            assert record.is_redacted == bool(book.log.backend.redactions().total)
            if not record.is_redacted:
                book.redact(3, reason="again")
        oracle.check_records(each.path, told)
    assert counts == {0, 1}, "both outcomes should have been met"


def test_a_compaction_with_a_fault_at_every_call_leaves_the_ledger_whole(tmp_path: Path) -> None:
    """The old file or the new one is in place, with every event; the next compaction clears up, and erases what it should."""
    master, told = _prepare(tmp_path)
    with ledger.open(master) as book:
        book.redact(3, reason="leak")
    assert _secrets(master) > 0
    ended = _work("compaction", tmp_path, master)
    assert _hold(ended, told) == []
    assert any(_secrets(each.path) for each in ended)
    assert any(not _secrets(each.path) for each in ended)
    assert {each.code == 0 for each in ended} == {True, False}
    for each in ended[:: len(ended) // 8]:
        compact(each.path)
        assert _secrets(each.path) == 0
        assert not [file for file in each.path.iterdir() if file.name.startswith("compacting-")]


def test_a_backup_with_a_fault_at_every_call_is_whole_or_not_there(tmp_path: Path) -> None:
    """What has the backup's name can be restored, and holds every event; the ledger itself is as it was."""
    master, told = _prepare(tmp_path)
    ended = _work("backup", tmp_path, master, ("KILL",))
    assert _hold(ended, told) == []
    made = [place for each in ended if (place := Path(f"{each.path}.tar")).exists()]
    assert 0 < len(made) < len(ended)
    chosen = made[:: max(1, len(made) // 20)]
    assert set(outcomes(partial(_restored, told=told), chosen)) == {""}


def _restored(place: Path, told: dict[str, int]) -> None:
    restore(place, place.parent / "restored")
    oracle.check_records(place.parent / "restored", told)
    shutil.rmtree(place.parent / "restored")
