"""Output of a program: into a file as it comes, within a bound that keeps its beginning and its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ledger.worker.results import TAIL_BYTES

#: Told of each piece of output as it comes, and of its end by an empty one.
Show = Callable[[bytes], None]


class OutputFile:
    """One stream of a program's output: the first ``most_bytes`` as they come, and of the rest the end, at the end.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     out = OutputFile(Path(place) / "stdout.txt", most_bytes=4)
    ...     out.write(b"abcdef")
    ...     out.close()
    ...     (Path(place) / "stdout.txt").read_bytes()
    b'abcd\\n[ledger: output beyond 4 bytes is left out but for its end, which follows when the program has ended]\\nef'
    """

    def __init__(self, path: Path, most_bytes: int, show: Show | None = None) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._most_bytes, self._show = most_bytes, show
        self._size = 0  # all that came
        self._end = bytearray()  # of what is beyond the bound

    def write(self, data: bytes) -> None:
        """Take what the program has written."""
        room = max(self._most_bytes - self._size, 0)
        self._size += len(data)
        if room:
            _write(self._fd, data[:room])
        if len(data) > room:
            if not self._end:
                note = (
                    f"\n[ledger: output beyond {self._most_bytes:,} bytes is left out but for its end, "
                    "which follows when the program has ended]\n"
                )
                _write(self._fd, note.encode())
            self._end += data[room:]
            if len(self._end) > 2 * TAIL_BYTES:
                del self._end[:-TAIL_BYTES]
        if self._show is not None:
            self._show(data)

    def close(self) -> None:
        """Write the end of what was too much, and close the file."""
        left_out = self._size - self._most_bytes - len(self._end[-TAIL_BYTES:])
        if self._end and left_out > 0:
            _write(self._fd, f"[ledger: {left_out:,} bytes are left out here; --max-output takes more]\n".encode())
        _write(self._fd, bytes(self._end[-TAIL_BYTES:]))
        os.close(self._fd)
        if self._show is not None:
            self._show(b"")


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def last_lines(path: Path, lines: int = 10, most_bytes: int = 4_096) -> str:
    """Return the last lines of a file, as text whatever its bytes are."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - most_bytes, 0))
        return "\n".join(file.read().decode(errors="backslashreplace").splitlines()[-lines:])
