"""Dependencies: the trials that must have SUCCEEDED before another one is claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from ledger.status import TrialState
from ledger.streams import Subject, subject_of

#: How to find a trial by the experiment's id and its own number.
Find = Callable[[UUID, int], TrialState | None]


def dependency(stream: str) -> Subject:
    """Return whom a dependency is about; the log has checked that it is a trial."""
    subject = subject_of(stream)
    assert subject is not None
    assert subject.trial_id is not None
    return subject


def find_dependency(stream: str, find: Find) -> TrialState | None:
    """Return the trial that a dependency names, or None when it is not in this ledger (it was not merged)."""
    subject = dependency(stream)
    return find(subject.experiment_id, subject.trial_id or 0)


def unmet_dependencies(depends_on: Iterable[str], find: Find) -> list[str]:
    """Return the streams of those that have not SUCCEEDED."""
    unmet = []
    for stream in depends_on:
        found = find_dependency(stream, find)
        if found is None or not found.meets_dependency:
            unmet.append(stream)
    return unmet


def standing(stream: str, find: Find) -> str:
    """Say how a dependency stands, in a word or two."""
    found = find_dependency(stream, find)
    return "not in this ledger" if found is None else "deleted" if found.deleted_at is not None else str(found.status)
