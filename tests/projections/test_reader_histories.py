"""The Reader over random histories: moved on step by step it shows what a new one shows, and never changes what it showed."""

import math

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger
from projections import Reader, build
from projections.trial_annotations import TrialAnnotations

NAMES = st.sampled_from(["a", "b.c", "d e"])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.5, math.nan, 10**20]), st.sampled_from(["x", "y"]),
    st.lists(st.integers(0, 2), max_size=2), st.dictionaries(NAMES, st.integers(0, 2), max_size=2),
)  # fmt: skip
DICTS = st.dictionaries(NAMES, VALUES, max_size=3)
STEPS = st.one_of(
    st.tuples(st.just("create"), DICTS),
    st.tuples(st.just("attributes"), DICTS),
    st.tuples(st.just("tag"), st.sampled_from(["t", "u"])),
    st.tuples(st.just("untag"), st.sampled_from(["t", "u"])),
    st.tuples(st.just("metric"), st.lists(st.sampled_from([1, 2.5, math.nan, "x", None]), min_size=1, max_size=3)),
    st.tuples(st.just("complete"), DICTS),
    st.tuples(st.just("amend"), DICTS),
    st.tuples(st.just("artifact"), NAMES),
    st.tuples(st.just("delete"), st.none()),
)


def take(exp, trial, kind, value):
    """Let something happen to a trial, if it may."""
    if kind == "attributes":
        trial.set_attributes(value or {"a": 1}, namespace="mlxp" if "a" in value else "")
    elif kind in ("tag", "untag"):
        getattr(trial, kind)(value)
    elif kind == "metric":
        trial.log_many({"loss": value, "config.a": value}, steps=range(len(value)))
    elif kind == "complete":
        trial.complete(value)
    elif kind == "amend":
        trial.amend(results=value or {"a": None}, config=value, reason="wrong")
    elif kind == "artifact":
        trial.log_artifact(value, name=f"{value}/file")
    else:
        trial.delete(reason="wrong")


def shown(reader):
    """Return everything that a reader shows, in a form that can be compared."""
    rows = []
    for row in reader.filter():
        values = {key: sorted(value) if key.startswith("artifact.") else value for key, value in row.items()}
        rows.append({key: repr(value) for key, value in values.items()})
    return rows, reader.fields["Type"].to_dict()


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 3)), max_size=12))
def test_a_reader_that_is_moved_on_shows_what_a_new_one_shows(steps):
    """At every position; and what it showed before stays as it was."""
    with ledger.open("memory:") as book:
        exp = book.experiment("demo")
        reader = Reader(book)
        before, seen = reader.filter(), None
        annotations = TrialAnnotations()
        for (kind, value), number in steps:
            trials = list(exp.trials())
            try:
                if kind == "create":
                    exp.new_trial(value)
                elif trials:
                    take(exp, trials[number % len(trials)], kind, value)
            except (ledger.CommandRefused, ledger.InvalidValue):
                continue
            if seen is not None:
                assert before.toPandas().map(repr).equals(seen)
            reader.refresh()
            assert shown(reader) == shown(Reader(book))
            before = reader.filter()
            seen = before.toPandas().map(repr)
            again = TrialAnnotations()
            again.load(*build(annotations, book.log).save())
            pd.testing.assert_frame_equal(again.table(exp.id), annotations.table(exp.id))
