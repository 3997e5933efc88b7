"""Saying more: objectives with bounds, arms, numbers, groups, labels, parents, attributes, tags."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import ledger
import projections
from ledger import Arm, Bounds, Objective, Status

BOUNDED = {"loss": Objective("min", 0, 1), "rows": Objective("max", lower=10), "seconds": Objective("min", upper=60)}


@pytest.fixture(params=["memory:", "directory"])
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ledger.Ledger]:
    """A ledger of each kind, which checks itself at the end."""
    place = "memory:" if request.param == "memory:" else str(tmp_path / "runs.ledger")
    with ledger.open(place, durability="relaxed") as opened:
        yield opened
        opened.log.backend.check()


@pytest.fixture
def exp(book: ledger.Ledger) -> ledger.Experiment:
    """An experiment whose results have bounds."""
    return book.experiment("bounded", objectives=BOUNDED)


# ------------------------------------------------------------------------------------------------------------ bounds


@pytest.mark.parametrize(
    "results",
    [
        {}, {"other": -5}, {"loss": 0}, {"loss": 1.0}, {"loss": 0.5, "rows": 10, "seconds": 60}, {"rows": 10**30},
        {"rows": math.inf}, {"seconds": -math.inf}, {"loss": Decimal("0.5")}, {"loss": Decimal(1)},
    ],
)  # fmt: skip
def test_results_within_their_bounds_succeed(exp: ledger.Experiment, results: dict[str, Any]) -> None:
    """Both bounds are acceptable themselves, a missing one is no bound, and what has no bounds is anything."""
    trial = exp.new_trial({})
    trial.complete(results)
    assert (trial.status, trial.results) == (Status.SUCCEEDED, results)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({"loss": 1.0000001}, r"loss = 1\.0000001 is outside of its bounds 0\.\.1"),
        ({"loss": -1e-300}, "loss = -1e-300"),
        ({"rows": 9, "loss": 0.5}, r"rows = 9 is outside of its bounds 10\.\."),
        ({"seconds": 61}, r"seconds = 61 is outside of its bounds \.\.60"),
        ({"loss": math.nan}, "loss = nan"),
        ({"rows": math.nan}, "rows = nan"),
        ({"loss": Decimal("NaN")}, "loss = Decimal"),
        ({"loss": Decimal("1.1")}, "loss = Decimal"),
        ({"loss": None}, "loss = None"),
        ({"loss": True}, "loss = True"),
        ({"loss": "0.5"}, "loss = '0.5'"),
        ({"loss": [0.5]}, "loss = "),
        ({"loss": 10**5000}, "loss = an int too long to show"),
    ],
)
def test_a_result_outside_of_its_bounds_fails_the_trial(exp: ledger.Experiment, results: dict[str, Any], words: str) -> None:
    """FAILED with ResultOutOfBounds as the error, the results kept, and a warning to whoever completed it."""
    trial = exp.new_trial({})
    with pytest.warns(ledger.ResultOutOfBounds, match=words):
        trial.complete(results)
    state = trial.state
    assert state.status is Status.FAILED
    assert state.error is not None
    assert state.error.type == "ResultOutOfBounds"
    assert set(state.results) == set(results)


def test_numpy_results_are_numbers(exp: ledger.Experiment) -> None:
    """numpy scalars of any width are held against the bounds as the numbers they are recorded as."""
    np = pytest.importorskip("numpy")
    for value in (np.float32(0.5), np.float64(1.0), np.int64(1), np.uint8(0), np.float16(0.25), np.array(0.5)):
        trial = exp.new_trial({})
        trial.complete({"loss": value})
        assert (trial.status, trial.results["loss"]) == (Status.SUCCEEDED, float(value))
    for value in (np.float32(1.5), np.float32("nan"), np.bool_(True)):
        trial = exp.new_trial({})
        with pytest.warns(ledger.ResultOutOfBounds):
            trial.complete({"loss": value})
        assert trial.status is Status.FAILED


def test_results_reported_earlier_count_at_the_end(exp: ledger.Experiment) -> None:
    """A value out of bounds reported before fails the trial, unless a later one replaced it; only the end looks."""
    trial = exp.new_trial({})
    trial.start()
    trial.report({"loss": 5})
    assert trial.status is Status.RUNNING
    with pytest.warns(ledger.ResultOutOfBounds, match="loss = 5"):
        trial.complete()
    assert (trial.status, trial.results) == (Status.FAILED, {"loss": 5})
    with exp.new_trial({}).run() as again:
        again.report({"loss": 5})
        again.complete({"loss": 0.5})
    again.report({"loss": 7})
    assert (again.status, again.results) == (Status.SUCCEEDED, {"loss": 7})
    for end in ("prune", "time_out", "fail"):
        other = exp.new_trial({})
        other.start()
        getattr(other, end)(results={"loss": 9})
        assert other.state.error is None


def test_the_bounds_of_the_moment_count(book: ledger.Ledger, exp: ledger.Experiment) -> None:
    """Changed bounds count for trials that end afterwards, and are a change when resuming; ended trials stay."""
    old = exp.new_trial({})
    old.complete({"loss": 1})
    exp.set_objectives({"loss": Objective("min", upper=0.5)})
    assert (exp.bounds, exp.objectives) == ({"loss": Bounds(None, 0.5)}, {"loss": "min"})
    new = exp.new_trial({})
    with pytest.warns(ledger.ResultOutOfBounds):
        new.complete({"loss": 1})
    assert (old.status, new.status) == (Status.SUCCEEDED, Status.FAILED)
    with pytest.warns(ledger.ExperimentChanged, match="ObjectivesChanged"):
        book.experiment("bounded", objectives={"loss": "min"})
    assert exp.bounds == {}
    exp.new_trial({}).complete({"loss": 1})
    assert book.experiment("bounded", objectives={"loss": Objective("min")}).changes == ()


@pytest.mark.parametrize(
    "objectives",
    [
        {"x": "least"}, {"x": None}, {"x": Objective("min", 2, 1)}, {"x": Objective("min", math.nan)}, {1: "min"}, ["x"],
        {"x": Objective("min", True)}, {"x": Objective("min", "0")}, {"x": Objective("min", 10**400)}, {"\ud800": "min"}, "min",
        {"x": Objective("sum", 0)},
    ],
)  # fmt: skip
def test_objectives_that_are_none_are_refused(book: ledger.Ledger, objectives: Any) -> None:
    """Unknown directions, crossed, absent or impossible bounds, and names that are no text; nothing is recorded."""
    with pytest.raises(ledger.InvalidValue):
        book.experiment("e", objectives=objectives)
    assert book.log.head == 0


# ------------------------------------------------------------------------------------- arms, numbers, groups, labels


def test_weighted_arms_keep_their_types(exp: ledger.Experiment) -> None:
    """Several configs in one trial, with weights and names, come back as they were given."""
    arms = [Arm({"lr": 0.1, "pair": (1, 2)}, 0.25, "0_0"), Arm({"lr": Decimal("0.2")}, 0.75)]
    trial = exp.new_trial({}, arms=iter(arms))
    assert trial.state.arms == tuple(arms)
    assert next(trial.history()).event.arms == tuple(arms)


def test_callers_numbers_may_have_gaps(exp: ledger.Experiment) -> None:
    """Numbers from 0 with gaps; counting goes on after the highest; a taken one is refused."""
    assert [exp.new_trial({}, number=n).id for n in (0, 7, 3)] == [0, 7, 3]
    assert [exp.new_trial({}).id, *(t.id for t in exp.new_trials([{}, {}]))] == [8, 9, 10]
    for taken in (0, 3, 8):
        with pytest.raises(ledger.TrialExists):
            exp.new_trial({}, number=taken)
    for bad in (-1, 1.0, "1", True):
        with pytest.raises(ledger.InvalidValue):
            exp.new_trial({}, number=bad)  # type: ignore[arg-type]
    assert [trial.id for trial in exp.trials()] == [0, 7, 3, 8, 9, 10]


def test_groups_and_labels_show_in_states_and_tables(exp: ledger.Experiment) -> None:
    """Given with the trial, changed at any time, taken back with an empty text; missing in tables when there is none."""
    one = exp.new_trial({}, label="base", group="g1")
    two = exp.new_trials([{}], group="g1")[0]
    two.complete()
    two.set_group("g2 \N{GREEK SMALL LETTER OMEGA}")
    one.set_group("")
    assert (one.state.label, one.state.group, two.state.group) == ("base", "", "g2 \N{GREEK SMALL LETTER OMEGA}")
    shown = projections.Tables(exp.book).trials("bounded")
    assert [value if isinstance(value, str) else None for value in shown["group"]] == [None, "g2 \N{GREEK SMALL LETTER OMEGA}"]
    assert [value if isinstance(value, str) else None for value in shown["label"]] == ["base", None]
    first = projections.Tables(exp.book).trials("bounded", as_of=3)
    assert first["group"].tolist() == ["g1", "g1"]
    for bad in (None, 5):
        with pytest.raises(ledger.InvalidValue):
            one.set_group(bad)  # type: ignore[arg-type]
        with pytest.raises(ledger.InvalidValue):
            exp.new_trial({}, label=bad)  # type: ignore[arg-type]


def test_a_config_grows_by_parameters_set_once(exp: ledger.Experiment) -> None:
    """Define-by-run, before the claim and while it runs; the same value again is no harm, another is refused."""
    trial = exp.new_trial({"layers": 1})
    trial.configure({"units": (8, 16)})
    with trial.run():
        trial.configure({"units": (8, 16), "rate": 0.1})
        with pytest.raises(ledger.InvalidValue, match=r"'rate' = 0\.1 already"):
            trial.configure({"rate": 0.2, "new": 1})
    assert trial.config == {"layers": 1, "units": (8, 16), "rate": 0.1}


# ----------------------------------------------------------------------------------------------------------- parents


def test_parents_are_given_at_creation_and_later(book: ledger.Ledger, exp: ledger.Experiment) -> None:
    """As handles or streams, of other experiments too; setting replaces them; an empty list is none."""
    first, second = exp.new_trials([{}, {}])
    elsewhere = book.experiment("other").new_trial({})
    child = exp.new_trial({}, parents=[first, elsewhere.stream])
    assert child.state.parents == (first.stream, elsewhere.stream)
    child.set_parents([second], reason="mixed up")
    assert child.state.parents == (second.stream,)
    assert list(child.history())[-1].reason == "mixed up"
    child.set_parents([])
    assert child.state.parents == ()
    younger = book.experiment("younger", parents=[exp, book.get_experiment("other")])
    assert younger.state.parents == (exp.stream, book.get_experiment("other").stream)
    assert book.experiment("younger").changes == ()
    with pytest.warns(ledger.ExperimentChanged, match="ParentsSet"):
        book.experiment("younger", parents=[])
    assert younger.state.parents == ()


def test_impossible_parents_are_refused(book: ledger.Ledger, exp: ledger.Experiment) -> None:
    """What does not exist, is named twice, is of the other kind, is no stream, or is the child itself."""
    trial = exp.new_trial({})
    ghost = ledger.new_uuid7().hex
    head = book.log.head
    cases: list[tuple[type[Exception], ledger.Trial | ledger.Experiment, list[Any]]] = [
        (ledger.UnknownTrial, trial, [f"trial/{exp.id.hex}/99"]), (ledger.UnknownTrial, trial, [f"trial/{ghost}/1"]),
        (ledger.UnknownExperiment, exp, [f"experiment/{ghost}"]), (ledger.InvalidValue, trial, [exp]),
        (ledger.InvalidValue, exp, [trial]), (ledger.InvalidValue, trial, ["diary"]), (ledger.InvalidValue, trial, ["trial/x/1"]),
        (ledger.InvalidValue, trial, [5]), (ledger.InvalidValue, trial, [None]), (ledger.InvalidValue, trial, [["x"]]),
        (ledger.CommandRefused, trial, [trial]), (ledger.CommandRefused, exp, [exp]),
    ]  # fmt: skip
    for error, thing, parents in cases:
        with pytest.raises(error):
            thing.set_parents(parents)
        with pytest.raises(error):
            if isinstance(thing, ledger.Trial):
                exp.new_trial({}, parents=[f"trial/{exp.id.hex}/2"] if parents == [trial] else parents)
            else:
                exp.set_parents(parents)
    other = exp.new_trial({})
    for parents in (trial, trial.stream):
        with pytest.raises(ledger.InvalidValue, match="give a list"):
            other.set_parents(parents)  # type: ignore[arg-type]
    with pytest.raises(ledger.InvalidValue, match="twice"):
        other.set_parents([trial, trial.stream])
    assert book.log.head == head + 1


def test_nobody_descends_from_its_own_child(book: ledger.Ledger, exp: ledger.Experiment) -> None:
    """A cycle is found through many levels and several parents; one that was deleted is an ancestor all the same."""
    chain = [exp.new_trial({})]
    for _ in range(30):
        chain.append(exp.new_trial({}, parents=[chain[-1], *chain[:1]] if len(chain) > 1 else chain[-1:]))
    chain[10].delete()
    for descendant in (chain[1], chain[15], chain[30]):
        with pytest.raises(ledger.CommandRefused, match="would descend from itself"):
            chain[0].set_parents([descendant])
    assert chain[0].state.parents == ()
    chain[5].set_parents([])
    chain[0].set_parents([chain[5]])
    old, middle, new = book.experiment("a"), book.experiment("b"), book.experiment("c")
    middle.set_parents([old])
    new.set_parents([middle])
    with pytest.raises(ledger.CommandRefused, match="would descend from itself"):
        old.set_parents([new])
    with pytest.raises(ledger.CommandRefused, match="would descend from itself"):
        book.experiment("a", parents=[middle])


# ------------------------------------------------------------------------------------------- attributes, tags, notes


def test_attributes_live_in_namespaces(exp: ledger.Experiment) -> None:
    """The same key in two namespaces are two attributes; None removes one, and the last one its namespace."""
    trial = exp.new_trial({})
    things: list[Any] = [exp, trial]
    for thing in things:
        thing.set_attributes({"a": (1, 2), "b": {"x": [None]}})
        thing.set_attributes({"a": "other", "gone": 1}, namespace="optuna.system")
        thing.set_attributes({"gone": None, "never": None}, namespace="optuna.system")
        assert thing.state.attributes == {"": {"a": (1, 2), "b": {"x": [None]}}, "optuna.system": {"a": "other"}}
        thing.set_attributes({"a": None}, namespace="optuna.system")
        assert list(thing.state.attributes) == [""]
        for bad in ({"a": {1}}, {"a": Fraction(1, 2)}, {5: 1, "a": object()}):
            with pytest.raises(ledger.InvalidValue):
                thing.set_attributes(bad)
        assert list(thing.state.attributes) == [""]


def test_tags_are_a_set_and_sorted(exp: ledger.Experiment) -> None:
    """Twice is once, what is not there is taken off without complaint, and both show as they are in tables."""
    for thing in (exp, exp.new_trial({})):
        thing.tag("b", "a", "b")
        thing.tag("c")
        thing.untag("b", "never")
        assert thing.state.tags == ("a", "c")
        with pytest.raises(ledger.InvalidValue):
            thing.tag(5)  # type: ignore[arg-type]
    assert projections.Tables(exp.book).experiments()["tags"].tolist() == [("a", "c")]


def test_notes_have_who_and_when(exp: ledger.Experiment) -> None:
    """In order, with the actor and the time, in experiments and in trials that have ended."""
    trial = exp.new_trial({})
    trial.complete()
    steps: list[Callable[[str], None]] = [exp.note, trial.note]
    for note, thing in zip(steps, (exp, trial), strict=True):
        note("first \N{GREEK SMALL LETTER OMEGA}\n")
        note("")
        assert [each.text for each in thing.notes()] == ["first \N{GREEK SMALL LETTER OMEGA}\n", ""]
        each = thing.notes()[0]
        assert (each.actor, each.time.tzinfo is not None) == (exp.book.log.actor, True)
