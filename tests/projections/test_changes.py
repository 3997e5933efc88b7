"""What changed from one position to another."""

import datetime as dt
import math

import numpy as np
import pandas as pd
import pytest

import ledger
from projections import compare

T = 1_800_000_000_000_000_000
NOTHING = object()

SAME = [
    (pd.array([1, None], "Int64"), np.array([1.0, np.nan])),
    (np.array([1.0, np.nan]), np.array([1, None], object)),
    (np.array(["a", None], object), pd.array(["a", None], "string")),
    (pd.Categorical(["a", None]), pd.array(["a", None], "string")),
    (
        np.array([[1, float("nan")], {"a": (float("nan"),)}], object),
        np.array([[1, float("nan")], {"a": (float("nan"),)}], object),
    ),
    (pd.array([True, None], "boolean"), np.array([True, None], object)),
    (pd.to_datetime(["2026-01-01", None], utc=True).array, pd.to_datetime(["2026-01-01", None], utc=True).array),
    (np.array([float("inf"), -0.0]), np.array([float("inf"), 0], object)),
]


def frame(values, name="x"):
    return pd.DataFrame({"trial_id": np.arange(len(values)), name: pd.Series(values)})


@pytest.mark.parametrize(("one", "other"), SAME, ids=range(len(SAME)))
def test_dtypes_and_missing_values_are_no_change(one, other):
    """The same values in another dtype, NaN and NaN, None and NA, are the same, either way about."""
    assert compare(frame(one), frame(other), ["trial_id"]).empty
    assert compare(frame(other), frame(one), ["trial_id"]).empty


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (0, False), ([1], (1,)), ({"a": 1}, {"a": True}), (1, "1"), (1.0, 1.5), ("a", "b"), ([1], [1, 2]), (0.5, None)],
)
def test_another_value_is_a_change(one, other):
    """True is not 1, a list is not a tuple, a number is not its text; before and after are told."""
    cells = np.empty((2, 1), object)
    cells[0, 0], cells[1, 0] = one, other
    changed = compare(frame(cells[0]), frame(cells[1]), ["trial_id"])
    assert changed[["column", "before", "after"]].values.tolist() == [["x", one, other]]
    assert changed["change"].tolist() == ["changed"]


def test_rows_and_columns_that_come_and_go():
    """Added and removed rows have a line for each value; a column that one table lacks is missing there."""
    before = pd.DataFrame({"trial_id": [1, 2], "old": [1, 2], "both": ["a", "b"]})
    after = pd.DataFrame({"trial_id": [3, 2], "both": ["c", "b"], "new": [None, 0.5]})
    assert compare(before, after, ["trial_id"]).astype(object).values.tolist() == [
        [1, "removed", "both", "a", None],
        [1, "removed", "old", 1, None],
        [2, "changed", "new", None, 0.5],
        [2, "changed", "old", 2, None],
        [3, "added", "both", None, "c"],
    ]


def test_several_keys_and_rows_with_the_same():
    """Rows with equal keys are told apart by their order; a missing key is a key."""
    before = pd.DataFrame({"a": pd.array([1, 1, None], "Int64"), "b": ["x", "x", "y"], "v": [1, 2, 3]})
    after = pd.DataFrame({"a": pd.array([1, 1, 1, None], "Int64"), "b": ["x", "x", "x", "y"], "v": [1, 5, 6, 4]})
    changed = compare(before, after, ["a", "b"]).astype(object)
    assert changed[["b", "change", "before", "after"]].values.tolist() == [
        ["y", "changed", 3, 4], ["x", "changed", 2, 5], ["x", "added", None, 6],
    ]  # fmt: skip
    assert compare(before.iloc[:0], before.iloc[:0], ["a", "b"]).empty
    with pytest.raises(ledger.InvalidValue, match="the table has no column 'z'; its columns are a, b, v"):
        compare(before, after, ["z"])


def test_what_became_of_trials(book, tables, clock):
    """Between two positions or times: added trials, statuses and results; by the experiment's name at the end."""
    exp = book.experiment("demo")
    exp.new_trial({"lr": 0.1})
    seen = book.log.head
    clock.advance(60)
    exp.trial(1).cancel()
    exp.new_trial({"lr": 0.2})
    exp.rename("later")
    changed = tables.changes("trials", "later", after=seen)
    assert changed.loc[changed["column"] == "status", ["trial_id", "change", "before", "after"]].values.tolist() == [
        [1, "changed", "PENDING", "CANCELED"], [2, "added", None, "PENDING"],
    ]  # fmt: skip
    first = next(book.log.read()).time + dt.timedelta(seconds=30)
    assert tables.changes("trials", "later", after=first).equals(changed)
    assert tables.changes("trials", "later", after=book.log.head).empty
    assert set(tables.changes("trials", "later")["change"]) == {"added"}  # since before it was there
    assert tables.changes("experiments", after=seen)["column"].tolist() == ["name", "updated_at", "trials", "stopped"]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [(1.0, math.nan, "changed"), (math.nan, None, "changed"), (None, 1, "changed"), (math.nan, math.nan, None),
     (None, NOTHING, "removed"), (math.nan, NOTHING, "removed"), (NOTHING, math.nan, "added"), (NOTHING, None, "added")],
)  # fmt: skip
def test_nan_and_none_are_results_that_change(book, tables, before, after, change):
    """A result that becomes NaN or None is another one; it is removed when it is withdrawn, and not before."""
    trial = book.experiment("demo").new_trial({})
    trial.complete({"float": 0.5} if before is NOTHING else {"float": 0.5, "x": before})
    seen = book.log.head
    if after is NOTHING:
        trial.amend(withdraw=["x"], reason="of another run")
    elif before is NOTHING:
        trial.report({"x": after})
    else:
        trial.amend(results={"x": after}, reason="read from the wrong line")
    changed = tables.changes("results", "demo", after=seen)
    told = [[None if each is NOTHING else each for each in (before, after)]] if change else []
    assert repr(changed[["before", "after"]].values.tolist()) == repr(told)
    assert changed["change"].tolist() == ([change] if change else [])


def test_points_of_one_record_are_told_apart_by_their_steps(book, tables):
    """Each point is a row, NaN and None as well; of telemetry it is known by its time."""
    trial = book.experiment("demo").new_trial({})
    trial.log_many({"loss": [0.5, math.nan]}, steps=[10, 20])
    trial.log_telemetry_many({"cpu": [None, 1]}, at=[T, T + 1])
    changed = tables.changes("metrics", "demo")
    assert repr(changed.loc[changed["column"] == "value", ["step", "after"]].values.tolist()) == "[[10, 0.5], [20, nan]]"
    changed = tables.changes("telemetry", "demo")
    assert changed.loc[changed["column"] == "value", "after"].tolist() == [None, 1]
    assert changed["time"].drop_duplicates().astype("int64").tolist() == [T, T + 1]
    with pytest.raises(ledger.InvalidValue, match="changes of metrics are told in long form, a row for each"):
        tables.changes("metrics", "demo", form="pivoted")


@pytest.mark.parametrize(
    "name",
    ["configs", "groups", "results", "metrics", "telemetry", "status_history", "artifacts", "environments", "environment_changes",
     "amendments"],
)  # fmt: skip
def test_every_table_can_be_compared(book, tables, name):
    """Of each table what came between two positions is there, and nothing when nothing came."""
    exp = book.experiment("demo")
    seen = book.log.head
    trial = exp.new_trial({"lr": 0.1})
    trial.log_many({"loss": [0.5, 0.5]}, steps=[1, 1])
    trial.log_telemetry_many({"cpu": [0.5]})
    trial.log_artifact("a", name="a")
    trial.start()
    trial.capture()
    trial.complete({"loss": 1})
    trial.amend(results={"loss": 2}, reason="typo")
    changed = tables.changes(name, "demo", after=seen)
    assert len(changed) > 0
    assert set(changed["change"]) == {"added"}
    assert tables.changes(name, "demo", after=book.log.head).empty


def test_what_cannot_be_compared(book, tables):
    """An unknown table, one without its experiment, and places the wrong way about are refused with the cure."""
    book.experiment("demo")
    with pytest.raises(ledger.InvalidValue, match="there is no table 'runs' to compare; there are: experiments, trials"):
        tables.changes("runs", "demo")
    with pytest.raises(ledger.InvalidValue, match="the table 'trials' is of one experiment; name it"):
        tables.changes("trials")
    with pytest.raises(ledger.InvalidValue, match=r"until \(0\) is position 0, before after \(1\)"):
        tables.changes("trials", "demo", after=1, until=0)
