"""The command ``init``."""

from __future__ import annotations

from ledger.cli.app import command
from ledger.cli.opening import PathArgument, open_book
from ledger.cli.output import printable
from ledger.errors import LedgerNotFound


@command("ledger init runs.ledger")
def init(path: PathArgument) -> None:
    """Create a ledger.

    One that is there already is left as it is.
    """
    try:
        with open_book(path) as book:
            print(f"{printable(path)} is a ledger already: {book.log.head:,} records, id {book.id}.")
            return
    except LedgerNotFound:
        pass  # opening it below creates it, or says why not
    with open_book(path, create=True) as book:
        print(f"Created the ledger {printable(path)}, id {book.id}.")
