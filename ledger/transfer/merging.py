"""Merge: experiments of one ledger appended to another, with their provenance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from heapq import merge as merge_sorted
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from ledger import events as ev
from ledger.backends.base import Staged
from ledger.codec import decode_envelopes
from ledger.errors import CommandRefused, ExperimentExists, InvalidValue, UnknownExperiment
from ledger.log import EventLog
from ledger.nearest import find_nearest
from ledger.records import Envelope, Record
from ledger.state import ExperimentState
from ledger.streams import CAPTURES, experiment_stream, subject_of
from ledger.transfer.artifacts import carrying, references_in
from ledger.transfer.captures import redacted_captures, referred_to_by
from ledger.transfer.copying import Copier, copied_append_id, divergence, pieces
from ledger.transfer.importing import Progress
from ledger.transfer.jsonlines import entries_at
from ledger.values import check_label

if TYPE_CHECKING:
    from ledger.session import Ledger

#: An ExperimentsMerged event names at most so many, to fit a record.
_NAMED_PER_EVENT = 4096
_NAMING = (ev.ExperimentCreated, ev.ExperimentRenamed, ev.ExperimentRestored)


class MergeReport(NamedTuple):
    """What a merge copied: ``copied`` records of ``experiments``, from the ledger ``source_id`` as ``size`` and ``root`` say.

    Captures that came with them are not counted.
    ``position`` is that of the ExperimentsMerged event, None when nothing was new. ``renamed`` are the names that were
    replaced in what was copied.
    """

    source_id: UUID
    size: int
    root: bytes
    copied: int
    experiments: tuple[UUID, ...]
    renamed: dict[str, str]
    position: int | None


def merge(
    source: Ledger, target: Ledger, experiments: Iterable[str | UUID] | None = None, rename: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> MergeReport:  # fmt: skip
    """Append the experiments of ``source``, with their trials, to ``target``: all of them, or those named.

    The experiments keep their ids, their records the order, versions, events, actors, reasons and times (as
    ``occurred_at``); an ExperimentsMerged event in the stream ``ledger`` says where they are from. What artifacts hold is
    copied before the records. The captures that trials refer to come along, unless the target has them, and so do redactions
    of captures that were copied before. Other streams stay behind. What was merged before is not copied again; when the source
    has grown, what is new is. A merge that was killed half-way is simply repeated. ``rename`` maps names of experiments to the
    names that they get in the target.

    Raises Corrupted, before anything is written, for an artifact that is missing or damaged in the source; CommandRefused,
    likewise, when an experiment has gone on by itself in the target;
    ExperimentExists when another one has its name; UnknownExperiment, InvalidValue. ``progress`` is called with the records
    copied and their number. Costs some 200 us a record.

    >>> import ledger
    >>> with ledger.open("memory:") as source, ledger.open("memory:") as target:
    ...     _ = source.experiment("demo").new_trial({"lr": 0.1})
    ...     merge(source, target).copied, merge(source, target).copied, target.get_experiment("demo").trial(1).config
    (2, 0, {'lr': 0.1})
    """
    _refuse_same(source, target)
    size, root = source.log.backend.tree_head()
    chosen = _chosen(source, experiments)
    names = _check_rename(source, chosen, rename or {})
    plan = {state.id: found for state in chosen if (found := _new_positions(source, target, state, size))}
    _check_names(source, target, {state.id for state in chosen}, plan, names)
    copier = Copier(target.log, names)
    captures = _Captures(source, target, copier)
    captures.add(redacted_captures(source.log.backend), only_known=True)
    if not plan:
        copier.flush()
        return MergeReport(source.id, size, root, 0, (), {}, None)
    total, done = sum(map(len, plan.values())), 0
    needed = [reference for identity in plan for reference in references_in(source, experiment=identity)]
    with carrying(needed, source.log.backend.blobs, target.log.backend.blobs):
        for piece in pieces(_read(source.log, list(merge_sorted(*plan.values())))):
            captures.add(referred_to_by(piece.envelopes))
            copier.add(piece)
            done += len(piece.envelopes)
            if progress is not None:
                progress(done, total)
        answer = copier.flush(lambda: _merged_events(source.id, size, root, copier))
    copied = sum(count for stream, count in copier.copied.items() if not stream.startswith(CAPTURES))
    return MergeReport(source.id, size, root, copied, tuple(plan), copier.renamed, None if answer is None else answer.position)


class _Captures:
    """Copy captures, each once, before what refers to them."""

    def __init__(self, source: Ledger, target: Ledger, copier: Copier) -> None:
        self._source, self._target, self._copier = source.log, target.log, copier
        self._seen: set[str] = set()

    def add(self, streams: Iterable[str], *, only_known: bool = False) -> None:
        """Copy those that were not seen yet; ``only_known`` leaves out what the target does not have."""
        for stream in streams:
            if stream in self._seen or (only_known and self._target.version(stream) == 0):
                continue
            self._seen.add(stream)
            for piece in pieces(_read(self._source, self._source.backend.stream_positions(stream))):
                self._copier.add(piece)


def _merged_events(source_id: UUID, size: int, root: bytes, copier: Copier) -> Sequence[Staged]:
    streams = [stream for stream in copier.copied if not stream.startswith(CAPTURES)]
    events = []
    for start in range(0, len(streams), _NAMED_PER_EVENT):
        some = streams[start : start + _NAMED_PER_EVENT]
        records = sum(copier.copied[stream] for stream in some)
        events.append(("ledger", ev.ExperimentsMerged(str(source_id), size, root, records, some, dict(copier.renamed))))
    return events


def _refuse_same(source: Ledger, target: Ledger) -> None:
    paths = [getattr(book.log.backend, "path", None) for book in (source, target)]
    same_place = None not in paths and os.path.samefile(*map(str, paths))
    if source.log.backend is target.log.backend or same_place:
        raise InvalidValue(f"{source.path} and {target.path} are the same ledger; it cannot be merged into itself.")


def _chosen(source: Ledger, experiments: Iterable[str | UUID] | None) -> list[ExperimentState]:
    with source.log.backend.view() as view:
        states = list(view.experiments())
    if experiments is None:
        return states
    if isinstance(experiments, str | UUID):
        experiments = [experiments]
    wanted = {_find(source, name) for name in experiments}
    return [state for state in states if state.id in wanted]


def _find(source: Ledger, name: str | UUID) -> UUID:
    """Return the id of the experiment, live or else deleted."""
    try:
        return source.get_experiment(name).id
    except UnknownExperiment:
        with suppress(UnknownExperiment):
            return source.get_experiment(name, deleted=True).id
        raise


def _check_rename(source: Ledger, chosen: Sequence[ExperimentState], rename: Mapping[str, str]) -> dict[str, str]:
    """Refuse names that no chosen experiment has had: a slip of the pen must not go unnoticed."""
    if not rename:
        return {}
    known = {event.name for state in chosen for _, event in _naming_events(source.log, state.id)}
    for old, new in rename.items():
        if not isinstance(new, str) or not new.strip():
            raise InvalidValue(f"rename gives {old!r} the name {new!r}; give a text that is not empty.")
        check_label(new, "the experiment's new name")
        if old not in known:
            nearest = find_nearest(str(old), known)
            hint = f"Did you mean {nearest!r}?" if nearest else "Give a name that it has in the source."
            raise InvalidValue(f"rename names {old!r}, which no experiment to be merged is or was called. {hint}")
    return dict(rename)


def _naming_events(log: EventLog, experiment_id: UUID) -> Iterator[tuple[int, ev.ExperimentRenamed]]:
    for record in log.read(stream=experiment_stream(experiment_id), types=_NAMING):
        yield record.position, record.event


# -------------------------------------------------------------------------------------------------- what is new


def _new_positions(source: Ledger, target: Ledger, state: ExperimentState, size: int) -> Sequence[int]:
    """Return the positions in the source of the experiment's records that the target does not have.

    When the target has n of its records, and the last one is the n-th of the source, the ones before are, too: both are in
    the same order, and the versions of each stream are dense.
    """
    theirs = [position for position in source.log.backend.experiment_positions(state.id) if position <= size]
    ours = target.log.backend.experiment_positions(state.id)
    if not ours or not theirs:
        return theirs
    if len(ours) <= len(theirs) and _is_copy(_record(source, theirs[len(ours) - 1]), _record(target, ours[-1])):
        return theirs[len(ours) :]
    last = _record(source, theirs[-1])
    if any(_is_copy(last, record) for record in target.log.read(experiment=state.id)):
        return []  # the target has gone on, and the source has not
    raise CommandRefused(divergence(repr(state.name), target.path))


def _record(book: Ledger, position: int) -> Record:
    (record,) = book.log.backend.read_positions([position])
    return record


def _is_copy(record: Record, other: Record) -> bool:
    """Say whether one is the copy of the other, either way round, or both are the same."""
    subject = subject_of(record.stream)
    assert subject is not None  # it is in an experiment's list
    about = experiment_stream(subject.experiment_id)
    one, two = record.append_id, other.append_id
    is_related = one == two or copied_append_id(one, about) == two or copied_append_id(two, about) == one
    return is_related and (record.stream, record.version) == (other.stream, other.version)


def _check_names(
    source: Ledger, target: Ledger, chosen: set[UUID], plan: Mapping[UUID, Sequence[int]], rename: Mapping[str, str]
) -> None:
    """Refuse, before anything is written, a name on the way that another experiment of the target has."""
    with target.log.backend.view() as view:
        for experiment_id, positions in plan.items():
            for position, event in _naming_events(source.log, experiment_id):
                name = rename.get(event.name, event.name)
                holder = view.experiment_named(name) if name and position >= positions[0] else None
                if holder is not None and holder not in chosen:
                    raise ExperimentExists(
                        f"{target.path} has another experiment called {name!r} ({holder}). Give the one that is copied another "
                        f"name: --rename {event.name}=NEW (rename={{{event.name!r}: NEW}})."
                    )


def _read(log: EventLog, positions: Sequence[int]) -> Iterator[tuple[Envelope, str]]:
    for entry in entries_at(log.backend, positions):
        (envelope,) = decode_envelopes(b"\x91" + entry.raw)
        yield envelope, f"position {envelope.position} of {log.backend.name}"
