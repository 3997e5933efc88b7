"""What the tables show: columns, dtypes, names, errors, files."""

import os
import subprocess
import sys
import uuid

import pandas as pd
import pytest

import ledger
import projections
from projections.experiment_table import STATUS_COUNTS

FIXED = [
    "trial_id", "started_at", "ended_at", "config_id", "group_id", "status", "worker", "created_at", "scheduled_at", "attempts",
    "lease_expired", "assigned_to", "waits_for", "label", "group", "is_amended",
]  # fmt: skip
FIXED_DTYPES = [
    "int64", "datetime64[ns, UTC]", "datetime64[ns, UTC]", "int64", "int64", "category", "string", "datetime64[ns, UTC]",
    "datetime64[ns, UTC]", "Int64", "bool", "string", "string", "string", "string", "bool",
]  # fmt: skip
EXPERIMENT = [
    "experiment_id", "name", "description", "objectives", "created_at", "updated_at", "trials", "pending", "running",
    "succeeded", "failed", "stopped", "unknown", "tags", "is_paused", "is_sealed",
]  # fmt: skip


def test_trials_of_an_experiment(book, tables, clock):
    """A trial's row has its status, exact times, attempt, worker, config and results, in the documented columns."""
    exp = book.experiment("demo", objectives={"loss": "min"})
    created = clock.now
    exp.new_trials([{"lr": 0.1, "layers": 2}, {"lr": 0.2}])
    clock.advance(1)
    job = exp.claim(worker="w1", lease_seconds=3600)
    clock.advance(1)
    job.start()
    started = clock.now
    clock.advance(1)
    job.complete({"loss": 0.5, "accuracy": 1})
    frame = tables.trials("demo")
    assert list(frame) == [*FIXED, "config.layers", "config.lr", "result.accuracy", "result.loss"]
    assert [str(dtype) for dtype in frame.dtypes] == [*FIXED_DTYPES, "Int64", "float64", "Int64", "float64"]
    first, second = frame.to_dict("records")
    assert (first["trial_id"], first["status"], first["attempts"], first["worker"]) == (1, "SUCCEEDED", 1, "w1")
    assert [first[name].value for name in ("created_at", "started_at", "ended_at")] == [created, started, clock.now]
    assert (first["config.layers"], first["config.lr"], first["result.loss"]) == (2, 0.1, 0.5)
    assert (second["status"], second["attempts"], second["lease_expired"]) == ("PENDING", 0, False)
    assert all(pd.isna(second[name]) for name in ("started_at", "ended_at", "worker", "config.layers", "result.loss"))


def test_experiments(book, tables, clock):
    """An experiment's row counts its trials by status, and the counts add up."""
    exp = book.experiment("demo", objectives={"latency_ms": "min", "accuracy": "max"}, description="first")
    created = clock.now
    book.experiment("empty")
    trials = exp.new_trials([{}] * 7)
    trials[0].complete()
    trials[1].fail("no")
    trials[2].start()
    trials[3].cancel()
    trials[4].force_status("UNKNOWN", reason="import")
    trials[5].start()
    trials[5].time_out()
    exp.tag("b", "a")
    clock.advance(5)
    trials[6].note("late")
    frame = tables.experiments()
    assert list(frame) == EXPERIMENT
    assert {str(frame[name].dtype) for name in EXPERIMENT[6:13]} == {"Int64"}
    row, empty = frame.to_dict("records")
    assert (row["experiment_id"], row["name"], row["description"]) == (str(exp.id), "demo", "first")
    assert (row["objectives"], row["tags"]) == ("accuracy: max, latency_ms: min", ("a", "b"))
    assert (row["created_at"].value, row["updated_at"].value) == (created, clock.now)
    counts = {"trials": 7, "pending": 1, "running": 1, "succeeded": 1, "failed": 2, "stopped": 1, "unknown": 1}
    assert {name: row[name] for name in counts} == counts
    assert (empty["name"], empty["trials"], empty["pending"], empty["tags"]) == ("empty", 0, 0, ())


def test_every_status_is_counted_once():
    """No status is left out of the counts of the experiment table, and none is in two."""
    assert sorted(status for statuses in STATUS_COUNTS.values() for status in statuses) == sorted(ledger.Status)


def test_config_ids_are_the_ledgers(book, tables):
    """Configs are numbered over all experiments by first appearance; 1 and 1.0 are two configs."""
    one, two = book.experiment("one"), book.experiment("two")
    one.new_trials([{"x": 1}, {"x": 1.0}, {"x": 1}])
    two.new_trials([{"x": 2}, {"x": 1.0}])
    assert tables.trials("one")["config_id"].tolist() == [1, 2, 1]
    assert tables.trials("two")["config_id"].tolist() == [3, 2]
    frame = tables.configs("two")
    assert list(frame) == ["config_id", "digest", "trials", "first_trial_id", "config.x"]
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", "string", "Int64", "int64", "float64"]
    assert frame.drop(columns="digest").to_numpy().tolist() == [[2, 1, 2, 1.0], [3, 1, 1, 2.0]]
    assert frame["digest"].str.fullmatch("[0-9a-f]{32}").all()
    assert tables.configs("one")["trials"].tolist() == [2, 1]


def test_a_config_completed_while_the_trial_runs(book, tables):
    """The row shows parameters at once that are added later; they make another config when the trial ends."""
    exp = book.experiment("demo")
    trial = exp.new_trial({"a": 1})
    trial.configure({"b": "x"})
    exp.new_trial({"a": 1, "b": "x"})
    assert tables.trials("demo")[["config_id", "config.a", "config.b"]].values.tolist() == [[1, 1, "x"], [2, 1, "x"]]
    assert tables.configs("demo")["config.b"].tolist() == [pd.NA, "x"]
    trial.complete({})
    assert tables.trials("demo")["config_id"].tolist() == [2, 2]
    assert tables.configs("demo")[["config_id", "trials", "config.b"]].values.tolist() == [[2, 2, "x"]]
    assert tables.groups("demo")[["group_id", "trials"]].values.tolist() == [[1, 2]]
    assert tables.trials_of_config({"a": 1}) == tables.trials_of_config(1) == []
    assert tables.trials_of_config(2) == [trial.stream, f"trial/{exp.id.hex}/2"]


@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_config_completed_after_an_amendment(book, tables, is_at_once):
    """What an amendment made of a running trial's config is in its row, and not in the config that it ends with."""
    trial = book.experiment("demo").new_trial({"a": 1})
    trial.configure({"b": 2})
    trial.amend(config={"b": 3}, reason="typo")
    if not is_at_once:
        tables.trials("demo")
    trial.complete({})
    assert tables.trials("demo")["config.b"].tolist() == [3]
    assert tables.configs("demo")["config.b"].tolist() == [2]


@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_config_completed_and_changed_again(book, tables, is_at_once):
    """A config is what the trial had when it ended, whatever is amended or configured since, in whichever steps it is folded."""
    exp = book.experiment("demo")
    for number in range(3):
        trial = exp.new_trial({})
        trial.configure({"n": number})
        trial.fail("no")
        if number:
            trial.amend(config={"n": 10 + number}, reason="typo")
    again = exp.trial(1)
    again.requeue()
    again.configure({"m": 1})
    for position in () if is_at_once else range(book.log.head):
        tables.trials("demo", as_of=position) if position else None
    shown = tables.configs("demo")[["config_id", "first_trial_id", "config.n"]].values.tolist()
    assert shown == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    assert tables.trials("demo")["config.n"].tolist() == [0, 11, 12]
    again.complete({})
    shown = tables.configs("demo")[["config_id", "config.n", "config.m"]].values.tolist()
    assert shown == [[3, 1, pd.NA], [4, 2, pd.NA], [5, 0, 1]]


def test_configs_and_groups_of_deleted_trials_are_shown_when_asked_for(book, tables):
    """A config that only deleted trials have, and the deleted trials among others, are there with deleted=True alone."""
    exp = book.experiment("demo")
    exp.new_trials([{"lr": 0.1}, {"lr": 0.1}, {"lr": 0.2}])
    for number in (1, 3):
        exp.trial(number).delete("a mistake")
    columns = ["trials", "config.lr"]
    assert tables.configs("demo")[["first_trial_id", *columns]].values.tolist() == [[2, 1, 0.1]]
    assert tables.groups("demo")[["group_id", *columns]].values.tolist() == [[2, 1, 0.1]]
    every = [[1, 2, 0.1], [3, 1, 0.2]]
    assert tables.configs("demo", deleted=True)[["first_trial_id", *columns]].values.tolist() == every
    assert tables.groups("demo", deleted=True)[["group_id", *columns]].values.tolist() == every


def test_an_expired_lease_shows(book, tables, clock):
    """A lease that ran out is flagged while the status still says RUNNING, by the clock, by now= or by the position."""
    exp = book.experiment("demo")
    exp.new_trials([{}, {}])
    exp.claim(worker="w1", lease_seconds=10).start()
    assert tables.trials("demo")["lease_expired"].tolist() == [False, False]
    assert tables.trials("demo", now=clock.now + 11 * 10**9)["lease_expired"].tolist() == [True, False]
    deadline = exp.trial(1).state.deadline
    assert tables.trials("demo", now=deadline)["lease_expired"].tolist() == [False, False]
    assert tables.trials("demo", now=deadline + 1)["lease_expired"].tolist() == [True, False]
    before = book.log.head
    clock.advance(11)
    frame = tables.trials("demo")
    assert (frame["lease_expired"].tolist(), frame["status"][0]) == ([True, False], "RUNNING")
    exp.note("seen")
    assert not tables.trials("demo", as_of=before)["lease_expired"].any()
    assert tables.trials("demo", as_of=book.log.head)["lease_expired"].tolist() == [True, False]
    exp.claim(worker="w2", lease_seconds=10)
    frame = tables.trials("demo")
    assert (frame["lease_expired"].any(), frame["attempts"].tolist()) == (False, [2, 0])


def test_occurred_at_is_what_tables_show(book, tables):
    """Times are the caller's where the caller said when it happened."""
    exp = book.experiment("demo")
    stream = f"trial/{exp.id.hex}/5"
    book.log.append([ledger.TrialCreated({})], stream=stream, occurred_at=1_000_000_000_000_000_001)
    assert tables.trials("demo")["created_at"][0].value == 1_000_000_000_000_000_001


def test_results_of_a_requeued_trial_are_gone(book, tables):
    """What a former attempt reported does not count once the trial waits again."""
    exp = book.experiment("demo")
    trial = exp.new_trial({})
    trial.fail("no", {"loss": 1.0})
    assert tables.trials("demo")["result.loss"].tolist() == [1.0]
    trial.requeue()
    frame = tables.trials("demo")
    assert list(frame) == FIXED
    assert frame["ended_at"].isna().all()


def test_rows_are_in_order_of_trial_id(book, tables):
    """Numbers that the caller gave, from 0, with gaps and in any order, come out sorted."""
    exp = book.experiment("demo")
    for number in (7, 0, 3):
        exp.new_trial({"n": number}, number=number)
    frame = tables.trials("demo")
    assert frame["trial_id"].tolist() == frame["config.n"].tolist() == [0, 3, 7]
    assert frame.index.tolist() == [0, 1, 2]


def test_trials_whose_numbers_have_other_lengths(book, tables):
    """They are told apart in one page, also when the longer and the shorter ones make up for each other."""
    exp = book.experiment("demo")
    for number in (10, 9, 100):
        exp.new_trial({"n": number}, number=number)
    begun = projections.build(projections.Experiments(), book.log, as_of=1)  # then the next page is of trials alone
    frame = projections.build(begun, book.log).trials(exp.id, now=0)
    assert frame["trial_id"].tolist() == frame["config.n"].tolist() == [9, 10, 100]


def test_an_experiment_without_trials(book, tables):
    """There are no rows, but the columns and dtypes of any other."""
    book.experiment("demo")
    frame = tables.trials("demo")
    assert (list(frame), [str(dtype) for dtype in frame.dtypes], len(frame)) == (FIXED, FIXED_DTYPES, 0)
    configs = tables.configs("demo")
    assert list(configs) == ["config_id", "digest", "trials", "first_trial_id"]
    assert [str(dtype) for dtype in configs.dtypes] == ["int64", "string", "Int64", "int64"]


def test_an_empty_ledger(tables):
    """There are no experiments, but the columns and dtypes of any other ledger."""
    frame = tables.experiments()
    assert (list(frame), len(frame)) == (EXPERIMENT, 0)
    assert str(frame["created_at"].dtype) == "datetime64[ns, UTC]"
    with pytest.raises(ledger.UnknownExperiment, match="There are 0"):
        tables.trials("demo")


def test_any_name_will_do(book, tables):
    """Dots, spaces, quotes and emoji in names stay as they are; a result may have the name of a parameter."""
    name = "a.b 'c' \"d\" \U0001f600"
    exp = book.experiment(name)
    exp.new_trial({name: 1, "loss": "hinge", "": 2, "id": 3}).complete({name: 2, "loss": 0.5})
    frame = tables.trials(name)
    shown = ["config.", "config." + name, "config.id", "config.loss", "result." + name, "result.loss"]
    assert list(frame)[len(FIXED) :] == shown
    assert frame[shown].values.tolist() == [[2, 1, 3, "hinge", 2, 0.5]]
    assert tables.experiments()["name"].tolist() == [name]


def test_hard_values(book, tables):
    """NaN, infinities, None, large ints, lists and mixed types come out as they went in."""
    exp = book.experiment("demo")
    rows = [
        {"f": float("nan"), "big": 2**70, "mixed": "a", "list": [1, [2]], "none": None, "gap": 2**62 + 1},
        {"f": float("-inf"), "big": 1, "mixed": (1, 2), "list": [3, 4], "none": None},
    ]
    exp.new_trials(rows)
    frame = tables.trials("demo")
    assert pd.isna(frame["config.f"][0])
    assert frame["config.f"][1] == float("-inf")
    assert frame["config.big"].tolist() == [2**70, 1]
    assert frame["config.mixed"].tolist() == ["a", (1, 2)]
    assert frame["config.list"].tolist() == [[1, [2]], [3, 4]]
    assert frame["config.none"].tolist() == [None, None]
    assert (str(frame["config.gap"].dtype), frame["config.gap"][0]) == ("Int64", 2**62 + 1)


def test_a_changed_table_changes_nothing(book, tables):
    """What a caller does to a DataFrame is not seen by the next one."""
    book.experiment("demo").new_trial({"lr": 0.1})
    frame = tables.trials("demo")
    frame["config.lr"] = 9.0
    frame.loc[0, "status"] = "LOST"
    assert tables.trials("demo")[["status", "config.lr"]].values.tolist() == [["PENDING", 0.1]]


def _change(value):
    """Change every list and dict in a value."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _change(part)
    if isinstance(value, list):
        value.append("changed")
    elif isinstance(value, dict):
        value["changed"] = True


@pytest.mark.parametrize(
    ("table", "options"),
    [("trials", {}), ("trials", {"amended": False}), ("configs", {}), ("groups", {}), ("results", {}), ("amendments", {}),
     ("environments", {}), ("changes", {})],
)  # fmt: skip
def test_lists_and_dicts_of_a_table_are_the_callers_own(book, tables, table, options):
    """Changing lists and dicts in a DataFrame, nested ones too, changes neither later tables nor the trial."""
    trial = book.experiment("demo").new_trial({"net": {"layers": [1, 2]}, "pair": ([3], 4)})
    trial.capture_environment({"path": ["/usr/bin"]})
    trial.complete({"curve": [0.5, {"at": [1]}]})
    trial.amend(results={"curve": [0.25, {"at": [2]}]}, config={"net": {"layers": [3]}}, reason="read from the wrong line")
    config = repr(trial.config)
    show = (lambda: tables.changes("trials", "demo")) if table == "changes" else lambda: getattr(tables, table)("demo", **options)
    seen = repr(show().to_dict("list"))
    assert "[" in seen
    for column in (frame := show()):
        frame[column].map(_change)
    assert repr(show().to_dict("list")) == seen != repr(frame.to_dict("list"))
    assert repr(book.get_experiment("demo").trial(1).config) == config


def test_values_of_rows_are_nobody_elses():
    """Rows keep copies of lists and dicts, and give copies, as a column and one by one."""
    given = [1]
    rows = projections.Rows({"value": "value"})
    rows.append(value={"layers": given})
    given.append("changed")
    for shown in (rows.frame()["value"][0], rows["value"].values(slice(None))[0], rows.take([0])["value"].values([0])[0]):
        shown["layers"].append("changed")
    assert rows.frame()["value"].tolist() == rows["value"].values([0]) == [{"layers": [1]}]


# ---------------------------------------------------------------------------------------------------------- lookup


def test_unknown_experiment_names_the_nearest(book, tables):
    """A misspelt name is answered with the name that was probably meant."""
    book.experiment("sqlite-tuning")
    for show in (tables.trials, tables.configs):
        with pytest.raises(ledger.UnknownExperiment, match=r"'sqlite-tunning'.*Did you mean 'sqlite-tuning'"):
            show("sqlite-tunning")
    with pytest.raises(ledger.UnknownExperiment, match="There are 1"):
        tables.trials(uuid.UUID(int=5))


def test_an_experiment_that_did_not_exist_yet(book, tables):
    """As of a position before its creation, the error says from which position on it is there."""
    book.experiment("first")
    exp = book.experiment("second")
    for key in ("second", exp.id, str(exp.id), exp.id.hex):
        with pytest.raises(ledger.UnknownExperiment, match=r"yet as of position 1.*position 2"):
            tables.trials(key, as_of=1)
    with pytest.raises(ledger.UnknownExperiment, match="yet as of position 0"):
        tables.configs("first", as_of=0)
    with pytest.raises(ledger.UnknownExperiment, match="Did you mean 'first'"):
        tables.trials("fist", as_of=1)


def test_names_are_those_of_the_position(book, tables):
    """A renamed experiment is found under the name it had then, and its old name under its new owner now."""
    exp = book.experiment("old")
    exp.new_trial({"lr": 0.1})
    exp.rename("new")
    other = book.experiment("old")
    assert len(tables.trials("old", as_of=2)) == 1
    assert len(tables.trials("new")) == 1
    assert len(tables.trials("old")) == 0
    assert len(tables.trials(exp.id, as_of=3)) == 1
    assert len(tables.trials(exp.id.hex)) == 1
    with pytest.raises(ledger.UnknownExperiment, match="as of position 3"):
        tables.trials("old", as_of=3)
    for key in ("old", exp.id):
        with pytest.raises(ledger.UnknownExperiment, match="is at position 1"):
            tables.trials(key, as_of=0)
    assert tables.experiments(as_of=2)["name"].tolist() == ["old"]
    assert tables.experiments()["experiment_id"].tolist() == [str(exp.id), str(other.id)]


@pytest.mark.parametrize("as_of", [-1, True, 1.0, "2026-11-20T12:00", "yesterday", None.__class__])
def test_as_of_must_be_a_position(book, tables, as_of):
    """Anything but an int from 0 is refused, with the value and what to give."""
    book.experiment("demo")
    for show in (tables.experiments, lambda as_of: tables.trials("demo", as_of=as_of)):
        with pytest.raises(ledger.InvalidValue, match=r"as_of is .*position in the log") as caught:
            show(as_of=as_of)
        assert repr(as_of) in str(caught.value)


def test_as_of_beyond_the_head_is_the_head(book, tables):
    """A position that is not written yet means the newest one."""
    book.experiment("demo")
    assert len(tables.experiments(as_of=10**30)) == 1


def test_arguments_of_the_wrong_type(book, tables):
    """An experiment that is no name and no id, and a time without a zone, are refused with the cure."""
    book.experiment("demo")
    with pytest.raises(ledger.InvalidValue, match="the experiment is 5; give its name"):
        tables.trials(5)
    with pytest.raises(ledger.InvalidValue, match=r"now is 1\.5"):
        tables.trials("demo", now=1.5)


# ----------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", [str, lambda path: path, os.fspath])
def test_tables_of_a_path(tmp_path, kind):
    """A path is opened for reading, and closed at the end of the block."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        book.experiment("demo").new_trial({"lr": 0.1}).complete({"loss": 0.5})
    with projections.Tables(kind(path)) as tables:
        assert tables.trials("demo")["result.loss"].tolist() == [0.5]
        with pytest.raises(ledger.ReadOnlyLedger):
            tables.book.experiment("other")
    tables.close()
    with pytest.raises(ledger.LedgerClosed):
        tables.experiments()


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_tables_of_a_path_that_this_process_writes(tmp_path, durability):
    """While the process has the ledger open to write, tables by path see each append, and closing them ends nothing."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path, durability=durability) as book:
        exp = book.experiment("demo")
        with projections.Tables(path) as tables:
            for number in (1, 2, 3):
                exp.new_trial({"n": number})
                assert tables.trials("demo")["config.n"].tolist() == list(range(1, number + 1))
        exp.new_trial({"n": 4})


def test_tables_of_an_open_ledger_leave_it_open(book):
    """Closing the tables of a ledger handle does not close the handle."""
    with projections.Tables(book):
        pass
    book.experiment("demo")


def test_a_path_without_a_ledger(tmp_path):
    """Nothing is created where there is no ledger."""
    with pytest.raises(ledger.OpenError):
        projections.Tables(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_core_does_not_load_the_read_side():
    """Importing ledger loads neither projections nor pandas."""
    code = "import sys, ledger; sys.exit(bool({'projections', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names():
    """The public surface is the list in __all__, and each name of it is there and documented."""
    assert sorted(projections.__all__) == [
        "AmendmentTable", "ArtifactTable", "EnvironmentTable", "Experiments", "Frame", "GroupedFrame", "MISSING", "MetricSeries",
        "MetricTable", "Projection", "Reader", "Row", "Rows", "StatusHistoryTable", "Tables", "TelemetryTable", "build",
        "compare",
    ]  # fmt: skip
    assert all(getattr(projections, name).__doc__ for name in projections.__all__)


def test_ten_thousand_parameters(book, tables):
    """As many names of parameters as that are as many columns, each with the values of the few trials that have it."""
    exp = book.experiment("wide")
    exp.new_trials([{f"p{trial * 50 + number}": trial for number in range(50)} | {"shared": trial} for trial in range(200)])
    exp.trial(7).complete({"p300": 0.5})
    frame = tables.trials("wide")
    assert frame.shape == (200, len(FIXED) + 10_001 + 1)
    assert frame["config.p300"].dropna().to_dict() == {6: 6}
    assert frame["config.shared"].tolist() == list(range(200))
    assert frame["result.p300"].dropna().to_dict() == {6: 0.5}
    assert tables.configs("wide").shape == (200, 4 + 10_001)
