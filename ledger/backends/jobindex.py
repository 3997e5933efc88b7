"""Keys of the index of jobs: trials that wait or are leased, per experiment, in the order in which claims want them.

A key is ``j``, the experiment's id (16 bytes), the queue (one byte), the order, and the trial's number (8 bytes):

- ready: priority (higher first), then time, 8 bytes each;
- waiting for its time: the time, 8 bytes;
- leased: the deadline, 8 bytes.
"""

from __future__ import annotations

from uuid import UUID

from ledger.format import JOBS
from ledger.state import Status, TrialState, claim_order

READY, WAITING, LEASED = b"r", b"w", b"l"

_MIDDLE = 1 << 63


def ready_key(state: TrialState) -> bytes:
    """Return the key of a trial that may be claimed now."""
    priority, time, number = claim_order(state)
    order = _ordered(priority) + _ordered(time)
    return queue_prefix(state.experiment_id, READY) + order + number.to_bytes(8, "big")


def job_key(state: TrialState, now: int) -> bytes | None:
    """Return the key under which the trial stands at ``now``, or None when it neither waits nor is leased."""
    if state.deleted_at is not None:
        return None
    if state.status is Status.PENDING:
        if state.scheduled_at is None or state.scheduled_at <= now:
            return ready_key(state)
        return _timed_key(state, WAITING, state.scheduled_at)
    return None if state.deadline is None else _timed_key(state, LEASED, state.deadline)


def possible_keys(state: TrialState) -> list[bytes]:
    """Return every key under which the trial may stand: one whose time has come is moved to the ready by a claim."""
    if state.deleted_at is not None:
        return []
    if state.status is not Status.PENDING:
        return [] if state.deadline is None else [_timed_key(state, LEASED, state.deadline)]
    waiting = [] if state.scheduled_at is None else [_timed_key(state, WAITING, state.scheduled_at)]
    return [ready_key(state), *waiting]


def _timed_key(state: TrialState, queue: bytes, time: int) -> bytes:
    return queue_prefix(state.experiment_id, queue) + _ordered(time) + state.id.to_bytes(8, "big")


def _ordered(number: int) -> bytes:
    """Encode a signed number of 64 bits so that the bytes sort as the numbers do."""
    return (number + _MIDDLE).to_bytes(8, "big")


def queue_prefix(experiment_id: UUID, queue: bytes) -> bytes:
    """Return what the keys of one queue begin with."""
    return JOBS + experiment_id.bytes + queue


def time_of(key: bytes) -> int:
    """Return the time of a waiting trial's key, or the deadline of a leased one's."""
    return int.from_bytes(key[18:26], "big") - _MIDDLE


def trial_of(key: bytes) -> int:
    """Return the trial's number from a key."""
    return int.from_bytes(key[-8:], "big")
