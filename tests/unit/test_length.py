"""A log that was cut short is told of: to read beyond the end of a file by its map would kill the process."""

import os
import subprocess
import sys
from pathlib import Path

import lmdb

import ledger
from ledger.backends.length import find_cut
from ledger.maintenance.doctor import doctor

PAGE = 4096
OPEN = """
import os, sys, ledger
path, sizes = sys.argv[1], map(int, sys.argv[2:])
for size in sizes:
    os.truncate(path + "/data.mdb", size)
    try:
        with ledger.open(path) as book:
            print(size, len(list(book.log.read())))
    except (ledger.Corrupted, ledger.NotALedger) as error:
        print(size, type(error).__name__)
"""


def needed(env: lmdb.Environment) -> int:
    return int((env.info()["last_pgno"] + 1) * env.stat()["psize"])


def test_a_log_cut_anywhere_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    """At the end of each of its pages, and within them: no process dies of it, and nothing is read that is not there."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        trials = book.experiment("demo", objectives={"loss": "min"}).new_trials([{"lr": 0.1 * each} for each in range(200)])
        for trial in trials:
            trial.complete({"loss": 1.0})
    size = (path / "data.mdb").stat().st_size
    sizes = sorted({*range(PAGE, size, PAGE), *range(PAGE // 2, size, PAGE), 100, PAGE + 200, size - 1}, reverse=True)
    done = subprocess.run([sys.executable, "-c", OPEN, path, *map(str, sizes)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    outcomes = dict(line.split() for line in done.stdout.splitlines())
    assert {int(cut) for cut in outcomes} == set(sizes)
    assert {outcomes[str(cut)] for cut in sizes if cut >= 2 * PAGE} <= {"Corrupted", "801"}  # the last pages may be free
    assert {outcomes[str(cut)] for cut in sizes if 2 * PAGE <= cut < size * 3 // 4} == {"Corrupted"}
    assert {outcomes[str(cut)] for cut in sizes if cut < PAGE} == {"NotALedger"}


def test_doctor_says_that_a_log_was_cut_short(tmp_path: Path) -> None:
    """It names both sizes, and the cure."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        book.experiment("demo").new_trials([{"lr": 0.1 * each} for each in range(200)])
    os.truncate(path / "data.mdb", 5 * PAGE)
    (found,) = [each for each in doctor(path, rehearse=False) if each.name == "content"]
    assert "has 20,480 bytes, and should have" in found.message
    assert found.cure is not None
    assert "ledger restore" in found.cure


def test_a_file_whose_last_pages_were_never_needed_is_whole(tmp_path: Path) -> None:
    """LMDB does not write pages that were freed in the transaction that took them, and counts them all the same."""
    with lmdb.open(str(tmp_path), map_size=1 << 26) as env:
        for _ in range(4):  # so that there are free pages to be used again
            with env.begin(write=True) as txn:
                txn.put(b"kept", b"yes" * PAGE)
        with env.begin(write=True) as txn:
            txn.put(b"large", bytes(100 * PAGE))
            txn.delete(b"large")
            txn.put(b"other", b"")
        assert (tmp_path / "data.mdb").stat().st_size < needed(env)
        assert find_cut(env, tmp_path / "data.mdb") is None
        with env.begin() as txn:
            assert txn.get(b"kept") == b"yes" * PAGE


def test_a_large_value_whose_end_is_missing_is_noticed(tmp_path: Path) -> None:
    """Its first page is there, and says what its pages are."""
    with lmdb.open(str(tmp_path), map_size=1 << 26) as env, env.begin(write=True) as txn:
        txn.put(b"large", bytes(100 * PAGE))
    file = tmp_path / "data.mdb"
    size = file.stat().st_size
    for cut in (size - 2 * PAGE, PAGE * 50, PAGE * 3, PAGE * 2 + 1):
        os.truncate(file, cut)
        with lmdb.open(str(tmp_path), readonly=True, lock=False) as env:
            assert find_cut(env, file) == f"{file} has {cut:,} bytes, and should have {needed(env):,}: it was cut short"
