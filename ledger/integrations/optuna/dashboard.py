"""optuna-dashboard on a ledger: its pages show the ledger's studies, and what is edited there is an event with an actor."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ledger.errors import InvalidValue
from ledger.identity import default_actor
from ledger.integrations.optuna.artifact_store import LedgerArtifactStore
from ledger.integrations.optuna.storage import LedgerStorage
from ledger.session import Ledger

_REQUEST_SECONDS = 20  # what a client that says nothing may hold up the end


def dashboard_actor() -> str:
    """Return the actor of what is edited in the dashboard: ``dashboard (user@host)``, who runs it.

    >>> dashboard_actor().startswith("dashboard (")
    True
    """
    return f"dashboard ({default_actor().rpartition('/')[0]})"


class DashboardServer(ThreadingMixIn, WSGIServer):
    """Answer each request in a thread of its own; closing waits for those that are being answered."""

    daemon_threads = False

    @property
    def url(self) -> str:
        """The address of its first page."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/dashboard"


class _Server6(DashboardServer):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing of requests; the log has the edits."""


@contextmanager
def dashboard_server(book: Ledger, host: str = "127.0.0.1", port: int = 8080) -> Iterator[DashboardServer]:
    """Yield the server of optuna-dashboard on a ledger, listening at host and port (0: any that is free).

    ``serve_forever`` answers requests. Whoever reaches the address may read, edit and delete studies: there is no log-in.
    ``dashboard_actor`` is a name for the actor to open the ledger with.

    Raises InvalidValue when optuna-dashboard is not installed, and when it cannot listen at the address.
    """
    application = dashboard_application()
    with ExitStack() as stack:
        storage = stack.enter_context(closing(LedgerStorage(book)))
        app = application(storage, artifact_store=stack.enter_context(LedgerArtifactStore(book)))
        try:
            server = make_server(host, port, app, _Server6 if ":" in host else DashboardServer, _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise InvalidValue(f"cannot listen at {host}, port {port}: {why}. Give another --host or --port.") from error
        with server:
            yield server


def dashboard_application() -> Any:
    """Return the function that makes optuna-dashboard's application; InvalidValue when it is not installed."""
    try:
        from optuna_dashboard import wsgi
    except ModuleNotFoundError as error:
        raise InvalidValue(
            f"the dashboard needs optuna-dashboard ({error.name} is not installed): pip install 'experiment-ledger[dashboard]'."
        ) from None
    return wsgi
