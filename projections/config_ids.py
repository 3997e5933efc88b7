"""ConfigIds: numbers of configs, dense over the whole ledger, in order of first appearance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ledger.backends.base import config_digest, config_digests
from projections.rows import Rows

_DIGEST_BYTES = 16
_HALVES = ("first_half", "second_half")
_FEW = 8  # new ones are few when there are so many times more before them
_SCANNED = 16  # so many are looked for one by one, which takes 0.5 ms a million for each; the dict is made in 400
_AT_ONCE = 32_768  # digests: new memory for all of them takes longer than the work


class ConfigIds:
    """Number configs from 1 in order of first appearance in the ledger.

    Equal configs, with values of equal types, have one number in all experiments of the ledger; 1 and 1.0 differ.

    >>> ConfigIds().numbers([{"lr": 1}, {"lr": 1.0}, {"lr": 1}])
    [1, 2, 1]
    """

    def __init__(self, rows: Rows | None = None) -> None:
        self.rows = rows or Rows(dict.fromkeys(_HALVES, "id"))  # of the digest of each, in order of the numbers
        self._settled = self.rows.length
        self._ids: dict[bytes, int] | None = None  # made when it is needed: to look at a table, and to count many, needs none

    # --------------------------------------------------------------------------------------------------- give

    def numbers(self, configs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the numbers of configs, new ones for those not seen before; all that were counted must be settled."""
        return self._number(config_digests(configs))

    def count(self, configs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return numbers that hold until ``settle``, which may take several for equal configs together.

        To look for each of a million in a dict takes three times as long as to sort them once, and the memory of the dict.

        >>> ids = ConfigIds()
        >>> ids.count([{"lr": 1}, {"lr": 2}, {"lr": 1}, {"lr": 3}]), ids.settle().tolist(), ids.settle()
        ([1, 2, 3, 4], [0, 1, 2, 1, 3], None)
        """
        if self._ids is not None:
            return self.numbers(configs)
        before = self.rows.length
        self._add(config_digests(configs))
        return list(range(before + 1, self.rows.length + 1))

    def settle(self) -> Any:
        """Return an array with the number, from then on, at the place of each number that was given; None when all stay.

        Numbers that were settled before always stay.
        """
        before, settled = self.rows.length, self._settled
        if before == settled:
            return None
        if before - settled <= _SCANNED and all(map(self._is_first, range(settled, before))):
            numbers = None
        elif (before - settled) * _FEW <= settled:
            new = list(_parts(self._halves(slice(settled, None)).tobytes()))
            self.rows = self.rows.take(slice(settled))
            numbers = np.concatenate([np.arange(settled + 1), self._number(new)])
        else:
            numbers = self._sorted()
        self._settled = self.rows.length
        return numbers if self._settled < before else None

    def _is_first(self, place: int) -> bool:
        """Say whether no digest before one begins as it does."""
        first = self.rows[_HALVES[0]].arrays()[0]
        return not (first[:place] == first[place]).any()

    def _sorted(self) -> Any:
        """Keep each digest once, and return the array of ``settle``."""
        first, second = (self.rows[half].arrays()[0] for half in _HALVES)
        ordered = np.sort(first)
        if (ordered[1:] != ordered[:-1]).all():  # as of most random configs: a third of the time
            return None
        order = np.lexsort((second, first))  # of equal ones, the first comes first
        is_other = np.ones(len(order), np.bool_)
        is_other[1:] = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
        kept = np.sort(order[is_other])
        numbers = np.zeros(len(order) + 1, np.int64)
        numbers[order + 1] = (np.searchsorted(kept, order[is_other]) + 1)[np.cumsum(is_other) - 1]
        self.rows = self.rows.take(kept)
        if len(kept) * 2 < len(order):  # the same ones again and again: a small dict is the faster way
            self._known()
        return numbers

    def _number(self, digests: Sequence[bytes]) -> list[int]:
        if not digests:
            return []
        ids = self._known()
        known = len(ids)
        numbers = [ids.setdefault(digest, len(ids) + 1) for digest in digests]
        new = list(islice(reversed(ids), len(ids) - known))
        if new:
            self._add(reversed(new))
            self._settled = self.rows.length
        return numbers

    def _add(self, digests: Iterable[bytes]) -> None:
        halves: Any = np.frombuffer(b"".join(digests), np.int64).reshape(-1, 2)
        self.rows.extend(dict(zip(_HALVES, halves.T, strict=True)))

    # --------------------------------------------------------------------------------------------------- find

    def find(self, config: Mapping[str, Any]) -> int | None:
        """Return the number of a config; None when it has none.

        >>> ids = ConfigIds()
        >>> ids.numbers([{"lr": 1}]), ids.find({"lr": 1}), ids.find({"lr": 2})
        ([1], 1, None)
        """
        return self._known().get(config_digest(config))

    def digests(self) -> bytes:
        """Return the digests in order of their numbers, one behind the other."""
        found: bytes = self._halves(slice(None)).tobytes()
        return found

    def hexadecimal(self, ids: Any) -> Any:
        """Return the digests of some numbers, as an array of texts."""
        found = np.empty(len(ids), object)
        for first in range(0, len(ids), _AT_ONCE):
            halves = self._halves(ids[first : first + _AT_ONCE] - 1)
            found[first : first + _AT_ONCE] = halves.tobytes().hex(" ", _DIGEST_BYTES).split(" ")  # a fifth of one by one
        return found

    def _halves(self, places: Any) -> Any:
        return np.stack([self.rows[half].arrays()[0][places] for half in _HALVES], axis=1)

    def _known(self) -> dict[bytes, int]:
        if self._ids is None:
            self._ids = {digest: number for number, digest in enumerate(_parts(self.digests()), start=1)}
        return self._ids


def _parts(digests: bytes) -> Iterable[bytes]:
    return (digests[first : first + _DIGEST_BYTES] for first in range(0, len(digests), _DIGEST_BYTES))
