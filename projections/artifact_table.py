"""ArtifactTable: what was kept as artifacts of an experiment and its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar
from uuid import UUID

import numpy as np
import pandas as pd

from ledger.events import ArtifactLogged
from ledger.records import Record
from projections.appended import TOMBSTONES, AppendedTable

_TEXTS = ("digest", "kind", "media_type", "saver")


class ArtifactTable(AppendedTable):
    """The artifacts of an experiment and of its trials, every version that was logged.

    Columns: ``trial_id`` (Int64; missing for the experiment's own), ``name`` (string), ``version`` (int64: of the stream,
    which ``artifact(name, version=)`` takes), ``digest`` (string: SHA-256 of the content in hexadecimal, of a directory that
    of its manifest), ``size`` (int64: bytes), ``kind`` (category: file, directory or object), ``files`` (int64: of a
    directory), ``media_type`` and ``saver`` (string; missing when there is none), ``time`` (datetime64[ns, UTC]), ``actor``
    and ``reason`` (string), ``attempt`` (Int64; 0 for none), ``is_current`` (bool: the version that counts now), ``position``
    (int64: of the record). The experiment's own come first, then by trial_id, in order of recording.

    A later version counts instead of an earlier one, unless it is of a worker that had lost the trial by then. An artifact
    whose record was redacted has no row.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> exp = book.experiment("demo")
    >>> trial = exp.new_trial({})
    >>> for losses in ([0.5], [0.5, 0.4]):
    ...     _ = trial.log_artifact(losses, name="losses")
    >>> artifacts = projections.build(projections.ArtifactTable(), book.log).table(exp.id)
    >>> artifacts[["trial_id", "name", "size", "is_current"]].values.tolist()
    [[1, 'losses', 9, False], [1, 'losses', 15, True]]
    """

    name = "artifacts"
    schema_version = 1
    types = frozenset({"ArtifactLogged"}) | TOMBSTONES
    columns: ClassVar[Mapping[str, str]] = {
        "owner": "id", "name": "text", "version": "id", "digest": "text", "size": "id", "kind": "text", "files": "id",
        "media_type": "text", "saver": "text", "time": "time", "actor": "text", "reason": "text", "attempt": "integer",
        "position": "id",
    }  # fmt: skip

    def apply(self, record: Record) -> None:
        """Take in an artifact, or that a trial is hidden."""
        event = record.event
        if not isinstance(event, ArtifactLogged):
            self.owners.apply(record)
            return
        owner = self.owners.number(record.stream)
        if owner is not None and event.digest:  # a redacted one has none
            self.waiting.add(
                owner, event.name, record.version, event.digest, event.size, event.kind, event.files, event.media_type or None,
                event.saver or None, record.happened_at, record.actor, record.reason, event.attempt, record.position,
            )  # fmt: skip

    def table(
        self, experiment_id: UUID, *, trials: Iterable[int] | int | None = None, names: Iterable[str] | str | None = None,
        deleted: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return the artifacts, of all or some ``trials`` and ``names``; with ``trials`` none of the experiment's own."""
        rows = self.chosen(self.owners.of(experiment_id, trials=trials, deleted=deleted))
        if names is not None:
            wanted, known = frozenset([names] if isinstance(names, str) else names), self.rows["name"].extras()
            codes = [code for code, name in enumerate(known) if name in wanted]
            rows = rows[np.isin(self.rows["name"].arrays()[0][rows], codes)]
        owners = self.rows["owner"].arrays()[0][rows]
        rows = rows[np.argsort(self.owners.rows["trial_id"].arrays()[0][owners], kind="stable")]  # a missing one is the least
        frame = self.rows.frame([name for name in self.columns if name not in ("owner", "position")], rows)
        frame.insert(0, "trial_id", self.trial_ids(rows))
        frame["kind"] = frame["kind"].astype("category")
        frame["is_current"] = self._is_current(rows)
        frame["position"] = self.rows["position"].arrays()[0][rows]
        return frame

    def _is_current(self, rows: np.ndarray) -> np.ndarray:
        """Say which rows count: of each owner and name the last, of those that no later attempt had come before."""
        owners, names, attempts = (self.rows[name].arrays()[0][rows] for name in ("owner", "name", "attempt"))
        last: dict[tuple[int, int], int] = {}
        for place, (owner, name, attempt) in enumerate(zip(owners.tolist(), names.tolist(), attempts.tolist(), strict=True)):
            known = last.get((owner, name))
            if known is None or not attempt or attempt >= attempts[known]:
                last[owner, name] = place
        current = np.zeros(len(rows), np.bool_)
        current[list(last.values())] = True
        return current
