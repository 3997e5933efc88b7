"""Audit: prove that a ledger is what it was.

The check runs in a child process: some damage to an LMDB file makes LMDB abort the process that reads it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ledger import errors
from ledger.checkpoint import Checkpoint, read_checkpoints
from ledger.errors import Corrupted, InvalidValue, LedgerError, OpenError

_CHILD = "import sys; from ledger.audit import check_here; check_here(*sys.argv[1:], sys.stdin.read())"
#: What is checked of artifacts: nothing, that they are there, or every byte.
ARTIFACTS = ("skip", "present", "content")


class Report(NamedTuple):
    """What a check found.

    ``head`` is the last position checked and ``root`` the root of the Merkle tree over the records up to it; write
    both down, and a later change to any of those records shows as another root at the same head.
    """

    path: str
    head: int
    root: bytes
    problems: list[str]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems

    def raise_for_problem(self) -> None:
        """Raise Corrupted with the first problem, if there is one."""
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise Corrupted(f"{self.path}: {self.problems[0]}{more}")


def verify(
    path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None, *, against: Iterable[Checkpoint] = (),
    artifacts: str = "present",
) -> Report:  # fmt: skip
    """Check a whole ledger: every byte of its records, every index, every hash.

    Recomputes the checksums, the order of positions, versions and times, the Merkle tree, and the state that each
    experiment and trial is said to be in. Others may go on writing; what they add meanwhile is checked too.
    ``progress`` is called with the records done and their number. Costs some microseconds a record.

    ``against`` are checkpoints that were kept elsewhere (``Ledger.checkpoint``): that the log has fewer records than one
    says, or other ones, is a problem in the report. A ledger that was put back to an older state, or rewritten with all
    of its checks, shows in no other way.

    ``artifacts``: with ``"present"`` each one that a record refers to must be there, with its size as far as that can be
    told without reading it; with ``"content"`` every byte of it must be right, which takes a read of all; ``"skip"`` leaves
    them out. Those of deleted trials count, those of redacted records do not.

    Raises an OpenError when there is no ledger at the path, InvalidValue for a checkpoint of another ledger; damage is told
    in the report, and kills nobody.

    >>> import ledger, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = pathlib.Path(directory, "runs.ledger")
    ...     with ledger.open(path) as book:
    ...         _ = book.experiment("demo")
    ...     report = verify(path)
    >>> report.ok, report.head
    (True, 1)
    """
    begun = time.monotonic()
    if artifacts not in ARTIFACTS:
        raise InvalidValue(f"artifacts is {artifacts!r}; give one of {', '.join(map(repr, ARTIFACTS))}.")
    place = Path(path)
    if not place.is_dir():
        # Raises the error that says what is there; a ledger that exists is opened in the child only.
        from ledger.backends.directory import describe_directory

        describe_directory(place, create=False)
    last, answer, died = _check_in_child(place, artifacts, against, progress)
    if answer is None:
        problem = f"the check died after position {last} ({died}): the file's structure is damaged."
        return Report(str(path), last, b"", [problem], time.monotonic() - begun)
    if "open_error" in answer:
        raise getattr(errors, answer["open_error"], OpenError)(answer["message"])  # of the child, as it was there
    return Report(str(path), answer["head"], bytes.fromhex(answer["root"]), answer["problems"], time.monotonic() - begun)


def _check_in_child(
    place: Path, artifacts: str, against: Iterable[Checkpoint], progress: Callable[[int, int], None] | None
) -> tuple[int, dict | None, str]:  # type: ignore[type-arg]
    """Return the last position that was told of, the child's answer, and when there is none how it died."""
    with tempfile.TemporaryFile() as said_file, tempfile.TemporaryFile("w+") as notes:
        notes.write("\n".join(map(str, against)))  # not as an argument: those end at 128 KiB
        notes.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(place.absolute()), artifacts],
            stdout=subprocess.PIPE, stderr=said_file, stdin=notes, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        )  # fmt: skip
        try:
            last, answer = _listen(child, progress)
        finally:
            child.kill()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
        if answer is not None:
            return last, answer, ""
        said_file.seek(0)
        said = said_file.read().decode(errors="replace").strip().splitlines()[-1:]
        how = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
        return last, None, how + (f": {said[0]}" if said else "")


def _listen(child: subprocess.Popen[str], progress: Callable[[int, int], None] | None) -> tuple[int, dict | None]:  # type: ignore[type-arg]
    last, answer = 0, None
    assert child.stdout is not None
    for line in child.stdout:
        message = json.loads(line)
        if "done" in message:
            last = message["done"]
            if progress is not None:
                progress(last, message["total"])
        else:
            answer = message
    child.wait()
    return last, answer


def check_here(path: str, artifacts: str = "skip", checkpoints: str = "") -> None:
    """Check the ledger in this process, and write JSON lines on standard output (the child's half of ``verify``)."""
    from ledger.artifacts.blobs import BlobStore
    from ledger.artifacts.references import ReferenceCheck
    from ledger.backends.check import LogCheck

    def tell(**message: object) -> None:
        print(json.dumps(message), flush=True)

    try:
        against = read_checkpoints(checkpoints) if checkpoints else []
        store = BlobStore(Path(path) / "blobs", readonly=True)
        needed = None if artifacts == "skip" else ReferenceCheck(store, content=artifacts == "content")
        check = LogCheck(Path(path), lambda done, total: tell(done=done, total=total), against, needed)
    except (OpenError, InvalidValue) as error:
        tell(open_error=type(error).__name__, message=str(error))
        return
    except LedgerError as error:
        tell(head=0, root="", problems=[getattr(error, "problem", str(error))])
        return
    check.run()
    tell(head=check.position, root=check.edge.root().hex(), problems=check.problems)
    check.close()
