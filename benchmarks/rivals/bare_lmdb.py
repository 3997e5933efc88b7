"""The limit: bare LMDB, with the ledger's flags and nothing but the payload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb

from benchmarks.payload import Sample, decode
from benchmarks.rivals.contract import EventStore


class Store(EventStore):
    """One put of the payload's bytes at the next key."""

    def __init__(self, directory: Path) -> None:
        path = directory / "bare.lmdb"
        path.mkdir(exist_ok=True)
        self._lmdb: Any = lmdb.open(
            str(path), map_size=1 << 40, max_readers=2046, max_spare_txns=0,
            metasync=True, sync=True, writemap=False, map_async=False,
        )  # fmt: skip
        self.address = str(directory)

    def append(self, samples: Sequence[Sample]) -> int:
        with self._lmdb.begin(write=True) as txn:
            cursor = txn.cursor()
            # The last key is looked up, not remembered: other processes append too.
            head = int.from_bytes(cursor.key(), "big") if cursor.last() else 0
            if len(samples) == 1:
                cursor.put((head + 1).to_bytes(8, "big"), samples[0].data, append=True)
            else:
                pairs = [(position.to_bytes(8, "big"), each.data) for position, each in enumerate(samples, head + 1)]
                cursor.putmulti(pairs, append=True)
        return head + len(samples)

    def read(self, variant: str = "") -> int:
        count = 0
        with self._lmdb.begin() as txn:
            for value in txn.cursor().iternext(keys=False, values=True):
                decode(value)
                count += 1
        return count

    def close(self) -> None:
        self._lmdb.close()
