"""Recorded values become columns of the right dtype, and none is lost."""

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ledger
import projections
from ledger.backends.base import config_digest, config_digests
from projections.buffers import BUFFERS, StatusBuffer
from projections.columns import MISSING, time_column
from projections.rows import Rows
from projections.value_column import gather, value_column

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "Int64"),
        ([1, MISSING], "Int64"),
        ([1, None], "Int64"),
        ([2**63 - 1, -(2**63), MISSING], "Int64"),
        ([2**63, 1], "object"),
        ([-(2**63) - 1, 1], "object"),
        ([0.5, 1.5], "float64"),
        ([0.5, MISSING, NAN, math.inf, None], "float64"),
        ([1, 0.5], "float64"),
        ([2**60, 0.5], "float64"),
        ([2**53 + 1, 0.5], "object"),
        ([10**400, 0.5], "object"),
        ([True, False], "boolean"),
        ([True, MISSING], "boolean"),
        ([True, 1], "object"),
        ([True, 1.0], "object"),
        (["a", "\U0001f600 'x' \"y\""], "string"),
        (["", MISSING, None], "string"),
        (["a", 1], "object"),
        ([b"a"], "object"),
        ([[1, 2], [3, 4]], "object"),
        ([(1, 2), (3, 4)], "object"),
        ([{"a": 1}], "object"),
        ([Decimal("0.1")], "object"),
        ([None, MISSING], "object"),
        ([], "object"),
    ],
)
def test_dtype(values, dtype):
    """The kinds of the values decide the dtype, and every value comes back equal; None, NaN and missing are NA."""
    column = value_column(values)
    assert str(column.dtype) == dtype
    for shown, value in zip(column.tolist(), values, strict=True):
        if value is None or value is MISSING or value is NAN:
            assert pd.isna(shown)
        else:
            assert shown == value
            assert type(shown) is type(value) or dtype == "float64"


recorded = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.tuples(st.integers()),
)


@given(st.one_of(st.lists(recorded), st.lists(st.integers()), st.lists(st.one_of(st.integers(), st.floats(allow_nan=False)))))
def test_no_value_is_lost(values):
    """Whatever is recorded, in whatever mixture, the column holds values equal to it."""
    for shown, value in zip(value_column(values).tolist(), values, strict=True):
        assert pd.isna(shown) if value is None else shown == value


def test_gather_fills_what_a_row_lacks():
    """Rows with different names share columns, sorted by name, and miss what they do not have."""
    columns = gather([{"b": 1}, {}, {"a": "x", "b": 3}], "config.")
    assert list(columns) == ["config.a", "config.b"]
    assert columns["config.a"].tolist() == [pd.NA, pd.NA, "x"]
    assert columns["config.b"].tolist() == [1, pd.NA, 3]


def test_times_keep_nanoseconds():
    """Times are exact to the nanosecond, before 1970 too; None and what int64 cannot hold are NaT."""
    column = time_column([1_800_000_000_123_456_789, -1, None, 2**63, -(2**63)])
    assert str(column.dtype) == "datetime64[ns, UTC]"
    assert [time.value for time in column[:2]] == [1_800_000_000_123_456_789, -1]
    assert column[2:].isna().all()


def test_status_keeps_every_category():
    """The categories are all statuses in the enum's order, also in an empty column."""
    assert pd.Series(StatusBuffer().array()).cat.categories.tolist() == [
        "PENDING", "READY", "RUNNING", "SUCCEEDED", "FAILED", "PRUNED", "CANCELED", "TIMED_OUT", "LOST", "ABANDONED", "UNKNOWN",
    ]  # fmt: skip


def test_a_column_of_datetimes_keeps_what_was_recorded(book: ledger.Ledger) -> None:
    """In every table that shows it: pandas would make times of its own of them, and forget their offset."""
    moment = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    book.experiment("demo").new_trial({"at": moment}).complete({"best": moment})
    tables = projections.Tables(book)
    shown = [tables.trials("demo")["config.at"], tables.trials("demo")["result.best"], tables.configs("demo")["config.at"]]
    for column in [*shown, value_column([moment]), _of_rows(moment)]:
        assert [(type(each), each.isoformat()) for each in column] == [(dt.datetime, moment.isoformat())]


def _of_rows(value: Any) -> Any:
    rows = Rows({"at": "value"})
    rows.append(at=value)
    return rows.frame()["at"]


def test_who_looks_at_a_column_keeps_what_was_seen_when_it_grows() -> None:
    """Columns grow in place; not under the eyes of somebody."""
    buffer = BUFFERS["id"]()
    buffer.extend(list(range(100)))
    (seen,) = buffer.arrays()
    buffer.extend(list(range(100, 10_000)))
    assert seen.tolist() == list(range(100))
    assert buffer.arrays()[0].tolist() == list(range(10_000))


@given(st.lists(st.sampled_from([None, "", *"abcdefghij"])), st.lists(st.sampled_from([None, *"ijklmnop"])), st.data())
def test_texts_of_some_rows_are_those_of_all(first: list[str | None], second: list[str | None], data: st.DataObject) -> None:
    """Whether a few rows are shown of many texts or all of them, before texts are added or after."""
    buffer, cells = BUFFERS["text"](), [*first, *second]
    rows = data.draw(st.lists(st.integers(0, len(cells) - 1))) if cells else []
    for added in (first, second):
        buffer.extend(added)
        shown = cells[: buffer.length]
        few = [row for row in rows if row < len(shown)]
        array = buffer.take(np.array(few, int)).array()
        assert (array.dtype, list(array)) == ("string", [pd.NA if shown[row] is None else shown[row] for row in few])
        assert list(buffer.array()) == [pd.NA if cell is None else cell for cell in shown]


@pytest.mark.parametrize("configs", [[{"a": 1}, {"a": 2**70}], [{"a": 1.0}, {"a": (1,)}], [{"a": None}, {}], [{}], []])
def test_digests_of_many_configs_are_those_of_each(configs: list[dict[str, Any]]) -> None:
    """Also where one of them is not of scalars alone, or an int needs more than 64 bits."""
    assert config_digests(configs) == [config_digest(config) for config in configs]


def test_a_signalling_nan_of_one_trial_hides_no_table():
    """pandas cannot look for missing values among such: they are shown as NaN, and the log has them as they were."""
    book = ledger.open("memory:")
    exp = book.experiment("demo")
    odd, plain = exp.new_trials([{"x": Decimal("-sNaN7"), "y": [Decimal("sNaN")]}, {"x": 1.5}])
    odd.set_attributes({"odd": Decimal("sNaN")})
    for trial in (odd, plain):
        trial.complete({"loss": Decimal("sNaN")})
    tables = projections.Tables(book)
    assert list(map(str, tables.trials("demo")["config.x"])) == ["-NaN7", "1.5"]
    assert tables.trials("demo")["result.loss"].isna().all()
    for table in (tables.configs("demo"), tables.groups("demo"), tables.results("demo"), tables.changes("trials", "demo")):
        assert table.isna().shape == table.shape
    (group,) = projections.Reader(book).filter("exists(info.attributes.odd)").groupby("info.attributes.odd")
    assert len(group) == 1
    assert str(exp.trial(1).config["x"]) == "-sNaN7"
