"""A program that reads pages from anywhere, and streams, for some seconds, and fails at the first gap. Prints how much it read.

python reader.py PATH SEED SECONDS
"""

from __future__ import annotations

import random
import sys
import time

import ledger


def _read(book: ledger.Ledger, random_: random.Random) -> int:
    head = book.log.head
    after = random_.randrange(max(head - 300, 0), head + 1)
    place = after
    for record in book.log.read(after=after):
        assert record.position == place + 1, f"position {record.position} after {place}"
        place = record.position
    assert place >= head, f"ended at {place}, the log had {head}"
    wanted = sorted(random_.sample(range(1, head + 1), min(head, 9)))
    assert [record.position for record in book.log.backend.read_positions(wanted)] == wanted
    stream = next(iter(book.log.read(after=random_.randrange(head), limit=1))).stream
    versions = [record.version for record in book.log.read(stream=stream)]
    assert versions == list(range(1, len(versions) + 1)), f"{stream} has the versions {versions}"
    return place - after


if __name__ == "__main__":
    path, seed, seconds = sys.argv[1:4]
    end, total = time.monotonic() + float(seconds), 0
    with ledger.open(path) as book:
        while not book.log.head:
            time.sleep(0.01)
        print("ready", flush=True)
        while time.monotonic() < end:
            total += _read(book, random.Random(f"{seed} {total}"))
    print("read", total, flush=True)
