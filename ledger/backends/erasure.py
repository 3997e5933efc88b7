"""Erasure: what a redaction changes in the log, beside the record that it adds.

The payload's bytes leave the block, the salt of the append leaves every block that has it, and what was derived from
the payload (states, a name, the entry by config) is made again from what remains. LMDB keeps the old pages in the file
until it is compacted; till then ``Head.erased`` stays behind ``Head.redactions``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.backends.blocks import Block, Stored, find_block, own_salt, put_block
from ledger.backends.postings import ListEntry
from ledger.backends.staging import config_of
from ledger.backends.view import LmdbView
from ledger.codec import decode_envelopes, redact_record
from ledger.format import OWN_SALT, Checks, append_key, config_key, posting_key, stream_key
from ledger.state import ExperimentState, TrialState, evolve_experiment
from ledger.streams import Subject, experiment_stream

_encoder = msgspec.msgpack.Encoder()


class Erasure:
    """Drop one payload inside a write transaction; what is read here is what was written before."""

    def __init__(self, view: LmdbView, checks: Checks, txn: Any) -> None:
        self._view, self._checks, self._txn = view, checks, txn
        self.unsealed_bytes = 0  # by how much the records that are not sealed have grown

    def drop(self, position: int, remainder: bytes) -> bool:
        """Put the remainder in place of the record's payload; say whether there was one to drop."""
        block = find_block(self._txn, self._checks, position)
        assert block is not None  # staging has read the record
        stored = block.stored()[position - block.position]
        (envelope,) = decode_envelopes(b"\x91" + stored.raw)
        if envelope.payload_digest is not None:
            return False  # a copy of a record that was redacted before
        digest = config_of(block.records_at([position])[0].event)
        for each in self._blocks_of(envelope.append_id):
            self._rewrite(each, envelope.append_id, position, remainder)
        if digest is not None:
            self._unlist(config_key(digest), position)
        return True

    def _blocks_of(self, append_id: bytes) -> list[Block]:
        content = self._checks.open(append_key(append_id), self._txn.get(append_key(append_id)))
        position = int.from_bytes(content[:8], "big")
        last = position + int.from_bytes(content[8:], "big") - 1
        blocks = []
        while position <= last:
            block = find_block(self._txn, self._checks, position)
            assert block is not None
            blocks.append(block)
            position = block.last + 1
        return blocks

    def _rewrite(self, block: Block, append_id: bytes, position: int, remainder: bytes) -> None:
        """Give each record of the append a salt of its own, and drop the payload of the one at the position."""
        records: list[Stored] = []
        for place, stored in enumerate(block.stored(), start=block.position):
            (envelope,) = decode_envelopes(b"\x91" + stored.raw)
            if envelope.append_id == append_id:
                salt = own_salt(stored)
                raw = stored.raw
                if place == position:
                    raw, salt = redact_record(raw, envelope, salt, remainder), b""
                    self.unsealed_bytes += 0 if block.is_sealed else len(raw) - len(stored.raw)
                stored = stored._replace(raw=raw, salt=salt, ordinal=OWN_SALT)
            records.append(stored)
        put_block(self._txn, self._checks, block.position, records, sealed=block.is_sealed)

    def _unlist(self, key: bytes, position: int) -> None:
        """Take a position out of a list; the list goes with its last one, since its key may tell what it was."""
        entry = self._view.entry(key)
        assert entry is not None
        positions = [each for each in self._view.positions(key) if each != position]
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
