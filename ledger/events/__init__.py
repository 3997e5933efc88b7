"""The vocabulary: every event type that the package itself writes.

Past tense, one fact each. What a type means for the state of an experiment or a trial is said in ``ledger.state``,
once. Fields left at their default are not stored, so a new optional field needs no new schema version.

Experiments:  ExperimentCreated ExperimentRenamed ExperimentDescribed ObjectivesChanged ExperimentPaused
              ExperimentResumed ExperimentSealed ExperimentUnsealed ExperimentDeleted ExperimentRestored
              EnvironmentChanged
Trials:       TrialCreated TrialConfigured TrialAssigned TrialClaimed LeaseRenewed TrialReleased TrialLost TrialRequeued
              TrialStarted TrialCompleted TrialFailed TrialPruned TrialCanceled TrialTimedOut TrialAbandoned StatusForced
              ResultsReported LateResultReceived MetricsLogged TelemetryLogged TrialGrouped TrialAmended TrialDeleted
              TrialRestored TrialCaptured
Both:         AttributesSet TagsChanged NoteAdded NoteAmended EnvironmentCaptured ParentsSet ArtifactLogged
Any stream:   PayloadRedacted
Captures:     CaptureStored
The ledger:   ClockSkewed ExperimentsMerged
"""

from ledger.events.annotations import AttributesSet, EnvironmentCaptured, NoteAdded, NoteAmended, ParentsSet, TagsChanged
from ledger.events.artifacts import ArtifactLogged
from ledger.events.captures import CaptureStored, EnvironmentChanged, TrialCaptured
from ledger.events.care import ClockSkewed, ExperimentsMerged, PayloadRedacted
from ledger.events.experiments import Direction as Direction
from ledger.events.experiments import (
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentDescribed,
    ExperimentPaused,
    ExperimentRenamed,
    ExperimentRestored,
    ExperimentResumed,
    ExperimentSealed,
    ExperimentUnsealed,
    ObjectivesChanged,
)
from ledger.events.trials import (
    LateResultReceived,
    LeaseRenewed,
    MetricsLogged,
    ResultsReported,
    StatusForced,
    TelemetryLogged,
    TrialAbandoned,
    TrialAmended,
    TrialAssigned,
    TrialCanceled,
    TrialClaimed,
    TrialCompleted,
    TrialConfigured,
    TrialCreated,
    TrialDeleted,
    TrialFailed,
    TrialGrouped,
    TrialLost,
    TrialPruned,
    TrialReleased,
    TrialRequeued,
    TrialRestored,
    TrialStarted,
    TrialTimedOut,
)
from ledger.parts import Arm, Bounds, ErrorInfo, Points
from ledger.registry import find_type

__all__ = [
    "Arm", "ArtifactLogged", "AttributesSet", "Bounds", "CaptureStored", "ClockSkewed", "EnvironmentCaptured",
    "EnvironmentChanged", "ErrorInfo", "ExperimentCreated", "ExperimentDeleted", "ExperimentDescribed", "ExperimentPaused",
    "ExperimentRenamed", "ExperimentRestored", "ExperimentResumed", "ExperimentSealed", "ExperimentUnsealed",
    "ExperimentsMerged", "LateResultReceived", "LeaseRenewed", "MetricsLogged", "NoteAdded", "NoteAmended", "ObjectivesChanged",
    "ParentsSet", "PayloadRedacted", "Points", "ResultsReported", "StatusForced", "TagsChanged", "TelemetryLogged",
    "TrialAbandoned", "TrialAmended", "TrialAssigned", "TrialCanceled", "TrialCaptured", "TrialClaimed", "TrialCompleted",
    "TrialConfigured", "TrialCreated", "TrialDeleted", "TrialFailed", "TrialGrouped", "TrialLost", "TrialPruned",
    "TrialReleased", "TrialRequeued", "TrialRestored", "TrialStarted", "TrialTimedOut",
]  # fmt: skip

#: Names of the types above: the package knows what they mean for the state of an experiment or trial.
VOCABULARY = frozenset(name for name in __all__ if find_type(name) is not None)
