"""A journal file, replayed: as Optuna replays it, and on where Optuna cannot."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FrozenTrial

from ledger.errors import InvalidValue
from ledger.integrations.optuna.journal_file import Replay, read_journal
from ledger.integrations.optuna.source import Broken
from tests.integrations.optuna.samples import content, fill, names

DATA = Path(__file__).parent / "data"
DISTRIBUTIONS = [
    FloatDistribution(0, 1), FloatDistribution(-1, 5), FloatDistribution(0.1, 1, log=True), IntDistribution(0, 8),
    CategoricalDistribution(["a", "b"]), CategoricalDistribution(["b", "a"]),
]  # fmt: skip
TIMES = ["2026-01-01T00:00:00.000001+00:00", "2026-10-25T00:30:00.000000+00:00", "2026-10-25T01:30:00.000000+00:00"]
VALUES = st.sampled_from([0.0, 1.5, -2.0, float("inf"), float("nan")])
IDS = st.integers(0, 5)


class Listed(BaseJournalBackend):  # type: ignore[misc]
    """A journal in a list."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.entries = entries

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Return the entries."""
        return iter(self.entries[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries as a file would have them."""
        self.entries += json.loads(json.dumps(logs))


def _entry(op: int, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"op_code": st.just(op), "worker_id": st.sampled_from("vw"), **fields})


PARAMS = st.dictionaries(st.sampled_from("xyz"), st.sampled_from(DISTRIBUTIONS), max_size=2)
ENTRIES = st.one_of(
    _entry(0, study_name=st.sampled_from(["a", "b", ""]), directions=st.sampled_from([[1], [2], [1, 2]])),
    _entry(1, study_id=IDS),
    _entry(2, study_id=IDS, user_attr=st.dictionaries(st.sampled_from("kl"), VALUES, min_size=1, max_size=1)),
    _entry(3, study_id=IDS, system_attr=st.dictionaries(st.sampled_from("kl"), VALUES, min_size=1, max_size=1)),
    _entry(4, study_id=IDS, datetime_start=st.sampled_from(TIMES)),
    _entry(4, study_id=IDS, datetime_start=st.sampled_from(TIMES)),
    PARAMS.flatmap(
        lambda found: _entry(
            4, study_id=IDS, datetime_start=st.sampled_from([*TIMES, None]), datetime_complete=st.sampled_from(TIMES),
            state=st.sampled_from([0, 1, 2, 3, 4]), value=st.just(None), values=st.sampled_from([None, [1.0], [0.5, 2.0]]),
            distributions=st.just({name: distribution_to_json(each) for name, each in found.items()}),
            params=st.just(dict.fromkeys(found, 1.0)), user_attrs=st.just({"u": 1}), system_attrs=st.just({"s": None}),
            intermediate_values=st.just({"0": 0.5, "3": 1.0}),
        )
    ),
    _entry(
        5, trial_id=IDS, param_name=st.sampled_from("xyz"), param_value_internal=st.sampled_from([0.0, 1.0]),
        distribution=st.sampled_from(DISTRIBUTIONS).map(distribution_to_json),
    ),
    _entry(
        6, trial_id=IDS, state=st.sampled_from([0, 0, 1, 2, 3, 4]), values=st.sampled_from([None, [1.0], [0.5, 2.0]]),
        datetime_start=st.sampled_from(TIMES), datetime_complete=st.sampled_from(TIMES),
    ),
    _entry(7, trial_id=IDS, step=st.integers(0, 3), intermediate_value=VALUES),
    _entry(8, trial_id=IDS, user_attr=st.dictionaries(st.sampled_from("kl"), VALUES, min_size=1, max_size=1)),
    _entry(9, trial_id=IDS, system_attr=st.dictionaries(st.sampled_from("kl"), VALUES, min_size=1, max_size=1)),
    _entry(10),
)  # fmt: skip


def _replayed(entries: list[dict[str, Any]]) -> Replay:
    replay = Replay()
    for number, entry in enumerate(entries, start=1):
        replay.read(number, json.dumps(entry).encode() + b"\n")
    return replay


def _all(number: int) -> bool:
    return True


def _read(trial: FrozenTrial | Broken) -> dict[str, Any]:
    assert isinstance(trial, FrozenTrial)
    return {**content(trial), "id": trial._trial_id, "fold": getattr(trial.datetime_start, "fold", None)}


@settings(max_examples=300, deadline=None)
@given(st.lists(ENTRIES, max_size=40))
def test_it_is_read_as_optuna_reads_it(entries: list[dict[str, Any]]) -> None:
    """Whatever operations come in whatever order: the same studies, trials, ids and numbers; the same are rejected."""
    storage = JournalStorage(Listed(entries))
    replay = _replayed(entries)
    assert replay.problems == []
    found = {study.id: study for study in replay.studies()}
    assert list(found) == [study._study_id for study in storage.get_all_studies()]
    for study in storage.get_all_studies():
        mine = found[study._study_id]
        assert (mine.name, mine.directions) == (study.study_name, study.directions)
        assert repr((mine.user_attrs, mine.system_attrs)) == repr((study.user_attrs, study.system_attrs))
        wanted = [_read(trial) for trial in storage.get_all_trials(study._study_id)]
        assert repr([_read(trial) for trial in mine.trials(_all)]) == repr(wanted)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with studies of every kind."""
    path = tmp_path / "journal.log"
    fill(JournalStorage(JournalFileBackend(str(path))))
    return path


def test_a_torn_last_line_is_left_out(journal: Path) -> None:
    """As Optuna leaves it out; that it was there is said."""
    whole = journal.read_bytes()
    before = read_journal(journal)
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"w","study_id":0,"datet')
    found = read_journal(journal)
    assert [study.size for study in found.studies] == [study.size for study in before.studies]
    assert found.problems == [f"line {whole.count(10) + 1} is torn: it does not end. It is left out, as Optuna leaves it out."]


def test_what_follows_a_torn_line_is_read(journal: Path) -> None:
    """Optuna glues the next entry to the torn one, and can read neither nor anything after it."""
    with journal.open("ab") as file:
        file.write(b'{"op_code":2,"worker_id":"w","study_id":0,"user_at')
    storage = JournalStorage(JournalFileBackend(str(journal)))
    with pytest.raises(json.JSONDecodeError):
        for value in (1, 2):
            storage.set_study_user_attr(0, "after", value)
    with journal.open("ab") as file:
        file.write(b'{"op_code":2,"worker_id":"w","study_id":0,"user_attr":{"later":3}}\n')
    found = read_journal(journal)
    assert found.studies[0].user_attrs["after"] in (1, 2)
    assert found.studies[0].user_attrs["later"] == 3
    assert len(found.problems) == 1
    assert "begins with a torn entry" in found.problems[0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\x00\x00\x00\n", "is damaged"),
        (b"[1, 2]\n", "is damaged"),
        (b'{"op_code":99,"worker_id":"w"}\n', "an operation 99 is not known"),
        (b'{"worker_id":"w"}\n', "it has no 'op_code'"),
        (b'{"op_code":8,"worker_id":"w","trial_id":0}\n', "it has no 'user_attr'"),
        (b'{"op_code":7,"worker_id":"w","trial_id":"x","step":1,"intermediate_value":1}\n', "is left out"),
        (b'{"op_code":5,"worker_id":"w","trial_id":0,"param_name":"q","param_value_internal":1,"distribution":""}\n', "is left"),
    ],
)  # fmt: skip
def test_a_broken_entry_hides_none_of_the_others(journal: Path, line: bytes, problem: str) -> None:
    """It is told of with its line, and the rest is as it would be without it."""
    lines = journal.read_bytes().splitlines(keepends=True)
    wanted = [[repr(_read(trial)) for trial in study.trials(_all)] for study in read_journal(journal).studies]
    journal.write_bytes(b"".join([*lines[:7], line, *lines[7:]]))
    found = read_journal(journal)
    assert [[repr(_read(trial)) for trial in study.trials(_all)] for study in found.studies] == wanted
    assert len(found.problems) == 1
    assert found.problems[0].startswith("line 8 ")
    assert problem in found.problems[0]


def test_a_damaged_creation_of_a_trial_does_not_shift_the_others(journal: Path) -> None:
    """The ids that come after it are those that the entries name."""
    lines = journal.read_bytes().splitlines(keepends=True)
    creations = [number for number, line in enumerate(lines) if line.startswith(b'{"op_code":4')]
    wanted = {trial.number: repr(_read(trial)) for trial in read_journal(journal).studies[0].trials(_all)}
    for damage in (lambda line: line[:-20] + b"\xff" * 10 + b"\n", lambda line: line.replace(b'"datetime_start"', b'"datetime"')):
        broken = [damage(line) if number == creations[3] else line for number, line in enumerate(lines)]
        journal.write_bytes(b"".join(broken))
        found = read_journal(journal)
        broken = [trial for trial in found.studies[0].trials(_all) if isinstance(trial, Broken)]
        assert broken == [(3, "trial 3 is broken: the entry that creates it.")]
        others = {trial.number: repr(_read(trial)) for trial in found.studies[0].trials(_all) if isinstance(trial, FrozenTrial)}
        assert others == {number: each for number, each in wanted.items() if number != 3}


@pytest.mark.parametrize("content", [b"nonsense\n", b"\x00\x01" * 5000, b'{"a": 1}\n' * 300])
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    """It is not read to its end, and no empty source comes of it."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InvalidValue, match="is no journal of Optuna's"):
        read_journal(path)
    with pytest.raises(InvalidValue, match="cannot be read"):
        read_journal(tmp_path / "missing")


def test_a_database_is_no_journal(tmp_path: Path) -> None:
    """It is said what it is, and none of its bytes are shown."""
    path = tmp_path / "study.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE studies (id INTEGER)")
    with pytest.raises(InvalidValue, match=r"study.db' is a database \(SQLite\).*--from optuna-rdb") as refused:
        read_journal(path)
    assert "\\x" not in str(refused.value)


def test_an_empty_journal_has_no_studies(tmp_path: Path) -> None:
    """One that was just made is a journal all the same."""
    path = tmp_path / "journal.log"
    JournalStorage(JournalFileBackend(str(path)))
    assert read_journal(path).studies == []


def test_progress_is_told_in_lines(journal: Path) -> None:
    """At the end all of them are done."""
    told: list[tuple[int, int]] = []
    read_journal(journal, lambda done, total: told.append((done, total)))
    assert told[-1] == (journal.read_bytes().count(10),) * 2


def test_the_studies_of_the_sample_are_those_of_the_storage(journal: Path) -> None:
    """Deleted ones are gone, and one may have an empty name."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    assert [study.name for study in read_journal(journal).studies] == names(storage) == ["tuning", "front", ""]
