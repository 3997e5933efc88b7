"""MLXP's words for where a run stands, and the ledger's: for who reads in either vocabulary, and for the importer."""

from __future__ import annotations

from ledger.state import Status

#: What each status of MLXP means here; each comes back by ``TO_MLXP``.
FROM_MLXP = {
    "STARTING": Status.PENDING,  # submitted to a scheduler, and not begun
    "RUNNING": Status.RUNNING,
    "COMPLETE": Status.SUCCEEDED,
    "FAILED": Status.FAILED,
}

#: MLXP's nearest word for each status. It has none for a run that was killed, which goes on RUNNING for ever.
TO_MLXP = {
    Status.PENDING: "STARTING",
    Status.READY: "STARTING",
    Status.RUNNING: "RUNNING",
    Status.SUCCEEDED: "COMPLETE",
    Status.FAILED: "FAILED",
    Status.PRUNED: "FAILED",
    Status.CANCELED: "FAILED",
    Status.TIMED_OUT: "FAILED",
    Status.LOST: "FAILED",
    Status.ABANDONED: "FAILED",
    Status.UNKNOWN: "FAILED",
}
