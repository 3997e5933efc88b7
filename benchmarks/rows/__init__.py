"""The rows of the table, in its order."""

from __future__ import annotations

from benchmarks.row import Row
from benchmarks.rows.append import AppendHundred, AppendOne, AppendThousand, AppendThreads
from benchmarks.rows.artifact import Artifact
from benchmarks.rows.capture import Capture
from benchmarks.rows.claim import Claim
from benchmarks.rows.claims import ClaimKilled, ClaimProcesses, ClaimRate
from benchmarks.rows.growth import ClaimGrowth, Growth, Verify
from benchmarks.rows.imports import Imports
from benchmarks.rows.latency import Latency, Missed
from benchmarks.rows.life import Life, LifeBytes
from benchmarks.rows.memory import Memory
from benchmarks.rows.metrics import Metrics
from benchmarks.rows.mlos import StorageBytes, StorageLife, StorageLoad, StorageResults
from benchmarks.rows.opening import Opening
from benchmarks.rows.optuna import OptunaBest, OptunaOpen, OptunaOptimize, OptunaProcesses, OptunaWaiting
from benchmarks.rows.processes import Processes
from benchmarks.rows.read import History, ReadAll
from benchmarks.rows.reader import Metric, Search
from benchmarks.rows.shares import Shares
from benchmarks.rows.tables import Build, Refresh, ResultsFrame

_CLASSES: tuple[type[Row], ...] = (
    AppendOne, AppendThreads, AppendHundred, AppendThousand, ReadAll, History, Opening, Processes, Claim, ClaimRate,
    ClaimProcesses, ClaimKilled, Life, LifeBytes, Capture,
    Metrics, Latency, Missed, Imports, Shares, Memory, Artifact, Verify, Growth, ClaimGrowth, Build, Refresh, ResultsFrame,
    Search, Metric, StorageLife, StorageBytes, StorageResults, StorageLoad, OptunaOpen, OptunaBest, OptunaWaiting, OptunaOptimize,
    OptunaProcesses,
)  # fmt: skip

ROWS: dict[str, Row] = {cls.name: cls() for cls in _CLASSES}
