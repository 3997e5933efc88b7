"""The help texts: complete, with examples that work."""

from __future__ import annotations

import re
import shlex
import shutil

import pytest
import typer

from ledger.cli.main import app

COMMANDS = [
    "demo", "init", "info", "experiments", "trials", "configs", "groups", "metrics", "status-history", "changes", "query", "plot",
    "dashboard", "show", "history", "diff", "capture", "tail", "artifacts",
    "add", "run", "worker", "logs", "claim", "renew", "finish", "release", "requeue", "cancel", "pause",
    "note", "tag", "amend", "delete", "seal", "redact", "verify", "checkpoint",
    "export", "import", "merge", "backup", "restore", "compact", "gc", "doctor",
]  # fmt: skip


def test_every_command_is_declared_and_listed_with_what_it_does(invoke):
    """The list of commands in --help is complete, in order, and no line of it is cut short."""
    text = invoke("--help").output
    listed = re.findall(r"^  ([a-z-]+)  +(\S.*)$", text.split("Commands:")[1].split("Exit codes")[0], re.MULTILINE)
    assert [name for name, _ in listed] == COMMANDS == sorted(_declared(), key=COMMANDS.index)
    assert [line for _, line in listed if line.endswith("...")] == []


def _declared() -> list[str]:
    return list(typer.main.get_command(app).commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(invoke, name):
    """Each --help explains the command, each of its options, and closes with an example."""
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Examples?:\n    ledger {name}\b", result.output)
    for option in typer.main.get_command(app).commands[name].params:
        assert option.help or option.name == "help", option.name


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("demo", "dashboard")])
def test_examples_are_valid_usage(invoke, sample, tmp_path, monkeypatch, name):
    """Each example of a --help parses: it is never answered with a usage error."""
    monkeypatch.chdir(tmp_path)
    invoke("export", sample, "--output", "runs.jsonl")  # what the examples are given
    shutil.copytree(sample, "laptop.ledger")
    examples = re.findall(rf"^    (ledger {name} .*)$", invoke(name, "--help").output, re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(re.split(" [<>] ", example)[0])[1:]
        if "-f" in words:
            words.remove("-f")
        result = invoke(*words)
        assert "Usage:" not in result.output, (example, result.output)
        # Trials, columns and files that are not there are answered as such; nothing falls through to a traceback.
        assert result.exit_code in (0, 2, 3, 4), (example, result.output, result.exception)


def test_exit_codes_are_documented(invoke):
    """The help of the whole names every exit code in use."""
    from ledger.cli import app as codes

    text = invoke("--help").output.split("Exit codes:")[1]
    documented = {int(code) for code in re.findall(r"^    (\d+) ", text, re.MULTILINE)}
    assert documented == {
        codes.OK, codes.NO, codes.USAGE, codes.NOT_OPENED, codes.REFUSED, codes.CORRUPTED, codes.NOT_WRITTEN, codes.INTERRUPTED
    }  # fmt: skip


def test_no_arguments_show_the_help(invoke):
    """The bare command shows its help."""
    assert "Commands:" in invoke().output


def test_version(invoke):
    """--version names the distribution and its version."""
    import ledger

    assert invoke("--version").output == f"experiment-ledger {ledger.__version__}\n"
