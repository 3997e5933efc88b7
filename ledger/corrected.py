"""CorrectedTrial: what is said of a trial that was wrong. Nothing is edited; each correction is an event."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ledger import corrections
from ledger import events as ev
from ledger.annotations import Annotated
from ledger.errors import UnknownTrial
from ledger.records import Record
from ledger.state import Status, TrialState, evolve_as_recorded
from ledger.streams import Subject

if TYPE_CHECKING:
    from ledger.backends.base import Appended
    from ledger.experiment import Experiment


class CorrectedTrial(Annotated):
    """The part of ``Trial`` that corrects: amend, delete and restore."""

    id: int
    experiment: Experiment
    _config: dict[str, Any] | None

    @abstractmethod
    def history(self, *, renewals: bool = False) -> Iterator[Record]:
        """Iterate over the trial's records."""

    @abstractmethod
    def let_go(self, *, done: bool = False) -> None:
        """Hold the trial no more."""

    def amend(
        self, *, reason: str, results: Mapping[str, Any] | None = None, withdraw: Iterable[str] = (),
        config: Mapping[str, Any] | None = None, label: str | None = None, status: Status | str | None = None,
        expected_version: int | None = None,
    ) -> Appended:  # fmt: skip
        """Correct what was recorded, with the reason why; the first values stay in history, and tables can show either.

        ``results`` and ``config`` give names that were recorded another value; ``withdraw`` names results that do not
        count at all; ``label`` is what the config is called; ``status`` is that of a trial that has ended, and still has.
        Where a trial goes on is not for an amendment to say: ``requeue``, ``force_status``.

        >>> import ledger
        >>> trial = ledger.open("memory:").experiment("demo").new_trial({"lr": 0.1})
        >>> trial.complete({"loss": 0.4})
        >>> _ = trial.amend(results={"loss": 0.5}, reason="read from the wrong line")
        >>> trial.results, trial.as_recorded.results
        ({'loss': 0.5}, {'loss': 0.4})
        """
        chosen = None if status is None else str(status)
        event = ev.TrialAmended(dict(results or {}), list(withdraw), dict(config or {}), label, chosen)
        appended = self._ask(corrections.amend_trial(self.experiment.id, self.id, event, reason), reason, expected_version)
        self._config = None
        return appended

    @property
    def as_recorded(self) -> TrialState:
        """The trial as if nothing of it had been amended, folded from its records."""
        state, subject = None, Subject(self.experiment.id, self.id)
        for record in self.history(renewals=True):
            state = evolve_as_recorded(state, subject, record.event, record.happened_at)
        if state is None:
            raise UnknownTrial(f"there is no trial {self.id} in experiment {self.experiment.name!r}.")
        return state

    def delete(self, reason: str | None = None, *, ensure: bool = True, expected_version: int | None = None) -> Appended:
        """Delete the trial: tables leave it out, history shows it, ``restore`` brings it back.

        A worker that holds it gets LeaseLost. With ``ensure`` a trial that is gone already raises UnknownTrial; without,
        that is left as it is.
        """
        appended = self._ask(corrections.delete_trial(self.experiment.id, self.id, ensure=ensure), reason, expected_version)
        self.let_go(done=True)
        return appended

    def restore(self, reason: str | None = None, *, expected_version: int | None = None) -> Appended:
        """Bring the deleted trial back; one that was waiting waits again, one that was held is CANCELED."""
        return self._ask(corrections.restore_trial(self.experiment.id, self.id), reason, expected_version)
