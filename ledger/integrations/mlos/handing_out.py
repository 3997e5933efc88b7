"""Handing trials out: each that waits goes to one storage's process, which holds it while its lease is renewed."""

from __future__ import annotations

from uuid import UUID

from ledger import events as ev
from ledger.backends.base import Command, Staged, View
from ledger.commands import claimed, experiment_of, may_be_tried_again, write_off
from ledger.dependencies import unmet_dependencies
from ledger.rules import check_open
from ledger.state import TrialState
from ledger.status import HELD, Status


def hand_out(experiment_id: UUID, trial_id: int, worker: str, lease_seconds: float, *, running: bool = False) -> Command:
    """Claim one trial if it may be had: one that waits, or whose holder is not heard of any more; else nothing happens.

    With ``running`` also one that nobody holds though it is READY or RUNNING: an import brought it so.
    """

    def command(view: View) -> list[Staged]:
        experiment = experiment_of(view, experiment_id)
        check_open(experiment, ev.TrialClaimed("", 0, 0.0, 0))
        state = view.trial(experiment_id, trial_id)
        if experiment.paused_at is not None or state is None or not _is_for(view, state, worker):
            return []
        taken = (state.stream, claimed(view, worker, state.attempt + 1, lease_seconds))
        if state.status is Status.PENDING:
            return [taken]
        if has_run_out(view, state):
            return [*write_off(state), *([taken] if may_be_tried_again(state) else [])]
        if running and is_nobodys(state):
            return [(state.stream, ev.TrialReleased(state.attempt)), taken]
        return []

    return command


def _is_for(view: View, state: TrialState, worker: str) -> bool:
    is_theirs = state.deleted_at is None and state.assigned_to in ("", worker)
    return is_theirs and not (state.depends_on and unmet_dependencies(state.depends_on, view.trial))


def has_run_out(view: View, state: TrialState) -> bool:
    """Say whether the trial is held by one whose lease has run out."""
    return state.status in HELD and state.deadline is not None and state.deadline < view.now


def is_nobodys(state: TrialState) -> bool:
    """Say whether the trial counts as held, and no lease says by whom."""
    return state.status in HELD and state.deadline is None


def is_held_by(state: TrialState, worker: str) -> bool:
    """Say whether a worker holds the trial, as far as anybody has recorded."""
    return state.status in HELD and state.worker == worker
