"""Checkpoint: size and root of the Merkle tree, as a note to keep elsewhere.

The text of a C2SP tlog-checkpoint without signatures: the origin, the size in decimal, the root in base64, each on a
line. Whoever holds one can tell later whether the records up to that size are still the same ones.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple
from uuid import UUID

from ledger.errors import InvalidValue

_PREFIX = "experiment-ledger/"


class Checkpoint(NamedTuple):
    """The tree of a ledger at one size.

    >>> print(Checkpoint(UUID(int=1), 2, bytes(32)), end="")
    experiment-ledger/00000000-0000-0000-0000-000000000001
    2
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
    """

    ledger_id: UUID
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{_PREFIX}{self.ledger_id}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def read_checkpoints(text: str) -> list[Checkpoint]:
    r"""Return the checkpoints of a text: one or more, with empty lines between them or not.

    Raises InvalidValue, naming the line, for what is none. Signature lines and extension lines are passed over.

    >>> note = Checkpoint(UUID(int=1), 2, bytes(32))
    >>> read_checkpoints(f"{note}\n{note}") == [note, note]
    True
    """
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines):
        if line.startswith(_PREFIX):
            found.append(_read(lines[number : number + 3], number + 1))
    if not found:
        raise InvalidValue(f"there is no checkpoint in it: none of its {len(lines)} lines begins with {_PREFIX!r}.")
    return found


def _read(lines: list[str], number: int) -> Checkpoint:
    try:
        origin, size, root = lines
        digest = base64.b64decode(root, validate=True)
        if not size.isascii() or not size.isdigit() or len(digest) != 32:
            raise ValueError(f"{size!r}, {root!r}")
        return Checkpoint(UUID(origin.removeprefix(_PREFIX)), int(size), digest)
    except (ValueError, binascii.Error) as error:
        raise InvalidValue(
            f"the checkpoint at line {number} is not one: {error}. It is three lines: origin, size, root in base64."
        ) from error
