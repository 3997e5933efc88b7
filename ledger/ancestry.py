"""Ancestry: where experiments and trials came from; each parent exists, and none descends from its own child."""

from __future__ import annotations

from collections.abc import Iterable

from ledger import events as ev
from ledger.backends.base import Command, Staged, View
from ledger.errors import CommandRefused, InvalidValue, UnknownExperiment, UnknownTrial
from ledger.streams import Subject, subject_of


def set_parents(stream: str, parents: list[str]) -> Command:
    """Say where an experiment or a trial came from; each parent must be there, and not descend from it."""

    def command(view: View) -> list[Staged]:
        check_ancestry(view, stream, parents)
        return [(stream, ev.ParentsSet(parents))]

    return command


def check_ancestry(view: View, stream: str, parents: Iterable[str]) -> None:
    """Refuse parents that do not exist, or that have the stream itself among their ancestors."""
    waiting = list(parents)
    seen: set[str] = set()
    while waiting:
        ancestor = waiting.pop()
        if type(ancestor) is not str:
            raise InvalidValue(f"the parent {ancestor!r} is no experiment or trial; give a handle, or the .stream of one.")
        if ancestor == stream:
            raise CommandRefused(f"{stream} would descend from itself. Leave out the parent that came from it.")
        if ancestor not in seen:
            seen.add(ancestor)
            waiting += _parents_of(view, subject_of(ancestor), ancestor)


def _parents_of(view: View, subject: Subject | None, stream: str) -> tuple[str, ...]:
    if subject is None:
        return ()  # ledger.state refuses what is no stream of an experiment or trial
    if subject.trial_id is None:
        experiment = view.experiment(subject.experiment_id)
        if experiment is None:
            raise UnknownExperiment(f"the parent {stream} does not exist. Give the .stream of one that does.")
        return experiment.parents
    trial = view.trial(subject.experiment_id, subject.trial_id)
    if trial is None:
        raise UnknownTrial(f"the parent {stream} does not exist. Give the .stream of one that does.")
    return trial.parents
