"""The language of queries: what is read as what, and what is no query."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ledger
from ledger.errors import InvalidQuery, InvalidValue, QuerySyntaxError, UnknownKey
from projections.conditions import Comparison, Conjunction, Disjunction, Existence, Match, Membership, Negation, Ordering, Query
from projections.query import parse

CASES = json.loads((Path(__file__).parent / "data" / "mlxp_query_cases.json").read_text())["cases"]
#: What MLXP raises while it reads a query, and what is raised here.
KINDS = {"SyntaxError": QuerySyntaxError, "ValueError": InvalidQuery, "mlxp.errors.InvalidKeyError": UnknownKey}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["query"])
def test_mlxps_queries_are_read_and_refused_as_mlxp_does(case):
    """Each case taken from MLXP 1.0.5: it is read, or raises the same kind of error."""
    kind = KINDS.get(case.get("raises"))
    if kind is None:
        parse(case["query"], "mlxp")
    else:
        with pytest.raises(kind) as raised:
            parse(case["query"], "mlxp")
        assert type(raised.value) is kind


@pytest.mark.parametrize("case", [case for case in CASES if "raises" not in case], ids=lambda case: case["query"])
def test_what_mlxp_reads_means_the_same_in_the_extended_dialect(case):
    """Every query of MLXP's is one of the extended dialect, with the same tree."""
    assert parse(case["query"]) == parse(case["query"], "mlxp")


A, B, C = (Comparison(key, "==", 1) for key in ("a", "b", "c"))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a == 1 | b == 1 & c == 1", Disjunction((A, Conjunction((B, C))))),
        ("a == 1 or b == 1 AND not c == 1", Disjunction((A, Conjunction((B, Negation(C)))))),
        ("~(a == 1 & b == 1) & c == 1", Conjunction((Negation(Conjunction((A, B))), C))),
        ("not not a == 1", A),
        ("a not in [1, 'x', [2.5, none]]", Negation(Membership("a", (1, "x", [2.5, None])))),
        ("a in (1,)", Membership("a", (1,))),
        ("a in []", Membership("a", ())),
        ("a == -1.5e-3", Comparison("a", "==", -0.0015)),
        ("a == 1E3", Comparison("a", "==", 1000.0)),
        ("a == 12345678901234567890123", Comparison("a", "==", 12345678901234567890123)),
        ("a == TRUE", Comparison("a", "==", True)),
        ("a != Null", Comparison("a", "!=", None)),
        ("a < -INF", Comparison("a", "<", float("-inf"))),
        ("a =~ '^res\\d+(net)?$'", Match("a", r"^res\d+(net)?$")),
        ("exists(a)", Existence("a")),
        ("exists ( 'a b' )", Existence("a b")),
        (r"'it\'s \u00e9' == " + r'"\x41\n"', Comparison("it's é", "==", "A\n")),
        ("'😀.x y' == 1", Comparison("😀.x y", "==", 1)),
        ("train/loss-1.é == 1", Comparison("train/loss-1.é", "==", 1)),
        ("artifact.pickle. == 1", Comparison("artifact.pickle.", "==", 1)),
    ],
)
def test_the_extended_dialect_reads_more(text, condition):
    """Words for signs, values of any kind, quoted keys, regular expressions, exists."""
    assert parse(text).condition == condition


@pytest.mark.parametrize("word", ["in", "not", "and", "or", "exists", "limit", "order", "contains", "true", "none", "asc", "nan"])
def test_a_key_may_be_a_word_of_the_language_in_quotes(word):
    """And with something behind it, without them."""
    assert parse(f"'{word}' == 1").condition == Comparison(word, "==", 1)
    assert parse(f"{word}.x == 1 and x.{word} == 1").condition.operands == (
        Comparison(f"{word}.x", "==", 1), Comparison(f"x.{word}", "==", 1),
    )  # fmt: skip


def test_order_and_limit_come_at_the_end():
    """By several keys, up or down; each may be left out, and so may the condition."""
    order = (Ordering("b", is_descending=True), Ordering("c d"), Ordering("e"))
    assert parse("a == 1 order by b desc, 'c d', e asc limit 3") == Query(A, order, 3)
    assert parse("ORDER  BY b LIMIT 0") == Query(None, (Ordering("b"),), 0)
    assert parse("limit 5") == Query(None, (), 5)
    assert parse("") == parse(" \n") == Query()


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("a = 1", "Compare with ==."),
        ("a == adam", "Put texts in quotes."),
        ("a == 1_000", "Put texts in quotes."),
        ("a == 1 && b == 2", "Join conditions by & or |."),
        ("a ==", "something is missing at the end"),
        ("(a == 1", "something is missing at the end"),
        ("a == 1)", "it cannot go on with ')'"),
        ("😀 == 1", "Put keys with such characters in quotes."),
        ("1 == 1 == 1", "it cannot go on with '== 1'"),
        ("a b", "A condition is KEY == VALUE"),
        ("__import__('os')", "A condition is KEY == VALUE"),
        ("a == b.c()", "Put texts in quotes."),
        ("a == 'x", "The quote ' there is not closed."),
        ('"a b == 1', 'The quote " there is not closed.'),
        ("1 == a.seed", "The key comes first"),
        ("a == 1 and -0.5 <= b", "The key comes first"),
        ("0 < a < 2", "comparisons are not chained: KEY > 0 and KEY < 2."),
        ("a == 'x' == 'y'", "comparisons are not chained"),
        ("limit -1", "it cannot go on with"),
    ],
)
def test_what_is_no_query_is_refused_with_the_place_and_a_cure(text, cure):
    """The message shows where it goes wrong."""
    with pytest.raises(QuerySyntaxError) as raised:
        parse(text)
    assert cure in str(raised.value)
    assert f"\n  {text}\n  {' ' * raised.value.index}^" in str(raised.value)
    assert isinstance(raised.value, SyntaxError)


def test_mlxps_dialect_says_when_the_extended_one_would_do():
    """Its users need not learn from the documentation that there is another."""
    with pytest.raises(QuerySyntaxError, match="The dialect 'extended' reads it"):
        parse("config.lr == 1e-3", "mlxp")
    with pytest.raises(UnknownKey, match="'extended' knows the others"):
        parse("train.loss < 1", "mlxp")


@pytest.mark.parametrize("text", ["a == 1 limit 2.5", r"a == '\ud800'", "a == " + "9" * 5000, "a =~ '('", r"a == '\U0011ffff'"])
def test_values_that_are_none_are_refused(text):
    """With a message of their own, not one of Python's."""
    with pytest.raises(InvalidQuery):
        parse(text)


def test_only_texts_are_queries_and_only_two_dialects_are_known():
    """The arguments are checked."""
    with pytest.raises(InvalidValue, match="the query is None"):
        parse(None)
    with pytest.raises(InvalidValue, match="no dialect 'sql'"):
        parse("a == 1", "sql")


@pytest.mark.parametrize("dialect", ["mlxp", "extended"])
def test_long_queries_are_read_in_reasonable_time(dialect):
    """Thousands of conditions, parentheses and negations; the parser is linear and keeps no stack of Python's."""
    many = " | ".join(["config.a == 1"] * 3000)
    assert len(parse(many, dialect).condition.operands) == 3000
    deep = "(" * 3000 + "config.a == 1" + ")" * 3000
    assert parse(deep, dialect).condition == Comparison("config.a", "==", 1)
    assert parse("~" * 3001 + "config.a == 1", dialect).condition == Negation(Comparison("config.a", "==", 1))


def test_the_libraries_of_queries_are_loaded_by_queries_alone():
    """Tables and readers without a query need neither lark nor regex."""
    code = """
import sys, ledger, projections
book = ledger.open("memory:")
book.experiment("demo").new_trial({"x": "a"})
reader = projections.Reader(book)
before = {"lark", "regex"} & set(sys.modules), len(reader.filter())
print(*before, len(reader.filter("config.x == 'a'")), "lark" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set() 1 1 True\n"


PIECES = [
    "config.a", "info.b", "'x y'", "==", "!=", "<", "in", "not", "and", "or", "&", "|", "~", "(", ")", "[", "]", ",", "1", "1e3",
    "'c'", "true", "True", "None", "exists", "limit", "order by", "desc", "=~", "contains", "\\", "'", '"', ";", "\n", ".", "é",
]  # fmt: skip


@pytest.mark.parametrize("dialect", ["mlxp", "extended"])
@settings(deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12))
@example(pieces=["config.a", "in", "[", "\\", "'", "]"])
def test_any_text_is_a_query_or_an_error_of_the_packages(dialect, pieces):
    """Nothing else is raised, whatever is typed."""
    with contextlib.suppress(ledger.InvalidQuery):
        assert isinstance(parse(" ".join(pieces), dialect), Query)


@settings(deadline=None)
@given(text=st.text(max_size=30))
def test_a_text_in_quotes_comes_back(text):
    """Escapes are undone, on either side of a comparison."""
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert parse(f"{quoted} == {quoted}").condition == Comparison(text, "==", text)
