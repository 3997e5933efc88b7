"""Optuna: a ledger as the storage of its studies. Optuna 4.4 or newer; the extra is ``optuna``.

``LedgerStorage`` keeps studies and trials as ordinary experiments and trials, so that every table, history and monitor shows
them. Nothing is kept beside the log but checkpoints of what was folded from it. What becomes of what:

=================================  ======================================================================================
study                              an experiment; every experiment that has objectives is a study, whoever created it. One
                                   without is left out, and its name is taken all the same
``study_id``, ``trial_id``         positions of the records ExperimentCreated and TrialCreated: never used again, and the same
                                   in every process
``trial.number``                   number of the trial, from 0; there are gaps where other doors left some (they begin at 1)
directions                         objectives, ``min`` or ``max``, called ``value``, or ``value_0``, ``value_1`` ...; or as
                                   ``set_metric_names`` says. Their order is the attribute ``objectives`` in ``optuna``
deleting a study                   ExperimentDeleted, a tombstone: a restored one is back under the same ids
user attributes                    AttributesSet in the plain namespace
system attributes                  AttributesSet in ``optuna.system``
a running trial                    TrialCreated, TrialClaimed without a lease, TrialStarted
WAITING to RUNNING                 TrialClaimed, TrialStarted; nothing, and False, when it does not wait or the study is paused
a parameter                        TrialConfigured; set again to another value, TrialAmended
its distribution                   AttributesSet in ``optuna.distributions``: once of the study, of the trial where it differs
an intermediate value              MetricsLogged under the objective's name (of several: ``intermediate_value``)
values                             results by the objectives' names
COMPLETE, PRUNED, FAIL             TrialCompleted (TrialFailed when out of an objective's bounds), TrialPruned, TrialFailed
RUNNING to WAITING                 TrialReleased
a beat of the heart                LeaseRenewed, which histories hide
FAIL of a stale trial              TrialFailed, whose error says who was silent, and since when
times                              when TrialStarted and the end happened; of trials that are added as they are
                                   (``add_trials``, ``copy_study``), what they say, as ``occurred_at``
what events do not say of those    attributes in ``optuna``: ``datetime_start``, ``datetime_complete``, ``values``, ``params``
=================================  ======================================================================================

To Optuna, PENDING is WAITING, READY and RUNNING are RUNNING, SUCCEEDED with a number for each objective is COMPLETE, PRUNED is
PRUNED, and everything else is FAIL. A trial that was added by other doors counts like any: its config is its parameters (plain
values only; their distribution is the study's, or a categorical one of this value), its metrics of the objective's name are its
intermediate values. Amendments change what Optuna sees, a requeued trial waits, a deleted one is gone until it is restored.

``import_journal`` and ``import_rdb`` bring studies of Optuna's other storages. ``LedgerArtifactStore`` keeps the artifacts of
``optuna.artifacts``, ``LedgerJournalBackend`` the journal of a ``JournalStorage``. Their modules say what becomes of what.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ledger.integrations.optuna.requirement import require

if TYPE_CHECKING:
    from ledger.integrations.optuna.artifact_store import LedgerArtifactStore
    from ledger.integrations.optuna.importing import import_journal, import_rdb
    from ledger.integrations.optuna.journal_backend import LedgerJournalBackend
    from ledger.integrations.optuna.storage import LedgerStorage

__all__ = ["LedgerArtifactStore", "LedgerJournalBackend", "LedgerStorage", "import_journal", "import_rdb"]

#: Where each name is, imported when it is first asked for: Optuna is an extra.
_HOMES = {
    "LedgerArtifactStore": "artifact_store", "LedgerJournalBackend": "journal_backend", "LedgerStorage": "storage",
    "import_journal": "importing", "import_rdb": "importing",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require(name)
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
