"""What people say of experiments and trials alike: notes, tags, attributes, environments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from ledger import events as ev
from ledger.registry import Event


class Annotated(ABC):
    """Something that can be annotated at any time, before and after its end; each annotation is an event.

    >>> import ledger
    >>> exp = ledger.open("memory:").experiment("demo")
    >>> exp.tag("baseline")
    >>> exp.set_attributes({"sampler": "tpe"}, namespace="optuna")
    >>> exp.state.tags, exp.state.attributes
    (('baseline',), {'optuna': {'sampler': 'tpe'}})
    """

    @abstractmethod
    def _record(self, event: Event) -> object:
        """Append the event to the thing's stream."""

    def note(self, text: str) -> None:
        """Add a remark."""
        self._record(ev.NoteAdded(text))

    def tag(self, *tags: str) -> None:
        """Add tags."""
        self._record(ev.TagsChanged(added=list(tags)))

    def untag(self, *tags: str) -> None:
        """Remove tags."""
        self._record(ev.TagsChanged(removed=list(tags)))

    def set_attributes(self, attributes: Mapping[str, Any], *, namespace: str = "") -> None:
        """Set attributes in a namespace; a value of None removes one."""
        self._record(ev.AttributesSet(dict(attributes), namespace))

    def capture_environment(self, environment: Mapping[str, Any]) -> None:
        """Record what it runs in."""
        self._record(ev.EnvironmentCaptured(dict(environment)))
