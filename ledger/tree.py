"""The Merkle tree over the log (RFC 6962, section 2.1): its edge, its root, its tiles.

Leaf i is ``SHA-256(0x00 || entry)`` of the record at position i + 1, an inner node ``SHA-256(0x01 || left || right)``.
Of the tree only the *edge* is kept: the roots of the complete subtrees that the leaves fall into, largest first, one
for each bit of the size. Appending n leaves costs n hashes or so. The root of each complete subtree of 256, 65,536, ...
leaves is a *tile*, handed out as it is completed, from which proofs are made without reading the whole log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

TILE_HEIGHT = 8
EMPTY_ROOT = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """Hash one leaf."""
    return _sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash an inner node."""
    return _sha256(b"\x01" + left + right).digest()


class Edge:
    """The right edge of a growing tree.

    >>> edge = Edge()
    >>> edge.extend([leaf_hash(b"a"), leaf_hash(b"b")])
    []
    >>> edge.size, edge.root() == node_hash(leaf_hash(b"a"), leaf_hash(b"b"))
    (2, True)
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} roots on its edge, not {len(self.hashes)}")

    def extend(self, leaves: Iterable[bytes]) -> list[tuple[int, int, bytes]]:
        """Add leaves; return the tiles completed by them as (level, index, hash), level 1 being 256 leaves.

        One level of the tree after the other: nodes are joined in pairs, and one that is left over stays on the edge.
        """
        nodes = list(leaves)
        size, count = self.size, len(nodes)
        tiles: list[tuple[int, int, bytes]] = []
        left_over: list[bytes] = []
        height = 0
        while nodes:
            if height and height % TILE_HEIGHT == 0:
                tiles += [(height // TILE_HEIGHT, index, node) for index, node in enumerate(nodes, start=size >> height)]
            if size >> height & 1:
                nodes.insert(0, self.hashes.pop())
            if len(nodes) & 1:
                left_over.append(nodes.pop())
            pairs = iter(nodes)
            nodes = [_sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
            height += 1
        self.hashes += reversed(left_over)
        self.size = size + count
        return tiles

    def root(self) -> bytes:
        """Return the root of the tree as it stands."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: list[bytes]) -> bytes:
    """Compute the root by the definition of the RFC, recursively: slow, plain, for checking the edge."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))
