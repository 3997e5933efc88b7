"""Keys of the index of jobs: trials that wait or are leased, per experiment, in the order in which claims want them.

A key is ``j``, the experiment's id (16 bytes), the queue (one byte), and:

- ``r``, ready for any worker: the order (priority, higher first, then time, then the trial's number; 8 bytes each);
- ``a``, ready for the worker it is assigned to: a digest of the worker's name (16 bytes), the order;
- ``w``, waiting for its time: the time, the trial's number;
- ``l``, leased: the deadline, the trial's number;
- ``b``, blocked by a dependency: the trial's number, the dependency's experiment and number;
- ``d``, depended on: the number of the dependency, the experiment and number of a trial that waits for it.

A trial that waits stands under ``b`` once for each dependency that has not SUCCEEDED, and under ``r``, ``a`` or ``w``
when there is none. It stands under ``d`` with each of its dependencies, so that one that ends finds it.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from ledger.dependencies import dependency
from ledger.format import JOBS
from ledger.state import TrialState, claim_order
from ledger.streams import Subject

READY, ASSIGNED, WAITING, LEASED, BLOCKED, DEPENDED_ON = b"r", b"a", b"w", b"l", b"b", b"d"

_MIDDLE = 1 << 63
_ORDER_BYTES = 24


def order_key(state: TrialState) -> bytes:
    """Return the trial's place among those that are ready, in bytes that sort as ``claim_order`` does."""
    priority, time, number = claim_order(state)
    return _ordered(priority) + _ordered(time) + number.to_bytes(8, "big")


def order_of(key: bytes) -> bytes:
    """Return the order from a key of one of the queues of the ready."""
    return key[-_ORDER_BYTES:]


def ready_prefixes(experiment_id: UUID, worker: str) -> list[bytes]:
    """Return what the keys of the queues begin with that a worker claims from."""
    anyone = queue_prefix(experiment_id, READY)
    return [anyone, _assigned_prefix(experiment_id, worker)] if worker else [anyone]


def _assigned_prefix(experiment_id: UUID, worker: str) -> bytes:
    return queue_prefix(experiment_id, ASSIGNED) + hashlib.sha256(worker.encode()).digest()[:16]


def ready_key(state: TrialState) -> bytes:
    """Return the key of a trial that may be claimed now."""
    return ready_prefixes(state.experiment_id, state.assigned_to)[-1] + order_key(state)


def place_key(state: TrialState, now: int) -> bytes:
    """Return the key of a trial that waits, with nothing but its time before it."""
    if state.scheduled_at is None or state.scheduled_at <= now:
        return ready_key(state)
    return _timed_key(state, WAITING, state.scheduled_at)


def place_keys(state: TrialState) -> list[bytes]:
    """Return the keys under which it may stand then: one whose time has come is moved to the ready by a claim."""
    waiting = [] if state.scheduled_at is None else [_timed_key(state, WAITING, state.scheduled_at)]
    return [ready_key(state), *waiting]


def lease_keys(state: TrialState) -> list[bytes]:
    """Return the key of a trial that is leased; none of one that is not."""
    is_leased = state.deadline is not None and state.deleted_at is None
    return [_timed_key(state, LEASED, state.deadline or 0)] if is_leased else []


def dependant_keys(state: TrialState) -> list[bytes]:
    """Return the keys under which a trial that waits is found by its dependencies."""
    own = state.experiment_id.bytes + state.id.to_bytes(8, "big")
    return [dependants_prefix(dependency(stream)) + own for stream in state.depends_on]


def dependants_prefix(subject: Subject) -> bytes:
    """Return what the keys of the trials that wait for a trial begin with."""
    return queue_prefix(subject.experiment_id, DEPENDED_ON) + (subject.trial_id or 0).to_bytes(8, "big")


def dependant_of(key: bytes) -> tuple[UUID, int]:
    """Return the trial that waits, from such a key."""
    return UUID(bytes=key[-24:-8]), trial_of(key)


def blocked_prefix(state: TrialState) -> bytes:
    """Return what the keys begin with that say what a trial is blocked by."""
    return queue_prefix(state.experiment_id, BLOCKED) + state.id.to_bytes(8, "big")


def blocked_key(state: TrialState, stream: str) -> bytes:
    """Return the key that says that a trial is blocked by the dependency."""
    subject = dependency(stream)
    return blocked_prefix(state) + subject.experiment_id.bytes + (subject.trial_id or 0).to_bytes(8, "big")


def possible_keys(state: TrialState) -> list[bytes]:
    """Return every key under which the trial may stand, whatever has become of its dependencies and of the time."""
    if not state.is_waiting:
        return lease_keys(state)
    if not state.depends_on:
        return place_keys(state)
    return [*place_keys(state), *dependant_keys(state), *(blocked_key(state, stream) for stream in state.depends_on)]


def _timed_key(state: TrialState, queue: bytes, time: int) -> bytes:
    return timed_prefix(state.experiment_id, queue, time) + state.id.to_bytes(8, "big")


def timed_prefix(experiment_id: UUID, queue: bytes, time: int) -> bytes:
    """Return what the keys begin with of the trials that wait for a time, or whose lease ends then."""
    return queue_prefix(experiment_id, queue) + _ordered(time)


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
    """Return the trial's number from a key, or from an order."""
    return int.from_bytes(key[-8:], "big")
