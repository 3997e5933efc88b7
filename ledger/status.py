"""Where an experiment or a trial stands: its status, and its state as one value."""

import enum
from typing import Any
from uuid import UUID

import msgspec

from ledger.events import Direction
from ledger.parts import Arm, Bounds, ErrorInfo
from ledger.streams import experiment_stream, trial_stream


class Status(enum.StrEnum):
    """Where a trial stands. UNKNOWN is for imports that cannot say."""

    PENDING = "PENDING"
    READY = "READY"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PRUNED = "PRUNED"
    CANCELED = "CANCELED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"
    ABANDONED = "ABANDONED"
    UNKNOWN = "UNKNOWN"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is expected to happen to the trial."""
        return self not in UNFINISHED


UNFINISHED = frozenset({Status.PENDING, Status.READY, Status.RUNNING})
HELD = frozenset({Status.READY, Status.RUNNING})  # a worker has a lease on it
ENDED = frozenset(Status) - UNFINISHED


class ExperimentState(msgspec.Struct, frozen=True, omit_defaults=True):
    """An experiment as its events left it; times are ns since 1970 UTC."""

    id: UUID
    name: str
    objectives: dict[str, Direction] = {}
    description: str = ""
    created_at: int = 0
    next_trial_id: int = 1
    tags: tuple[str, ...] = ()
    attributes: dict[str, dict[str, Any]] = {}
    bounds: dict[str, Bounds] = {}
    parents: tuple[str, ...] = ()  # streams
    sealed_at: int | None = None
    deleted_at: int | None = None
    paused_at: int | None = None
    captures: dict[str, str] = {}  # kind -> digest, of what its trials ran with last

    @property
    def stream(self) -> str:
        """The name of the experiment's stream."""
        return experiment_stream(self.id)


class TrialState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A trial as its events left it; times are ns since 1970 UTC."""

    experiment_id: UUID
    id: int
    status: Status
    config: dict[str, Any]
    arms: tuple[Arm, ...] = ()
    priority: int = 0
    scheduled_at: int | None = None
    max_attempts: int = 3
    attempt: int = 0  # the last one granted
    lost: int = 0  # attempts that ended in LOST
    worker: str | None = None
    lease_seconds: float = 0.0
    deadline: int | None = None
    created_at: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    results: dict[str, Any] = {}
    error: ErrorInfo | None = None
    tags: tuple[str, ...] = ()
    attributes: dict[str, dict[str, Any]] = {}
    label: str = ""
    group: str = ""
    parents: tuple[str, ...] = ()  # streams
    is_amended: bool = False
    deleted_at: int | None = None
    assigned_to: str = ""  # the one worker that may claim it
    depends_on: tuple[str, ...] = ()  # streams of trials that must have SUCCEEDED first

    @property
    def is_waiting(self) -> bool:
        """Whether it waits to be claimed, now or later."""
        return self.status is Status.PENDING and self.deleted_at is None

    @property
    def meets_dependency(self) -> bool:
        """Whether trials that depend on it may be claimed, as far as it is concerned."""
        return self.status is Status.SUCCEEDED and self.deleted_at is None

    @property
    def stream(self) -> str:
        """The name of the trial's stream."""
        return trial_stream(self.experiment_id, self.id)
