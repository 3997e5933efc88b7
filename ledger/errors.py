"""Every error of the package, in one tree, and the warnings of what is recorded in another.

::

    LedgerError
    ├── OpenError                       the ledger could not be opened
    │   ├── LedgerNotFound              no such path                        (FileNotFoundError)
    │   ├── NotALedger                  the path holds something else       (ValueError)
    │   ├── UnsupportedFormat           of a newer version, or from before format 1
    │   ├── ReadOnlyLedger              no right to write there             (PermissionError)
    │   ├── NetworkFileSystem           LMDB would lose data there          (OSError)
    │   ├── LedgerBusy                  held exclusively by another process (TimeoutError)
    │   └── OptionsConflict             open in this process already, with other options (ValueError)
    ├── HandleError                     the handle cannot be used (any more)
    │   ├── LedgerClosed                close() was called                  (ValueError)
    │   ├── ForkedHandle                inherited by fork                   (RuntimeError)
    │   └── LedgerPoisoned              a commit failed on this handle before
    ├── InvalidValue                    a value cannot be recorded          (ValueError)
    │   └── RecordTooLarge              over the limit of one record
    ├── InvalidQuery                    a query cannot be answered          (ValueError)
    │   ├── QuerySyntaxError            it is not of the dialect's grammar  (SyntaxError)
    │   ├── UnknownKey                  nothing has such a key              (LookupError)
    │   └── NotComparable               values of such types have no order  (TypeError)
    ├── AppendError                     the append did not happen, or may not have
    │   ├── WrongExpectedVersion        another writer was first
    │   ├── AppendIdReused              known id, other content             (ValueError)
    │   ├── LockTimeout                 another process holds the write lock (TimeoutError)
    │   └── CommitFailed                the outcome is unknown; retry with its append_id
    │       └── DiskFull                no space left                       (OSError)
    ├── CommandRefused                  current state forbids the command
    │   ├── UnknownExperiment           no such experiment                  (LookupError)
    │   ├── UnknownTrial                no such trial                       (LookupError)
    │   ├── ExperimentExists            the name is taken
    │   ├── ExperimentReadOnly          sealed until it is unsealed
    │   ├── UnknownArtifact             no artifact of that name            (LookupError)
    │   ├── TrialExists                 the trial number is taken
    │   ├── InvalidTransition           not allowed in the trial's status
    │   └── LeaseLost                   the trial is no longer this worker's
    ├── LoadError                       an artifact cannot be made an object again
    │   └── PickleRefused               it is a pickle, which runs code; ask for it
    └── Corrupted                       stored bytes fail their check

    LedgerWarning                       recorded, and worth a look      (UserWarning)
    ├── ExperimentChanged               resumed with other objectives
    ├── ResultOutOfBounds               the trial is FAILED for it
    ├── ArtifactChanged                 a file was written to while it was saved
    ├── EnvironmentDiffers              a trial runs with something else than the one before it
    ├── CheckpointDiscarded             saved tables cannot be used, or not be saved
    ├── CaptureIncomplete               something a trial runs with could not be found out
    ├── ResultDiffers                   the same inputs and the same code gave another result
    └── ResultNotRecorded               a tracked function returned what no record can hold

Every message names the thing, the value and the cure; the values are attributes too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from ledger.status import ExperimentState, TrialState

__all__ = [
    "AppendError", "AppendIdReused", "ArtifactChanged", "CaptureIncomplete", "CheckpointDiscarded", "CommandRefused",
    "CommitFailed", "Corrupted", "DiskFull", "EnvironmentDiffers", "ExperimentChanged", "ExperimentExists",
    "ExperimentReadOnly", "ForkedHandle", "HandleError", "InvalidQuery", "InvalidTransition", "InvalidValue", "LeaseLost",
    "LedgerBusy", "LedgerClosed", "LedgerError", "LedgerNotFound", "LedgerPoisoned", "LedgerWarning", "LoadError",
    "LockTimeout", "NetworkFileSystem", "NotALedger", "NotComparable", "OpenError", "OptionsConflict", "PickleRefused",
    "QuerySyntaxError", "ReadOnlyLedger", "RecordTooLarge", "ResultDiffers", "ResultNotRecorded", "ResultOutOfBounds",
    "TrialExists", "UnknownArtifact", "UnknownExperiment", "UnknownKey", "UnknownTrial", "UnsupportedFormat",
    "WrongExpectedVersion",
]  # fmt: skip


class LedgerError(Exception):
    """Base of every error raised by this package."""


class OpenError(LedgerError):
    """The ledger could not be opened; nothing was created or changed."""


class LedgerNotFound(OpenError, FileNotFoundError):
    """There is nothing at the path."""


class NotALedger(OpenError, ValueError):
    """The path holds something that is not a ledger."""


class UnsupportedFormat(OpenError):
    """The ledger is of a file format that this version does not read: a newer one, or one from before the first frozen one."""


class ReadOnlyLedger(OpenError, PermissionError):
    """The directory cannot be written to, or the handle was opened read-only."""


class NetworkFileSystem(OpenError, OSError):
    """The path is on a network file system, where LMDB's locks and maps are not safe."""


class LedgerBusy(OpenError, TimeoutError):
    """Another process holds the ledger exclusively (compaction or restore)."""


class OptionsConflict(OpenError, ValueError):
    """The path is open in this process with other options."""


class HandleError(LedgerError):
    """The handle cannot be used (any more); open the ledger again."""


class LedgerClosed(HandleError, ValueError):
    """The ledger was closed."""


class ForkedHandle(HandleError, RuntimeError):
    """The handle was opened in another process and inherited by fork."""


class LedgerPoisoned(HandleError):
    """A commit failed on this handle, so what is on disk is not known to it."""


class InvalidValue(LedgerError, ValueError):
    """A value cannot be recorded exactly; nothing was written."""


class RecordTooLarge(InvalidValue):
    """One record would be larger than every engine can carry.

    Attributes: ``size_bytes``, ``limit_bytes``.
    """

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{what} takes {size_bytes:,} bytes; one record holds at most {limit_bytes:,}. "
            "Keep the large part in a file of its own (log it as an artifact) and record its name."
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class InvalidQuery(LedgerError, ValueError):
    """A query of the Reader cannot be answered."""


class QuerySyntaxError(InvalidQuery, SyntaxError):
    """The text of a query is not of the dialect's grammar.

    Attributes: ``query``, ``index`` (of the first character that does not fit), ``problem`` (the message without the cure).
    """

    def __init__(self, query: str, index: int, problem: str, cure: str) -> None:
        line = query[:index].count("\n")
        column = index - (query.rfind("\n", 0, index) + 1)
        shown = "".join(f"\n  {text}" + (f"\n  {' ' * column}^" if i == line else "") for i, text in enumerate(query.split("\n")))
        super().__init__(f"the query cannot be read: {problem}. {cure}{shown}")
        self.msg = str(self)  # what tracebacks show of a SyntaxError
        self.query, self.index, self.problem = query, index, problem

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownKey(InvalidQuery, LookupError):
    """Nothing has the key; the message names the nearest one that there is.

    Attribute: ``key``.
    """

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class NotComparable(InvalidQuery, TypeError):
    """Values of such types have no order, and the dialect ``mlxp`` says so as MLXP does."""


class AppendError(LedgerError):
    """The append was refused, or its outcome is unknown."""


class WrongExpectedVersion(AppendError):
    """The stream is not at the version the writer believed; nothing was written.

    Attributes: ``stream``, ``expected_version``, ``version`` (the actual one). For the stream of a trial or an experiment
    ``expected_state`` is what the writer believed in (None for no such version), and ``state`` what it is at ``version``: to
    rebase the write, decide again on ``state`` and repeat it with ``expected_version=error.version``. For other streams both
    are None.
    """

    def __init__(self, stream: str, expected_version: int, version: int) -> None:
        super().__init__(
            f"stream {stream!r} is at version {version}, not at the expected {expected_version}: another "
            f"writer was first. Read the stream after version {expected_version}, decide again, and retry."
        )
        self.stream = stream
        self.expected_version = expected_version
        self.version = version
        self.expected_state: TrialState | ExperimentState | None = None
        self.state: TrialState | ExperimentState | None = None


class AppendIdReused(AppendError, ValueError):
    """An append id (or a record's own id) is known already, with other content.

    Attributes: ``append_id`` (the id as a UUID), ``position`` (where it was recorded first).
    """

    def __init__(self, append_id: UUID, position: int, difference: str) -> None:
        super().__init__(
            f"id {append_id} was used at position {position} for other content ({difference}). "
            "Use a new id for a new append; the same id is only for retrying the same one."
        )
        self.append_id = append_id
        self.position = position


class LockTimeout(AppendError, TimeoutError):
    """Another process held the write lock for too long; nothing was written.

    Attributes: ``holders`` (what is known of the processes that hold it), ``waited_seconds``, ``held_seconds`` (for how long
    they have held it; None where that cannot be told).
    """

    def __init__(self, path: str, holders: Iterable[str], waited_seconds: float, held_seconds: float | None = None) -> None:
        self.holders = tuple(holders)
        self.waited_seconds = waited_seconds
        self.held_seconds = held_seconds
        who = ", ".join(self.holders) or "a process that could not be named"
        held = "is held" if held_seconds is None else f"has been held for {held_seconds:.1f} s"
        super().__init__(
            f"could not get the write lock of {path} in {waited_seconds:.1f} s: it {held} by {who}. "
            "Nothing was written. If that process is stopped, continue or end it; else raise lock_timeout."
        )


class CommitFailed(AppendError):
    """The commit raised, or another process did not say what came of it, so the append may or may not be on disk.

    Repeat the append with ``append_id``, after opening the ledger again where a handle refuses (LedgerPoisoned): it is recorded
    once, whatever happened.
    """

    def __init__(self, message: str, append_id: UUID | None) -> None:
        super().__init__(message)
        self.append_id = append_id


class DiskFull(CommitFailed, OSError):
    """The disk (or a quota, or a file size limit) is full; what was acknowledged before is intact."""


class CommandRefused(LedgerError):
    """Current state forbids the command; nothing was written."""


class UnknownExperiment(CommandRefused, LookupError):
    """There is no live experiment of that name or id; the message says when it was deleted."""


class UnknownTrial(CommandRefused, LookupError):
    """There is no such trial in the experiment."""


class UnknownArtifact(CommandRefused, LookupError):
    """There is no artifact of that name."""


class ExperimentExists(CommandRefused):
    """Another live experiment has the name."""


class ExperimentReadOnly(CommandRefused):
    """The experiment is sealed: nothing is recorded of it until it is unsealed, with a reason."""


class TrialExists(CommandRefused):
    """The trial number is taken."""


class InvalidTransition(CommandRefused):
    """The trial's status forbids the event.

    Attributes: ``trial`` (its stream), ``status``, ``event`` (the type refused), ``allowed`` (types that are not).
    """

    def __init__(self, trial: str, status: str, event: str, allowed: Iterable[str], hint: str = "") -> None:
        self.trial, self.status, self.event, self.allowed = trial, status, event, tuple(allowed)
        may = ", ".join(self.allowed) or "nothing"
        super().__init__(f"{trial} is {status}; {event} is not allowed now (allowed: {may}).{hint}")


class LeaseLost(CommandRefused):
    """The trial is no longer this worker's; what it reported is kept as a LateResultReceived event.

    Attributes: ``trial`` (its stream), ``attempt`` (the worker's), ``status`` and ``current_attempt`` (the trial's now).
    """

    def __init__(self, trial: str, attempt: int, status: str, current_attempt: int, worker: str | None) -> None:
        self.trial, self.attempt, self.status, self.current_attempt = trial, attempt, status, current_attempt
        owner = f", last claimed by {worker}" if worker else ""
        super().__init__(
            f"attempt {attempt} of {trial} has lost its lease: the trial is {status} at attempt "
            f"{current_attempt}{owner}. Stop working on it; what was reported is kept as late evidence. "
            "If attempts take longer between two signs of life than the lease, claim with a longer lease_seconds."
        )


class LoadError(LedgerError):
    """An artifact cannot be made an object again; its bytes are there, as they were saved."""


class PickleRefused(LoadError):
    """The artifact is a pickle, and loading one runs code; ``load(allow_pickle=True)`` does it all the same."""


class Corrupted(LedgerError):
    """Stored bytes fail their check; they were not returned.

    Attributes: ``position`` (of the first record concerned, or None), ``problem`` (the message without the cure).
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(f"{message} Run `ledger verify` for the extent; restore a backup to repair it.")
        self.position = position
        self.problem = message


class LedgerWarning(UserWarning):
    """Base of every warning by this package: what was asked was done, and something about it is worth a look."""


class ExperimentChanged(LedgerWarning):
    """An experiment was resumed with other objectives or another description; the change is an event."""


class ArtifactChanged(LedgerWarning):
    """A file was written to while it was saved: the artifact is what was read, which may be neither the old nor the new."""


class ResultOutOfBounds(LedgerWarning):
    """A trial was completed with a result outside of its objective's bounds, and is FAILED for it."""


class EnvironmentDiffers(LedgerWarning):
    """A trial runs with something else than the one captured before it; the change is an EnvironmentChanged event."""


class CaptureIncomplete(LedgerWarning):
    """Something that a trial runs with could not be found out, or not in time; the capture says what."""


class CheckpointDiscarded(LedgerWarning):
    """What was saved of a table cannot be used, or could not be saved; the table is made of the log all the same."""


class ResultDiffers(LedgerWarning):
    """A function said to be deterministic gave another result for the same inputs and the same code."""


class ResultNotRecorded(LedgerWarning):
    """A tracked function returned what a record cannot hold; its trial has ended without that result."""
