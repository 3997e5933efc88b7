"""Backups in one file: a tar stream, compressed by zstandard when the name says so.

Reading one takes from it what a backup holds, under the names that a backup has, and refuses everything else.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import zstandard

from ledger.errors import InvalidValue, NotALedger

_SUFFIXES = (".tar", ".tar.zst")
#: Names that promise another form; a directory under one of them would only mislead.
_OTHER_FORMS = re.compile(r"\.(tgz|tbz2?|txz|tzst|tar\.\w+|zip|7z|rar|gz|bz2|xz|zst)$", re.IGNORECASE)
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_LEVEL = 3  # blocks are compressed already; the rest is small
_PIECE = 1 << 20
#: What a backup holds: the log, its doorbell, and artifacts under names without a way out.
_MEMBER = re.compile(r"(data\.mdb|head|blobs(/[A-Za-z0-9][A-Za-z0-9._-]*)+)")


def is_archive_name(path: Path) -> bool:
    """Say whether a backup of this name is one file; raises InvalidValue for the name of another form of file.

    >>> is_archive_name(Path("a.tar.zst")), is_archive_name(Path("a.tar")), is_archive_name(Path("runs-monday"))
    (True, True, False)
    """
    if path.name.endswith(_SUFFIXES):
        return True
    other = _OTHER_FORMS.search(path.name)
    if other is not None:
        raise InvalidValue(
            f"a backup is a directory, or one file whose name ends in .tar or .tar.zst; {path.name!r} ends in {other[0]!r}. "
            "Give another name."
        )
    return False


def pack(directory: Path, file: Path, *, is_compressed: bool) -> None:
    """Write the files below the directory into a new archive, put it on disk, and compare what it holds with them."""
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    names.sort(key=lambda name: (name == "head", name != "data.mdb"))  # the log first; the head ends it, and proves that
    digests = {}
    with open(file, "xb") as raw:
        with _compressing(raw, is_compressed) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = (directory / name).stat().st_size
                info.mtime = int((directory / name).stat().st_mtime)
                with open(directory / name, "rb") as source:
                    hashing = _Hashing(source)
                    tar.addfile(info, hashing)
                digests[name] = hashing.digest()
        raw.flush()
        os.fsync(raw.fileno())
    found = {}
    for name, source in members(file):
        hashing = _Hashing(source)
        while hashing.read(_PIECE):
            pass
        found[name] = hashing.digest()
    if found != digests:
        raise OSError(f"{file.name} was written, but holds something else when it is read again: the disk is not to be trusted")


class _Hashing:
    """A file that remembers the hash of what was read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._hash.update(piece)
        return piece

    def digest(self) -> bytes:
        return self._hash.digest()


@contextmanager
def _compressing(raw: IO[bytes], is_compressed: bool) -> Iterator[Any]:
    if not is_compressed:
        yield raw
        return
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
    with compressor.stream_writer(raw, closefd=False) as stream:
        yield stream


def unpack(file: Path, directory: Path, check_room: Callable[[int], None]) -> None:
    """Take the files of a backup out of an archive, into an empty directory.

    ``check_room`` is called with the size of each file before it is written. Raises NotALedger, naming what is wrong, for
    anything but a whole archive of a backup.
    """
    seen = set()
    for name, source in members(file):
        seen.add(name)
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        check_room(source.size)
        with open(target, "xb") as made:
            while piece := source.read(_PIECE):
                made.write(piece)
    for name in ("data.mdb", "head"):  # tarfile takes a damaged header for the end of the archive
        if name not in seen:
            raise NotALedger(
                f"{file} is not a whole backup of a ledger: there is no {name} in it. Give another one that `ledger backup` made."
            )


class _Member:
    """A file in an archive, to be read to its end."""

    def __init__(self, archive: Path, file: IO[bytes], size: int) -> None:
        self._archive = archive
        self._file = file
        self.size = self._left = size

    def read(self, size: int) -> bytes:
        with _telling_of_damage(self._archive):
            piece = self._file.read(min(size, self._left))
            self._left -= len(piece)
            if not piece and self._left:
                raise tarfile.ReadError("unexpected end of data")
        return piece


@contextmanager
def _telling_of_damage(file: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zstandard.ZstdError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise NotALedger(
            f"{file} is not a whole backup of a ledger: {error or 'it ends too early'}. It is damaged, cut short, or "
            "something else; give another file that `ledger backup` made."
        ) from error


def members(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the names and contents of an archive's files; raises NotALedger when it is none, or is not whole."""
    names: set[str] = set()
    with (
        _telling_of_damage(file),
        open(file, "rb") as raw,
        _decompressing(raw) as (stream, mode),
        tarfile.open(fileobj=stream, mode=mode) as tar,
    ):
        for info in tar:
            if info.isdir() and (info.name + "/x").startswith("blobs/"):
                continue
            if not info.isreg() or not _MEMBER.fullmatch(info.name) or info.name in names:
                raise NotALedger(
                    f"{file} is not a backup of a ledger: {info.name!r} is in it, which no backup holds (or not twice). "
                    "Give the file that `ledger backup` made."
                )
            names.add(info.name)
            content = tar.extractfile(info)
            assert content is not None  # regular files have one
            yield info.name, _Member(file, content, info.size)


@contextmanager
def _decompressing(raw: IO[bytes]) -> Iterator[tuple[Any, Any]]:
    """Yield the stream of the tar and the mode to open it with, whatever the file is called."""
    magic = raw.read(len(_ZSTD_MAGIC))
    raw.seek(0)
    if magic != _ZSTD_MAGIC:
        yield raw, "r|*"  # somebody may have compressed it otherwise since
        return
    with zstandard.ZstdDecompressor().stream_reader(raw, closefd=False) as stream:
        yield stream, "r|"
