"""SQL over the tables: right answers, and nothing but the tables within reach."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pandas as pd
import pytest

import ledger
from ledger.errors import InvalidValue, UnknownExperiment
from projections import Tables
from projections.export import read_table, write_table
from projections.sql import TABLES, query


@pytest.fixture
def tables(book: ledger.Ledger) -> Tables:
    """Two experiments that have parameters of one name and different types."""
    first = book.experiment("first", objectives={"loss": "min"})
    for lr in (1, 2):
        first.new_trial({"lr": lr, "odd": (1, 2)}).complete({"loss": lr / 10})
    first.new_trial({"lr": 3}).fail("no")
    second = book.experiment("second")
    second.new_trial({"lr": "auto", "only.here": True})
    return Tables(book)


def test_all_experiments_are_in_one_table(tables: Tables) -> None:
    """Types that differ become JSON; a column that one does not have is null there."""
    found = query(tables, 'select experiment, trial_id, "config.lr" lr, "config.only.here" only_here from trials order by all')
    assert found.values.tolist() == [
        ["first", 1, "1", pd.NA], ["first", 2, "2", pd.NA], ["first", 3, "3", pd.NA], ["second", 1, '"auto"', True],
    ]  # fmt: skip


def test_one_experiment_keeps_its_types(tables: Tables) -> None:
    """By name or id; an unknown one is the error of the tables, with the nearest name."""
    found = query(tables, 'select sum("config.lr") as total, avg("result.loss") as loss from trials', experiment="first")
    assert found.to_dict("list") == {"total": [6], "loss": [pytest.approx(0.15)]}
    assert query(tables, "select count(*) as n from configs", experiment="first")["n"].tolist() == [3]
    identifier = str(tables.experiments()["experiment_id"][1])
    assert query(tables, "select name from experiments", experiment=identifier)["name"].tolist() == ["second"]
    with pytest.raises(UnknownExperiment, match="Did you mean 'first'"):
        query(tables, "select * from trials", experiment="frist")


def test_the_past_can_be_asked(tables: Tables) -> None:
    """As of a position every table is as it stood there."""
    assert query(tables, "select status, count(*) n from trials group by 1", as_of=2).values.tolist() == [["PENDING", 1]]
    assert query(tables, "select count(*) n from experiments", as_of=0)["n"].tolist() == [0]


def test_what_was_deleted_and_values_as_recorded_can_be_asked(book: ledger.Ledger) -> None:
    """Deleted trials, experiments and what they have are in every table when asked for; values are as amended, or as recorded."""
    for name in ("kept", "gone"):
        exp = book.experiment(name)
        for trial in exp.new_trials([{"lr": 0.1}, {"lr": 0.2}]):
            trial.log_many({"loss": [0.5]})
            trial.complete({"loss": 0.5})
        exp.trial(1).amend(results={"loss": 0.25}, reason="read from the wrong line")
        exp.trial(2).delete("a mistake")
    book.get_experiment("gone").delete("a mistake")
    times = dict.fromkeys(("trials", "configs", "groups", "results", "metrics", "status_history"), 4)
    for name, more in {"experiments": 2, "amendments": 2, **times}.items():
        shown, every = (len(query(Tables(book), f"select 1 from {name}", deleted=deleted)) for deleted in (False, True))
        assert (name, every) == (name, shown * more)
    for table, column in (("trials", '"result.loss"'), ("results", "value")):
        losses = [
            query(Tables(book), f"select {column} v from {table} order by trial_id", amended=amended)["v"].tolist()
            for amended in (True, False)
        ]
        assert losses == [[0.25], [0.5]]


def test_an_empty_ledger_has_tables() -> None:
    """Without columns of configs, and without rows."""
    with ledger.open("memory:") as book:
        book.experiment("empty")
        assert query(Tables(book), "select count(*) n from trials")["n"].tolist() == [0]
        assert query(Tables(book), "select * from experiments")["name"].tolist() == ["empty"]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_rows_has_columns_with_their_types(book: ledger.Ledger, name: str) -> None:
    """Before the first experiment and before the first trial: all columns but those that the rows decide on."""
    exp = book.experiment("demo")
    before = book.log.head
    exp.new_trial({"lr": 0.1})
    trial = exp.claim(worker="w1")
    assert trial is not None
    trial.start()
    trial.capture()
    trial.log(step=1, loss=0.5)
    trial.log_telemetry_many({"cpu": [0.5]})
    trial.log_artifact([1], name="numbers")
    trial.complete({"loss": 0.5})
    trial.amend(results={"loss": 0.25}, reason="read from the wrong line")

    def columns(as_of: int | None) -> dict[str, str]:
        described = query(Tables(book), f"describe {name}", as_of=as_of)
        return dict(zip(described["column_name"], described["column_type"], strict=True))

    whole = columns(None)
    of_data = [each for each in whole if each.startswith(("config.", "result.", "capture.")) or whole[each] == "VARCHAR[]"]
    fixed = {each: kind for each, kind in whole.items() if each not in (*of_data, "value", "before", "after")}
    for as_of in (0, before):
        assert columns(as_of).items() >= fixed.items()


def test_answers_have_the_dtypes_of_tables(tables: Tables) -> None:
    """Nullable ints, floats, texts, UTC times to the microsecond; decimals as numbers, dates as texts."""
    found = query(
        tables,
        """select trial_id, case when trial_id = 1 then null else 2 end as gap, 1.5 as decimal, 2::hugeint as huge, status,
        created_at, created_at::date as day, time '10:00' as clock, [1, 2] as list, {'a': 1} as struct, uuid() as id,
        18446744073709551615::ubigint as large, interval 1 day as span, trial_id, null as nothing
        from trials where experiment = 'first' order by trial_id""",
    )
    kinds = {name: str(dtype) for name, dtype in found.dtypes.items()}
    assert kinds["trial_id"] == kinds["gap"] == kinds["huge"] == kinds["trial_id_1"] == "Int64"
    assert kinds["decimal"] == "float64"
    assert kinds["created_at"] == "datetime64[ns, UTC]"
    assert found["created_at"].tolist() == tables.trials("first")["created_at"].dt.floor("us").tolist()
    assert found["large"].tolist() == [2**64 - 1] * 3
    assert found["clock"].tolist() == ["10:00:00"] * 3
    assert found["day"][0] == found["created_at"][0].date().isoformat()
    assert isinstance(found["list"][0], list)
    assert found["gap"].isna().tolist() == [True, False, False]


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_intervals_are_durations(tables: Tables, tmp_path: Path, form: str) -> None:
    """As timedelta64, and in ISO 8601 where months or 400 years are among them, inside of lists, and in files of texts."""
    found = query(
        tables,
        "select interval 1 day + interval 1500 millisecond as took, null::interval as none, -interval 1 minute as back, "
        "interval '1 month 2 days 3.5 seconds' as month, interval 400 year as long, [interval 1 hour] as list",
    )
    assert [str(dtype) for dtype in found.dtypes] == ["timedelta64[ns]"] * 3 + ["string", "string", "object"]
    day = dt.timedelta(1, 1.5)
    assert [found["took"][0], found["back"][0]] == [day, -dt.timedelta(minutes=1)]
    assert found["none"].isna().all()
    said = ["P1M2DT3.5S", "P4800M0DT0S", ["P0M0DT3600S"]]
    assert found[["month", "long", "list"]].values.tolist() == [said]
    path = write_table(found, tmp_path / f"found.{form}")
    if form == "parquet":
        pd.testing.assert_frame_equal(read_table(path), found)
    else:
        assert "P1DT0H0M1.5S" in path.read_text()


def test_an_hour_is_of_utc(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the zone of the machine."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    found = query(
        tables, "select extract(hour from created_at) as hour, date_trunc('day', created_at) as day, created_at, "
        "extract(epoch from ended_at - started_at) as took from trials where status = 'SUCCEEDED' limit 1",
    )  # fmt: skip
    created = found["created_at"][0].tz_convert(dt.UTC)
    assert (found["hour"][0], found["day"][0]) == (created.hour, created.floor("D"))
    assert 0 <= found["took"][0] < 60


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('{file}')",
        "select * from '{file}'",
        "select content from read_text('{file}')",
        "select * from glob('{directory}/*')",
        "copy (select 1) to '{directory}/out.csv'",
        "copy trials from '{file}'",
        "attach '{directory}/other.db'",
        "export database '{directory}/out'",
        "install httpfs",
        "load '{file}'",
        "select * from read_csv('https://example.com/x.csv')",
        "set enable_external_access = true",
        "set global enable_external_access = true",
        "select * from secret_frame",
        "select getenv('HOME')",
        "create secret (type s3, key_id 'x', secret 'y')",
    ],
)
def test_nothing_but_the_tables_is_within_reach(tables: Tables, tmp_path: Path, sql: str) -> None:
    """No file is read or made, no extension loaded, no variable of the program seen, no setting changed."""
    secret_frame = pd.DataFrame({"key": ["secret"]})
    (tmp_path / "secret.csv").write_text("key\nsecret\n")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InvalidValue, match=r"the query (cannot be answered|gives no rows)"):
        query(tables, sql.format(file=tmp_path / "secret.csv", directory=tmp_path))
    assert sorted(os.listdir(tmp_path)) == before
    assert len(secret_frame) == 1


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "syntax error"),
        ("", "0 statements"),
        ("select 1; select 2", "2 statements"),
        ("select * from nothing", "The tables are experiments, trials"),
        ("select config.lr from trials", 'in double quotes: "config.name"'),
        ("select nope from trials", 'column "nope" not found'),
        ("select cast(status as int) from trials", "Could not convert"),
        ("set threads = 1", "cannot be answered"),
    ],
)
def test_what_is_no_query_is_told_with_the_cure(tables: Tables, sql: str, message: str) -> None:
    """On one line, with the tables that there are."""
    with pytest.raises(InvalidValue, match=message) as caught:
        query(tables, sql)
    assert "\n" not in str(caught.value)


def test_the_tables_can_be_listed(tables: Tables) -> None:
    """And described, though no query names them all."""
    assert sorted(query(tables, "show tables")["name"]) == sorted(TABLES)
    assert "config.lr" in query(tables, "describe trials")["column_name"].tolist()


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_asked(tables: Tables, name: str) -> None:
    """With the column experiment, but that of experiments itself."""
    found = query(tables, f"select * from {name}")
    assert ("name" if name == "experiments" else "experiment") in found.columns


def test_names_that_differ_in_case_alone_are_both_there(book: ledger.Ledger) -> None:
    """The second one with _1 at its end."""
    book.experiment("demo").new_trial({"LR": 1, "lr": 2})
    found = query(Tables(book), "select * from trials")
    assert (found["config.LR"].tolist(), found["config.lr_1"].tolist()) == ([1], [2])


def test_without_duckdb_the_error_names_the_extra(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported when a query is asked."""
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(InvalidValue, match=r"experiment-ledger\[query\]"):
        query(tables, "select 1")
