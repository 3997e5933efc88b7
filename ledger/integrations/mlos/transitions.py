"""What ``Trial.update`` asks of the ledger, as commands.

A trial that waits belongs to nobody: whoever updates it takes it. One that a worker holds is updated by that worker alone,
be it through another handle, or in another process that was sent the storage; by others it can be called off only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from ledger import commands
from ledger import events as ev
from ledger.backends.base import Command, Staged, View
from ledger.errors import InvalidTransition
from ledger.integrations.mlos.handing_out import has_run_out, is_held_by
from ledger.registry import Event
from ledger.state import TrialState, allowed_events
from ledger.status import HELD, Status

#: How a trial ends, by the name of mlos_bench's status; what it carries are the results.
_ENDS: Mapping[str, Callable[[dict[str, Any]], Event]] = {
    "SUCCEEDED": ev.TrialCompleted,
    "FAILED": lambda results: ev.TrialFailed(None, results),
    "TIMED_OUT": ev.TrialTimedOut,
}


class Transitions:
    """The commands on one trial, asked for by one worker."""

    def __init__(self, experiment_id: UUID, trial_id: int, worker: str, lease_seconds: float) -> None:
        self._ids = experiment_id, trial_id
        self._worker, self._lease_seconds = worker, lease_seconds

    def begin(self, attempt: int | None) -> Command:
        """Start the trial if it waits, or was handed to this worker and has not begun; nothing otherwise."""

        def command(view: View) -> list[Staged]:
            state = commands.trial_of(view, *self._ids)
            held = self._attempt(state, attempt)
            if state.status is Status.READY and held == state.attempt:
                return [(state.stream, ev.TrialStarted(held))]
            if state.status is Status.PENDING and held is None:
                return list(commands.start(*self._ids, None, self._worker, self._lease_seconds)(view))
            return []

        return command

    def run(self, attempt: int | None) -> Command:
        """Have the trial running; nothing when this worker runs it already. Refused while another one holds it."""

        def command(view: View) -> list[Staged]:
            state = commands.trial_of(view, *self._ids)
            held = self._attempt(state, attempt)
            if state.status is Status.RUNNING and held == state.attempt:
                return []
            return list(commands.start(*self._ids, held, self._worker, self._lease_seconds)(view))

        return command

    def take(self, attempt: int | None) -> Command:
        """Hold the trial, which begins later; nothing when this worker holds it already. Refused while another one does."""

        def command(view: View) -> list[Staged]:
            state = commands.trial_of(view, *self._ids)
            if self._attempt(state, attempt) is not None and state.status in HELD:
                return []
            if state.status is not Status.PENDING and not has_run_out(view, state):
                raise self._refusal(state, "TrialClaimed")
            commands.require_dependencies(view, state.stream, state.depends_on)
            lost = [] if state.status is Status.PENDING else commands.write_off(state)
            taken = commands.claimed(view, self._worker, state.attempt + 1, self._lease_seconds)
            return [*lost, (state.stream, taken)]

        return command

    def put_back(self, attempt: int | None) -> Command:
        """Let the trial wait again, if this worker was handed it and it has not begun; nothing otherwise."""

        def command(view: View) -> list[Staged]:
            state = commands.trial_of(view, *self._ids)
            held = self._attempt(state, attempt)
            is_ready = state.status is Status.READY and held == state.attempt
            return [(state.stream, ev.TrialReleased(state.attempt))] if is_ready else []

        return command

    def end(self, attempt: int | None, status: str, results: dict[str, Any]) -> Command:
        """End the trial; what a worker reports that has lost it is kept as LateResultReceived. Refused after its end."""

        def command(view: View) -> list[Staged]:
            state = commands.trial_of(view, *self._ids)
            if status == "CANCELED":
                reported: list[Staged] = [(state.stream, ev.ResultsReported(results))] if results else []
                return [*reported, (state.stream, ev.TrialCanceled())]
            held = self._attempt(state, attempt)
            if held is None and state.status in HELD:
                raise self._refusal(state, type(_ENDS[status]({})).__name__)
            return list(commands.finish(*self._ids, held, _ENDS[status](results), self._worker)(view))

        return command

    def _attempt(self, state: TrialState, attempt: int | None) -> int | None:
        """Return the attempt that this worker is at: its handle's, or the one under which it holds the trial."""
        if attempt is None and is_held_by(state, self._worker):
            return state.attempt
        return attempt

    def _refusal(self, state: TrialState, event: str) -> InvalidTransition:
        held = f" It is held by {state.worker}." if state.worker and state.status in HELD else ""
        return InvalidTransition(state.stream, state.status, event, allowed_events(state.status), held)
