"""What a look into a ledger's LMDB files tells about their health: the part of ``doctor`` that damage could kill."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from ledger.artifacts.blobs import BlobStore
from ledger.artifacts.references import TYPE, ReferenceCheck
from ledger.backends.blocks import blocks_from, type_names
from ledger.backends.directory import Access, find_access
from ledger.backends.doorbell import position_on_disk
from ledger.backends.environment import MAP_BYTES, MAX_READERS
from ledger.backends.exclusive import share_directory
from ledger.backends.length import find_cut
from ledger.backends.view import LmdbView
from ledger.errors import Corrupted, LedgerError, NotALedger
from ledger.format import BLOCKS, FORMAT, IDENTITY_KEY, KINDS, META, Checks, block_position, read_identity, stream_key
from ledger.records import Record

_ENTRIES_PER_READ = 4096
_BLOCKS_PER_READ = 64
_LOCK_SECONDS = 1.0
_SECOND_LOOK_SECONDS = 0.25
_MAX_SKEWS = 1000  # looked at
_STRUCTURE_LOOKS = 3
_MAX_PROBLEMS = 20


def look_here(place: str) -> dict[str, Any]:
    """Look at the ledger in this process and return what was seen (the child's half of ``ledger.doctor``).

    Raises an OpenError for what is no ledger or is held exclusively, Corrupted for damage.
    """
    path = Path(place)
    access = find_access(path, readonly=True)
    fd = share_directory(path, readonly=access is not Access.WRITE, timeout=_LOCK_SECONDS)
    unlocked = access is Access.READ_UNLOCKED
    try:
        with _open(path, unlocked) as env:
            return _look(env, path, unlocked)
    except lmdb.Error as error:
        raise Corrupted(f"LMDB cannot read {path}: {error}.") from error
    finally:
        if fd >= 0:
            os.close(fd)


def _open(path: Path, unlocked: bool) -> Any:
    size = MAP_BYTES  # what a handle asks for, halved as a handle does until it is given
    while True:
        try:
            return lmdb.open(str(path), readonly=True, create=False, lock=not unlocked, map_size=size, max_readers=MAX_READERS)
        except (lmdb.InvalidError, lmdb.VersionMismatchError) as error:
            raise NotALedger(f"{path / 'data.mdb'} is not a ledger's file ({error}).") from error
        except (lmdb.Error, MemoryError) as error:
            if "annot allocate memory" not in str(error) or size < 1 << 24:
                raise
            size //= 2


def _look(env: Any, path: Path, unlocked: bool) -> dict[str, Any]:
    info = env.info()
    page = env.stat()["psize"]
    pages = info["last_pgno"] + 1
    file_bytes = (path / "data.mdb").stat().st_size
    if cut := find_cut(env, path / "data.mdb"):
        raise Corrupted(f"{cut}.")
    seen = _readers(env)
    cleared = 0 if unlocked else env.reader_check()
    seen_at = time.monotonic()
    facts = _look_inside(env, path) | {"structure": _structure(env, path)}
    time.sleep(max(0.0, _SECOND_LOOK_SECONDS - (time.monotonic() - seen_at)))
    newest = env.info()["last_txnid"]
    # One that has read the same state all the time, and not the newest: it keeps pages from being used again.
    staying = {pid: newest - txn for pid, txn in set(seen) & set(_readers(env)) if txn < newest and pid != os.getpid()}
    stat = env.stat()
    used = 2 + stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return facts | {
        "file_bytes": file_bytes,
        "free_bytes": max(0, pages - used) * page,
        "map_bytes": info["map_size"],
        "max_readers": info["max_readers"],
        "readers": len(seen),
        "dead_readers": cleared,
        "staying_readers": sorted(staying.items()),
    }


def _structure(env: Any, path: Path) -> list[str]:
    """Return what is wrong with LMDB's pages, each of which must be either in use or free; nothing while others write."""
    from lmdb.verify import VerifyError, verify  # here: nothing else needs it

    for _ in range(_STRUCTURE_LOOKS):
        before = env.info()["last_txnid"]
        try:
            problems = verify(str(path))  # type: ignore[no-untyped-call]
        except VerifyError as error:
            problems = [str(error)]
        if env.info()["last_txnid"] == before:  # else pages were used again under it
            return [str(problem) for problem in problems[:_MAX_PROBLEMS]]
    return []


def _readers(env: Any) -> list[tuple[int, int]]:
    """Return process and state of each read transaction under way."""
    found = []
    for line in env.readers().splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[0].isdigit() and fields[2].isdigit():
            found.append((int(fields[0]), int(fields[2])))
    return found


def _look_inside(env: Any, path: Path) -> dict[str, Any]:
    told = (path / "head").read_bytes() if (path / "head").exists() else b""  # before the log: it is rung after a commit
    with env.begin() as txn:
        value = txn.get(IDENTITY_KEY)
        if value is None:
            raise NotALedger(f"{path} holds an LMDB database that is not a ledger.")
        checks = Checks(read_identity(value, str(path)).ledger_id)
        view = LmdbView(checks, txn, 0)
        head = view.head
    entries, bad, problem = _check_entries(env, checks)
    with env.begin() as txn:
        skews = 0 if bad else _count_skews(LmdbView(checks, txn, 0))
    lost = [] if bad else list(_lost_artifacts(env, checks, path))
    return {
        "format": FORMAT,
        "head": head.position,
        "on_disk": position_on_disk(told, checks),
        "recorded_at": head.recorded_at,
        "pending": head.redactions - head.erased,
        "entries": entries,
        "bad": bad,
        "problem": problem,
        "skews": skews,
        "lost": len(lost),
        "first_lost": lost[0] if lost else "",
    }


def _check_entries(env: Any, checks: Checks) -> tuple[int, int, str]:
    """Test the checksum and the order of every entry, in short transactions; return how many there are, how many are wrong,
    and what is wrong with the first one.
    """
    entries, bad, problem = 0, 0, ""
    after = b""
    begun = env.info()["last_txnid"]
    while True:
        with env.begin() as txn:
            cursor = txn.cursor()
            found = cursor.set_range(after + b"\0")
            for _ in range(_ENTRIES_PER_READ):
                if not found:
                    hidden = txn.stat()["entries"] - entries if txn.id() == begun else 0  # else somebody wrote meanwhile
                    missing = f"LMDB counts {abs(hidden):,} entries {'more' if hidden > 0 else 'less'} than can be reached."
                    return entries, bad + abs(hidden), problem or (missing if hidden else "")
                key = cursor.key()
                try:
                    if key <= after:
                        raise Corrupted(f"the entry {key!r} comes after {after!r}: the file's structure is damaged.")
                    _check_entry(checks, key, cursor.value())
                    if txn.get(key) is None:
                        raise Corrupted(f"the entry {key!r} is not found by its key: the file's structure is damaged.")
                except LedgerError as error:
                    bad += 1
                    problem = problem or getattr(error, "problem", str(error))
                after = max(after, key)
                entries += 1
                found = cursor.next()


def _check_entry(checks: Checks, key: bytes, value: bytes) -> None:
    kind = key[:1]
    if kind == BLOCKS:
        checks.open_block(block_position(key), value)
    elif kind == META:
        checks.open_meta(key, value)
    elif kind in KINDS:
        checks.open(key, value)
    else:
        raise Corrupted(f"there is an entry of no known kind (key {key!r}).")


def _lost_artifacts(env: Any, checks: Checks, path: Path) -> Iterator[str]:
    """Yield what is wrong with the blobs of artifacts, as far as it shows without reading them, in short transactions."""
    check = ReferenceCheck(BlobStore(path / "blobs", readonly=True), content=False)
    reached = 0
    while True:
        records: list[Record] = []
        with env.begin() as txn:
            blocks = list(islice(blocks_from(txn, checks, reached + 1), _BLOCKS_PER_READ))
            for block in blocks:
                if TYPE in type_names(block.header.types):
                    records += [record for record in block.records() if record.type == TYPE]
        if not blocks:
            return
        reached = blocks[-1].last
        for record in records:
            yield from check.problems(record)


def _count_skews(view: LmdbView) -> int:
    positions = view.positions(stream_key("ledger"))[-_MAX_SKEWS:]
    return sum(record.type == "ClockSkewed" for record in view.records_at(positions))
