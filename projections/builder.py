"""Builder: fold a projection from the log up to a position."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ledger.errors import InvalidValue
from ledger.log import EventLog
from ledger.records import Record
from projections.projection import Projection

P = TypeVar("P", bound=Projection)
Progress = Callable[[int, int], None]

_REPORT_EVERY = 1024
_BATCH_RECORDS = 2_000  # a batch costs as much as some hundred records; more would not stay in the processor's cache


def build(projection: P, log: EventLog, *, as_of: int | None = None, progress: Progress | None = None) -> P:
    """Fold the log into the projection up to the position ``as_of``, the head by default, and return the projection.

    It goes on from where the projection stands (``projection.position``), so folding again later reads only what is
    new. An ``as_of`` beyond the head means the head. Records appended while it folds are left for the next time.

    Raises InvalidValue for an ``as_of`` that is no position, or is before the place where the projection stands (a fold
    cannot go back: build a new instance), or when a payload has been redacted since it was folded (it may still hold it:
    build a new instance), and what ``apply`` raises, with a note that names the record.

    Costs one pass over the records after ``projection.position``. ``progress`` is called now and then, and at
    the end of a long fold, with the position reached and the one to be reached.

    >>> import ledger, projections
    >>> book = ledger.open("memory:")
    >>> trial = book.experiment("demo").new_trial({"lr": 0.1})
    >>> table = projections.build(projections.Experiments(), book.log)
    >>> trial.complete({"loss": 0.5})
    >>> table.position, projections.build(table, book.log).position
    (2, 5)
    """
    _check_projection(projection)
    head = log.head
    target = head if as_of is None else min(check_position(as_of), head)
    if target < projection.position:
        raise InvalidValue(
            f"the projection {projection.name!r} stands at position {projection.position}, after {target}, and a fold cannot "
            f"go back. Build a new one: build({type(projection).__name__}(), log, as_of={target})."
        )
    redactions = log.backend.redactions().total
    if projection.position and projection.redactions != redactions:
        raise InvalidValue(
            f"payloads were redacted since the projection {projection.name!r} was folded, and it may still hold them. "
            f"Build a new one: build({type(projection).__name__}(), log)."
        )
    projection.redactions = redactions
    try:
        _fold(projection, log, target, progress)
    finally:
        projection.finish()
    return projection


def _fold(projection: Projection, log: EventLog, target: int, progress: Progress | None) -> None:
    told = began = projection.position
    while projection.position < target:
        records, reached = _batch(log, projection.position, projection.types, target)
        projection.apply_all(records)
        projection.position = reached
        del records  # before the next ones are read: they are given the same memory, which the processor still has at hand
        is_last = projection.position == target and told > began
        if progress is not None and (is_last or projection.position >= told + _REPORT_EVERY):
            told = projection.position
            progress(told, target)


def _batch(log: EventLog, after: int, types: frozenset[str] | None, target: int) -> tuple[list[Record], int]:
    """Return records after a position, up to a target, and the position up to which nothing was left out."""
    records, reached = log.page(after, types)
    while reached < min(target, after + _BATCH_RECORDS):
        page, reached = log.page(reached, types)
        records += page
    if reached > target:
        records = [record for record in records if record.position <= target]
    return records, min(reached, target)


def check_position(as_of: object) -> int:
    """Return ``as_of`` when it is a position, an int from 0; InvalidValue otherwise.

    >>> check_position(7)
    7
    """
    if type(as_of) is not int or as_of < 0:
        raise InvalidValue(
            f"as_of is {as_of!r}; give a position in the log: an int from 0 (before the first record), as record.position "
            "and book.log.head are. Leave it out for the newest state."
        )
    return as_of


def check_kind(kind: type[Projection]) -> None:
    """Raise InvalidValue unless a class of projections says its name and its schema version."""
    what = f"the projection {kind.__qualname__}"
    name, version = getattr(kind, "name", None), getattr(kind, "schema_version", None)
    if type(name) is not str or not name:
        raise InvalidValue(f"{what} has the name {name!r}; give its class a text: name = 'failures'.")
    if type(version) is not int or version < 1:
        raise InvalidValue(f"{what} has the schema_version {version!r}; give its class an int from 1: schema_version = 1.")


def _check_projection(projection: object) -> None:
    if not isinstance(projection, Projection):
        raise InvalidValue(f"{projection!r} is no projection; give an instance of a class derived from Projection.")
    check_kind(type(projection))
