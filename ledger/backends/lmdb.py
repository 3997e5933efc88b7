"""The log in LMDB: one machine, any number of processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import lmdb
import msgspec

from ledger.backends.base import Appended, Backend, Entry, Redactions, Submission, View
from ledger.backends.blocks import UnpackedBlocks, blocks_from, own_salt, type_names
from ledger.backends.delegation import Asking, Delegated, Place
from ledger.backends.doorbell import HEAD_BYTES, Doorbell, head_bytes, position_on_disk
from ledger.backends.environment import Environment, Options
from ledger.backends.mailbox import Mailbox
from ledger.backends.staging import skew_submission, skew_warning
from ledger.backends.transaction import LmdbTransaction
from ledger.backends.view import FoldedStates, LmdbView
from ledger.clock import Clock, Reading
from ledger.codec import decode_envelopes, leaf_of
from ledger.errors import CommitFailed, Corrupted, InvalidValue, LedgerClosed, LedgerError, NotALedger, ReadOnlyLedger
from ledger.format import (
    FORMAT,
    IDENTITY_KEY,
    MAX_POSITION,
    OWN_SALT,
    Checks,
    Head,
    Identity,
    config_key,
    experiment_key,
    read_identity,
    stream_key,
)
from ledger.identity import default_actor, new_uuid7
from ledger.records import Record
from ledger.tree import Edge

if TYPE_CHECKING:
    from ledger.artifacts.blobs import BlobStore

_PAGE_RECORDS = 256
_encoder = msgspec.msgpack.Encoder()


class _Committed(NamedTuple):
    """The outcome of one group."""

    head: int
    answers: list[Appended | Exception]
    reading: Reading
    is_new: bool  # whether there is anything to be read that was not there before


class LmdbBackend(Backend):
    """Keep the log in an LMDB environment in a directory of its own.

    **Guarantees.** With ``durability="full"`` a commit is on disk when it returns: it survives the end of the process
    and a power cut. With ``"relaxed"`` the last commits before a power cut may be lost, whole and from the end, but
    nothing else. Every value is checked when it is read: damaged bytes raise Corrupted, they are never returned.

    **Threads and processes.** Use one handle from any number of threads. Other processes open the path themselves; a
    forked child must open it again. Opening a path twice in one process shares one environment. Threads that write at once
    share commits, and so do processes, on Linux.

    **Cost.** A commit waits for the disk twice (data, then LMDB's meta page). A write waits at most
    ``lock_timeout`` seconds for other processes' writes.

    Raises the OpenErrors of ``ledger.errors``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        readonly: bool = False,
        clock: Callable[[], int] | None = None,
        options: Options | None = None,
        identity: Identity | None = None,
    ) -> None:
        from pathlib import Path  # here: `import ledger` need not pay for it

        self.path = Path(path).absolute()
        self.name = str(path)
        self.readonly = readonly
        options = options or Options()
        if options.durability not in ("full", "relaxed"):
            raise InvalidValue(
                f"durability is 'full' or 'relaxed', not {options.durability!r}"
                + (": 'cache' is for mirrors of an engine, which can be built again." if options.durability == "cache" else ".")
            )
        self._given_identity = identity  # of a copy: it is the same ledger
        self._clock = Clock(clock)
        self._closed = False
        self._warning: str | None = None
        self._folded, self._unpacked = FoldedStates(), UnpackedBlocks()
        self._environment = Environment.acquire(self.path, options, create=create and not readonly, readonly=readonly)
        try:
            identity = self._identify()
            self.ledger_id = UUID(bytes=identity.ledger_id)
            self.identity = identity
            self._checks = Checks(identity.ledger_id)
            self._check_tail()
        except BaseException:
            self._environment.release()
            raise
        self._doorbell = Doorbell(self.path / "head")

    @cached_property
    def blobs(self) -> BlobStore:  # type: ignore[override]
        from ledger.artifacts.blobs import BlobStore  # here: `import ledger` need not pay for it

        return BlobStore(self.path / "blobs", readonly=self.readonly)

    # -- opening

    def _identify(self) -> Identity:
        value, is_empty = self._look_for_identity()
        if value is None:
            self._refuse_lost_log()
            if self.readonly or not is_empty:
                raise NotALedger(f"{self.path} holds an LMDB database that is not a ledger. Give the path of a ledger.")
            value = self._environment.write(self._create)
        return read_identity(value, str(self.path))

    def _refuse_lost_log(self) -> None:
        """Raise when the log is empty and was not: a new ledger in its place would hide what happened."""
        rung = int.from_bytes(os.pread(self._environment.head_fd, 8, 0), "big")
        if rung:
            raise Corrupted(f"{self.path / 'data.mdb'} is empty, but position {rung} was committed before: the log is lost.")

    def _look_for_identity(self) -> tuple[bytes | None, bool]:
        deadline = time.monotonic() + 1.0
        while True:
            with self._environment.read() as txn:
                value, is_empty = txn.get(IDENTITY_KEY), txn.stat()["entries"] == 0
            if value is not None or not (self.readonly and is_empty) or time.monotonic() > deadline:
                return value, is_empty
            time.sleep(0.02)  # another process may be about to write it

    def _create(self, txn: Any) -> bytes:
        value = txn.get(IDENTITY_KEY)
        if value is None:  # else another process was first
            made = Identity(FORMAT, new_uuid7().bytes, self._clock.now(), default_actor())
            identity = self._given_identity or made
            value = Checks(b"").seal_meta(IDENTITY_KEY, _encoder.encode(identity))
            txn.put(IDENTITY_KEY, value)
        return bytes(value)

    def _check_tail(self) -> None:
        """Check that the last block ends where the head says: a lost write shows at its end first. Nor may it be an older end."""
        before = position_on_disk(os.pread(self._environment.head_fd, HEAD_BYTES, 0), self._checks)
        with self._environment.read() as txn:
            view = self._look(txn)
            position = view.head.position
            last = list(blocks_from(txn, self._checks, position)) if position else []
        if position and (not last or last[-1].last != position):
            raise Corrupted(f"{self.path} should end at position {position}, but its blocks do not.", position)
        if position < before:
            raise Corrupted(
                f"{self.path} ends at position {position}, but position {before} was on disk once: an older data.mdb was put in "
                f"its place, or it is damaged. To go on without the lost events, remove {self.path / 'head'}.",
                position + 1,
            )

    def check_usable(self) -> None:
        self._use().check_usable()

    def _use(self) -> Environment:
        if self._closed:
            raise LedgerClosed(f"this handle of the ledger {self.name} is closed; open it again.")
        return self._environment

    # -- writing

    def commit(self, group: Sequence[Submission]) -> list[Appended | Exception]:
        if self.readonly:
            raise ReadOnlyLedger(f"{self.path} was opened with readonly=True; open it without to append.")
        asking = Asking(self._use().mailbox, group)
        done = self._commit_or_ask(asking)
        return self._answers(asking) if done is None else done.answers

    def _commit_or_ask(self, asking: Asking) -> _Committed | None:
        """Commit a group, with what other processes ask for; None when one of those has done it."""
        environment = self._use()
        delegated: list[Delegated] = []

        def work(txn: Any) -> _Committed:
            return self._commit(txn, asking.group, delegated, environment.mailbox)

        def committed(done: _Committed) -> None:
            environment.mailbox.note_company(1 + len(delegated))
            for request in delegated:
                environment.mailbox.give(request.slot, request.answer())

        done = environment.write_or_ask(work, committed, lambda done: self._ring(done.head) if done.is_new else None, asking)
        if done is not None:
            self._clock.reported(done.reading)
            if done.reading.behind:
                self._warning = skew_warning(done.reading.raw, done.reading.behind)
        if done is None or done.is_new:
            self._doorbell.ring()
        return done

    def _answers(self, asking: Asking) -> list[Appended | Exception]:
        """Return the answers to a group that another process has committed; what that one declined is committed here."""
        places = asking.places
        declined = Asking(None, [each for each, place in zip(asking.group, places, strict=True) if place is None])
        own = iter(self._answers_here(declined, is_all=len(declined.group) == len(places)))
        return [
            next(own) if place is None else self._appended(each, place)
            for each, place in zip(asking.group, places, strict=True)
        ]  # fmt: skip

    def _answers_here(self, declined: Asking, *, is_all: bool) -> Sequence[Appended | Exception]:
        """Commit what was declined; when that fails, the rest of the group is on disk all the same, and must not be told so."""
        if not declined.group:
            return ()
        try:
            done = self._commit_or_ask(declined)
        except LedgerError as error:
            if is_all:
                raise
            return [
                type(error)(str(error), UUID(bytes=each.append_id)) if isinstance(error, CommitFailed) else error
                for each in declined.group
            ]
        assert done is not None  # nobody was asked
        return done.answers

    def _appended(self, submission: Submission, place: Place) -> Appended:
        """Return what another process has appended."""
        appended = place.appended(submission.append_id)
        if appended is not None:
            return appended
        records = self.read_positions(range(place.position, place.position + place.length))
        events = tuple((record.stream, record.event) for record in records)
        return Appended(UUID(bytes=submission.append_id), place.position, events, place.recorded_at)

    def _commit(
        self, txn: Any, group: Sequence[Submission], delegated: list[Delegated], mailbox: Mailbox
    ) -> _Committed:  # fmt: skip
        """Write a group, and what other processes have asked for; this may run again, with a larger map."""
        transaction = LmdbTransaction(self._checks, txn, 0, self._folded)
        before = transaction.head.position
        reading = self._clock.read(transaction.head.recorded_at)
        transaction.now = reading.now
        if reading.behind:
            transaction.submit(skew_submission(reading.raw, reading.behind))
        answers = [_submit(transaction, each) for each in group]
        if self._environment.options.durability == "full":  # who asks may have been promised that
            delegated += [Delegated(slot, content) for slot, content in mailbox.take()]
        for request in delegated:
            found = [None if each is None else _submit(transaction, each) for each in request.submissions]
            request.places = [transaction.place_of(each) if isinstance(each, Appended) else None for each in found]
        head = transaction.finish()
        return _Committed(head, answers, reading, head > before)

    def _ring(self, head: int) -> None:
        # After the commit, not before: tailers that wake must find the records (watching data.mdb loses wake-ups,
        # because LMDB writes the file before it publishes the transaction).
        with suppress(OSError):  # a full disk: the records are safe all the same, and readers also look by themselves
            is_on_disk = self._environment.options.durability == "full"
            os.pwrite(self._environment.head_fd, head_bytes(head, self._checks, is_on_disk=is_on_disk), 0)

    def take_warning(self) -> str | None:
        warning, self._warning = self._warning, None
        return warning

    def adopt(self, entries: Iterable[Entry]) -> int:
        """Write records as they are, after the last one, in one transaction; return the new head.

        For copies of a ledger. Raises InvalidValue for a record that is damaged or does not follow, and then writes none.
        """
        content = list(entries)

        def work(txn: Any) -> int:
            transaction = LmdbTransaction(self._checks, txn, 0, self._folded)
            transaction.adopt(content)
            return transaction.finish()

        head = self._use().write(work, self._ring)
        self._doorbell.ring()
        return head

    # -- reading

    def _look(self, txn: Any) -> LmdbView:
        return LmdbView(self._checks, txn, self._clock.now(), self._folded, self._unpacked)

    @contextmanager
    def view(self) -> Iterator[View]:
        with self._use().read() as txn:
            yield self._look(txn)

    def head(self) -> int:
        with self._use().read() as txn:
            return self._look(txn).head.position

    def read_page(self, after: int, types: frozenset[str] | None = None) -> tuple[list[Record], int]:
        if after >= MAX_POSITION:
            return [], after
        blocks, reached, size = [], after, 0
        with self._use().read() as txn:
            for block in blocks_from(txn, self._checks, after + 1):
                reached = block.last
                if types is None or types & type_names(block.header.types):
                    blocks.append(block)
                size += block.header.count if blocks else 1  # blocks that are passed over take time, too
                if size >= _PAGE_RECORDS:
                    break
            if reached == after and (head := self._look(txn).head.position) > after:
                raise Corrupted(f"the record at position {after + 1} is missing (the log ends at {head}).", after + 1)
        records = list(chain.from_iterable(block.records() for block in blocks))
        if blocks and blocks[0].position <= after:
            records = [record for record in records if record.position > after]
        if types is not None and any(not type_names(block.header.types) <= types for block in blocks):
            records = [record for record in records if record.type in types]
        return records, reached

    def read_positions(self, positions: Sequence[int]) -> list[Record]:
        with self._use().read() as txn:
            view = self._look(txn)
            return view.records_at(sorted(p for p in positions if 1 <= p <= view.head.position))

    def stream_positions(self, stream: str) -> Sequence[int]:
        return self._positions(stream_key(stream))

    def experiment_positions(self, experiment_id: UUID) -> Sequence[int]:
        return self._positions(experiment_key(experiment_id))

    def config_positions(self, digest: bytes) -> Sequence[int]:
        return self._positions(config_key(digest))

    def _positions(self, key: bytes) -> list[int]:
        with self._use().read() as txn:
            return self._look(txn).positions(key)

    def tree_head(self) -> tuple[int, bytes]:
        with self._use().read() as txn:
            head: Head = self._look(txn).head
        return head.position, Edge(head.position, head.edge).root()

    def read_entries(self, after: int) -> list[Entry]:
        entries: list[Entry] = []
        with self._use().read() as txn:
            blocks = blocks_from(txn, self._checks, after + 1)
            while len(entries) < _PAGE_RECORDS and (block := next(blocks, None)) is not None:
                for stored in block.stored():
                    (envelope,) = decode_envelopes(b"\x91" + stored.raw)
                    if envelope.position > after:
                        leaf = leaf_of(stored.raw, envelope, own_salt(stored))
                        entries.append(Entry(stored.raw, stored.salt, stored.ordinal == OWN_SALT, leaf))
        return entries

    def redactions(self) -> Redactions:
        with self._use().read() as txn:
            head = self._look(txn).head
        return Redactions(head.redactions, head.redactions - head.erased)

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.check_usable()
        return self._doorbell.listen(callback)

    def check(self) -> None:
        from ledger.backends.check import LogCheck  # a process that only appends does not pay for it

        self.check_usable()
        check = LogCheck(self.path)
        try:
            check.run()
        finally:
            check.close()
        if check.problems:
            raise Corrupted(f"{self.path}: {check.problems[0]}")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._doorbell.close()
            self._environment.release()


def _submit(transaction: LmdbTransaction, submission: Submission) -> Appended | Exception:
    """Return the answer to one submission of several; raises what concerns all of them."""
    try:
        return transaction.submit(submission)
    except (lmdb.Error, Corrupted):
        raise  # the transaction's own trouble: then the whole group must fail
    except Exception as error:  # noqa: BLE001 - a command may raise anything: it goes to its own caller
        return error
