"""The door through which every projection is folded, the package's own and a user's."""

import datetime as dt

import pandas as pd
import pytest

import ledger
import projections
from ledger.state import evolve_trial
from ledger.streams import Subject
from projections.projection import STATE_EVENTS
from projections.rows import Rows


class EventCounts(projections.Projection):
    """Count events by type; remember each position."""

    name = "event_counts"
    schema_version = 1

    def __init__(self):
        self.positions = []
        self.counts = {}

    def apply(self, record):
        self.positions.append(record.position)
        self.counts[record.type] = self.counts.get(record.type, 0) + 1

    def table(self, least=0):
        rows = [(kind, count) for kind, count in sorted(self.counts.items()) if count >= least]
        return pd.DataFrame(rows, columns=["type", "count"])


class NoteCounts(EventCounts):
    """The same, of notes alone."""

    types = frozenset({"NoteAdded"})


class Brittle(EventCounts):
    """Raise at a note, after having half applied it."""

    def apply(self, record):
        super().apply(record)
        if record.type == "NoteAdded" and record.event.text == "bad":
            raise ValueError("cannot read that")


@pytest.mark.parametrize("batch", [1, 150, 10_000])
def test_each_record_once_and_in_order(book, batch, monkeypatch):
    """Folding in steps applies each record exactly once, in order, and stops at the position asked for; so in larger batches."""
    monkeypatch.setattr("projections.builder._BATCH_RECORDS", batch)
    exp = book.experiment("demo")
    exp.new_trials([{"n": n} for n in range(400)])
    projection = EventCounts()
    for as_of in (0, 1, 7, 7, 300):
        assert projections.build(projection, book.log, as_of=as_of) is projection
        assert (projection.position, projection.positions) == (as_of, list(range(1, as_of + 1)))
    exp.note("more")
    assert projections.build(projection, book.log).positions == list(range(1, 403))
    assert projections.build(projection, book.log, as_of=10**9).position == 402


def test_only_the_types_wanted(book):
    """A projection gets the types that it names, and yet stands for the whole log up to its position."""
    exp = book.experiment("demo")
    exp.note("a")
    exp.tag("b")
    projection = projections.build(NoteCounts(), book.log)
    assert (projection.positions, projection.position) == ([2], 3)


def test_a_fold_cannot_go_back(book):
    """Building to a position before the one reached is refused, and changes nothing."""
    book.experiment("demo").note("a")
    projection = projections.build(EventCounts(), book.log)
    with pytest.raises(ledger.InvalidValue, match=r"stands at position 2, after 1.*build\(EventCounts\(\)"):
        projections.build(projection, book.log, as_of=1)
    assert projection.positions == [1, 2]


def test_an_error_names_the_record(book):
    """What apply raises reaches the caller, with a note of the place; the next call starts anew and does not double."""
    exp = book.experiment("demo")
    exp.note("good")
    tables = projections.Tables(book)
    assert tables.table(Brittle)["count"].tolist() == [1, 1]
    exp.note("bad")
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot read that") as caught:
            tables.table(Brittle)
        assert caught.value.__notes__ == [f"Folding 'event_counts', at position 3: NoteAdded of {exp.stream!r}."]
    assert tables.table(Brittle, as_of=2)["count"].tolist() == [1, 1]


def test_an_error_of_records_that_are_folded_together_names_their_places(book):
    """Of those that a class takes in at once, as the trials are."""
    book.experiment("demo").new_trials([{}, {}])
    page, _ = book.log.page(1)
    with pytest.raises(ledger.UnknownExperiment) as caught:
        projections.Experiments().apply_all(page)
    assert caught.value.__notes__ == ["Folding 'experiments', from position 2 to 3."]


def test_a_projection_of_ones_own(book):
    """A user's projection is shown now, refreshed, as of a position, and with arguments of its own."""
    exp = book.experiment("demo")
    exp.note("a")
    tables = projections.Tables(book)
    assert tables.table(EventCounts).values.tolist() == [["ExperimentCreated", 1], ["NoteAdded", 1]]
    exp.note("b")
    assert tables.table(EventCounts).values.tolist() == [["ExperimentCreated", 1], ["NoteAdded", 2]]
    assert tables.table(EventCounts, as_of=1).values.tolist() == [["ExperimentCreated", 1]]
    assert tables.table(EventCounts, least=2).values.tolist() == [["NoteAdded", 2]]


def test_the_packages_tables_use_the_same_door(book):
    """What Tables shows is what build and table of the public projection give."""
    exp = book.experiment("demo")
    exp.new_trial({"lr": 0.1})
    tables = projections.Tables(book)
    built = projections.build(projections.Experiments(), book.log)
    pd.testing.assert_frame_equal(tables.trials("demo", now=0), built.trials(exp.id, now=0))
    pd.testing.assert_frame_equal(tables.configs("demo"), built.configs(exp.id))


@pytest.mark.parametrize("make", [dict, lambda: type("NoName", (EventCounts,), {"name": ""})()])
def test_what_is_no_projection_is_refused(book, make):
    """An object of another class, or a class without a name, is refused with the cure."""
    with pytest.raises(ledger.InvalidValue, match="give"):
        projections.build(make(), book.log)


@pytest.mark.parametrize(
    "kind", [each for each in map(vars(projections).get, projections.__all__) if "name" in vars(each) and hasattr(each, "apply")]
)
def test_a_projection_has_a_name_of_its_own(book, kind):
    """No table of the package has it, whatever that is derived from: the one would discard the other's checkpoints."""
    with pytest.raises(ledger.InvalidValue, match=f"has the name '{kind.name}', which projections.{kind.__name__} has"):
        projections.Tables(book).table(type("Own", (EventCounts,), {"name": kind.name}))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"name": None}, "has the name None; give its class a text"),
        ({"schema_version": 0}, "schema_version 0; give its class an int"),
    ],
)
def test_a_projection_without_a_name_or_version_is_told_so(tmp_path, said, told):
    """By its class, before anything is folded or looked for."""
    with ledger.open(tmp_path / "runs.ledger") as book, pytest.raises(ledger.InvalidValue, match=told):
        projections.Tables(book).table(type("Own", (EventCounts,), said))


def test_a_projection_needs_a_schema_version(book):
    """A class without a whole number from 1 as schema version is refused."""
    with pytest.raises(ledger.InvalidValue, match="schema_version '2'; give its class an int from 1"):
        projections.build(type("Text", (EventCounts,), {"schema_version": "2"})(), book.log)
    with pytest.raises(ledger.InvalidValue, match="derived from Projection"):
        projections.Tables(book).table(EventCounts())


@pytest.mark.parametrize("base", [EventCounts, projections.Experiments])
def test_a_name_of_the_packages_own_is_refused(book, base):
    """The two would discard each other's checkpoints."""
    with pytest.raises(ledger.InvalidValue, match=r"'experiments', which projections.Experiments has.*Give it another"):
        projections.Tables(book).table(type("Mine", (base,), {"name": "experiments", "__module__": "mine"}))


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ({"n": 1, "nane": "x"}, "no column 'nane'. Did you mean 'name'"),
        ({"n": 1, "zzz": 3}, "no column 'zzz'. There are: n, name, at"),
        ({"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, "'at' is of kind 'time'.*Give ns since 1970 UTC, as record.recorded_at"),
        ({"n": "x"}, "'n' is of kind 'id'.*'x'.*projections.buffers says"),
    ],
)
def test_cells_that_no_column_holds_are_refused(cells, told):
    """A mistyped name, and what is of another kind, are named with the cure."""
    with pytest.raises(ledger.InvalidValue, match=told):
        Rows({"n": "id", "name": "text", "at": "time"}).append(**cells)


def test_other_events_do_not_change_a_trial(book):
    """The types that the trial table reads past leave a trial's state as it is."""
    exp = book.experiment("demo")
    state = exp.new_trial({"lr": 0.1}).state
    others = [
        ledger.MetricsLogged([]), ledger.TelemetryLogged([]), ledger.NoteAdded("x"), ledger.EnvironmentCaptured({"a": 1}),
        ledger.TrialCaptured({"git": "0f" * 16}),
    ]  # fmt: skip
    for event in others:
        assert type(event).__name__ not in STATE_EVENTS
        assert evolve_trial(state, Subject(exp.id, 1), event, 5) is state


def test_events_of_other_streams_and_unknown_types_are_passed_by(book, tables):
    """A caller's own stream, and an event type that nobody registered, trouble no table."""
    exp = book.experiment("demo")
    trial = exp.new_trial({"lr": 0.1})
    unknown = ledger.UnknownEvent("FromTheFuture", 1, {"x": 1})
    book.log.append_many([("diary", ledger.NoteAdded("a")), (trial.stream, unknown), (exp.stream, unknown)])
    assert tables.trials("demo")["status"].tolist() == ["PENDING"]
    assert tables.configs("demo")["trials"].tolist() == [1]
    assert tables.experiments()["trials"].tolist() == [1]


def test_a_long_fold_tells_how_far_it_is():
    """The callback gets the position reached and the one to be reached, never beyond it, and only on long folds."""
    with ledger.open("memory:") as book:
        exp = book.experiment("demo")
        exp.new_trials([{"n": number} for number in range(2500)])
        calls = []
        tables = projections.Tables(book, progress=lambda *call: calls.append(call))
        assert len(tables.trials("demo")) == 2500
        assert [call for call in calls if call[1] == book.log.head] == calls != []
        assert [done for done, _ in calls] == sorted({done for done, _ in calls})
        assert calls[-1][0] == book.log.head
        calls.clear()
        exp.note("short")
        tables.trials("demo")
        assert calls == []
