"""mlos_bench's words for where a trial stands, and the ledger's."""

from __future__ import annotations

from ledger.state import Status

#: What each status of mlos_bench means here, by name; each comes back by ``TO_MLOS``.
FROM_MLOS = {
    "UNKNOWN": Status.UNKNOWN,
    "PENDING": Status.PENDING,
    "READY": Status.READY,  # handed to a scheduler, and not begun
    "RUNNING": Status.RUNNING,
    "SUCCEEDED": Status.SUCCEEDED,
    "CANCELED": Status.CANCELED,
    "FAILED": Status.FAILED,
    "TIMED_OUT": Status.TIMED_OUT,
}

#: The name of mlos_bench's nearest status. An optimizer is told of what FAILED, and of nothing that was CANCELED: a config
#: whose workers were LOST as often as it may be tried is held against it, one that was given up is not.
TO_MLOS = {
    **{status: name for name, status in FROM_MLOS.items()},
    Status.PRUNED: "CANCELED",
    Status.ABANDONED: "CANCELED",
    Status.LOST: "FAILED",
}

#: The statuses of trials that an optimizer is told of.
LOADED = tuple(status for status, name in TO_MLOS.items() if name in ("SUCCEEDED", "FAILED", "TIMED_OUT"))
