"""Delegation: a process that waits for the write gate lets the one that holds it commit for it.

What threads of one process have (whoever commits does it for all who wait) processes get by the mailbox. A request holds
submissions as another process can run them: with their own append ids, salts, actors and contexts, so that the records are
the same whoever writes them. An answer says where the records are. What the other one cannot do, or refuses, is declined:
then the owner does it itself, and gets its own error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from ledger.backends.base import Appended, Submission
from ledger.backends.mailbox import LOOK_SECONDS, MOST_BYTES, Mailbox
from ledger.backends.portable import decode_command, decode_same, encode_command
from ledger.codec import decode_records, encode_event
from ledger.errors import LedgerError
from ledger.records import Context
from ledger.version import __version__

_MOST_EVENTS = 64  # of an append that is handed over: a larger one would hold up the one who has the gate


class _Carried(msgspec.Struct, array_like=True):
    append_id: bytes
    salt: bytes
    actor: str
    context: Context | None
    record_ids: tuple[bytes, ...]
    expect: dict[str, int]
    is_first_try: bool
    command: bytes | None
    content: list[tuple[str, str, int, bytes]] | None  # stream, type, schema and payload of each event


class _Request(msgspec.Struct, array_like=True):
    version: str  # of the package: another one may decide otherwise
    submissions: list[_Carried]


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where the records of a submission are, none when nothing had to be appended; and the records, when there is room."""

    position: int
    length: int
    recorded_at: int
    records: bytes = b""
    types: bytes = b""

    def appended(self, append_id: bytes) -> Appended | None:
        """Return what was appended; None when the records are not there, and must be read."""
        if self.length and not self.records:
            return None
        records = decode_records(self.records, self.types) if self.length else []
        events = tuple([(record.stream, record.event) for record in records])
        return Appended(UUID(bytes=append_id), self.position, events, self.recorded_at)


class _Answer(msgspec.Struct, array_like=True):
    append_id: bytes  # of the first submission
    places: list[Place | None]  # None: declined


_encoder = msgspec.msgpack.Encoder()
_requests, _answers = msgspec.msgpack.Decoder(_Request), msgspec.msgpack.Decoder(_Answer)


def encode_request(group: Sequence[Submission]) -> bytes | None:
    """Return submissions as a request; None when one of them can only be run here, or all are too much for the mailbox."""
    carried = []
    for submission in group:
        each = _carry(submission)
        if each is None:
            return None
        carried.append(each)
    data = _encoder.encode(_Request(__version__, carried))
    return data if len(data) <= MOST_BYTES else None


def _carry(submission: Submission) -> _Carried | None:
    command, content = None, None
    if submission.content is None:
        command = encode_command(submission.command)
        if command is None:
            return None
    else:
        if len(submission.content) > _MOST_EVENTS:
            return None
        try:
            payloads = [(stream, encode_event(event)) for stream, event in submission.content]
        except LedgerError:  # it is refused where it is run
            return None
        content = [(stream, each.type.name, each.type.schema, each.data) for stream, each in payloads]
    return _Carried(
        submission.append_id, submission.salt, submission.actor, submission.context, submission.record_ids,
        dict(submission.expect), submission.is_first_try, command, content,
    )  # fmt: skip


def decode_request(data: bytes) -> tuple[bytes, list[Submission | None]]:
    """Return the first append id of a request, and its submissions, None in place of one that cannot be run here."""
    try:
        request = _requests.decode(data)
    except msgspec.MsgspecError:  # of another version
        return b"", []
    if request.version != __version__ or not request.submissions:
        return b"", []
    return request.submissions[0].append_id, [_submission(each) for each in request.submissions]


def _submission(carried: _Carried) -> Submission | None:
    command: Any = None
    content: tuple[Any, ...] | None = None
    if carried.content is not None:
        try:
            content = tuple((stream, decode_same(kind, schema, data)) for stream, kind, schema, data in carried.content)
        except LedgerError:
            return None
        command = lambda view: content  # noqa: E731
    elif carried.command is not None:
        command = decode_command(carried.command)
    return None if command is None else Submission(
        command, carried.append_id, carried.salt, carried.actor, carried.context, carried.record_ids, carried.expect, content,
        carried.is_first_try,
    )  # fmt: skip


def encode_answer(append_id: bytes, places: list[Place | None]) -> bytes:
    """Return the answer to a request whose first submission has the append id."""
    data = _encoder.encode(_Answer(append_id, places))
    if len(data) > MOST_BYTES:
        bare = [None if each is None else Place(each.position, each.length, each.recorded_at) for each in places]
        data = _encoder.encode(_Answer(append_id, bare))
    return data


def decode_answer(data: bytes | None, group: Sequence[Submission]) -> list[Place | None] | None:
    """Return where the records of each submission are, None where it was declined; None for what is no answer to the group."""
    try:
        answer = _answers.decode(data or b"")
    except msgspec.MsgspecError:
        return None
    is_mine = answer.append_id == group[0].append_id and len(answer.places) == len(group)
    return answer.places if is_mine else None


class Asking:
    """A group of this process that waits for the gate, and may be committed by the one that has it.

    ``places`` is the answer, when there was one. Without a mailbox, or for what cannot be carried, nobody is asked.
    """

    def __init__(self, mailbox: Mailbox | None, group: Sequence[Submission]) -> None:
        self._mailbox = mailbox
        self._is_posted = False
        self.group = group
        self.places: list[Place | None] = []

    def post(self) -> None:
        """Leave the request in the mailbox, if it can be carried."""
        request = None if self._mailbox is None else encode_request(self.group)
        self._is_posted = self._mailbox is not None and request is not None and self._mailbox.post(request)

    def wait(self, seconds: float) -> None:
        """Sleep until somebody may have answered, or let go of the gate, or the time is over."""
        if self._mailbox is not None and self._is_posted:
            self._mailbox.wait(seconds)
        else:
            time.sleep(LOOK_SECONDS)  # nobody wakes one who has asked for nothing

    def is_answered(self) -> bool:
        """Say whether the group was answered; an answer that cannot be read is none."""
        content = self._mailbox.answer() if self._mailbox is not None and self._is_posted else None
        if content is None:
            return False
        self._is_posted = False
        places = decode_answer(content, self.group)
        if places is None:
            self._look_for_records()
            return False
        self.places = places
        return True

    def take_over(self) -> None:
        """Take the request back, as the holder of the gate."""
        if self._mailbox is not None and self._is_posted:
            self._is_posted = False
            if self._mailbox.take_over():
                self._look_for_records()

    def withdraw(self) -> bool:
        """Take the request back without holding the gate; say no when somebody has taken it."""
        if self._mailbox is not None and self._is_posted and self._mailbox.withdraw():
            self._is_posted = False
        return not self._is_posted

    def _look_for_records(self) -> None:
        """Take the submissions for repeated ones: somebody may have committed them."""
        self.group = [msgspec.structs.replace(each, is_first_try=False) for each in self.group]


class Delegated:
    """A request of another process that this one commits with its own."""

    def __init__(self, slot: int, content: bytes) -> None:
        self.slot = slot
        self._append_id, self.submissions = decode_request(content)
        self.places: list[Place | None] = []

    def answer(self) -> bytes:
        """Return the answer to be given when what was accepted is on disk."""
        return encode_answer(self._append_id, self.places)
