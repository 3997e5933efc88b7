"""Manifests: what a directory holds, as lines of JSON, kept as a blob like any other.

The first line says ``{"manifest": 1}``. Each further one is of a file, an empty directory or a symbolic link, by its path
below the directory, in order::

    {"path": "model/weights.bin", "digest": "ab12...", "size": 1048576, "mode": 420}
    {"path": "empty"}
    {"path": "latest", "link": "model/weights.bin"}

Directories of equal content have equal manifests: times and owners are not in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ledger.artifacts.blobs import BlobStore
from ledger.errors import Corrupted, UnsupportedFormat

VERSION = 1


class Entry(NamedTuple):
    """One thing in a directory: a file has a digest, a symbolic link a link, an empty directory neither.

    ``path`` is relative, with slashes; ``mode`` has a file's permission bits.
    """

    path: str
    digest: str = ""
    size: int = 0
    mode: int = 0
    link: str = ""


def first_line() -> bytes:
    """Return the line that a manifest begins with."""
    return _line({"manifest": VERSION})


def entry_line(entry: Entry) -> bytes:
    r"""Return the line of an entry.

    >>> entry_line(Entry("a/b.txt", "ab12", 3, 0o644))
    b'{"path": "a/b.txt", "digest": "ab12", "size": 3, "mode": 420}\n'
    """
    if entry.link:
        return _line({"path": entry.path, "link": entry.link})
    content = {"digest": entry.digest, "size": entry.size, "mode": entry.mode} if entry.digest else {}
    return _line({"path": entry.path, **content})


def _line(value: dict[str, Any]) -> bytes:
    import json  # here: `import ledger` need not pay for it

    # Names of files may be any bytes: what is no UTF-8 becomes a lone surrogate, which ASCII can say.
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"


def read_manifest(blobs: BlobStore, digest: str, what: str) -> Iterator[Entry]:
    """Return the entries of a directory, in order; the manifest has proved right before the first one is returned.

    Raises Corrupted for a manifest that is missing, damaged or leads out of the directory, UnsupportedFormat for one of a
    newer version.
    """
    import json

    lines = iter(blobs.read(digest, None, what).splitlines())
    try:
        version = json.loads(next(lines, b"{}"))["manifest"]
        if version != VERSION:
            raise UnsupportedFormat(f"{what} has a manifest of version {version!r}. Upgrade: pip install -U experiment-ledger.")
        entries = [Entry(**json.loads(line)) for line in lines]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Corrupted(f"{what} is no directory: {blobs.place(digest)} is not a manifest ({error}).") from error
    for entry in entries:
        if not is_inside(entry.path):
            raise Corrupted(f"{what} leads out of its directory: its manifest names {entry.path!r}.")
    return iter(entries)


def is_inside(path: Any) -> bool:
    """Say whether the path, of a file in a directory, stays in it.

    >>> is_inside("a/b"), is_inside("../b"), is_inside("/etc"), is_inside("a//b"), is_inside("")
    (True, False, False, False, False)
    """
    return type(path) is str and "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))
