"""The vocabulary: every event type that the package itself writes.

Past tense, one fact each. What a type means for the state of an experiment or a trial is said in ``ledger.state``,
once. Fields left at their default are not stored, so a new optional field needs no new schema version.

Experiments:  ExperimentCreated ExperimentRenamed ExperimentDescribed ObjectivesChanged
Trials:       TrialCreated TrialConfigured TrialClaimed LeaseRenewed TrialReleased TrialLost TrialRequeued TrialStarted
              TrialCompleted TrialFailed TrialPruned TrialCanceled TrialTimedOut TrialAbandoned StatusForced
              ResultsReported LateResultReceived MetricsLogged TelemetryLogged
Both:         AttributesSet TagsChanged NoteAdded EnvironmentCaptured
The ledger:   ClockSkewed
"""

from __future__ import annotations

from typing import Any, Literal

from ledger.parts import Arm, ErrorInfo, Points
from ledger.registry import Event, event, find_type

__all__ = [
    "Arm", "AttributesSet", "ClockSkewed", "EnvironmentCaptured", "ErrorInfo", "ExperimentCreated",
    "ExperimentDescribed", "ExperimentRenamed", "LateResultReceived", "LeaseRenewed", "MetricsLogged", "NoteAdded",
    "ObjectivesChanged", "Points", "ResultsReported", "StatusForced", "TagsChanged", "TelemetryLogged",
    "TrialAbandoned", "TrialCanceled", "TrialClaimed", "TrialCompleted", "TrialConfigured", "TrialCreated",
    "TrialFailed", "TrialLost", "TrialPruned", "TrialReleased", "TrialRequeued", "TrialStarted", "TrialTimedOut",
]  # fmt: skip

Direction = Literal["min", "max"]


@event
class ExperimentCreated(Event, omit_defaults=True):
    """An experiment began; its id is in the stream's name, its name is free again once it is deleted.

    >>> ExperimentCreated("sqlite-tuning", objectives={"latency_ms": "min"}).name
    'sqlite-tuning'
    """

    name: str
    objectives: dict[str, Direction] = {}
    description: str = ""


@event
class ExperimentRenamed(Event, omit_defaults=True):
    """The experiment has another name from here on.

    >>> ExperimentRenamed("sqlite-tuning-2026").name
    'sqlite-tuning-2026'
    """

    name: str


@event
class ExperimentDescribed(Event, omit_defaults=True):
    """The experiment's description was replaced.

    >>> ExperimentDescribed("WAL against rollback journal").description
    'WAL against rollback journal'
    """

    description: str


@event
class ObjectivesChanged(Event, omit_defaults=True):
    """The experiment's objectives were replaced as a whole.

    >>> ObjectivesChanged({"latency_ms": "min"}).objectives
    {'latency_ms': 'min'}
    """

    objectives: dict[str, Direction]


@event
class TrialCreated(Event, omit_defaults=True):
    """A trial was added and waits to be claimed; its number is the last part of the stream's name.

    ``scheduled_at`` (ns since 1970 UTC): not to be claimed before. ``priority``: higher is claimed first.
    ``max_attempts``: a trial LOST that often is not tried again.

    >>> TrialCreated({"cache_mb": 64}, priority=2).config
    {'cache_mb': 64}
    """

    config: dict[str, Any]
    arms: list[Arm] = []
    priority: int = 0
    scheduled_at: int | None = None
    max_attempts: int = 3


@event
class TrialConfigured(Event, omit_defaults=True):
    """Parameters were added to the trial's config before its end (define-by-run); each is set once.

    >>> TrialConfigured({"dropout": 0.1}).parameters
    {'dropout': 0.1}
    """

    parameters: dict[str, Any]
    attempt: int = 0


@event
class TrialClaimed(Event, omit_defaults=True):
    """A worker took the trial, for as long as it keeps renewing the lease; ``deadline`` is in ns since 1970 UTC.

    >>> TrialClaimed("w1", attempt=1, lease_seconds=60.0, deadline=1_800_000_000_000_000_000).attempt
    1
    """

    worker: str
    attempt: int
    lease_seconds: float
    deadline: int


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
class AttributesSet(Event, omit_defaults=True):
    """Attributes of an experiment or a trial were set, in a namespace of their owner; a value of None removes one.

    >>> AttributesSet({"sampler": "tpe"}, namespace="optuna.system").namespace
    'optuna.system'
    """

    attributes: dict[str, Any]
    namespace: str = ""


@event
class TagsChanged(Event, omit_defaults=True):
    """Tags were added to or removed from an experiment or a trial.

    >>> TagsChanged(added=["baseline"]).added
    ['baseline']
    """

    added: list[str] = []
    removed: list[str] = []


@event
class NoteAdded(Event, omit_defaults=True):
    """A person's remark on an experiment or a trial.

    >>> NoteAdded("fan was off").text
    'fan was off'
    """

    text: str


@event
class EnvironmentCaptured(Event, omit_defaults=True):
    """What the experiment or trial ran in: platform, versions, hardware.

    >>> EnvironmentCaptured({"python": "3.13.0"}).environment
    {'python': '3.13.0'}
    """

    environment: dict[str, Any]


@event
class ClockSkewed(Event, omit_defaults=True):
    """The clock stood over a minute behind the newest record; ``raw_time`` is what it said (ns since 1970 UTC).

    >>> ClockSkewed(raw_time=1_700_000_000_000_000_000, behind_seconds=86_400.0).behind_seconds
    86400.0
    """

    raw_time: int
    behind_seconds: float


#: Names of the types above: the package knows what they mean for the state of an experiment or trial.
VOCABULARY = frozenset(name for name in __all__ if find_type(name) is not None)
