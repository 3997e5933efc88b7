"""Rows: a table that grows, as buffers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ledger.errors import InvalidValue
from ledger.nearest import find_nearest
from projections.buffers import BUFFERS, Buffer
from projections.columns import as_it_is


class Rows:
    """Columns of equal length, by name; ``kinds`` says what the cells of each are (see ``projections.buffers``).

    >>> rows = Rows({"trial_id": "id", "name": "text", "value": "value"})
    >>> rows.append(trial_id=1, name="loss", value=0.5)
    0
    >>> rows.extend({"trial_id": [2, 2], "name": ["loss", "epoch"], "value": [0.25, 7]})
    >>> rows.frame()["value"].tolist()
    [0.5, 0.25, 7.0]
    """

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self.buffers: dict[str, Buffer] = {}
        self.length = 0
        for name, kind in kinds.items():
            self.add_column(name, kind)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, name: str) -> Buffer:
        return self.buffers[name]

    def add_column(self, name: str, kind: str) -> Buffer:
        """Add a column, whose cells so far are empty."""
        if kind not in BUFFERS:
            raise InvalidValue(f"the column {name!r} is of kind {kind!r}; give one of {', '.join(BUFFERS)}.")
        buffer = self.buffers[name] = BUFFERS[kind].blank(self.length)
        return buffer

    def append(self, **cells: Any) -> int:
        """Add one row; return its number, from 0. To add many at once, ``extend`` is many times faster."""
        self.extend({name: (cell,) for name, cell in cells.items()})
        return self.length - 1

    def extend(self, cells: Mapping[str, Sequence[Any]]) -> None:
        """Add rows: for each column that has cells in them as many as for the others; those of other columns are empty."""
        if not cells.keys() <= self.buffers.keys():
            raise self._unknown(cells)
        counts = set(map(len, cells.values()))
        if len(counts) != 1:
            raise InvalidValue(
                f"the columns {', '.join(cells)} have {', '.join(map(str, sorted(counts)))} cells; give each as many."
            )
        self.length += counts.pop()
        for name, buffer in self.buffers.items():
            if name not in cells:
                buffer.resize(self.length)
                continue
            try:
                buffer.extend(cells[name])
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                is_time = buffer.kind == "time"
                cure = "Give ns since 1970 UTC, as record.recorded_at." if is_time else "projections.buffers says what it holds."
                raise InvalidValue(
                    f"the column {name!r} is of kind {buffer.kind!r}, and a cell is not: {error}. {cure}"
                ) from error

    def _unknown(self, cells: Iterable[str]) -> InvalidValue:
        name = next(each for each in cells if each not in self.buffers)
        nearest = find_nearest(name, self.buffers)
        hint = f"Did you mean {nearest!r}?" if nearest else f"There are: {', '.join(self.buffers)}."
        return InvalidValue(f"there is no column {name!r}. {hint}")

    def resize(self, length: int) -> None:
        """Have so many rows; the cells of new ones are empty."""
        self.length = length
        for buffer in self.buffers.values():
            buffer.resize(length)

    def write(self, rows: Any, cells: Mapping[str, Sequence[Any]]) -> None:
        """Replace cells of rows, which are given as an array of their numbers."""
        for name, column in cells.items():
            self.buffers[name].write(rows, column)

    def frame(self, names: Iterable[str] | None = None, rows: Any = None) -> pd.DataFrame:
        """Return columns, all by default, of ``rows`` (an array of numbers or of yes and no), all by default, in order."""
        chosen = {name: self.buffers[name] for name in (self.buffers if names is None else names)}
        if rows is not None:
            chosen = {name: each.take(rows) for name, each in chosen.items()}
        count = self.length if rows is None else len(np.arange(self.length)[rows])
        columns = {name: as_it_is(each.array()) for name, each in chosen.items()}
        return pd.DataFrame(columns, pd.RangeIndex(count), copy=False)

    def take(self, rows: Any) -> Rows:
        """Return other rows: those of an array of numbers or of yes and no, or of a slice."""
        made = Rows({})
        made.length = len(np.arange(self.length)[rows])
        made.buffers = {name: buffer.take(rows) for name, buffer in self.buffers.items()}
        return made
