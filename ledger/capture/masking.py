"""Masking: secrets are taken out of what is captured, before anything of it is stored.

By name (an environment variable or option called ``..._TOKEN``), by pattern (keys of well-known services, private keys,
user and password in an address), and by value: what a variable with such a name holds in this process is masked wherever
it appears, in the command line, the source and the patch as well. A secret in a form that none of these knows (a password
in prose) is not found; ``ledger redact`` drops it afterwards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MASK = "[masked]"
_SHORTEST_VALUE = 8  # a shorter one is found by chance in any text

_SECRET_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|PRIVATE|COOKIE|SIGNATURE|TOKEN(?!I[SZ])|KEYS?(?![A-Z])"
    r"|(?:^|[^A-Z])(?:PASS|PAT|PWD|AUTH|SALT|SID|DSN|CONN(?:ECTION)?_?STR(?:ING)?|JWT|OAUTH|SESSION)(?![A-Z])"
)
_HARMLESS_NAME = re.compile(r"^(?:OLD)?PWD$|TOKENS$|KEYS?_?(?:SIZE|LEN|COUNT|DIM)|TOKEN_?(?:COUNT|LIMIT|LENGTH|DIM)")
_NUMBER = re.compile(r"[-+0-9.eE_]*|true|false|none|yes|no", re.IGNORECASE)

#: Keys of services, by their form.
_KEYS = re.compile(
    r"""
      \b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b                                  # AWS
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_\w{20,}                      # GitHub
    | \bgl(?:pat|ptt|dt|rt|soat)-[\w-]{16,}                                    # GitLab
    | \bxox[abeprs]-[\w-]{10,} | https://hooks\.slack\.com/services/[\w/+-]+   # Slack
    | \bsk-[\w-]{20,} | \b[rsp]k_(?:live|test)_\w{16,}                         # OpenAI, Anthropic, Stripe
    | \bAIza[\w-]{35} | \bya29\.[\w-]{20,}                                     # Google
    | \bhf_[A-Za-z0-9]{20,} | \bnpm_[A-Za-z0-9]{30,} | \bpypi-[\w-]{40,}       # Hugging Face, npm, PyPI
    | \bSG\.[\w-]{16,}\.[\w-]{16,} | \bdop_v1_[0-9a-f]{32,} | \bdapi[0-9a-f]{32}\b   # SendGrid, DigitalOcean, Databricks
    | \beyJ[\w-]{6,300}\.[\w-]{6,4000}\.[\w-]*                                 # JSON web tokens
    | (?<=[Bb]earer\ )[\w.~+/=-]{12,} | (?<=[Bb]asic\ )[A-Za-z0-9+/=]{16,}     # HTTP headers
    """,
    re.VERBOSE,
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----|\Z)",
    re.DOTALL,
)
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://)([^/\s@'\"<>]{1,256})@", re.IGNORECASE)
_WORD = r"(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?key|account[_-]?key)"
# Parts that could be long are bounded: else a text that is one long word takes time by the square of its length.
#: A quoted text that is given such a name: in code, JSON, YAML, TOML.
_QUOTED = re.compile(rf"""({_WORD}[\w-]{{0,64}}["']?\]?\s{{0,8}}[:=]\s{{0,8}}[rbu]?)(["'])([^"'\n]{{4,}})\2""", re.IGNORECASE)
#: A line of a file of settings: NAME_TOKEN=..., password: ...
_SETTING = re.compile(
    rf"^([-+ ]?[ \t]*(?:export[ \t]+)?[\w.-]{{0,64}}{_WORD}[\w-]{{0,64}}[ \t]*(?:=|:[ \t])[ \t]*)"
    r"([^\s\"'(){}\[\]<>,$]{6,})[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_PARAMETER = re.compile(rf"([?&;][\w.-]{{0,64}}(?:{_WORD}|signature|sig)[\w-]{{0,64}}=)([^&\s\"']{{4,}})", re.IGNORECASE)


def is_secret_name(name: str, value: str = "") -> bool:
    """Say whether something of that name is a secret; a number called MAX_TOKENS is none.

    >>> is_secret_name("AWS_SECRET_ACCESS_KEY"), is_secret_name("OMP_NUM_THREADS"), is_secret_name("TOKENIZERS_PARALLELISM")
    (True, False, False)
    """
    upper = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
    if _SECRET_NAME.search(upper) is None:
        return False
    return not (_HARMLESS_NAME.search(upper) and (upper in ("PWD", "OLDPWD") or _NUMBER.fullmatch(value)))


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """Return the values of variables with such names, the longest first; not the short ones, numbers, and existing paths."""
    found = {value for name, value in environment.items() if len(value) >= _SHORTEST_VALUE and is_secret_name(name, value)}
    found = {value for value in found if not _NUMBER.fullmatch(value) or len(value) > 2 * _SHORTEST_VALUE}
    return sorted((value for value in found if not _is_place(value)), key=len, reverse=True)


def _is_place(value: str) -> bool:
    return value == "localhost" or (value.startswith("/") and os.path.exists(value))


def mask_text(text: str, values: Iterable[str] = ()) -> str:
    """Return the text with the secrets that are found in it masked; ``values`` are known ones.

    >>> mask_text("git clone https://ada:hunter2@example.org/x.git")
    'git clone https://[masked]@example.org/x.git'
    >>> mask_text('token = "abcd-efgh"')
    'token = "[masked]"'
    """
    for value in values:
        text = text.replace(value, MASK)
    if len(text) < 4:
        return text
    text = _ADDRESS.sub(_mask_address, _KEYS.sub(MASK, text))
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    text = _QUOTED.sub(rf"\1\2{MASK}\2", text)
    return _PARAMETER.sub(rf"\1{MASK}", _SETTING.sub(rf"\1{MASK}", text))


def _mask_address(found: re.Match[str]) -> str:
    scheme, user = found.groups()
    if ":" not in user and scheme.lower() in ("ssh://", "git+ssh://", "git://", "file://"):
        return found.group()  # the name of an account, which is no secret
    return f"{scheme}{MASK}@"


def mask_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables with the values of secret ones masked.

    >>> mask_variables({"HF_TOKEN": "hf_abc", "LANG": "C"})
    {'HF_TOKEN': '[masked]', 'LANG': 'C'}
    """
    return {name: MASK if value and is_secret_name(name, value) else value for name, value in variables.items()}


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the values of secret options masked: ``--token x``, ``--token=x``, ``token=x``.

    >>> mask_arguments(["train.py", "--api-key", "abc", "--lr=0.1", "password=x"])
    ['train.py', '--api-key', '[masked]', '--lr=0.1', 'password=[masked]']
    """
    masked: list[str] = []
    is_value = False
    for argument in arguments:
        name, separator, value = argument.partition("=")
        if is_value and not (argument.startswith("--") and len(argument) > 2):
            masked.append(MASK)
            is_value = False
            continue
        is_option = name.startswith("-") and " " not in name
        if separator and value and " " not in name and is_secret_name(name.lstrip("-"), value):
            masked.append(f"{name}={MASK}")
        else:
            masked.append(argument)
        is_value = is_option and not separator and is_secret_name(name.lstrip("-"))
    return masked


def clean(value: Any, values: Iterable[str] = ()) -> Any:
    """Return a captured value as a record can hold it: texts masked and valid, what is neither text nor number as text.

    >>> clean({"a": ("x", 1), 2: None})
    {'a': ['x', 1], '2': None}
    """
    if value is None or isinstance(value, bool | int | float):
        return value if type(value) in (bool, int, float, type(None)) else clean(str(value), values)
    if isinstance(value, Mapping):
        return {str(clean(str(key), values)): clean(item, values) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item, values) for item in value]
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return mask_text(text.encode(errors="backslashreplace").decode(), values)
