"""Pieces of columns: packed as they were, proved before they are believed, unpacked when they are asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import pieces
from projections.buffers import BUFFERS
from projections.pieces import Damaged, PackedArray, cut, digest_of, pack, prove, unpack

DTYPES = sorted({dtype for buffer in BUFFERS.values() for dtype in buffer.dtypes})


def packed(array):
    return PackedArray(array.dtype.str, len(array), [pack(part, digest_of(part)) for part in cut(array)])


@given(dtype=st.sampled_from(DTYPES), data=st.data(), rows=st.integers(1, 9))
def test_an_array_is_unpacked_as_it_was(dtype, data, rows):
    """Of each dtype, of bytes of any kind, in one piece and in several, whether they can be packed or not."""
    width = np.dtype(dtype).itemsize
    count = data.draw(st.integers(0, 40))
    repeated = data.draw(st.integers(1, 50))
    array = np.frombuffer(data.draw(st.binary(min_size=count * width, max_size=count * width)) * repeated, dtype)
    before, pieces.PIECE_ROWS = pieces.PIECE_ROWS, rows * repeated
    try:
        found = packed(array)
        assert len(found) == len(array)
        assert found.unpack().tobytes() == array.tobytes()
    finally:
        pieces.PIECE_ROWS = before


def test_numbers_of_a_column_take_little_space():
    """Those of which most bytes are the same in all of them take a twentieth of theirs; random bits what they take."""
    numbers = np.arange(32_768)
    for array, share in ((numbers, 0.05), (numbers * 0.1, 0.05), (np.random.default_rng(1).random(32_768), 1.01)):
        assert len(pack(array, bytes(16))) < array.nbytes * share


def test_a_damaged_piece_is_noticed():
    """Whichever byte of it is another one, and also when a whole piece is kept where another one belongs."""
    for array in (np.arange(64), np.random.default_rng(1).integers(0, 1 << 60, 8)):
        digest = digest_of(array)
        piece = pack(array, digest)
        assert prove(piece, digest) == piece
        for place in range(len(piece)):
            with pytest.raises(Damaged):
                prove(piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :], digest)
        for wrong in (piece[:-1], piece + b"\0", b"", piece[:9]):
            with pytest.raises(Damaged):
                prove(wrong, digest)
        with pytest.raises(Damaged):
            prove(piece, digest_of(array[1:]))


def test_bytes_of_values_come_back_as_they_were():
    """What a projection remembers beside its columns is a piece, too, long or short."""
    for data in (b"\x90", b"abc" * 1000, bytes(range(256))):
        assert unpack(pack(np.frombuffer(data, np.uint8), bytes(16))) == data


def test_columns_of_other_types_may_share_a_piece():
    """A piece is known by its bytes: it is unpacked as it was packed, also where the same bytes are items of another size."""
    numbers = np.arange(4096)
    piece = pack(numbers, digest_of(numbers))
    for dtype in DTYPES:
        same = numbers.view(dtype)
        assert PackedArray(dtype, len(same), [piece]).unpack().tolist() == same.tolist()
    assert unpack(piece) == numbers.tobytes()


def test_what_is_too_large_for_a_piece_is_an_error_of_saving(monkeypatch):
    """It is an OSError, as for a disk that is full: the checkpoint is not saved, and the user is told."""
    monkeypatch.setattr(pieces, "_LARGEST", 100)
    with pytest.raises(OSError, match="a piece of 101 bytes is too large; the largest has 100"):
        pack(np.zeros(101, np.uint8), bytes(16))


def test_a_column_is_unpacked_when_it_is_asked_for():
    """To write to it or to look at it unpacks it once; the first tables are given arrays of which none is kept."""
    array = packed(np.arange(100))
    buffer = BUFFERS["id"].restore([array], [])
    assert array.unpacked == 0
    for _ in range(4):
        shown = buffer.array()
        assert shown.tolist() == list(range(100))
        shown[:] = -1
    assert array.unpacked == 3  # the last of these is kept
    assert buffer.arrays()[0].tolist() == list(range(100))
    other = BUFFERS["id"].restore([packed(np.arange(100))], [])
    other.write(np.array([7]), [70])
    other.extend([100])
    assert other.array().tolist() == [*range(7), 70, *range(8, 101)]
