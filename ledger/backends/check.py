"""The full check of a ledger in LMDB: everything kept is recomputed from the records, and compared.

The records are walked in short transactions, in order: checksums, positions, versions, times, hashes, and the fold of
every experiment and trial. Then, in one transaction, what came meanwhile is added and every index is compared.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from ledger.artifacts.references import ReferenceCheck
from ledger.backends.appendcheck import AppendCheck
from ledger.backends.blocks import Block, blocks_from, run_salts
from ledger.backends.doorbell import HEAD_BYTES, position_on_disk
from ledger.backends.environment import Environment, Options
from ledger.backends.jobcheck import compare_jobs
from ledger.backends.postings import entry_decoder
from ledger.backends.staging import config_of
from ledger.backends.view import FoldedStates, LmdbView
from ledger.checkpoint import Checkpoint
from ledger.codec import decode_envelopes, encode_state, encode_types, leaf_hashes, split_records
from ledger.errors import Corrupted, InvalidValue, LedgerError, NotALedger
from ledger.events import PayloadRedacted
from ledger.format import (
    BLOCKS,
    HEAD_KEY,
    IDENTITY_KEY,
    LISTS,
    NAMES,
    TILES,
    Checks,
    Head,
    block_key,
    block_position,
    config_key,
    experiment_key,
    group_sizes,
    name_key,
    read_identity,
    stream_key,
    tile_key,
)
from ledger.records import Envelope, Record
from ledger.state import ExperimentState, TrialState, evolve_experiment, evolve_trial
from ledger.streams import Subject, subject_of
from ledger.tree import Edge

MAX_PROBLEMS = 20
_BLOCKS_PER_READ = 64
_ENDED_STATES = 10_000  # of trials that have ended, held in memory for events that come later


class LogCheck:
    """Check one ledger; ``problems`` says what is wrong, the first bad position first.

    ``progress`` is called with the positions done and the number of positions; ``artifacts`` checks what records refer to.
    """

    def __init__(
        self, path: Path, progress: Callable[[int, int], None] = lambda done, total: None, against: Sequence[Checkpoint] = (),
        artifacts: ReferenceCheck | None = None,
    ) -> None:  # fmt: skip
        self._artifacts = artifacts
        self._progress = progress
        self._against = sorted(against, key=lambda checkpoint: checkpoint.size)
        self._reset()
        self._environment = Environment.acquire(path, Options(), create=False, readonly=True)
        try:
            self._checks = self._identify()
        except BaseException:
            self.close()
            raise

    def _reset(self) -> None:
        self.problems: list[str] = []
        self.edge = Edge()
        self.position = 0
        self._recorded_at = 0
        self._lists: dict[bytes, tuple[int, int]] = {}  # key -> number of positions, their CRC
        self._appends = AppendCheck(0)
        self._tiles: dict[bytes, bytes] = {}
        self._experiments: dict[UUID, ExperimentState] = {}
        self._trials: dict[str, TrialState] = {}  # the unfinished, by stream
        self._redacted: dict[tuple[str, int], tuple[int, str, bytes]] = {}  # no record has said why yet
        self._redactions = 0  # records that say so
        self._folded = FoldedStates(_ENDED_STATES)
        self._disagreements: list[str] = []  # with checkpoints
        self._lacking: list[str] = []  # of artifacts
        self._due = list(self._against)  # checkpoints not reached yet

    def _identify(self) -> Checks:
        with self._environment.read() as txn:
            value = txn.get(IDENTITY_KEY)
            is_ledger = txn.get(HEAD_KEY) is not None
        if value is None:
            if not is_ledger:
                raise NotALedger(f"{self._environment.path} holds an LMDB database that is not a ledger. Give another path.")
            raise Corrupted("the ledger's identity is missing.")
        identity = read_identity(value, str(self._environment.path))
        for checkpoint in self._against:
            if checkpoint.ledger_id.bytes != identity.ledger_id:
                raise InvalidValue(
                    f"the checkpoint is of ledger {checkpoint.ledger_id}; {self._environment.path} is "
                    f"{UUID(bytes=identity.ledger_id)}. Give a checkpoint that was made of this ledger."
                )
        return Checks(identity.ledger_id)

    def run(self) -> None:
        """Check everything; ``problems`` is empty afterwards when all is well."""
        while not self._run():
            self._reset()  # a payload was redacted meanwhile: what was folded before may have had it

    def _run(self) -> bool:
        before = position_on_disk(os.pread(self._environment.head_fd, HEAD_BYTES, 0), self._checks)
        head = self._head()
        while self._walk(head.position):
            self._progress(self.position, max(head.position, self.position))
        with self._environment.read() as txn:
            view = LmdbView(self._checks, txn, 0)
            if view.head.redactions != head.redactions:
                return False  # with problems, too: a record read before its redaction looks as if it had been kept
            self._take(blocks_from(txn, self._checks, self.position + 1))
            self._appends.end()
            if view.head.position < before:
                self._report(f"position {before} was on disk once, but the log ends at {view.head.position}: events are lost.")
            self._compare(view)
        for problem in self._lacking:  # last: the log itself may be in order
            self._report(problem)
        return True

    def _head(self) -> Head:
        try:
            with self._environment.read() as txn:
                head = LmdbView(self._checks, txn, 0).head
        except LedgerError as error:
            self._report(_problem(error))
            head = Head()
        self._start = head
        self._appends = AppendCheck(head.unsealed_from)
        return head

    def _report(self, problem: str) -> None:
        if len(self.problems) < MAX_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)

    # -------------------------------------------------------------------------------------------- the records

    def _walk(self, total: int) -> bool:
        """Check some blocks; say whether there may be more."""
        before = self.position
        blocks: list[Block] = []
        try:
            with self._environment.read() as txn:
                for block in blocks_from(txn, self._checks, self.position + 1):
                    blocks.append(block)
                    if len(blocks) == _BLOCKS_PER_READ:
                        break
        except Corrupted as error:
            self._take(iter(blocks))
            self._report(_problem(error))
            return self._skip()
        self._take(iter(blocks))
        if not blocks and self.position < total:
            self._report(f"the records from position {self.position + 1} on are missing (the log ends at {total}).")
        return self.position > before

    def _skip(self) -> bool:
        """Go on after a bad block, at the next key; what follows can be read, but no longer be proved."""
        with self._environment.read() as txn:
            cursor = txn.cursor()
            if not cursor.set_range(block_key(self.position + 2)) or cursor.key()[:1] != BLOCKS:
                return False
            try:
                self.position = block_position(cursor.key()) - 1
            except Corrupted as error:
                self._report(_problem(error))
                return False
        self._appends.forget()
        return True

    def _take(self, blocks: Iterator[Block]) -> None:
        for block in blocks:
            try:
                self._check_block(block)
            except LedgerError as error:
                self._report(_problem(error))
            self.position = block.last

    def _check_block(self, block: Block) -> None:
        body = block.unpack()
        raws, envelopes = split_records(body.records), decode_envelopes(body.records)
        salts = [salt for run in body.runs for salt in run_salts(run)]
        if group_sizes(raws) != body.group_sizes:
            self._report(f"the block at position {block.position} does not say how long its groups of records are.")
        if not len(envelopes) == len(salts) == block.header.count:
            raise Corrupted(f"the block at position {block.position} holds {len(envelopes)} records.", block.position)
        times = envelopes[0].recorded_at, envelopes[-1].recorded_at
        types = encode_types({(envelope.type, envelope.schema) for envelope in envelopes})
        if (times, types) != ((block.header.first_recorded_at, block.header.last_recorded_at), block.header.types):
            self._report(f"the header of the block at position {block.position} does not describe its records.")
        known = self.position + 1 - block.position  # records checked in blocks that have been sealed into this one since
        self._extend(leaf_hashes(raws, envelopes, salts)[known:])
        new = list(zip(envelopes, block.decode(body), strict=True))[known:]
        for position, (envelope, record) in enumerate(new, start=self.position + 1):
            self._check_record(position, envelope, record)

    def _extend(self, leaves: list[bytes]) -> None:
        """Let the tree grow, and compare it with each checkpoint on the way."""
        while self._due and self._due[0].size <= self.edge.size + len(leaves):
            checkpoint = self._due.pop(0)
            count = checkpoint.size - self.edge.size
            self._grow(leaves[:count])
            leaves = leaves[count:]
            if self.edge.root() != checkpoint.root:
                self._disagreements.append(
                    f"the checkpoint at size {checkpoint.size} has another root than the records up to position "
                    f"{checkpoint.size}: they were altered after it was made, or it was."
                )
        self._grow(leaves)

    def _grow(self, leaves: list[bytes]) -> None:
        for level, index, node in self.edge.extend(leaves):
            self._tiles[tile_key(level, index)] = node

    def _check_record(self, position: int, envelope: Envelope, record: Record) -> None:
        subject = subject_of(envelope.stream)
        key = stream_key(envelope.stream)
        version = self._lists.get(key, (0, 0))[0] + 1
        if envelope.position != position:
            self._report(f"the record at position {position} says that it is at {envelope.position}.")
        if envelope.version != version:
            self._report(f"the record at position {position} is version {envelope.version} of its stream, not {version}.")
        if envelope.recorded_at < self._recorded_at:
            self._report(f"the record at position {position} is older than the one before it.")
        self._check_redaction(envelope, record)
        self._recorded_at = envelope.recorded_at
        if (problem := self._appends.take(envelope)) is not None:
            self._report(problem)
        digest = config_of(record.event, is_redacted=record.is_redacted)
        place = position.to_bytes(8, "big")
        for each in (
            key,
            *((experiment_key(subject.experiment_id),) if subject else ()),
            *((config_key(digest),) if digest else ()),
        ):
            count, crc = self._lists.get(each, (0, 0))
            self._lists[each] = count + 1, zlib.crc32(place, crc)
        if subject is not None:
            self._fold(subject, record)
        if self._artifacts is not None and len(self._lacking) < MAX_PROBLEMS:
            self._lacking += self._artifacts.problems(record)

    def _check_redaction(self, envelope: Envelope, record: Record) -> None:
        """Remember a redacted record until the record comes that says why."""
        if record.is_redacted:
            self._redacted[record.stream, record.version] = record.position, record.type, bytes(envelope.payload)
        if isinstance(record.event, PayloadRedacted):
            self._redactions += 1
            found = self._redacted.pop((record.stream, record.event.version), None)
            if found is None:
                self._report(f"the payload of {record.stream!r} version {record.event.version} is redacted, and still there.")
            elif found[1:] != (record.event.type, record.event.remainder):
                self._report(f"what remains of the record at position {found[0]} is not what its redaction left.")

    def _fold(self, subject: Subject, record: Record) -> None:
        at = record.happened_at
        try:
            experiment = evolve_experiment(self._experiments.get(subject.experiment_id), subject, record.event, at)
            self._experiments[subject.experiment_id] = experiment
            if subject.trial_id is None:
                return
            state = self._trials.get(record.stream) or self._finished(subject, record)
            state = evolve_trial(state, subject, record.event, at)
            if state.status.is_finished:
                self._trials.pop(record.stream, None)
                self._folded.put(stream_key(record.stream), record.position, self._start.redactions, state)
            else:
                self._trials[record.stream] = state
        except LedgerError as error:
            self._report(f"the record at position {record.position} could not have happened: {_problem(error)}")

    def _finished(self, subject: Subject, record: Record) -> TrialState | None:
        """Return the state of a trial that had ended, folded from its records again: they are not all held in memory."""
        if record.version == 1:
            return None
        with self._environment.read() as txn:
            return LmdbView(self._checks, txn, 0, self._folded).fold_trial(subject, record.position - 1)

    # -------------------------------------------------------------------------------------------- the indexes

    def _compare(self, view: LmdbView) -> None:
        self._extend([])  # checkpoints of a log without records
        for checkpoint in self._due:
            self._disagreements.append(
                f"the checkpoint names {checkpoint.size} records, the log has {self.position}: it was put back to an older state."
            )
        if self.position != view.head.position:
            self._report(f"the log should end at position {view.head.position}, but its records end at {self.position}.")
        is_damaged = bool(self.problems)
        for disagreement in self._disagreements:  # the records may be in order among themselves
            self._report(disagreement)
        if is_damaged:
            self._report("the indexes were not compared, because the records are damaged.")
            return
        for position, _, _ in self._redacted.values():
            self._report(f"the record at position {position} has lost its payload, and no record says why.")
        if self._redactions != view.head.redactions or not 0 <= view.head.erased <= self._redactions:
            self._report(f"the log counts {view.head.redactions} redactions; its records tell of {self._redactions}.")
        if self.edge.hashes != list(view.head.edge):
            self._report("the Merkle tree's root is not that of the records: bytes were altered with their checksums.")
        for compare in (self._compare_lists, self._compare_jobs, self._compare_names, self._compare_appends, self._compare_tiles):
            try:
                compare(view)
            except LedgerError as error:
                self._report(_problem(error))

    def _compare_lists(self, view: LmdbView) -> None:
        states = {experiment_key(identity): state for identity, state in self._experiments.items()}
        live: dict[bytes, TrialState] = {stream_key(state.stream): state for state in self._trials.values()}
        seen = 0
        for key, content in view.scan(LISTS):
            seen += 1
            crc = 0
            positions = view.positions(key)
            for position in positions:
                crc = zlib.crc32(position.to_bytes(8, "big"), crc)
            if self._lists.get(key) != (len(positions), crc):
                self._report(f"the index of {key!r} does not name the right positions.")
            state = entry_decoder.decode(content).state
            if key in states:
                if state != encode_state(states[key]):
                    self._report(f"the kept state of experiment {states[key].id} is not that of its records.")
            elif state != (encode_state(live[key]) if key in live else None):
                self._report(f"the kept state of {key!r} is not that of its records.")
        if seen != len(self._lists):
            self._report(f"the index 'lists' has {seen} entries, not {len(self._lists)}.")

    def _compare_jobs(self, view: LmdbView) -> None:
        trials = {(state.experiment_id, state.id): state for state in self._trials.values()}
        for problem in compare_jobs(view, trials):
            self._report(problem)

    def _compare_names(self, view: LmdbView) -> None:
        live = [state for state in self._experiments.values() if state.deleted_at is None]
        wanted = {name_key(state.name): (state.name, state.id.bytes) for state in live}
        found = {key: msgspec.msgpack.decode(content, type=tuple[str, bytes]) for key, content in view.scan(NAMES)}
        if found != wanted:
            self._report("the index 'names' does not name the live experiments.")

    def _compare_appends(self, view: LmdbView) -> None:
        if (problem := self._appends.compare(view)) is not None:
            self._report(problem)

    def _compare_tiles(self, view: LmdbView) -> None:
        if dict(view.scan(TILES)) != self._tiles:
            self._report("the index 'tiles' does not hold the subtrees of the Merkle tree.")

    def close(self) -> None:
        """Give the ledger back."""
        self._environment.release()


def _problem(error: LedgerError) -> str:
    return error.problem if isinstance(error, Corrupted) else str(error)
