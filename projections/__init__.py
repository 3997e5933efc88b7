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

from projections.builder import build
from projections.experiments import Experiments
from projections.projection import Projection
from projections.rows import Rows
from projections.tables import Tables

__all__ = ["Experiments", "Projection", "Rows", "Tables", "build"]
