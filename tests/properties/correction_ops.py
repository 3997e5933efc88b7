"""What corrections add to the lockstep test: amendments, tombstones, seals, ancestry, groups and redactions.

``make(command_op, places)`` returns a strategy of ops; ``places`` are the experiments, trials and names of the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import strategies as st

from ledger import ancestry, commands, corrections
from ledger import events as ev
from ledger.backends.base import Command, Staged, View
from ledger.errors import LedgerError
from ledger.records import Record
from ledger.redaction import remainder_of
from ledger.streams import experiment_stream, trial_stream

Build = Callable[[Any], Command]


class Places(NamedTuple):
    """What may be named; those named first are tried more often."""

    experiments: Sequence[UUID]
    trials: Sequence[int]
    names: Sequence[str]


_results = st.dictionaries(st.sampled_from(["loss", "time"]), st.integers(0, 2), max_size=2)
_configs = st.sampled_from([{}, {"lr": 1}, {"lr": 5}, {"new": 1}])
_LABEL = ev.TrialAmended(label="x")
_statuses = st.sampled_from([None, None, None, "FAILED", "SUCCEEDED", "LOST", "RUNNING", "NONSENSE"])


def _often(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([*values[:1] * 3, *values])


def _refusing(error: LedgerError) -> Command:
    def command(view: View) -> list[Staged]:
        raise error

    return command


@st.composite
def _on_trial(draw: st.DrawFn, places: Places) -> Build:
    experiment, trial, version = draw(_often(places.experiments)), draw(_often(places.trials)), draw(st.integers(0, 9))
    stream = trial_stream(experiment, trial)
    amended = ev.TrialAmended(
        draw(_results), draw(st.lists(st.sampled_from(["loss", "time"]), max_size=1)), draw(_configs),
        draw(st.sampled_from([None, "", "label"])), draw(_statuses),
    )  # fmt: skip
    parents = [
        trial_stream(e, t) for e, t in draw(st.lists(st.tuples(_often(places.experiments), _often(places.trials)), max_size=2))
    ]
    raw: list[ev.NoteAdded | Any] = [
        amended, ev.TrialDeleted(), ev.TrialRestored(), ev.TrialRestored(), ev.TrialGrouped(draw(st.sampled_from(["", "g"]))),
        ev.ParentsSet(parents), ev.NoteAdded("n"), ev.NoteAmended(version, "m"), ev.TrialConfigured(draw(_configs)),
        ev.AttributesSet({"a": 1}, "n"), ev.LateResultReceived(1, "FAILED", {"loss": 1}),
        ev.MetricsLogged([ev.Points(["x"], [1], [1], [[0.5]])]),
        ev.ArtifactLogged("x", "ab" * 32, 1, attempt=version), ev.ArtifactLogged("x", "no digest", 1),
    ]  # fmt: skip
    events = draw(st.lists(st.sampled_from(raw), min_size=1, max_size=2))
    return draw(
        st.sampled_from(
            [
                *[lambda machine: commands.record_on_trial(experiment, trial, *events)] * 6,
                lambda machine: commands.record_on_trial(experiment, trial, amended),
                lambda machine: (
                    corrections.amend_trial(experiment, trial, amended, "why")
                    if amended != ev.TrialAmended()
                    else lambda view: []
                ),
                lambda machine: corrections.delete_trial(experiment, trial, ensure=bool(version % 2)),
                lambda machine: corrections.restore_trial(experiment, trial),
                lambda machine: corrections.amend_note(stream, ev.NoteAmended(version, "amended"), "why"),
                lambda machine: ancestry.set_parents(stream, parents),
            ]
        )
    )


@st.composite
def _on_experiment(draw: st.DrawFn, places: Places) -> Build:
    experiment, name = draw(_often(places.experiments)), draw(st.sampled_from(places.names))
    parents = [experiment_stream(each) for each in draw(st.lists(st.sampled_from(places.experiments), max_size=2))]
    events: list[Any] = [
        ev.ObjectivesChanged({"loss": "min"}, {"loss": ev.Bounds(0, 1)}), ev.ParentsSet(parents), ev.NoteAdded("n"),
        ev.ExperimentRestored(name), ev.ExperimentUnsealed(), ev.ExperimentRestored(), ev.ArtifactLogged("x", "ab" * 32, 1),
    ]  # fmt: skip
    event = draw(st.sampled_from(events))
    return draw(
        st.sampled_from(
            [
                lambda machine: commands.record_on_experiment(experiment, event),
                lambda machine: ancestry.set_parents(experiment_stream(experiment), parents),
                lambda machine: corrections.seal(experiment),
                *[lambda machine: corrections.unseal(experiment, "why")] * 3,
                lambda machine: corrections.delete_experiment(experiment, ensure=False),
                *[lambda machine: corrections.restore_experiment(experiment, None if name == places.names[0] else name)] * 3,
            ]
        )
    )


@st.composite
def _redactions(draw: st.DrawFn) -> Build:
    numbers = draw(st.lists(st.integers(0, 200), min_size=1, max_size=3, unique=True))
    own = draw(st.sampled_from([False, False, True]))

    def build(machine: Any) -> Command:
        head = machine.memory.head()
        records: list[Record] = machine.memory.read_positions(sorted({number % max(head, 1) + 1 for number in numbers}))
        try:
            if own:  # a forged one
                first = records[0]
                return lambda view: [(first.stream, ev.PayloadRedacted(first.version + 1, first.type, b"\xc0"))]
            good = [record for record in records if not _is_refused(record)]
            return corrections.redact(good or records, "why")
        except LedgerError as error:
            return _refusing(error)

    return build


def _is_refused(record: Record) -> bool:
    try:
        remainder_of(record.stream, record.event)
    except LedgerError:
        return True
    return record.is_redacted


def make(command_op: Callable[[Build], Any], places: Places) -> st.SearchStrategy[Any]:
    """Return the strategy of ops, each made by ``command_op`` from a function of the machine to a command."""
    return st.one_of(*[_on_trial(places)] * 4, _on_experiment(places), _redactions(), _redactions()).map(command_op)
