"""Phrases: the words that sentences about events are made of.

Everything that comes from a record goes through ``printable``. What is longer than people read is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from ledger.cli.output import plain, printable, shown
from ledger.registry import Event, UnknownEvent
from ledger.status import ExperimentState, TrialState

_LONGEST_VALUE = 80
LONGEST_TEXT = 400
_MOST_PAIRS = 20
NOTHING: Mapping[str, Any] = {}


def _nothing_before() -> None:
    return None


def _unknown(version: int) -> None:
    return None


class Setting(NamedTuple):
    """What a sentence needs beside the event.

    ``it`` is whom the event is about, as the sentence should call them. ``before`` gives their state before the event,
    ``note`` the text of a note of theirs by its version, ``place`` the position of a version of theirs, ``call`` the name of
    another stream; each is asked when needed.
    """

    it: str
    actor: str = ""
    before: Callable[[], ExperimentState | TrialState | None] = _nothing_before
    note: Callable[[int], str | None] = _unknown
    place: Callable[[int], int | None] = _unknown
    call: Callable[[str], str] = printable
    is_redacted: bool = False


def listed(values: Mapping[Any, Any]) -> str:
    """Return a dict as the words of a sentence.

    >>> listed({"cache_mb": 64, "journal": "wal", "fsync": None})
    'cache_mb=64, journal=wal, fsync=None'
    """
    pairs = [f"{printable(str(key))}={value_text(value)}" for key, value in list(values.items())[:_MOST_PAIRS]]
    if len(values) > _MOST_PAIRS:
        pairs.append(f"and {len(values) - _MOST_PAIRS} more")
    return ", ".join(pairs)


def value_text(value: Any) -> str:
    """Return one value as the word of a sentence, cut when it is long.

    >>> value_text(None), value_text(""), value_text(True), value_text("a b")
    ('None', "''", 'true', 'a b')
    """
    return cut(shown(value), _LONGEST_VALUE) or repr(value)


def cut(text: str, longest: int) -> str:
    """Return the text, no longer than that."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def quoted(text: str) -> str:
    """Return a text in quotation marks, on one line."""
    return f'"{cut(printable(text), LONGEST_TEXT)}"'


def with_values(values: Mapping[Any, Any]) -> str:
    """Return what something was recorded with; nothing for nothing."""
    return f" with {listed(values)}" if values else ""


def names_text(names: Iterable[str]) -> str:
    """Return names as the words of a sentence."""
    return ", ".join(printable(str(name)) for name in names)


def on(it: str) -> str:
    """Return where something was put; ``it`` has been named before, and need not be again."""
    return "" if it == "it" else f" in {it}" if it.startswith("the stream ") else f" on {it}"


def of(it: str) -> str:
    """Return whom something is of, unless they were named before."""
    return "" if it == "it" else f" of {it}"


def version_text(version: int, setting: Setting) -> str:
    """Return how people call a version of the stream."""
    position = setting.place(version)
    return f"of version {version}" + ("" if position is None else f" (position {position})")


def count_of(number: int, what: str) -> str:
    """Return a number of things, in the plural but for one."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def content_of(event: Event) -> str:
    """Return the fields of an event that say something."""
    data = plain(event)
    if isinstance(event, UnknownEvent) or not isinstance(data, dict):
        return listed(data) if isinstance(data, dict) else "" if data is None else value_text(data)
    defaults = {field.name: field.default for field in msgspec.structs.fields(cast("Any", event))}
    return listed({name: value for name, value in data.items() if value not in (defaults[name], "", [], {}, None)})


def aims_of(objectives: Mapping[str, str], bounds: Mapping[str, Any]) -> str:
    """Return what an experiment is after."""
    said = []
    for name in [*objectives, *(name for name in bounds if name not in objectives)]:
        aim = {"min": "minimize ", "max": "maximize "}.get(objectives.get(name, ""), "keep ")
        within = f" within {bounds[name]}" if name in bounds else ""
        said.append(f"{aim}{printable(name)}{within}")
    return " and ".join(said)


def called(parents: Sequence[str], setting: Setting) -> str:
    """Return other experiments or trials by their names."""
    return ", ".join(setting.call(parent) for parent in parents)
