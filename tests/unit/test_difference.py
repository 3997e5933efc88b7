"""What two descriptions of trials do not have in common."""

from __future__ import annotations

import pytest

import ledger
from ledger.difference import SECTIONS, Change, compare, describe, has_differences


@pytest.fixture
def exp():
    """An experiment of a ledger in memory."""
    with ledger.open("memory:") as book:
        yield book.experiment("demo")


@pytest.mark.parametrize(
    ("left", "right", "differ"),
    [
        (1, 1, False), (1, 1.0, True), (1, True, True), (float("nan"), float("nan"), False), (0.0, -0.0, True),
        ([1], (1,), True), ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False), (None, None, False), (b"x", "x", True),
    ],
)  # fmt: skip
def test_values_are_equal_when_they_are_recorded_alike(left, right, differ):
    """Equal is what has the same bytes in a record: the type counts, the order of names does not, NaN equals NaN."""
    assert Change(left, right).is_difference is differ


def test_null_is_not_absent():
    """None on one side and nothing on the other differ; nothing on both sides does not."""
    assert Change(left=None).is_difference
    assert Change(right=None).is_difference
    assert not Change().is_difference


def test_a_stream_without_records_is_refused():
    """There is nothing to describe before the first record."""
    with pytest.raises(ledger.UnknownTrial):
        describe([])


def test_the_newest_environment_counts(exp):
    """A trial's own environment comes before its experiment's, and the newest of each before older ones."""
    trial = exp.new_trial({})
    exp.capture_environment({"python": "3.11"})
    exp.capture_environment({"python": "3.12"})
    assert describe(trial.history(), exp.history()).environment == {"python": "3.12"}
    trial.capture_environment({})
    assert describe(trial.history(), exp.history()).environment == {}


def test_metrics_in_short(exp):
    """Of each metric the last value, its step and the number of points are kept, over all events."""
    trial = exp.new_trial({})
    for step in range(3):
        trial.log(step=step, loss=1.0 / (step + 1))
        trial.flush()
    trial.log(note="done")
    trial.flush()
    metrics = describe(trial.history()).metrics
    assert (metrics["loss"].step, metrics["loss"].points, metrics["loss"].value) == (2, 3, 1.0 / 3)
    assert (metrics["note"].value, metrics["note"].step) == ("done", None)


def test_sections_are_always_all_there(exp):
    """A comparison of equal descriptions has every section, empty; with everything, what is equal."""
    description = describe(exp.new_trial({"a": 1}).history())
    comparison = compare(description, description)
    assert comparison == {section: {} for section in SECTIONS}
    assert not has_differences(comparison)
    everything = compare(description, description, everything=True)
    assert everything["config"] == {"a": Change(1, 1)}
    assert not has_differences(everything)


def test_differences_outside_of_a_section(exp):
    """What differs in the sections that are left out of the question is no difference."""
    one, two = (describe(exp.new_trial({"a": value}).history()) for value in (1, 2))
    comparison = compare(one, two)
    assert has_differences(comparison, but=["times"])
    assert not has_differences(comparison, but=["times", "config"])
