"""EnvironmentTable: what the trials of an experiment ran with, and when that changed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd

from ledger import events as ev
from ledger.records import Record
from projections.appended import TOMBSTONES, AppendedTable, Waiting
from projections.rows import Rows
from projections.value_column import gather


class _Fact(NamedTuple):
    """A column: the kind of its cells, and where in which kind of capture they are."""

    cells: str
    capture: str
    path: tuple[str, ...]


_FACTS = {
    "host": _Fact("text", "command", ("host",)),
    "system": _Fact("text", "environment", ("platform", "system")),
    "distribution": _Fact("text", "environment", ("platform", "distribution")),
    "machine": _Fact("text", "environment", ("platform", "machine")),
    "cpu": _Fact("text", "environment", ("cpu", "model")),
    "cores": _Fact("integer", "environment", ("cpu", "logical_cores")),
    "memory_gib": _Fact("value", "environment", ("memory", "total_gib")),
    "gpus": _Fact("text", "gpus", ("gpus",)),
    "python": _Fact("text", "environment", ("python", "version")),
    "git_commit": _Fact("text", "git", ("commit",)),
    "git_branch": _Fact("text", "git", ("branch",)),
    "git_dirty": _Fact("value", "git", ("is_dirty",)),
    "script": _Fact("text", "script", ("name",)),
    "function": _Fact("text", "function", ("name",)),
    "command": _Fact("text", "command", ("arguments",)),
}
_CHANGES = {
    "owner": "id", "trial": "id", "time": "time", "after": "value", "before": "value", "said": "value", "position": "id",
}  # fmt: skip
_SHOWN_CHANGES = {
    "trial_id": "id", "time": "time", "kind": "text", "before": "text", "after": "text", "changes": "value", "position": "id",
}  # fmt: skip
_DTYPES: dict[str, Any] = {"memory_gib": "float64", "git_dirty": "boolean"}  # also where nothing is known


class EnvironmentTable(AppendedTable):
    """What the trials of an experiment ran with: a row for each trial that was captured, as it was last.

    Columns: ``trial_id`` (Int64; missing for what was said of the experiment itself), ``attempt`` (Int64), ``captured_at``
    (datetime64[ns, UTC]), then of the captures ``host``, ``system``, ``distribution``, ``machine``, ``cpu`` (string),
    ``cores`` (Int64), ``memory_gib`` (float64), ``gpus`` and ``python`` (string), ``git_commit``, ``git_branch`` (string),
    ``git_dirty`` (boolean: there were uncommitted changes), ``script``, ``function`` and ``command`` (string);
    ``capture.<kind>`` (string) with the digest of the capture of each kind, by which its whole content is found
    (``trial.captured``); ``environment.<key>`` with what was recorded by ``capture_environment``, the last time. Whatever is
    not known is missing. The experiment's own row comes first, then by trial_id.

    ``changes`` is the table of the moments at which the environment became another.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> exp.new_trial({}).capture_environment({"rack": 7})
    >>> environments = projections.build(projections.EnvironmentTable(), book.log).table(exp.id)
    >>> environments[["trial_id", "environment.rack"]].values.tolist()
    [[1, 7]]
    """

    name = "environments"
    schema_version = 1
    types = frozenset({"CaptureStored", "TrialCaptured", "EnvironmentChanged", "EnvironmentCaptured"}) | TOMBSTONES
    columns: ClassVar[Mapping[str, str]] = {
        "owner": "id", "attempt": "integer", "time": "time", "kind": "text", "digest": "text", "position": "id",
    }  # fmt: skip

    def __init__(self) -> None:
        facts = {name: fact.cells for name, fact in _FACTS.items()}
        self._captures = Waiting(Rows({"kind": "text", "digest": "text", **facts}))
        self._said = Waiting(Rows({"owner": "id", "time": "time", "environment": "value"}))
        self._changes = Waiting(Rows(_CHANGES))

    def apply(self, record: Record) -> None:
        """Take in what was captured, or that a trial is hidden."""
        event, at = record.event, record.happened_at
        if isinstance(event, ev.CaptureStored):
            facts = (_fact(event, fact) for fact in _FACTS.values())
            self._captures.add(event.kind, event.digest, *facts)
            return
        owner = self.owners.number(record.stream)
        if owner is None:
            return
        if isinstance(event, ev.TrialCaptured):
            for kind, digest in event.captures.items():
                self.waiting.add(owner, event.attempt, at, kind, digest, record.position)
        elif isinstance(event, ev.EnvironmentCaptured):
            self._said.add(owner, at, event.environment)
        elif isinstance(event, ev.EnvironmentChanged):
            self._changes.add(owner, event.trial, at, event.after, event.before, tuple(event.changes), record.position)
        else:
            self.owners.apply(record)

    # -------------------------------------------------------------------------------------------------- tables

    def table(
        self, experiment_id: UUID, *, trials: Iterable[int] | int | None = None, deleted: bool = False
    ) -> pd.DataFrame:  # fmt: skip
        """Return a row for each trial that was captured, of all or some ``trials``; with ``trials`` not the experiment's own."""
        owners = self.owners.of(experiment_id, trials=trials, deleted=deleted)
        rows = self._last(self.chosen(owners))
        said = self._last_said(owners)
        of_rows = self.rows["owner"].arrays()[0][rows]
        there = np.unique(np.concatenate((of_rows, np.fromiter(said, np.int64, len(said)))))
        trial_ids = self.owners.rows["trial_id"].take(there)
        order = np.argsort(trial_ids.arrays()[0], kind="stable")  # a missing one is the least
        there = there[order]
        places = np.zeros(self.owners.rows.length, np.int64)
        places[there] = np.arange(len(there))
        kinds, facts = self._facts(rows, places[of_rows], len(there))
        time, attempt = self._first_cells(rows, places[of_rows], len(there))
        for owner, (at, _) in said.items():
            if time[places[owner]] is None or time[places[owner]] < at:
                time[places[owner]] = at
        made = Rows({"attempt": "integer", "captured_at": "time"})
        made.extend({"attempt": attempt, "captured_at": time})
        columns = {
            "trial_id": trial_ids.take(order).array(),
            **{name: made[name].array() for name in made.buffers},
            **facts,
            **{f"capture.{kind}": kinds[kind] for kind in sorted(kinds)},
            **gather([said[owner][1] if owner in said else {} for owner in there.tolist()], "environment."),
        }
        return pd.DataFrame(columns, pd.RangeIndex(len(there)))

    def changes(self, experiment_id: UUID) -> pd.DataFrame:
        """Return the moments at which trials began to run with something else.

        Columns: ``trial_id`` (int64: the first trial that ran with it), ``time`` (datetime64[ns, UTC]), ``kind`` (string: of
        the capture), ``before`` and ``after`` (string: digests; nothing before the first), ``changes`` (object: a tuple of
        texts that say what is different, of all kinds that changed together), ``position`` (int64). In order of recording.
        """
        owners = self.owners.of(experiment_id, deleted=True)
        kept = self._changes.flush()
        rows = np.flatnonzero(np.isin(kept["owner"].arrays()[0], owners))
        cells = (kept[name].values(rows) for name in ("trial", "time", "after", "before", "said", "position"))
        found = [
            (trial, at, kind, before.get(kind), digest, said, position)
            for trial, at, after, before, said, position in zip(*cells, strict=True)
            for kind, digest in after.items()
        ]
        made = Rows(_SHOWN_CHANGES)
        if found:
            made.extend(dict(zip(made.buffers, zip(*found, strict=True), strict=True)))
        return made.frame()

    def _last(self, rows: Any) -> Any:
        """Return those of the rows that are of the last record of their trial."""
        owners, positions = (self.rows[name].arrays()[0][rows] for name in ("owner", "position"))
        last = np.zeros(self.owners.rows.length, np.int64)
        np.maximum.at(last, owners, positions)
        return rows[positions == last[owners]]

    def _last_said(self, owners: Any) -> dict[int, tuple[int, dict[str, Any]]]:
        kept = self._said.flush()
        rows = np.flatnonzero(np.isin(kept["owner"].arrays()[0], owners))
        cells = (kept[name].values(rows) for name in ("owner", "time", "environment"))
        return {owner: (at, environment) for owner, at, environment in zip(*cells, strict=True)}

    def _facts(self, rows: Any, places: Any, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return for each place the digests by kind, and the facts by name."""
        captures = self._captures.flush()
        every = np.arange(captures.length)
        stored = dict(zip(zip(*(captures[name].values(every) for name in ("kind", "digest")), strict=True), every, strict=True))
        digests: dict[str, Any] = {}
        found: dict[str, Any] = {}
        cells = (self.rows[name].values(rows) for name in ("kind", "digest"))
        for place, kind, digest in zip(places.tolist(), *cells, strict=True):
            if kind not in digests:
                digests[kind] = [None] * count
                found[kind] = np.full(count, -1)
            digests[kind][place] = digest
            found[kind][place] = stored.get((kind, digest), -1)
        facts = {}
        for name, fact in _FACTS.items():
            wanted = found.get(fact.capture, np.full(count, -1))
            known = np.flatnonzero(wanted >= 0)
            made = Rows({name: fact.cells})
            made.resize(count)
            made.write(known, {name: captures[name].values(wanted[known])})
            array = pd.Series(made[name].array())
            facts[name] = array.astype(_DTYPES[name]) if name in _DTYPES else array
        texts = Rows(dict.fromkeys(digests, "text"))
        if digests:
            texts.extend(digests)
        return {kind: texts[kind].array() for kind in digests}, facts

    def _first_cells(self, rows: Any, places: Any, count: int) -> tuple[list[int | None], list[int | None]]:
        times: list[int | None] = [None] * count
        attempts: list[int | None] = [None] * count
        cells = (self.rows[name].values(rows) for name in ("time", "attempt"))
        for place, time, attempt in zip(places.tolist(), *cells, strict=True):
            times[place], attempts[place] = time, attempt
        return times, attempts

    # --------------------------------------------------------------------------------------------- checkpoints

    def save(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        rows, memory = super().save()
        parts = {"captures": self._captures, "said": self._said, "changes": self._changes}
        return {**rows, **{name: part.flush() for name, part in parts.items()}}, memory

    def load(self, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
        super().load(rows, memory)
        self._captures, self._said, self._changes = (Waiting(rows[name]) for name in ("captures", "said", "changes"))


def _fact(event: ev.CaptureStored, fact: _Fact) -> Any:
    """Return what a capture says; None when it is of another kind, or says nothing of that sort."""
    value: Any = event.content if event.kind == fact.capture else None
    for key in fact.path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if fact.path == ("gpus",) and isinstance(value, list):
        value = ", ".join(str(gpu.get("name", "")) if isinstance(gpu, Mapping) else str(gpu) for gpu in value)
    elif fact.path == ("arguments",) and isinstance(value, list):
        value = shlex.join(map(str, value))
    wanted = {"text": str, "integer": int, "value": (float, int, bool)}[fact.cells]
    return value if isinstance(value, wanted) else None  # type: ignore[arg-type]
