"""Erasure: what a redaction changes in the log, beside the record that it adds.

The payload's bytes leave the block, the salt of the append leaves every block that has it, and what was derived from
the payload (states, a name, the entry by config) is made again from what remains. LMDB keeps the old pages in the file
until it is compacted; till then ``Head.erased`` stays behind ``Head.redactions``.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

import msgspec

from ledger.backends.blocks import Block, Stored, find_block, own_salt, put_block
from ledger.backends.postings import ListEntry
from ledger.backends.staging import config_of
from ledger.backends.view import LmdbView
from ledger.codec import decode_envelopes, decode_event, redact_record
from ledger.format import OWN_SALT, Checks, config_key, posting_key, stream_key
from ledger.records import Envelope
from ledger.state import ExperimentState, TrialState, evolve_experiment
from ledger.streams import Subject, experiment_stream

_encoder = msgspec.msgpack.Encoder()


class Erasure:
    """Drop payloads inside a write transaction; what is read here is what was written before."""

    def __init__(self, view: LmdbView, checks: Checks, txn: Any) -> None:
        self._view, self._checks, self._txn = view, checks, txn
        self.unsealed_bytes = 0  # by how much the records that are not sealed have grown

    def drop(self, remainders: Mapping[int, bytes]) -> bool:
        """Put remainders in place of the payloads at the positions, and drop their appends' salts; say if anything was there.

        Each block is written once, however many of its records are redacted.
        """
        fresh: dict[int, bytes] = {}  # position -> remainder, of those that were not redacted before (in what was copied)
        appends: dict[bytes, int] = {}  # append id -> position of its first record
        lists: dict[bytes, set[int]] = {}
        for position, envelope in self._envelopes(sorted(remainders)):
            appends[envelope.append_id] = position - envelope.ordinal
            if envelope.payload_digest is not None:
                continue  # others of its append may have been read before it was redacted
            fresh[position] = remainders[position]
            digest = config_of(decode_event(envelope.type, envelope.schema, bytes(envelope.payload)))
            if digest is not None:
                lists.setdefault(config_key(digest), set()).add(position)
        blocks = {block.position: block for each in appends.items() for block in self._blocks_of(*each)}
        changed = [self._rewrite(block, appends, fresh) for block in blocks.values()]
        for key, gone in lists.items():
            self._unlist(key, gone)
        return any(changed)

    def _envelopes(self, positions: list[int]) -> Iterator[tuple[int, Envelope]]:
        block: Block | None = None
        records: list[Stored] = []
        for position in positions:
            if block is None or position > block.last:
                block = self._block(position)
                records = block.stored()
            yield position, _envelope(records[position - block.position].raw)

    def _block(self, position: int) -> Block:
        block = find_block(self._txn, self._checks, position)
        assert block is not None  # staging has read the record
        return block

    def _blocks_of(self, append_id: bytes, first: int) -> Iterator[Block]:
        block: Block | None = self._block(first)
        while block is not None:
            yield block
            is_at_its_end = block.stored()[-1].append_id != append_id
            block = None if is_at_its_end else find_block(self._txn, self._checks, block.last + 1)

    def _rewrite(self, block: Block, appends: Container[bytes], remainders: Mapping[int, bytes]) -> bool:
        """Give each record of the appends a salt of its own, drop the payloads at the positions; say if that changed it."""
        records: list[Stored] = []
        for place, stored in enumerate(block.stored(), start=block.position):
            if place in remainders or stored.ordinal != OWN_SALT:
                envelope = _envelope(stored.raw)
                if envelope.append_id in appends:
                    salt, raw = own_salt(stored), stored.raw
                    if place in remainders:
                        raw, salt = redact_record(raw, envelope, salt, remainders[place]), b""
                        self.unsealed_bytes += 0 if block.is_sealed else len(raw) - len(stored.raw)
                    records.append(msgspec.structs.replace(stored, raw=raw, salt=salt, ordinal=OWN_SALT))
                    continue
            records.append(stored)
        is_changed = records != block.stored()
        if is_changed:
            put_block(self._txn, self._checks, block.position, records, sealed=block.is_sealed)
        return is_changed

    def _unlist(self, key: bytes, gone: set[int]) -> None:
        """Take positions out of a list; the list goes with its last one, since its key may tell what it was."""
        entry = self._view.entry(key)
        assert entry is not None
        positions = [each for each in self._view.positions(key) if each not in gone]
        for chunk, _ in list(self._view.scan(posting_key(entry.id))):
            self._txn.delete(chunk)
        if not positions:
            self._txn.delete(key)
            return
        made = ListEntry(entry.id, last=positions[0] - 1, base=positions[0] - 1, state=entry.state)
        for each in positions:
            made.add([each])
            spilled = made.spill()
            if spilled is not None:
                self._put(posting_key(made.id, spilled[0]), spilled[1])
        self._put(key, _encoder.encode(made))

    def _put(self, key: bytes, content: bytes) -> None:
        self._txn.put(key, self._checks.seal(key, content))

    # -- what was derived from the payload

    def trial(self, subject: Subject) -> TrialState:
        """Fold the trial again."""
        state = self._view.fold_trial(subject, self._view.head.position)
        assert state is not None
        return state

    def experiment(self, before: ExperimentState) -> ExperimentState:
        """Fold the experiment again from its own stream."""
        subject = Subject(before.id, None)
        state: ExperimentState | None = None
        for record in self._view.records_at(self._view.positions(stream_key(experiment_stream(before.id)))):
            state = evolve_experiment(state, subject, record.event, record.happened_at)
        assert state is not None
        return msgspec.structs.replace(state, next_trial_id=before.next_trial_id)

    def keep_state(self, key: bytes, state: bytes | None) -> None:
        """Put a state into its list's entry."""
        entry = self._view.entry(key)
        assert entry is not None
        entry.state = state
        self._put(key, _encoder.encode(entry))


def _envelope(raw: bytes) -> Envelope:
    (envelope,) = decode_envelopes(b"\x91" + raw)
    return envelope
