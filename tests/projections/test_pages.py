"""Pages of a checkpoint file: where a flipped bit would lead LMDB out of the file, the log is folded instead."""

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import lmdb
import pytest

import ledger
import projections
from projections import folds
from projections.pages import Proof, find_damage

PAGE = 4096
PARTS = (0, 8), (10, 2), (12, 2)  # of the head of a page: number, flags, end of the list of nodes

#: Flips bits of what LMDB goes by in its pages, one at a time, and reads the table; dies of a signal where LMDB does.
FLIPS = """
    import sys, warnings
    import ledger, projections
    from pathlib import Path
    from projections import folds

    folds._LEAST_RECORDS, folds._LEAST_SECONDS, folds._SAVING_SHARE = 1, 0, float("inf")
    path, file = Path(sys.argv[1]), Path(sys.argv[1]) / "projections" / "data.mdb"

    def table():
        with projections.Tables(path) as tables:
            return tables.trials("demo", now=0).to_csv()

    expected, original, told = table(), file.read_bytes(), 0
    for flip in sys.argv[2].split(","):
        place, bit = map(int, flip.split(":"))
        data = bytearray(original)
        data[place] ^= bit
        file.write_bytes(data)
        (path / "projections" / "lock.mdb").unlink(missing_ok=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert table() == expected, flip
            told += bool(caught)
    print(told)
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A ledger with checkpoints of several positions, so that pages have been freed and used again."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 1)
    monkeypatch.setattr(folds, "_SAVING_SHARE", float("inf"))
    monkeypatch.setattr(folds, "_LEAST_SECONDS", 0)
    with ledger.open(tmp_path / "runs.ledger") as book:
        exp = book.experiment("demo")
        for number in range(40):
            exp.new_trial({"lr": number / 7, "text": "x" * 40 * number}).complete({"loss": number})
            with projections.Tables(book) as tables:
                tables.trials("demo")
    return tmp_path / "runs.ledger"


def tree_pages(data):
    """Return the places of the pages with keys, and of each where the list of its nodes ends."""
    found = []
    for start in range(2 * PAGE, len(data), PAGE):
        number, flags, end = (int.from_bytes(data[start + at : start + at + size], "little") for at, size in PARTS)
        if number * PAGE == start and flags in (1, 2) and end > 16:
            found.append((start, start + end))
    return found


def test_flipped_bits_of_what_leads_to_other_places_never_kill_the_process(path):
    """Lists of nodes that lead beyond the end of the file, and other flips in what LMDB goes by: the table is always right."""
    data, chosen = (path / "projections" / "data.mdb").read_bytes(), random.Random(3)
    pages = tree_pages(data)
    beyond = [place + 1 for start, end in pages if len(data) - start < 32_768 for place in range(start + 16, end, 2)]
    heads = [place for start, end in pages for place in (*range(start, start + 8), *range(start + 10, end))]
    flips = [(place, 128) for place in chosen.sample(beyond, 40)]
    flips += [(place, 1 << chosen.randrange(8)) for place in chosen.sample(heads, 60)]
    command = [sys.executable, "-c", textwrap.dedent(FLIPS), str(path), ",".join(f"{place}:{bit}" for place, bit in flips)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2_000:]}"
    assert int(done.stdout) > 0


def test_pages_as_lmdb_leaves_them_are_never_called_damaged(tmp_path):
    """After each of many transactions that write, replace and remove small and large values, nothing is found."""
    chosen = random.Random(1)
    file = tmp_path / "data.mdb"
    with lmdb.open(str(tmp_path), map_size=1 << 28, max_dbs=0) as env:
        assert find_damage(env, file) is None
        keys = []
        for _ in range(150):
            with env.begin(write=True) as txn:
                for _ in range(chosen.randrange(1, 60)):
                    if keys and chosen.random() < 0.45:
                        txn.delete(keys.pop(chosen.randrange(len(keys))))
                    else:
                        key = chosen.randbytes(chosen.choice((1, 16, 200, 511)))
                        keys.append(key)
                        txn.put(key, chosen.randbytes(chosen.choice((0, 1, 100, 2_000, 2_030, 5_000, 100_000))))
            assert find_damage(env, file) is None
        with env.begin(write=True) as txn:
            for key in keys:
                txn.delete(key)
        assert find_damage(env, file) is None


@pytest.mark.parametrize(
    ("offset", "flip", "said"),
    [
        (0, 1, "the header of page"),
        (10, 4, "the header of page"),
        (13, 128, "the header of page"),
        (16, 1, "what is in page"),
        (17, 64, "the list of what is in page"),
    ],
)
def test_the_damaged_page_is_named(path, offset, flip, said):
    """What is wrong in the root page is said; a proof that has seen the file sees that it has changed."""
    directory = path / "projections"
    file, proof = directory / "data.mdb", Proof()
    with lmdb.open(str(directory), readonly=True) as env:
        assert proof.find_damage(env, file) is None
        root = root_of(file)
        data = bytearray(file.read_bytes())
        data[root * PAGE + offset] ^= flip
        file.write_bytes(data)
        damage = proof.find_damage(env, file)
    assert damage is not None
    assert said in damage


def test_a_file_that_is_cut_while_it_is_looked_through_is_damaged(path, monkeypatch):
    """It ends before what it said a moment ago."""
    directory = path / "projections"
    pread, cut = os.pread, []

    def pread_of_a_cut_file(fd, size, place):
        if place >= 2 * PAGE:
            cut.append(place)
            return b""
        return pread(fd, size, place)

    monkeypatch.setattr(os, "pread", pread_of_a_cut_file)
    with lmdb.open(str(directory), readonly=True) as env:
        assert "it ends at byte" in find_damage(env, directory / "data.mdb")
    assert cut


def root_of(file: Path) -> int:
    """Return the page of the root of the newest transaction's entries."""
    data = file.read_bytes()
    metas = [data[place : place + 152] for place in (0, PAGE)]
    newest = max(metas, key=lambda meta: int.from_bytes(meta[144:152], "little"))
    return int.from_bytes(newest[128:136], "little")
