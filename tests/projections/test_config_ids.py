"""Numbers of configs: dense, by first appearance, the same however they were given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ledger
import projections
from projections import config_ids
from projections.config_ids import ConfigIds

CONFIGS = st.integers(0, 12).map(lambda number: {"lr": number} if number % 2 else {"lr": float(number - 1)})
STEPS = st.lists(st.tuples(st.sampled_from(["count", "number", "settle", "keep"]), st.lists(CONFIGS, max_size=20)), max_size=12)


@pytest.fixture(params=[0, 2, 1 << 40], ids=["always", "at times", "never"])
def few(request, monkeypatch):
    """When new ones are few, and looked for in a dict, not sorted."""
    monkeypatch.setattr(config_ids, "_FEW", request.param)


def numbered(configs):
    """Number configs one by one, as told apart by their texts: 1 and 1.0 differ."""
    known: dict[str, int] = {}
    return [known.setdefault(str(config), len(known) + 1) for config in configs]


def check(steps):
    """Number configs in steps, and compare with a dict; ``keep`` is what a checkpoint does."""
    ids, seen, given = ConfigIds(), [], np.zeros(0, np.int64)

    def settle():
        nonlocal given
        renumbered = ids.settle()
        if renumbered is not None:
            assert renumbered[0] == 0
            given = renumbered[given]
        assert given.tolist() == numbered(seen)

    for step, configs in steps:
        if step == "count":
            seen += configs
            given = np.append(given, np.array(ids.count(configs), np.int64))
            continue
        settle()
        if step == "number":
            seen += configs
            given = np.append(given, np.array(ids.numbers(configs), np.int64))
            assert given.tolist() == numbered(seen)
        elif step == "keep":
            ids = ConfigIds(ids.rows)
    settle()
    assert ids.settle() is None
    assert len(ids.digests()) == 16 * len(set(numbered(seen)))
    for config, number in zip(seen, numbered(seen), strict=True):
        assert ids.find(config) == number


@given(STEPS)
def test_numbers_are_those_of_a_dict(steps):
    """Counted and settled, given at once, or from a checkpoint on, in any order."""
    check(steps)


@pytest.mark.usefixtures("few")
def test_numbers_are_those_of_a_dict_whether_new_ones_are_few_or_many():
    """Looked for in a dict, or sorted."""

    @given(STEPS)
    def run(steps):
        check(steps)

    run()


def test_digests_that_are_half_the_same_are_told_apart(monkeypatch):
    """The first halves of all are the same: nobody can make such configs, but nothing relies on that."""
    monkeypatch.setattr(
        config_ids, "config_digests", lambda configs: [bytes(8) + each["lr"].to_bytes(8, "big") for each in configs]
    )
    ids = ConfigIds()
    assert ids.count([{"lr": each} for each in (3, 1, 3, 2, 1)]) == [1, 2, 3, 4, 5]
    assert ids.settle().tolist() == [0, 1, 2, 1, 3, 2]
    assert ids.numbers([{"lr": each} for each in (2, 4, 3)]) == [3, 4, 1]


def test_what_an_interrupted_build_shows_has_its_numbers():
    """Trials of equal configs have one number wherever the builder was stopped."""
    with ledger.open("memory:") as book:
        exp = book.experiment("demo")
        exp.new_trials([{"lr": number % 3} for number in range(3_000)])
        table = projections.Experiments()

        def stop(done, target):
            if done < target:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            projections.build(table, book.log, progress=stop)
        shown = table.trials(exp.id, now=0)
        assert 0 < len(shown) < 3_000
        assert shown["config_id"].tolist() == [number % 3 + 1 for number in range(len(shown))]
        whole = projections.build(table, book.log).trials(exp.id, now=0)
        assert whole["config_id"].tolist() == [number % 3 + 1 for number in range(3_000)]
