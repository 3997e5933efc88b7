"""The command that shows studies in the browser."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from ledger.cli.app import command
from ledger.cli.opening import PathArgument, open_book
from ledger.cli.output import printable
from ledger.errors import InvalidValue


@command("ledger dashboard runs.ledger", "ledger dashboard runs.ledger --host 0.0.0.0 --port 9000")
def dashboard(
    path: PathArgument,
    host: Annotated[
        str, typer.Option(help="The address to listen at; others than this machine's own let others in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at; 0 takes one that is free.")] = 8080,
) -> None:
    """Show studies in the browser, with optuna-dashboard.

    Every experiment with objectives is a study there, its artifacts included. What is edited in the browser (a study created or
    deleted, a trial told its values, a note, an artifact) is an event whose actor is `dashboard (user@host)`: `ledger history`
    shows it. What is uploaded is an artifact of its trial or experiment, and goes along in merges. There is no log-in: whoever
    reaches the address may edit. Ctrl-C ends it.

    Needs the extra `dashboard`.
    """
    from ledger.integrations.optuna.requirement import require

    try:
        require("the dashboard")
        from ledger.integrations.optuna.dashboard import dashboard_actor, dashboard_application, dashboard_server
    except ModuleNotFoundError as error:
        missing = (error.name or "optuna").partition(".")[0]
        raise InvalidValue(
            f"the dashboard needs Optuna ({missing} is not installed): pip install 'experiment-ledger[dashboard]'."
        ) from None
    except ImportError as error:  # an older Optuna
        raise InvalidValue(str(error)) from None
    dashboard_application()  # before anything is opened
    with open_book(path, actor=dashboard_actor()) as book, dashboard_server(book, host, port) as server:
        print(f"{printable(path)} is shown at {server.url} (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):  # the normal end
            server.serve_forever()
