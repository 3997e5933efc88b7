"""What is said of captures, in sentences; see ``ledger.cli.prose``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger import events as ev
from ledger.cli.output import printable

if TYPE_CHECKING:
    from ledger.cli.phrases import Setting


def capture_stored(event: ev.CaptureStored, setting: Setting) -> str:
    """Say that something trials run with was kept."""
    return f"kept what trials run with: {printable(event.kind)} {printable(event.digest[:12])}"


def trial_captured(event: ev.TrialCaptured, setting: Setting) -> str:
    """Say what is known of that which a trial runs with."""
    return f"recorded what {setting.it} runs with ({', '.join(map(printable, sorted(event.captures))) or 'nothing'})"


def environment_changed(event: ev.EnvironmentChanged, setting: Setting) -> str:
    """Say what was different from the trial captured before."""
    of = "" if setting.it == "it" else f" of {setting.it}"
    changes = printable(", ".join(event.changes))
    if event.before:
        found = f"found that trial {event.trial}{of} runs with something else than the trial captured before"
        return f"{found}: {changes}" if changes else found
    kinds = ", ".join(map(printable, sorted(event.after)))
    return f"recorded what trials{of} run with, from trial {event.trial} on ({kinds})"
