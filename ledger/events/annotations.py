"""What people say of experiments and trials alike."""

from typing import Any

from ledger.registry import Event, event


@event
class AttributesSet(Event, omit_defaults=True):
    """Attributes of an experiment or a trial were set, in a namespace of their owner; a value of None removes one.

    Those named in ``nulls`` are set to None instead (tools that know a null of their own).

    >>> AttributesSet({"sampler": "tpe"}, namespace="optuna.system").namespace
    'optuna.system'
    """

    attributes: dict[str, Any]
    namespace: str = ""
    nulls: list[str] = []


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
    """What somebody said the experiment or trial ran in: platform, versions, hardware.

    >>> EnvironmentCaptured({"python": "3.13.0"}).environment
    {'python': '3.13.0'}
    """

    environment: dict[str, Any]


@event
class NoteAmended(Event, omit_defaults=True):
    """A note was corrected: the one that is version ``version`` of the same stream; the record's reason says why.

    >>> NoteAmended(version=4, text="fan was on").text
    'fan was on'
    """

    version: int
    text: str


@event
class ParentsSet(Event, omit_defaults=True):
    """Where an experiment or trial came from was replaced as a whole: streams of experiments, or of trials.

    >>> ParentsSet(["trial/0192f5ab3c4d7e8f9a0b1c2d3e4f5061/3"]).parents
    ['trial/0192f5ab3c4d7e8f9a0b1c2d3e4f5061/3']
    """

    parents: list[str]
