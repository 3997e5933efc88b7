"""Plots of an experiment: how its results came about, which parameters they hang on, how metrics went.

>>> import ledger, projections
>>> from projections import plot
>>> book = ledger.open("memory:")
>>> exp = book.experiment("demo", objectives={"loss": "min"})
>>> for lr in (0.3, 0.1, 0.2):
...     exp.new_trial({"lr": lr}).complete({"loss": lr})
>>> tables = projections.Tables(book)
>>> picture = plot.history(tables, "demo")  # a matplotlib Figure, free to be changed
>>> import tempfile, os
>>> with tempfile.TemporaryDirectory() as place:
...     plot.save_picture(picture, os.path.join(place, "history.svg")).suffix
'.svg'

Needs the extra ``plot``.
"""

from projections.curves_plot import curves
from projections.history_plot import history
from projections.parallel_plot import parallel
from projections.picture import PictureFormat, save_picture

__all__ = ["PictureFormat", "curves", "history", "parallel", "save_picture"]
