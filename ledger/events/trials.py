"""What happens to a trial."""

from typing import Any

from ledger.parts import Arm, ErrorInfo, Points
from ledger.registry import Event, event


@event
class TrialCreated(Event, omit_defaults=True):
    """A trial was added and waits to be claimed; its number is the last part of the stream's name.

    ``scheduled_at`` (ns since 1970 UTC): not to be claimed before. ``priority``: higher is claimed first.
    ``max_attempts``: a trial LOST that often is not tried again. ``label`` is what people call the config, ``group`` what
    the trial is kept together by, ``parents`` are the streams of trials it came from. ``assigned_to``: the one worker that
    may claim it; empty for any. ``depends_on``: streams of trials that must have SUCCEEDED before it is claimed.

    >>> TrialCreated({"cache_mb": 64}, priority=2).config
    {'cache_mb': 64}
    """

    config: dict[str, Any]
    arms: tuple[Arm, ...] = ()
    priority: int = 0
    scheduled_at: int | None = None
    max_attempts: int = 3
    label: str = ""
    group: str = ""
    parents: tuple[str, ...] = ()
    assigned_to: str = ""
    depends_on: tuple[str, ...] = ()


@event
class TrialConfigured(Event, omit_defaults=True):
    """Parameters were added to the trial's config before its end (define-by-run); each is set once.

    >>> TrialConfigured({"dropout": 0.1}).parameters
    {'dropout': 0.1}
    """

    parameters: dict[str, Any]
    attempt: int = 0


@event
class TrialAssigned(Event, omit_defaults=True):
    """Only this worker may claim the trial from here on; any may when the name is empty.

    >>> TrialAssigned("gpu-1").assigned_to
    'gpu-1'
    """

    assigned_to: str = ""


@event
class TrialClaimed(Event, omit_defaults=True):
    """A worker took the trial, for as long as it keeps renewing the lease; ``deadline`` is in ns since 1970 UTC.

    Without a deadline the trial is the worker's until it ends it, hands it back or is relieved of it.

    >>> TrialClaimed("w1", attempt=1, lease_seconds=60.0, deadline=1_800_000_000_000_000_000).attempt
    1
    """

    worker: str
    attempt: int
    lease_seconds: float = 0.0
    deadline: int | None = None


@event
class LeaseRenewed(Event, omit_defaults=True):
    """The worker is alive; the lease ends at the new deadline. Hidden from histories unless asked for.

    >>> LeaseRenewed(attempt=1, deadline=1_800_000_060_000_000_000).attempt
    1
    """

    attempt: int
    deadline: int


@event
class TrialReleased(Event, omit_defaults=True):
    """The worker handed the trial back unfinished; it waits again, and the attempt is not counted against it.

    >>> TrialReleased(attempt=1).attempt
    1
    """

    attempt: int


@event
class TrialLost(Event, omit_defaults=True):
    """The lease ran out with no word from the worker; written by the next one that claims.

    >>> TrialLost(attempt=1, worker="w1", deadline=1_800_000_060_000_000_000).worker
    'w1'
    """

    attempt: int
    worker: str
    deadline: int


@event
class TrialRequeued(Event, omit_defaults=True):
    """A trial that had ended waits to be claimed again, with the next attempt.

    >>> TrialRequeued()
    TrialRequeued()
    """


@event
class TrialStarted(Event, omit_defaults=True):
    """Work on the trial began.

    >>> TrialStarted(attempt=1).attempt
    1
    """

    attempt: int


@event
class TrialCompleted(Event, omit_defaults=True):
    """The trial succeeded with these results.

    >>> TrialCompleted({"latency_ms": 1.9}, attempt=1).results
    {'latency_ms': 1.9}
    """

    results: dict[str, Any] = {}
    attempt: int = 0


@event
class TrialFailed(Event, omit_defaults=True):
    """The trial failed; the exception is kept, and results reported until then.

    >>> TrialFailed(ErrorInfo("OSError", "disk full"), attempt=1).error.message
    'disk full'
    """

    error: ErrorInfo | None = None
    results: dict[str, Any] = {}
    attempt: int = 0


@event
class TrialPruned(Event, omit_defaults=True):
    """The trial was stopped early as not worth finishing.

    >>> TrialPruned({"loss": 9.1}, attempt=1).results
    {'loss': 9.1}
    """

    results: dict[str, Any] = {}
    attempt: int = 0


@event
class TrialCanceled(Event, omit_defaults=True):
    """The trial was called off, before or while it ran; why is in the record's reason.

    >>> TrialCanceled()
    TrialCanceled()
    """


@event
class TrialTimedOut(Event, omit_defaults=True):
    """The trial took longer than it was allowed to.

    >>> TrialTimedOut(attempt=1).attempt
    1
    """

    results: dict[str, Any] = {}
    attempt: int = 0


@event
class TrialAbandoned(Event, omit_defaults=True):
    """The trial was given up: it will not be tried again and its absence is not a failure.

    >>> TrialAbandoned()
    TrialAbandoned()
    """


@event
class StatusForced(Event, omit_defaults=True):
    """The status was set outside the rules (an import, a repair); the record's reason says why.

    >>> StatusForced("SUCCEEDED", results={"latency_ms": 2.1}).status
    'SUCCEEDED'
    """

    status: str
    results: dict[str, Any] = {}


@event
class ResultsReported(Event, omit_defaults=True):
    """Results known before the trial's end, or added after it; they are merged, the later value counts.

    >>> ResultsReported({"latency_ms": 1.9}, attempt=1).results
    {'latency_ms': 1.9}
    """

    results: dict[str, Any]
    attempt: int = 0


@event
class LateResultReceived(Event, omit_defaults=True):
    """What a worker reported after it had lost its lease: kept as evidence, not counted.

    >>> LateResultReceived(attempt=1, status="SUCCEEDED", results={"latency_ms": 1.9}).status
    'SUCCEEDED'
    """

    attempt: int
    status: str
    results: dict[str, Any] = {}
    error: ErrorInfo | None = None


@event
class MetricsLogged(Event, omit_defaults=True):
    """Values over steps, many points to an event.

    >>> MetricsLogged([Points(["loss"], [1], [1_800_000_000_000_000_000], [[0.5]])], attempt=1).attempt
    1
    """

    points: list[Points]
    attempt: int = 0


@event
class TelemetryLogged(Event, omit_defaults=True):
    """Values about the run itself (processor, memory, temperature) over time, many points to an event.

    >>> TelemetryLogged([Points(["cpu"], [None], [1_800_000_000_000_000_000], [[97.0]])]).attempt
    0
    """

    points: list[Points]
    attempt: int = 0


@event
class TrialGrouped(Event, omit_defaults=True):
    """The trial was put into the group of that name, and out of the one it was in; an empty name is no group.

    >>> TrialGrouped("repeats of 64 MB").group
    'repeats of 64 MB'
    """

    group: str


@event
class TrialAmended(Event, omit_defaults=True):
    """What had been recorded of a trial was wrong; these values count instead, and the first ones stay in history.

    ``withdrawn`` names results that do not count at all. ``status`` is that of a trial that has ended, and still has. The
    record's reason says why.

    >>> TrialAmended(results={"latency_ms": 2.1}, status="FAILED").status
    'FAILED'
    """

    results: dict[str, Any] = {}
    withdrawn: list[str] = []
    config: dict[str, Any] = {}
    label: str | None = None
    status: str | None = None


@event
class TrialDeleted(Event, omit_defaults=True):
    """The trial was deleted: a tombstone, which tables honour. Whoever held it has lost it.

    >>> TrialDeleted()
    TrialDeleted()
    """


@event
class TrialRestored(Event, omit_defaults=True):
    """The deleted trial is back.

    >>> TrialRestored()
    TrialRestored()
    """
