"""Conditions: the tree of a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

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
