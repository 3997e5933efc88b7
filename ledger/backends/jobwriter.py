"""JobWriter: keeps the index of jobs in step with the trials, inside a write transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from ledger.backends.jobindex import (
    blocked_key,
    blocked_prefix,
    dependant_keys,
    dependant_of,
    dependants_prefix,
    lease_keys,
    place_key,
    place_keys,
    possible_keys,
    ready_key,
    trial_of,
)
from ledger.backends.view import LmdbView
from ledger.dependencies import unmet_dependencies
from ledger.format import Checks
from ledger.state import TrialState
from ledger.streams import Subject


class JobWriter:
    """Put and delete the entries of trials whose state changes."""

    def __init__(self, view: LmdbView, checks: Checks, txn: Any) -> None:
        self._view, self._checks, self._txn = view, checks, txn

    def move(self, before: TrialState | None, after: TrialState) -> None:
        """Let the trial stand where its state says; the states of all trials are known as they are afterwards."""
        if before is after:
            return
        if before is None or _standing(before) != _standing(after):
            new = self._keys(after)
            for key in possible_keys(before) if before is not None else ():
                if key not in new:
                    self._txn.delete(key)
            for key in new:
                self._put(key)
        if after.meets_dependency != (before is not None and before.meets_dependency):
            self._tell_dependants(after)

    def _keys(self, state: TrialState) -> list[bytes]:
        if not state.is_waiting:
            return lease_keys(state)
        if not state.depends_on:
            return [place_key(state, self._view.now)]
        unmet = [blocked_key(state, stream) for stream in unmet_dependencies(state.depends_on, self._view.trial)]
        return [*dependant_keys(state), *(unmet or [place_key(state, self._view.now)])]

    def _tell_dependants(self, state: TrialState) -> None:
        """Let the trials go that waited for this one alone; or let them wait, when it does not count any more."""
        prefix = dependants_prefix(Subject(state.experiment_id, state.id))
        for key, _ in list(self._view.scan(prefix)):
            dependant = self._view.job(*dependant_of(key))
            if not dependant.is_waiting:
                continue  # it left in this very transaction
            blocked = blocked_key(dependant, state.stream)
            if not state.meets_dependency:
                self._put(blocked)
                for place in place_keys(dependant):
                    self._txn.delete(place)
                continue
            self._txn.delete(blocked)
            if next(self._view.scan(blocked_prefix(dependant)), None) is None:
                self._put(place_key(dependant, self._view.now))

    def promote(self, experiment_id: UUID, due: Iterable[bytes]) -> None:
        """Move trials whose time has come from the waiting to the ready: each once, so that claiming stays O(log n)."""
        for key in list(due):
            self._txn.delete(key)
            self._put(ready_key(self._view.job(experiment_id, trial_of(key))))

    def _put(self, key: bytes) -> None:
        self._txn.put(key, self._checks.seal(key, b""))


def _standing(state: TrialState) -> tuple[object, ...]:
    """Return what decides under which keys a trial stands."""
    return state.is_waiting, state.deadline, state.deleted_at is None, state.assigned_to if state.is_waiting else ""
