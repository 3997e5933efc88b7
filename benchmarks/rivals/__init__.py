"""The rivals: who they are, whether they are installed, and how each is made as durable as the ledger."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, NamedTuple


class Rival(NamedTuple):
    """What is known of a rival without importing it."""

    name: str
    title: str
    package: str  # its distribution on PyPI; empty for what comes with Python or with the ledger
    needs: str  # the module that must be there
    driven: str  # how it is driven, and what an acknowledgement of it means

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported here."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


_ALL = (
    Rival(
        "ledger", "ledger", "experiment-ledger", "ledger",
        'In this process, `durability="full"`, its default: two flushes a commit (the data by `fdatasync`, then LMDB\'s meta '
        "page by a synchronous write).",
    ),
    Rival(
        "bare_lmdb", "bare LMDB", "lmdb", "lmdb",
        "The limit: the payload's bytes put at the next 8-byte key, a commit for each append, with the flags that the ledger "
        "uses (sync, metasync, no writemap). No ids, hashes, indexes or checks.",
    ),
    Rival(
        "file_append", "append + fdatasync", "", "",
        "The limit: length and payload written to the end of a plain file, then `fdatasync`. One flush an append.",
    ),
    Rival(
        "umadb", "UmaDB", "umadb", "umadb",
        "Its server as it ships (the wheel's `umadb` program, defaults) on loopback, its Python client; one tag an event, the "
        "stream, and no uuid. An append that has returned has been flushed by the server (two `fdatasync` each). Threads share "
        "one client, which was faster than a client each.",
    ),
    Rival(
        "eventsourcing", "eventsourcing", "eventsourcing", "eventsourcing",
        "`SQLiteApplicationRecorder.insert_events` and `select_notifications`, in WAL as it ships, `synchronous=FULL` "
        "(checked on its connection).",
    ),
    Rival(
        "optuna", "Optuna journal", "optuna", "optuna",
        "`JournalFileBackend` as it ships: JSON lines, a lock by symlink, `fsync` an append. Lives and studies go through "
        "`JournalStorage`; the variant `rdb` is `RDBStorage` on SQLite as it ships (rollback journal, `synchronous=FULL`).",
    ),
    Rival(
        "sqlite", "SQLite", "", "sqlite3",
        "Python's `sqlite3`, one table with unique id and unique (stream, version), WAL, `synchronous=FULL`, a transaction "
        "for each append, a connection for each thread.",
    ),
    Rival(
        "mlos", "mlos_bench SqlStorage", "mlos-bench", "mlos_bench",
        "Default SQLite file (rollback journal, `synchronous=FULL`). The variant `wal` sets WAL and `synchronous=NORMAL` on "
        "its connections, which it does not offer itself and which is **not durable**: a power cut takes the last commits.",
    ),
    Rival(
        "mlxp", "MLXP", "mlxp", "mlxp",
        "`mlxp.Reader` on a log directory written as MLXP writes it; opening it builds its database, which is how it ships "
        "(`refresh=True`).",
    ),
    Rival(
        "daskperiment", "daskperiment", "daskperiment", "daskperiment",
        "`LocalBackend` as it ships: a pickle of the whole history and some ten files a trial, none of them flushed (**not "
        "durable**). It needs pandas before 2 and setuptools before 82, so it is installed by itself.",
    ),
    Rival(
        "wandb", "W&B offline", "wandb", "wandb",
        "`mode=\"offline\"`, console capture and system metrics off. Until `finish()` has returned; it does not flush to the "
        "disk (**not durable**).",
    ),
    Rival(
        "trackio", "trackio", "trackio", "trackio",
        "Local, automatic CPU and GPU logging off. Until `finish()` has returned; its SQLite runs as it ships (WAL, "
        "`synchronous=NORMAL`), and writes its log out to the file and flushes it when it closes its connection.",
    ),
    Rival(
        "tensorboard", "tensorboardX", "tensorboardX", "tensorboardX",
        "`SummaryWriter.add_scalar`, one call a value. Until `close()` has returned, which flushes the file.",
    ),
    Rival(
        "aim", "Aim", "aim", "aim",
        "`Run.track` of a dict, system and terminal capture off. Until `close()` has returned; RocksDB flushes what it "
        "writes out by itself, not what came last (**not durable**).",
    ),
)  # fmt: skip

RIVALS = {rival.name: rival for rival in _ALL}


def load(name: str, part: str) -> Any:
    """Import a rival's driver and return a class of it: ``Store`` of events, ``Tracker`` of metrics, ``Lives`` of trials."""
    return getattr(importlib.import_module(f"benchmarks.rivals.{name}"), part)
