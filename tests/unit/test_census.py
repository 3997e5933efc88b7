"""The census against the log, the tables and the file."""

from __future__ import annotations

from collections import Counter

import pytest

import ledger
from ledger.census import DAY_NS, HOUR_NS, TypeCensus, take_census
from ledger.events import TrialAmended
from projections import Tables

BEGIN = 1_800_000_000_000_000_000


def statuses_of_tables(book: ledger.Ledger) -> Counter[str]:
    """Count the trials of the tables by status."""
    tables = Tables(book)
    return Counter(str(status) for exp in book.experiments() for status in tables.trials(exp.id)["status"])


def test_statuses_are_those_of_the_tables(tmp_path):
    """After every way a trial can go, the census counts what the tables show."""
    with ledger.open(tmp_path) as book:
        exp = book.experiment("e")
        trials = exp.new_trials([{"n": n} for n in range(16)])
        for trial in trials[:9]:
            trial.start()
        trials[0].complete({"ms": 1})
        trials[1].fail("broken")
        trials[2].prune()
        trials[3].time_out()
        trials[4].release()
        trials[5].cancel()
        trials[6].delete()  # held: it is called off
        trials[6].restore()
        trials[7].delete()
        trials[8].complete()
        trials[8].amend(status="FAILED", reason="wrong")
        trials[9].force_status("LOST", reason="import")
        trials[10].force_status("UNKNOWN", reason="import")
        trials[11].force_status("LOST", reason="import")
        trials[11].requeue()
        trials[12].cancel()
        book.log.append([TrialAmended(results={})], stream=trials[12].stream)
        trials[13].delete()
        gone = book.experiment("gone")
        gone.new_trial({})
        gone.delete()
        census = take_census(book.log.backend)
        assert census.statuses == statuses_of_tables(book)
        assert census.deleted_trials == 3
        assert (census.experiments, census.deleted_experiments) == (1, 1)
        book.redact(*(r.position for r in book.log.read(types=["TrialFailed", "TrialAmended", "StatusForced"])), reason="x")
        assert take_census(book.log.backend).statuses == statuses_of_tables(book)


def test_it_is_the_same_whatever_was_sealed(tmp_path):
    """Records and their bytes are counted once each, in small blocks and in sealed ones, page by page."""
    with ledger.open(tmp_path, durability="relaxed") as book:
        for number in range(300):
            book.log.append([ledger.NoteAdded(f"note {number}")] * (number % 7 + 1), stream="diary")
        census = take_census(book.log.backend)
        sizes = []
        while entries := book.log.backend.read_entries(len(sizes)):
            sizes += [len(entry.raw) for entry in entries]
        [kind] = census.types
        assert (kind.records, kind.record_bytes) == (len(sizes), sum(sizes))
        assert 0 < census.unsealed_records < book.log.head == census.sealed_records + census.unsealed_records
        assert kind.stored_bytes == pytest.approx(census.log_bytes)
        assert take_census(book.log.backend, quick=True).log_bytes == census.log_bytes


def test_records_that_are_sealed_while_it_counts_are_counted_once(tmp_path, monkeypatch):
    """What an append seals between two pages is neither missed nor counted twice; what it adds is left out."""
    from ledger import census as module

    monkeypatch.setattr(module, "_PAGE_BLOCKS", 3)
    with ledger.open(tmp_path, durability="relaxed") as book:
        for number in range(20):
            book.log.append([ledger.NoteAdded(str(number))], stream="diary")

        def meanwhile(done: int, total: int) -> None:
            assert total == 20
            if done < 10:
                book.log.append([ledger.NoteAdded("x")] * 600, stream="other")

        census = take_census(book.log.backend, progress=meanwhile)
        assert book.log.head > 600
        assert (census.head, [kind.records for kind in census.types]) == (20, [20])


def test_rates_and_the_last_day(tmp_path):
    """First and last time, the rate between them and the records of the last 24 hours are by the log's times."""
    time = [BEGIN]
    with ledger.open(tmp_path, clock=lambda: time[0]) as book:
        for _ in range(49):
            book.log.append([ledger.NoteAdded("x")], stream="diary")
            time[0] += HOUR_NS
        end = time[0] - HOUR_NS
        [kind] = take_census(book.log.backend, now=end).types
        assert (kind.first_at, kind.last_at, kind.last_day) == (BEGIN, BEGIN + 2 * DAY_NS, 25)
        assert kind.per_hour == pytest.approx(49 / 48)
        assert take_census(book.log.backend, now=end + 10 * DAY_NS).types[0].last_day == 0
    assert TypeCensus("X", records=5).per_hour is None


def test_progress_reaches_the_end(tmp_path):
    """The callback gets what is done and how much there is, up to all of it."""
    with ledger.open(tmp_path) as book:
        book.log.append([ledger.NoteAdded("x")] * 3, stream="diary")
        calls = []
        take_census(book.log.backend, progress=lambda *call: calls.append(call))
    assert calls[-1] == (3, 3)


def test_an_empty_ledger_and_one_in_memory(tmp_path):
    """Nothing is counted in a new ledger; one in memory has no file and is refused."""
    with ledger.open(tmp_path) as book:
        census = take_census(book.log.backend)
        assert (census.head, census.types, census.statuses, census.log_bytes) == (0, [], Counter(), 0)
    with ledger.open("memory:") as book, pytest.raises(ledger.InvalidValue, match="no file"):
        take_census(book.log.backend)


def test_damage_is_not_counted(tmp_path):
    """A block with a flipped byte raises Corrupted, quick or not."""
    with ledger.open(tmp_path) as book:
        book.log.append([ledger.NoteAdded("dear diary"), ledger.NoteAdded("y")], stream="diary")
        book.log.append([ledger.NoteAdded("z")], stream="diary")
    data = (tmp_path / "data.mdb").read_bytes()
    (tmp_path / "data.mdb").write_bytes(data.replace(b"dear diary", b"Dear diary"))  # LMDB may have an old page of it, too
    with ledger.open(tmp_path) as book:
        for quick in (True, False):
            with pytest.raises(ledger.Corrupted):
                take_census(book.log.backend, quick=quick)
