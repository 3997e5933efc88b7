"""The table of configs: those that were tried, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from ledger.backends.base import config_digest, config_digests
from projections.columns import MISSING, as_it_is, text_array
from projections.rows import Rows
from projections.trial_rows import TrialRows

_DIGEST_BYTES = 16
_AT_ONCE = 32_768  # digests: new memory for all of them takes longer than the work


class ConfigIds:
    """Number configs from 1 in order of first appearance in the ledger.

    Equal configs, with values of equal types, have one number in all experiments of the ledger; 1 and 1.0 differ.

    >>> ConfigIds().numbers([{"lr": 1}, {"lr": 1.0}, {"lr": 1}])
    [1, 2, 1]
    """

    def __init__(self, rows: Rows | None = None) -> None:
        self.rows = rows or Rows({"first_half": "id", "second_half": "id"})  # of the digest of each, in order of the numbers
        self._ids: dict[bytes, int] | None = None  # made when it is needed: to look at a table needs none

    def numbers(self, configs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the numbers of configs, new ones for those not seen before."""
        if not configs:
            return []
        ids = self._known()
        known = len(ids)
        numbers = [ids.setdefault(digest, len(ids) + 1) for digest in config_digests(configs)]
        new = list(islice(reversed(ids), len(ids) - known))
        if new:
            halves: Any = np.frombuffer(b"".join(reversed(new)), np.int64).reshape(-1, 2)
            self.rows.extend({"first_half": halves[:, 0], "second_half": halves[:, 1]})
        return numbers

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

    def hexadecimal(self, ids: Any) -> list[str]:
        """Return the digests of some numbers."""
        found: list[str] = []
        for first in range(0, len(ids), _AT_ONCE):
            halves = self._halves(ids[first : first + _AT_ONCE] - 1)
            found += halves.tobytes().hex(" ", _DIGEST_BYTES).split(" ")  # a fifth of the time of one by one
        return found

    def _halves(self, places: Any) -> Any:
        return np.stack([self.rows[half].arrays()[0][places] for half in ("first_half", "second_half")], axis=1)

    def _known(self) -> dict[bytes, int]:
        if self._ids is None:
            digests = self.digests()
            parts = (digests[first : first + _DIGEST_BYTES] for first in range(0, len(digests), _DIGEST_BYTES))
            self._ids = {digest: number for number, digest in enumerate(parts, start=1)}
        return self._ids


def config_table(
    trials: TrialRows, config_ids: ConfigIds, originals: Mapping[int, Mapping[str, Any]], *, deleted: bool = False
) -> pd.DataFrame:
    """Return the configs that were tried, ordered by config_id; no rows for an experiment without trials.

    A trial's config is what ``new_trial`` was given; when parameters were added while it ran (``configure``), it is from its
    end on the one with them. What amendments make of it is in the trial table only.

    Columns: ``config_id`` (int64, as in the trial table), ``digest`` (string, 32 hex digits), ``trials`` (Int64, those
    of the experiment whose config it is; with ``deleted`` the deleted ones as well), ``first_trial_id`` (int64, the first of
    them to be created), then ``config.<parameter>`` by name.
    """
    live = shown_places(trials, deleted=deleted)
    ids = trials.rows["config_id"].arrays()[0][live]
    if (ids[1:] > ids[:-1]).all():  # each config has one trial, as most random ones
        rows, counts = live, np.ones(len(ids), np.int64)
    else:
        ids, first, counts = np.unique(ids, return_index=True, return_counts=True)
        rows = live[first]
    return pd.DataFrame(
        {
            "config_id": ids,
            "digest": text_array(config_ids.hexadecimal(ids)),
            "trials": pd.array(counts, dtype="Int64"),
            "first_trial_id": trials.rows["trial_id"].arrays()[0][rows],
            **config_columns(trials, rows, ids, originals),
        },
        copy=False,
    )


def is_live(trials: TrialRows) -> Any:
    """Return for each row whether its trial has not been deleted, as an array."""
    deleted_at = trials.rows["deleted_at"].arrays()[0]
    return deleted_at == np.iinfo(np.int64).min


def shown_places(trials: TrialRows, *, deleted: bool) -> Any:
    """Return the numbers of the rows whose trials are shown, as an array."""
    return np.arange(trials.rows.length) if deleted else np.flatnonzero(is_live(trials))


def config_columns(trials: TrialRows, rows: Any, ids: Any, originals: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns of the configs with those numbers, which those rows have."""
    changed = [index for index, each in enumerate(ids.tolist()) if each in originals] if originals else []
    columns: dict[str, Any] = {}
    is_every = len(rows) == trials.rows.length and not changed and bool((rows[1:] > rows[:-1]).all())
    for name, buffer in sorted(trials.configs.buffers.items()):
        chosen = buffer if is_every else buffer.take(rows)
        if changed:
            chosen.write(np.array(changed), [originals[int(ids[index])].get(name, MISSING) for index in changed])
        if not chosen.is_missing().all():
            columns[f"config.{name}"] = as_it_is(chosen.array())
    return columns
