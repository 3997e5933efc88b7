"""Content: files, directories and objects on their way into blobs."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ledger.artifacts.blobs import Saving
from ledger.artifacts.formats import Saver
from ledger.artifacts.manifest import Entry, entry_line, first_line
from ledger.artifacts.reading import PIECE_BYTES
from ledger.artifacts.savers import write_object
from ledger.caller import warn_caller
from ledger.errors import ArtifactChanged, InvalidValue

_SAMPLES, _SAMPLE_BYTES = 8, 64 << 10

Progress = Callable[[int, int], None]


class Content(NamedTuple):
    """What was saved: ``digest`` of the content or of the manifest, ``size`` in bytes, the number of ``files``."""

    digest: str
    size: int
    kind: str
    files: int = 0


class Counter:
    """Tell the progress over one or many files."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))


def kind_of(path: Path) -> str:
    """Return ``file`` or ``directory``; raises InvalidValue for what is neither, or is not there."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidValue(f"there is no file at {path}. Check the path.") from error
    except (OSError, ValueError) as error:
        raise InvalidValue(f"{str(path)!r} cannot be looked at: {error}.") from error
    if stat.S_ISDIR(mode):
        return "directory"
    if not stat.S_ISREG(mode):
        raise InvalidValue(f"{path} is neither a file nor a directory (a pipe, a socket or a device). Save what comes out of it.")
    return "file"


def save_object(saving: Saving, saver: Saver, value: object, what: str) -> Content:
    """Save what the saver makes of a value, as it makes it."""
    with saving.writing() as writer:
        buffered = io.BufferedWriter(writer, PIECE_BYTES)
        try:
            write_object(saver, value, cast("BinaryIO", buffered), what)
        finally:
            buffered.detach()  # flushes; the writer is closed by its own block
    return Content(writer.digest, writer.size, "object")


def save_file(saving: Saving, path: Path, progress: Progress | None) -> Content:
    """Save a file."""
    size = path.stat().st_size
    entry = _save(saving, path, "", Counter(progress, size))
    return Content(entry.digest, entry.size, "file")


def save_directory(saving: Saving, path: Path, progress: Progress | None) -> Content:
    """Save a directory: every file in it, and a manifest of them.

    Symbolic links are kept as links; InvalidValue for one that leads out of the directory, and for pipes and the like.
    """
    top = Path(os.path.realpath(path))
    place = Path(os.path.realpath(saving.store.directory))
    if place.is_relative_to(top):
        raise InvalidValue(f"{path} has the ledger itself in it ({place.parent}). Save a directory without it.")
    total = sum(each.stat().st_size for _, each in _walk(top, "") if each.is_file(follow_symlinks=False))
    counter = Counter(progress, total)
    size = files = 0
    manifest = [first_line()]
    for relative, each in _walk(top, ""):
        if each.is_symlink():
            entry = Entry(relative, link=_link(top, each))
        elif each.is_dir():
            entry = Entry(relative)
        elif each.is_file():
            entry = _save(saving, Path(each.path), relative, counter)
            size, files = size + entry.size, files + 1
        else:
            raise InvalidValue(f"{each.path} is neither a file, a directory nor a link; it cannot be saved. Take it out.")
        manifest.append(entry_line(entry))
    with saving.writing() as writer:
        for line in manifest:
            writer.write(line)
    return Content(writer.digest, size, "directory", files)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield what is below a folder, in order of the paths: files, links, and directories that are empty."""
    for each in sorted(os.scandir(folder), key=lambda entry: entry.name):
        relative = prefix + each.name
        if not each.is_dir(follow_symlinks=False):
            yield relative, each
            continue
        is_empty = True
        for found in _walk(Path(each.path), relative + "/"):
            is_empty = False
            yield found
        if is_empty:
            yield relative, each


def _link(top: Path, each: os.DirEntry[str]) -> str:
    target = os.readlink(each.path)
    leads_to = Path(os.path.realpath(each.path))
    if os.path.isabs(target) or not leads_to.is_relative_to(top):
        raise InvalidValue(
            f"{each.path} is a link that leads to {target}, outside of what is saved. Put the file itself there, or log it as an "
            "artifact of its own."
        )
    return target


def _save(saving: Saving, path: Path, relative: str, counter: Counter) -> Entry:
    """Save one file as far as it goes when it is opened; what is appended meanwhile is not waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise InvalidValue(f"{path} has gone while it was being saved; nothing was recorded. Log it again.") from error
    try:
        before = os.fstat(fd)
        left = before.st_size or (1 << 62)  # what the system makes up while it is read (/proc) has no size
        with saving.writing(_sample(fd, before.st_size)) as writer:
            while left:
                count = writer.copy_from(fd, left)
                if not count:
                    break
                left -= count
                counter.add(count)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        warn_caller(
            ArtifactChanged(
                f"{path} was written to while it was saved; the artifact has the {writer.size:,} bytes that were read."
            )
        )
    return Entry(relative, writer.digest, writer.size, stat.S_IMODE(before.st_mode))


def _sample(fd: int, size: int) -> bytes:
    """Return pieces from all over a file; nothing of a small one, which is judged as a whole."""
    if size <= _SAMPLES * _SAMPLE_BYTES:
        return b""
    step = (size - _SAMPLE_BYTES) // (_SAMPLES - 1)
    return b"".join(os.pread(fd, _SAMPLE_BYTES, number * step) for number in range(_SAMPLES))
