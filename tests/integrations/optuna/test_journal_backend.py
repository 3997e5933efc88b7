"""A JournalStorage of Optuna's on a ledger."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

import ledger
from ledger.errors import Corrupted, InvalidValue, RecordTooLarge
from ledger.integrations.optuna.journal_backend import LedgerJournalBackend
from tests.integrations.optuna.samples import assert_same, fill

STREAM = "optuna-journal/default"


@pytest.fixture
def backend(ledger_path: Path) -> Iterator[LedgerJournalBackend]:
    """A journal in a ledger of its own."""
    with LedgerJournalBackend(ledger_path) as made:
        yield made


class TestLedgerJournal(StorageTestCase):  # type: ignore[misc]
    """Optuna's own tests of a storage."""

    @pytest.fixture
    def storage(self, backend: LedgerJournalBackend) -> JournalStorage:
        """A storage on a ledger."""
        return JournalStorage(backend)


def _entries(backend: LedgerJournalBackend, start: int = 0) -> list[dict[str, Any]]:
    return list(backend.read_logs(start))


def test_what_is_appended_is_read_in_order_from_any_number(backend: LedgerJournalBackend) -> None:
    """Numbers count from 0; beyond the last one there is nothing."""
    for start in range(0, 700, 7):
        backend.append_logs([{"op_code": 2, "n": number} for number in range(start, start + 7)])
    assert [entry["n"] for entry in _entries(backend)] == list(range(700))
    for start in (0, 1, 255, 256, 257, 699, 700, 701, 5000):
        assert [entry["n"] for entry in _entries(backend, start)] == list(range(start, 700))
    assert _entries(backend, 698)[0]["n"] == 698
    backend.append_logs([])
    assert len(_entries(backend)) == 700


def test_one_append_is_one_commit(backend: LedgerJournalBackend) -> None:
    """All of it or nothing."""
    backend.append_logs([{"n": 1}, {"n": 2}])
    log = backend._opened.book.log
    first, second = log.read(stream=STREAM)
    assert first.append_id == second.append_id
    with pytest.raises(TypeError, match="not JSON serializable"):
        backend.append_logs([{"n": 3}, {"n": object()}])
    with pytest.raises(RecordTooLarge):
        backend.append_logs([{"n": 3}, {"n": "x" * (600 << 10)}])
    assert log.version(STREAM) == 2


@pytest.mark.parametrize(
    "value",
    [float("inf"), 2**80, "ü🚀", "\ud800", {"b": 1, "a": 2}, [None, True, 1.5], "x" * 100_000, {"z": {"y": [[[]]]}}],
)
def test_values_are_what_a_file_would_have_kept(backend: LedgerJournalBackend, tmp_path: Path, value: Any) -> None:
    """Their order of keys included."""
    in_file = JournalFileBackend(str(tmp_path / "journal.log"))
    for each in (backend, in_file):
        each.append_logs([{"op_code": 2, "user_attr": {"k": value}}])
    assert repr(_entries(backend)) == repr(list(in_file.read_logs(0)))


def test_reading_that_is_given_up_goes_on_where_it_was(backend: LedgerJournalBackend) -> None:
    """Optuna stops reading in the middle when an entry of its own is rejected."""
    backend.append_logs([{"n": number} for number in range(10)])
    reading = backend.read_logs(0)
    assert [next(reading)["n"] for _ in range(4)] == [0, 1, 2, 3]
    del reading
    assert [entry["n"] for entry in _entries(backend, 4)] == [4, 5, 6, 7, 8, 9]


def test_other_records_of_the_ledger_are_passed_over(book: ledger.Ledger) -> None:
    """Several journals, experiments and diaries in one ledger do not mix."""
    first, second = LedgerJournalBackend(book), LedgerJournalBackend(book, "second")
    for number in range(300):
        first.append_logs([{"n": number}])
        if number % 3 == 0:
            second.append_logs([{"m": number}])
            book.log.append([ledger.NoteAdded("between")], stream="diary")
        if number % 50 == 0:
            assert [entry["m"] for entry in _entries(second, number // 3)] == list(range(0, number + 1, 3))[number // 3 :]
    assert [entry["n"] for entry in _entries(first)] == list(range(300))
    assert [entry["m"] for entry in _entries(second)] == list(range(0, 300, 3))
    assert _entries(LedgerJournalBackend(book, "third")) == []
    with pytest.raises(InvalidValue, match="name is empty"):
        LedgerJournalBackend(book, "")


def test_a_study_is_the_same_as_in_a_file(backend: LedgerJournalBackend, tmp_path: Path) -> None:
    """What is copied entry by entry is the same studies."""
    in_file = JournalFileBackend(str(tmp_path / "journal.log"))
    fill(JournalStorage(in_file))
    backend.append_logs(list(in_file.read_logs(0)))
    assert_same(JournalStorage(backend), JournalStorage(in_file))


def test_a_redacted_entry_keeps_its_number(backend: LedgerJournalBackend) -> None:
    """It sets nothing, and those after it are where they were."""
    storage = JournalStorage(backend)
    study = optuna.create_study(storage=storage, study_name="demo")
    study.set_user_attr("secret", "the key is 123")
    study.set_user_attr("plain", 1)
    book = backend._opened.book
    book.redact(*book.find_text("the key is 123").payloads, reason="leaked")
    assert len(_entries(backend)) == 3
    again = JournalStorage(LedgerJournalBackend(book))
    assert again.get_study_user_attrs(0) == {"plain": 1}


def test_bytes_that_are_no_entry_are_told_of(book: ledger.Ledger) -> None:
    """Whoever may write to the ledger may write nonsense; it is not replayed."""
    from ledger.integrations.optuna.journal_backend import JournalAppended

    for text in ("{", "[1]"):
        book.log.append([JournalAppended(text)], stream="optuna-journal/" + text)
        with pytest.raises(Corrupted, match="an entry of a journal that is"):
            _entries(LedgerJournalBackend(book, text))


def test_there_are_no_snapshots_to_be_unpickled(backend: LedgerJournalBackend) -> None:
    """Optuna unpickles what it is given as one: whoever could write it would run code in every reader."""
    from optuna.storages.journal._base import BaseJournalSnapshot

    assert not isinstance(backend, BaseJournalSnapshot)
    storage = JournalStorage(backend)
    for number in range(3):
        optuna.create_study(storage=storage, study_name=f"{number}")
    assert {record.type for record in backend._opened.book.log.read()} == {"OptunaJournalAppended"}


def test_it_is_pickled_by_its_path(backend: LedgerJournalBackend, ledger_path: Path) -> None:
    """The copy reads and appends; with a ledger in memory that is refused."""
    storage = JournalStorage(backend)
    optuna.create_study(storage=storage, study_name="demo")
    other: JournalStorage = pickle.loads(pickle.dumps(storage))
    assert other.get_study_name_from_id(0) == "demo"
    other._backend.close()
    with ledger.open("memory:") as book, pytest.raises(InvalidValue, match="belongs to the process that made it"):
        pickle.dumps(LedgerJournalBackend(book))
    copied = copy.deepcopy(backend)
    assert len(_entries(copied)) == 1
    copied.close()


def test_threads_share_one(backend: LedgerJournalBackend) -> None:
    """Every entry is there once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: [backend.append_logs([{"n": n, "i": i}]) for i in range(10)], range(8)))
    assert sorted((entry["n"], entry["i"]) for entry in _entries(backend)) == list(itertools.product(range(8), range(10)))


def _work(backend: LedgerJournalBackend, count: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="demo", storage=JournalStorage(backend), sampler=optuna.samplers.RandomSampler())
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=count)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_optimize_together(backend: LedgerJournalBackend, method: str) -> None:
    """Trials are numbered without a gap; the backend goes along by fork and by pickle."""
    storage = JournalStorage(backend)
    optuna.create_study(storage=storage, study_name="demo")
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=_work, args=(backend, 5)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    found = storage.get_all_trials(0)
    assert [trial.number for trial in found] == list(range(15))
    assert {trial.state for trial in found} == {TrialState.COMPLETE}


_WRITER = """
import sys, optuna
from optuna.storages import JournalStorage
from ledger.integrations.optuna.journal_backend import LedgerJournalBackend
backend = LedgerJournalBackend(sys.argv[1])
number = 0
while True:
    backend.append_logs([{"n": number, "half": 0}, {"n": number, "half": 1}])
    print(number)
    number += 1
"""


def test_a_killed_writer_leaves_no_torn_entry(ledger_path: Path, script: Callable[..., Any]) -> None:
    """What was acknowledged is there, both halves of each append, and others go on at once."""
    for _ in range(3):
        writer = script(_WRITER, ledger_path)
        seen = [int(writer.line()) for _ in range(20)]
        writer.kill()
        seen += [int(line) for line in writer.finish()]
        with LedgerJournalBackend(ledger_path) as backend:
            found = [(entry["n"], entry["half"]) for entry in _entries(backend)]
            last = max(index for index, pair in enumerate(found) if pair == (0, 0))
            assert found[last:] == [(n, half) for n in range(len(found[last:]) // 2) for half in (0, 1)]
            assert len(found[last:]) // 2 in (seen[-1] + 1, seen[-1] + 2)
            backend.append_logs([{"n": -1, "half": 0}])


def test_a_ledger_is_read_and_copied_without_optuna(ledger_path: Path, tmp_path: Path, script: Callable[..., Any]) -> None:
    """The entries are carried through as they are by a process that does not know them."""
    with LedgerJournalBackend(ledger_path) as backend:
        fill(JournalStorage(backend))
        wanted = _entries(backend)
    program = """
import sys
sys.modules["optuna"] = None
import ledger
from ledger.cli.main import app
from typer.testing import CliRunner
from ledger.maintenance.compaction import compact
path, copy = sys.argv[1:]
lines = CliRunner().invoke(app, ["export", path, "--output", copy + ".jsonl"])
assert lines.exit_code == 0, lines.output
done = CliRunner().invoke(app, ["import", copy + ".jsonl", copy])
assert done.exit_code == 0, done.output
with ledger.open(copy) as book:
    record = next(book.log.read())
    print(type(record.event).__name__, record.type)
"""
    assert script(program, ledger_path, tmp_path / "copy").finish() == ["UnknownEvent OptunaJournalAppended"]
    with LedgerJournalBackend(tmp_path / "copy") as backend:
        assert repr(_entries(backend)) == repr(wanted)
    assert os.path.exists(tmp_path / "copy.jsonl")
