"""What a program that a worker runs is run with: the machine, git in its directory, its command line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

from ledger.capture import environment, git
from ledger.capture.collect import Capture, run_collectors
from ledger.capture.masking import mask_arguments
from ledger.capture.options import CaptureOptions

_MOST_ARGUMENTS, _MOST_ARGUMENT = 1_000, 4_096


def collect_machine(directory: str, options: CaptureOptions) -> dict[str, Capture]:
    """Return environment, graphics processors and the state of git in the directory; guarded as ``collect`` is.

    This process's Python and packages are none of the program's, and left out.
    """
    seconds = options.seconds * 0.8

    def machine() -> dict[str, Any]:
        found = environment.capture_environment(options.variables)
        return {name: value for name, value in found.items() if name != "python"}

    return run_collectors(
        {
            "environment": machine,
            "gpus": lambda: environment.capture_gpus(seconds),
            "git": lambda: git.capture_git([directory], seconds, options.patch_bytes),
        },
        options.seconds,
    )


def collect_command(arguments: Sequence[str], directory: str, options: CaptureOptions) -> dict[str, Capture]:
    """Return the command line of one program, with secrets masked, and where it runs."""

    def command() -> dict[str, Any]:
        shown = [argument[:_MOST_ARGUMENT] for argument in arguments[:_MOST_ARGUMENTS]]
        found = shutil.which(arguments[0], path=os.environ.get("PATH"))
        return {
            "arguments": mask_arguments(shown),
            "executable": found or arguments[0],
            "host": os.uname().nodename,
            "directory": directory,
        }

    return run_collectors({"command": command}, options.seconds)
