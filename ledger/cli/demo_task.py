"""The demo's work: what is compressed, with which parameters, and one trial of it.

Everything here is a function of the Python installation and the seed, so that a demo that was killed goes on with the
same trials.
"""

from __future__ import annotations

import hashlib
import os
import platform
import random
import sysconfig
import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from ledger.errors import CommandRefused
from ledger.trial import Trial

STEPS = 8
_CORPUS_BYTES = 6_000_000
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}
_STRATEGIES = {
    "fast": zstandard.STRATEGY_FAST, "dfast": zstandard.STRATEGY_DFAST, "greedy": zstandard.STRATEGY_GREEDY,
    "lazy": zstandard.STRATEGY_LAZY, "lazy2": zstandard.STRATEGY_LAZY2, "btlazy2": zstandard.STRATEGY_BTLAZY2,
    "btopt": zstandard.STRATEGY_BTOPT, "btultra": zstandard.STRATEGY_BTULTRA, "btultra2": zstandard.STRATEGY_BTULTRA2,
}  # fmt: skip

#: What everybody uses: the library's default level, everything else left to it.
BASELINE: dict[str, Any] = {"level": 3}
BASELINE_TRIAL = 1  # the number of its trial


class Corpus(NamedTuple):
    """What is compressed, and what is recorded about it."""

    data: bytes
    files: int
    sha256: str

    def describe(self) -> dict[str, Any]:
        """Return what the ledger keeps of the corpus."""
        return {"corpus_files": self.files, "corpus_bytes": len(self.data), "corpus_sha256": self.sha256}


def load_corpus(root: str | None = None) -> Corpus:
    """Read source files of the Python standard library, in order of their names, up to 6 MB.

    Raises CommandRefused where the library has no source files.
    """
    place = Path(root or sysconfig.get_paths()["stdlib"])
    parts: list[bytes] = []
    size = 0
    for file in _sources(place):
        content = file.read_bytes()
        if size + len(content) > _CORPUS_BYTES:
            break
        parts.append(content)
        size += len(content)
    if not size:
        raise CommandRefused(f"there are no Python source files in {place} to compress. Run the demo with a full Python.")
    data = b"".join(parts)
    return Corpus(data, len(parts), hashlib.sha256(data).hexdigest())


def _sources(place: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(place):
        names[:] = sorted(set(names) - _LEFT_OUT)
        yield from (Path(directory, name) for name in sorted(files) if name.endswith(".py"))


def describe_environment(corpus: Corpus) -> dict[str, Any]:
    """Return what the experiment runs in."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "zstandard": zstandard.__version__,
        "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
        **corpus.describe(),
    }


def configs(seed: int, count: int) -> list[dict[str, Any]]:
    """Return the first ``count`` configs of the seed's sequence; the baseline is the first of every one.

    >>> configs(1, 3) == configs(1, 5)[:3], configs(1, 2) == configs(2, 2)
    (True, False)
    """
    return list(islice(_sequence(seed), count))


def _sequence(seed: int) -> Iterator[dict[str, Any]]:
    yield BASELINE
    source = random.Random(seed)
    names = list(_STRATEGIES)
    while True:
        window_log = source.randint(17, 24)
        config: dict[str, Any] = {
            "level": source.randint(1, 19),
            "strategy": source.choice(names),
            "window_log": window_log,
            "hash_log": source.randint(14, 22),
            "chain_log": source.randint(14, min(22, window_log)),
            "search_log": source.randint(1, 6),
            "enable_ldm": source.random() < 0.3,
        }
        yield config


def parameters(config: dict[str, Any], size: int) -> zstandard.ZstdCompressionParameters:
    """Return zstd's parameters for a config; raises what zstd raises when it refuses them."""
    values = {key: value for key, value in config.items() if key not in ("level", "strategy")}
    if "strategy" in config:
        values["strategy"] = _STRATEGIES[config["strategy"]]
    return zstandard.ZstdCompressionParameters.from_level(config["level"], source_size=size, **values)


def run_trial(trial: Trial, corpus: Corpus, check: Callable[[], None]) -> dict[str, Any]:
    """Compress the corpus step by step and log each, decompress it, and return the results.

    ``check`` is called between the steps, to end the work early by raising.
    """
    size = len(corpus.data)
    compressor = zstandard.ZstdCompressor(compression_params=parameters(trial.config, size)).compressobj(size=size)
    compressed = bytearray()
    seconds = 0.0
    edges = [size * step // STEPS for step in range(STEPS + 1)]
    for step, (start, end) in enumerate(pairwise(edges), start=1):
        check()
        chunk = corpus.data[start:end]
        begun = time.perf_counter()
        compressed += compressor.compress(chunk)
        last = step == STEPS
        compressed += compressor.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH if last else zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        seconds += time.perf_counter() - begun
        trial.log(step=step, ratio=end / len(compressed), compress_mb_s=end / 1e6 / seconds)
    check()
    begun = time.perf_counter()
    restored = zstandard.ZstdDecompressor().decompress(bytes(compressed), max_output_size=size)
    decompress_seconds = time.perf_counter() - begun
    if restored != corpus.data:
        raise ValueError("what was decompressed is not what was compressed")
    return {
        "ratio": round(size / len(compressed), 4),
        "compress_mb_s": round(size / 1e6 / seconds, 2),
        "decompress_mb_s": round(size / 1e6 / decompress_seconds, 1),
        "compressed_bytes": len(compressed),
    }
