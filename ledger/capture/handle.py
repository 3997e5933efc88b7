"""What a trial's handle offers of captures: take one, read it back, and give all that is known of the trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ledger import events as ev
from ledger.backends.base import config_digest
from ledger.caller import warn_caller
from ledger.capture.options import CaptureOptions, options_of
from ledger.errors import EnvironmentDiffers
from ledger.telemetry import point_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ledger.backends.base import Appended, Command
    from ledger.capture.collect import Capture
    from ledger.experiment import Experiment
    from ledger.records import Record
    from ledger.state import TrialState

#: The namespace of a trial's attributes in which results of its steps are kept.
PERSISTED = "persisted"


class Capturing(ABC):
    """A trial, as far as what it ran with is concerned.

    >>> import ledger
    >>> trial = ledger.open("memory:").experiment("demo").new_trial({"lr": 0.1})
    >>> with trial.run(capture=True):
    ...     trial.complete({"loss": 0.4})
    >>> trial.captured["environment"]["platform"]["system"]
    'Linux'
    """

    id: int
    stream: str
    experiment: Experiment

    @property
    @abstractmethod
    def state(self) -> TrialState:
        """The trial as it stands now."""

    @property
    @abstractmethod
    def attempt(self) -> int | None:
        """The attempt that this handle was granted."""

    @abstractmethod
    def history(self) -> Iterator[Record]:
        """Iterate over the trial's records."""

    @abstractmethod
    def _ask(self, command: Command, reason: str | None = None) -> Appended:
        """Execute a command as the trial's worker."""

    def capture(
        self, function: Callable[..., Any] | None = None, *, options: CaptureOptions | bool = True, refresh: bool = False
    ) -> dict[str, dict[str, Any]]:
        """Record what the trial runs with, and return it as ``captured`` does; ``run(capture=True)`` does it by itself.

        Environment, packages, git state, script and command line, and the source of ``function`` if one is given. They are
        looked at once a process; ``refresh`` looks again. What the log has already is referred to. Fails for nothing that it
        finds: what it cannot find out is named under ``problem``, with a CaptureIncomplete warning. When something is other
        than for the experiment's trial captured before, that is an event, and EnvironmentDiffers is warned of.

        Secrets are masked as far as they are known for such; see ``ledger.capture.masking``.
        """
        from ledger.capture.record import with_captures  # here, as below: `import ledger` need not pay for it

        captures = collect_for(options, function, refresh) or {}
        warn_of_changes(self, self._ask(with_captures(self.experiment.id, self.id, captures, self.attempt)))
        return {kind: dict(capture.content) for kind, capture in captures.items()}

    def _with_captures(self, captures: Mapping[str, Capture] | None, command: Command) -> Command:
        if captures is None:
            return command
        from ledger.capture.record import with_captures

        return with_captures(self.experiment.id, self.id, captures, None, command)

    @property
    def captured(self) -> dict[str, dict[str, Any]]:
        """What the trial ran with, by kind: environment, packages, git, script, function, command, numpy, conda ...

        Of its last attempt that was captured; empty when none was.
        """
        from ledger.capture.read import captured_of, read_captures

        return read_captures(self.experiment.book.log, captured_of(self.history()))

    def to_dict(self) -> dict[str, Any]:
        """Return all that the ledger knows of the trial, as plain values, in one call.

        Status, parameters, results, persisted results (attributes in the namespace ``persisted``), metrics (points by name),
        hashes (of inputs, code and output), code, platform, cpu, memory, python, variables, numpy, scipy, pandas, conda, git,
        packages and command. What was not captured is None.

        >>> import ledger
        >>> trial = ledger.open("memory:").experiment("demo").new_trial({"lr": 0.1})
        >>> trial.complete({"loss": 0.4})
        >>> known = trial.to_dict()
        >>> known["status"], known["parameters"], known["results"], known["git"]
        ('SUCCEEDED', {'lr': 0.1}, {'loss': 0.4}, None)
        """
        from ledger.capture.read import captured_of, read_captures

        records, state = list(self.history()), self.state
        digests = captured_of(records)
        captured = read_captures(self.experiment.book.log, digests)
        environment = captured.get("environment", {})
        code = {kind: captured[kind] for kind in ("script", "function") if kind in captured}
        return {
            "experiment": self.experiment.name,
            "trial_id": self.id,
            "status": str(state.status),
            "error": None if state.error is None else state.error.text,
            "parameters": dict(state.config),
            "results": dict(state.results),
            "persisted": dict(state.attributes.get(PERSISTED, {})),
            "attributes": {name: dict(values) for name, values in state.attributes.items() if name != PERSISTED},
            "metrics": _metrics(records),
            "hashes": {
                "inputs": config_digest(state.config).hex(),
                "code": digests.get("function") or digests.get("script"),
                "output": config_digest(state.results).hex() if state.results else None,
            },
            "code": code or None,
            **{name: environment.get(name) for name in ("platform", "cpu", "memory", "python", "variables")},
            **{name: captured.get(name) for name in ("gpus", "numpy", "scipy", "pandas", "conda", "git", "command")},
            "packages": captured.get("packages", {}).get("distributions"),
        }


def collect_for(
    capture: CaptureOptions | bool, function: Callable[..., Any] | None, refresh: bool = False
) -> dict[str, Capture] | None:
    """Return what ``capture=`` asks for; None when it asks for nothing."""
    options = options_of(capture)
    if options is None:
        return None
    from ledger.capture.collect import collect  # what it needs is loaded by those who capture only

    return collect(options, function, refresh=refresh)


def warn_of_changes(trial: Capturing, appended: Appended) -> None:
    """Warn when what was recorded of a trial says that it runs with something else than the one before."""
    for _, event in appended.events:
        if isinstance(event, ev.EnvironmentChanged) and event.before:
            which = f"trial {trial.id} of {trial.experiment.name!r}"
            changes = ", ".join(event.changes)
            warn_caller(EnvironmentDiffers(f"{which} runs with something else than the trial captured before it: {changes}."))


def _metrics(records: list[Record]) -> dict[str, list[dict[str, Any]]]:
    metrics: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if isinstance(record.event, ev.MetricsLogged):
            for name, step, time, value in point_rows(record.event):
                metrics.setdefault(name, []).append({"step": step, "time": time, "value": value})
    return metrics
