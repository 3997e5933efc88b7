"""A program that appends batches and prints what it was told: ``told BATCH POSITION``, one line each, in one write.

python writer.py PATH NAME [options]; without ``--batches`` it goes on until it is killed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import sys
import time
import uuid
import warnings
from collections.abc import Callable

import lmdb

import ledger
from ledger.backends import blocks
from ledger.backends.environment import Options
from ledger.backends.lmdb import LmdbBackend
from ledger.session import Ledger


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("name")
    parser.add_argument("--first", type=int, default=0, help="number of the first batch")
    parser.add_argument("--batches", type=int, help="how many to write")
    parser.add_argument("--size", type=int, default=0, help="records a batch; 0 is one to five")
    parser.add_argument("--padding", type=int, default=0, help="bytes in each event")
    parser.add_argument("--durability", default="full")
    parser.add_argument("--map-bytes", type=int, default=1 << 40)
    parser.add_argument("--seal-records", type=int, default=512, help="how many small records are sealed into one block")
    parser.add_argument("--file-bytes", type=int, help="RLIMIT_FSIZE, set when the ledger is open")
    parser.add_argument("--retry", action="store_true", help="after a failed commit open again and repeat the append")
    parser.add_argument("--reopen", action="store_true", help="open the ledger for each batch")
    parser.add_argument("--clock-jumps", type=int, help="seed of a clock that jumps by up to ten days, back and forth")
    parser.add_argument("--careless", choices=["early", "blind", "unsynced"],
                        help="acknowledge before the append, or although it failed, or without a sync")  # fmt: skip
    parser.add_argument("--hog-bytes", type=int, default=0, help="memory to take with each batch, and keep")
    return parser.parse_args()


class Writer:
    """One writer and its handle."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._book = self._open()

    def _open(self) -> Ledger:
        options = Options(self._options.durability, 60.0, self._options.map_bytes)
        jumps = self._options.clock_jumps
        clock = None if jumps is None else _jumping_clock(jumps)
        return Ledger(LmdbBackend(self._options.path, options=options, clock=clock), self._options.name)

    def write(self, number: int) -> None:
        """Append one batch, and print what was said."""
        options = self._options
        batch = f"{options.name}:{number}"
        size, padding = options.size or 1 + number % 5, options.padding // 2
        texts = [f"{batch}|{index}|{size}|{os.urandom(padding).hex()}" for index in range(size)]  # as the oracle reads them
        events = [ledger.NoteAdded(text) for text in texts]
        if options.careless == "early":
            _tell(batch, self._book.log.head + 1)
        append_id = uuid.uuid4()
        while True:
            try:
                position = self._book.log.append(events, stream=options.name, append_id=append_id).position
            except ledger.CommitFailed as error:
                if options.careless == "blind":
                    position = int.from_bytes(os.pread(self._book.log.backend._environment.head_fd, 8, 0), "big") + 1
                elif options.retry and not isinstance(error, ledger.DiskFull):
                    self._book.close()
                    self._book = self._open()
                    continue
                else:
                    raise
            break
        if options.careless != "early":
            _tell(batch, position)
        if options.reopen:
            self._book.close()
            time.sleep(random.uniform(0.0, 0.1))  # others may have the ledger meanwhile
            self._book = self._open()

    def close(self) -> None:
        """Close the handle."""
        self._book.close()


def _jumping_clock(seed: int) -> Callable[[], int]:
    """Return a clock that now and then jumps to somewhere within ten days of the time."""
    random_ = random.Random(seed)
    offset = 0

    def now() -> int:
        nonlocal offset
        if random_.random() < 0.1:
            offset = random_.randrange(-10 * 86400, 10 * 86400) * 1_000_000_000
        return time.time_ns() + offset

    return now


def _tell(batch: str, position: int) -> None:
    os.write(1, f"told {batch} {position}\n".encode())


def main() -> None:
    """Write as the arguments say; ends with 3 when the ledger raised an error."""
    options = _arguments()
    blocks.SEAL_RECORDS = options.seal_records
    if options.careless == "unsynced":
        open_lmdb = lmdb.open
        lmdb.open = lambda *arguments, **more: open_lmdb(*arguments, **(more | {"sync": False}))
    hog = []
    if options.clock_jumps is not None:
        warnings.simplefilter("ignore")  # that the clock is wrong
    numbers = itertools.count(options.first)
    try:
        writer = Writer(options)
        os.write(1, b"ready\n")
        if options.file_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_bytes, options.file_bytes))
        for number in numbers if options.batches is None else itertools.islice(numbers, options.batches):
            writer.write(number)
            hog.append(bytearray(os.urandom(1) * options.hog_bytes))
        writer.close()
    except ledger.LedgerError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
