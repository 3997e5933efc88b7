"""What a query finds: MLXP's own cases, and what the extended dialect adds."""

import datetime as dt
import json
import operator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger
from ledger.errors import InvalidQuery, NotComparable, QuerySyntaxError, UnknownKey
from projections import Reader, predicate

MLXP = json.loads((Path(__file__).parent / "data" / "mlxp_query_cases.json").read_text())
KINDS = {
    "SyntaxError": QuerySyntaxError, "ValueError": InvalidQuery, "mlxp.errors.InvalidKeyError": UnknownKey,
    "TypeError": NotComparable,
}  # fmt: skip


def nested(values, prefix):
    """Return dotted keys of a prefix as the nested dict that they stand for."""
    tree = {}
    for key, value in values.items():
        if key.startswith(prefix):
            *path, name = key.removeprefix(prefix).split(".")
            branch = tree
            for part in path:
                branch = branch.setdefault(part, {})
            branch[name] = value
    return tree


@pytest.fixture(scope="module")
def sweep():
    """The runs of MLXP's cases, as its importer records them."""
    with ledger.open("memory:") as book:
        exp = book.experiment("sweep")
        for number, values in MLXP["runs"].items():
            trial = exp.new_trial(nested(values, "config."), number=int(number), status="SUCCEEDED")
            trial.set_attributes({"info": {**nested(values, "info."), "scheduler": None}}, namespace="mlxp")
        with Reader(book) as reader:
            yield reader


@pytest.mark.parametrize("case", MLXP["cases"], ids=lambda case: case["query"])
def test_mlxps_queries_find_the_same_runs_or_raise_the_same_kind_of_error(sweep, case):
    """Each case taken from MLXP 1.0.5, in its dialect."""
    if "raises" in case:
        with pytest.raises(KINDS[case["raises"]]) as raised:
            sweep.filter(case["query"], dialect="mlxp")
        assert type(raised.value) is KINDS[case["raises"]]
    else:
        assert sweep.filter(case["query"], dialect="mlxp")[:]["info.trial_id"] == case["log_ids"] if case["log_ids"] else True
        assert len(sweep.filter(case["query"], dialect="mlxp")) == len(case["log_ids"])


UNKNOWN = ("config.nope ", "config.model ", "config.in ")


@pytest.mark.parametrize("case", [case for case in MLXP["cases"] if "raises" not in case], ids=lambda case: case["query"])
def test_the_extended_dialect_finds_the_same(sweep, case):
    """Where every key is known; it does not search in silence for one that is not."""
    if case["query"].removeprefix("~").startswith(UNKNOWN):
        with pytest.raises(UnknownKey):
            sweep.filter(case["query"])
    else:
        assert len(sweep.filter(case["query"])) == len(case["log_ids"])


def trials(*configs):
    """Return a reader of trials with these configs."""
    book = ledger.open("memory:")
    book.experiment("demo").new_trials(configs)
    return Reader(book)


def found(reader, query, dialect="extended"):
    """Return the numbers of the trials that a query finds."""
    frame = reader.filter(query, dialect=dialect)
    return frame["info.trial_id"] if len(frame) else []


MIXED = [{"x": 1}, {"x": 2.5}, {"x": "b"}, {"x": None}, {}, {"x": float("nan")}, {"x": [1, 2]}, {"x": True}, {"x": 10**30}]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("config.x == 1", [1, 8]),  # True is 1, as in Python
        ("config.x == 1.0", [1, 8]),
        ("config.x != 1", [2, 3, 4, 6, 7, 9]),  # not of a trial that has none
        ("config.x < 3", [1, 2, 8]),
        ("config.x > 2", [2, 9]),
        ("config.x < 'c'", [3]),
        ("config.x == None", [4]),
        ("config.x in [None, 'b', [1, 2]]", [3, 4, 7]),
        ("config.x == nan", [6]),
        ("config.x != nan", [1, 2, 3, 4, 7, 8, 9]),
        ("config.x in [nan]", [6]),
        ("exists(config.x)", [1, 2, 3, 4, 6, 7, 8, 9]),
        ("not exists(config.x)", [5]),
        ("~ config.x == 1", [2, 3, 4, 5, 6, 7, 9]),
        ("config.x not in [1, 2.5]", [3, 4, 5, 6, 7, 9]),
        ("config.x == [1, 2]", [7]),
        ("config.x contains 2", [7]),
        ("config.x contains 'b'", [3]),
        ("config.x == 1000000000000000000000000000000", [9]),
        ("config.x =~ '^B|b$'", [3]),
        ("exists(config.y)", []),
        ("order by config.x", [1, 8, 2, 9, 3, 7, 6, 4, 5]),
        ("order by config.x desc, trial_id desc", [7, 3, 9, 2, 8, 1, 6, 4, 5]),
        ("config.x < 3 order by config.x desc limit 2", [2, 1]),
        ("limit 0", []),
    ],
)
def test_values_of_any_kind_stand_side_by_side(query, expected):
    """What cannot be compared makes the row false, and never kills the query; None, NaN and missing values are told apart."""
    assert found(trials(*MIXED), query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("config.x < nan", []),
        ("config.x < 2", [1, 4]),
        ("config.x == nan", [2, 3]),
        ("config.x != nan", [1, 4]),
        ("not config.x >= 1", [2, 3]),
        ("order by config.x desc", [1, 4, 2, 3]),
    ],
)
@pytest.mark.parametrize("nan", ["NaN", "sNaN12"])
def test_decimals_that_are_nan_do_not_kill_a_query(query, expected, nan):
    """Python orders no Decimal against a NaN: such a comparison is false; a NaN is one, of either type."""
    reader = trials({"x": Decimal("1.5")}, {"x": Decimal(nan)}, {"x": float("nan")}, {"x": 1})
    assert found(reader, query) == expected


def test_mlxps_dialect_raises_for_values_without_an_order_only_where_it_looks():
    """As MLXP: the right side of & is not looked at where the left one is false."""
    reader = trials({"x": 1, "y": "a"}, {"x": "b", "y": "b"})
    with pytest.raises(NotComparable, match="'b' and 3"):
        found(reader, "config.x < 3", "mlxp")
    assert found(reader, "config.y == 'a' & config.x < 3", "mlxp") == [1]
    assert found(reader, "config.y == 'b' | config.x < 3", "mlxp") == [1, 2]
    assert isinstance(NotComparable("x"), TypeError)


SIGNS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
SCALARS = st.one_of(
    st.integers(-3, 3), st.integers(), st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 2**64]), st.booleans(),
    st.floats(allow_nan=False), st.sampled_from([0.0, 1.0, float(2**53), float(2**63), float("inf")]), st.text(max_size=2),
)  # fmt: skip


@settings(deadline=None)
@given(values=st.lists(SCALARS, min_size=1, max_size=4), sign=st.sampled_from(sorted(SIGNS)), value=SCALARS)
def test_a_comparison_is_what_python_says_it_is(values, sign, value):
    """Exactly, also where an array of numbers would round: each value against its own column, and as one of a mixed one."""

    def python_says(each):
        try:
            return SIGNS[sign](each, value)
        except TypeError:
            return False

    said = repr(value) if not isinstance(value, str) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    expected = [number for number, each in enumerate(values, start=1) if python_says(each)]
    assert found(trials(*[{"x": each} for each in values]), f"config.x {sign} {said}") == expected
    for each in values:
        assert found(trials({"x": each}, {}), f"config.x {sign} {said}") == ([1] if python_says(each) else [])


def test_status_is_asked_for_in_either_vocabulary():
    """MLXP's words are the ledger's of the same meaning; a word of both means the ledger's."""
    with ledger.open("memory:") as book:
        exp = book.experiment("demo")
        for status in ("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "LOST", "PRUNED"):
            trial = exp.new_trial({})
            if status != "PENDING":
                trial.force_status(status, reason="test")
        reader = Reader(book)
        for dialect in ("mlxp", "extended"):
            assert (
                found(reader, "info.status == 'COMPLETE'", dialect) == found(reader, "info.status == 'SUCCEEDED'", dialect) == [3]
            )
            assert found(reader, "info.status != 'COMPLETE'", dialect) == [1, 2, 4, 5, 6]
            assert found(reader, "info.status in ['STARTING', 'FAILED']", dialect) == [1, 4]
        assert found(reader, "status == 'LOST'") == [5]
        assert found(reader, "status =~ 'ED$' order by status") == [4, 6, 3]
        assert found(reader, "status =~ '^COMPLETE$'") == [3]
        assert found(reader, "status =~ 'START|FAIL'") == [1, 4]


def test_times_are_compared_with_iso_texts(book, clock):
    """In UTC unless they say otherwise; a year or a month is where it begins; what is no time is not comparable."""
    exp = book.experiment("demo")
    exp.new_trial({})
    clock.advance(3600)
    exp.new_trial({})
    reader = Reader(book)
    created = reader.filter()[0]["info.created_at"]
    assert created.value == 1_800_000_000_123_456_789
    later = dt.datetime.fromtimestamp(1_800_001_000, dt.UTC)
    assert found(reader, f"info.created_at < '{later.isoformat()}'") == [1]
    assert found(reader, f"created_at >= '{later:%Y-%m-%d %H:%M}'") == [2]
    assert found(reader, f"created_at >= '{later.astimezone(dt.timezone(dt.timedelta(hours=5))).isoformat()}'") == [2]
    assert found(reader, "created_at > '2027' and created_at > '2027-01' and created_at < '2027-02'") == [1, 2]
    assert found(reader, "created_at < '2027' or created_at > '2027-02' or created_at > '2028'") == []
    assert found(reader, "created_at > 'yesterday' or created_at < 5 or exists(started_at)") == []
    with pytest.raises(NotComparable):
        found(reader, "info.created_at > 'yesterday'", "mlxp")


def test_an_unknown_key_names_the_nearest(sweep):
    """Of a typo, of the last part of a key, and of a part of the tree."""
    with pytest.raises(UnknownKey, match=r"Did you mean 'config\.optimizer\.lr'") as raised:
        sweep.filter("config.optimiser.lr < 1")
    assert raised.value.key == "config.optimiser.lr"
    with pytest.raises(UnknownKey, match=r"Did you mean 'config\.seed'"):
        sweep.filter("seed == 1")
    with pytest.raises(UnknownKey, match=r"There is 'config\.model\.num_units'"):
        sweep.filter("config.model == 1")
    for far in ("zzz", "config.zzz"):
        with pytest.raises(UnknownKey, match=r"reader\.fields lists"):
            sweep.filter(f"order by {far}")
    assert len(sweep.filter("exists(config.nope)")) == 0
    with pytest.raises(UnknownKey, match="nope"):
        sweep.filter("config.seed == 99 and (config.nope == 1 or not exists(config.x))")  # though the left side is false of all
    assert len(sweep.filter("config.seed == 99 & config.nope == 1", dialect="mlxp")) == 0


def test_metrics_are_asked_for_by_reductions():
    """NaN is left out of min, max and mean; a trial without points has none of them."""
    with ledger.open("memory:") as book:
        exp = book.experiment("demo")
        for values in ([3.0, 1.0, 2.0], [5.0, float("nan")], [7, 8], ["a", 1.5, None, "b"]):
            exp.new_trial({}).log_many({"train.loss": values}, steps=range(len(values)))
        exp.new_trial({})
        reader = Reader(book)
        assert found(reader, "train.loss.min <= 1.5") == [1, 4]
        assert found(reader, "train.loss.max == 5") == [2]
        assert found(reader, "train.loss.mean == 7.5 or train.loss.mean == 5.0") == [2, 3]
        assert found(reader, "train.loss.first == 'a' or train.loss.last == nan") == [2, 4]
        assert found(reader, "train.loss.count > 2") == [1, 4]
        assert found(reader, "exists(train.loss) and train.loss.last == 2") == [1]
        assert found(reader, "not exists(train.loss)") == found(reader, "not exists(train.loss.min)") == [5]
        assert found(reader, "order by train.loss.min desc") == [3, 2, 4, 1, 5]
        assert found(reader, "metric.train.loss.min > 6") == [3]
        with pytest.raises(InvalidQuery, match=r"'train\.loss' is a metric.*train\.loss\.last"):
            found(reader, "train.loss < 1")
        with pytest.raises(UnknownKey, match=r"Did you mean 'train\.loss\.min'"):
            found(reader, "train.los.min < 1")
        for key in ("train.loss.std", "train.los"):
            with pytest.raises(UnknownKey, match=r"Did you mean one of train\.loss\.last, .*train\.loss\.min"):
                found(reader, f"{key} < 1")


def test_a_metric_of_a_configs_name_is_told_apart():
    """Its key has `metric.` before it; so has one that looks like a key of something else."""
    with ledger.open("memory:") as book:
        trial = book.experiment("demo").new_trial({"lr": 0.5})
        trial.log_many({"config.lr": [1.0], "status": [2.0], "loss": [3.0], "loss.min": [4.0]})
        reader = Reader(book)
        row = reader.filter()[0]
        assert (row["config.lr"], row["metric.config.lr"], row["loss"], row["loss.min"]) == (0.5, [1.0], [3.0], [4.0])
        assert found(reader, "config.lr == 0.5 and metric.config.lr.last == 1.0 and status.max == 2 and loss.min.min == 4") == [1]


def test_artifacts_are_asked_for_by_existence():
    """By name or by type; they have no value to compare."""
    with ledger.open("memory:") as book:
        exp = book.experiment("demo")
        exp.new_trial({}).log_artifact({"a": 1}, name="my plan.json")
        exp.new_trial({}).log_artifact(b"...", name="pickle/last/model.pkl")
        reader = Reader(book)
        assert found(reader, "exists('artifact.my plan.json')") == found(reader, "exists(artifact.json.)") == [1]
        assert found(reader, "exists(artifact.pickle/last/model.pkl)") == found(reader, "exists(artifact.pickle..last)") == [2]
        assert found(reader, "exists(artifact.nothing)") == []
        with pytest.raises(InvalidQuery, match="is an artifact"):
            found(reader, "artifact.json. == 1")


def test_tags_attributes_and_experiments_are_keys():
    """Beside what the table of trials has."""
    with ledger.open("memory:") as book:
        first, second = (book.experiment(name).new_trial({}) for name in ("a b", "c"))
        first.tag("baseline", "fast")
        second.set_attributes({"sampler": {"name": "tpe"}, "gone": 1}, namespace="optuna")
        second.set_attributes({"gone": None}, namespace="optuna")
        second.set_attributes({"owner": "ada"})
        reader = Reader(book)
        assert reader.filter("tags contains 'fast'")["info.experiment"] == ["a b"]
        assert reader.filter("info.attributes.optuna.sampler.name == 'tpe' and attributes.owner == 'ada'")["info.experiment"] == [
            "c"
        ]
        assert len(reader.filter("exists(info.attributes.optuna.gone)")) == 0
        assert len(reader.filter("experiment == 'c' and group == 'x'")) == 0  # a known key, though nobody has it


def test_odd_names_are_found_in_quotes():
    """Dots, spaces, quotes, emoji; a dotted name and a nested one are the same key."""
    reader = trials({"a b": 1}, {'it\'s "x"': 2}, {"😀": 3}, {"a.b": 4}, {"a": {"b": 5, 7: 6}}, {"a": {}})
    assert found(reader, "'config.a b' == 1") == [1]
    assert found(reader, "'config.it\\'s \"x\"' == 2") == [2]
    assert found(reader, "'config.😀' == 3") == [3]
    assert found(reader, "config.a.b in [4, 5]") == [4, 5]
    assert found(reader, "config.a.7 == 6") == [5]


def test_a_regular_expression_that_would_take_ages_is_stopped(monkeypatch):
    """The bound is on all texts of a query together."""
    monkeypatch.setattr(predicate, "MATCH_SECONDS", 0.05)
    reader = trials({"x": "a" * 5000 + "!"}, {"x": 1})
    with pytest.raises(InvalidQuery, match=r"takes more than 0\.05 s"):
        found(reader, r"config.x =~ '^(a|a?)+(a|aa)+(\\w*\\w*)*$'")
    with pytest.raises(InvalidQuery, match="is no regular expression"):
        found(reader, "config.x =~ '('")
    with pytest.raises(InvalidQuery, match=r"of 5,000 characters"):
        found(reader, "config.x =~ '" + "a" * 5000 + "'")


def test_deep_nesting_is_an_error_and_not_a_crash():
    """Of conditions that cannot be flattened."""
    reader = trials({"x": 1})
    query = "config.x == 1"
    for _ in range(2000):
        query = f"(config.x == 1 & (config.x == 2 | {query}))"
    for dialect in ("mlxp", "extended"):
        with pytest.raises(InvalidQuery, match="nested too deeply"):
            found(reader, query, dialect)


def test_ten_thousand_keys_are_no_trouble():
    """Each is found, and a typo among them is told."""
    reader = trials(
        *[{f"p{number}": number} for number in range(0, 10_000, 100)], {f"p{number}": number for number in range(10_000)}
    )
    assert found(reader, "config.p9900 == 9900") == [100, 101]
    assert found(reader, "config.p9901 > 1") == [101]
    assert len(reader.filter()[0]) < 30
    with pytest.raises(UnknownKey, match="Did you mean"):
        found(reader, "config.q9901 > 1")


def test_a_ledger_without_trials_answers_every_query():
    """No key is unknown where there is nothing to know."""
    for make in (lambda book: None, lambda book: book.experiment("empty")):
        with ledger.open("memory:") as book:
            make(book)
            reader = Reader(book)
            assert (len(reader), len(reader.filter("config.lr < 1 and loss.min < 2 order by x")), len(reader.fields)) == (0, 0, 0)
            assert reader.filter("config.lr < 1", "pandas").shape[0] == 0
