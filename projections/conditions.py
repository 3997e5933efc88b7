"""Conditions: the tree of a query."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ledger.errors import InvalidQuery

_MAX_PATTERN = 1_000  # to read a longer one takes long itself

SEARCHABLE: Final = ("info.", "config.")  # what a key begins with that MLXP can search for


@dataclass(frozen=True, slots=True)
class Comparison:
    """``key operator value``; the operator is ``==``, ``!=``, ``<``, ``>``, ``<=`` or ``>=``."""

    key: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Membership:
    """``key in values``."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """``key =~ pattern``."""

    key: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Containment:
    """``key contains value``."""

    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Existence:
    """``exists(key)``."""

    key: str


@dataclass(frozen=True, slots=True)
class Negation:
    """Not the operand."""

    operand: Condition


@dataclass(frozen=True, slots=True)
class Conjunction:
    """All of the operands."""

    operands: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Disjunction:
    """At least one of the operands."""

    operands: tuple[Condition, ...]


Condition: TypeAlias = Comparison | Membership | Match | Containment | Existence | Negation | Conjunction | Disjunction


@dataclass(frozen=True, slots=True)
class Ordering:
    """``key`` or ``key desc``."""

    key: str
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A condition (None for all trials), then an order, then at most so many."""

    condition: Condition | None = None
    orderings: tuple[Ordering, ...] = ()
    limit: int | None = None


def keys_in(query: Query) -> Iterator[str]:
    """Return the keys that a query needs; those that it only asks to exist are not among them.

    >>> list(keys_in(Query(Conjunction((Comparison("a", "==", 1), Negation(Existence("b")))), (Ordering("c"),))))
    ['a', 'c']
    """
    waiting = [] if query.condition is None else [query.condition]
    while waiting:
        condition = waiting.pop(0)
        match condition:
            case Conjunction(operands) | Disjunction(operands):
                waiting[:0] = operands
            case Negation(operand):
                waiting[:0] = [operand]
            case Comparison(key) | Membership(key) | Match(key) | Containment(key):
                yield key
    yield from (ordering.key for ordering in query.orderings)


@functools.lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """Return a regular expression that can be told to stop; raises InvalidQuery for what is none."""
    import regex  # here: most queries have no use for it

    if len(pattern) > _MAX_PATTERN:
        raise InvalidQuery(f"a regular expression of {len(pattern):,} characters is too long; {_MAX_PATTERN:,} are the most.")
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise InvalidQuery(f"{pattern!r} is no regular expression: {error}.") from None
