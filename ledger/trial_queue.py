"""TrialQueue: an experiment's trials as a queue that workers claim from."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast
from uuid import UUID

from ledger import commands
from ledger.claims import Where
from ledger.identity import default_actor
from ledger.state import ExperimentState
from ledger.streams import trial_number
from ledger.trial import LEASE_SECONDS, Trial
from ledger.waiting import deadline_in, take, wait_for_work

if TYPE_CHECKING:
    from ledger.backends.base import Appended, Command
    from ledger.experiment import Experiment
    from ledger.session import Ledger


class TrialQueue(ABC):
    """An experiment, as far as its trials are claimed.

    >>> import ledger
    >>> exp = ledger.open("memory:").experiment("demo")
    >>> _ = exp.new_trial({"lr": 0.1})
    >>> job = exp.claim(worker="w1", lease_seconds=60)
    >>> job.id, job.attempt, exp.claim()
    (1, 1, None)
    """

    id: UUID
    book: Ledger

    @property
    @abstractmethod
    def state(self) -> ExperimentState:
        """The experiment as it stands now."""

    @abstractmethod
    def _ask(self, command: Command, reason: str | None = None, expected_version: int | None = None) -> Appended:
        """Run a command on the experiment."""

    def claim(
        self, *, worker: str | None = None, lease_seconds: float = LEASE_SECONDS, where: Where | None = None,
        timeout: float | None = 0.0,
    ) -> Trial | None:  # fmt: skip
        """Take the next trial that waits: the highest priority, then the earliest; None when nothing waits.

        Exactly one worker gets a trial. It is the caller's while its lease is renewed, which the handle does by itself;
        when that stops (the process was killed), the trial is LOST after ``lease_seconds``, and by ``max_attempts``
        waits again: the next claim by anyone records both. Times are the log's, which never go back: with the clock set
        back, leases run out only when it has caught up.

        Scheduled trials are not taken before their time, those assigned to another worker and those whose dependencies have
        not SUCCEEDED not at all, and none while the experiment is paused. ``where`` takes a config that has these values, or
        for which a function says so; it is asked in the order of claims, outside of the write transaction, at some 20 us for
        each trial passed over. ``timeout``: wait so many seconds for a trial (None: for ever), as ``wait`` does.

        One write transaction; as fast with a million trials waiting as with one. Raises ExperimentReadOnly when it is sealed.

        >>> import ledger
        >>> exp = ledger.open("memory:").experiment("demo")
        >>> _ = exp.new_trial({"lr": 0.1})
        >>> while job := exp.claim(worker="w1", lease_seconds=60):
        ...     with job.run():
        ...         job.complete({"loss": job.config["lr"] * 2})
        >>> exp.trial(1).results
        {'loss': 0.2}
        """
        seconds, name = commands.check_lease(lease_seconds), commands.check_worker(worker)
        actor = default_actor(worker) if worker else None
        end = deadline_in(timeout)
        while (taken := take(self.book.log, self.id, name, seconds, where, actor)) is None:
            left = end - time.monotonic()
            if left <= 0 or not wait_for_work(self.book.log, self.id, name, where, left):
                return None
        stream, event = taken
        trial = Trial(cast("Experiment", self), trial_number(stream))
        trial.hold(event.attempt, seconds, name, actor)
        return trial

    def wait(self, timeout: float | None = None, *, worker: str | None = None, where: Where | None = None) -> bool:
        """Wait until there is a trial that the worker could claim; False when there was none for ``timeout`` seconds.

        Another worker may be faster: then ``claim`` gives None, and one waits again. It sleeps until a process commits, a
        scheduled time comes or a lease runs out, and looks twice a second where file events are missed. None waits for
        ever; Ctrl-C ends it.

        >>> import ledger
        >>> exp = ledger.open("memory:").experiment("demo")
        >>> exp.wait(timeout=0.01)
        False
        >>> _ = exp.new_trial({"lr": 0.1})
        >>> exp.wait()
        True
        """
        return wait_for_work(self.book.log, self.id, commands.check_worker(worker), where, timeout)

    def pause(self, reason: str | None = None, *, expected_version: int | None = None) -> Appended:
        """Hand out no trial until ``resume``: claims give None, workers that hold one go on.

        A trial that is named can still be run by its handle.

        >>> import ledger
        >>> exp = ledger.open("memory:").experiment("demo")
        >>> _ = exp.new_trial({"lr": 0.1})
        >>> _ = exp.pause("the GPUs are needed")
        >>> exp.claim() is None, exp.is_paused
        (True, True)
        """
        return self._ask(commands.set_paused(self.id, is_paused=True), reason, expected_version)

    def resume(self, reason: str | None = None, *, expected_version: int | None = None) -> Appended:
        """Hand out trials again."""
        return self._ask(commands.set_paused(self.id, is_paused=False), reason, expected_version)

    @property
    def is_paused(self) -> bool:
        """Whether claims are given nothing now."""
        return self.state.paused_at is not None
