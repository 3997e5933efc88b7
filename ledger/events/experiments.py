"""What happens to an experiment."""

from typing import Literal

from ledger.parts import Bounds
from ledger.registry import Event, event

Direction = Literal["min", "max"]


@event
class ExperimentCreated(Event, omit_defaults=True):
    """An experiment began; its id is in the stream's name, its name is free again once it is deleted.

    ``bounds``: a trial whose result is outside of them fails. ``parents`` are streams of experiments it came from.

    >>> ExperimentCreated("sqlite-tuning", objectives={"latency_ms": "min"}).name
    'sqlite-tuning'
    """

    name: str
    objectives: dict[str, Direction] = {}
    description: str = ""
    bounds: dict[str, Bounds] = {}
    parents: list[str] = []


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
    """The experiment's objectives were replaced as a whole, with the bounds of their values.

    >>> ObjectivesChanged({"latency_ms": "min"}).objectives
    {'latency_ms': 'min'}
    """

    objectives: dict[str, Direction]
    bounds: dict[str, Bounds] = {}


@event
class ExperimentPaused(Event, omit_defaults=True):
    """No trial of it is handed out until it is resumed; those that workers hold go on.

    >>> ExperimentPaused()
    ExperimentPaused()
    """


@event
class ExperimentResumed(Event, omit_defaults=True):
    """Its trials are handed out again.

    >>> ExperimentResumed()
    ExperimentResumed()
    """


@event
class ExperimentSealed(Event, omit_defaults=True):
    """The experiment is read-only from here on: nothing more is recorded of it or its trials until it is unsealed.

    >>> ExperimentSealed()
    ExperimentSealed()
    """


@event
class ExperimentUnsealed(Event, omit_defaults=True):
    """The experiment can be written to again; the record's reason says why.

    >>> ExperimentUnsealed()
    ExperimentUnsealed()
    """


@event
class ExperimentDeleted(Event, omit_defaults=True):
    """The experiment was deleted with its trials: a tombstone, which tables honour. Its name is free for another.

    >>> ExperimentDeleted()
    ExperimentDeleted()
    """


@event
class ExperimentRestored(Event, omit_defaults=True):
    """The deleted experiment is back with its trials, under its old name or under ``name``.

    >>> ExperimentRestored("sqlite-tuning (old)").name
    'sqlite-tuning (old)'
    """

    name: str = ""
