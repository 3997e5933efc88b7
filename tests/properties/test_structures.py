"""The tree, the keys, the posting lists and the checks of index entries."""

from __future__ import annotations

import hashlib
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.backends import postings
from ledger.backends.postings import ListEntry, entry_decoder, unpack_chunk, unpack_positions
from ledger.codec import encode_event
from ledger.errors import Corrupted
from ledger.events import NoteAdded
from ledger.format import HEAD_KEY, IDENTITY_KEY, Checks, append_key, stream_key
from ledger.tree import EMPTY_ROOT, Edge, leaf_hash, node_hash, root_of

REPEATABLE = settings(derandomize=True, database=None, deadline=None, max_examples=300)
LEAVES = [hashlib.sha256(b"%d" % i).digest() for i in range(3000)]
BIG = 256 * 256 + 300

# --------------------------------------------------------------------------------------------------------------- tree


@pytest.mark.parametrize(
    ("size", "root"),
    [
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ],
)
def test_roots_are_those_of_certificate_transparency(size: int, root: str) -> None:
    """The known answers of RFC 6962's test data come out of the edge and of the definition."""
    entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in entries[:size]]
    edge = Edge()
    edge.extend(leaves)
    assert edge.root().hex() == root_of(leaves).hex() == root


@REPEATABLE
@given(st.lists(st.integers(0, 400), max_size=8))
def test_the_edge_grows_to_the_root_of_its_leaves(sizes: list[int]) -> None:
    """However leaves are added, and however often the edge is stored between, its root is that of the definition."""
    edge, size = Edge(), 0
    for more in sizes:
        edge = Edge(edge.size, edge.hashes)
        edge.extend(LEAVES[size : size + more])
        size += more
        assert (edge.size, edge.root()) == (size, root_of(LEAVES[:size]))
        assert len(edge.hashes) == size.bit_count()
    assert size or edge.root() == EMPTY_ROOT


def test_tiles_are_the_roots_of_their_leaves() -> None:
    """Each tile is handed out once, as it is completed, with the root of exactly its leaves, on every level."""
    rng, edge, tiles = random.Random(1), Edge(), {}
    leaves = [hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(BIG)]
    while edge.size < BIG:
        step = rng.randrange(1, 700)
        for level, index, node in edge.extend(leaves[edge.size : edge.size + step]):
            assert (level, index) not in tiles
            assert (index + 1) * 256**level <= edge.size
            tiles[level, index] = node
    assert sorted(tiles) == [(1, i) for i in range(BIG // 256)] + [(2, 0)]
    for (level, index), node in tiles.items():
        assert node == root_of(leaves[index * 256**level : (index + 1) * 256**level])


def test_an_edge_of_the_wrong_length_is_refused() -> None:
    """An edge must have a root for each bit of its size."""
    with pytest.raises(ValueError, match="has 2 roots"):
        Edge(3, [LEAVES[0]])


def test_leaves_and_nodes_are_told_apart() -> None:
    """A leaf over two hashes is not the node over them."""
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])


# --------------------------------------------------------------------------------------------------------------- keys

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text("a1\x00\x01\x02\x03()٣", max_size=8)
numbered = st.builds(
    lambda head, zeros, number: head + "0" * zeros + (str(number) if number is not None else ""),
    names, st.integers(0, 45), st.none() | st.integers(0, 10**44),
)  # fmt: skip


@REPEATABLE
@given(st.lists(names | numbered, min_size=2, max_size=30))
def test_streams_have_keys_of_their_own(streams: list[str]) -> None:
    """Two streams have one key only when they have one name."""
    assert len({stream_key(stream) for stream in streams}) == len(set(streams))


@REPEATABLE
@given(names, names)
def test_the_key_of_one_stream_never_begins_another_by_chance(one: str, two: str) -> None:
    """Names that differ in a control byte and a digit, as keys have them inside, are told apart."""
    digits = len(re.search(r"[0-9]*\Z", two).group())  # type: ignore[union-attr]
    for other in (two, chr(digits) + two, two + chr(1) + "1", two + "1"):
        assert (stream_key(one) == stream_key(other)) == (one == other)


@REPEATABLE
@given(names.filter(lambda name: not name[-1:].isdigit()), st.integers(0, 10**39), st.integers(0, 10**39))
def test_numbered_streams_sort_by_number(head: str, one: int, two: int) -> None:
    """Of streams that differ in the number at the end only, the lower number has the lower key."""
    keys = stream_key(f"{head}{one}"), stream_key(f"{head}{two}")
    assert (keys[0] < keys[1]) == (one < two)


@pytest.mark.parametrize("name", ["x" * 400, "9" * 400, "é" * 200, "x" * 360 + "9" * 40, "x" * 359 + "9" * 41])
def test_keys_fit_lmdb(name: str) -> None:
    """The longest names that are accepted have keys that LMDB takes."""
    assert len(stream_key(name)) <= 511


# ------------------------------------------------------------------------------------------------------- posting lists

gaps = st.integers(1, 5) | st.integers(1, 300) | st.integers(1, 2**40)
batches = st.lists(st.lists(gaps, max_size=12), max_size=20)


@pytest.mark.parametrize("tail", [1, 4, 256])
@REPEATABLE
@given(batches=batches, start=st.integers(1, 2**40))
def test_posting_lists_give_back_their_positions(tail: int, batches: list[list[int]], start: int) -> None:
    """Positions added in any batches, spilled and stored between, come back whole and in order."""
    entry, chunks, expected = ListEntry(1, last=start - 1, base=start - 1), [], []
    position = start - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "TAIL_POSITIONS", tail)
        for batch in batches:
            places = []
            for gap in batch:
                position += gap
                places.append(position)
            entry = entry_decoder.decode(encode(entry))
            entry.add(places)
            expected += places
            if (spilled := entry.spill()) is not None:
                chunks.append(spilled)
                assert entry.tail_count == 0
            assert entry.tail_count < tail
            assert entry.count == len(expected)
            assert entry.last == position
            found = [p for _, content in chunks for p in unpack_chunk(content)] + entry.positions()
            assert found == expected
    assert [first for first, _ in chunks] == sorted(unpack_chunk(content)[0] for _, content in chunks)


def encode(entry: ListEntry) -> bytes:
    """Encode an entry as the log does."""
    import msgspec

    return msgspec.msgpack.encode(entry)


@REPEATABLE
@given(st.lists(gaps, min_size=1, max_size=40), st.data())
def test_a_chunk_cut_off_is_noticed(deltas: list[int], data: st.DataObject) -> None:
    """A chunk that lost its end raises, it does not give fewer positions."""
    entry = ListEntry(1)
    entry.add(sum(deltas[: i + 1]) for i in range(len(deltas)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "TAIL_POSITIONS", 1)
        spilled = entry.spill()
    assert spilled is not None
    content = spilled[1]
    with pytest.raises(ValueError, match="incomplete"):
        unpack_chunk(content[: data.draw(st.integers(12, len(content) - 1))])


@REPEATABLE
@given(st.integers(0, 2**50), st.lists(st.integers(1, 127), max_size=50))
def test_the_fast_way_of_unpacking_is_the_same(base: int, deltas: list[int]) -> None:
    """Small differences, which are unpacked another way, give the same positions as beside a large one."""
    small = bytes(deltas)
    large = small + bytes((128, 1))
    assert unpack_positions(base, large)[:-1] == unpack_positions(base, small)


# -------------------------------------------------------------------------------------------------------------- checks


def _flips(value: bytes) -> list[bytes]:
    number, size = int.from_bytes(value, "big"), len(value)
    return [(number ^ 1 << place).to_bytes(size, "big") for place in range(size * 8)]


@pytest.mark.parametrize("content", [b"", b"\x00", bytes(range(60))])
def test_every_flipped_bit_of_an_index_entry_is_found(content: bytes) -> None:
    """An index entry with any bit of its value or key flipped, cut off, or of another ledger, fails its check."""
    checks, key = Checks(b"l" * 16), append_key(b"a" * 16)
    value = checks.seal(key, content)
    assert checks.open(key, value) == content
    damaged = [(key, each) for each in _flips(value)] + [(each, value) for each in _flips(key)]
    damaged += [(key, value[:end]) for end in range(len(value))]
    for damaged_key, damaged_value in damaged:
        with pytest.raises(Corrupted):
            checks.open(damaged_key, damaged_value)
    with pytest.raises(Corrupted):
        Checks(b"m" * 16).open(key, value)


@pytest.mark.parametrize("key", [HEAD_KEY, IDENTITY_KEY])
def test_every_flipped_bit_of_a_meta_value_is_found(key: bytes) -> None:
    """The head and the identity with any bit flipped, or cut off, fail their check."""
    checks = Checks(b"l" * 16)
    value = checks.seal_meta(key, encode_event(NoteAdded("something")).data)
    assert checks.open_meta(key, value)
    for damaged in [*_flips(value), *(value[:end] for end in range(len(value)))]:
        with pytest.raises(Corrupted):
            checks.open_meta(key, damaged)
