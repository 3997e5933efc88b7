"""The typer application: how commands are declared, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer
import typer.core

from ledger.cli.output import printable
from ledger.errors import CommandRefused, Corrupted, InvalidQuery, InvalidValue, LedgerError, OpenError

F = TypeVar("F", bound=Callable[..., Any])

OK, NO, USAGE, NOT_OPENED, REFUSED, CORRUPTED, NOT_WRITTEN, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130

_EXIT_CODES = """\b
Exit codes:
  0    done (also when the reader of the output stops reading)
  1    the ledger's answer is no: nothing to claim, verify found damage, doctor a problem, a trial of a worker FAILED;
       or an import skipped all there was
  2    wrong usage, or a value that cannot be
  3    the ledger could not be opened
  4    refused: no such experiment or trial, or its state forbids it; another study has the name
  5    stored bytes fail their check; nothing of them was shown
  6    could not write: disk full, write lock held by another process, output not writable
  130  interrupted (Ctrl-C; a worker also by SIGTERM)

\b
Example:
  ledger demo
"""

#: The order of the commands in --help: first what a newcomer needs; those not listed come after.
_ORDER = (
    "demo", "init", "info", "experiments", "trials", "configs", "groups", "metrics", "status-history", "changes", "query", "plot",
    "dashboard", "show", "history", "diff", "capture", "tail", "artifacts",
    "add", "run", "worker", "logs", "claim", "renew", "finish", "release", "requeue", "cancel", "pause",
    "note", "tag", "amend", "delete", "seal", "redact", "verify", "checkpoint",
    "export", "import", "merge", "backup", "restore", "compact", "gc", "doctor",
)  # fmt: skip


class LedgerGroup(typer.core.TyperGroup):
    """The group of all commands; turns what they raise into one plain line and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the commands in the order of ``_ORDER``."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit with the code of its error, if any."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a reader that is gone can still be answered quietly
            return result
        except InvalidQuery as error:  # with the query below it, and a mark where it is wrong
            raise fail(str(error), exit_code(error), keeps_lines=True) from error
        except LedgerError as error:
            raise fail(str(error), exit_code(error)) from error
        except BrokenPipeError:
            _let_go_of_stdout()
            raise typer.Exit(OK) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            raise fail(str(error), NOT_WRITTEN) from error


def exit_code(error: LedgerError) -> int:
    """Return the exit code that stands for the error.

    >>> exit_code(CommandRefused("no")), exit_code(OpenError("no")), exit_code(LedgerError("no"))
    (4, 3, 6)
    """
    codes = (
        (OpenError, NOT_OPENED), (CommandRefused, REFUSED), (InvalidValue, USAGE), (InvalidQuery, USAGE), (Corrupted, CORRUPTED)
    )  # fmt: skip
    return next((code for kind, code in codes if isinstance(error, kind)), NOT_WRITTEN)


def fail(message: str, code: int, *, keeps_lines: bool = False) -> typer.Exit:
    """Print the error, as one line unless it keeps its own, and return the exit to raise."""
    lines = message.split("\n") if keeps_lines else [message]
    print("error: " + "\n".join(map(printable, lines)), file=sys.stderr)
    return typer.Exit(code)


def program_name() -> str:
    """Return how this program was called, as a person would type it again."""
    if sys.argv[0].endswith("__main__.py"):
        return "python -m ledger"
    found = shutil.which("ledger")
    if found is not None and os.path.exists(sys.argv[0]) and os.path.samefile(found, sys.argv[0]):
        return "ledger"
    return sys.argv[0]  # an environment that is not activated


def _let_go_of_stdout() -> None:
    """Point standard output at nothing, so that the flush at exit cannot fail a second time."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, sys.stdout.fileno())
    finally:
        os.close(devnull)


app = typer.Typer(
    name="ledger",
    cls=LedgerGroup,
    help="Keep experiments as an append-only log of events, and read every table from it.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: the same in a terminal, a pager and a bug report
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(*examples: str, name: str | None = None) -> Callable[[F], F]:
    """Declare a command, with the examples that close its help."""
    title = "Example:" if len(examples) == 1 else "Examples:"
    epilog = "\b\n" + "\n".join([title, *(f"  {example}" for example in examples)])
    return app.command(name=name, epilog=epilog)


def _version(value: bool) -> None:
    if value:
        import ledger

        print(f"experiment-ledger {ledger.__version__}")
        raise typer.Exit(OK)


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version and exit."),
) -> None:
    """Keep experiments as an append-only log of events, and read every table from it."""
