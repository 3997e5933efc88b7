"""Decoders of bytes from disk or from others: an error that is theirs or a value, never another exception, never a hang."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import Corrupted
from ledger.format import read_header
from tests.torture.children import ENVIRONMENT, program
from tests.torture.decoders import decoders

FUZZ_SECONDS = int(os.environ.get("LEDGER_FUZZ_SECONDS", "300"))
DEEP = [b"\x91" * 20_000, b"\x81\xa1a" * 20_000, b"[" * 20_000, b'{"a":' * 20_000, b'{"manifest": ' + b"[" * 20_000]
HUGE = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"9" * 20_000, b"\xff" * 5000]


@st.composite
def mutations(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """Bytes with a few changed, taken out, put in or taken from another sample."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["bit", "byte", "cut", "insert", "splice", "end"])):
            case "bit" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "byte" if place < len(data):
                data[place] = draw(st.sampled_from([0, 0x7F, 0x80, 0xC0, 0xC1, 0xC7, 0xD9, 0xDC, 0xDF, 0xFF]))
            case "cut":
                del data[place : place + draw(st.integers(1, 9))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=6))
            case "splice":
                other = draw(st.sampled_from(samples))
                start = draw(st.integers(0, len(other)))
                data[place : place + 8] = other[start : start + draw(st.integers(1, 30))]
            case _:
                del data[place:]
    return bytes(data)


def _is_of_its_own(name: str, data: bytes) -> None:
    decoder = decoders()[name]
    with contextlib.suppress(decoder.errors):
        decoder.decode(data)


@pytest.mark.parametrize("name", sorted(decoders()))
def test_its_samples_are_read(name: str) -> None:
    """What a decoder is made for passes: else the tests below would show nothing."""
    for sample in decoders()[name].samples[:2]:
        if name not in ("a block", "a forged block", "the head", "an index entry", "an event"):
            decoders()[name].decode(sample)


@pytest.mark.parametrize("name", sorted(decoders()))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_changed_bytes_raise_what_is_documented(name: str, data: st.DataObject) -> None:
    """Samples that were changed here and there."""
    _is_of_its_own(name, data.draw(mutations(decoders()[name].samples)))


@pytest.mark.parametrize("name", sorted(decoders()))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=200))
def test_any_bytes_raise_what_is_documented(name: str, data: bytes) -> None:
    """Bytes of any kind."""
    _is_of_its_own(name, data)


@pytest.mark.parametrize("name", sorted(decoders()))
def test_deep_and_huge_structures_raise_what_is_documented(name: str) -> None:
    """Nesting without end, and lengths that no memory holds."""
    for data in [*DEEP, *HUGE]:
        _is_of_its_own(name, data)
        for sample in decoders()[name].samples[:1]:
            _is_of_its_own(name, sample[: len(sample) // 2] + data)


def test_a_decoder_that_raises_something_else_is_found() -> None:
    """The tests above can fail: a decoder that may raise nothing does raise, for some changed sample."""
    decoder = decoders()["a line of an export"]._replace(errors=())
    found = []

    @settings(max_examples=50, deadline=None, database=None)
    @given(mutations(decoder.samples))
    def look(data: bytes) -> None:
        try:
            decoder.decode(data)
        except Exception as error:
            found.append(error)

    look()
    assert found


def test_a_forged_block_takes_no_memory_for_what_it_says() -> None:
    """A compressed block that says it is larger than memory is an error of ours, before memory is taken for it."""
    decoder = decoders()["a forged block"]
    sealed = next(sample for sample in decoder.samples if read_header(sample).flags)
    frame = bytes.fromhex("28b52ffde0") + (1 << 60).to_bytes(8, "little") + bytes.fromhex("010000")
    with pytest.raises(Corrupted, match="larger than blocks are"):
        decoder.decode(sealed[: read_header(sealed).start] + frame)


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install atheris")
def test_atheris_finds_nothing() -> None:
    """Guided by coverage, for LEDGER_FUZZ_SECONDS (300 unless set)."""
    done = subprocess.run(program("fuzz", FUZZ_SECONDS), capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert runs
    assert int(runs[1]) > 1000
    print(f"{runs[1]} inputs in {FUZZ_SECONDS} s")
