"""Metrics and telemetry: long, pivoted, as arrays; names, types and attempts of every sort."""

import math

import numpy as np
import pandas as pd
import pytest

import ledger
import projections
from ledger import events as ev
from projections.checkpoints import CheckpointStore, Key

T = 1_800_000_000_000_000_000
ODD = ["a.b", "with space", "quo'te\"", "emoji 😀", "trial_id", "step", "lr"]


def log(book, trial, points, attempt=0):
    book.log.append([ev.MetricsLogged(points, attempt)], stream=trial.stream)


@pytest.fixture
def exp(book):
    return book.experiment("demo")


def test_the_long_form_has_every_point(book, tables, exp):
    """Points without a step, several at one step and out of order are all there, with their times, in order of recording."""
    trial = exp.new_trial({})
    log(book, trial, [ev.Points(["loss"], [2, None, 2, 1], [T, 5, -3, 1], [[0.5, 0.25, 0.125, 1.0]])])
    long = tables.metrics("demo")
    assert long["step"].tolist() == [2, pd.NA, 2, 1]
    assert long["value"].tolist() == [0.5, 0.25, 0.125, 1.0]
    assert long["time"].astype("int64").tolist() == [T, T + 5, T + 2, T + 3]
    assert {name: str(dtype) for name, dtype in long.dtypes.items()} == {
        "trial_id": "int64", "name": "category", "step": "Int64", "time": "datetime64[ns, UTC]", "value": "float64",
        "attempt": "Int64", "position": "int64", "is_superseded": "bool",
    }  # fmt: skip


def test_steps_are_whole_numbers_where_no_point_has_one(book, tables, exp):
    """In long form and pivoted, of metrics and telemetry, with points and without any."""
    trial = exp.new_trial({})
    for has_points in (False, True):
        if has_points:
            trial.log_many({"loss": [0.5, 0.25]})
            trial.log_telemetry_many({"cpu": [0.5, 0.25]})
        count = 2 if has_points else 0
        for table in (tables.metrics, tables.telemetry):
            step = table("demo")["step"]
            assert (str(step.dtype), step.isna().sum()) == ("Int64", count)
        assert str(tables.metrics("demo", form="pivoted").reset_index()["step"].dtype) == "Int64"
    assert np.isnan(tables.metric("demo", "loss").steps).all()


def test_pivoted_metrics_are_aligned_by_step(book, tables, exp):
    """A row for each step of a trial, a column of its own dtype for each metric; the last point of a step counts."""
    first, second = exp.new_trials([{}, {}])
    log(book, first, [ev.Points(["loss", "note"], [1, 2, 2], [T, 1, 1], [[0.5, 0.25, 0.125], ["a", "b", "c"]])])
    log(book, first, [ev.Points(["epoch"], [2, None], [T, 1], [[7, 8]])])
    log(book, second, [ev.Points(["loss"], [2], [T], [[1.5]])])
    wide = tables.metrics("demo", form="pivoted")
    assert wide.index.names == ["trial_id", "step"]
    assert wide.index.tolist()[:2] == [(1, 1), (1, 2)]
    assert wide["loss"].tolist()[:2] + wide["loss"].tolist()[3:] == [0.5, 0.125, 1.5]
    assert wide["note"].tolist() == ["a", "c", pd.NA, pd.NA]
    assert wide["epoch"].tolist() == [pd.NA, 7, 8, pd.NA]
    assert list(map(str, wide.dtypes)) == ["Int64", "float64", "string"]
    assert wide.loc[(2, 2), "loss"] == 1.5


@pytest.mark.parametrize("name", ODD)
def test_a_metric_may_have_any_name(book, tables, exp, name):
    """Dots, spaces, quotes, emoji, the name of a parameter or of a column of the table: none is changed or mixed up."""
    trial = exp.new_trial({"lr": 0.1})
    trial.log_many({name: [0.5], "other": [1]}, steps=[1])
    trial.complete({"lr": 3})
    assert tables.metrics("demo", names=name)["value"].tolist() == [0.5]
    assert tables.metrics("demo", form="pivoted")[name].tolist() == [0.5]
    assert tables.metric("demo", name).values.tolist() == [0.5]
    assert tables.trials("demo")[["config.lr", "result.lr"]].values.tolist() == [[0.1, 3]]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2**62 + 1], "Int64"), ([1, 0.5], "float64"), ([2**53 + 1, 0.5], "object"), ([True, False], "boolean"),
        ([True, 1], "object"), (["a", None], "string"), ([float("nan"), float("inf"), None, -0.0], "float64"),
        ([2**64 - 1, -1], "object"), ([1, "a", None, 0.5, float("-inf"), True], "object"), ([None, None], "object"),
    ],
)  # fmt: skip
def test_values_keep_their_types(book, tables, exp, values, dtype):
    """Each value is shown as it was recorded, in the dtype that fits all; another experiment's values change nothing."""
    exp.new_trial({}).log_many({"x": values, "other": [None] * len(values)}, steps=list(range(len(values))))
    book.experiment("elsewhere").new_trial({}).log_many({"x": ["text", 2**63, 0.5]})
    shown = tables.metrics("demo", names="x")["value"]
    assert str(shown.dtype) == dtype
    for value, cell in zip(values, shown.tolist(), strict=True):
        if value is None or value != value:
            assert pd.isna(cell)
        else:
            assert cell == value
            assert isinstance(cell, bool) == isinstance(value, bool)
    assert str(tables.metrics("demo", form="pivoted")["x"].dtype) == dtype


def test_a_new_attempt_supersedes_what_it_does_again(book, tables, exp):
    """One that goes on from step 3 hides what the lost one logged from there on; what came late hides nothing."""
    trial = exp.new_trial({})
    log(book, trial, [ev.Points(["loss"], [1, 2, 3, 4, 5], [T] * 5, [[1.0, 2.0, 3.0, 4.0, 5.0]])], attempt=1)
    log(book, trial, [ev.Points(["loss"], [3, 4], [T, 1], [[30.0, 40.0]])], attempt=2)
    log(book, trial, [ev.Points(["loss"], [4, 6], [T, 1], [[-4.0, -6.0]])], attempt=1)
    long = tables.metrics("demo")
    assert long.loc[~long["is_superseded"], "value"].tolist() == [1.0, 2.0, 30.0, 40.0]
    assert long["value"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, -4.0, -6.0, 30.0, 40.0]
    assert tables.metrics("demo", form="pivoted")["loss"].tolist() == [1.0, 2.0, 30.0, 40.0]
    assert tables.metric("demo", "loss").values.tolist() == [1.0, 2.0, 30.0, 40.0]
    assert len(tables.metric("demo", "loss", superseded=True).values) == 9
    assert tables.metric("demo", "loss").reduce("last").tolist() == [40.0]


def test_points_of_a_real_lost_worker(book, tables, exp, clock):
    """What a worker logs before its lease runs out is superseded by the one that took over and began anew."""
    exp.new_trial({})
    first = exp.claim(worker="w1", lease_seconds=10)
    first.start()
    first.log_many({"loss": [5.0, 6.0]}, steps=[1, 2])
    clock.advance(11)
    second = exp.claim(worker="w2", lease_seconds=10)
    second.start()
    second.log_many({"loss": [1.0]}, steps=[1])
    assert tables.metrics("demo")[["attempt", "value", "is_superseded"]].values.tolist() == [
        [1, 5.0, True], [1, 6.0, True], [2, 1.0, False],
    ]  # fmt: skip
    assert tables.metrics("demo", form="pivoted")["loss"].tolist() == [1.0]


def test_telemetry_is_aligned_by_time(book, tables, exp):
    """Telemetry has no superseded points; pivoted, a row for each time; as mlos_bench has it, ordered by time."""
    trial = exp.new_trial({})
    for attempt, at in ((1, T), (2, T - 10)):
        points = [ev.Points(["cpu", "note"], [None, None], [at, 5], [[1.0 * attempt, 2.0], ["a", "b"]])]
        book.log.append([ev.TelemetryLogged(points, attempt)], stream=trial.stream)
    assert "is_superseded" not in tables.telemetry("demo")
    wide = tables.telemetry("demo", form="pivoted")
    assert wide.index.names == ["trial_id", "time"]
    assert wide["cpu"].tolist() == [2.0, 2.0, 1.0, 2.0]
    bench = tables.telemetry("demo", form="mlos_bench", names="cpu")
    assert list(bench.columns) == ["trial_id", "ts", "metric", "value"]
    assert bench["ts"].astype("int64").tolist() == [T - 10, T - 5, T, T + 5]
    assert bench["metric"].unique().tolist() == ["cpu"]


def test_some_trials_and_some_names(book, tables, exp):
    """Trials and names narrow down every form; a trial without points has no rows."""
    for trial in exp.new_trials([{}, {}, {}]):
        if trial.id < 3:
            trial.log_many({"a": [trial.id], "b": [-trial.id]}, steps=[1])
    assert tables.metrics("demo", trials=[2, 3, 9], names=["a"])["value"].tolist() == [2]
    assert tables.metrics("demo", trials=1, form="pivoted").values.tolist() == [[1, -1]]
    assert tables.metric("demo", "b", trials=[2]).values.tolist() == [-2]
    assert len(tables.metrics("demo", trials=[])) == 0


def test_what_is_asked_for_wrongly_is_refused(book, tables, exp):
    """An unknown name with the nearest, an unknown form, alignment or reduction, and a trial that is no number."""
    assert tables.metrics("demo", names="anything").empty  # there is nothing yet
    exp.new_trial({}).log_many({"train.loss": [1]}, steps=[1])
    with pytest.raises(ledger.InvalidValue, match=r"has logged 'train.los'. Did you mean 'train.loss'\?"):
        tables.metrics("demo", names="train.los")
    with pytest.raises(ledger.InvalidValue, match="form is 'wide'; give one of long, pivoted"):
        tables.metrics("demo", form="wide")
    with pytest.raises(ledger.InvalidValue, match="by is 'epoch'; give one of step, time"):
        tables.metrics("demo", form="pivoted", by="epoch")
    with pytest.raises(ledger.InvalidValue, match="the reduction is 'median'; give one of last"):
        tables.metric("demo", "train.loss").reduce("median")
    with pytest.raises(ledger.InvalidValue, match="one of the trials is '1'"):
        tables.metrics("demo", trials=["1"])


def test_nothing_logged(book, tables, exp):
    """An experiment without trials, or whose trials logged nothing, has empty tables with their columns."""
    for _ in range(2):
        assert list(tables.metrics("demo").columns)[:5] == ["trial_id", "name", "step", "time", "value"]
        assert tables.metrics("demo", form="pivoted").index.names == ["trial_id", "step"]
        series = tables.metric("demo", "loss")
        assert (len(series.trial_ids), len(series.reduce("min")), len(series.reduce("last"))) == (0, 0, 0)
        assert [len(part) for part in series.of(1)] == [0, 0]
        exp.new_trial({})


def test_reductions(book, tables, exp):
    """NaN counts for no least, greatest or mean; texts and None for none; ints stay ints; the last is the last recorded."""
    first, second, third = exp.new_trials([{}, {}, {}])
    first.log_many({"x": [3, 1, 2], "y": [float("nan"), 2.0, float("inf")]}, steps=[1, 2, 3])
    second.log_many({"x": [2**62 + 1], "y": ["text"]}, steps=[9])
    third.log_many({"y": [None, True, 0.5]})
    x, y = tables.metric("demo", "x"), tables.metric("demo", "y")
    assert (x.reduce("min").tolist(), x.reduce("min").dtype) == ([1, 2**62 + 1], np.int64)
    assert [x.reduce(how).tolist() for how in ("first", "last", "count")] == [[3, 2**62 + 1], [2, 2**62 + 1], [3, 1]]
    assert x.reduce("mean").tolist() == [2.0, float(2**62)]
    assert y.reduce("last").tolist() == [math.inf, "text", 0.5]
    assert y.reduce("max").tolist()[0] == math.inf
    assert math.isnan(y.reduce("min")[1])
    assert y.reduce("mean").tolist()[2] == 0.75


def test_ten_thousand_names(book, tables, exp):
    """So many metrics are so many columns, each with its own value."""
    exp.new_trial({}).log_many({f"m{number}": [number] for number in range(10_000)}, steps=[1])
    wide = tables.metrics("demo", form="pivoted")
    assert wide.shape == (1, 10_000)
    assert wide["m4321"].tolist() == [4321]


def test_points_that_another_program_recorded_badly(book, tables, exp):
    """Columns of unequal length are shown as far as all of them go, and hide no other points."""
    trial = exp.new_trial({})
    log(book, trial, [ev.Points(["a", "b"], [1, 2, 3], [T, 1], [[1, 2, 3], [4, 5, 6]])])
    log(book, trial, [ev.Points(["a"], [4], [2**63, 2**63], [[7]])])
    assert tables.metrics("demo", names="a")["value"].tolist() == [1, 2, 7]
    assert tables.metrics("demo", names="a")["time"].isna().tolist() == [False, False, True]


def test_metrics_of_a_newer_version_are_an_error(book, exp):
    """Points in a form that cannot be read are not passed over in silence."""
    trial = exp.new_trial({})
    projection = projections.MetricTable()
    record = next(book.log.read(stream=trial.stream))

    class Newer:
        stream, event, happened_at = record.stream, ledger.UnknownEvent("MetricsLogged", 9, {}), 1

    with pytest.raises(ledger.UnsupportedFormat, match="MetricsLogged was recorded with schema 9"):
        projection.apply(Newer())


def test_a_redacted_payload_is_gone(book, tables, exp):
    """Points that were redacted leave every table, as of any position."""
    trial = exp.new_trial({})
    trial.log_many({"secret 123": [1]}, steps=[1])
    position = book.log.head
    assert len(tables.metrics("demo")) == 1
    book.redact(position, reason="leaked")
    assert len(tables.metrics("demo")) == len(tables.metrics("demo", as_of=position)) == 0


def test_a_checkpoint_keeps_the_points(book, exp, tmp_path):
    """Points that went through a checkpoint file are the same, and the fold goes on from them."""
    trial = exp.new_trial({})
    log(book, trial, [ev.Points(["loss", "x"], [1, 2], [T, 1], [[1.0, 2.0], ["a", 2**64 - 1]])], attempt=2)
    saved = projections.build(projections.MetricTable(), book.log)
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save("metrics", saved.position, Key(1, "x", 1, "", 0, b"", 0), *saved.save(), 16)
    loaded = projections.MetricTable()
    loaded.load(*store.load("metrics", saved.position))
    loaded.position = saved.position
    log(book, trial, [ev.Points(["loss"], [1], [T], [[9.0]])], attempt=1)
    expected = projections.build(projections.MetricTable(), book.log).table(exp.id)
    pd.testing.assert_frame_equal(projections.build(loaded, book.log).table(exp.id), expected)
    assert expected["is_superseded"].tolist() == [True, False, False, False, False]


def test_results_in_long_form(book, tables, exp):
    """One row for each result, as amended or as recorded; in mlos_bench's form as metric and value."""
    trial = exp.new_trial({})
    trial.complete({"loss": 0.5, "note": "a"})
    trial.amend(results={"loss": 0.25}, reason="typo")
    assert tables.results("demo").values.tolist() == [[1, "loss", 0.25], [1, "note", "a"]]
    assert tables.results("demo", amended=False)["value"].tolist() == [0.5, "a"]
    assert list(tables.results("demo", form="mlos_bench").columns) == ["trial_id", "metric", "value"]
    assert tables.results("demo", as_of=2).empty
    with pytest.raises(ledger.InvalidValue, match="form is 'pivoted'"):
        tables.results("demo", form="pivoted")


def test_nan_and_none_are_results(tables, exp):
    """A result that is NaN or None has a row; one that was withdrawn, or never recorded, has none."""
    exp.new_trial({}).complete({"acc": math.nan, "none": None, "gone": 1})
    exp.new_trial({}).complete({"acc": 0.5, "none": None})
    exp.trial(1).amend(withdraw=["gone"], reason="of another run")
    found = tables.results("demo")
    assert found[["trial_id", "name"]].values.tolist() == [[1, "acc"], [1, "none"], [2, "acc"], [2, "none"]]
    assert found["value"].isna().tolist() == [True, True, False, True]
    assert tables.results("demo", amended=False)["name"].tolist() == ["acc", "gone", "none", "acc", "none"]
