"""Secrets: none of those that are known by name, form or value reaches the ledger; what is harmless does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ledger
from ledger.capture.masking import MASK, is_secret_name, mask_arguments, mask_text, secret_values

#: Forms that are known by themselves. They are put together here so that no scanner takes this file for a leak.
KEYS = {
    "AWS": "AKIA" + "IOSFODNN7EXAMPLE",
    "GitHub": "ghp_" + "a1B2" * 9,
    "GitHub, fine": "github_pat_" + "a1B2" * 8,
    "GitLab": "glpat-" + "a1B2" * 5,
    "Slack": "xoxb-" + "1234567890-abcdef",
    "OpenAI": "sk-proj-" + "a1B2" * 8,
    "Stripe": "sk_live_" + "a1B2" * 5,
    "Google": "AIza" + "a1B2c" * 7,
    "Hugging Face": "hf_" + "a1B2" * 8,
    "npm": "npm_" + "a1B2" * 9,
    "PyPI": "pypi-" + "a1B2" * 12,
    "JWT": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "Databricks": "dapi" + "0a1b2c3d" * 4,
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("around", ["{}", "key: {}", "x={};", '+    client = Client("{}")', "{} "])
def test_keys_are_known_by_their_form(name: str, around: str) -> None:
    """Alone, in a setting, in code, in a patch; what is around them stays."""
    masked = mask_text(around.format(KEYS[name]))
    assert MASK in masked
    assert KEYS[name][-10:] not in masked
    assert KEYS[name][:14] not in masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('password = "hunter22"', 'password = "[masked]"'),
        ("'api_key': 'abcd1234'", "'api_key': '[masked]'"),
        ("+DB_PASSWORD=hunter22", "+DB_PASSWORD=[masked]"),
        ("export API_TOKEN=abcdef99", "export API_TOKEN=[masked]"),
        ("  secret: hunter22", "  secret: [masked]"),
        ("https://x.org/?access_token=abcd1234&y=1", "https://x.org/?access_token=[masked]&y=1"),
        ("postgres://ada:pw@db/x", "postgres://[masked]@db/x"),
        ("Authorization: Bearer abcdef123456789", "Authorization: Bearer [masked]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow\n(cut)", "[masked]"),
        ('os.environ["API_KEY"] = "abcd1234"', 'os.environ["API_KEY"] = "[masked]"'),
    ],
)
def test_settings_and_addresses_are_known_by_their_names(text: str, masked: str) -> None:
    """Quoted in code, bare in files of settings, as parameters and user parts of addresses."""
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "token = get_token()",
        "max_tokens = 512",
        'api_key = os.environ["API_KEY"]',
        "tokens: list[str]",
        "ada@example.org",
        "git@github.com:ada/x.git",
        "ssh://git@github.com/x.git",
        "https://example.org/@ada",
        "commit 4a42b7b98d468ba513ae52bf57495baaa3",
        "sk-learn==1.4",
        "def secret(self) -> bytes:",
        "key = 3",
        "--lr=0.1",
        "/home/ada/secret.txt",
        "import secrets",
        "password: str | None = None",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Code that only speaks of secrets, addresses without them, hashes."""
    assert mask_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY",
        "apiKey",
        "MY_SECRET",
        "DB_PASSWORD",
        "PGPASSWORD",
        "db-pass",
        "GITHUB_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "SENTRY_DSN",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "SSH_PRIVATE",
        "COOKIE",
        "AZURE_CONNECTION_STRING",
        "TOKENS",
        "client.secret",
    ],
)
def test_names_of_secrets(name: str) -> None:
    """In capitals, in parts, with hyphens."""
    assert is_secret_name(name, "abcdefgh")


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "LANG",
        "OMP_NUM_THREADS",
        "TOKENIZERS_PARALLELISM",
        "PWD",
        "KEYBOARD",
        "PASSENGERS",
        "AUTHOR",
        "PATTERN",
    ],
)
def test_names_of_no_secrets(name: str) -> None:
    """Words that only begin alike."""
    assert not is_secret_name(name, "abcdefgh")


def test_numbers_of_tokens_are_no_secrets() -> None:
    """What language models count is kept, unless it is not a number."""
    assert not is_secret_name("MAX_TOKENS", "512")
    assert is_secret_name("MAX_TOKENS", "abcdefgh")
    assert mask_arguments(["--max-tokens=512"]) == ["--max-tokens=512"]


def test_options_of_the_command_line() -> None:
    """With a blank or an equals sign; the next option is not taken for a value."""
    words = ["--token", "abc", "--lr", "0.1", "--password=x", "--api-key", "--verbose", "user=ada", "secret=x", "-k", "v"]
    assert mask_arguments(words) == [
        "--token", MASK, "--lr", "0.1", f"--password={MASK}", "--api-key", "--verbose", "user=ada", f"secret={MASK}", "-k", "v",
    ]  # fmt: skip


def test_values_of_secret_variables_are_known_anywhere() -> None:
    """Not the short ones, which any text has by chance, nor paths that exist, nor numbers."""
    variables = {
        "A_TOKEN": "abcdefgh",
        "B_TOKEN": "abcdefgh-longer",
        "C_KEY": "abc",
        "SSH_KEY": "/etc",
        "N_KEY": "12345678",
        "X": "xxxxxxxx",
    }
    assert secret_values(variables) == ["abcdefgh-longer", "abcdefgh"]
    assert mask_text("run abcdefgh-longer abcdefgh", secret_values(variables)) == f"run {MASK} {MASK}"


@pytest.mark.parametrize(
    "part",
    [
        "a-b.c",
        "\n",
        " ",
        "token",
        "eyJabcdefg-",
        "https://",
        "-----BEGIN PRIVATE KEY",
        "x" * 100 + ".",
        "'",
        "&sig",
        "password= ",
        "\t",
    ],
)
def test_long_texts_take_no_time_by_their_square(part: str) -> None:
    """Whatever they consist of: a text of the size of a patch is done in an instant, not in hours (which is the test's limit)."""
    text = (part * 400_000)[:400_000]
    assert len(mask_text(text)) <= len(text)


PROGRAM = """
import ledger, sys
UNUSED = "literal-EVERYWHERE-3"

with ledger.open(sys.argv[1]) as book:
    options = ledger.CaptureOptions(variables=("MY_TOKEN", "NICE_NAME", "CLONE_URL", "ODD"))
    exp = book.experiment("tuning", capture=options)

    @exp.track(capture=options)
    def objective(x):
        password = "literal-in-source-4"
        return x

    objective(1)
    with exp.new_trial({}).run():
        pass
print("done")
"""


def test_no_secret_is_in_the_file(repository: Path, git: Callable[..., str], tmp_path: Path) -> None:
    """From variables, the command line, the remote, the patch, the script and untracked files: no byte of one is in the
    ledger; the harmless things beside them are."""
    git("remote", "add", "origin", "https://ada:literal-remote-1@example.org/x.git")
    (repository / "train.py").write_text(PROGRAM)
    (repository / "settings.env").write_text("API_KEY=literal-untracked-2\nCOLOUR=harmless-untracked\n")
    (repository / "copy.txt").write_text(f"literal-EVERYWHERE-3 {KEYS['GitHub']}\n")
    secrets = {
        "MY_TOKEN": "literal-variable-5", "OTHER_SECRET": "literal-EVERYWHERE-3", "CLONE_URL": "https://u:literal-url-6@example.org/",
        "ODD": KEYS["AWS"], "TORCH_API_KEY": "literal-prefixed-7",
    }  # fmt: skip
    root = str(Path(ledger.__file__).parents[1])
    variables = {
        **os.environ,
        **secrets,
        "NICE_NAME": "harmless-variable",
        "PYTHONPATH": root,
        "OMP_NUM_THREADS": "harmless-threads",
    }
    words = ["--token", "literal-argument-8", "--password=literal-argument-9", "harmless-argument", "literal-EVERYWHERE-3"]
    path = tmp_path / "runs.ledger"
    command = [sys.executable, "-W", "error", "train.py", str(path), *words]
    done = subprocess.run(command, cwd=repository, env=variables, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    with ledger.open(path) as book:
        text = "\n".join(repr(record.event) for record in book.log.read())
        captured = book.get_experiment("tuning").trial(1).captured
    data = b"".join(file.read_bytes() for file in path.iterdir() if file.is_file())
    for number in range(1, 10):
        for name in ("remote", "untracked", "EVERYWHERE", "in-source", "variable", "url", "prefixed", "argument"):
            assert f"literal-{name}-{number}" not in text
            assert f"literal-{name}-{number}".encode() not in data
    for key in KEYS.values():
        assert key not in text
        assert key.encode() not in data
    assert captured["git"]["remote"] == "https://example.org/x.git"
    for harmless in ("harmless-variable", "harmless-threads", "harmless-argument", "harmless-untracked", "def objective(x):"):
        assert harmless in text
    assert b"harmless-variable" in data  # what is stored can be found so: the search above could fail
    assert captured["environment"]["variables"]["MY_TOKEN"] == MASK


def test_a_secret_across_the_end_of_the_patch_is_masked(repository: Path) -> None:
    """It is known for one though only its beginning would be kept."""
    from ledger.capture.git import capture_git

    (repository / "new.txt").write_text(f"{'x' * 500}\n{KEYS['GitHub']}\n")
    whole = capture_git([str(repository)], 20.0, 10_000)
    assert whole is not None
    place = whole["patch"].index(MASK)
    cut = capture_git([str(repository)], 20.0, place + 8)
    assert cut is not None
    assert "ghp_" not in cut["patch"]
    assert cut["patch_is_cut"]


def test_what_was_not_known_for_a_secret_is_redacted_afterwards(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The capture's content is gone for every trial that ran with it, who did it is said, and it does not come back."""
    monkeypatch.setenv("PLAIN", "correct horse battery staple")
    exp = book.experiment("tuning", capture=ledger.CaptureOptions(variables=("PLAIN",)))
    for _ in range(2):
        with exp.new_trial({}).run():
            pass
    (position,) = book.find_text("correct horse").payloads
    book.redact(position, reason="a passphrase")
    assert book.find_text("correct horse").payloads == []
    for number in (1, 2):
        problem = exp.trial(number).captured["environment"]["problem"]
        assert problem.startswith("redacted by")
        assert problem.endswith(": a passphrase")
    with exp.new_trial({}).run():
        pass
    assert book.find_text("correct horse").payloads == []
    assert exp.trial(3).captured["environment"]["problem"].startswith("redacted by")
