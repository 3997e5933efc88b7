"""Frame: rows that a Reader selected, or that were made of them; and GroupedFrame, frames by the values of some columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from typing import Any, TypeAlias, overload

import numpy as np
import pandas as pd

from ledger.errors import InvalidValue, UnknownKey
from ledger.nearest import find_nearest
from projections import maps as mapping
from projections.columns import MISSING
from projections.field import Places
from projections.grouping import group_key, group_rows
from projections.maps import Maps, MapType, checked_maps
from projections.ordering import order_of
from projections.row import Row
from projections.series import as_series
from projections.trial_source import TrialSource

_Origin: TypeAlias = tuple[TrialSource, Places]


class Frame(Sequence[Row]):
    """A sequence of rows, seen as a table: a row each trial, and a column each key.

    ``frame[0]`` is a row, ``frame[:10]`` a frame, ``frame["config.lr"]`` the list of a column's values, None where a row has
    none. Every method makes new frames, and leaves the rows of this one as they are.

    A map is ``(function, column or columns[, name or names])``; several are a list of them. Columns that it makes are named
    ``f``, the function's name, a dot and the column's (``fmean.train.loss``), unless names are given.

    >>> import statistics, ledger, projections
    >>> book = ledger.open("memory:")
    >>> for lr in (0.1, 0.2, 0.2):
    ...     book.experiment("demo").new_trial({"lr": lr, "layers": 3}).complete({"loss": lr * 2})
    >>> frame = projections.Reader(book).filter("config.layers == 3")
    >>> frame.diff(), frame["result.loss"]
    (['config.lr'], [0.2, 0.4, 0.4])
    >>> frame.groupby("config.lr").aggregate((statistics.mean, "result.loss"))
                  fmean.result.loss
    config.lr
    0.1       0                 0.2
    0.2       0                 0.4
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)
        for row in self._rows:
            if not isinstance(row, Row):
                raise InvalidValue(f"{row!r} is no row; a frame is made of rows of other frames.")

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Frame: ...
    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    def __getitem__(self, index: int | slice | str) -> Row | Frame | list[Any]:
        """Return a row, a frame of some rows, or the values of a column; UnknownKey when no trial has it."""
        if isinstance(index, str):
            return [None if value is MISSING else value for value in self._column(index)]
        return Frame(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __repr__(self) -> str:
        return str(self.toPandas())

    def _repr_html_(self) -> str:
        html: str = self.toPandas()._repr_html_()  # type: ignore[operator]
        return html

    # ------------------------------------------------------------------------------------------------ columns

    def keys(self) -> list[str]:
        """Return the names of the columns, every key that a row has: sorted, or as they were made."""
        return self._keys(self._origin())

    def _keys(self, origin: _Origin | None) -> list[str]:
        if origin is not None:
            source, rows = origin
            return [key for key in source.keys if source.present(key)[rows].any()]
        return list(dict.fromkeys(key for row in self._rows for key in row))

    def _origin(self) -> _Origin | None:
        """Return the source and the rows there when all of this comes from one source, as it is there."""
        places = [row.place for row in self._rows]
        known = [place for place in places if place is not None]
        if not known or len(known) < len(places) or any(source is not known[0][0] for source, _ in known):
            return None
        return known[0][0], np.array([row for _, row in known], dtype=np.intp)

    def _column(self, key: str) -> list[Any]:
        """Return the values of a column, MISSING where there is none; UnknownKey when neither a row nor another trial has it."""
        values = self._values(key, self._origin(), is_shown=False)
        if self._rows and all(value is MISSING for value in values):
            sources = {row.source for row in self._rows if row.source is not None}
            if not any(source.knows(key) for source in sources):
                raise self._unknown(key)
        return values

    def _values(self, key: str, origin: _Origin | None, *, is_shown: bool) -> list[Any]:
        if origin is not None:
            source, rows = origin
            return source.shown_values(rows, key) if is_shown else source.values(rows, key)
        return [row.find_shown(key) if is_shown else row.find(key) for row in self._rows]

    def _unknown(self, key: str) -> UnknownKey:
        keys = self.keys()
        nearest = next((each for each in keys if each.endswith(f".{key}")), None) or find_nearest(key, keys)
        hint = "keys() lists them." if nearest is None else f"Did you mean {nearest!r}?"
        return UnknownKey(f"no row has the column {key!r}. {hint}", key)

    def toPandas(self, lazy: bool = True) -> pd.DataFrame:  # noqa: N802 - MLXP's name
        """Return a DataFrame of the caller's own; with ``lazy`` the words METRIC and ARTIFACT stand for what is not loaded.

        Columns have the dtypes of the tables (``projections.columns``), missing values are missing.
        """
        origin = self._origin()
        columns = {key: as_series(self._values(key, origin, is_shown=lazy)) for key in self._keys(origin)}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self)))

    def diff(self, start_key: str = "config") -> list[str]:
        """Return the columns, of those whose names start so, that are not the same in all rows, sorted.

        A column that some rows do not have is one of them. NaN is the same as NaN.
        """
        origin = self._origin()
        keys = [key for key in self._keys(origin) if key.startswith(start_key)]
        return [key for key in keys if not _are_same(self._values(key, origin, is_shown=False))]

    # --------------------------------------------------------------------------------------------------- maps

    def aggregate(self, maps: Maps) -> Frame:
        """Return one row: what each function makes of the list of a column's values.

        Rows without the column are left out of the list; when no row has it the result is None.
        """
        made = {}
        for function, inputs, outputs in checked_maps(maps, "Columnwise"):
            for name, output in zip(inputs, outputs, strict=True):
                values = [value for value in self._column(name) if value is not MISSING]
                made[output] = function(values) if values else None
        return Frame([Row(None, own=made)])

    def map(self, maps: Maps) -> Frame:
        """Return as many rows: what each function makes of each value of a column; what is missing stays so."""
        return self.apply(maps, "Pointwise")

    def transform(self, maps: Maps) -> Frame:
        """Return as many rows: what each function makes of the list of a column's values, a list of the same length."""
        made = mapping.apply_to_columns(checked_maps(maps, "Columnwise"), self.__getitem__)
        rows = mapping.as_rows(made, len(self))
        if rows is None:
            raise InvalidValue(f"a transformation makes {len(self):,} values, one a row; use aggregate for fewer.")
        return _made(rows)

    def apply(self, maps: Maps, map_type: MapType = "Generic") -> Frame:
        """Return what the functions make of columns.

        ``map_type``: ``Generic`` calls ``function(column, column, ...)``, ``Columnwise`` ``function(column)`` for each of the
        columns, ``Rowwise`` ``function(value, value, ...)`` for each row, ``Pointwise`` ``function(value)`` for each value. The
        first two may return a list of as many values as there are rows, or something else, which is one row then. A tuple has
        several results, which need a name each.
        """
        checked = checked_maps(maps, map_type)
        if map_type == "Rowwise":
            return _made(mapping.apply_to_rows(checked, self.__getitem__, len(self)))
        if map_type == "Pointwise":
            return _made(mapping.as_rows(mapping.apply_to_points(checked, self._column), len(self)) or [])
        apply = mapping.apply_jointly if map_type == "Generic" else mapping.apply_to_columns
        made = apply(checked, self.__getitem__)
        rows = mapping.as_rows(made, len(self))
        return _made([made] if rows is None else rows)

    def filter(self, filter_map: Maps, bygroups: str | Sequence[str] | None = None) -> Frame:
        """Return the rows for which the function, called with lists of its columns, returns a list that says so.

        ``bygroups``: columns by which the rows are grouped first, and each group is filtered by itself.
        """
        if bygroups:
            filtered = self.groupby(bygroups).filter(filter_map, ungroup=True)
            assert isinstance(filtered, Frame)
            return filtered
        checked = checked_maps(filter_map, "Generic")
        if len(checked) != 1:
            raise InvalidValue(f"{len(checked)} filters are given; filter by one, and the result by the next.")
        (made,) = mapping.apply_jointly(checked, self.__getitem__).values()
        kept = np.asarray(made, dtype=object)
        if kept.ndim != 1 or len(kept) != len(self):
            raise InvalidValue(f"the filter of {', '.join(checked[0].inputs)} must return {len(self):,} truth values, one a row.")
        return Frame([row for row, is_kept in zip(self._rows, kept, strict=True) if is_kept])

    # ------------------------------------------------------------------------------------------ order, groups

    def sort(self, by: str | Sequence[str], ascending: bool = True) -> Frame:
        """Return the rows sorted by columns; NaN, None and what is missing come last, either way."""
        rows = self._rows
        for key in reversed(_names(by)):
            values = Frame(rows)._column(key)
            rows = [rows[place] for place in order_of(values, is_descending=not ascending)]
        return Frame(rows)

    def groupby(self, group_keys: str | Sequence[str]) -> GroupedFrame:
        """Return the rows by the values of columns; a value that is None or missing is a group as any other.

        Groups are in the order of their values. Lists are tuples in the keys of groups, and ``MISSING`` stands for no value.
        """
        names = _names(group_keys)
        for name in names:
            if any(row.source is not None and row.source.is_lazy(name) and name not in row.own_keys for row in self._rows):
                raise InvalidValue(f"{name!r} has many values a row; group by what a map makes of it.")
        groups = group_rows([self._column(name) for name in names]) if self._rows else {}
        return GroupedFrame(names, {key: Frame([self._rows[row] for row in rows]) for key, rows in groups.items()})

    def merge(self, new_df: Frame) -> Frame:
        """Return the rows with what the rows of another frame, of the same length, have at the same places."""
        if len(new_df) != len(self):
            raise InvalidValue(f"a frame of {len(self):,} rows cannot be merged with one of {len(new_df):,}, place by place.")
        return Frame([row.with_values(_deferred(other)) for row, other in zip(self, new_df, strict=True)])


class GroupedFrame(Mapping[tuple[Any, ...], Any]):
    """Frames by the values of the columns ``group_keys``: a mapping from tuples of values to frames, in the order of the values.

    The methods of frames are applied to each group by itself; with ``ungroup`` their results become one frame.
    """

    def __init__(self, group_keys: Sequence[str], groups: Mapping[tuple[Any, ...], Frame | GroupedFrame]) -> None:
        self.group_keys = list(group_keys)
        self._groups = dict(groups)

    def __getitem__(self, key: tuple[Any, ...]) -> Any:
        return self._groups[key]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def keys(self) -> KeysView[tuple[Any, ...]]:
        """Return the keys of the groups, each a tuple of values."""
        return self._groups.keys()

    def __repr__(self) -> str:
        return str(self.toPandas())

    def _repr_html_(self) -> str:
        html: str = self.toPandas()._repr_html_()  # type: ignore[operator]
        return html

    def toPandas(self, lazy: bool = True) -> pd.DataFrame:  # noqa: N802 - MLXP's name
        """Return a DataFrame with the groups' values, and then the places in the group, as its index; see ``Frame.toPandas``."""
        names, keys, rows = self._flat()
        frame = Frame(rows).toPandas(lazy=lazy)
        levels = [[None if value is MISSING else value for value in level] for level in zip(*keys, strict=True)]
        levels = levels or [[] for _ in range(len(names) + 1)]
        arrays = [as_series(level) for level in levels]
        frame.index = pd.MultiIndex.from_arrays(arrays, names=[*names, None])
        return frame

    def _flat(self) -> tuple[list[str], list[tuple[Any, ...]], list[Row]]:
        """Return the names of all group keys, and for each row its groups' values with its place, and the row."""
        names, keys, rows = list(self.group_keys), [], []
        for key, group in self._groups.items():
            if isinstance(group, GroupedFrame):
                inner, inner_keys, inner_rows = group._flat()
                names = self.group_keys + inner
                keys += [(*key, *inner_key) for inner_key in inner_keys]
                rows += inner_rows
            else:
                keys += [(*key, place) for place in range(len(group))]
                rows += group
        return names, keys, rows

    def ungroup(self) -> Frame | GroupedFrame:
        """Return one frame of all groups, in which made rows have the groups' values as columns; of groups of groups, groups."""
        if any(isinstance(group, GroupedFrame) for group in self._groups.values()):
            return GroupedFrame(self.group_keys, {key: group.ungroup() for key, group in self._groups.items()})
        rows = []
        for key, group in self._groups.items():
            named = {name: value for name, value in zip(self.group_keys, key, strict=True) if value is not MISSING}
            for row in group:
                lacking = {name: value for name, value in named.items() if row.find(name) is MISSING}
                rows.append(row.with_values(lacking) if lacking else row)
        return Frame(rows)

    def select(self, key_list: Iterable[Any]) -> GroupedFrame:
        """Return the groups of these keys (tuples of values); a key that there is no group of is passed over."""
        wanted = {key if isinstance(key, tuple) else (key,) for key in key_list}
        return GroupedFrame(self.group_keys, {key: group for key, group in self._groups.items() if key in wanted})

    def groupby(self, group_keys: str | Sequence[str]) -> GroupedFrame:
        """Return the groups with each of them grouped by further columns."""
        return GroupedFrame(self.group_keys, {key: group.groupby(group_keys) for key, group in self._groups.items()})

    def aggregate(self, maps: Maps, ungroup: bool = False) -> Any:
        """Aggregate each group; see ``Frame.aggregate``."""
        return self._apply("aggregate", maps, is_flat=ungroup)

    def map(self, maps: Maps, ungroup: bool = False) -> Any:
        """Map the values of each group; see ``Frame.map``."""
        return self._apply("map", maps, is_flat=ungroup)

    def transform(self, maps: Maps, ungroup: bool = False) -> Any:
        """Transform the columns of each group; see ``Frame.transform``."""
        return self._apply("transform", maps, is_flat=ungroup)

    def apply(self, maps: Maps, map_type: MapType = "Generic", ungroup: bool = False) -> Any:
        """Apply maps to each group; see ``Frame.apply``."""
        return self._apply("apply", maps, map_type, is_flat=ungroup)

    def sort(self, by: str | Sequence[str], ascending: bool = True, ungroup: bool = False) -> Any:
        """Sort each group; see ``Frame.sort``."""
        return self._apply("sort", by, ascending, is_flat=ungroup)

    def filter(self, filter_map: Maps, bygroups: str | Sequence[str] | None = None, ungroup: bool = False) -> Any:
        """Filter each group, or with ``bygroups`` each group of all rows by other columns; see ``Frame.filter``.

        Unless ``ungroup`` is asked for, the result is grouped as this is.
        """
        if not bygroups:
            return self._apply("filter", filter_map, is_flat=ungroup)
        filtered = Frame(self._flat_rows()).filter(filter_map, bygroups)
        return filtered if ungroup else filtered.groupby(self.group_keys)

    def _flat_rows(self) -> Iterable[Row]:
        rows = self.ungroup()
        while isinstance(rows, GroupedFrame):
            rows = rows.ungroup()
        return rows

    def _apply(self, method: str, *arguments: Any, is_flat: bool = False) -> Any:
        groups = {key: getattr(group, method)(*arguments) for key, group in self._groups.items()}
        grouped = GroupedFrame(self.group_keys, groups)
        return grouped.ungroup() if is_flat else grouped


def _names(given: str | Sequence[str]) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidValue(f"{given!r} names no columns; give a name or a list of names.")
    return names


def _made(rows: Iterable[Mapping[str, Any]]) -> Frame:
    return Frame([Row(None, own=row) for row in rows])


def _deferred(row: Row) -> dict[str, Any]:
    """Return what a row has, with functions for what it loads when it is asked for."""

    def later(key: str) -> Callable[[str], Any]:
        return lambda _: row[key]

    source = row.source
    lazy = {key for key in row if source is not None and key not in row.own_keys and source.is_lazy(key)}
    return {key: later(key) if key in lazy else row[key] for key in row}


def _are_same(values: list[Any]) -> bool:
    keys = [(group_key(value),) for value in values]  # in tuples, in which a NaN is the same as itself
    return all(key == keys[0] for key in keys)
