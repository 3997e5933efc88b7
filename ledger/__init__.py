"""An append-only ledger of experiments: every state change an immutable event, every table built from them.

>>> import ledger
>>> with ledger.open("memory:") as book:
...     exp = book.experiment("demo", objectives={"loss": "min"})
...     with exp.new_trial({"lr": 0.1}).run() as trial:
...         trial.complete({"loss": 0.4})
...     [record.type for record in book.log.read()]
['ExperimentCreated', 'TrialCreated', 'TrialClaimed', 'TrialStarted', 'TrialCompleted']
"""

import importlib
import typing

from ledger import errors, events
from ledger.annotations import Note
from ledger.backends.base import Appended, Backend, Command, View
from ledger.capture.options import CaptureOptions
from ledger.checkpoint import Checkpoint, read_checkpoints
from ledger.errors import *  # noqa: F403 - the tree of errors is public as a whole; its names are listed there
from ledger.events import *  # noqa: F403 - so is the vocabulary
from ledger.experiment import Experiment
from ledger.identity import new_uuid7
from ledger.log import ANY, NO_STREAM, EventLog
from ledger.objectives import Objective
from ledger.records import Record
from ledger.registry import Event, UnknownEvent, event
from ledger.run import current_trial
from ledger.session import Ledger, open
from ledger.state import ExperimentState, Status, TrialState
from ledger.tail import Subscription
from ledger.telemetry import point_rows
from ledger.trial import Trial
from ledger.upcasters import upcaster
from ledger.version import __version__ as __version__

if typing.TYPE_CHECKING:
    from ledger.artifacts.artifact import Artifact
    from ledger.artifacts.savers import register_saver

__all__ = [
    "ANY", "Appended", "Artifact", "Backend", "CaptureOptions", "Checkpoint", "Command", "Event", "EventLog",
    "Experiment", "ExperimentState", "Ledger", "NO_STREAM", "Note", "Objective", "Record",
    "Status", "Subscription", "Trial", "TrialState", "UnknownEvent", "View", "current_trial", "event",
    "new_uuid7", "open", "point_rows", "read_checkpoints", "register_saver", "upcaster",
    *errors.__all__, *events.__all__,
]  # fmt: skip

_LATE = {"Artifact": "ledger.artifacts.artifact", "register_saver": "ledger.artifacts.savers"}  # most processes need neither


def __getattr__(name: str) -> typing.Any:
    if name not in _LATE:
        raise AttributeError(f"module 'ledger' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
