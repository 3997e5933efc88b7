"""What has metrics and telemetry: a trial, before, while and after it runs."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ledger import commands
from ledger import events as ev
from ledger.bulk import point_batches
from ledger.log import answers_of
from ledger.rules import check_open
from ledger.telemetry import Batch, PointBuffer

if TYPE_CHECKING:
    from ledger.backends.base import Appended, Command, Submission
    from ledger.experiment import Experiment
    from ledger.jobs import Lease
    from ledger.session import Ledger

Points = type[ev.MetricsLogged | ev.TelemetryLogged]


class MetricOwner(ABC):
    """A trial, as far as its metrics and telemetry are concerned.

    >>> import ledger
    >>> trial = ledger.open("memory:").experiment("demo").new_trial({})
    >>> trial.log(step=1, loss=0.5)
    >>> trial.flush()
    >>> [record.type for record in trial.history()]
    ['TrialCreated', 'MetricsLogged']
    """

    id: int
    experiment: Experiment
    _book: Ledger
    _lease: Lease | None
    _attempt: int | None
    _actor: str | None
    _buffers: dict[Points, PointBuffer]

    @abstractmethod
    def _ask(self, command: Command) -> Appended:
        """Run a command on the trial."""

    @abstractmethod
    def let_go(self, *, done: bool = False) -> None:
        """Stop holding the trial."""

    def log(self, *, step: float | None = None, at: int | None = None, **values: Any) -> None:
        """Log metrics: values by name, at a step; buffered for a second or 4096 values (see ``flush``).

        ``at`` is the time in ns since 1970 UTC, now by default. ``log_metrics`` takes names that are no identifiers.
        Raises LeaseLost once the trial is known to be no longer this handle's.
        """
        self.log_metrics(values, step=step, at=at)

    def log_metrics(self, values: Mapping[str, Any], *, step: float | None = None, at: int | None = None) -> None:
        """Log metrics, by name in a dict; as ``log``."""
        self._book.log.backend.check_usable()
        if self._lease is not None:
            self._lease.check()
        self._buffer(ev.MetricsLogged).add(step, values, at)

    def log_telemetry(self, values: Mapping[str, Any], *, step: float | None = None, at: int | None = None) -> None:
        """Log telemetry: values about the run itself, buffered like metrics."""
        self._book.log.backend.check_usable()
        self._buffer(ev.TelemetryLogged).add(step, values, at)

    def log_many(self, values: Any, *, steps: Any = None, at: Any = None) -> None:
        """Log many points of metrics at once; they are on disk when it returns, all of them or none.

        ``values`` is a dict from names to columns (lists, numpy arrays, pandas Series) or a data frame; ``steps`` and ``at``
        (datetimes with a zone, datetime64, which is UTC without one, or ns since 1970 UTC; now by default) are columns of the
        same length, or names of columns of the frame.

        Raises InvalidValue, naming column and row, for what is no point.

        >>> import ledger
        >>> trial = ledger.open("memory:").experiment("demo").new_trial({})
        >>> trial.log_many({"loss": [0.5, 0.4]}, steps=[1, 2])
        """
        self._record_points(ev.MetricsLogged, values, steps, at)

    def log_telemetry_many(self, values: Any, *, steps: Any = None, at: Any = None) -> None:
        """Log many points of telemetry at once, as ``log_many``."""
        self._record_points(ev.TelemetryLogged, values, steps, at)

    def _record_points(self, kind: Any, values: Any, steps: Any, at: Any) -> None:
        events = [kind([points], self._attempt or 0) for points in point_batches(values, steps, at)]
        self.flush()  # what was logged before comes first
        if events:
            self._ask(commands.record_on_trial(self.experiment.id, self.id, *events))

    def flush(self) -> None:
        """Return when every metric logged so far is on disk."""
        for buffer in list(self._buffers.values()):
            buffer.flush()

    def _flush_and_let_go(self, command: Command, reason: str | None = None, *, is_first: bool = False) -> Appended:
        """Flush what is buffered and run the command that ends this handle's hold, in one commit.

        The points come first in the log, unless the command expects a version, which they would raise.
        """
        with self.flushing() as handed:
            place = 0 if is_first else len(handed)
            handed.insert(place, self._book.log.submission(command, actor=self._actor, reason=reason))
            answers = self._book.log.commit(handed)
            (appended,) = answers_of([answers.pop(place)])  # refused: the points are kept, and known again by their ids
            self.let_go(done=True)
            answers_of(answers)
        return appended

    @contextlib.contextmanager
    def flushing(self) -> Iterator[list[Submission]]:
        """Hand out what is buffered as submissions, for the block to commit; kept when it raises.

        >>> import ledger
        >>> book = ledger.open("memory:")
        >>> trial = book.experiment("demo").new_trial({})
        >>> trial.log(step=1, loss=0.5)
        >>> with trial.flushing() as recordings:
        ...     _ = book.log.commit(recordings)
        >>> [record.type for record in trial.history()]
        ['TrialCreated', 'MetricsLogged']
        """
        with contextlib.ExitStack() as stack:
            handed = [(event, stack.enter_context(buffer.flushing())) for event, buffer in list(self._buffers.items())]
            yield [recording for event, batches in handed for recording in self._recordings(event, batches)]

    def _recordings(self, event: Points, batches: list[Batch]) -> list[Submission]:
        log, ids, attempt = self._book.log, (self.experiment.id, self.id), self._attempt or 0
        return [
            log.submission(
                commands.record_on_trial(*ids, event(batch.points, attempt)), batch.append_id, is_first_try=batch.is_first_try,
                actor=self._actor,
            )
            for batch in batches
        ]  # fmt: skip

    def _buffer(self, event: Points) -> PointBuffer:
        buffer = self._buffers.get(event)
        if buffer is None:

            def append(batches: list[Batch]) -> None:
                answers_of(self._book.log.commit(self._recordings(event, batches)))

            buffer = self._buffers.setdefault(event, PointBuffer(append, self._book.background, self._check_open))
        return buffer

    def _check_open(self) -> None:
        """Raise at the call what would else be raised when the points are flushed."""
        with self._book.log.backend.view() as view:
            check_open(commands.experiment_of(view, self.experiment.id), ev.MetricsLogged([]))
