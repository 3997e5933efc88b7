"""Predicate: which rows a condition is true of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from ledger.errors import InvalidQuery
from ledger.state import Status
from projections.columns import MISSING
from projections.conditions import (
    Comparison,
    Condition,
    Conjunction,
    Containment,
    Disjunction,
    Existence,
    Match,
    Membership,
    Negation,
    Ordering,
    Query,
    compiled,
    keys_in,
)
from projections.field import Field, Mask, Places
from projections.mlxp_status import FROM_MLXP, TO_MLXP
from projections.ordering import order_of

#: How long the regular expressions of one query may take in all. Some take ages on some texts, whatever the engine.
MATCH_SECONDS = 5.0

#: Words of MLXP's for a trial's status that are none of the ledger's, which a query may use as well.
MLXP_STATUSES: Final = {
    word: [status for status, said in TO_MLXP.items() if said == word] for word in FROM_MLXP if word not in set(Status)
}
STATUS_KEY: Final = "info.status"

#: Returns the field of a key (None: nobody has it), and the key's full name.
Lookup = Callable[[str], tuple[str, Field | None]]


def select(query: Query, rows: int, lookup: Lookup, *, exists: Lookup, is_strict: bool = False) -> Places:
    """Return the rows that a query selects, in its order; by row where it has none.

    ``lookup`` finds the field of a key, or raises for one that there is not; ``exists`` does for ``exists()``. Values that
    have no order make a comparison false; with ``is_strict`` they raise NotComparable. A comparison is false of a row without
    the key, ``!=`` as well.

    A part of a condition is looked at for those rows only that its neighbours to the left have not decided.
    """
    for key in keys_in(query):
        lookup(key)  # an unknown key is one, wherever in the query it stands and whatever the others find
    everything = np.arange(rows)
    try:
        selected = everything
        if query.condition is not None:
            selected = everything[_Predicate(lookup, exists, is_strict).evaluate(query.condition, everything)]
        for ordering in reversed(query.orderings):
            selected = selected[_order(ordering, lookup, selected)]
    except RecursionError:
        raise InvalidQuery("the query is nested too deeply. Write it with fewer parentheses in each other.") from None
    return selected if query.limit is None else selected[: query.limit]


def _order(ordering: Ordering, lookup: Lookup, rows: Places) -> list[int]:
    _, field = lookup(ordering.key)
    values = [MISSING] * len(rows) if field is None else field.values(rows)
    return order_of(values, is_descending=ordering.is_descending)


class _Predicate:
    """Evaluates the parts of one condition."""

    def __init__(self, lookup: Lookup, exists: Lookup, is_strict: bool) -> None:
        self._lookup, self._exists, self._is_strict = lookup, exists, is_strict
        self._seconds = MATCH_SECONDS

    def evaluate(self, condition: Condition, rows: Places) -> Mask:
        """Say of each of the rows whether the condition is true of it."""
        match condition:
            case Conjunction(operands):
                return self._decide(operands, rows, is_conjunction=True)
            case Disjunction(operands):
                return self._decide(operands, rows, is_conjunction=False)
            case Negation(operand):
                return ~self.evaluate(operand, rows)
            case Existence(key):
                _, field = self._exists(key)
                return np.zeros(len(rows), dtype=np.bool_) if field is None else field.present[rows]
        return self._test(condition, rows)

    def _decide(self, operands: Sequence[Condition], rows: Places, *, is_conjunction: bool) -> Mask:
        answer = np.full(len(rows), is_conjunction)
        for operand in operands:
            open_ = np.flatnonzero(answer == is_conjunction)
            if len(open_):
                answer[open_] = self.evaluate(operand, rows if len(open_) == len(rows) else rows[open_])
        return answer

    def _test(self, condition: Comparison | Membership | Match | Containment, rows: Places) -> Mask:
        key, field = self._lookup(condition.key)
        answer = np.zeros(len(rows), dtype=np.bool_)
        if field is None:
            return answer
        present = field.present[rows]
        candidates = rows[present]
        match condition:
            case Comparison(_, sign, value):
                found = self._compare(key, field, sign, value, candidates)
            case Membership(_, values):
                found = np.zeros(len(candidates), dtype=np.bool_)
                for value in values:
                    found |= self._compare(key, field, "==", value, candidates)
            case Match(_, pattern):
                found = self._match(key, field, pattern, candidates)
            case Containment(_, value):
                found = field.test(lambda each: _contains(each, value), candidates)
        answer[present] = found
        return answer

    def _compare(self, key: str, field: Field, sign: str, value: Any, rows: Places) -> Mask:
        if key == STATUS_KEY and sign in ("==", "!=") and isinstance(value, str) and value in MLXP_STATUSES:
            found = np.zeros(len(rows), dtype=np.bool_)
            for status in MLXP_STATUSES[value]:
                found |= field.compare("==", status.value, rows, is_strict=self._is_strict)
            return found if sign == "==" else ~found
        return field.compare(sign, value, rows, is_strict=self._is_strict)

    def _match(self, key: str, field: Field, pattern: str, rows: Places) -> Mask:
        expression = compiled(pattern)
        also = (
            {status.value: word for word, statuses in MLXP_STATUSES.items() for status in statuses} if key == STATUS_KEY else {}
        )

        def matches(value: Any) -> bool:
            if not isinstance(value, str):
                return False
            return found_in(value) or (value in also and found_in(also[value]))

        def found_in(value: str) -> bool:
            start = time.monotonic()
            try:
                return expression.search(value, timeout=max(self._seconds, 1e-9)) is not None
            except TimeoutError:
                raise InvalidQuery(
                    f"to find {pattern!r} in {key} takes more than {MATCH_SECONDS:g} s. Write it without repetitions of "
                    "repetitions, such as (a+)+."
                ) from None
            finally:
                self._seconds -= time.monotonic() - start

        return field.test(matches, rows)


def _contains(value: Any, part: Any) -> bool:
    if isinstance(value, str):
        return isinstance(part, str) and part in value
    return isinstance(value, list | tuple) and part in value
