"""Field: what all trials of a Reader have under one key, as a column with a mask, so that a query is a few array operations."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ledger.errors import NotComparable
from ledger.records import to_nanoseconds
from projections.columns import MISSING, Column, own_value

Places: TypeAlias = npt.NDArray[np.intp]
Mask: TypeAlias = npt.NDArray[np.bool_]

_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_KINDS: Final[dict[str, tuple[str, Any]]] = {  # of a field -> the type people know it by, and that of its array
    "int": ("int", np.int64), "float": ("float", np.float64), "bool": ("bool", np.bool_), "time": ("Timestamp", np.int64),
    "object": ("", np.object_),
}  # fmt: skip
_EXACT_FLOATS = 2**53
_RESTS = ("", "-01", "-01-01")  # of a day, a month and a year, which mean where they begin


class Field:
    """The values of one key, a row each; ``present`` says which rows have one.

    ``kind`` is int, float, bool, time (ns since 1970 UTC) or object; ``data`` the array, of no meaning where nothing is
    present. A None that was recorded is present, in a field of objects; so is a NaN.

    >>> field = Field.of_values([1, MISSING, 3])
    >>> field.kind, field.values(np.arange(3))
    ('int', [1, MISSING, 3])
    """

    __slots__ = ("data", "kind", "present")

    def __init__(self, kind: str, data: npt.NDArray[Any], present: Mask) -> None:
        self.kind, self.data, self.present = kind, data, present

    @classmethod
    def of_values(cls, values: Sequence[Any]) -> Field:
        """Return the field of recorded values, MISSING where there is none."""
        kinds = set(map(type, values)) - {type(MISSING)}
        for kind in (int, float, bool):
            if kinds == {kind} and (kind is not int or all(-(2**63) <= v < 2**63 for v in values if v is not MISSING)):
                present = np.fromiter((value is not MISSING for value in values), np.bool_, len(values))
                filled = (kind() if value is MISSING else value for value in values)
                return cls(kind.__name__, np.fromiter(filled, _KINDS[kind.__name__][1], len(values)), present)
        data = np.empty(len(values), dtype=object)
        for row, value in enumerate(values):
            data[row] = own_value(value)
        return cls("object", data, np.fromiter((value is not MISSING for value in values), np.bool_, len(values)))

    @classmethod
    def of_column(cls, column: Column) -> Field:
        """Return the field of a column of a table, in which what is missing is missing."""
        present = column.notna().to_numpy(dtype=np.bool_)
        dtype = column.dtype
        if isinstance(dtype, pd.DatetimeTZDtype):
            return cls("time", column.astype("int64").to_numpy(), present)
        is_text = pd.api.types.is_object_dtype(dtype) or pd.api.types.is_string_dtype(dtype)
        if is_text or isinstance(dtype, pd.CategoricalDtype):
            field = cls("object", column.to_numpy(dtype=object, copy=True), present)
            field.data[~present] = MISSING
            return field
        if pd.api.types.is_float_dtype(dtype):
            return cls("float", column.to_numpy(), present)
        kind = "bool" if pd.api.types.is_bool_dtype(dtype) else "int"
        filled: Any = column if present.all() else column.fillna(0 if kind == "int" else False)
        return cls(kind, filled.to_numpy(dtype=_KINDS[kind][1]), present)

    @classmethod
    def joined(cls, fields: Sequence[Field | None], lengths: Sequence[int]) -> Field:
        """Return the field of all rows, when each part of them has its own, or None for one that has no such key."""
        kinds = {field.kind for field in fields if field is not None}
        if len(fields) == 1 and fields[0] is not None:
            return fields[0]
        kind = kinds.pop() if len(kinds) == 1 else "object"
        dtype = _KINDS[kind][1]
        data, present = [], []
        for field, length in zip(fields, lengths, strict=True):
            if field is None:
                data.append(np.full(length, MISSING, dtype=object) if kind == "object" else np.zeros(length, dtype))
                present.append(np.zeros(length, dtype=np.bool_))
            else:
                data.append(field.data if field.kind == kind else field._as_objects())
                present.append(field.present)
        return cls(kind, np.concatenate(data), np.concatenate(present))

    def _as_objects(self) -> npt.NDArray[Any]:
        array = np.empty(len(self.data), dtype=object)
        array[:] = self.values(np.arange(len(self.data)))
        return array

    # ------------------------------------------------------------------------------------------------- values

    def value(self, row: int) -> Any:
        """Return one value, MISSING when there is none; lists and dicts are the caller's own."""
        if not self.present[row]:
            return MISSING
        if self.kind == "time":
            return pd.Timestamp(int(self.data[row]), tz="UTC")
        return own_value(self.data[row]) if self.kind == "object" else self.data[row].item()

    def values(self, rows: Places) -> list[Any]:
        """Return the values of some rows, MISSING where there is none."""
        data, present = self.data[rows], self.present[rows]
        if self.kind == "time":
            return [pd.Timestamp(at, tz="UTC") if there else MISSING for at, there in zip(data.tolist(), present, strict=True)]
        values: list[Any] = data.tolist()
        if self.kind == "object":
            return list(map(own_value, values))
        if not present.all():
            for row in np.flatnonzero(~present).tolist():
                values[row] = MISSING
        return values

    def type_names(self) -> list[str]:
        """Return the names of the types that the values have."""
        if self.kind != "object":
            return [_KINDS[self.kind][0]]
        return sorted({type(value).__name__ for value in self.data[self.present]})

    # ------------------------------------------------------------------------------------------------ compare

    def compare(self, sign: str, value: Any, rows: Places, *, is_strict: bool) -> Mask:
        """Say of each of the rows, all of which have a value, whether it compares so with the value, as Python has it.

        Values that have no order make it false; with ``is_strict`` they raise NotComparable.
        """
        compare = _OPERATORS[sign]
        if self.kind == "time":
            at = _nanoseconds(value)
            if at is None:
                return _each(self.values(rows), compare, value, is_strict)
            return np.asarray(compare(self.data[rows], at), dtype=np.bool_)
        if isinstance(value, float) and value != value and sign in ("==", "!="):
            are_nan = self._are_nan(rows)
            return are_nan if sign == "==" else ~are_nan
        if self.kind != "object":
            data: npt.NDArray[Any] = self.data[rows]
            if type(value) in (int, bool, float) and _is_exact(self.kind, value):
                return np.asarray(compare(data.view(np.int8) if self.kind == "bool" else data, value + 0), dtype=np.bool_)
        return _each(self.data[rows].tolist(), compare, value, is_strict)

    def _are_nan(self, rows: Places) -> Mask:
        if self.kind == "float":
            return np.asarray(np.isnan(self.data[rows]), dtype=np.bool_)
        if self.kind != "object":
            return np.zeros(len(rows), dtype=np.bool_)
        return np.fromiter((isinstance(v, float | Decimal) and v != v for v in self.data[rows]), np.bool_, len(rows))

    def test(self, predicate: Callable[[Any], bool], rows: Places) -> Mask:
        """Say of each of the rows, all of which have a value, what the predicate says of the value."""
        return np.fromiter(map(predicate, self.values(rows)), np.bool_, len(rows))


def _is_exact(kind: str, value: float) -> bool:
    """Say whether numpy compares a column of the kind with the value as exactly as Python does."""
    if kind == "float":
        return isinstance(value, float) or -_EXACT_FLOATS <= value <= _EXACT_FLOATS
    return not isinstance(value, float) and -(2**63) <= value < 2**63


def _each(values: Iterable[Any], compare: Callable[[Any, Any], Any], value: Any, is_strict: bool) -> Mask:
    def one(each: Any) -> bool:
        try:
            return bool(compare(each, value))
        except (TypeError, ArithmeticError) as error:  # a Decimal refuses to be ordered against NaN by the latter
            if is_strict:
                raise NotComparable(
                    f"{each!r} and {value!r} have no order ({error}). The dialect 'extended' leaves such trials out."
                ) from None
            return False

    return np.fromiter(map(one, values), np.bool_)


def _nanoseconds(value: Any) -> int | None:
    """Return a time, given as ISO 8601 text (UTC unless it says otherwise), in ns since 1970; None for what is no time.

    >>> [_nanoseconds(text) == _nanoseconds("2026-01-01T00:00Z") for text in ("2026", "2026-01", "2026-01-01", "2026-02")]
    [True, True, True, False]
    """
    for rest in _RESTS:
        try:
            time = dt.datetime.fromisoformat(value + rest)
        except (TypeError, ValueError):
            continue
        return to_nanoseconds(time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC))
    return None
