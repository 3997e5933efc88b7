"""Pictures of experiments: what is drawn is what was recorded, and files are whole."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import ledger
from ledger.errors import InvalidValue, UnknownExperiment
from projections import Tables, plot
from projections.picture import PictureFormat


@pytest.fixture
def tables() -> Any:
    """An experiment with results of all sorts, and metrics."""
    with ledger.open("memory:") as book:
        exp = book.experiment("größe $x$ <b>", objectives={"loss": "min", "speed": "max"})
        for number, loss in enumerate((0.5, 0.7, 0.2, math.inf, 0.3), start=1):
            trial = exp.new_trial(
                {"lr": 10.0**-number, "kind": "ab"[number % 2], "same": 1, **({"late": number} if number > 2 else {})}
            )
            trial.log_many({"train.loss": [1.0, math.nan, loss], "epoch": [0, 1, 2]}, steps=[0, 1, 2])
            trial.complete({"loss": loss, "speed": float(number)})
        exp.new_trial({"lr": 1.0, "kind": "c"}).fail("no")
        exp.new_trial({"lr": 2.0, "kind": "a"})
        yield Tables(book)


NAME = "größe $x$ <b>"


def lines(figure: Any, label: str) -> Any:
    """Return the line of that label."""
    return next(line for axes in figure.axes for line in axes.lines if line.get_label() == label)


def test_the_best_so_far_goes_the_way_of_the_objective(tables: Tables) -> None:
    """Down where lower is better, up where higher is; results that are not finite are none."""
    best = lines(plot.history(tables, NAME), "best so far")
    assert best.get_xdata().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert best.get_ydata().tolist() == [0.5, 0.5, 0.2, 0.2, 0.2, 0.2, 0.2]
    best = lines(plot.history(tables, NAME, target="speed"), "best so far")
    assert best.get_ydata().tolist()[:5] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_every_result_is_a_point(tables: Tables) -> None:
    """And what ended without one is marked; as of a position there are those of that time."""
    figure = plot.history(tables, NAME)
    points = [tuple(row) for each in figure.axes[0].collections for row in np.asarray(each.get_offsets()).tolist()]
    assert {(1.0, 0.5), (2.0, 0.7), (3.0, 0.2), (5.0, 0.3)} <= set(points)
    assert {row[0] for row in points if row[1] == 0.015} == {4.0, 6.0}
    assert "1 of 1 trials" not in figure.axes[0].get_title(loc="left")
    early = plot.history(tables, NAME, as_of=6, trials=[1])
    assert lines(early, "best so far").get_ydata().tolist() == [0.5]


def test_without_a_direction_there_is_no_best() -> None:
    """The only result is drawn; of several one must be named."""
    with ledger.open("memory:") as book:
        exp = book.experiment("plain")
        exp.new_trial({}).complete({"x": 1})
        assert not [line for line in plot.history(Tables(book), "plain").axes[0].lines if line.get_label() == "best so far"]
        exp.new_trial({}).complete({"y": 1})
        with pytest.raises(InvalidValue, match="There are 'x', 'y'; say which"):
            plot.history(Tables(book), "plain")


def test_parallel_coordinates_pass_through_the_parameters_that_differ(tables: Tables) -> None:
    """Numbers far apart on a logarithmic axis, words in places, what is missing below the end, the result last."""
    figure = plot.parallel(tables, NAME)
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["kind", "late", "lr\n(log)", "loss"]
    drawn = [line.get_ydata().tolist() for line in figure.axes[0].lines if len(line.get_ydata()) == 4]
    assert len(drawn) == 4
    best = drawn[-1]  # of trial 3, drawn last: kind b, late 3, lr 1e-3
    assert best == pytest.approx([1.0, 0.0, 0.5, 0.0])
    assert drawn[0][1] < 0
    assert [label.get_text() for label in plot.parallel(tables, NAME, parameters=["lr"]).axes[0].get_xticklabels()] == [
        "lr\n(log)",
        "loss",
    ]


def test_of_many_parameters_those_are_drawn_that_go_along_with_the_result() -> None:
    """At most ten, and the picture says so."""
    with ledger.open("memory:") as book:
        exp = book.experiment("wide", objectives={"loss": "min"})
        rng = np.random.default_rng(1)
        for number in range(30):
            exp.new_trial({f"p{i:02}": float(rng.random()) for i in range(29)} | {"zz": number}).complete({"loss": float(number)})
        figure = plot.parallel(Tables(book), "wide")
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(names) == 11
    assert "zz\n(log)" in names or "zz" in names
    assert "10 of 30 parameters" in figure.axes[0].get_title(loc="left")


def test_curves_are_the_points_by_step(tables: Tables) -> None:
    """A panel a metric, a line a trial, NaN a gap; what only counts the steps is left out."""
    figure = plot.curves(tables, NAME, trials=[3])
    assert [axes.get_ylabel() for axes in figure.axes if axes.lines] == ["train.loss"]
    line = lines(figure, "trial 3")
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert np.nan_to_num(line.get_ydata(), nan=-1).tolist() == [1.0, -1.0, 0.2]
    both = plot.curves(tables, NAME, metrics=["epoch", "train.loss"])
    assert [axes.get_ylabel() for axes in both.axes if axes.lines] == ["epoch", "train.loss"]


def test_many_trials_are_told_apart_by_the_objective() -> None:
    """By a scale of colours instead of a legend; a metric without steps goes by the order of its points."""
    with ledger.open("memory:") as book:
        exp = book.experiment("many", objectives={"loss": "min"})
        for number in range(12):
            trial = exp.new_trial({})
            trial.log_many({"m": [1.0, 2.0, 3.0]})
            trial.complete({"loss": float(number)})
        figure = plot.curves(Tables(book), "many")
    assert [axes.get_ylabel() for axes in figure.axes] == ["m", "loss"]
    assert lines(figure, "trial 1").get_xdata().tolist() == [0, 1, 2]


@pytest.mark.parametrize("form", list(PictureFormat))
@pytest.mark.parametrize("draw", [plot.history, plot.parallel, plot.curves])
def test_each_picture_is_a_whole_file_of_each_format(tables: Tables, tmp_path: Path, draw: Any, form: PictureFormat) -> None:
    """The same picture is the same file, whatever is in the names."""
    path, again = tmp_path / f"picture.{form}", tmp_path / f"again.{form}"
    for each in (path, again):
        plot.save_picture(draw(tables, NAME), each)
    content = path.read_bytes()
    assert content == again.read_bytes()
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "html": b"<!DOCTYPE html>"}
    assert content.startswith(starts[form.value])
    if form is PictureFormat.SVG:
        ElementTree.fromstring(content)
        assert "größe $x$" in content.decode()
    if form is PictureFormat.HTML:
        text = content.decode()
        assert "<title>größe $x$ &lt;b&gt;" in text
        assert re.search(r"<title>trial: 3\n", text)
        assert not re.search(r'(src|href)="http', text)
    assert sorted(os.listdir(tmp_path)) == [f"again.{form}", f"picture.{form}"]


def test_nothing_global_is_changed(tables: Tables) -> None:
    """Neither matplotlib's settings nor its list of open figures."""
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plot.history(tables, NAME)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tables: plot.history(tables, NAME, target="los"), "Did you mean 'loss'"),
        (lambda tables: plot.parallel(tables, NAME, parameters=["lrr"]), "Did you mean 'lr'"),
        (lambda tables: plot.curves(tables, NAME, metrics=["train.los"]), "Did you mean 'train.loss'"),
        (lambda tables: plot.history(tables, NAME, trials=[99]), "no such trials"),
        (lambda tables: plot.history(tables, NAME, trials=[7]), "has a finite number as its 'loss'"),
        (lambda tables: plot.parallel(tables, NAME, trials=[1]), "no parameter differs"),
        (lambda tables: plot.curves(tables, NAME, trials=[7]), "has logged a metric of numbers"),
        (lambda tables: plot.curves(tables, NAME, metrics=["epoch"], log=True), "0 or less"),
        (lambda tables: plot.save_picture(plot.history(tables, NAME), "x.gif"), "let it end in one of .png"),
        (lambda tables: plot.save_picture(plot.history(tables, NAME), "x", file_format="gif"), "'gif' is no format"),
    ],
)
def test_what_cannot_be_drawn_is_told_with_the_cure(tables: Tables, call: Any, message: str) -> None:
    """Naming the nearest thing that there is."""
    with pytest.raises(InvalidValue, match=message):
        call(tables)


def test_an_unknown_experiment_is_the_error_of_the_tables(tables: Tables) -> None:
    """With the nearest name."""
    with pytest.raises(UnknownExperiment, match="Did you mean"):
        plot.history(tables, "größe $x$")


def test_without_matplotlib_the_error_names_the_extra(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported when something is drawn."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(InvalidValue, match=r"experiment-ledger\[plot\]"):
        plot.history(tables, NAME)
