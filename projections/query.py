"""Query: the text of a query as a tree, in either dialect. Nothing of it is ever evaluated as Python.

``mlxp`` is the language of MLXP's Reader, exactly::

    KEY == != < > <= >= VALUE      KEY in [VALUE, ...]      ( )   ~   &   |        (~ binds closest, | least)

``extended`` reads all of that (its lists hold numbers, texts, True, False, None and lists), and

==================================================  =====================================================================
``and`` ``or`` ``not``, ``not in``                  as ``&`` ``|`` ``~``; keywords are read in any case
``1e-3`` ``inf`` ``nan`` ``None`` ``true``          values, in any case; ``== nan`` and ``== None`` find what is just that
``'config.my key' > 1``                             a key in quotes may hold anything; backslashes escape as in Python
``config.name =~ 'res(net)?'``                      a regular expression that matches somewhere in the text
``info.tags contains 'baseline'``                   an element of a list, or a part of a text
``exists(config.lr)``                               the trial has it, whatever its value; of artifacts, too
``train.loss.min`` ``.max`` ``.mean``               reductions of a metric to one value a trial;
``.first`` ``.last`` ``.count``                     NaN is left out of min, max and mean
``order by KEY desc, KEY`` ``limit 10``             at the end, each may be left out, and so may the condition
==================================================  =====================================================================
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ledger.errors import InvalidQuery, InvalidValue, QuerySyntaxError
from projections.conditions import Query

if TYPE_CHECKING:
    from lark.exceptions import UnexpectedInput

Dialect: TypeAlias = Literal["extended", "mlxp"]


def parse(text: str, dialect: Dialect = "extended") -> Query:
    """Return the tree of a query; an empty one is all trials.

    Raises QuerySyntaxError for what is not of the dialect's grammar, UnknownKey in the dialect ``mlxp`` for a key that it
    cannot search for, and InvalidQuery for a value that is none.

    >>> parse("config.lr < 1e-2 and not config.name == 'sgd' limit 3")
    Query(condition=Conjunction(operands=(Comparison(key='config.lr', operator='<', value=0.01),
    Negation(operand=Comparison(key='config.name', operator='==', value='sgd')))), orderings=(), limit=3)
    >>> parse("config.lr == 1 & ~config.seed in [1, 2]", "mlxp").condition.operands[1]
    Negation(operand=Membership(key='config.seed', values=(1, 2)))
    """
    if type(text) is not str:
        raise InvalidValue(f"the query is {text!r}; give a text: \"config.lr < 0.1 and status == 'SUCCEEDED'\".")
    if dialect not in ("extended", "mlxp"):
        raise InvalidValue(f"there is no dialect {dialect!r} of queries; there are 'extended' and 'mlxp'.")
    return _parse(text, dialect) if text else Query()


@functools.lru_cache(maxsize=256)
def _parse(text: str, dialect: Dialect) -> Query:
    from lark.exceptions import UnexpectedInput

    from projections.grammar import parser

    try:
        query: Any = parser(dialect).parse(text)
    except UnexpectedInput as error:
        raise _syntax_error(error, text, dialect) from None
    assert isinstance(query, Query)
    return query


def _syntax_error(error: UnexpectedInput, text: str, dialect: Dialect) -> QuerySyntaxError:
    place = error.pos_in_stream
    place = len(text) if place is None or place < 0 else place
    found = getattr(getattr(error, "token", None), "type", "")
    place = len(text) if found == "$END" else place
    rest = text[place : place + 20]
    problem = f"it cannot go on with {rest!r}" if rest else "something is missing at the end"
    return QuerySyntaxError(text, place, problem, _cure(text, place, dialect))


_SIGN = r"(==|!=|<=|>=|<|>)"
#: A number before the sign, and something else than a number behind it; a value, and another sign.
_REVERSED = re.compile(rf"(^|[(&|~\s])[+-]?\d[\d.]*\s*{_SIGN}\s*[^\W\d]")
_CHAINED = re.compile(rf"{_SIGN}\s*('[^']*'|\"[^\"]*\"|[\w.+-]+)\s*{_SIGN}")
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def _cure(text: str, place: int, dialect: Dialect) -> str:
    before, rest = text[:place].rstrip(), text[place:]
    if dialect == "mlxp":
        try:
            _parse(text, "extended")
        except InvalidQuery:
            pass
        else:
            return "The dialect 'extended' reads it."
    if rest[:1] in ("'", '"') and not _STRING.match(rest):
        return f"The quote {rest[0]} there is not closed."
    if any(match.start() <= place <= match.end() for pattern in (_REVERSED, _CHAINED) for match in pattern.finditer(text)):
        return "The key comes first, and comparisons are not chained: KEY > 0 and KEY < 2."
    if re.match(r"=[^=~]", rest):
        return "Compare with ==."
    if re.match(r"\w", rest) and re.search(r"(==|!=|<|>|=~|[\[,(])$", before):
        return "Put texts in quotes."
    if re.match(r"&&|\|\|", rest) or re.search(r"[&|]$", before):
        return "Join conditions by & or |."
    if re.match(r"[^\w\s'\"()\[\]<>=!&|~,.-]", rest):
        return "Put keys with such characters in quotes."
    return "A condition is KEY == VALUE, KEY in [VALUE, ...], or several joined by & | ~ ( )."
