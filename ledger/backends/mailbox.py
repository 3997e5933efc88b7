"""The mailbox: where processes that wait to write leave what they want done, for the one that holds the write gate.

It lies behind the gate's stamp in ``open.lock``: a byte for each of 64 slots that says how it stands, and from 4,096 on
what is in them. It is no part of the log; nothing in it counts that is not committed.

========  ==================================================  ==================================
state     meaning                                             who changes it, and into what
========  ==================================================  ==================================
EMPTY     nothing is asked                                    the owner: POSTED
POSTED    a request lies there                                the owner: EMPTY; a holder: TAKEN, or
                                                              EMPTY when it is too old
TAKEN     whoever holds the gate, or held it, works on it     that one: ANSWERED; the owner: EMPTY
ANSWERED  it was committed, or declined                       the owner: EMPTY
========  ==================================================  ==================================

A process owns a slot by a lock on one byte of the file, which ends with it. A second byte's lock makes one step of "POSTED, so
TAKEN" and of "POSTED, so EMPTY", for an owner that gives up while it does not hold the gate. Both are locks of the open file
(Linux); elsewhere there is no mailbox, and everyone waits for the gate. A request that is older than an owner would let it lie
is that of one that was killed or stopped: it is thrown away, and not done.

An owner sleeps on a socket, where it is woken when it has an answer, or is the next to take the gate. Nothing depends on
that: who hears nothing (a process in another network namespace) looks by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import sys
import time
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from pathlib import Path

EMPTY, POSTED, TAKEN, ANSWERED = range(4)
SLOTS = 64
_COMPANY_AT, _STATES_AT = 63, 64
HEADER_BYTES = _STATES_AT + SLOTS
_CONTENT_AT, _SLOT_BYTES = 4096, 8192
_FRAME = struct.Struct(">QII")  # monotonic clock in ns (of one machine, and one boot); length and CRC-32 of what follows
MOST_BYTES = _SLOT_BYTES - _FRAME.size
_OWNERS_AT, _STEPS_AT = 1 << 40, 1 << 41  # bytes beyond any content, which are locked and never written

LOOK_SECONDS = 2e-4  # a commit takes several times as long
_OLDEST_NS = 100_000_000  # several times as long as the gate lets a request lie
_GATHER_SECONDS = 2e-4  # half of what a commit takes
_FLOCK = struct.Struct("hhqqi4x")  # of 64-bit Linux: type, whence, start, length, process
IS_SUPPORTED = sys.platform == "linux" and sys.maxsize > 2**32 and hasattr(fcntl, "F_OFD_SETLK")


class Mailbox:
    """One process's part in the mailbox of a ledger. ``post``, ``answer`` and ``withdraw`` are for one thread at a time."""

    def __init__(self, path: Path | None) -> None:
        self._fd, self._slot = -1, -1
        self._map: mmap.mmap | None = None
        self._bell: socket.socket | None = None  # where this process is woken, and wakes others from
        self._has_bell = False
        if path is None or not IS_SUPPORTED:
            return
        try:
            self._fd = os.open(path, os.O_RDWR)  # of its own: closing it must let go of no other lock
            size = os.fstat(self._fd).st_size
            if size < HEADER_BYTES:
                os.pwrite(self._fd, bytes(HEADER_BYTES - size), size)  # a map of a hole would need room on the disk later
            self._map = mmap.mmap(self._fd, HEADER_BYTES)
        except (OSError, ValueError):  # a full disk, or no right to write: then everyone waits for the gate
            self.close()

    # ------------------------------------------------------------------------------------------------- waiting

    def post(self, content: bytes) -> bool:
        """Leave a request; say whether it lies there now."""
        if self._map is None or len(content) > MOST_BYTES or not self._own_slot() or self._state() == TAKEN:
            return False  # somebody still works on an earlier request, whose owner was interrupted
        try:
            self._write(self._slot, content)
        except OSError:
            return False
        self._map[_STATES_AT + self._slot] = POSTED
        return True

    def answer(self) -> bytes | None:
        """Return the answer when there is one, empty when it is damaged, and make room for the next request."""
        if self._state() != ANSWERED:
            return None
        content = self._read(self._slot)
        self._empty()
        return content or b""

    def take_over(self) -> bool:
        """Take the request back, as the holder of the gate; say whether another holder may have committed it."""
        was_taken = self._state() in (TAKEN, ANSWERED)
        self._empty()
        return was_taken

    def withdraw(self) -> bool:
        """Take the request back without holding the gate; say no when somebody works on it, or has answered."""
        if not self._lock(_STEPS_AT + self._slot):
            return False
        try:
            if self._state() in (TAKEN, ANSWERED):
                return False
            self._empty()
            return True
        finally:
            self._unlock(_STEPS_AT + self._slot)

    def wait(self, seconds: float) -> None:
        """Sleep until somebody wakes this process, or the time is over; without a bell, not for long."""
        if not self._has_bell or self._bell is None:
            time.sleep(min(seconds, LOOK_SECONDS))
            return
        self._bell.settimeout(seconds)
        with contextlib.suppress(OSError):  # the time is over
            self._bell.recv(1)

    def _own_slot(self) -> bool:
        if self._slot < 0:
            self._slot = next((slot for slot in range(SLOTS) if self._lock(_OWNERS_AT + slot)), -1)
            if self._slot >= 0:
                self._empty()
                self._hang_bell()
        return self._slot >= 0

    def _state(self) -> int:
        assert self._map is not None
        return self._map[_STATES_AT + self._slot]

    def _empty(self) -> None:
        assert self._map is not None
        self._map[_STATES_AT + self._slot] = EMPTY

    # ------------------------------------------------------------------------------------------------- holding

    def take(self) -> list[tuple[int, bytes]]:
        """Take all requests that lie there: their slots and what they ask. For the holder of the gate."""
        if self._map is None:
            return []
        if self._slot >= 0:  # what an interrupted thread of this process has left: nobody works on it any more
            self._empty()
        states = self._gathered()
        if POSTED not in states:
            return []
        taken = []
        for slot in (slot for slot, state in enumerate(states) if state == POSTED):
            if self._lock(_STEPS_AT + slot):
                try:
                    if self._map[_STATES_AT + slot] == POSTED:
                        content = self._read(slot, time.monotonic_ns() - _OLDEST_NS)
                        self._map[_STATES_AT + slot] = EMPTY if content is None else TAKEN
                        taken += [] if content is None else [(slot, content)]
                finally:
                    self._unlock(_STEPS_AT + slot)
        return taken

    def _gathered(self) -> bytes:
        """Return the states when as many wait as did before, or a moment has passed: one commit for all takes less than two."""
        assert self._map is not None
        states = self._map[_STATES_AT:HEADER_BYTES]
        company = self._map[_COMPANY_AT]
        until = time.monotonic() + _GATHER_SECONDS
        while states.count(POSTED) + 1 < company and time.monotonic() < until:
            time.sleep(_GATHER_SECONDS / 4)
            states = self._map[_STATES_AT:HEADER_BYTES]
        return states

    def note_company(self, committed: int) -> None:
        """Take note of how many write at present: so many that have just committed together, and those that wait already."""
        if self._map is not None:
            company = committed + self._map[_STATES_AT:HEADER_BYTES].count(POSTED)
            if self._map[_COMPANY_AT] != company:
                self._map[_COMPANY_AT] = company

    def give(self, slot: int, answer: bytes) -> None:
        """Answer a request that was taken, after the commit, with the gate still held."""
        assert self._map is not None
        try:
            self._write(slot, answer)
        except OSError:
            return  # its owner finds out by the append id
        self._map[_STATES_AT + slot] = ANSWERED
        self._wake(slot)

    def wake_next(self) -> None:
        """Wake one whose request came too late to be taken: the gate is free."""
        if self._map is None:
            return
        slot = self._map.find(bytes([POSTED]), _STATES_AT, HEADER_BYTES)
        if slot >= 0:
            self._wake(slot - _STATES_AT)

    # -------------------------------------------------------------------------------------------------- bell

    def _hang_bell(self) -> None:
        bell = self._open_bell()
        if bell is not None:
            with contextlib.suppress(OSError):  # an owner before this one has not let go of it yet: this one looks by itself
                bell.bind(self._address(self._slot))
                self._has_bell = True

    def _open_bell(self) -> socket.socket | None:
        if self._bell is None:
            import socket  # here: most processes wait for nobody

            with contextlib.suppress(OSError):
                self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._bell.setblocking(False)
        return self._bell

    def _wake(self, slot: int) -> None:
        bell = self._open_bell()
        if bell is not None:
            with contextlib.suppress(OSError):  # it has none, or was woken often enough
                bell.settimeout(0.0)
                bell.sendto(b"!", self._address(slot))

    def _address(self, slot: int) -> str:
        """Return a name that takes no file: that of the mailbox and the slot."""
        stat = os.fstat(self._fd)
        return f"\0ledger/{stat.st_dev}/{stat.st_ino}/{slot}"

    # -------------------------------------------------------------------------------------------------- file

    def _write(self, slot: int, content: bytes) -> None:
        frame = _FRAME.pack(time.monotonic_ns(), len(content), zlib.crc32(content))
        os.pwrite(self._fd, frame + content, _CONTENT_AT + slot * _SLOT_BYTES)

    def _read(self, slot: int, since: int = 0) -> bytes | None:
        """Return what is in a slot; None for what is damaged, or was written before that time."""
        data = os.pread(self._fd, _SLOT_BYTES, _CONTENT_AT + slot * _SLOT_BYTES)
        if len(data) < _FRAME.size:
            return None
        written_at, size, check = _FRAME.unpack_from(data)
        content = data[_FRAME.size : _FRAME.size + size]
        is_whole = len(content) == size and zlib.crc32(content) == check
        return content if is_whole and written_at >= since else None

    def _lock(self, byte: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        except OSError:  # another process has it, or the file system has no such locks
            return False
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))

    def close(self) -> None:
        """Leave the mailbox; in a forked child, too, which has inherited what is open."""
        if self._bell is not None:
            self._bell.close()
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
