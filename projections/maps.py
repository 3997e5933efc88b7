"""Maps: functions on columns, as MLXP's frames take them: ``(function, column or columns[, name or names])``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from ledger.errors import InvalidValue
from projections.columns import MISSING

MapType: TypeAlias = Literal["Generic", "Columnwise", "Rowwise", "Pointwise"]
_TYPES: Final = ("Generic", "Columnwise", "Rowwise", "Pointwise")

#: What people give: one map or several.
Maps: TypeAlias = "tuple[Any, ...] | Sequence[tuple[Any, ...]]"
Column: TypeAlias = list[Any]


class Map(NamedTuple):
    """A function, the columns that it is called with, and the names of those that it makes."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def checked_maps(maps: Maps, map_type: str) -> list[Map]:
    """Return the maps with their names: ``f``, the function's name, a dot and the column's, unless they are given.

    Raises InvalidValue for what is no map, and for two of the same name.

    >>> checked_maps((max, ("config.lr", "config.seed")), "Columnwise")[0].outputs
    ('fmax.config.lr', 'fmax.config.seed')
    """
    if map_type not in _TYPES:
        raise InvalidValue(f"there are no maps of type {map_type!r}; there are {', '.join(_TYPES)}.")
    given = [maps] if isinstance(maps, tuple) else maps
    if not isinstance(given, list) or not given:
        raise InvalidValue(f"{maps!r} is no map; {_FORM}")
    checked = [_checked(each, map_type) for each in given]
    names = [name for each in checked for name in each.outputs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidValue(f"two maps make the column {name!r}; name them: (function, column, name).")
    return checked


_FORM: Final = "give (function, column) or (function, (column, column), (name, name)), or a list of such tuples."


def _checked(given: Any, map_type: str) -> Map:
    if not isinstance(given, tuple) or len(given) not in (2, 3) or not callable(given[0]):
        raise InvalidValue(f"{given!r} is no map; {_FORM}")
    function, inputs = given[0], _names(given[1], given)
    is_joint = map_type in ("Generic", "Rowwise")
    if len(given) == 3:
        outputs = _names(given[2], given)
    elif is_joint:
        outputs = (f"f{_name_of(function)}.{'_'.join(inputs)}",)
    else:
        outputs = tuple(f"f{_name_of(function)}.{name}" for name in inputs)
    if not is_joint and len(outputs) != len(inputs):
        raise InvalidValue(f"the map of {', '.join(inputs)} has the names {', '.join(outputs)}; give one for each column.")
    return Map(function, inputs, outputs)


def _names(given: Any, whole: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidValue(f"{whole!r} is no map, for {given!r} names no column; {_FORM}")
    return names


def _name_of(function: Any) -> str:
    inner = getattr(function, "func", function)  # of a functools.partial
    return str(getattr(inner, "__name__", type(inner).__name__))


def apply_to_columns(maps: Sequence[Map], columns: Callable[[str], Column]) -> dict[str, Any]:
    """Return what each function makes of each of its columns, by name."""
    made = {}
    for each in maps:
        for name, output in zip(each.inputs, each.outputs, strict=True):
            made[output] = each.function(columns(name))
    return made


def apply_to_points(maps: Sequence[Map], columns: Callable[[str], Column]) -> dict[str, Column]:
    """Return what each function makes of each value of each of its columns; what is missing stays so."""
    made = {}
    for each in maps:
        for name, output in zip(each.inputs, each.outputs, strict=True):
            made[output] = [MISSING if value is MISSING else each.function(value) for value in columns(name)]
    return made


def apply_jointly(maps: Sequence[Map], columns: Callable[[str], Column]) -> dict[str, Any]:
    """Return what each function makes of all of its columns together."""
    made: dict[str, Any] = {}
    for each in maps:
        made.update(_named(each, each.function(*(columns(name) for name in each.inputs))))
    return made


def apply_to_rows(maps: Sequence[Map], columns: Callable[[str], Column], rows: int) -> list[dict[str, Any]]:
    """Return what each function makes of the values of its columns in each row."""
    made: list[dict[str, Any]] = [{} for _ in range(rows)]
    for each in maps:
        values = zip(*(columns(name) for name in each.inputs), strict=True)
        for row, inputs in zip(made, values, strict=True):
            row.update(_named(each, each.function(*inputs)))
    return made


def _named(each: Map, output: Any) -> dict[str, Any]:
    outputs = output if isinstance(output, tuple) else (output,)
    if len(outputs) != len(each.outputs):
        raise InvalidValue(
            f"{_name_of(each.function)} returns {len(outputs)} values, and {len(each.outputs)} names are there "
            f"({', '.join(each.outputs)}); give a name for each."
        )
    return dict(zip(each.outputs, outputs, strict=True))


def as_rows(made: dict[str, Any], rows: int) -> list[dict[str, Any]] | None:
    """Return columns of that many rows as rows; None when no output is such a column.

    Raises InvalidValue when some are, and others are not.
    """
    are_columns = {name: _is_column(value, rows) for name, value in made.items()}
    if not any(are_columns.values()):
        return None
    if not all(are_columns.values()):
        other = next(name for name, is_column in are_columns.items() if not is_column)
        raise InvalidValue(f"{other!r} is not of {rows:,} values, as other columns are. Apply maps that reduce by themselves.")
    columns = {name: list(value) for name, value in made.items()}
    return [{name: column[row] for name, column in columns.items() if column[row] is not MISSING} for row in range(rows)]


def _is_column(value: Any, rows: int) -> bool:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return False
    return isinstance(value, list | tuple | np.ndarray | pd.Series | pd.Index) and len(value) == rows
