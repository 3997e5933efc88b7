"""Points in bulk: what goes in as lists, arrays and data frames comes out of ``point_rows`` as the same points."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ledger

DAY = dt.datetime(2026, 11, 21, 12, 30, 15, 123456, tzinfo=dt.UTC)
NS = 1_795_264_215_123_456_000


@pytest.fixture(params=["memory:", "directory"])
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ledger.Trial]:
    """A trial on a ledger of each kind, which checks itself at the end."""
    place = "memory:" if request.param == "memory:" else str(tmp_path / "runs.ledger")
    with ledger.open(place, durability="relaxed") as opened:
        yield opened.experiment("e").new_trial({})
        opened.log.backend.check()


def _rows(trial: ledger.Trial, kind: str = "MetricsLogged") -> list[tuple[str, Any, int, Any]]:
    return [row for record in trial.history() if record.type == kind for row in ledger.point_rows(record.event)]


def _column(trial: ledger.Trial, name: str = "x") -> list[Any]:
    return [value for each, _, _, value in _rows(trial) if each == name]


def _same(found: list[Any], wanted: list[Any]) -> bool:
    """Say whether two lists have equal values of equal types; NaN equals NaN."""
    return [(type(v), "nan" if v != v else v) for v in found] == [(type(v), "nan" if v != v else v) for v in wanted]


@pytest.mark.parametrize("many", ["log_many", "log_telemetry_many"])
def test_lists_come_back_as_they_went_in(trial: ledger.Trial, many: str) -> None:
    """Names, steps, times and values of every kind a point can have, row by row."""
    values = {"x": [1, 2.5, None, True], "a b/c": ["t", math.nan, 2**63 + 5, -(2**63)]}
    times = [NS, NS - 5, DAY + dt.timedelta(seconds=1), DAY.astimezone(dt.timezone(dt.timedelta(hours=9)))]
    getattr(trial, many)(values, steps=[0, 1.5, None, -3], at=times)
    rows = _rows(trial, "MetricsLogged" if many == "log_many" else "TelemetryLogged")
    assert [(n, s, t) for n, s, t, _ in rows[::2]] == [("x", 0, NS), ("x", 1.5, NS - 5), ("x", None, NS + 10**9), ("x", -3, NS)]
    assert _same([value for *_, value in rows[::2]], values["x"])
    assert _same([value for *_, value in rows[1::2]], values["a b/c"])
    assert {type(t) for _, _, t, _ in rows} == {int}


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (np.array([True, False]), [True, False]),
        (np.array([-(2**63), 2**63 - 1], dtype=np.int64), [-(2**63), 2**63 - 1]),
        (np.array([0, 2**64 - 1], dtype=np.uint64), [0, 2**64 - 1]),
        (np.array([-128, 127], dtype=np.int8), [-128, 127]),
        (np.array([0.1, 3.5], dtype=np.float32), [float(np.float32(0.1)), 3.5]),
        (np.array([0.5, np.nan], dtype=np.float16), [0.5, math.nan]),
        (np.array([np.inf, -0.0]), [math.inf, -0.0]),
        (np.array(["a", "\N{GREEK SMALL LETTER OMEGA}"]), ["a", "\N{GREEK SMALL LETTER OMEGA}"]),
        (np.array([1, "a", None, True, 2.5, np.float32(0.5), np.int8(3)], dtype=object), [1, "a", None, True, 2.5, 0.5, 3]),
        (np.ma.masked_array([1, 2], mask=[False, True]), [1, None]),
        (np.arange(10)[::-3], [9, 6, 3, 0]),
        ([np.float64(0.5), np.bool_(True), np.uint64(2**64 - 1), np.array(7)], [0.5, True, 2**64 - 1, 7]),
        ((1, 2), [1, 2]),
        (range(3), [0, 1, 2]),
        (pd.Series([1, None, 3], dtype="Int64"), [1, None, 3]),
        (pd.Series([2**62 + 1, pd.NA], dtype="Int64"), [2**62 + 1, None]),
        (pd.Series([True, pd.NA], dtype="boolean"), [True, None]),
        (pd.Series(["a", pd.NA], dtype="string"), ["a", None]),
        (pd.Series(["b", "a", "b"], dtype="category"), ["b", "a", "b"]),
        (pd.Series([1.5, pd.NA], dtype="Float64"), [1.5, None]),
        (pd.Series([5, 6], index=[9, 3]), [5, 6]),
    ],
)
def test_columns_of_every_kind_keep_values_and_types(trial: ledger.Trial, column: Any, wanted: list[Any]) -> None:
    """numpy arrays of any dtype and order, masked ones, and pandas Series with missing values become plain Python values."""
    trial.log_many({"x": column})
    assert _same(_column(trial), wanted)


@pytest.mark.parametrize(
    "times",
    [
        np.array([NS, NS + 1], "datetime64[ns]"), [NS, NS + 1], np.array([NS, NS + 1]), [np.int64(NS), np.int64(NS + 1)],
        pd.to_datetime([NS, NS + 1]).tz_localize("UTC"),
        pd.Series(pd.to_datetime([NS, NS + 1], utc=True)).dt.tz_convert("Asia/Tokyo"),
        pd.Series(pd.to_datetime([NS, NS + 1])), list(pd.to_datetime([NS, NS + 1], utc=True)),
        pd.Series(pd.to_datetime([NS, NS + 1], utc=True), dtype=object),
    ],
    ids=["datetime64", "ints", "int64", "numpy ints", "index, utc", "series, tokyo", "series, naive", "timestamps", "objects"],
)  # fmt: skip
def test_times_are_exact_to_the_nanosecond(trial: ledger.Trial, times: Any) -> None:
    """numpy's times and those without a zone are UTC; those with one are converted; nothing is rounded."""
    trial.log_many({"x": [1, 2]}, at=times)
    assert [row[2] for row in _rows(trial)] == [NS, NS + 1]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "D", "h"])
def test_times_of_coarser_units_are_the_same_moments(trial: ledger.Trial, unit: str) -> None:
    """datetime64 of any unit, of numpy and in a data frame, before 1970 as well."""
    times = np.array(["1960-02-29", "2026-11-21"], f"datetime64[{unit}]")
    wanted = [-310_521_600 * 10**9, 1_795_219_200 * 10**9]
    trial.log_many({"x": [1, 2]}, at=times)
    trial.log_many(pd.DataFrame({"x": [1, 2], "t": times}), at="t")
    assert [row[2] for row in _rows(trial)] == wanted * 2


def test_without_times_they_are_now(trial: ledger.Trial) -> None:
    """All points of one call have the time of the call."""
    trial.log_many({"x": [1, 2, 3]})
    (moment,) = {row[2] for row in _rows(trial)}
    assert abs(moment - dt.datetime.now(dt.UTC).timestamp() * 1e9) < 60e9
    assert {row[1] for row in _rows(trial)} == {None}


def test_a_data_frame_names_its_columns_of_steps_and_times(trial: ledger.Trial) -> None:
    """They are no metrics then; the frame's own index is none either; columns of steps may have gaps."""
    epochs, times = pd.array([1, None], dtype="Int64"), pd.to_datetime([NS, NS + 7], utc=True)
    frame = pd.DataFrame({"epoch": epochs, "t": times, "loss": [0.5, 0.25], "k": ["a", "b"]}, index=[7, 7])
    trial.log_many(frame, steps="epoch", at="t")
    assert _rows(trial) == [("loss", 1, NS, 0.5), ("k", 1, NS, "a"), ("loss", None, NS + 7, 0.25), ("k", None, NS + 7, "b")]
    trial.log_many(frame[["loss"]], steps=[5, 6], at=frame["t"])
    assert _rows(trial)[4:] == [("loss", 5, NS, 0.5), ("loss", 6, NS + 7, 0.25)]


def test_a_hundred_thousand_rows_are_one_append(trial: ledger.Trial) -> None:
    """They are spread over events of bounded size, in order, and there whole or not at all."""
    book = trial.experiment.book
    head, count = book.log.head, 100_000
    values = np.linspace(0, 1, count)
    trial.log_many({"x": values, "n": np.arange(count)}, steps=np.arange(count), at=np.arange(count) + NS)
    records = list(book.log.read(after=head))
    assert len({record.append_id for record in records}) == 1
    assert 10 < len(records) < 100
    found = _rows(trial)[0::2]
    assert [row[1] for row in found] == list(range(count))
    assert [row[2] for row in found] == list(range(NS, NS + count))
    assert [row[3] for row in found] == values.tolist()
    bad = np.arange(count).astype(object)
    bad[99_999] = {}
    with pytest.raises(ledger.InvalidValue, match="'x' in row 99999 is a dict"):
        trial.log_many({"x": bad})
    assert book.log.head == head + len(records)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4096, 1), (4097, 1), (8191, 1), (1, 9000), (2, 8192), (0, 1), (0, 0)])
def test_sizes_at_the_edges_of_events(trial: ledger.Trial, rows: int, columns: int) -> None:
    """One row, one more than fits, thousands of columns: all are there; no rows are no event, no columns are refused."""
    head = trial.version
    values = {f"x{c}": list(range(rows)) for c in range(columns)}
    if not columns:
        with pytest.raises(ledger.InvalidValue, match="no columns"):
            trial.log_many(values)
    else:
        trial.log_many(values, steps=list(range(rows)), at=[NS] * rows)
    assert [row[1] for row in _rows(trial) if row[0] == "x0"] == list(range(rows))
    assert len(_rows(trial)) == rows * columns
    assert (trial.version == head) is (rows == 0)


def test_long_texts_are_spread_by_their_bytes(trial: ledger.Trial) -> None:
    """Texts of the longest kind, of four bytes a letter, never make a record too large."""
    texts = ["\N{GRINNING FACE}" * 4000] * 200 + ["short"]
    trial.log_many({"text": texts, "n": list(range(201))})
    assert _column(trial, "text") == texts
    assert _column(trial, "n") == list(range(201))


@pytest.mark.parametrize(
    ("values", "more", "words"),
    [
        ({"x": [1, [2]]}, {}, "'x' in row 1 is a list"),
        ({"x": [1, 1j]}, {}, "'x' in row 1 is a complex"),
        ({"ok": [1, 2], "x": [2**64, 1]}, {}, "'x' in row 0 is 18446744073709551616"),
        ({"x": [1, b"b"]}, {}, "'x' in row 1 is a bytes"),
        ({"x": ["a", "\ud800"]}, {}, "'x' in row 1 is not valid text"),
        ({"x": ["a", "y" * 5000]}, {}, "'x' in row 1 is a text of 5,000"),
        ({"x": np.zeros((2, 2))}, {}, "column 'x' has 2 dimensions"),
        ({"x": np.array(5)}, {}, "column 'x' has 0 dimensions"),
        ({"x": "ab"}, {}, "column 'x' is a str"),
        ({"x": 5}, {}, "column 'x' is an int"),
        ({"x": {1, 2}}, {}, "column 'x' is a set"),
        ({"x": [1, 2], "y": [1]}, {}, "'y' has 1 rows, 'x' has 2"),
        ({"x": [1, 2]}, {"steps": [1]}, "'steps' has 1 rows, 'x' has 2"),
        ({"x": [1, 2]}, {"at": [NS] * 3}, "'at' has 3 rows, 'x' has 2"),
        ({"x": [1, 2]}, {"steps": [1, "two"]}, "step in row 1 is 'two'"),
        ({"x": [1, 2]}, {"steps": [1, True]}, "step in row 1 is True"),
        ({"x": [1, 2]}, {"steps": [1, 2**70]}, "step in row 1"),
        ({"x": [1, 2]}, {"steps": "x"}, "steps is a str"),
        ({"x": [1, 2]}, {"at": [NS, None]}, "time in row 1 is missing"),
        ({"x": [1, 2]}, {"at": [NS, dt.datetime(2026, 1, 1)]}, "time in row 1 is .*time zone"),
        ({"x": [1, 2]}, {"at": [NS, float(NS)]}, "time in row 1"),
        ({"x": [1, 2]}, {"at": np.array(["2026-01-01", "NaT"], "datetime64[ns]")}, "time in row 1 is missing"),
        ({"x": [1, 2]}, {"at": pd.Series([pd.NaT, pd.Timestamp(NS, tz="UTC")])}, "time in row 0 is missing"),
        ({"x": [1, 2]}, {"at": [pd.NaT, NS]}, "time in row 0"),
        ({"x": [1, 2]}, {"at": np.array(["2026-01-01", "3000-01-01"], "datetime64[D]")}, "at has 3000-01-01 in row 1"),
        ({"x": [1, 2]}, {"at": np.array(["0001-01-01", "2026-01-01"], "datetime64[us]")}, "at has 0001-01-01.* in row 0"),
        ({"": [1]}, {}, "named by a text that is not empty"),
        ({5: [1]}, {}, "named by a text that is not empty, not 5"),
        ({"n" * 2000: [1]}, {}, "2,000 characters"),
        ([1, 2], {}, "the points are a list"),
        (np.zeros(3), {}, "the points are a ndarray"),
        (pd.DataFrame({"x": [1]}), {"steps": "epoch"}, "no column 'epoch'; it has x"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), {}, "column 'x' has 2 dimensions"),
        (pd.DataFrame({"x": [1]}), {"steps": "x"}, "no columns of values"),
        (pd.DataFrame({0: [1]}), {}, "not 0"),
    ],
)  # fmt: skip
def test_wrong_input_names_the_column_and_the_row(trial: ledger.Trial, values: Any, more: dict[str, Any], words: str) -> None:
    """What is no point is refused at the call, says where it is, and nothing of the call is recorded."""
    with pytest.raises(ledger.InvalidValue, match=words):
        trial.log_many(values, **more)
    assert trial.version == 1


def test_what_was_logged_before_comes_first(trial: ledger.Trial) -> None:
    """Buffered points are flushed before the bulk, and bulk carries the attempt that logged it."""
    with trial.run():
        trial.log(step=0, x=0)
        trial.log_many({"x": [1, 2]}, steps=[1, 2])
    assert _column(trial) == [0, 1, 2]
    assert [record.event.attempt for record in trial.history() if record.type == "MetricsLogged"] == [1, 1]
