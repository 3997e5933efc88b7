"""TrialSource: everything that a Reader shows of trials, as of one position; made once, and never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, Final, TypeVar
from uuid import UUID

import numpy as np

from ledger.artifacts.artifact import Artifact
from ledger.errors import InvalidQuery, UnknownKey
from ledger.nearest import find_nearest
from projections.columns import MISSING
from projections.field import Field, Mask, Places
from projections.metric import Metric
from projections.metric_series import REDUCTIONS, MetricSeries
from projections.metric_table import MetricTable
from projections.tables import Tables
from projections.trial_part import TrialPart

T = TypeVar("T")

_PREFIXES: Final = ("artifact.", "config.", "info.", "metric.", "result.")  # of keys that are no metrics
METRIC, ARTIFACT = "METRIC", "ARTIFACT"  # stand for what is not loaded


class TrustedArtifact(Artifact):
    """An artifact whose pickles are loaded without being asked for it again."""

    def load(self, *, allow_pickle: bool = True) -> Any:
        """Return the object again, as ``Artifact.load``."""
        return super().load(allow_pickle=allow_pickle)


class TrialSource:
    """The trials of some experiments, a row each, in the order in which the experiments were made and then by trial_id.

    This is all that the Reader knows of where its rows come from: the tables of trials, metrics and artifacts, and
    ``TrialAnnotations``. Columns are made into fields when they are looked at, metrics and artifacts when one is.
    """

    def __init__(
        self, tables: Tables, experiments: list[tuple[UUID, str]], position: int, *, allow_pickle: bool = False,
        deleted: bool = False,
    ) -> None:  # fmt: skip
        self._tables, self._position, self._deleted = tables, position, deleted
        self._artifact = TrustedArtifact if allow_pickle else Artifact
        self._parts = [TrialPart(tables, identifier, name, position, deleted=deleted) for identifier, name in experiments]
        self._lengths = [len(part.trials) for part in self._parts]
        self._fields: dict[str, Field] = {}
        self._metrics: dict[str, Metric] = {}
        self.rows = sum(self._lengths)

    # --------------------------------------------------------------------------------------------------- keys

    @cached_property
    def field_keys(self) -> list[str]:
        """The keys of fields that some trial may have: those of the trial's own values and of what is said of it."""
        return sorted(set().union(*(part.makers for part in self._parts)))

    @cached_property
    def artifact_keys(self) -> list[str]:
        """The keys of artifacts: ``artifact.TYPE.`` and, with a folder, ``artifact.TYPE..FOLDER``."""
        return sorted(set().union(*(part.artifacts for part in self._parts)))

    @cached_property
    def metric_names(self) -> dict[str, str]:
        """The names of the metrics by key: the same, with ``metric.`` before it where it would be the key of something else."""
        names = sorted(set().union(*(self._read(part, self._names) for part in self._parts)))
        return {f"metric.{name}" if name.startswith(_PREFIXES) else name: name for name in names}

    @cached_property
    def keys(self) -> list[str]:
        """Every key that at least one trial has, sorted."""
        return sorted(key for key in [*self.field_keys, *self.metric_names, *self.artifact_keys] if self.present(key).any())

    def present(self, key: str) -> Mask:
        """Say which rows have the key, which is one of the keys."""
        if key in self.metric_names:
            return self.metric(key).present
        field = self.field(key)
        return self._marked(lambda part: part.artifacts.get(key, ())) if field is None else field.present

    def keys_of(self, row: int) -> Iterator[str]:
        """Return the keys that a row has, sorted."""
        return (key for key in self.keys if self.present(key)[row])

    # ------------------------------------------------------------------------------------------------- values

    def field(self, key: str) -> Field | None:
        """Return the field of a key, None when it is the key of none; metrics and artifacts are no fields."""
        field = self._fields.get(key)
        if field is None:
            makers = [part.makers.get(key) for part in self._parts]
            if not any(makers):
                return None
            parts = [None if maker is None else maker() for maker in makers]
            field = self._fields[key] = Field.joined(parts, self._lengths)
        return field

    def is_lazy(self, key: str) -> bool:
        """Say whether a key is that of a metric or of artifacts."""
        return self.field(key) is None and (key in self.metric_names or key in self.artifact_keys)

    def knows(self, key: str) -> bool:
        """Say whether a key is one that trials may have."""
        return self.field(key) is not None or self.is_lazy(key)

    def metric(self, key: str) -> Metric:
        """Return the metric of a key, read when the first one is asked for."""
        metric = self._metrics.get(key)
        if metric is None:
            trials = [part.trials for part in self._parts]
            metric = self._metrics[key] = Metric(
                self._series(key, moments=False), trials, lambda: self._series(key, moments=True)
            )
        return metric

    def _series(self, key: str, *, moments: bool) -> list[MetricSeries | None]:
        """Return the series of a metric, of each part; with its steps when ``moments``."""
        name = self.metric_names[key]

        def show(table: MetricTable, identifier: UUID) -> MetricSeries | None:
            if name not in self._names(table, identifier):
                return None
            return table.series(identifier, name, moments=moments, deleted=self._deleted)

        return [self._read(part, show) for part in self._parts]

    def _names(self, table: MetricTable, identifier: UUID) -> list[str]:
        return table.names(identifier, deleted=self._deleted)

    def _read(self, part: TrialPart, show: Callable[[MetricTable, UUID], T]) -> T:
        return self._tables.read(MetricTable, part.experiment_id, self._position, show)

    def value(self, row: int, key: str) -> Any:
        """Return what a row has under a key: of a metric its values, of artifacts a dict by file name; MISSING when nothing."""
        field = self.field(key)
        if field is not None:
            return field.value(row)
        if key.startswith("artifact."):
            return self._artifacts_of(row, key)
        return self.metric(key).values(row) if key in self.metric_names else MISSING

    def values(self, rows: Places, key: str) -> list[Any]:
        """Return what some rows have under a key, as ``value`` does."""
        field = self.field(key)
        if field is not None:
            return field.values(rows)
        if key in self.metric_names:
            return self.metric(key).values_of(rows)
        return [self.value(row, key) for row in rows.tolist()]

    def shown_values(self, rows: Places, key: str) -> list[Any]:
        """Return what some rows have under a key, METRIC or ARTIFACT in place of what is loaded only when it is asked for."""
        field = self.field(key)
        if field is not None:
            return field.values(rows)
        word = METRIC if key in self.metric_names else ARTIFACT
        return [word if is_there else MISSING for is_there in self.present(key)[rows].tolist()]

    def _artifacts_of(self, row: int, key: str) -> Any:
        backend = self._tables.book.log.backend
        for part, length in zip(self._parts, self._lengths, strict=True):
            if row < length:
                files = part.artifacts.get(key, {}).get(row, {})
                records = backend.read_positions(list(files.values()))
                artifacts = [self._artifact.of_record(backend.blobs, record) for record in records]
                return dict(zip(files, artifacts, strict=True)) or MISSING
            row -= length
        return MISSING

    def _has_artifact(self, key: str) -> Mask:
        """Say which rows have artifacts under a key, or one of that name."""
        name = key.removeprefix("artifact.")
        return self._marked(lambda part: [*part.artifacts.get(key, ()), *part.rows_with_artifact(name)])

    def _marked(self, rows: Callable[[TrialPart], Iterable[int]]) -> Mask:
        marks = np.zeros(self.rows, dtype=np.bool_)
        begin = 0
        for part, length in zip(self._parts, self._lengths, strict=True):
            marks[[begin + row for row in rows(part)]] = True
            begin += length
        return marks

    # ------------------------------------------------------------------------------------------------ queries

    def find_searchable(self, key: str) -> tuple[str, Field | None]:
        """Return the field of a key for the dialect ``mlxp``, in which a key that nobody has is no error."""
        return key, self.field(key)

    def find_existing(self, key: str) -> tuple[str, Field | None]:
        """Return a field that is present where a trial has the key, be it of a metric or an artifact; None for an unknown key."""
        try:
            return self.find(key)
        except UnknownKey:
            return key, None
        except InvalidQuery:
            name = self._metric_key(key)
            present = self._has_artifact(key) if name is None else self.metric(name).present
            return key, Field("bool", present, present)

    def find(self, key: str) -> tuple[str, Field | None]:
        """Return the full name and the field of a key: its own, ``info.KEY``, or the reduction of a metric.

        Raises UnknownKey, naming the nearest key, and InvalidQuery for metrics and artifacts themselves.
        """
        for name in (key, f"info.{key}"):
            field = self.field(name)
            if field is not None:
                return name, field
        if self._metric_key(key) is not None:
            raise InvalidQuery(
                f"{key!r} is a metric, of many values a trial. Say which: {', '.join(f'{key}.{how}' for how in REDUCTIONS)}."
            )
        metric, _, how = key.rpartition(".")
        reduced = self._metric_key(metric) if how in REDUCTIONS else None
        if reduced is not None:
            return f"{reduced}.{how}", self.metric(reduced).reduced(how)
        if key.startswith("artifact.") and self._has_artifact(key).any():
            raise InvalidQuery(f"{key!r} is an artifact, which has no value. Ask whether it is there: exists({key!r}).")
        if not self.rows:
            return key, None
        raise self.unknown(key)

    def _metric_key(self, key: str) -> str | None:
        """Return the key of a metric that was named by its key or, with ``metric.`` before it or without, its name."""
        ways = (key, f"metric.{key}", key.removeprefix("metric."))
        return next((each for each in ways if each in self.metric_names), None)

    def unknown(self, key: str) -> UnknownKey:
        """Return the error for a key that nothing has, which names the nearest one."""
        stem, _, how = key.rpartition(".")
        known = [*self.field_keys, *self.metric_names, *self.artifact_keys]
        below = [each for each in known if each.startswith(f"{key}.")]
        ending = [each for each in known if each.endswith(f".{key}")]
        nearest = next(iter(ending), None) or self._metric_key(stem) or find_nearest(key, known)
        if how in REDUCTIONS and (metric := find_nearest(stem, self.metric_names)) is not None:
            hint = f"Did you mean {f'{metric}.{how}'!r}?"
        elif below:
            hint = f"There is {', '.join(map(repr, below[:3]))}" + (" and more." if len(below) > 3 else ".")
        elif nearest is None:
            hint = "reader.fields lists the keys."
        elif nearest in self.metric_names:
            hint = f"Did you mean one of {', '.join(f'{nearest}.{each}' for each in REDUCTIONS)}?"
        else:
            hint = f"Did you mean {nearest!r}?"
        return UnknownKey(f"no trial has the key {key!r}. {hint}", key)
