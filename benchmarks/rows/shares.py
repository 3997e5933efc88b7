"""Where the time of one append goes: hash, checksum, index, commit."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ledger.backends.blocks
import ledger.backends.doorbell
import ledger.backends.environment
import ledger.backends.lmdb
import ledger.backends.staging
import ledger.backends.transaction
import ledger.codec
import ledger.format
import ledger.tree
from benchmarks.payload import appends
from benchmarks.rivals.ledger import Store
from benchmarks.row import Figures, Line, Row, Task
from benchmarks.size import Size

_transaction = ledger.backends.transaction.LmdbTransaction
_checks = ledger.format.Checks

#: What is timed, and under which name: an owner (module or class), an attribute, a share.
_PARTS: tuple[tuple[Any, str, str], ...] = (
    (ledger.backends.staging, "encode_event", "encode"),
    (ledger.backends.transaction, "encode_records", "encode"),
    (ledger.codec, "_leaf", "hash"),
    (ledger.codec, "record_salts", "hash"),
    (ledger.tree.Edge, "extend", "hash"),
    (_checks, "_digest", "checksum"),
    (_checks, "seal", "checksum"),
    (_checks, "open", "checksum"),
    (_transaction, "version", "index"),
    (_transaction, "_find", "index"),
    (_transaction, "_write_lists", "index"),
    (_transaction, "_put_many", "index"),
    (ledger.backends.transaction, "write_blocks", "block"),
    (ledger.backends.environment.Environment, "commit_transaction", "commit"),
    (ledger.backends.lmdb.LmdbBackend, "_ring", "doorbell"),
    (ledger.backends.doorbell.Doorbell, "ring", "doorbell"),
)
SHARES = ("commit", "encode", "hash", "checksum", "index", "block", "doorbell", "rest")


class Shares(Row):
    name = "shares"
    title = "shares of one append"
    work = (
        "Appends of 1, 100 and 1000 events with a stopwatch on the parts: commit (LMDB's, with its two flushes), encode (event "
        "and record to bytes), hash (leaf, salts, Merkle tree), checksum, index, block (putting, and sealing by zstd), doorbell, "
        "and the rest. The stopwatch itself costs some tenths of a microsecond a call, which is charged to the parts."
    )
    lines = tuple(Line(f"{share}_share", f"{share}, share of an append", "%", "less") for share in SHARES)
    rounds = 3

    def contestants(self, size: Size) -> Sequence[str]:
        return ("ledger:1", "ledger:100", "ledger:1000")

    def name_of(self, contestant: str, size: Size) -> str:
        return f"{contestant.partition(':')[2]} per append"

    def measure(self, task: Task) -> Figures:
        per_append = int(task.variant)
        count = {1: task.size.singles, 100: task.size.hundreds, 1000: task.size.thousands}[per_append]
        watch = Stopwatch()
        with contextlib.closing(Store(task.place)) as store:
            for batch in appends("warm", max(count // 10, 1), per_append):
                store.append(batch)
            batches = appends("timed", count, per_append)
            with watch.on(_PARTS):
                begun = time.perf_counter()
                for batch in batches:
                    store.append(batch)
                seconds = time.perf_counter() - begun
        parts = {**watch.seconds, "rest": seconds - sum(watch.seconds.values())}
        figures = {f"{share}_share": 100 * parts.get(share, 0.0) / seconds for share in SHARES}
        return {**figures, "us_per_append": seconds / count * 1e6}


class Stopwatch:
    """Time functions of one thread while they are replaced; the time of those called inside is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    @contextlib.contextmanager
    def on(self, parts: Sequence[tuple[Any, str, str]]) -> Iterator[None]:
        """Replace the parts by timed ones inside the block."""
        with contextlib.ExitStack() as stack:
            for owner, name, share in parts:
                original = getattr(owner, name)
                setattr(owner, name, self._timed(original, share))
                stack.callback(setattr, owner, name, original)
            yield

    def _timed(self, function: Callable[..., Any], share: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.perf_counter() - begun
                own = taken - self._inside.pop()
                self.seconds[share] = self.seconds.get(share, 0.0) + own
                if self._inside:
                    self._inside[-1] += taken

        return timed
