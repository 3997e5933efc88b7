"""Points in bulk: columns of numpy arrays, data frames and lists to events.

Neither numpy nor pandas is imported: their objects are known by what they can do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ledger.errors import InvalidValue
from ledger.events import Points
from ledger.records import to_nanoseconds
from ledger.telemetry import check_name, check_scalar
from ledger.values import with_article

_VALUES_PER_EVENT = 8192
_BYTES_PER_EVENT = 128 * 1024


def point_batches(values: Any, steps: Any, at: Any) -> Iterator[Points]:
    """Cut columns of values into parts that fit one event each.

    ``values`` is a mapping from names to columns of equal length (lists, arrays of one dimension, pandas Series) or a
    data frame; ``steps`` and ``at`` are columns of that length, names of columns of the data frame, or None: no steps,
    and the present time for all.

    Raises InvalidValue, naming the column and the row, for what is no point.
    """
    columns, step_column, time_column = _columns(values, steps, at)
    count = _check_lengths(columns, step_column, time_column)
    checked = {name: [_point(name, row, value) for row, value in enumerate(column)] for name, column in columns.items()}
    rows = [_step(row, step) for row, step in enumerate(step_column or [None] * count)]
    if time_column is None:
        times = [time.time_ns()] * count
    else:
        times = [_time(row, moment) for row, moment in enumerate(time_column)]
    start = 0
    for end in _ends(checked, count):
        yield Points(
            list(checked), rows[start:end], [times[start], *(b - a for a, b in pairwise(times[start:end]))],
            [column[start:end] for column in checked.values()],
        )  # fmt: skip
        start = end


def _columns(values: Any, steps: Any, at: Any) -> tuple[dict[str, list[Any]], list[Any] | None, list[Any] | None]:
    if hasattr(values, "columns") and hasattr(values, "iloc"):
        frame = {name: values[name] for name in values.columns}
        named = {name for name in (steps, at) if isinstance(name, str)}
        missing = sorted(named - frame.keys())
        if missing:
            raise InvalidValue(f"the data frame has no column {missing[0]!r}; it has {', '.join(map(str, frame))}.")
        steps = frame[steps] if isinstance(steps, str) else steps
        at = frame[at] if isinstance(at, str) else at
        values = {name: column for name, column in frame.items() if name not in named}
    if not isinstance(values, Mapping):
        raise InvalidValue(
            f"the points are {with_article(type(values).__qualname__)}; give a dict from names to columns, or a data frame."
        )
    columns = {}
    for name, column in values.items():
        if type(name) is not str or not name:
            raise InvalidValue(f"a column is named by a text that is not empty, not {name!r}. Rename it.")
        check_name(name)
        if str(getattr(column, "dtype", "")).startswith(("datetime64", "timedelta64")):
            raise InvalidValue(f"the column {name!r} holds times; a point is a number, a text or a bool. Give the times as at=.")
        columns[name] = _listed(f"the column {name!r}", column)
    return columns, _listed("steps", steps) if steps is not None else None, _listed("at", at) if at is not None else None


def _listed(what: str, column: Any) -> list[Any]:
    """Return a column as a list of Python values."""
    if getattr(column, "ndim", 1) != 1:
        raise InvalidValue(f"{what} has {column.ndim} dimensions; give one column for each part.")
    dtype = str(getattr(column, "dtype", ""))
    if dtype.startswith("datetime64"):
        if hasattr(column, "to_numpy"):  # of pandas, with or without a time zone
            column = column.to_numpy(dtype=dtype.partition(",")[0].rstrip("]") + "]")
        return _nanoseconds(what, column)
    if hasattr(column, "tolist"):
        return list(column.tolist())
    if isinstance(column, Sequence) and not isinstance(column, str | bytes):
        return list(column)
    raise InvalidValue(
        f"{what} is {with_article(type(column).__qualname__)}; give a list, an array of one dimension or a Series."
    )


def _nanoseconds(what: str, column: Any) -> list[int | None]:
    """Return an array of datetime64 as ns since 1970 UTC, and None for NaT."""
    times = column.astype("datetime64[ns]")
    is_time = column == column
    is_lost = is_time & (times.astype(column.dtype) != column)
    if is_lost.any():
        row = int(is_lost.argmax())
        raise InvalidValue(f"{what} has {column[row]} in row {row}; give times between the years 1678 and 2262.")
    numbers = times.astype("int64").tolist()
    return [number if there else None for number, there in zip(numbers, is_time.tolist(), strict=True)]


def _check_lengths(columns: dict[str, list[Any]], *others: list[Any] | None) -> int:
    if not columns:
        raise InvalidValue("there are no columns of values; give at least one.")
    first, column = next(iter(columns.items()))
    named = [*columns.items(), *zip(("steps", "at"), others, strict=True)]
    for name, other in named:
        if other is not None and len(other) != len(column):
            raise InvalidValue(f"{name!r} has {len(other):,} rows, {first!r} has {len(column):,}; give columns of one length.")
    return len(column)


def _point(name: str, row: int, value: Any) -> Any:
    if type(value) is float:
        return value
    return check_scalar(f"{name!r} in row {row}", _scalar(value))


def _scalar(value: Any) -> Any:
    return None if type(value).__name__ == "NAType" else value  # pandas' missing value


def _step(row: int, step: Any) -> int | float | None:
    value = check_scalar(f"the step in row {row}", _scalar(step))
    if type(value) not in (int, float, type(None)):
        raise InvalidValue(f"the step in row {row} is {step!r}; give a number.")
    return value  # type: ignore[no-any-return]


def _time(row: int, moment: Any) -> int:
    if getattr(moment, "ndim", None) == 0 and hasattr(moment, "item"):
        moment = moment.item()  # a numpy scalar
    nanoseconds = to_nanoseconds(_scalar(moment), f"the time in row {row}")
    if nanoseconds is None:
        raise InvalidValue(f"the time in row {row} is missing; give each row one, or leave at= out.")
    return nanoseconds + getattr(moment, "nanosecond", 0)  # which a pandas Timestamp has beside its microseconds


def _ends(columns: dict[str, list[Any]], count: int) -> Iterator[int]:
    """Yield where the parts end: after so many values or, with long texts, bytes."""
    width = len(columns)
    texts = [column for column in columns.values() if any(type(value) is str for value in column)]
    rows = max(_VALUES_PER_EVENT // (width + 1), 1)
    start = size = 0
    for row in range(count):
        size += sum(4 * len(column[row]) for column in texts if type(column[row]) is str)
        if row + 1 - start == rows or size > _BYTES_PER_EVENT:
            yield row + 1
            start, size = row + 1, 0
    if start < count:
        yield count
