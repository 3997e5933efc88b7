"""Claims: which trial a worker gets. The command, and the search for one whose config is wanted.

``where`` is asked outside of the write transaction, so that a slow or failing one holds nobody up; the transaction then
takes the first of those found that is still to be had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from ledger import events as ev
from ledger.backends.base import Backend, Command, Staged, View
from ledger.backends.portable import portable
from ledger.commands import claimed, experiment_of, may_be_tried_again, write_off
from ledger.dependencies import unmet_dependencies
from ledger.errors import InvalidValue
from ledger.rules import check_open
from ledger.state import TrialState, claim_order
from ledger.streams import MAX_TRIAL_ID

_EXPIRED_PER_CLAIM = 64
_PAGE = 256  # trials looked at in one view: a long one would keep freed pages from being used again

#: What a worker wants: values that the config must have, or a function of the config.
Where = Mapping[str, Any] | Callable[[dict[str, Any]], bool]
_MISSING = object()


@portable
def claim(experiment_id: UUID, worker: str, lease_seconds: float, among: Sequence[TrialState] | None = None) -> Command:
    """Claim the next trial of an experiment, after writing off those whose lease has run out; nothing when none waits.

    With ``among``, the first of those that may still be claimed and has the same config.
    """

    def command(view: View) -> list[Staged]:
        state = experiment_of(view, experiment_id)
        check_open(state, ev.TrialClaimed("", 0, 0.0, 0))
        if state.paused_at is not None:
            return []
        late, candidates = _expired(view, experiment_id, worker)
        if among is None:
            candidates += view.ready(experiment_id, worker)
            chosen = min(candidates, key=claim_order, default=None)
        else:
            chosen = next((found for seen in among if (found := _still_there(view, seen, worker)) is not None), None)
        if chosen is not None and not chosen.is_waiting and chosen not in late:
            late.append(chosen)
        staged = [pair for each in late for pair in write_off(each)]
        if chosen is not None:
            staged.append((chosen.stream, claimed(view, worker, chosen.attempt + 1, lease_seconds)))
        return staged

    return command


def _expired(view: View, experiment_id: UUID, worker: str) -> tuple[list[TrialState], list[TrialState]]:
    """Return trials whose lease has run out, and those of them that the worker may try again.

    Not all at once when there are many; but enough to find one to try again, if there is one.
    """
    limit = _EXPIRED_PER_CLAIM
    while True:
        late = view.expired(experiment_id, limit)
        candidates = [state for state in late if _may_retry(view, state, worker)]
        if candidates or len(late) < limit:
            return late, candidates
        limit *= 4


def _may_retry(view: View, state: TrialState, worker: str) -> bool:
    return (
        may_be_tried_again(state)
        and state.assigned_to in ("", worker)
        and not (state.depends_on and unmet_dependencies(state.depends_on, view.trial))
    )


def _still_there(view: View, seen: TrialState, worker: str) -> TrialState | None:
    """Return the trial as it is now if the worker may claim it, and it is still what it was found by."""
    now = view.trial(seen.experiment_id, seen.id)
    if now is None or now.deleted_at is not None or now.config != seen.config or now.assigned_to not in ("", worker):
        return None
    if now.is_waiting:
        is_due = now.scheduled_at is None or now.scheduled_at <= view.now
        return now if is_due and not unmet_dependencies(now.depends_on, view.trial) else None
    is_late = now.deadline is not None and now.deadline < view.now
    return now if is_late and _may_retry(view, now, worker) else None


def find_claimable(backend: Backend, experiment_id: UUID, worker: str, where: Where | None = None) -> list[TrialState]:
    """Return trials that the worker may claim now and wants, in the order of claims, the first one among them.

    None when there is none, or while the experiment is paused. Costs some 20 us for each trial that waits before the first.
    """
    matches = _matcher(where)
    with backend.view() as view:
        state = experiment_of(view, experiment_id)
        check_open(state, ev.TrialClaimed("", 0, 0.0, 0))
        if state.paused_at is not None:
            return []
        # All of them: those that are not wanted must not hide one that is.
        retry = [state for state in view.expired(experiment_id, MAX_TRIAL_ID) if _may_retry(view, state, worker)]
    late = [state for state in retry if matches(state)]
    after: TrialState | None = None
    while True:
        with backend.view() as view:
            page = view.ready(experiment_id, worker, after=after, limit=1 if where is None else _PAGE)
        if not page:
            return sorted(late, key=claim_order)
        after = page[-1]
        found = [state for state in page if matches(state)]
        found += [state for state in late if claim_order(state) <= claim_order(after)]
        if found:
            return sorted(found, key=claim_order)


def _matcher(where: Where | None) -> Callable[[TrialState], bool]:
    if where is None:
        return lambda state: True
    if isinstance(where, Mapping):
        wanted = dict(where)
        return lambda state: all(_same(state.config.get(name, _MISSING), value) for name, value in wanted.items())
    if not callable(where):
        raise InvalidValue(f"where is {where!r}; give a dict of config values, or a function of the config.")
    predicate = where
    return lambda state: bool(predicate(dict(state.config)))


def _same(one: Any, other: Any) -> bool:
    """Say whether two values are equal; True and 1 are not."""
    return (type(one) is bool) == (type(other) is bool) and bool(one == other)
