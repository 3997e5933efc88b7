"""Grammar: the two dialects of queries as lark reads them. Imported when the first query is parsed."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable
from typing import Any, Final

from lark import Lark, Token, Transformer

from ledger.errors import InvalidQuery, QuerySyntaxError, UnknownKey
from projections.conditions import (
    SEARCHABLE,
    Comparison,
    Condition,
    Conjunction,
    Containment,
    Disjunction,
    Existence,
    Match,
    Membership,
    Negation,
    Ordering,
    Query,
    compiled,
)

# --------------------------------------------------------------------------------------------------------------- values

_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"', "\n": ""}


def _unquoted(text: str) -> str:
    """Return what a text in quotes says; a backslash before anything else stays, as regular expressions need it."""

    def escaped(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 1:
            return _ESCAPES.get(code, match[0])
        number = int(code[1:], 16)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise InvalidQuery(f"there is no character {match[0]} (in {text}).")
        return chr(number)

    return _ESCAPE.sub(escaped, text[1:-1]) if "\\" in text else text[1:-1]


def _number(text: str) -> int | float:
    try:
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError as error:  # Python reads no int of more than some thousand digits
        raise InvalidQuery(f"{text[:20]}... is no number that can be read: {error}.") from None


def _literal(text: str) -> Any:
    """Return what MLXP makes of a value: a Python literal."""
    if "\\" in text:  # Python warns of escapes that it does not know, and keeps their backslash
        text = re.sub(r"\\(.)", lambda m: m[0] if m[1] in "\n\\'\"abfnrtvox01234567uUN" else "\\" + m[0], text, flags=re.DOTALL)
    try:
        return ast.literal_eval(text)
    except (SyntaxError, MemoryError, RecursionError) as error:
        what = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise QuerySyntaxError(text, 0, what, "Write numbers, texts in quotes, True, False or a list of them.") from None
    except (ValueError, TypeError):
        raise InvalidQuery(
            f"{text!r} is no value in the dialect 'mlxp'. Write True or False in just that case, and texts in quotes; the "
            "dialect 'extended' reads true, false and None in any case."
        ) from None


# ------------------------------------------------------------------------------------------------------------- grammars

_CONDITIONS: Final = r"""
disjunction: conjunction (_OR conjunction)*
conjunction: negation (_AND negation)*
?negation: _NOT negation -> negated
         | "(" disjunction ")"
         | test
"""

# PLY takes the first of its terminals that fits, in this order: the priorities say so to lark.
_MLXP: Final = (
    "start: disjunction\n"
    + _CONDITIONS
    + r"""
?test: ID OPERATOR (BOOL | STRING | SCALAR) -> comparison
     | ID _IN LIST -> membership
LIST.9: /\[[^\]]*\]/
BOOL.8: /(?i:true)|(?i:false)/
STRING.7: /'(.*?)'/
SCALAR.6: /[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)|'[^']*'|"[^"]*"/
_IN.5: /in(?![a-zA-Z_\d]|\.[a-zA-Z_\d])/
ID.4: /[a-zA-Z_\d]+(\.[a-zA-Z_\d]+)*/
OPERATOR: /==|<=|>=|!=|<|>/
_AND: "&"
_OR: "|"
_NOT: "~"
%ignore /[ \t]+/
"""
)

_EXTENDED: Final = (
    "start: [disjunction] [order] [limit]\n"
    + _CONDITIONS
    + r"""
?test: key OPERATOR value -> comparison
     | key _IN (list | tuple) -> membership
     | key _NOT_IN (list | tuple) -> exclusion
     | key "=~" STRING -> match
     | key _CONTAINS value -> containment
     | _EXISTS "(" key ")" -> existence
order: _ORDER_BY ordering ("," ordering)*
ordering: key [ASCENDING | DESCENDING]
limit: _LIMIT NUMBER
?key: NAME -> name
    | STRING -> text
?value: NUMBER -> number
      | STRING -> text
      | WORD -> word
      | list
list: "[" (value ("," value)* ","?)? "]" -> array
tuple: "(" value ("," value)* ","? ")" -> array
NAME: /\w[\w.\-\/]*/
NUMBER: /[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?(?![\w.])/i
STRING: /'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"/s
WORD.2: /(none|null|true|false|nan|[+-]?inf)(?![\w.])/i
OPERATOR: /==|<=|>=|!=|<|>/
_AND.2: /&|and(?![\w.\-\/])/i
_OR.2: /\||or(?![\w.\-\/])/i
_NOT.2: /~|not(?![\w.\-\/])/i
_IN.2: /in(?![\w.\-\/])/i
_NOT_IN.3: /not\s+in(?![\w.\-\/])/i
_CONTAINS.2: /contains(?![\w.\-\/])/i
_EXISTS.3: /exists(?=\s*\()/i
_ORDER_BY.3: /order\s+by(?=[\s'"])/i
_LIMIT.3: /limit(?=\s+\d)/i
ASCENDING.2: /asc(ending)?(?![\w.\-\/])/i
DESCENDING.2: /desc(ending)?(?![\w.\-\/])/i
%ignore /\s+/
"""
)

_WORDS: Final[dict[str, Any]] = {
    "none": None, "null": None, "true": True, "false": False, "nan": float("nan"), "inf": float("inf"), "+inf": float("inf"),
    "-inf": float("-inf"),
}  # fmt: skip


class _MlxpTree(Transformer[Any, Any]):
    """Makes the tree while it parses, so that the first fault of a query is the one reported, as in MLXP."""

    def start(self, children: list[Any]) -> Query:
        return Query(children[0])

    def disjunction(self, children: list[Any]) -> Condition:
        return children[0] if len(children) == 1 else Disjunction(tuple(children))

    def conjunction(self, children: list[Any]) -> Condition:
        return children[0] if len(children) == 1 else Conjunction(tuple(children))

    def negated(self, children: list[Any]) -> Condition:
        (operand,) = children
        return operand.operand if isinstance(operand, Negation) else Negation(operand)

    def comparison(self, children: list[Any]) -> Condition:
        key, operator, value = children
        return Comparison(_searchable(key), str(operator), value.value)

    def membership(self, children: list[Any]) -> Condition:
        key, values = children
        return Membership(_searchable(key), tuple(values.value))


class _ExtendedTree(_MlxpTree):
    """Makes the tree of the extended dialect."""

    def start(self, children: list[Any]) -> Query:
        condition, orderings, limit = children
        return Query(condition, orderings or (), limit)

    def comparison(self, children: list[Any]) -> Condition:
        key, operator, value = children
        return Comparison(key, str(operator), value)

    def membership(self, children: list[Any]) -> Condition:
        key, values = children
        return Membership(key, tuple(values))

    def exclusion(self, children: list[Any]) -> Condition:
        return Negation(self.membership(children))

    def match(self, children: list[Any]) -> Condition:
        key, quoted = children
        pattern = _unquoted(quoted)
        compiled(pattern)  # so that a fault in it shows before anything is searched
        return Match(key, pattern)

    def containment(self, children: list[Any]) -> Condition:
        return Containment(*children)

    def existence(self, children: list[Any]) -> Condition:
        return Existence(*children)

    def order(self, children: list[Any]) -> tuple[Ordering, ...]:
        return tuple(children)

    def ordering(self, children: list[Any]) -> Ordering:
        key, *direction = children
        return Ordering(key, any(token is not None and token.type == "DESCENDING" for token in direction))

    def limit(self, children: list[Any]) -> int:
        number = _number(children[0])
        if type(number) is not int or number < 0:
            raise InvalidQuery(f"the limit is {children[0]}; give a number of rows: limit 10.")
        return number

    def name(self, children: list[Any]) -> str:
        return str(children[0])

    def text(self, children: list[Any]) -> str:
        return _unquoted(children[0])

    def number(self, children: list[Any]) -> int | float:
        return _number(children[0])

    def word(self, children: list[Any]) -> Any:
        return _WORDS[children[0].lower()]

    def array(self, children: list[Any]) -> list[Any]:
        return children


def _searchable(key: str) -> str:
    if not key.startswith(SEARCHABLE):
        raise UnknownKey(
            f"the dialect 'mlxp' cannot search for {str(key)!r}: its keys begin with info. or config. The dialect 'extended' "
            "knows the others.",
            str(key),
        )
    return str(key)


def _evaluated(token: Token) -> Token:
    return token.update(value=_literal(str(token)))


@functools.cache
def parser(dialect: str) -> Lark:
    """Return the parser of a dialect: LALR(1), so that no text takes more than linear time."""
    if dialect == "extended":
        return Lark(_EXTENDED, parser="lalr", transformer=_ExtendedTree(), maybe_placeholders=True)
    callbacks: dict[str, Callable[[Token], Token]] = dict.fromkeys(("LIST", "BOOL", "STRING", "SCALAR"), _evaluated)
    return Lark(_MLXP, parser="lalr", lexer="basic", transformer=_MlxpTree(), lexer_callbacks=callbacks)
