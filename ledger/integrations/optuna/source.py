"""Studies as they are read from a storage of Optuna's, on their way into a ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

#: Called with what is done and how much there is to do.
Progress = Callable[[int, int], None]


class SourceStudy(NamedTuple):
    """A study of ``size`` trials; ``trials`` reads them by number, and yields a text for each that cannot be read."""

    id: int
    name: str
    directions: list[StudyDirection]
    user_attrs: dict[str, Any]
    system_attrs: dict[str, Any]
    size: int
    trials: Callable[[], Iterator[FrozenTrial | str]]


class Source(NamedTuple):
    """What was read; ``problems`` are entries that are broken, ``rejected`` counts those that Optuna itself ignores."""

    kind: str
    place: str
    studies: list[SourceStudy]
    problems: list[str]
    rejected: int
