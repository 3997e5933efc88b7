"""Tables of a ledger, folded from its log: now, or as they stood at any position.

>>> import ledger, projections
>>> with ledger.open("memory:") as book:
...     exp = book.experiment("sqlite-tuning", objectives={"latency_ms": "min"})
...     for cache_mb in (16, 64):
...         exp.new_trial({"cache_mb": cache_mb}).complete({"latency_ms": 64 / cache_mb})
...     tables = projections.Tables(book)
...     trials = tables.trials("sqlite-tuning")
...     trials.sort_values("result.latency_ms")[["trial_id", "config.cache_mb", "result.latency_ms"]].values.tolist()
[[2, 64, 1.0], [1, 16, 4.0]]
"""

from projections.amendment_table import AmendmentTable
from projections.artifact_table import ArtifactTable
from projections.builder import build
from projections.changes import compare
from projections.columns import MISSING
from projections.environment_table import EnvironmentTable
from projections.experiments import Experiments
from projections.frame import Frame, GroupedFrame
from projections.metric_series import MetricSeries
from projections.metric_table import MetricTable, TelemetryTable
from projections.projection import Projection
from projections.reader import Reader
from projections.row import Row
from projections.rows import Rows
from projections.status_history_table import StatusHistoryTable
from projections.tables import Tables

__all__ = [
    "AmendmentTable", "ArtifactTable", "EnvironmentTable", "Experiments", "Frame", "GroupedFrame", "MISSING", "MetricSeries",
    "MetricTable", "Projection", "Reader", "Row", "Rows", "StatusHistoryTable", "Tables", "TelemetryTable", "build", "compare",
]  # fmt: skip
