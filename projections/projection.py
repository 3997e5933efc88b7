"""Projection: the contract of everything that builds a table from the log."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pandas as pd

from ledger import events
from ledger.records import Record
from ledger.registry import Event
from projections.rows import Rows

#: Names of the event types that may change what is known of an experiment or a trial: the whole vocabulary, without
#: the types that only add to its history. Metrics are most of many logs; a fold that does not need them reads past them.
STATE_EVENTS = frozenset(
    name for name in events.__all__ if isinstance(kind := getattr(events, name), type) and issubclass(kind, Event)
) - {
    "CaptureStored", "ClockSkewed", "EnvironmentCaptured", "EnvironmentChanged", "ExperimentsMerged", "MetricsLogged",
    "NoteAdded", "NoteAmended", "PayloadRedacted", "TelemetryLogged", "TrialCaptured",
}  # fmt: skip


class Projection(ABC):
    """Fold records into a table.

    Derive from it, name it, say what one record changes (``apply``) and how the table looks (``table``). Then
    ``Tables.table`` shows it now and as of any position or time, keeps checkpoints of it, and folds only what is new.

    What a projection knows is in two places, which checkpoints keep: ``rows``, with the columns that the class names in
    ``columns`` (name to kind: ``id`` for ints, ``integer`` for ints or None, ``time`` for ns since 1970 UTC, ``flag``, ``text``,
    ``status``, and ``value`` for floats and whatever else can be recorded; see ``projections.buffers``), for what grows with
    the log; and ``memory``, a dict of values that can be recorded, for the rest.

    **Guarantees** of the builder: ``apply`` gets each record once, in order of position, from the first on; it gets no
    record after the position asked for; ``position`` is the place in the log that the instance stands for.

    **Duties** of the projection: it can be made without arguments; ``apply`` is pure, in that the instance depends on
    nothing but the records it was given (no clock, no file, no random number), and keeps what it is given unchanged;
    ``table`` changes nothing. What the vocabulary's own events mean is said by ``ledger.state`` (``evolve_trial``,
    ``evolve_experiment``): ask it rather than saying it again. ``schema_version`` is raised whenever the code would make
    another table of the same records, so that nothing saved by the older code is mistaken for it. ``name`` is its own: that
    of no table of the package, and of no other class that is shown of the same ledger.

    ``types`` are the names of the event types wanted, None for all; the log may skip whole blocks without them.

    **Threads.** An instance belongs to one thread at a time; ``Tables`` sees to that.

    >>> import ledger, projections
    >>> class FailureTable(projections.Projection):
    ...     name = "failures"
    ...     schema_version = 1
    ...     types = frozenset({"TrialFailed"})
    ...     columns = {"trial": "text", "error": "text", "failed_at": "time"}
    ...
    ...     def apply(self, record):
    ...         error = record.event.error
    ...         name = error.type if error else "unknown"
    ...         self.rows.append(trial=record.stream, error=name, failed_at=record.happened_at)
    ...
    ...     def table(self):
    ...         return self.rows.frame().groupby("error").size().rename("trials").reset_index()
    >>> book = ledger.open("memory:")
    >>> for error in (OSError("disk full"), ValueError("batch"), OSError("disk full")):
    ...     book.experiment("demo").new_trial({}).fail(error)
    >>> tables = projections.Tables(book)
    >>> tables.table(FailureTable).to_dict("list")
    {'error': ['OSError', 'ValueError'], 'trials': [2, 1]}
    >>> tables.table(FailureTable, as_of=5).to_dict("list")
    {'error': ['OSError'], 'trials': [1]}
    """

    name: ClassVar[str]
    schema_version: ClassVar[int]
    types: ClassVar[frozenset[str] | None] = None
    columns: ClassVar[Mapping[str, str]] = {}

    rows: Rows
    memory: dict[str, Any]

    #: The last position that the instance stands for, and how many payloads had been redacted then; the builder's to set.
    position: int = 0
    redactions: int = 0

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        made.rows, made.memory = Rows(cls.columns), {}
        return made

    @abstractmethod
    def apply(self, record: Record) -> None:
        """Take in the next record.

        A record of a registered type may hold an ``UnknownEvent``, when it was written by a newer version. An instance
        whose ``apply`` raised is not used again.
        """

    def apply_all(self, records: Sequence[Record]) -> None:
        """Take in the next records, in order, one by one with ``apply`` unless a class knows a faster way to the same."""
        for record in records:
            try:
                self.apply(record)
            except Exception as error:
                error.add_note(f"Folding {self.name!r}, at position {record.position}: {record.type} of {record.stream!r}.")
                raise

    def finish(self) -> None:  # noqa: B027 - most put nothing off
        """Complete what ``apply_all`` has put off; the builder calls it when it stops, also where it was interrupted."""

    @abstractmethod
    def table(self, *args: Any, **kwargs: Any) -> pd.DataFrame:
        """Return the table as of ``position``; the arguments, if any, are the projection's own (which experiment ...)."""

    def save(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        """Return what a checkpoint keeps: rows by name, and values that can be recorded."""
        return {"rows": self.rows}, self.memory

    def load(self, rows: dict[str, Rows], memory: dict[str, Any]) -> None:
        """Take up what ``save`` gave, in an instance that is new."""
        self.rows, self.memory = rows["rows"], memory
