"""Waiting for work, and claiming it: what ``Experiment.claim`` and ``Experiment.wait`` do."""

from __future__ import annotations

import math
import time
from typing import Any
from uuid import UUID

from ledger import events as ev
from ledger.claims import Where, claim, find_claimable
from ledger.errors import InvalidValue
from ledger.log import EventLog
from ledger.tail import Bell

#: How long to sleep at most: the doorbell may be missed where file events are.
POLL_SECONDS = 0.5

Taken = tuple[str, ev.TrialClaimed]


def take(
    log: EventLog, experiment_id: UUID, worker: str, seconds: float, where: Where | None = None, actor: str | None = None
) -> Taken | None:
    """Claim a trial, and return its stream and the claim; None when there is none to be had."""
    while True:
        among = None if where is None else find_claimable(log.backend, experiment_id, worker, where)
        if among == []:
            return None
        appended = log.execute(claim(experiment_id, worker, seconds, among), actor=actor)
        stream, event = appended.events[-1] if appended.events else ("", None)
        if isinstance(event, ev.TrialClaimed):
            return stream, event
        if among is None:
            return None
        # Others took all that were found: look again.


def wait_for_work(
    log: EventLog, experiment_id: UUID, worker: str, where: Where | None = None, timeout: float | None = None
) -> bool:
    """Return True when there is a trial for the worker to claim, or False when there was none for ``timeout`` seconds.

    It sleeps until somebody commits, until the next scheduled time, or until the next lease runs out.
    """
    end = deadline_in(timeout)
    bell = Bell()
    stop = log.backend.listen(bell.ring)
    try:
        while True:
            bell.clear()  # before looking: what comes after the look rings again
            if find_claimable(log.backend, experiment_id, worker, where):
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            bell.wait(min(left, POLL_SECONDS, _seconds_to_next(log, experiment_id)))
    finally:
        stop()


def deadline_in(timeout: Any) -> float:
    """Return the monotonic time at which a wait ends, infinity for None; InvalidValue for what is no time."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise InvalidValue(f"timeout is {timeout!r}; give a number of seconds from 0, or None to wait for ever.")
    return time.monotonic() + timeout


def _seconds_to_next(log: EventLog, experiment_id: UUID) -> float:
    with log.backend.view() as view:
        moment = view.next_due(experiment_id)
        return math.inf if moment is None else (moment - view.now) / 1e9
