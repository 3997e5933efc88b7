"""Leases: a worker's hold on a trial, renewed in the background."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from ledger import commands
from ledger.background import Background
from ledger.errors import HandleError, LeaseLost, LedgerError
from ledger.log import EventLog


class Lease:
    """Keep one attempt of a trial alive: one LeaseRenewed a third of the lease, until it is stopped or lost.

    A renewal that fails for a passing reason (another process holds the write lock) is tried again soon; the loss of
    the lease is remembered, and raised by ``check``. When the handle that holds the trial is gone (``owner``), nobody
    can end it, and it is not renewed any more.
    """

    def __init__(
        self, log: EventLog, background: Background, experiment_id: UUID, trial_id: int, attempt: int, seconds: float,
        actor: str, owner: Callable[[], object],
    ) -> None:  # fmt: skip
        self.attempt = attempt
        self.seconds = seconds
        self._log, self._background = log, background
        self._experiment_id, self._trial_id, self._actor = experiment_id, trial_id, actor
        self._owner = owner
        self._loss: LeaseLost | None = None
        background.schedule(self, seconds / 3, self._renew)

    def _renew(self) -> float | None:
        if self._owner() is None:
            return None
        command = commands.renew(self._experiment_id, self._trial_id, self.attempt)
        try:
            appended = self._log.execute(command, actor=self._actor)
        except LeaseLost as loss:
            self._loss = loss
            return None
        except HandleError:
            return None  # closed, forked or poisoned: nothing can be renewed through this handle any more
        except LedgerError:
            return self.seconds / 9
        return self.seconds / 3 if appended.events else None

    @property
    def is_lost(self) -> bool:
        """Whether a renewal found that the trial is no longer this worker's."""
        return self._loss is not None

    def check(self) -> None:
        """Raise LeaseLost when the lease is lost."""
        if self._loss is not None:
            raise self._loss

    def stop(self) -> None:
        """Renew no more."""
        self._background.cancel(self)
