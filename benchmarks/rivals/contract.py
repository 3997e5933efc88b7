"""What a driver of a rival does: a store of events, a tracker of metrics, a store of trials."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from benchmarks.payload import Sample

METRIC_POINTS = 10  # of each call of a function


class EventStore(ABC):
    """An open store of events, driven as its documentation says.

    **Guarantees.** ``append`` returns when the events are as safe as the store makes them (``Rival.driven``); ``read``
    decodes every payload to the typed event, as the ledger's readers get it, unless the variant ``raw`` is asked for.

    **Threads and processes.** ``for_thread`` gives a handle for another thread; another process joins by ``address``.
    """

    #: How another process joins: a directory or a URL.
    address: str

    @abstractmethod
    def __init__(self, directory: Path) -> None:
        """Open the store in the directory, creating it when it is not there."""

    @classmethod
    def join(cls, address: str) -> Self:
        """Open the store that another process has opened."""
        return cls(Path(address))

    def for_thread(self) -> EventStore:
        """Return a handle for another thread; the same one where threads may share it."""
        return self

    @abstractmethod
    def append(self, samples: Sequence[Sample]) -> int:
        """Append events in one atomic step; return the last one's position where the store tells."""

    def read(self, variant: str = "") -> int:
        """Read everything; return how many events there were."""
        raise NotImplementedError

    def history(self, stream: str) -> int:
        """Read one stream's events; return how many there were."""
        raise NotImplementedError

    def follow(self, after: int) -> Iterator[tuple[int, int]]:
        """Yield position and step of each event after a position, then of those that come, without end."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """Give everything back; a server is stopped."""


class Tracker(ABC):
    """A run to which metrics are logged."""

    @abstractmethod
    def __init__(self, directory: Path) -> None:
        """Begin a run that keeps its files in the directory."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log the values of one step."""

    @abstractmethod
    def finish(self) -> None:
        """Return when everything logged is as safe as the tracker makes it."""

    def close(self) -> None:  # noqa: B027 - most have nothing left to do after ``finish``
        """Give everything back; not timed."""


class TrialStore(ABC):
    """A store of trials."""

    @abstractmethod
    def __init__(self, directory: Path, variant: str = "") -> None:
        """Open it in the directory."""

    @abstractmethod
    def live(self, number: int) -> None:
        """Record one trial's life: created with five parameters, running, five telemetry points, succeeded with five metrics.

        It is all as safe as the store makes it on return.
        """

    @abstractmethod
    def close(self) -> None:
        """Give everything back."""


def config_of(number: int) -> dict[str, Any]:
    """Return the config of a trial: five parameters, different for every trial."""
    return {f"p{i}": number * 5 + i for i in range(5)}


def results_of(number: int) -> dict[str, float]:
    """Return the metrics that a trial ends with."""
    return {f"m{i}": number * 0.1 + i for i in range(5)}


class Caller(ABC):
    """A trivial function that logs a metric; its calls are recorded as trials, with what they ran with."""

    @abstractmethod
    def __init__(self, directory: Path, variant: str = "") -> None:
        """Open the store in the directory, and the function with it."""

    @abstractmethod
    def call(self, number: int) -> None:
        """Call the function once, as a trial."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back."""
