"""Fuzz the decoders with atheris, guided by what code the bytes reach; fails with the bytes that raised what may not be raised.

python fuzz.py SECONDS
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings


def main(seconds: str) -> None:
    """Fuzz for a time."""
    import atheris  # here: it is not needed to collect this file

    with atheris.instrument_imports(include=["ledger"]):
        from tests.torture.decoders import decoders

    names = sorted(set(decoders()) - {"an archive"})  # which needs files: too slow for this

    def look(data: bytes) -> None:
        """Give the bytes to the decoder that the first of them names."""
        if data:
            decoder = decoders()[names[data[0] % len(names)]]
            with contextlib.suppress(decoder.errors):
                decoder.decode(data[1:])

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as corpus:
        for number, name in enumerate(names):
            for place, sample in enumerate(decoders()[name].samples):
                with open(f"{corpus}/{number}-{place}", "wb") as file:
                    file.write(bytes((number,)) + sample)
        limits = [f"-max_total_time={seconds}", "-timeout=10", "-max_len=4096", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={tempfile.gettempdir()}/", corpus], look)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1])
