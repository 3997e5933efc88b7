"""Row: one trial as a Reader shows it, or one row of what was made of trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ledger.errors import InvalidValue
from ledger.nearest import find_nearest
from projections.columns import MISSING
from projections.trial_source import METRIC, TrialSource

if TYPE_CHECKING:
    import pandas as pd


class _MissingKey(KeyError):
    """A row has no such key; what it has instead is looked for when the message is asked for."""

    def __init__(self, key: str, row: Iterable[str] = ()) -> None:
        super().__init__(key)
        self._row = row

    def __str__(self) -> str:
        key = self.args[0]
        nearest = find_nearest(key, self._row) if isinstance(key, str) else None
        return f"the row has no {key!r}. " + ("list(row) has its keys." if nearest is None else f"Did you mean {nearest!r}?")


class Row(Mapping[str, Any]):
    """Values by key; metrics and artifacts are read when they are asked for.

    A metric is the list of its values as they were logged, artifacts are a dict of handles by file name. What is handed out
    is the caller's own: changing it changes nothing here.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> trial = book.experiment("demo").new_trial({"lr": 0.1})
    >>> trial.log_many({"loss": [0.5, 0.4]}, steps=[1, 2])
    >>> row = projections.Reader(book).filter()[0]
    >>> row["config.lr"], row["loss"], row.series("loss").to_dict()
    (0.1, [0.5, 0.4], {1: 0.5, 2: 0.4})
    """

    __slots__ = ("_index", "_own", "_source")

    def __init__(self, source: TrialSource | None, index: int = -1, own: Mapping[str, Any] | None = None) -> None:
        self._source, self._index = source, index
        self._own = dict(own) if own else None

    def __getitem__(self, key: str) -> Any:
        value = self.find(key)
        if value is MISSING:
            raise _MissingKey(key, self)
        return value

    def find(self, key: str) -> Any:
        """Return the value of a key, MISSING when there is none."""
        if self._own is not None and key in self._own:
            value = self._own[key]
            return value(key) if callable(value) else value
        return MISSING if self._source is None else self._source.value(self._index, key)

    def find_shown(self, key: str) -> Any:
        """Return the value of a key as it is shown: METRIC and ARTIFACT stand for what is not loaded for it."""
        if self._own is not None and key in self._own:
            value = self._own[key]
            return METRIC if callable(value) else value
        return MISSING if self._source is None else self._source.shown_values(np.array([self._index]), key)[0]

    def __iter__(self) -> Iterator[str]:
        keys = [] if self._source is None else list(self._source.keys_of(self._index))
        return iter(dict.fromkeys([*keys, *(self._own or ())]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr({key: self.find_shown(key) for key in self})

    def _repr_html_(self) -> str:
        import pandas as pd

        html: str = pd.DataFrame([{key: self.find_shown(key) for key in self}])._repr_html_()  # type: ignore[operator]
        return html

    def series(self, key: str) -> pd.Series[Any]:
        """Return a metric by step.

        Raises InvalidValue for what is no metric of this row.
        """
        if self._source is None or key not in self._source.metric_names or not self._source.present(key)[self._index]:
            raise InvalidValue(f"{key!r} is no metric of this row; row[{key!r}] is the value of anything else.")
        return self._source.metric(key).series(self._index)

    def update(self, values: Mapping[str, Any]) -> None:
        """Set values of this row, and of nothing else; a function is called with the key each time its value is asked for."""
        self._own = {**(self._own or {}), **values}

    def with_values(self, values: Mapping[str, Any]) -> Row:
        """Return a copy of the row that has these values."""
        row = Row(self._source, self._index, self._own)
        row.update(values)
        return row

    @property
    def place(self) -> tuple[TrialSource, int] | None:
        """The source and the row there when all that is here comes from it; None when something was set."""
        return None if self._source is None or self._own is not None else (self._source, self._index)

    @property
    def own_keys(self) -> list[str]:
        """The keys that were set, or of a row that was made, all of them."""
        return list(self._own or ())

    @property
    def source(self) -> TrialSource | None:
        """Where the rest comes from."""
        return self._source
