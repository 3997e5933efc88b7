"""Fuzz the decoders with atheris, guided by what code the bytes reach; fails with the bytes that raised what may not be raised.

python fuzz.py SECONDS
"""

from __future__ import annotations

import contextlib
import sys
import warnings

import atheris

with atheris.instrument_imports(include=["ledger"]):
    from tests.torture.decoders import decoders

NAMES = sorted(set(decoders()) - {"an archive"})  # which needs files: too slow for this


def look(data: bytes) -> None:
    """Give the bytes to the decoder that the first of them names."""
    if data:
        decoder = decoders()[NAMES[data[0] % len(NAMES)]]
        with contextlib.suppress(decoder.errors):
            decoder.decode(data[1:])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    samples = [bytes((number,)) + sample for number, name in enumerate(NAMES) for sample in decoders()[name].samples]
    atheris.Setup([sys.argv[0], f"-max_total_time={sys.argv[1]}", "-timeout=10", "-print_final_stats=1"], look)
    for each in samples:
        look(each)
    atheris.Fuzz()
