"""Processes against each other: sealing and reading, opening and compacting, clocks that jump, ledgers that are put back."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import ledger
from ledger.audit import verify
from ledger.backends.check import LogCheck
from ledger.checkpoint import Checkpoint
from ledger.maintenance.compaction import compact
from tests.torture import oracle
from tests.torture.children import ENVIRONMENT, end, lines_of, program, start, wait_for_line


def _seal_and_read(path: Path, place: Path, seconds: float) -> None:
    """Let two writers seal every few appends under two readers and a tailer."""
    ledger.open(path).close()
    writers = [place / f"w{number}.out" for number in range(2)]
    readers = [place / f"r{number}.out" for number in range(2)]
    followed = place / "tailer.seen"
    running = [start(program("tailer", path), followed)]
    running += [start(program("writer", path, out.stem, "--seal-records", 13 + 10 * n, "--durability", "relaxed"), out)
                for n, out in enumerate(writers)]  # fmt: skip
    reading = [start(program("reader", path, seed, seconds), out) for seed, out in enumerate(readers)]
    try:
        assert [process.wait(seconds + 120) for process in reading] == [0, 0], [
            out.with_suffix(".err").read_text() for out in readers
        ]
        end(*running[1:])
        with ledger.open(path) as book:
            wait_for_line(followed, str(book.log.head))
    finally:
        end(*running, *reading)
    seen = [int(line) for line in lines_of(followed) if line.strip().isdigit()]
    told = oracle.read_told(lines_of(*writers))
    assert oracle.check(path, told, seen) >= len(told) > 50
    assert all(int(lines_of(out)[-1].split()[1]) > 500 for out in readers)


def test_readers_and_a_tailer_of_other_processes_race_with_sealing(ledger_path: Path, tmp_path: Path) -> None:
    """10 s: every page is without a gap, every stream whole, the tailer sees each event once, in order."""
    _seal_and_read(ledger_path, tmp_path, 10.0)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_the_same_for_ten_minutes(ledger_path: Path, tmp_path: Path) -> None:
    """As above, for longer."""
    _seal_and_read(ledger_path, tmp_path, 600.0)


def test_processes_that_open_for_each_append_race_with_killed_compactions(ledger_path: Path, tmp_path: Path) -> None:
    """Two writers open, append and close; compactions come between, some killed in the middle: nothing acknowledged is lost."""
    ledger.open(ledger_path).close()
    outs = [tmp_path / f"w{number}.out" for number in range(2)]
    running = [start(program("writer", ledger_path, out.stem, "--reopen"), out) for out in outs]
    random_ = random.Random(5)
    code = "import sys\nfrom ledger.maintenance.compaction import compact\nwhile True:\n    try:\n        compact(sys.argv[1])\n"
    code += "        print('compacted', flush=True)\n    except OSError:\n        pass\n"
    done, killed = tmp_path / "compacted.out", 0
    try:
        for out in outs:
            wait_for_line(out, "ready")
        for round_ in range(10):
            compactor = start([program("writer")[0], "-c", code, str(ledger_path)], done)
            if round_ % 2:
                wait_for_line(done, "compacted", count=len(lines_of(done)) + 1)
            else:
                time.sleep(random_.uniform(0.2, 1.5))
            compactor.kill()
            killed += compactor.wait() == -9
    finally:
        end(*running)
    assert "Traceback" not in done.with_suffix(".err").read_text()
    assert [out.with_suffix(".err").read_text() for out in outs] == ["", ""]
    told = oracle.read_told(lines_of(*outs))
    assert killed == 10
    assert len(told) > 20
    print(f"{len(told)} appends, {len(lines_of(done))} compactions, {killed} killed")
    oracle.check(ledger_path, told)
    compact(ledger_path)
    oracle.check(ledger_path, told)


def test_clocks_that_jump_by_days_leave_the_order_alone(ledger_path: Path, tmp_path: Path) -> None:
    """Three writers whose clocks jump ten days back and forth: positions have no gap, and recorded times never go back."""
    ledger.open(ledger_path).close()
    outs = [tmp_path / f"w{number}.out" for number in range(3)]
    arguments = ("--batches", 60, "--durability", "relaxed")
    running = [
        start(program("writer", ledger_path, out.stem, *arguments, "--clock-jumps", seed), out) for seed, out in enumerate(outs)
    ]
    try:
        assert [process.wait(120) for process in running] == [0, 0, 0]
    finally:
        end(*running)
    with pytest.warns(UserWarning, match="the clock says"):
        oracle.check(ledger_path, oracle.read_told(lines_of(*outs)))
    with ledger.open(ledger_path) as book:
        assert any(record.type == "ClockSkewed" for record in book.log.read(stream="ledger"))


def _is_noticed(path: Path, checkpoint: Checkpoint) -> bool:
    check = LogCheck(path, against=[checkpoint])
    try:
        check.run()
        return bool(check.problems)
    finally:
        check.close()


def test_an_older_copy_put_back_is_noticed_against_every_later_checkpoint(ledger_path: Path, tmp_path: Path) -> None:
    """Ten copies and ten checkpoints: each copy passes those made before it and fails those after; written on, it fails too."""
    copies, checkpoints = [], []
    for number in range(10):
        subprocess.run(
            program("writer", ledger_path, f"w{number}", "--batches", 1 + number * 7 % 10, "--seal-records", 20),
            check=True, capture_output=True, env=ENVIRONMENT,
        )  # fmt: skip
        with ledger.open(ledger_path) as book:
            checkpoints.append(book.checkpoint())
        copies.append(shutil.copy(ledger_path / "data.mdb", tmp_path / f"{number}.mdb"))
    place = tmp_path / "put back"
    for number, copied in enumerate(copies):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        shutil.copy(copied, place / "data.mdb")
        noticed = [_is_noticed(place, checkpoint) for checkpoint in checkpoints]
        assert noticed == [other > number for other in range(10)]
        with ledger.open(place) as book:
            book.log.append([ledger.NoteAdded("another history")] * 60, stream="w")
        assert [_is_noticed(place, checkpoint) for checkpoint in checkpoints] == noticed
    assert not verify(place, against=checkpoints[:1]).problems
    os.replace(copies[0], place / "data.mdb")
    assert not verify(place, against=checkpoints).ok
