"""Difference: what two trials do not have in common, or one trial at two moments.

Pure functions on records: ``describe`` folds what the records up to a moment say of a trial, ``compare`` puts two such
descriptions side by side. Values are equal when their recorded bytes are: 1 and 1.0 differ, NaN equals NaN.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ledger import events as ev
from ledger.errors import UnknownTrial
from ledger.records import Record
from ledger.registry import Event
from ledger.state import TrialState, evolve_trial
from ledger.streams import subject_of
from ledger.telemetry import point_rows
from ledger.values import encode_value

#: The parts of a comparison, in the order in which they are shown.
SECTIONS = (
    "status",
    "times",
    "config",
    "environment",
    "packages",
    "git",
    "code",
    "command",
    "results",
    "labels",
    "notes",
    "metrics",
    "events",
)

_STATUS = ("status", "attempt", "lost", "worker", "priority", "max_attempts", "is_amended")
_OWN_SECTIONS = ("packages", "git", "script", "function", "command")  # of what is captured; the other kinds are environment
_TIMES = ("created_at", "scheduled_at", "started_at", "ended_at", "deadline", "deleted_at")


class LastPoint(msgspec.Struct, frozen=True):
    """A metric in short: its newest value, the step of that, and how many points there are."""

    value: Any
    step: int | float | None
    points: int


class Description(msgspec.Struct, frozen=True):
    """What the records of a trial say up to a moment; ``notes`` by version, as amended, ``events`` by type."""

    state: TrialState
    environment: dict[str, Any]
    notes: dict[int, str]
    metrics: dict[str, LastPoint]
    events: dict[str, int]
    captured: dict[str, dict[str, Any]] = {}


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value on both sides; the side that has none is UNSET, which JSON leaves out: null is a value."""

    left: Any = msgspec.UNSET
    right: Any = msgspec.UNSET

    @property
    def is_difference(self) -> bool:
        """Whether the sides differ, in value or in type.

        >>> Change(1, 1.0).is_difference, Change(None, None).is_difference, Change(None).is_difference
        (True, False, True)
        """
        if self.left is msgspec.UNSET or self.right is msgspec.UNSET:
            return self.left is not self.right
        return encode_value(self.left) != encode_value(self.right)


Comparison = dict[str, dict[str, Change]]


def describe(
    records: Iterable[Record], of_experiment: Iterable[Record] = (), captured: Mapping[str, dict[str, Any]] | None = None
) -> Description:
    """Return what the records of one trial's stream, from its first on, say of it.

    ``of_experiment`` are records of its experiment: their newest environment counts when the trial has none of its own.
    ``captured`` is what was captured of the trial, by kind; what was said of its environment counts beside it.
    Raises UnknownTrial when there are no records.

    >>> import ledger
    >>> trial = ledger.open("memory:").experiment("demo").new_trial({"lr": 0.1})
    >>> describe(trial.history()).state.config
    {'lr': 0.1}
    """
    state: TrialState | None = None
    environment: dict[str, Any] | None = None
    notes: dict[int, str] = {}
    metrics: dict[str, LastPoint] = {}
    events: Counter[str] = Counter()
    for record in records:
        subject = subject_of(record.stream)
        assert subject is not None  # the records are of a trial's stream
        state = evolve_trial(state, subject, record.event, record.happened_at, is_checked=True)
        environment = _environment(record.event, environment)
        events[record.type] += 1
        if isinstance(record.event, ev.MetricsLogged):
            _take_points(record.event, metrics)
        elif isinstance(record.event, ev.NoteAdded):
            notes[record.version] = record.event.text
        elif isinstance(record.event, ev.NoteAmended):
            notes[record.event.version] = record.event.text
    if state is None:
        raise UnknownTrial("there are no records of the trial to describe.")
    if environment is None:
        for record in of_experiment:
            environment = _environment(record.event, environment)
    return Description(state, environment or {}, notes, metrics, dict(sorted(events.items())), dict(captured or {}))


def _environment(event: Event, before: dict[str, Any] | None) -> dict[str, Any] | None:
    return event.environment if isinstance(event, ev.EnvironmentCaptured) else before


def _take_points(event: ev.MetricsLogged, metrics: dict[str, LastPoint]) -> None:
    for name, step, _, value in point_rows(event):
        known = metrics.get(name)
        metrics[name] = LastPoint(value, step, 1 if known is None else known.points + 1)


def compare(left: Description, right: Description, *, everything: bool = False) -> Comparison:
    """Return what differs between two descriptions, by section and name; ``everything``: what is equal as well.

    Every section is there, empty when nothing in it differs. Names of an environment's inner values are joined by dots.
    Notes are compared by their texts, events by their types: the values are how many there are.

    >>> import ledger
    >>> exp = ledger.open("memory:").experiment("demo")
    >>> one, two = (describe(exp.new_trial({"lr": lr, "size": 3}).history()) for lr in (0.1, 0.2))
    >>> compare(one, two)["config"]
    {'lr': Change(left=0.1, right=0.2)}
    """
    sides = [_sections(description) for description in (left, right)]
    comparison: Comparison = {}
    for section in SECTIONS:
        one, other = sides[0][section], sides[1][section]
        changes = {
            name: Change(one.get(name, msgspec.UNSET), other.get(name, msgspec.UNSET))
            for name in [*one, *(name for name in other if name not in one)]
        }
        comparison[section] = {name: change for name, change in changes.items() if everything or change.is_difference}
    return comparison


def has_differences(comparison: Comparison, *, but: Iterable[str] = ()) -> bool:
    """Say whether anything differs, outside of the sections named by ``but``."""
    return any(change.is_difference for name, changes in comparison.items() if name not in but for change in changes.values())


def _sections(description: Description) -> dict[str, dict[str, Any]]:
    state = description.state
    status = {name: getattr(state, name) for name in _STATUS}
    error = {"error": state.error.text} if state.error else {}
    arms = {f"arm {arm.name or i}": {"config": arm.config, "weight": arm.weight} for i, arm in enumerate(state.arms)}
    return {
        "status": _given({**status, "status": str(state.status)}) | error,
        "times": _given({name: getattr(state, name) for name in _TIMES} | {"run_seconds": _run_seconds(state)}),
        "config": dict(state.config) | arms,
        "environment": _environment_of(description),
        **_captured(description.captured),
        "results": dict(state.results),
        "labels": _labels(state),
        "notes": dict(Counter(description.notes.values())),
        "metrics": {name: msgspec.structs.asdict(point) for name, point in description.metrics.items()},
        "events": dict(description.events),
    }


def _environment_of(description: Description) -> dict[str, Any]:
    """Return what was captured and what was said of the environment, libraries under their names."""
    captured = description.captured
    libraries = {kind: content for kind, content in captured.items() if kind not in ("environment", *_OWN_SECTIONS)}
    return dict(flat({**captured.get("environment", {}), **libraries, **description.environment}))


def _captured(captured: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    packages = captured.get("packages", {})
    code = {kind: captured[kind] for kind in ("script", "function") if kind in captured}
    return {
        "packages": {**packages.get("distributions", {}), **{k: v for k, v in packages.items() if k != "distributions"}},
        "git": dict(flat(captured.get("git", {}))),
        "code": {f"{kind} {each.get('name', '')}".rstrip(): code_text(each) for kind, each in code.items()},
        "command": dict(flat(captured.get("command", {}))),
    }


def code_text(content: Mapping[str, Any]) -> str:
    """Return the source that was captured; of a function without one, what stands for it."""
    if "text" in content:
        return str(content["text"])
    why = content.get("problem") or content.get("note") or "no source"
    return f"({why}) {content.get('bytecode', '')}".rstrip()


def unified_diff(left: str, right: str, titles: tuple[str, str]) -> list[str]:
    """Return the lines in which two texts differ, as ``diff -u`` writes them.

    >>> unified_diff("a\\nb\\n", "a\\nc\\n", ("1", "2"))
    ['--- 1', '+++ 2', '@@ -1,2 +1,2 @@', ' a', '-b', '+c']
    """
    return list(difflib.unified_diff(left.splitlines(), right.splitlines(), *titles, lineterm=""))


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _run_seconds(state: TrialState) -> float | None:
    return None if state.started_at is None or state.ended_at is None else (state.ended_at - state.started_at) / 1e9


def _labels(state: TrialState) -> dict[str, Any]:
    labels: dict[str, Any] = {name: text for name in ("label", "group") if (text := getattr(state, name))}
    if state.tags:
        labels["tags"] = list(state.tags)
    if state.parents:
        labels["parents"] = list(state.parents)
    for namespace, values in state.attributes.items():
        for name, value in values.items():
            labels[f"attribute.{namespace}.{name}" if namespace else f"attribute.{name}"] = value
    return labels


def flat(values: Mapping[Any, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Iterate over the values of nested dicts, with their names joined by dots.

    >>> dict(flat({"cpu": {"cores": 2}, "gpus": []}))
    {'cpu.cores': 2, 'gpus': []}
    """
    for name, value in values.items():
        if type(value) is dict and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
