"""Assignments: what an event puts into the fields of a state, said so that one state or whole columns can be given it.

A field gets a constant, or what one of these says:

- ``AT``: when the event happened;
- ``NOTHING``: an empty mapping;
- ``Given(name)``: the event's field of that name;
- ``Merged(name)``: the mapping so far, with that of the event's field over it;
- ``ONE_MORE``: the number so far, and one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from ledger.registry import Event

Change: TypeAlias = Callable[[Any, Any, int], dict[str, Any]]


class Given(NamedTuple):
    """The event's field, as ``convert`` makes it the state's own."""

    name: str
    convert: Callable[[Any], Any] | None = None

    def of(self, event: Event) -> Any:
        """Return the field's value."""
        value = getattr(event, self.name)
        return value if self.convert is None else self.convert(value)


class Merged(NamedTuple):
    """The mapping so far, with the event's over it; a name that both have gets the event's value."""

    name: str


class _Source:
    """A source that needs no more than its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


AT: Final = _Source("AT")
NOTHING: Final = _Source("NOTHING")
ONE_MORE: Final = _Source("ONE_MORE")

Assignments: TypeAlias = Mapping[str, Any]


def change_by(assignments: Assignments) -> Change:
    """Return the function (state, event, at) -> the fields that change, with their values.

    >>> from ledger.events import TrialStarted
    >>> change_by({"attempt": Given("attempt"), "started_at": AT, "worker": None})(None, TrialStarted(attempt=2), 7)
    {'worker': None, 'started_at': 7, 'attempt': 2}
    """
    sources = (Given, Merged, _Source)
    constants = {name: source for name, source in assignments.items() if not isinstance(source, sources)}
    times = [name for name, source in assignments.items() if source is AT]
    empty = [name for name, source in assignments.items() if source is NOTHING]
    counts = [name for name, source in assignments.items() if source is ONE_MORE]
    given = [(name, source) for name, source in assignments.items() if isinstance(source, Given)]
    merged = [(name, source.name) for name, source in assignments.items() if isinstance(source, Merged)]

    def change(state: Any, event: Any, at: int) -> dict[str, Any]:
        changes = dict(constants)
        for name in times:
            changes[name] = at
        for name in empty:
            changes[name] = {}
        for name in counts:
            changes[name] = getattr(state, name) + 1
        for name, field in given:
            changes[name] = field.of(event)
        for name, source in merged:
            new = getattr(event, source)
            if new:
                changes[name] = {**getattr(state, name), **new}
        return changes

    return change
