"""UmaDB: its server on loopback, its Python client."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import umadb

from benchmarks.payload import TYPE, Sample, decode
from benchmarks.rivals.contract import EventStore

_START_SECONDS = 20.0


class Store(EventStore):
    """A client, and the server when this is the process that started it."""

    def __init__(self, directory: Path) -> None:
        self._server, self.address = _start(directory)
        try:
            self._client: Any = _connect(self.address, self._server)
        except BaseException:
            self._server.kill()
            self._server.wait()
            raise

    @classmethod
    def join(cls, address: str) -> Self:
        store = cls.__new__(cls)
        store._server = None  # type: ignore[assignment]  # another process's
        store.address = address
        store._client = umadb.Client(address)
        return store

    def append(self, samples: Sequence[Sample]) -> int:
        events = [umadb.Event(TYPE, each.data, [each.stream]) for each in samples]
        return int(self._client.append(events))

    def read(self, variant: str = "") -> int:
        count = 0
        if variant == "raw":
            for _ in self._client.read():
                count += 1
        else:
            for found in self._client.read():
                decode(found.event.data)
                count += 1
        return count

    def history(self, stream: str) -> int:
        query = umadb.Query([umadb.QueryItem(tags=[stream])])
        return len([decode(found.event.data) for found in self._client.read(query)])

    def follow(self, after: int) -> Iterator[tuple[int, int]]:
        for found in self._client.subscribe(after=after or None):
            yield found.position, decode(found.event.data).step

    def close(self) -> None:
        self._client.close()
        if self._server is not None:
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(10)
            self._server.kill()
            self._server.wait()


def _start(directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sysconfig.get_path("scripts")) / "umadb"
    command = [os.fspath(program)] if program.exists() else [sys.executable, "-c", "import umadb.umadb_server_cli as s; s.main()"]
    with (directory / "server.out").open("wb") as said:
        server = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{port}", "--db-path", os.fspath(directory / "uma.db")],
            stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    return server, f"http://127.0.0.1:{port}"


def _connect(url: str, server: subprocess.Popen[bytes]) -> Any:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            client = umadb.Client(url)
            client.head()
        except Exception:
            # Whatever the client raises while the server is not up yet; a server that died or never comes up is an error.
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return client
