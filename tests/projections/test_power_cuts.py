"""Checkpoints after a power cut: nobody waits for the disk when they are saved, so any mix of their pages may be left."""

import subprocess
import sys
import textwrap

import pytest

import ledger
import projections
from projections import folds

PAGE = 4096

#: Puts mixes of the versions of a file in its place, one at a time, and reads, saves and reads again; dies where LMDB does.
CUTS = """
    import random, sys, warnings
    import projections
    from pathlib import Path
    from projections import folds

    PAGE = 4096
    folds._LEAST_RECORDS, folds._LEAST_SECONDS, folds._SAVING_SHARE = 1, 0, float("inf")
    path, chosen = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    file = path / "projections" / "data.mdb"
    versions = [each.read_bytes() for each in sorted(path.parent.glob("version-*"))]

    def left(before, after):
        data = bytearray(chosen.choice((before, after)).ljust(len(after), bytes(1)))
        share = chosen.choice((0.02, 0.1, 0.5, 0.9, 0.98))
        for place in range(0, len(after), PAGE):
            if chosen.random() < share:
                data[place : place + PAGE] = after[place : place + PAGE]
            elif place < len(before):
                data[place : place + PAGE] = before[place : place + PAGE]
        is_cut = chosen.random() < 0.3
        return bytes(data[: chosen.randrange(len(before), len(after) + 1)]) if is_cut else bytes(data)

    def tables(*, as_of):
        with projections.Tables(path) as tables:
            return [tables.trials("demo", now=0, as_of=each).to_csv() for each in as_of]

    def told(work):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            return work(), bool(caught)

    places = [20, 45, 71, 72]
    expected, found = tables(as_of=places), []
    for number in range(int(sys.argv[3])):
        first = chosen.randrange(len(versions) - 1)
        last = min(len(versions) - 1, first + chosen.randrange(1, 6))
        file.write_bytes(left(versions[first], versions[last]))
        (path / "projections" / "lock.mdb").unlink(missing_ok=True)
        reads = [told(lambda: tables(as_of=places)) for _ in range(4)]
        assert [shown for shown, _ in reads] == [expected] * 4, number
        times = sum(was_told for _, was_told in reads)
        assert times <= 1, number
        found.append(times)
    print(sum(found), len(found))
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A ledger with checkpoints; beside it is their file as it was after each was saved."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 1)
    monkeypatch.setattr(folds, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(folds, "_SAVING_SHARE", float("inf"))
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        exp = book.experiment("demo")
        for number in range(24):
            exp.new_trial({"lr": number / 7, "text": "x" * 40 * number}).complete({"loss": number})
            with projections.Tables(book) as tables:
                tables.trials("demo")
                tables.status_history("demo")
            (tmp_path / f"version-{number:02}").write_bytes((path / "projections" / "data.mdb").read_bytes())
    return path


@pytest.mark.parametrize("seed", range(3))
def test_whatever_pages_a_power_cut_leaves_the_tables_are_right(path, seed):
    """Old pages among new ones, holes and missing ends: it does not matter, or it is told once and all is made anew."""
    command = [sys.executable, "-c", textwrap.dedent(CUTS), str(path), str(seed), "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2_000:]}"
    damaged, cuts = map(int, done.stdout.split())
    assert 0 < damaged < cuts == 20
