"""What must hold after any accident: said once, for every torture test.

Acknowledged batches are there, each once, whole and at the position that was told; positions have no gap; ids are unique;
the Merkle tree is that of the records; ``verify`` is clean; the ledger can be opened and written on. What was not
acknowledged may be there or not, but whole. A tailer has seen each record once, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ledger
from ledger.audit import verify
from ledger.backends.check import LogCheck
from ledger.tree import root_of

#: Batch -> position of its first record, as the writer was told.
Told = Mapping[str, int]


def read_told(lines: Iterable[str]) -> dict[str, int]:
    """Return what writers were told, from the lines they printed; the last line may be cut off."""
    told = {}
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == "told" and line.endswith("\n"):
            assert words[1] not in told, f"{words[1]} was acknowledged twice"
            told[words[1]] = int(words[2])
    return told


def check(path: Path, told: Told, seen: Sequence[int] | None = None) -> int:
    """Raise AssertionError unless all holds; return the number of records. ``verify`` runs in a child."""
    report = verify(path)
    assert report.ok, report.problems
    head = check_records(path, told, seen)
    assert head == report.head
    return head


def check_here(path: Path, told: Told) -> int:
    """Do the same in this process, which damage may kill."""
    ledger.open(path).close()  # as whoever comes next would; it makes what was not made yet
    log_check = LogCheck(path)
    try:
        log_check.run()
        assert not log_check.problems, log_check.problems
    finally:
        log_check.close()
    return check_records(path, told)


def check_records(path: Path, told: Told, seen: Sequence[int] | None = None) -> int:
    """Check the records alone, and that the ledger goes on; return how many there were."""
    if seen is not None:
        assert list(seen) == list(range(1, len(seen) + 1)), "the tailer missed or repeated an event"
    with ledger.open(path, durability="relaxed") as book:
        head = _check_all(book, told)
        # LMDB publishes a commit after it has written it: one whose writer was killed between the two, and which nobody was
        # told of, is seen from the next write on.
        again = book.log.append([ledger.NoteAdded("after the accident")], stream="after")
        assert again.position > head
        assert _check_all(book, told) == again.position
    return head


def _check_all(book: ledger.Ledger, told: Told) -> int:
    records = list(book.log.read())
    head, root = book.log.backend.tree_head()
    leaves: list[bytes] = []
    while len(leaves) < head:
        leaves += [entry.leaf for entry in book.log.backend.read_entries(len(leaves))]
    assert root_of(leaves) == root, "the tree is not that of the records"
    _check_order(records, head)
    _check_batches(records, told)
    return head


def _check_order(records: list[ledger.Record], head: int) -> None:
    assert [record.position for record in records] == list(range(1, head + 1)), "positions have a gap"
    assert len({record.id for record in records}) == head, "an id is there twice"
    times = [record.recorded_at for record in records]
    assert times == sorted(times), "times go back"
    versions: dict[str, int] = {}
    for record in records:
        versions[record.stream] = versions.get(record.stream, 0) + 1
        assert record.version == versions[record.stream], "versions have a gap"


def _check_batches(records: list[ledger.Record], told: Told) -> None:
    parts: dict[str, list[tuple[int, int, int]]] = {}
    for record in records:
        words = getattr(record.event, "text", "").split("|")
        if len(words) == 4:
            parts.setdefault(words[0], []).append((record.position, int(words[1]), int(words[2])))
    for batch, found in parts.items():
        first, _, size = found[0]
        wanted = [(first + index, index, size) for index in range(size)]
        assert found == wanted, f"batch {batch} is not there once and whole: {found}"
    for batch, position in told.items():
        assert batch in parts, f"batch {batch} was acknowledged, and is lost"
        assert parts[batch][0][0] == position, f"batch {batch} was acknowledged at {position}, is at {parts[batch][0][0]}"
    _check_writers(parts)


def _check_writers(parts: Mapping[str, list[Any]]) -> None:
    """Each writer's batches are numbered in the order in which it wrote them."""
    numbers: dict[str, int] = {}
    for batch in parts:
        writer, _, number = batch.rpartition(":")
        assert numbers.get(writer, -1) < int(number), f"{batch} is out of its writer's order"
        numbers[writer] = int(number)
