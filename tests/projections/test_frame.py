"""Frames: columns, maps, filters, groups, as MLXP's have them, and without what MLXP's get wrong."""

import functools
import math
import statistics
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import ledger
from ledger.errors import InvalidValue, UnknownKey
from projections import MISSING, Frame, GroupedFrame, Reader

CONFIGS = [
    {"lr": 1.0, "units": 2, "seed": 1}, {"lr": 1.0, "units": 3, "seed": 2}, {"lr": 10.0, "units": 2, "seed": 1},
    {"lr": 10.0, "units": 3, "seed": 2}, {"lr": None, "units": 2, "seed": 3}, {"units": 2, "seed": 3},
]  # fmt: skip


@pytest.fixture
def frame(book):
    """Six trials: of one lr is None, one has none; the last one waits, and has no metrics."""
    exp = book.experiment("demo")
    for number, config in enumerate(CONFIGS, start=1):
        trial = exp.new_trial(config)
        if number < 6:
            trial.log_many({"loss": [8.0 / number, 4.0 / number]}, steps=[1, 2])
            trial.complete({"score": number})
    return Reader(book).filter()


def test_nan_is_one_group_whatever_its_type(book):
    """A NaN that is a Decimal is the same as any other: rows with it are one group, and do not differ in it."""
    exp = book.experiment("demo")
    for value in (Decimal("NaN"), Decimal("NaN"), math.nan, Decimal(1)):
        exp.new_trial({"x": value})
    frame = Reader(book).filter()
    assert [len(group) for group in frame.groupby("config.x").values()] == [1, 3]
    assert (frame[:3].diff(), frame.diff()) == ([], ["config.x"])


def test_columns_rows_and_slices(frame):
    """A name is a column, None where a row has none; a number is a row, a slice a frame."""
    assert frame["config.lr"] == [1.0, 1.0, 10.0, 10.0, None, None]
    assert frame[:]["config.seed"] == frame["config.seed"] == [1, 2, 1, 2, 3, 3]
    assert frame[1:3]["loss"] == [[4.0, 2.0], [8.0 / 3, 4.0 / 3]]
    assert (len(frame[1:3]), frame[-1]["config.seed"], [row["info.trial_id"] for row in frame]) == (2, 3, [1, 2, 3, 4, 5, 6])
    with pytest.raises(UnknownKey, match=r"Did you mean 'config\.seed'"):
        frame["seed"]
    with pytest.raises(IndexError):
        frame[6]
    with pytest.raises(InvalidValue, match="is no row"):
        Frame([{"a": 1}])


def test_columns_as_pandas_have_their_types(frame):
    """Ints stay ints beside missing values; METRIC stands for what is not loaded."""
    table = frame.toPandas()
    assert list(table.columns) == frame.keys() == sorted(frame.keys())
    assert (str(table["config.seed"].dtype), str(table["result.score"].dtype)) == ("Int64", "Int64")
    assert table["loss"].tolist() == ["METRIC"] * 5 + [pd.NA]
    assert frame.toPandas(lazy=False)["loss"].tolist()[0] == [8.0, 4.0]
    assert frame[:0].toPandas().shape == (0, 0)
    assert frame._repr_html_().startswith("<div>")


def test_diff_says_what_varies_or_is_missing(frame):
    """Missing in any row, the first one as well; each key once. NaN does not differ from NaN."""
    assert frame.diff() == ["config.lr", "config.seed", "config.units"]
    assert frame[:2].diff() == ["config.seed", "config.units"]
    assert frame[4:].diff() == ["config.lr"]  # None in one, missing in the other
    assert Frame(list(frame)[::-1]).diff() == frame.diff()
    assert frame[:2].diff("loss") == ["loss"]
    assert frame[:1].diff("") == frame[:0].diff() == []
    nans = Reader(trials({"x": math.nan}, {"x": math.nan})).filter()
    assert nans.diff() == []


def trials(*configs):
    book = ledger.open("memory:")
    book.experiment("demo").new_trials(configs)
    return book


def test_aggregate_makes_one_row_of_what_there_is(frame):
    """Rows without the column are left out, so that a trial that waits is in nobody's way; names are MLXP's."""
    made = frame.aggregate([(statistics.mean, ("config.seed", "result.score")), (functools.partial(np.mean, axis=0), "loss")])
    assert made.keys() == ["fmean.config.seed", "fmean.result.score", "fmean.loss"]
    assert (len(made), made[0]["fmean.config.seed"], made[0]["fmean.result.score"]) == (1, 2, 3)
    assert made[0]["fmean.loss"].tolist() == pytest.approx([8 * 137 / 300, 4 * 137 / 300])
    assert frame.aggregate((lambda x: max(x), "config.seed")).keys() == ["f<lambda>.config.seed"]
    assert frame.aggregate((max, "config.seed", "most"))["most"] == [3]
    assert frame[:0].aggregate((max, "config.seed"))[0]["fmax.config.seed"] is None
    maps = [(max, "config.seed")]
    frame.aggregate(maps)
    assert maps == [(max, "config.seed")]


def test_a_group_in_which_nobody_has_a_column_is_in_nobodys_way(frame):
    """A sweep of which some trials have not begun."""
    means = frame.groupby("config.lr").aggregate((statistics.mean, "result.score"), ungroup=True)
    assert means["fmean.result.score"] == [1.5, 3.5, 5, None]
    assert frame[5:]["loss"] == [None]
    assert frame[5:].sort("result.score")["loss"] == [None]
    with pytest.raises(UnknownKey):
        means["result.score"]


def test_map_transform_and_apply(frame):
    """By value, by column, by columns together, by row."""
    assert frame.map((str, "config.lr"))["fstr.config.lr"] == ["1.0", "1.0", "10.0", "10.0", "None", None]
    ranks = frame.transform((lambda x: np.argsort(np.argsort(x)), "config.seed", "rank"))
    assert ranks["rank"] == [0, 2, 1, 3, 4, 5]
    assert frame.apply((max, ("config.units", "config.seed")), "Rowwise")["fmax.config.units_config.seed"] == [2, 3, 2, 3, 3, 3]
    assert frame.apply((lambda a, b: sum(a) + sum(b), ("config.units", "config.seed"), "sum"))["sum"] == [26]
    both = frame.apply((lambda a: ([-x for x in a], a), "config.seed", ("minus", "same")))
    assert (both["minus"], both["same"]) == ([-1, -2, -1, -2, -3, -3], [1, 2, 1, 2, 3, 3])
    assert frame.apply((len, ("config.seed", "config.lr")), "Columnwise").toPandas().values.tolist() == [[6, 6]]
    assert frame.apply((lambda v: v + 1, "config.seed"), "Pointwise")[0]["f<lambda>.config.seed"] == 2
    divided = frame.apply((lambda v: divmod(v, 2), "config.seed", ("q", "r")), "Rowwise")
    assert (divided["q"], divided["r"]) == ([0, 1, 0, 1, 1, 1], [1, 0, 1, 0, 1, 1])


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ("mean", "is no map"),
        ((max,), "is no map"),
        (("max", "config.seed"), "is no map"),
        ((max, 3), "names no column"),
        ([], "is no map"),
        ((max, ("config.seed", "config.lr"), "one"), "give one for each column"),
        ([(lambda x: 1, "config.seed"), (lambda x: 2, "config.seed")], "two maps make the column"),
        ((max, "config.nope"), "no row has the column"),
    ],
)
def test_what_is_no_map_is_refused(frame, maps, message):
    """MLXP raises a bare AssertionError."""
    with pytest.raises((InvalidValue, UnknownKey), match=message):
        frame.aggregate(maps)


def test_results_of_the_wrong_shape_are_refused(frame):
    """With what was expected."""
    with pytest.raises(InvalidValue, match="6 values, one a row"):
        frame.transform((max, "config.seed"))
    with pytest.raises(InvalidValue, match="not of 6 values, as other columns are"):
        frame.apply([(list, "config.seed"), (max, "config.units")], "Columnwise")
    with pytest.raises(InvalidValue, match="returns 2 values, and 1 names"):
        frame.apply((lambda a: (1, 2), "config.seed"))
    with pytest.raises(InvalidValue, match="no maps of type 'Sideways'"):
        frame.apply((max, "config.seed"), "Sideways")
    with pytest.raises(InvalidValue, match="must return 6 truth values"):
        frame.filter((max, "config.seed"))
    with pytest.raises(InvalidValue, match="2 filters are given"):
        frame.filter([(list, "config.seed"), (list, "config.units")])


def test_filter_keeps_rows_by_columns_and_by_groups(frame):
    """The function sees whole columns; with ``bygroups`` those of one group at a time."""
    assert frame.filter((lambda s, u: np.array(s) > np.array(u), ("config.seed", "config.units")))["info.trial_id"] == [5, 6]
    best = frame[:5].filter((lambda s: np.array(s) == max(s), "result.score"), bygroups="config.units")
    assert sorted(best["info.trial_id"]) == [4, 5]
    assert best[0]["loss"]  # rows are trials still
    assert frame[:0].filter((lambda x: [], "config.seed"), bygroups=["config.units"]).toPandas().empty


def test_sort_puts_nothing_last_and_mixes_types():
    """None, NaN and missing values are no error, and come last either way; equal rows stay as they were."""
    frame = Reader(trials({"x": None}, {"x": 2}, {}, {"x": "a"}, {"x": math.nan}, {"x": 1.5, "y": 1}, {"x": 2, "y": 0})).filter()
    assert frame.sort("config.x")["info.trial_id"] == [6, 2, 7, 4, 5, 1, 3]
    assert frame.sort("config.x", ascending=False)["info.trial_id"] == [4, 2, 7, 6, 5, 1, 3]
    assert frame.sort(["config.x", "config.y"])["info.trial_id"][:4] == [6, 7, 2, 4]
    assert frame["info.trial_id"] == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(UnknownKey):
        frame.sort("config.z")


def test_groups_keep_none_and_missing_and_are_in_order(frame):
    """MLXP drops None from the key, fails for a missing one, and has the groups in any order."""
    grouped = frame.groupby("config.lr")
    assert list(grouped) == [(1.0,), (10.0,), (None,), (MISSING,)]
    assert [group["info.trial_id"] for group in grouped.values()] == [[1, 2], [3, 4], [5], [6]]
    assert (len(grouped), grouped[(10.0,)]["config.seed"]) == (4, [1, 2])
    both = frame.groupby(["config.units", "config.lr"])
    assert list(both) == [(2, 1.0), (2, 10.0), (2, None), (2, MISSING), (3, 1.0), (3, 10.0)]
    odd = Reader(trials({"x": [1, 2]}, {"x": [1, 2]}, {"x": math.nan}, {"x": math.nan}, {"x": "a"})).filter().groupby("config.x")
    assert [len(group) for group in odd.values()] == [1, 2, 2]
    assert list(odd)[:2] == [("a",), ((1, 2),)]


def test_groups_are_made_of_values_only(frame):
    """Not of metrics, which have many; unknown columns are named."""
    with pytest.raises(InvalidValue, match="'loss' has many values a row"):
        frame.groupby("loss")
    with pytest.raises(UnknownKey, match=r"Did you mean 'config\.lr'"):
        frame.groupby(["config.units", "lr"])
    with pytest.raises(InvalidValue, match="names no columns"):
        frame.groupby([])
    assert len(frame[:0].groupby("config.lr")) == 0


def test_grouped_frames_as_pandas(frame):
    """The groups' values and the places in them are the index; no group at all is an empty table."""
    table = frame[:4].groupby(["config.units", "config.lr"]).toPandas()
    assert table.index.names == ["config.units", "config.lr", None]
    assert table.loc[(2, 10.0), "info.trial_id"].tolist() == [3]
    empty = frame[:0].groupby("config.lr").toPandas()
    assert (len(empty), empty.index.names) == (0, ["config.lr", None])
    assert frame.groupby("config.lr")._repr_html_().startswith("<div>")


def test_methods_of_groups_work_on_each_and_ungroup(frame):
    """aggregate, map, transform, apply, filter, sort; with ``ungroup`` the groups' values become columns of what was made."""
    grouped = frame[:4].groupby("config.lr")
    made = grouped.aggregate((sum, "result.score"))
    assert isinstance(made, GroupedFrame)
    assert made[(1.0,)][0]["fsum.result.score"] == 3
    flat = grouped.aggregate((sum, "result.score"), ungroup=True)
    assert flat.toPandas().to_dict("list") == {"fsum.result.score": [3, 7], "config.lr": [1.0, 10.0]}
    assert "config.lr" not in made[(1.0,)][0]  # what was there is as it was
    assert grouped.map((str, "config.seed"), ungroup=True)["fstr.config.seed"] == ["1", "2", "1", "2"]
    assert grouped.transform((sorted, "config.seed"), ungroup=True)["config.lr"] == [1.0, 1.0, 10.0, 10.0]
    assert grouped.apply((max, "config.seed"), ungroup=True)["fmax.config.seed"] == [2, 2]
    assert grouped.sort("config.seed", ascending=False, ungroup=True)["info.trial_id"] == [2, 1, 4, 3]
    assert grouped.filter((lambda s: np.array(s) == 1, "config.seed"), ungroup=True)["info.trial_id"] == [1, 3]
    assert grouped.ungroup()["info.trial_id"] == [1, 2, 3, 4]


def test_filter_of_groups_by_other_groups(frame):
    """The chain of MLXP's tutorial: the best of each method, in the groups that there were."""
    best = frame[:4].groupby(["config.units", "config.lr"]).aggregate((statistics.mean, "result.score"))
    kept = best.filter((lambda s: np.array(s) == max(s), "fmean.result.score"), bygroups="config.units")
    assert list(kept.keys()) == [(2, 10.0), (3, 10.0)]
    assert isinstance(
        best.filter((lambda s: [True] * len(s), "fmean.result.score"), bygroups="config.units", ungroup=True), Frame
    )


def test_select_takes_groups_by_their_keys(frame):
    """Keys that there are none of are passed over, as in MLXP; a single value needs no tuple."""
    grouped = frame.groupby("config.lr")
    assert list(grouped.select([(10.0,), (7.0,)])) == [(10.0,)]
    assert list(grouped.select([1.0, None])) == [(1.0,), (None,)]
    assert list(grouped.select(grouped.keys())) == list(grouped)


def test_groups_of_groups(frame):
    """groupby of groups; ungroup takes one level off at a time."""
    nested = frame[:4].groupby("config.units").groupby("config.lr")
    assert list(nested[(2,)]) == [(1.0,), (10.0,)]
    assert nested.toPandas().index.names == ["config.units", "config.lr", None]
    sums = nested.aggregate((sum, "result.score"))
    assert sums[(3,)][(10.0,)][0]["fsum.result.score"] == 4
    once = sums.ungroup()
    assert isinstance(once, GroupedFrame)
    assert once.ungroup().toPandas().to_dict("list") == {
        "fsum.result.score": [1, 3, 2, 4], "config.lr": [1.0, 10.0, 1.0, 10.0], "config.units": [2, 2, 3, 3],
    }  # fmt: skip
    assert len(nested.filter((lambda s: [True] * len(s), "config.seed"), bygroups="config.seed", ungroup=True)) == 4


def test_merge_puts_rows_side_by_side(frame):
    """By place, into new rows; metrics stay unloaded until they are asked for."""
    ranks = frame.transform((sorted, "config.seed", "rank"))
    merged = frame.merge(ranks)
    assert (merged["rank"], merged[0]["loss"]) == ([1, 1, 2, 2, 3, 3], [8.0, 4.0])
    assert "rank" not in frame[0]
    back = ranks.merge(frame)
    assert (back.toPandas()["loss"].tolist()[0], back[0]["loss"], back["config.seed"]) == (
        "METRIC",
        [8.0, 4.0],
        frame["config.seed"],
    )
    assert merged.keys()[-1] == "rank"
    with pytest.raises(InvalidValue, match="6 rows cannot be merged with one of 2"):
        frame.merge(frame[:2])
