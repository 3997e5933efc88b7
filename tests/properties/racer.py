"""A process that races: appends with expected versions, or claims. Prints one JSON line with what it won.

python racer.py append PATH NAME ROUNDS
python racer.py claim PATH NAME
"""

from __future__ import annotations

import json
import sys

import ledger
from ledger.backends.environment import Options
from ledger.backends.lmdb import LmdbBackend
from ledger.log import EventLog
from ledger.session import Ledger


def race_appends(log: EventLog, name: str, rounds: int) -> list[int]:
    """Try to be the one to write each version; return those won."""
    won = []
    for version in range(rounds):
        try:
            log.append([ledger.NoteAdded(name)], stream="race", expected_version=version)
            won.append(version)
        except ledger.WrongExpectedVersion:
            continue
    return won


def race_claims(book: Ledger, name: str) -> list[int]:
    """Claim trials until none is left; return those won."""
    experiment = book.get_experiment("race")
    won = []
    while (trial := experiment.claim(worker=name, lease_seconds=600)) is not None:
        won.append(trial.id)
        trial.complete()
    return won


def open_relaxed(path: str) -> LmdbBackend:
    """Open without waiting for the disk: races are won in memory."""
    return LmdbBackend(path, options=Options("relaxed"))


if __name__ == "__main__":
    what, path, name = sys.argv[1:4]
    with Ledger(open_relaxed(path), name) as book:
        print("ready", flush=True)
        sys.stdin.readline()
        won = race_appends(book.log, name, int(sys.argv[4])) if what == "append" else race_claims(book, name)
    print(json.dumps(won))
