"""Pages: can LMDB walk the pages of a file? It proves none, and kills the process where a flipped bit leads it elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ledger.backends.length import find_cut

# LMDB 0.9's pages and nodes.
_META = Struct("<16x I 60x Q 40x Q Q Q")  # magic, root of the free pages, root of the entries, last page, transaction
_META_MAGIC = 0xBEEFC0DE
_HEADER = Struct("<Q 2x HHH")  # number, flags, end of the places of nodes, start of the nodes
_LARGE = Struct("<Q 2x H I")  # of the first page of a large value: number, flags, how many
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_NODE_BYTES, _BIG = 8, 1
_LONGEST_KEY, _DEEPEST = 511, 32
_NO_PAGE = (1 << 64) - 1
_FIRST = 2  # those before are the meta pages
_LOOKS = 5

Numbers = npt.NDArray[np.int64]


class _Broken(Exception):
    """A page that is not as LMDB leaves them, and what is wrong."""


class Proof:
    """Looks through the pages of a file when it has changed since it was looked through."""

    def __init__(self) -> None:
        self._seen: tuple[int, int, int] | None = None

    def find_damage(self, env: Any, file: Path) -> str | None:
        """Say what is wrong with the file of an open environment: cut short, or with damaged pages; None for nothing."""
        if cut := find_cut(env, file):
            return cut
        status = file.stat()
        now = (status.st_ino, status.st_size, status.st_mtime_ns)
        if now == self._seen:
            return None
        damage = find_damage(env, file)
        self._seen = now if damage is None else None
        return damage


def find_damage(env: Any, file: Path) -> str | None:
    """Say what is wrong with the pages that are in use in an environment; None when LMDB can walk all of them.

    Looked at is what LMDB itself relies on, not what it keeps for others. Costs some 40 us for each page of keys, and 2 us for
    each large value.
    """
    fd = os.open(file, os.O_RDONLY)
    try:
        for _ in range(_LOOKS):
            with env.begin() as transaction:  # while it is open, nobody takes the pages that it may read
                roots = _roots(fd, env.stat()["psize"], transaction.id())
                if roots is not None:
                    _Walk(fd, env.stat()["psize"], roots[2] + 1).check(*roots[:2])
                    return None
        return f"{file} has no page that says where its entries are"
    except _Broken as broken:
        return f"a page of {file} is damaged: {broken}"
    finally:
        os.close(fd)


def _roots(fd: int, page_bytes: int, transaction: int) -> tuple[int, int, int] | None:
    """Return the roots of the free pages and of the entries, and the last page; None when others have gone on meanwhile."""
    for place in (0, page_bytes):
        content = os.pread(fd, _META.size, place)
        if len(content) == _META.size:
            magic, free, entries, last, made_by = _META.unpack(content)
            if (magic, made_by) == (_META_MAGIC, transaction):
                return free, entries, last
    return None


class _Leaf(NamedTuple):
    """A page with values: its number, its bytes, where its nodes are and end."""

    page: int
    content: bytes
    places: Numbers
    ends: Numbers


class _Walk:
    """A walk over the pages of one transaction."""

    def __init__(self, fd: int, page_bytes: int, pages: int) -> None:
        self._fd, self._page_bytes, self._pages = fd, page_bytes, pages
        there = min(pages, os.fstat(fd).st_size // page_bytes)  # what was freed by the transaction that took it may not be
        self._used = np.zeros(there, np.bool_)

    def check(self, free: int, entries: int) -> None:
        """Raise _Broken unless the pages below both roots are as LMDB leaves them."""
        self._walk(entries)
        for leaf in self._walk(free):
            self._check_free(leaf)

    def _walk(self, root: int) -> list[_Leaf]:
        """Check the pages below a root, and return those with values."""
        level, leaves = [] if root == _NO_PAGE else [root], list[_Leaf]()
        for _ in range(_DEEPEST):
            kinds, below = set(), list[int]()
            for page in level:
                self._take(page, 1)
                content = self._read(self._page_bytes, page * self._page_bytes)
                kind, places, ends = self._nodes(page, content)
                kinds.add(kind)
                if kind == _BRANCH:
                    parts = (_shorts(content, places, at) << 8 * at for at in (0, 2, 4))
                    below += sum(parts, np.zeros(len(places), np.int64)).tolist()
                else:
                    leaves.append(_Leaf(page, content, places, ends))
            if len(kinds) > 1:
                raise _Broken("its branches are not of one length")
            if not below:
                return leaves
            level = below
        raise _Broken("its branches are too long")

    def _read(self, size: int, place: int) -> bytes:
        content = os.pread(self._fd, size, place)
        if len(content) < size:  # cut since its length was asked for
            raise _Broken(f"it ends at byte {place + len(content):,}")
        return content

    def _take(self, page: int, count: int) -> None:
        if not _FIRST <= page <= len(self._used) - count:
            raise _Broken(f"there is no page {page}")
        if self._used[page : page + count].any():
            raise _Broken(f"page {page} is named twice")
        self._used[page : page + count] = True

    def _nodes(self, page: int, content: bytes) -> tuple[int, Numbers, Numbers]:
        """Return of a page its kind and where its nodes are and end, after a look at all that says where things are."""
        number, kind, end, start = _HEADER.unpack_from(content)
        if number != page or kind not in (_BRANCH, _LEAF) or not _HEADER.size < end <= start <= self._page_bytes or end % 2:
            raise _Broken(f"the header of page {page}")
        places = np.frombuffer(content, "<u2", (end - _HEADER.size) // 2, _HEADER.size).astype(np.int64)
        if (places < start).any() or (places + _NODE_BYTES > self._page_bytes).any() or (kind == _BRANCH and len(places) < 2):
            raise _Broken(f"the list of what is in page {page}")
        low, high, flags, keys = (_shorts(content, places, at) for at in (0, 2, 4, 6))
        sizes = low | high << 16
        ends = places + _NODE_BYTES + keys
        is_key = keys <= _LONGEST_KEY
        if kind == _LEAF:
            is_big = flags == _BIG
            is_key &= (keys > 0) & (is_big | (flags == 0))
            ends += np.where(is_big, 8, sizes)
        order = np.argsort(places)
        if not is_key.all() or (ends > self._page_bytes).any() or (ends[order][:-1] > places[order][1:]).any():
            raise _Broken(f"what is in page {page}")
        if kind == _LEAF and is_big.any():
            self._check_large(content, ends[is_big] - 8, sizes[is_big])
        return kind, places, ends

    def _check_large(self, content: bytes, places: Numbers, sizes: Numbers) -> None:
        for place, size in zip(places.tolist(), sizes.tolist(), strict=True):
            first = int.from_bytes(content[place : place + 8], "little")
            count = (_HEADER.size - 1 + size) // self._page_bytes + 1
            self._take(first, count)
            said = _LARGE.unpack(self._read(_LARGE.size, first * self._page_bytes))
            if said != (first, _OVERFLOW, count):
                raise _Broken(f"the header of page {first}")

    def _check_free(self, leaf: _Leaf) -> None:
        """Check lists of pages that may be taken: their number comes first."""
        flags, keys = (_shorts(leaf.content, leaf.places, at) for at in (4, 6))
        starts = leaf.places + _NODE_BYTES + keys
        for start, end, is_big in zip(starts.tolist(), leaf.ends.tolist(), (flags == _BIG).tolist(), strict=True):
            value = leaf.content[start:end]
            if is_big:
                first = int.from_bytes(value, "little")
                _, _, count = _LARGE.unpack(self._read(_LARGE.size, first * self._page_bytes))
                value = self._read(count * self._page_bytes - _HEADER.size, first * self._page_bytes + _HEADER.size)
            numbers = np.frombuffer(value[: len(value) // 8 * 8], "<u8")
            free = numbers[1 : 1 + int(numbers[0])] if len(numbers) else numbers
            if not len(numbers) or len(free) != numbers[0] or (free < _FIRST).any() or (free >= self._pages).any():
                raise _Broken(f"the list of free pages in page {leaf.page}")
            inside = free[free < len(self._used)].astype(np.int64)
            if self._used[inside].any() or len(np.unique(inside)) < len(inside):
                raise _Broken(f"the list of free pages in page {leaf.page} has one in use, or twice")
            self._used[inside] = True


def _shorts(content: bytes, places: Numbers, at: int) -> Numbers:
    """Return the numbers of two bytes that stand behind so many places."""
    everything = np.frombuffer(content, np.uint8)
    return everything[places + at].astype(np.int64) | everything[places + at + 1].astype(np.int64) << 8
