"""Templates of command lines: ``{name}`` stands for a parameter of the trial's config."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ledger.errors import InvalidValue
from ledger.nearest import find_nearest

#: Placeholders that are no parameters; a parameter of the same name comes first.
OWN = ("trial", "attempt", "experiment", "config", "output")
_PIECE = re.compile(r"\{\{([^\W\d][\w.-]*)\}\}|(?<!\$)\{([^\W\d][\w.-]*)\}")


class _Placeholder(NamedTuple):
    name: str


class Template:
    """The words of a command line with placeholders: ``{lr}``, ``{model.depth}`` within a dict.

    ``{{lr}}`` stands for ``{lr}``, ``${lr}`` is the shell's, and other braces, as those of JSON and awk, stay as they are. Each
    word stays one argument, whatever the value is. With ``shell`` the words are one line for ``/bin/sh``, in which each value
    is quoted. Raises InvalidValue for no words.

    >>> Template(["train.py", "--lr={lr}", "{name}"]).fill({"lr": 0.1, "name": "a b"})
    ['train.py', '--lr=0.1', 'a b']
    >>> Template(["echo {name} | wc"], shell=True).fill({"name": "a b"})
    ['/bin/sh', '-c', "echo 'a b' | wc"]
    >>> Template(["jq", "{{lr}} {print $1} ${HOME} {}"]).fill({"lr": 0.1})
    ['jq', '{lr} {print $1} ${HOME} {}']
    """

    def __init__(self, words: Sequence[str], *, shell: bool = False) -> None:
        if not words or not words[0]:
            raise InvalidValue("there is no program to run; give it after --: -- python train.py --lr {lr}")
        self.words, self.shell = list(words), shell
        self._pieces = [_parse(word) for word in ([" ".join(words)] if shell else words)]

    @property
    def names(self) -> list[str]:
        """The names in braces, each once."""
        return list(dict.fromkeys(piece.name for word in self._pieces for piece in word if isinstance(piece, _Placeholder)))

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise InvalidValue for a placeholder that is neither a parameter of the config nor one of the worker's own."""
        for name in self.names:
            if name not in OWN:
                _look_up(config, name)

    def fill(self, config: Mapping[str, Any], own: Mapping[str, str] | None = None) -> list[str]:
        """Return the arguments for a config; ``own`` has the values of the worker's own placeholders."""
        values = dict(own or {})
        values |= {name: text_of(_look_up(config, name)) for name in self.names if name not in values or name in config}
        quoted = {name: shlex.quote(text) for name, text in values.items()} if self.shell else values
        filled = ["".join(quoted[p.name] if isinstance(p, _Placeholder) else p for p in word) for word in self._pieces]
        return ["/bin/sh", "-c", *filled] if self.shell else filled


def _parse(word: str) -> list[str | _Placeholder]:
    pieces: list[str | _Placeholder] = []
    end = 0
    for found in _PIECE.finditer(word):
        literal, name = found.groups()
        pieces += [word[end : found.start()], f"{{{literal}}}" if literal else _Placeholder(name)]
        end = found.end()
    return [*pieces, word[end:]]


def _look_up(config: Mapping[str, Any], name: str) -> Any:
    if name in config:
        return config[name]
    value: Any = config
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InvalidValue(f"{{{name}}} is no parameter of the trial.{_hint(name, config)}")
        value = value[part]
    return value


def _hint(name: str, config: Iterable[str]) -> str:
    nearest = find_nearest(name, [*config, *OWN])
    there = ", ".join(f"{{{each}}}" for each in config)
    known = f" Its config has: {there}." if there else " Its config is empty."
    return (f" Did you mean {{{nearest}}}?" if nearest else "") + known + f" {{{{{name}}}}} stands for {{{name}}} itself."


def text_of(value: Any) -> str:
    """Return a value as people type it: a text as it is, nothing for None, true and false, the rest as JSON.

    >>> [text_of(each) for each in ("wal", 0.1, 1e-07, True, None, [1, "a"], (3, 4))]
    ['wal', '0.1', '1e-07', 'true', '', '[1, "a"]', '[3, 4]']
    """
    if value is None:
        return ""
    value = plain_json(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plain_json(value: Any) -> Any:
    """Return a value in plain terms of JSON, for programs that know nothing of the ledger.

    Tuples become lists, times and identifiers texts, exact decimals texts, bytes base 64.

    >>> from decimal import Decimal
    >>> plain_json({"shape": (3, 4), "price": Decimal("0.10")})
    {'shape': [3, 4], 'price': '0.10'}
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
