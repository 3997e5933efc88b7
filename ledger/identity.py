"""Identifiers and actors: who a record is, and who made it."""

from __future__ import annotations

import os
import time
from collections import deque
from functools import lru_cache
from uuid import UUID


def new_uuid7() -> UUID:
    """Make a UUID version 7 (RFC 9562): 48 bits of milliseconds, then 74 random bits.

    Ids made later sort later (to the millisecond), so inserting them into a B-tree touches its right edge only;
    random ids cost five times as much.

    >>> new_uuid7().version
    7
    """
    return UUID(bytes=new_uuid7_bytes())


def new_uuid7_bytes() -> bytes:
    """Make a UUID version 7, as its 16 bytes."""
    return uuid7_bytes(time.time_ns() // 1_000_000, random_bytes(10))


def uuid7_bytes(milliseconds: int, random: bytes) -> bytes:
    """Lay out a UUIDv7 from its time and 10 random bytes."""
    number = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(random, "big")
    return (number & _NOT_FIXED | _FIXED).to_bytes(16, "big")


_FIXED = 0x7 << 76 | 0x2 << 62  # version and variant
_NOT_FIXED = ~(0xF << 76 | 0x3 << 62)


_PIECE_BYTES, _PIECES = 16, 256
_pieces: deque[bytes] = deque()
os.register_at_fork(after_in_child=_pieces.clear)  # a forked child must not use what its parent will


def random_bytes(count: int) -> bytes:
    """Return random bytes, fit for ids and salts.

    The system is asked for some thousands at a time: a call of it costs more than all else of an id.
    """
    if count > _PIECE_BYTES:
        return os.urandom(count)
    while True:
        try:
            return _pieces.pop()[:count]
        except IndexError:
            more = os.urandom(_PIECE_BYTES * _PIECES)
            _pieces.extend(more[i : i + _PIECE_BYTES] for i in range(0, len(more), _PIECE_BYTES))


@lru_cache(maxsize=1)
def _user_at_host() -> str:
    try:
        import getpass  # here: `import ledger` need not pay for it

        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a passwd entry, as containers have
        user = f"uid{os.getuid()}"
    name = f"{user}@{os.uname().nodename}"
    return name.encode(errors="backslashreplace").decode()  # a login name may be any bytes


def default_actor(worker: str | None = None) -> str:
    """Name this process: ``user@host/pid``, and ``/worker`` when it works under a name.

    >>> default_actor("w1").endswith(f"/{os.getpid()}/w1")
    True
    """
    actor = f"{_user_at_host()}/{os.getpid()}"
    return f"{actor}/{worker}" if worker else actor
