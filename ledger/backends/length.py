"""Is an LMDB file as long as it has to be: where its map goes on beyond its end, reading kills the process (SIGBUS)."""

from __future__ import annotations

import os
from struct import Struct, error
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_LOOKS = 3
# LMDB 0.9's pages and nodes, as far as they say where others are.
_HEADER_BYTES = 16
_META = Struct("<I 60x Q 40x Q 8x Q")  # magic, root of the free pages, root of the entries, transaction
_META_MAGIC = 0xBEEFC0DE
_PAGE = Struct("<10x HH")  # flags, end of the places of nodes
_NODE = Struct("<HHHH")  # size or page (32 bits; of a page 16 more), flags, bytes of the key
_NO_PAGE = (1 << 64) - 1
_BRANCH, _BIG = 1, 1


def find_cut(env: Any, file: Path) -> str | None:
    """Say how much is there of an environment's file that was cut short; None when it is whole.

    A whole file may be shorter than what it says, for LMDB never writes pages that were freed in the transaction that took
    them. So what is in use is looked for then, by reading the file, which takes some seconds for each gigabyte.
    """
    for _ in range(_LOOKS):
        info, page_bytes = env.info(), env.stat()["psize"]
        needed = (info["last_pgno"] + 1) * page_bytes
        size = file.stat().st_size  # after what it is compared with: others may be writing, and it never shrinks
        if size >= needed:
            return None
        whole = _is_used_up_to(file, size, page_bytes, info["last_txnid"])
        if env.info()["last_txnid"] == info["last_txnid"]:  # else pages were used again meanwhile
            return None if whole else f"{file} has {size:,} bytes, and should have {needed:,}: it was cut short"
    return None


def _is_used_up_to(file: Path, size: int, page_bytes: int, transaction: int) -> bool:
    """Say whether all pages in use are before ``size``: no for damaged ones, yes for a file that is laid out otherwise."""
    fd = os.open(file, os.O_RDONLY)
    try:
        waiting = _roots(fd, page_bytes, transaction)
        seen = 0
        while waiting:
            page = waiting.pop()
            seen += 1
            if (page + 1) * page_bytes > size or seen * page_bytes > size:  # beyond the end, or going round
                return False
            for first, count in _named(os.pread(fd, page_bytes, page * page_bytes), page_bytes):
                if (first + count) * page_bytes > size:
                    return False
                if count == 0:
                    waiting.append(first)
    except error:
        return False
    finally:
        os.close(fd)
    return True


def _roots(fd: int, page_bytes: int, transaction: int) -> list[int]:
    for place in (0, page_bytes):
        magic, free, entries, made_by = _META.unpack(os.pread(fd, _META.size, place + _HEADER_BYTES))
        if (magic, made_by) == (_META_MAGIC, transaction):
            return [root for root in (free, entries) if root != _NO_PAGE]
    return []


def _named(page: bytes, page_bytes: int) -> list[tuple[int, int]]:
    """Return the pages that a page names: the first, and how many for a large value, 0 for one that names others itself."""
    flags, end = _PAGE.unpack_from(page)
    found = []
    for place in range(_HEADER_BYTES, end, 2):
        node = int.from_bytes(page[place : place + 2], "little")
        low, high, more, key_bytes = _NODE.unpack_from(page, node)
        if flags & _BRANCH:
            found.append((low | high << 16 | more << 32, 0))
        elif more & _BIG:
            start = node + _NODE.size + key_bytes
            count = (_HEADER_BYTES - 1 + (low | high << 16)) // page_bytes + 1
            found.append((int.from_bytes(page[start : start + 8], "little"), count))
    return found
