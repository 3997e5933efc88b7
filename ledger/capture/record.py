"""Recording captures: which of them the log has, and what is different from the trial before, decided in the transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ledger import events as ev
from ledger.backends.base import Command, Staged, View
from ledger.commands import experiment_of, trial_of
from ledger.streams import capture_stream, experiment_stream, trial_stream

if TYPE_CHECKING:
    from ledger.capture.collect import Capture

#: Kinds that tell processes apart which are otherwise the same: a difference in them is no change.
OF_PROCESS = frozenset({"command"})
_MOST_CHANGES = 20
_MOST_CHARACTERS = 60
_ABSENT = object()


def with_captures(
    experiment_id: UUID, trial_id: int, captures: Mapping[str, Capture], attempt: int | None, first: Command | None = None
) -> Command:
    """Record what a trial runs with: what the log does not have yet, the trial's digests, and what has changed.

    ``first`` is a command to be executed in the same step before (the start of the trial, whose attempt it then is).
    """

    def command(view: View) -> list[Staged]:
        trial_of(view, experiment_id, trial_id)
        staged = [] if first is None else list(first(view))
        number = next((event.attempt for _, event in staged if isinstance(event, ev.TrialStarted)), attempt or 0)
        known = experiment_of(view, experiment_id).captures
        new = {kind: capture for kind, capture in captures.items() if known.get(kind) != capture.digest}
        for capture in new.values():
            stream = capture_stream(capture.kind, capture.digest)
            if view.version(stream) == 0:
                staged.append((stream, ev.CaptureStored(*capture)))
        digests = {kind: capture.digest for kind, capture in captures.items()}
        staged.append((trial_stream(experiment_id, trial_id), ev.TrialCaptured(digests, number)))
        compared = [capture for kind, capture in new.items() if kind not in OF_PROCESS]
        if compared:
            staged.append((experiment_stream(experiment_id), _changed(view, trial_id, known, compared)))
        return staged

    return command


def _changed(view: View, trial_id: int, known: Mapping[str, str], compared: Iterable[Capture]) -> ev.EnvironmentChanged:
    after, before, changes = {}, {}, []
    for capture in compared:
        after[capture.kind] = capture.digest
        if capture.kind in known:
            before[capture.kind] = known[capture.kind]
            stored = view.record(capture_stream(capture.kind, known[capture.kind]), 1)
            old = stored.event.content if stored is not None and isinstance(stored.event, ev.CaptureStored) else {}
            changes += describe_changes(capture.kind, old, capture.content)
    if len(changes) > _MOST_CHANGES:
        changes[_MOST_CHANGES:] = [f"and {len(changes) - _MOST_CHANGES} more"]
    return ev.EnvironmentChanged(trial_id, after, before, changes)


def describe_changes(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what is different between two contents of a kind, in words.

    >>> describe_changes("git", {"commit": "1a2b" * 10, "is_dirty": False}, {"commit": "3c4d" * 10, "is_dirty": False})
    ['git commit 1a2b1a2b1a2b -> 3c4d3c4d3c4d']
    >>> describe_changes("packages", {"distributions": {"numpy": "2.1.0"}}, {"distributions": {"numpy": "2.2.0"}})
    ['numpy 2.1.0 -> 2.2.0']
    """
    if not before:
        return [f"{kind} (what it was is redacted)"]
    if kind in ("script", "function"):
        names = [str(each.get("name", "")) for each in (before, after)]
        return [f"{kind} {names[0]} -> {names[1]}" if names[0] != names[1] else f"{kind} {names[0]} changed"]
    from ledger.difference import flat  # here: `import ledger` need not pay for it

    one, other = (dict(flat(each)) for each in (before, after))
    said = []
    for name in [*one, *(name for name in other if name not in one)]:
        old, new = one.get(name, _ABSENT), other.get(name, _ABSENT)
        if old != new:
            said.append(_change(_label(kind, name), old, new))
    return said


def _label(kind: str, name: str) -> str:
    label = name.removeprefix("distributions.").removeprefix("variables.")
    return label if kind in ("packages", "environment") else f"{kind} {label}"


def _change(label: str, old: Any, new: Any) -> str:
    if label == "git patch":
        return "uncommitted changes"
    if label == "git commit":
        old, new = (each[:12] if isinstance(each, str) else each for each in (old, new))
    if old is _ABSENT:
        return f"{label} {_short(new)} (new)"
    return f"{label} {_short(old)} (gone)" if new is _ABSENT else f"{label} {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
