"""The Reader: which trials it shows as of when, under which keys, and that nothing of it changes under the reader's hands."""

import math
import os

import pandas as pd
import pytest

import ledger
from ledger.errors import InvalidValue, LedgerNotFound, ReadOnlyLedger, UnknownExperiment
from projections import Frame, MetricTable, Reader, folds


@pytest.fixture
def exp(book):
    return book.experiment("demo", objectives={"loss": "min"})


def test_every_trial_is_there_whatever_its_status(exp, clock):
    """Those that wait, run, failed, were lost: MLXP hides some, and shows the dead as running."""
    exp.new_trials([{"lr": 0.1}] * 5)
    exp.claim(worker="w1", lease_seconds=10)
    clock.advance(60)
    exp.claim(worker="w2", lease_seconds=1000)
    exp.trial(2).start()
    exp.trial(3).fail(OSError("disk"))
    reader = Reader(exp.book)
    frame = reader.filter()
    assert (len(reader), frame["info.trial_id"]) == (5, [1, 2, 3, 4, 5])
    assert frame["info.status"] == ["READY", "RUNNING", "FAILED", "PENDING", "PENDING"]
    assert frame["info.attempts"] == [2, 1, 1, 0, 0]


def test_a_deleted_trial_is_not_shown_and_one_of_a_deleted_experiment_by_its_id_only(exp):
    """As in the tables."""
    exp.new_trials([{}, {}])
    exp.trial(1).delete(reason="x")
    assert Reader(exp.book).filter()["info.trial_id"] == [2]
    exp.delete(reason="x")
    assert len(Reader(exp.book)) == 0
    assert len(Reader(exp.book, experiment=exp.id)) == 1


def test_rows_come_by_experiment_and_number(book):
    """In the order in which experiments were made; one of them can be asked for by name or id."""
    for name, number in (("b", 11), ("a", 3), ("b", 2)):
        book.experiment(name).new_trial({"of": name}, number=number)
    frame = Reader(book).filter()
    assert list(zip(frame["info.experiment"], frame["info.trial_id"], strict=True)) == [("b", 2), ("b", 11), ("a", 3)]
    assert Reader(book, experiment="a").filter()["config.of"] == ["a"]
    assert len(Reader(book, experiment=book.experiment("b").id)) == 2
    with pytest.raises(UnknownExperiment):
        Reader(book, experiment="c")


def test_a_reader_and_its_results_stay_as_of_their_position(exp):
    """Nothing recorded later shows, not even in what is loaded later; refresh moves the reader on, not its results."""
    trial = exp.new_trial({"lr": 0.1})
    trial.log_many({"loss": [2.0]}, steps=[1])
    trial.log_artifact("one", name="note")
    reader = Reader(exp.book)
    before = reader.filter()
    position = reader.position
    trial.log_many({"loss": [1.0]}, steps=[2])
    trial.log_artifact("two", name="note")
    trial.complete({"loss": 1.0})
    exp.new_trial({"lr": 0.2})
    assert (len(reader), reader.position, len(reader.filter())) == (1, position, 1)
    assert reader.refresh() == reader.position == exp.book.log.head
    after = reader.filter()
    assert (len(before), len(after), len(reader)) == (1, 2, 2)
    assert (before[0]["loss"], after[0]["loss"]) == ([2.0], [2.0, 1.0])
    assert (before[0]["info.status"], after[0]["info.status"]) == ("PENDING", "SUCCEEDED")
    assert [frame[0]["artifact.text."]["note"].load() for frame in (before, after)] == ["one", "two"]
    assert "result.loss" not in before[0]
    assert Reader(exp.book, as_of=position).filter()[0]["loss"] == [2.0]


def test_what_is_handed_out_is_the_callers_own(exp):
    """Lists, dicts, frames of pandas: changing them changes nothing here."""
    exp.new_trial({"layers": [1, [2]], "lr": 0.1}).log_many({"loss": [1.0, 2.0]})
    reader = Reader(exp.book)
    frame = reader.filter()
    frame[0]["config.layers"][1].append(3)
    frame["config.layers"][0].append(3)
    frame[0]["loss"].clear()
    shown, loaded, fields = frame.toPandas(), frame.toPandas(lazy=False), reader.fields
    shown["config.lr"] = 7
    loaded["config.layers"][0].clear()
    fields.loc["config.lr", "Type"] = "x"
    frame[0].update({"config.lr": 7})
    assert frame[0]["config.lr"] == 7
    row = reader.filter()[0]
    assert (row["config.layers"], row["loss"], row["config.lr"]) == ([1, [2]], [1.0, 2.0], 0.1)
    assert frame.toPandas(lazy=False)["config.layers"][0] == [1, [2]]
    assert reader.fields.loc["config.lr", "Type"] == "float"


def test_metrics_are_not_folded_before_one_is_touched(exp, monkeypatch):
    """Opening, counting and asking for configs and statuses leaves them alone."""
    exp.new_trial({"lr": 0.1}).log_many({"loss": [1.0]})
    folded = []
    original = MetricTable.apply
    monkeypatch.setattr(MetricTable, "apply", lambda self, record: folded.append(record) or original(self, record))
    reader = Reader(exp.book)
    frame = reader.filter("config.lr < 1 and status == 'PENDING'")
    assert (frame["config.lr"], len(reader), folded) == ([0.1], 1, [])
    assert frame[0]["loss"] == [1.0]
    assert len(folded) == 1


def test_values_keep_their_types(exp):
    """int, float, text, bool, None, NaN, tuples, large ints: what was recorded is what a row has."""
    values = {
        "i": 3, "f": 3.0, "s": "3", "b": True, "none": None, "nan": math.nan, "t": (1, "a"), "big": 10**30, "inf": math.inf,
        "d": {"x": {"y": None}, "empty": {}}, "l": [None, {"k": 1}], "bytes": b"x",
    }  # fmt: skip
    exp.new_trial(values)
    exp.new_trial({})
    first, second = Reader(exp.book).filter()
    assert [key for key in second if key.startswith("config.")] == []
    for name, value in values.items():
        if name not in ("nan", "d"):
            assert (first[f"config.{name}"], type(first[f"config.{name}"])) == (value, type(value))
    assert math.isnan(first["config.nan"])
    assert (first["config.d.x.y"], "config.d.empty" in first, "config.d" in first) == (None, False, False)
    with pytest.raises(KeyError, match=r"the row has no 'zzz'\. list"):
        second["zzz"]
    with pytest.raises(KeyError, match=r"Did you mean 'info\.status'"):
        second["info.statsu"]


def test_results_that_are_none_or_nan_are_told_from_missing_ones(exp):
    """Also after corrections, and when a trial is tried again."""
    for results in ({"loss": math.nan, "note": None}, {}, {"loss": None}):
        exp.new_trial({}).complete(results)
    exp.trial(3).amend(results={"loss": 2.0}, reason="typo")
    failed = exp.new_trial({})
    failed.fail(OSError("x"), {"loss": math.nan})
    first, second, third, fourth = Reader(exp.book).filter()
    assert (math.isnan(first["result.loss"]), first["result.note"]) == (True, None)
    assert ("result.loss" in second, third["result.loss"], math.isnan(fourth["result.loss"])) == (False, 2.0, True)
    failed.requeue()
    exp.trial(1).amend(withdraw=["loss"], reason="wrong")
    frame = Reader(exp.book).filter()
    assert ["result.loss" in row for row in frame] == [False, False, True, False]


def test_metrics_of_the_last_attempt_count(exp, clock):
    """Those of a worker that lost the trial do not, as its results do not."""
    exp.new_trial({})
    lost = exp.claim(worker="w1", lease_seconds=1)
    lost.log_many({"loss": [9.0, 8.0]})
    clock.advance(100)
    exp.claim(worker="w2", lease_seconds=1000).log_many({"loss": [1.0]})
    assert Reader(exp.book).filter()[0]["loss"] == [1.0]


def test_metrics_come_as_logged_and_by_step(exp):
    """A list of the values; ``series`` has their steps, so that metrics logged at other steps are aligned."""
    trial = exp.new_trial({})
    trial.log_many({"loss": [3, 2, 1]}, steps=[10, 20, 30])
    trial.log_many({"accuracy": [0.5]}, steps=[20])
    trial.log_many({"free": [1.5, 2.5]})
    row = Reader(exp.book).filter()[0]
    assert row["loss"] == [3, 2, 1]
    assert type(row["loss"][0]) is int
    together = pd.DataFrame({name: row.series(name) for name in ("loss", "accuracy")})
    assert together["accuracy"].notna().tolist() == [False, True, False]
    assert row.series("free").index.isna().all()
    with pytest.raises(InvalidValue, match="no metric"):
        row.series("config.lr")


def test_a_row_is_a_mapping_that_shows_what_it_has_not_loaded(exp):
    """repr says METRIC and ARTIFACT; items loads."""
    trial = exp.new_trial({"lr": 0.1})
    trial.log_many({"loss": [1.0]})
    trial.log_artifact([1], name="plan")
    row = Reader(exp.book).filter()[0]
    assert "'loss': 'METRIC'" in repr(row)
    assert "'artifact.json.': 'ARTIFACT'" in repr(row)
    assert "METRIC" in row._repr_html_()
    items = dict(row.items())
    assert (items["loss"], items["artifact.json."]["plan"].load(), row.get("nope", 1)) == ([1.0], [1], 1)
    assert len(row) == len(list(row)) == len(items)
    row.update({"lazy": lambda key: key * 2})
    assert (row["lazy"], "'lazy': 'METRIC'" in repr(row)) == ("lazylazy", True)


def test_fields_have_the_types_of_all_trials(exp):
    """Not only those of the last one read; and only what somebody has."""
    exp.new_trial({"lr": 0.1, "n": 1}).log_many({"loss": [1.0]})
    exp.new_trial({"lr": "auto", "n": None})
    reader = Reader(exp.book)
    types = reader.fields["Type"]
    assert (types["config.lr"], types["config.n"], types["loss"]) == ("float | str", "NoneType | int", "METRIC")
    assert (reader.fields.index.name, list(reader.fields.columns)) == ("Fields", ["Type"])
    assert "info.worker" not in types
    assert list(types.index) == sorted(types.index)
    assert set(reader.searchable.index) == {key for key in types.index if key.startswith(("info.", "config."))}


def test_formats_of_results(exp):
    """A frame, or a DataFrame of pandas with everything loaded; nothing else."""
    exp.new_trial({"lr": 0.1}).log_many({"loss": [1.0, 2.0]})
    reader = Reader(exp.book)
    assert isinstance(reader.filter("config.lr == 0.1"), Frame)
    loaded = reader.filter("", "pandas")
    assert loaded.loc[0, "loss"] == [1.0, 2.0]
    assert str(loaded["info.created_at"].dtype) == "datetime64[ns, UTC]"
    assert reader.filter().toPandas().loc[0, "loss"] == "METRIC"
    with pytest.raises(InvalidValue, match="no format 'polars'"):
        reader.filter("", "polars")


def test_a_path_is_opened_for_reading_and_closed(ledger_path):
    """A mistyped one is an error, and makes nothing."""
    with ledger.open(ledger_path) as book:
        book.experiment("demo").new_trial({"lr": 0.1})
    with Reader(ledger_path) as reader:
        assert len(reader) == 1
        assert repr(reader).endswith("at position 2: 1 trials>")
    with pytest.raises(LedgerNotFound):
        Reader(ledger_path.parent / "tpyo")
    assert not (ledger_path.parent / "tpyo").exists()
    with ledger.open(ledger_path) as book:
        Reader(book).close()
        assert book.log.head == 2  # an open one stays open


def test_two_values_with_the_same_dotted_key_are_both_there(book):
    """A name with dots has the key; the value of a nested one then ends in quotes, and is found by that in quotes."""
    exp = book.experiment("demo")
    exp.new_trial({"a.b": 1, "a": {"b": 2, "c.d": [5], "c": {"d": 6}}})
    exp.new_trial({"a": {"b": 3}})
    exp.trial(1).set_attributes({"x.y": 7, "x": {"y": 8}})
    with Reader(book) as reader:
        first, second = reader.filter()
        assert {key: first[key] for key in first if key.startswith("config.a.b") or key.endswith('"')} == {
            "config.a.b": 1, 'config.a."b"': 2, 'config.a.c."d"': [5], 'info.attributes.x."y"': 7,
        }  # fmt: skip
        assert (first["config.a.c.d"], first["info.attributes.x.y"], second["config.a.b"]) == (6, 8, 3)
        assert 'config.a."b"' not in second
        assert reader.filter("""'config.a."b"' == 2""")["info.trial_id"] == [1]


def test_deleted_trials_are_there_when_asked_for(ledger_path):
    """With their metrics and artifacts; without being asked for, none of their keys is known."""
    with ledger.open(ledger_path) as book:
        kept, gone = book.experiment("demo").new_trials([{"lr": 0.1}, {"lr": 0.2}])
        kept.complete()
        gone.log(spent=3.5)
        gone.log_artifact([1], name="plan")
        gone.delete("a mistake")
    with Reader(ledger_path) as reader:
        assert (reader.filter()["info.trial_id"], "spent" in reader.fields.index) == ([1], False)
    with Reader(ledger_path, deleted=True) as reader:
        assert reader.filter("spent.max > 3 and exists(artifact.plan)")["info.trial_id"] == [2]
        assert reader.filter("not exists(info.deleted_at)")["info.trial_id"] == [1]
        (found,) = reader.filter("trial_id == 2")
        assert (found["spent"], found["artifact.json."]["plan"].load()) == ([3.5], [1])


def test_a_cache_that_cannot_be_written_is_named(ledger_path, tmp_path):
    """It is an error of permissions, as in MLXP."""
    with ledger.open(ledger_path) as book:
        book.experiment("demo")
    (tmp_path / "file").write_text("")
    with pytest.raises(ReadOnlyLedger, match="file/cache, where nothing can be kept") as raised:
        Reader(ledger_path, dst_dir=tmp_path / "file" / "cache")
    assert isinstance(raised.value, PermissionError)
    if os.geteuid() != 0:  # who may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(ReadOnlyLedger, match="locked, where this user may not write"):
            Reader(ledger_path, dst_dir=tmp_path / "locked")


def test_checkpoints_go_where_they_are_told_to_and_refresh_looks_beyond_them(ledger_path, tmp_path, monkeypatch):
    """Without ``refresh`` the reader shows what was saved; metrics, tags and None are in it as they were."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 1)
    with ledger.open(ledger_path) as book:
        exp = book.experiment("demo")
        trial = exp.new_trial({"lr": 0.1, "warmup": None})
        trial.tag("baseline")
        trial.set_attributes({"info": {"hostname": "vm", "scheduler": None}}, namespace="mlxp")
        trial.log_many({"loss": [1.0]})
        trial.log_artifact([1], name="plan")
    cache = tmp_path / "cache"
    with Reader(ledger_path, dst_dir=cache) as reader:
        before = dict(reader.filter()[0])
        assert before["loss"] == [1.0]
    assert list(cache.iterdir())
    with ledger.open(ledger_path) as book:
        book.experiment("demo").new_trial({"lr": 0.2})
        book.experiment("demo").trial(1).log_many({"loss": [0.5]})
    with Reader(ledger_path, dst_dir=cache, refresh=False) as reader:
        assert len(reader) == 1
        after = dict(reader.filter()[0])
        assert after.pop("artifact.json.")["plan"].load() == [1]
        del before["artifact.json."]
        assert after == before
        reader.refresh()
        assert (len(reader), reader.filter()[0]["loss"]) == (2, [1.0, 0.5])
    with Reader(ledger_path, dst_dir=cache) as reader:
        assert len(reader) == 2
        row = reader.filter("tags contains 'baseline' and config.warmup == None and info.scheduler == None")[0]
        assert row["info.hostname"] == "vm"
    with Reader(ledger_path, dst_dir=tmp_path / "other", refresh=False) as reader:
        assert len(reader) == 2  # nothing was saved there


def test_a_reader_shows_a_time_in_the_past(exp, clock):
    """``as_of`` is a position or a time, as in the tables."""
    exp.new_trial({})
    clock.advance(100)
    exp.new_trial({})
    assert len(Reader(exp.book, as_of="2027-01-15T08:00:30Z")) == 1
    assert len(Reader(exp.book, as_of="2027-01-15T09:00:00Z")) == 2
    with pytest.raises(InvalidValue, match="as_of is 'soon'"):
        Reader(exp.book, as_of="soon")


def test_trials_of_none_of_mlxps_have_what_it_says_of_runs(exp, clock):
    """Number, dates and times, in UTC, so that its users' queries find them."""
    exp.new_trial({})
    with exp.new_trial({}).run() as trial:
        clock.advance(60)
        trial.complete()
    first, second = Reader(exp.book).filter()
    assert "info.start_date" not in first
    assert (second["info.logger.log_id"], second["info.start_date"], second["info.start_time"]) == (2, "15/01/2027", "08:00:00")
    assert (second["info.end_date"], second["info.end_time"]) == ("15/01/2027", "08:01:00")


def test_what_was_redacted_is_gone_from_what_was_not_loaded_yet(exp):
    """From results of before as well; the others are as they were."""
    exp.new_trial({"key": None, "lr": 0.1})
    exp.new_trial({"lr": 0.2})
    frame = Reader(exp.book).filter()
    exp.book.redact(2, reason="leaked")
    assert frame["config.lr"] == [0.1, 0.2]  # its column was loaded when the reader was made
    assert "config.key" not in frame[0]


def test_experiments_with_other_keys_and_types_stand_side_by_side(book):
    """What one has and the other has not is missing there; numbers and texts of one key are in one column."""
    first, second = book.experiment("a").new_trial({"x": 1, "y": True}), book.experiment("b").new_trial({"x": "one", "z": 0.5})
    first.log_many({"loss": [1.0, 2.0]}, steps=[1, 2])
    second.log_many({"loss": [3]}, steps=[1])
    second.log_many({"score": ["good"]})
    book.experiment("c")
    reader = Reader(book)
    frame = reader.filter()
    assert [frame[key] for key in ("config.x", "config.y", "config.z")] == [[1, "one"], [True, None], [None, 0.5]]
    assert (frame["loss"], frame["score"]) == ([[1.0, 2.0], [3.0]], [None, ["good"]])
    assert reader.filter("loss.last > 2.5 and score.last == 'good'")["info.experiment"] == ["b"]
    assert frame[1].series("loss").to_dict() == {1: 3.0}
