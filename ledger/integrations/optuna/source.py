"""Studies as they are read from a storage of Optuna's, on their way into a ledger."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

#: Called with what is done and how much there is to do.
Progress = Callable[[int, int], None]
#: Says whether the trial of a number is to be read.
Wanted = Callable[[int], bool]
_BATCH = 1000  # trials that are compared, or added, at a time


class Broken(NamedTuple):
    """A trial that cannot be read, and why not."""

    number: int
    problem: str


class SourceStudy(NamedTuple):
    """A study of ``size`` trials, and what it is to be ``called``; ``trials`` reads those whose numbers are wanted, in order."""

    id: int
    name: str
    called: str
    directions: list[StudyDirection]
    user_attrs: dict[str, Any]
    system_attrs: dict[str, Any]
    size: int
    trials: Callable[[Wanted], Iterator[FrozenTrial | Broken]]


class Source(NamedTuple):
    """What was read; ``problems`` are entries that are broken, ``rejected`` counts those that Optuna itself ignores."""

    kind: str
    place: str
    studies: list[SourceStudy]
    problems: list[str]
    rejected: int


#: Says how one study is asked for, and under which name, in the words of a front door.
Wording = Callable[[str, str | None], str]


def in_python(study: str, name: str | None) -> str:
    """Say it in the arguments of ``import_journal`` and ``import_rdb``.

    >>> in_python("tuning", "tuning-2")
    "study='tuning', name='tuning-2'"
    """
    return f"study={study!r}" + ("" if name is None else f", name={name!r}")


def in_shell(study: str, name: str | None) -> str:
    """Say it in the options of ``ledger import``.

    >>> in_shell("my tuning", None), in_shell("tuning", "tuning-2")
    ("--study 'my tuning'", '--study tuning --experiment tuning-2')
    """
    return shlex.join(["--study", study] + ([] if name is None else ["--experiment", name]))


def batches(trials: Iterable[FrozenTrial | Broken]) -> Iterator[list[FrozenTrial | Broken]]:
    """Pass trials on, some at a time."""
    rest = iter(trials)
    while batch := list(islice(rest, _BATCH)):
        yield batch
