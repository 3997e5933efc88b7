"""A program that follows a ledger from its beginning and prints each position that it sees, until it is killed.

python tailer.py PATH
"""

from __future__ import annotations

import os
import sys

import ledger

if __name__ == "__main__":
    with ledger.open(sys.argv[1]) as book, book.subscribe(poll_seconds=0.25) as records:
        os.write(1, b"ready\n")
        for record in records:
            os.write(1, f"{record.position}\n".encode())
