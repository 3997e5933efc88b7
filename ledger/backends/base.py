"""The contract between the log and what keeps it.

A backend orders records, keeps them, compares and appends, and tells readers that there is more. It does all of it
for whole *groups* of submissions, so that many threads share one commit.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import UUID

import msgspec

from ledger.records import Context, Record
from ledger.registry import Event
from ledger.state import ExperimentState, TrialState
from ledger.values import encode_value, encode_values

if TYPE_CHECKING:
    from ledger.artifacts.blobs import BlobStore


class View(Protocol):
    """What a command may ask: the state that every command before it left."""

    @property
    def now(self) -> int:
        """The time that the command's records will carry as ``recorded_at`` (ns since 1970 UTC)."""

    def version(self, stream: str) -> int:
        """Return the stream's version; 0 when there is no such stream."""

    def experiment(self, experiment_id: UUID) -> ExperimentState | None:
        """Return the experiment, or None."""

    def experiments(self) -> Iterator[ExperimentState]:
        """Iterate over all experiments, oldest first."""

    def experiment_named(self, name: str) -> UUID | None:
        """Return the id of the live experiment of that name, or None."""

    def trial(self, experiment_id: UUID, trial_id: int) -> TrialState | None:
        """Return the trial, or None."""

    def record(self, stream: str, version: int) -> Record | None:
        """Return the record that is this version of the stream, or None."""

    def ready(
        self, experiment_id: UUID, worker: str = "", *, after: TrialState | None = None, limit: int = 1
    ) -> list[TrialState]:
        """Return the trials to be claimed next, in order: highest priority, then earliest; at most ``limit``.

        None before its time, none before its dependencies have SUCCEEDED, and of those assigned to a worker only the
        ``worker``'s. With ``after``, those whose turn comes after that trial's.
        """

    def next_due(self, experiment_id: UUID) -> int | None:
        """Return the first time from now at which a trial's own time comes or its lease has run out, or None."""

    def expired(self, experiment_id: UUID, limit: int) -> list[TrialState]:
        """Return trials whose lease has run out, the longest ago first."""

    def first_leased(self, experiment_id: UUID) -> TrialState | None:
        """Return the trial whose lease runs out first, run out or not; or None."""


Staged = tuple[str, Event]
#: A pure function from the state to what happens: pairs of stream and event. It raises to refuse.
Command = Callable[[View], Sequence[Staged]]


class Submission(msgspec.Struct, frozen=True):
    """One append call on its way into a group commit."""

    command: Command
    append_id: bytes
    salt: bytes
    actor: str
    context: Context | None = None
    record_ids: tuple[bytes, ...] = ()  # the caller's own ids, one per event
    expect: Mapping[str, int] = {}  # stream -> version it must be at
    content: tuple[Staged, ...] | None = None  # for an append: what a retry of it must be equal to
    is_first_try: bool = False  # its append id was made for this call: there is no earlier answer to look for

    def contexts(self) -> Iterable[Context | None]:
        """Iterate over the contexts of its records; without end when they have no ids of their own."""
        if not self.record_ids:
            return repeat(self.context)
        context = self.context or Context()
        return [msgspec.structs.replace(context, record_id=record_id) for record_id in self.record_ids]


class Appended(msgspec.Struct, frozen=True):
    """What was appended: the answer of the first append with this id, also to a retry of it.

    ``position`` is that of its first record, ``head`` of its last; both are the log's head when nothing was appended.
    """

    append_id: UUID
    position: int
    events: tuple[Staged, ...]
    recorded_at: int

    @property
    def head(self) -> int:
        """The position of the append's last record."""
        return self.position + max(len(self.events) - 1, 0)


class Entry(NamedTuple):
    """A record's bytes, with what proves them: what exports carry and copies are made of.

    ``salt`` is that of its append; or with ``has_own_salt`` the record's own, since a redaction dropped that of its append,
    and empty when the record itself is redacted. ``leaf`` is its hash in the Merkle tree.
    """

    raw: bytes
    salt: bytes
    has_own_salt: bool
    leaf: bytes


class Redactions(NamedTuple):
    """How many payloads were dropped, and of how many the bytes may still be in the file, until it is compacted."""

    total: int
    pending: int


class Backend(ABC):
    """Keep one log.

    **Guarantees.** ``commit`` returns when what it accepted is as safe as the backend promises; a group is written
    whole or not at all; positions are dense from 1 and versions dense within each stream; ``recorded_at`` never falls.
    A command is run against the state left by those before it in the group; one that raises is answered with what it
    raised and leaves no trace.

    **Threads and processes.** All methods may be called from any thread. ``commit`` is called by one thread at a time.

    **Cost.** Reads see a snapshot per call and hold it for the length of the call only.
    """

    ledger_id: UUID
    name: str  # for messages: the path or URL
    blobs: BlobStore  # what artifacts are kept in; closed with the backend

    @abstractmethod
    def check_usable(self) -> None:
        """Raise a HandleError when the handle was closed, poisoned, or inherited by fork; cheap, and takes no lock."""

    @abstractmethod
    def commit(self, group: Sequence[Submission]) -> list[Appended | Exception]:
        """Write the group in one transaction; return for each submission its answer, or what its command raised.

        Raises CommitFailed when the outcome is unknown for all of them; LockTimeout when none was written.
        """

    def take_warning(self) -> str | None:
        """Return, once, what the user should be warned of after a commit; it is given when the answers are safe."""
        return None

    @abstractmethod
    def head(self) -> int:
        """Return the last position; 0 when the log is empty."""

    @abstractmethod
    def read_page(self, after: int, types: frozenset[str] | None = None) -> tuple[list[Record], int]:
        """Return some records after ``after``, in order, and the position up to which nothing was left out.

        With ``types``, records of other types are left out. An empty page that reaches no further than ``after``
        means that there is nothing more now.
        """

    @abstractmethod
    def read_positions(self, positions: Sequence[int]) -> list[Record]:
        """Return the records at the positions, in order; those beyond the head are left out."""

    @abstractmethod
    def stream_positions(self, stream: str) -> Sequence[int]:
        """Return the positions of a stream's records, ascending: item i is that of version i + 1."""

    @abstractmethod
    def experiment_positions(self, experiment_id: UUID) -> Sequence[int]:
        """Return the positions of the records of an experiment and its trials, ascending."""

    @abstractmethod
    def config_positions(self, digest: bytes) -> Sequence[int]:
        """Return the positions of the TrialCreated records with a config of that digest, ascending."""

    @abstractmethod
    def view(self) -> AbstractContextManager[View]:
        """Open a view of the present state, to look but not to write."""

    @abstractmethod
    def tree_head(self) -> tuple[int, bytes]:
        """Return size and root of the Merkle tree."""

    @abstractmethod
    def read_entries(self, after: int) -> list[Entry]:
        """Return some records after ``after`` as bytes, in order; none when there is nothing more now."""

    @abstractmethod
    def redactions(self) -> Redactions:
        """Count the redactions; a reader that keeps what it has read forgets it when their number has changed."""

    @abstractmethod
    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after each commit by any process, from any thread; return a function that ends it.

        Calls may be merged, and may be missed where the platform's file events are: poll as well.
        """

    @abstractmethod
    def check(self) -> None:
        """Check the whole log and everything kept beside it; raise Corrupted naming the first bad position."""

    @abstractmethod
    def close(self) -> None:
        """Give the log back; closing again does nothing."""


def config_digest(config: object) -> bytes:
    """Return the canonical digest of a config: 16 bytes of the SHA-256 of its encoding.

    Equal configs with values of equal types have equal digests; 1 and 1.0 differ.
    """
    return hashlib.sha256(encode_value(config, "config")).digest()[:16]


def config_digests(configs: Sequence[object]) -> list[bytes]:
    """Return the canonical digests of many configs."""
    return [hashlib.sha256(encoded).digest()[:16] for encoded in encode_values(configs, "config")]
