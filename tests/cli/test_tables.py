"""The commands that show tables: one way to choose rows and columns, as of when, and where they go."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ledger
from projections import folds
from projections.checkpoints import CheckpointStore
from projections.export import read_table

NAMES = ("trials", "configs", "groups", "metrics", "status-history", "changes")


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with three trials that differ."""
    path = tmp_path_factory.mktemp("tables") / "runs.ledger"
    with ledger.open(path) as book:
        exp = book.experiment("demo", objectives={"loss": "min"})
        for number, lr in enumerate((0.3, 0.1, 0.2), start=1):
            trial = exp.new_trial({"lr": lr, "a,b": number})
            trial.log_many({"train.loss": [1.0, lr], "note": ["x", "y"]}, steps=[0, 1])
            trial.log_telemetry_many({"cpu": [50.0]})
            if number < 3:
                trial.complete({"loss": lr * 2})
        exp.trial(2).amend(results={"loss": 0.25}, reason="read again")
    return path


@pytest.fixture
def unread(master: Path, tmp_path: Path) -> Path:
    """The same ledger, not read yet: on a slow machine an earlier test may have kept tables beside the shared one."""
    path = tmp_path / "unread" / "runs.ledger"
    shutil.copytree(master, path, ignore=shutil.ignore_patterns("projections"))
    return path


def rows(result: Any) -> list[dict[str, Any]]:
    """Return the rows of an output in JSON lines."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def show(invoke: Callable[..., Any], master: Path) -> Callable[..., list[dict[str, Any]]]:
    """Call a command on the ledger, and return its rows."""
    return lambda name, *options: rows(invoke(name, master, "demo", *options, "--format", "jsonl"))


@pytest.mark.parametrize(
    ("name", "count"), [("trials", 3), ("configs", 3), ("groups", 3), ("metrics", 12), ("status-history", 9), ("changes", 35)]
)
def test_each_table_has_its_rows(show: Any, invoke: Any, master: Path, name: str, count: int) -> None:
    """The same ones in each format; before the first record of a trial there are none."""
    found = show(name)
    assert len(found) == count
    read = list(csv.reader(io.StringIO(invoke(name, master, "demo", "--format", "csv").stdout)))
    assert (len(read), read[0]) == (count + 1, list(found[0]))
    assert json.loads(invoke(name, master, "demo", "--format", "json").stdout) == found
    assert len(invoke(name, master, "demo").stdout.splitlines()) >= count
    assert show(name, "--as-of", "1") == []


@pytest.mark.parametrize("name", NAMES)
def test_the_past_is_asked_by_position_or_time(show: Any, invoke: Any, master: Path, name: str) -> None:
    """A time in ISO 8601, or how long ago; what is neither is refused."""
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    assert show(name, "--as-of", later) == show(name, "--as-of", "1000000") == show(name)
    refused = invoke(name, master, "demo", "--as-of", "1d")
    assert (refused.exit_code, "there was no experiment 'demo'" in refused.stderr) == (4, True)
    refused = invoke(name, master, "demo", "--as-of", "yesterday")
    assert (refused.exit_code, "'yesterday' is no time" in refused.stderr) == (2, True)


@pytest.mark.parametrize(("name", "count"), [("trials", 2), ("configs", 2), ("groups", 2), ("metrics", 8), ("status-history", 5)])
def test_where_chooses_the_rows_of_trials(show: Any, name: str, count: int) -> None:
    """By the language of the Reader: configs, metrics, what is said of trials."""
    assert len(show(name, "--where", "train.loss.last < 0.25")) == count
    assert show(name, "--where", "config.lr > 5") == []


def test_where_gives_the_order_unless_another_is_asked_for(show: Any) -> None:
    """And what it compares is as of the position."""
    assert [row["trial_id"] for row in show("trials", "--where", "config.lr < 1 order by config.lr")] == [2, 3, 1]
    assert [row["trial_id"] for row in show("trials", "--where", "order by config.lr", "--sort", "config.a,b")] == [1, 2, 3]
    assert [row["trial_id"] for row in show("trials", "--where", "status == 'PENDING'", "--as-of", "2")] == [1]


def test_an_amended_result_is_a_change(show: Any, invoke: Any, master: Path) -> None:
    """Before and after, one value a line; --where looks at the trials as they are at the end."""
    with ledger.open(master, readonly=True) as book:
        head = book.log.head
    found = show("changes", "--after", str(head - 1), "--table", "trials")
    assert [(row["column"], row["before"], row["after"]) for row in found] == [
        ("is_amended", False, True), ("result.loss", 0.2, 0.25),
    ]  # fmt: skip
    assert [row["after"] for row in show("changes", "--after", str(head - 1), "--table", "results")] == [0.25]
    assert show("changes", "--after", str(head - 1), "--where", "result.loss > 1") == []
    assert show("changes", "--after", str(head)) == []
    refused = invoke("changes", master, "demo", "--table", "configs", "--where", "config.lr < 1")
    assert (refused.exit_code, "is not of trials" in refused.stderr) == (2, True)


def test_columns_are_chosen_by_name_and_by_pattern(show: Any, invoke: Any, master: Path) -> None:
    """In the order in which they are named, also where a name has a comma; an unknown one names the nearest."""
    assert list(show("trials", "--columns", "status,trial_id")[0]) == ["status", "trial_id"]
    assert list(show("trials", "--columns", "config.a,b", "--columns", "config.*")[0]) == ["config.a,b", "config.lr"]
    refused = invoke("trials", master, "demo", "--columns", "config.lrr")
    assert (refused.exit_code, "Did you mean 'config.lr'" in refused.stderr) == (2, True)
    refused = invoke("trials", master, "demo", "--columns", "nope")
    assert (refused.exit_code, "There are: " in refused.stderr) == (2, True)
    refused = invoke("trials", master, "demo", "--sort", "config.lr.x")
    assert (refused.exit_code, "part of 'config.lr': --where knows those" in refused.stderr) == (2, True)
    refused = invoke("metrics", master, "demo", "--sort", "stp")
    assert (refused.exit_code, "Did you mean 'step'" in refused.stderr) == (2, True)


def test_rows_are_sorted_and_cut(show: Any) -> None:
    """The same way for every table."""
    assert [row["value"] for row in show("metrics", "--name", "train.loss", "--sort", "value", "--limit", "2")] == [0.1, 0.2]
    assert [row["config.lr"] for row in show("configs", "--sort", "config.lr", "--descending", "--limit", "1")] == [0.3]


def test_a_query_that_cannot_be_read_is_shown_with_the_place(invoke: Any, master: Path) -> None:
    """On lines of its own, so that the mark is below what it marks."""
    refused = invoke("trials", master, "demo", "--where", "status = 'FAILED'\nand\tx")
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[1:] == ["  status = 'FAILED'", "         ^", "  and x"]


def test_what_where_reads_is_kept_there_as_well(
    invoke: Any, unread: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables that a query looks at are those of the command."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 1)
    cache = tmp_path / "cache"
    done = invoke("trials", unread, "demo", "--where", "train.loss.last < 9", "--cache-dir", cache)
    assert done.exit_code == 0, done.output
    (kept,) = cache.iterdir()
    assert CheckpointStore(kept).positions("metrics")
    assert not (unread / "projections").exists()


@pytest.mark.parametrize("command", [*NAMES, "experiments", "query", "plot"])
def test_what_was_read_is_kept_where_it_is_said(
    invoke: Any, unread: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """By every command that reads tables: in a directory of the ledger's own there, and nothing beside the log."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 1)
    before = sorted(unread.iterdir())
    more = {"experiments": [], "query": ["select * from trials"], "plot": ["demo", "-o", str(tmp_path / "a.html")]}
    done = invoke(command, unread, *more.get(command, ["demo"]), "--cache-dir", tmp_path / "cache")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    with ledger.open(unread) as book:
        assert (tmp_path / "cache" / book.log.backend.ledger_id.hex / "data.mdb").exists()
    assert sorted(unread.iterdir()) == before


def test_what_was_deleted_is_shown_when_asked_for(invoke: Any, tmp_path: Path) -> None:
    """In the tables, and in those that a query names; a query is also answered with the values as recorded."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        kept, gone = book.experiment("demo").new_trials([{"lr": 0.1}, {"lr": 0.2}])
        kept.complete({"loss": 0.5})
        kept.amend(results={"loss": 0.25}, reason="read again")
        gone.log(spent=3.5)
        gone.delete("a mistake")
    count = ("query", path, "select count(*) as n from trials", "--format", "jsonl")
    assert [rows(invoke(*count, *option)) for option in ([], ["--deleted"])] == [[{"n": 1}], [{"n": 2}]]
    for name in ("trials", "configs", "groups"):
        found = [rows(invoke(name, path, "demo", "--format", "jsonl", *option)) for option in ([], ["--deleted"])]
        assert list(map(len, found)) == [1, 2]
        assert len(rows(invoke(name, path, "demo", "--format", "jsonl", "--deleted", "--where", "config.lr > 0"))) == 2
    for name in ("metrics", "status-history"):
        history = rows(invoke(name, path, "demo", "--format", "jsonl", "--deleted", "--where", "exists(spent.max)"))
        assert {row["trial_id"] for row in history} == {2}
        assert "no trial has the key" in invoke(name, path, "demo", "--where", "spent.max > 0").stderr
    loss = ("query", path, 'select "result.loss" as loss from trials', "--format", "jsonl")
    assert [rows(invoke(*loss, *option)) for option in ([], ["--as-recorded"])] == [[{"loss": 0.25}], [{"loss": 0.5}]]


def test_metrics_of_one_trial_pivoted_and_telemetry(show: Any) -> None:
    """A row for each step; what was logged about the run is by itself."""
    assert show("metrics", "2", "--pivoted") == [
        {"trial_id": 2, "step": 0, "note": "x", "train.loss": 1.0}, {"trial_id": 2, "step": 1, "note": "y", "train.loss": 0.1},
    ]  # fmt: skip
    assert [row["trial_id"] for row in show("metrics", "--pivoted", "--where", "trial_id == 3")] == [3, 3]
    assert [row["name"] for row in show("metrics", "--telemetry")] == ["cpu"] * 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "jsonl", "json"])
def test_a_table_is_written_to_a_file(invoke: Any, master: Path, tmp_path: Path, name: str, form: str) -> None:
    """Its format is told by its name's end, or by --format."""
    path = tmp_path / f"table.{form}"
    done = invoke(name, master, "demo", "--output", path)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "Wrote" in done.stderr
    named = invoke(name, master, "demo", "-o", tmp_path / "table", "--format", form)
    assert named.exit_code == 0
    assert (tmp_path / "table").read_bytes() == path.read_bytes()
    if form in ("parquet", "arrow"):
        read_table(path)


def test_what_cannot_be_written_is_refused(invoke: Any, master: Path, tmp_path: Path) -> None:
    """A name without a format, a table for people, a directory that is not there, or is none."""
    (tmp_path / "file").touch()
    for options, code, said in [
        (("-o", tmp_path / "table"), 2, "does not tell a format"),
        (("-o", tmp_path / "table", "--format", "table"), 2, "for people"),
        (("-o", tmp_path / "no" / "table.csv"), 6, f"make this directory first: {str(tmp_path / 'no')!r}\n"),
        (("-o", tmp_path / "file" / "table.csv"), 6, f"write to another directory: {str(tmp_path / 'file')!r}\n"),
    ]:
        done = invoke("trials", master, "demo", *options)
        assert (done.exit_code, said in done.stderr) == (code, True), done.output


@pytest.mark.parametrize("name", ["metrics", "status-history"])
def test_a_trial_that_never_was_is_told(invoke: Any, master: Path, name: str) -> None:
    """By the number of the last one, and as of any position; one that was not there yet has no rows."""
    for options in ((), ("--as-of", "3")):
        done = invoke(name, master, "demo", "77", *options)
        assert (done.exit_code, done.stdout) == (4, "")
        assert "there is no trial 77 in experiment 'demo'; its last one is 3." in done.stderr
    assert rows(invoke(name, master, "demo", "3", "--as-of", "1", "--format", "jsonl")) == []


def test_changes_backwards_are_refused_by_the_names_of_the_options(invoke: Any, master: Path) -> None:
    """With the positions that they mean."""
    done = invoke("changes", master, "demo", "--after", "10", "--as-of", "5")
    assert (done.exit_code, done.stdout) == (2, "")
    said = " ".join(done.stderr.replace("│", " ").split())
    assert "--after 10 is position 10, behind --as-of 5, which is 5. Swap them." in said


def test_people_read_numbers_that_json_cannot_say(invoke: Any, tmp_path: Path) -> None:
    """Infinity and ints beyond 64 bits, which are tagged for programs alone."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        book.experiment("demo").new_trial({"seed": 2**70, "least": math.inf}).complete()
    columns = ("--columns", "config.*")
    assert invoke("trials", path, "demo", *columns).stdout.splitlines()[-1].split() == ["inf", str(2**70)]
    assert rows(invoke("trials", path, "demo", *columns, "--format", "jsonl")) == [
        {"config.least": {"$float": "inf"}, "config.seed": {"$int": str(2**70)}}
    ]


def test_parquet_goes_into_a_pipe(call: Any, master: Path) -> None:
    """As a program would read it."""
    import subprocess

    command = [sys.executable, "-m", "ledger", "trials", str(master), "demo", "--format", "parquet"]
    made = subprocess.run(command, capture_output=True, check=True).stdout
    import pyarrow.parquet as pq

    assert pq.read_table(io.BytesIO(made)).num_rows == 3


# -------------------------------------------------------------------------------------------------------------- query


def test_a_query_is_answered_in_each_format(invoke: Any, master: Path) -> None:
    """On standard output or in a file, of the whole ledger or one experiment, now or then."""
    sql = "select status, count(*) as n from trials group by 1 order by 1"
    assert rows(invoke("query", master, sql, "--format", "jsonl")) == [
        {"status": "PENDING", "n": 1},
        {"status": "SUCCEEDED", "n": 2},
    ]
    assert rows(invoke("query", master, sql, "-e", "demo", "--as-of", "2", "--format", "jsonl")) == [
        {"status": "PENDING", "n": 1}
    ]
    assert "SUCCEEDED" in invoke("query", master, sql).stdout
    refused = invoke("query", master, "select * from read_csv('/etc/passwd')")
    assert (refused.exit_code, "no files and no network" in refused.stderr) == (2, True)
    refused = invoke("query", master, sql, "-e", "dem")
    assert (refused.exit_code, "Did you mean 'demo'" in refused.stderr) == (4, True)


def test_what_a_query_answers_is_shaped_as_other_tables_are(invoke: Any, master: Path) -> None:
    """Columns, order and number of rows are chosen after it was answered."""
    sql = "select status, count(*) as n, 1 as one from trials group by 1"
    shape = ("--columns", "n,status", "--sort", "status", "--descending", "--limit", "1")
    assert rows(invoke("query", master, sql, *shape, "--format", "jsonl")) == [{"n": 2, "status": "SUCCEEDED"}]
    refused = invoke("query", master, sql, "--sort", "stat")
    assert (refused.exit_code, "Did you mean 'status'" in refused.stderr) == (2, True)


def test_a_query_can_come_from_standard_input(call: Any, master: Path) -> None:
    """A long one, say."""
    done = call("query", master, "-", "--format", "csv", input="select count(*) as n from trials")
    assert (done.returncode, done.stdout) == (0, "n\n3\n")


# --------------------------------------------------------------------------------------------------------------- plot


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ((), "png"), (("--kind", "parallel"), "html"), (("--kind", "curves", "--metric", "train.loss", "--log"), "svg"),
        (("--where", "config.lr < 0.25 order by config.lr", "--target", "loss", "--as-of", "1000"), "svg"),
    ],
)  # fmt: skip
def test_a_picture_is_drawn_to_a_file(invoke: Any, master: Path, tmp_path: Path, options: Any, end: str) -> None:
    """Of each kind."""
    done = invoke("plot", master, "demo", *options, "-o", tmp_path / f"picture.{end}")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    assert (tmp_path / f"picture.{end}").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("-o", "x.gif"), 2, "let it end in one of"),
        (("-o", "x.png", "--metric", "train.loss"), 2, "--metric is not for --kind history"),
        (("-o", "x.png", "--target", "los"), 2, "Did you mean 'loss'"),
        (("-o", "x.png", "--trial", "99"), 2, "no such trials"),
        ((), 2, "--output"),
    ],
)
def test_a_picture_that_cannot_be_is_refused(
    invoke: Any, master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, code: int, said: str
) -> None:
    """With the cure, and no file."""
    monkeypatch.chdir(tmp_path)
    done = invoke("plot", master, "demo", *options)
    assert (done.exit_code, said in done.stderr) == (code, True), done.output
    assert list(tmp_path.iterdir()) == []
