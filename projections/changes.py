"""Changes: what is different between two states of a table, row by row, value by value."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ledger.errors import InvalidValue
from projections.columns import TEXT, category, object_column, text_array

_KINDS = category(["added", "changed", "removed"])


class _Cells(NamedTuple):
    """A column of a table: its cells, and which of them have something in them."""

    array: Any
    is_there: Any

    def are_there(self, rows: Any) -> Any:
        """Say for which rows, of which -1 is none, there is something."""
        if not len(self.array):
            return np.zeros(len(rows), np.bool_)
        return self.is_there[rows] & (rows >= 0)


def compare(before: pd.DataFrame, after: pd.DataFrame, keys: Sequence[str], *, recorded: Collection[str] = ()) -> pd.DataFrame:
    """Return the values that differ between two tables whose rows are known by the columns ``keys``.

    Columns: the keys, ``change`` (category: added or removed of a row that one table does not have, else changed), ``column``
    (string), ``before`` and ``after`` (object; None where there is nothing). Ordered by key, then by column as in the tables.
    Rows with the same key are told apart by their order.

    Values are compared, not dtypes: 1 is 1.0, NaN is NaN, and what is missing is missing, be it None, NaN, NaT or NA; but
    True is not 1, and a list is not a tuple. An added row has a line for each value in it, and none for what is missing; one
    with nothing but its key has no line. In the columns ``recorded`` nothing is missing: there NaN and None are values.

    Costs time in proportion to the cells; an object in Python only for values that differ, and for those of ``object``
    columns.

    >>> import pandas as pd
    >>> before = pd.DataFrame({"trial_id": [1, 2], "loss": [0.5, None], "note": ["a", "b"]})
    >>> after = pd.DataFrame({"trial_id": [2, 3], "loss": [0.25, None], "note": ["b", "c"]})
    >>> compare(before, after, ["trial_id"]).values.tolist()
    [[1, 'removed', 'loss', 0.5, None], [1, 'removed', 'note', 'a', None], [2, 'changed', 'loss', None, 0.25],
     [3, 'added', 'note', None, 'c']]
    """
    for name in keys:
        for frame in (before, after):
            if name not in frame.columns and len(frame):
                raise InvalidValue(f"the table has no column {name!r}; its columns are {', '.join(map(str, frame.columns))}.")
    before, after = (_keys_first(frame, list(keys)) for frame in (before, after))
    own, other, key_rows = _aligned(before, after, keys)
    order = pd.Series(range(len(after.columns)), after.columns)
    names = [*after.columns[len(keys) :], *(name for name in before.columns[len(keys) :] if name not in order)]
    found = [_differing(_cells(before, name, recorded), _cells(after, name, recorded), own, other) for name in names]
    rows = np.concatenate([np.zeros(0, np.int64), *found])
    columns = np.repeat(np.arange(len(names)), [len(each) for each in found])
    order_of_lines = np.lexsort((columns, rows))
    rows, columns = rows[order_of_lines], columns[order_of_lines]
    return pd.DataFrame(
        {
            **{name: key_rows[name].array[rows] for name in keys},
            "change": pd.Categorical.from_codes(np.where(own[rows] < 0, 0, np.where(other[rows] < 0, 2, 1)), dtype=_KINDS),
            "column": text_array(np.array(names, object)[columns]),
            "before": _values(before, names, recorded, own[rows], columns),
            "after": _values(after, names, recorded, other[rows], columns),
        }
    )


def _keys_first(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return frame.reindex(columns=[*keys, *(name for name in frame.columns if name not in keys)])


def _aligned(before: pd.DataFrame, after: pd.DataFrame, keys: Sequence[str]) -> tuple[Any, Any, pd.DataFrame]:
    """Return, for each key of either table in order, its row in each of them (-1 for none), and the keys."""
    marked = []
    for frame in (before, after):
        texts = {name: TEXT for name in keys if isinstance(frame[name].dtype, pd.CategoricalDtype)}
        part = frame[list(keys)].astype(texts).reset_index(drop=True)
        part["\0"] = part.groupby(list(keys), dropna=False, observed=True).cumcount() if part.duplicated().any() else 0
        marked.append(part)
    both = pd.concat([part for part in marked if len(part)] or marked[:1], ignore_index=True)
    distinct = both.drop_duplicates()
    distinct = distinct.sort_values([*keys, "\0"], na_position="first") if len(keys) > 1 or len(distinct) else distinct
    numbers = pd.Series(np.arange(len(distinct)), distinct.index)
    ids = both.merge(distinct.assign(**{"\1": numbers}), how="left", on=[*keys, "\0"])["\1"].to_numpy(np.int64)
    own, other = np.full(len(distinct), -1), np.full(len(distinct), -1)
    own[ids[: len(before)]] = np.arange(len(before))
    other[ids[len(before) :]] = np.arange(len(after))
    return own, other, distinct.reset_index(drop=True)


def _cells(frame: pd.DataFrame, name: str, recorded: Collection[str]) -> _Cells:
    if name not in frame.columns:
        return _Cells(np.zeros(0, object), np.zeros(0, np.bool_))
    column = frame[name]
    if name in recorded:
        exact = object_column([None if cell is pd.NA else cell for cell in column.tolist()])
        return _Cells(exact.to_numpy(), np.ones(len(exact), np.bool_))
    array: Any = column.to_numpy() if isinstance(column.dtype, np.dtype) and column.dtype.kind != "M" else column.array
    return _Cells(array, ~np.asarray(pd.isna(array)))


def _differing(before: _Cells, after: _Cells, own: Any, other: Any) -> Any:
    """Return the numbers of keys for which a column's value is not the same."""
    has_before, has_after = before.are_there(own), after.are_there(other)
    differs = has_before != has_after
    both = np.flatnonzero(has_before & has_after)
    if len(both):
        one, two = before.array[own[both]], after.array[other[both]]
        differs[both] = _unequal(one, two)
    return np.flatnonzero(differs)


def _unequal(one: Any, two: Any) -> Any:
    """Say which values of two arrays, none of which is missing, are not the same."""
    kinds = [_kind(array) for array in (one, two)]
    if kinds[0] == kinds[1] and kinds[0] in ("number", "bool", "time"):
        return np.asarray(one != two, dtype=np.bool_)
    left, right = (np.asarray(array, dtype=object) for array in (one, two))
    if kinds == ["text", "text"]:
        return np.asarray(left != right, dtype=np.bool_)
    return np.fromiter((not _same(a, b) for a, b in zip(left, right, strict=True)), np.bool_, len(left))


def _kind(array: Any) -> str:
    dtype = array.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "text" if isinstance(dtype.categories.dtype, pd.StringDtype) else "other"
    if pd.api.types.is_bool_dtype(dtype):
        return "bool"
    if pd.api.types.is_numeric_dtype(dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "time"
    return "text" if isinstance(dtype, pd.StringDtype) else "other"


def _same(one: Any, two: Any) -> bool:
    """Say whether two values are the same: in lists and dicts, too, NaN is NaN, and True is not 1."""
    if isinstance(one, bool | np.bool_) or isinstance(two, bool | np.bool_):
        return isinstance(one, bool | np.bool_) and isinstance(two, bool | np.bool_) and bool(one == two)
    if isinstance(one, list | tuple) and type(one) is type(two):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    return bool(one == two) or (one != one and two != two)


def _values(frame: pd.DataFrame, names: Sequence[str], recorded: Collection[str], places: Any, columns: Any) -> pd.Series[Any]:
    """Return for each line, the place of a row and the number of a name, the value in the table, as objects; None for none."""
    made = np.empty(len(places), object)
    for number in np.unique(columns):
        cells = _cells(frame, names[number], recorded)
        lines = np.flatnonzero(columns == number)
        lines = lines[cells.are_there(places[lines])]
        taken = cells.array[places[lines]]
        for line, cell in zip(lines, taken.tolist(), strict=True):  # one by one: numpy would take lists for a dimension
            made[line] = cell
    return pd.Series(made, dtype=object)  # pandas would take texts for a column of texts
