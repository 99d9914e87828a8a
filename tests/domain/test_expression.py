"""Expressions, from their text to their value; and what an attacker of either end gets."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.config.expressions import parse, template
from bot.config.yaml import parse as parse_yaml
from bot.domain import expression
from bot.domain.expression import Binary, Expression, ExpressionError, Filter, Item, Literal, Name, evaluate, render
from bot.errors import ConfigError

NAMES: dict[str, Any] = {
    "alert": {
        "severity_id": 5,
        "time": "2026-03-01T10:00:00Z",
        "agent_uid": None,
        "labels": {"env": "prod", "items": "a label"},
        "types": ["data_exposure"],
        "resources": [
            {"uid": "i-1", "type": "AWS::EC2::Instance", "labels": {"tier": "1"}},
            {"uid": "r-1", "type": "AWS::IAM::Role", "labels": {}},
            {"uid": "i-2", "type": "AWS::EC2::Instance", "labels": {}},
        ],
    },
    "steps": {"snapshot": {"status": "done", "outputs": {"count": 2}}},
}


def value(text: str, names: dict[str, Any] = NAMES) -> Any:
    return evaluate(parse(text, "p.yaml:1"), names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alert.severity_id >= 4 and alert.labels.env == 'prod'", True),
        ("${{ alert.severity_id }}", 5),
        ("alert['labels']['env']", "prod"),
        ("alert.labels.items", "a label"),
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("not (1 == 1.0)", False),
        ("true == 1", False),
        ("[1, [2]] == [1, [2]]", True),
        ("7 // 2 + 7 % 2 - -1", 5),
        ("'a' ~ 1 ~ true", "a1true"),
        ("'a' + 'b'", "ab"),
        ("[1] + [2]", [1, 2]),
        ("'low' if alert.severity_id < 3 else 'high'", "high"),
        ("'data_exposure' in alert.types", True),
        ("'x' not in alert.types", True),
        ("'env' in alert.labels", True),
        ("'ro' in alert.labels.env", True),
        ("alert.resources[0].uid", "i-1"),
        ("alert.resources[-1].uid", "i-2"),
        ("alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') | map('uid') | list", ["i-1", "i-2"]),
        ("alert.resources | rejectattr('type', 'eq', 'AWS::EC2::Instance') | map(attribute='uid') | first", "r-1"),
        ("alert.resources | selectattr('labels.tier', 'eq', '1') | length", 1),
        ("alert.resources | selectattr('uid', 'in', ['i-2']) | map('uid') | last", "i-2"),
        ("alert.resources | selectattr('type', 'contains', 'IAM') | length", 1),
        ("['b', 'a', 'b'] | unique | sort | join(',')", "a,b"),
        ("[1, true] | unique", [1, True]),
        ("alert.agent_uid | default('nobody')", "nobody"),
        ("alert.labels.team | default('none')", "none"),
        ("'12' | int + 1", 13),
        ("2.9 | int", 2),
        ("alert.severity_id | string", "5"),
        ("alert.types | contains('data_exposure')", True),
        ("'PROD' | lower == alert.labels.env", True),
        ("alert.labels.team or 'nobody'", "nobody"),
    ],
)
def test_values(text: str, expected: Any) -> None:
    assert value(text) == expected
    assert type(value(text)) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alert.labels.team == 'x'", False),
        ("alert.labels.team != 'x'", True),
        ("alert.labels.team == alert.labels.team", False),
        ("alert.labels.team in ['x']", False),
        ("alert.labels.team not in ['x']", True),
        ("'x' in alert.labels.team", False),
        ("not alert.labels.team", True),
        ("alert.resources | rejectattr('labels.tier', 'eq', '1') | length", 2),
    ],
)
def test_an_absent_label_equals_nothing(text: str, expected: bool) -> None:
    assert value(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "alert.labels.team < 'x'",
        "alert.labels.team ~ 'x'",
        "[alert.labels.team]",
        "alert.labels.team | upper",
        "alert.labels.team.deeper",
        "alert.resources | map('labels.tier') | list",
        "alert.nothing",
        "lipsum.__globals__",
        "nothing",
        "alert.types[1]",
        "alert.types[true]",
        "alert.types.append",
        "alert.labels.env.upper",
        "1 + '1'",
        "'1' * 2",
        "'%s' % 1",
        "[1] * 3",
        "1 / 0",
        "1 < 'a'",
        "true + 1",
        "-'a'",
        "[1, 'a'] | sort",
        "[] | first",
        "'x1' | int",
        "'1_000' | int",
        "none ~ 'x'",
        "alert.types ~ 'x'",
        "alert.types | join(',') | map('x')",
        "alert.resources | selectattr('nothing', 'eq', 1)",
        "alert.resources | selectattr('uid', '__eq__', 1)",
        "alert.resources | map('__class__') | list",
        "''.__class__",
        "''['__class__']",
        "[].__class__.__mro__",
        "alert.__class__",
        "alert['__init__']",
        "alert.labels['x']['__globals__']",
    ],
)
def test_errors_are_values_of_one_kind(text: str) -> None:
    with pytest.raises(ExpressionError):
        value(text)


@pytest.mark.parametrize(
    "text",
    [
        "'a' * 10**9",
        "alert.labels.items()",
        "range(10**9)",
        "{'a': 1}",
        "alert.types[0:1]",
        "x is defined",
        "''|attr('__class__')",
        "alert | tojson",
        "'a'|format(1)",
        "1 if true",
        "alert.types | sort(reverse=true)",
        "alert.types | join(*[1])",
        "1 2",
        "1 }} {{ 2",
        "{% set x = 1 %}",
        "",
        "(" * 900 + "1" + ")" * 900,
        "-" * 1500 + "1",
        "1" + "|string" * 100,
        "1 + " * 400 + "1",
        "not " * 300 + "1",
        "'" + "a" * 3000 + "'",
    ],
)
def test_what_is_not_on_the_list_is_refused_at_load(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text, "p.yaml:1")
    assert str(error.value).startswith("p.yaml:1: ")


def test_bounds_hold_for_trees_no_parser_made() -> None:
    deep: Expression = Literal(1)
    for _ in range(5000):
        deep = Binary("+", deep, Literal(1))
    with pytest.raises(ExpressionError, match="nested"):
        evaluate(deep, {})

    doubled: Expression = Literal("a" * 1000)
    for _ in range(20):
        doubled = Binary("~", doubled, doubled)
    with pytest.raises(ExpressionError, match=r"characters|steps"):
        evaluate(doubled, {})

    number: Expression = Literal(10)
    for _ in range(12):
        number = Binary("*", number, number)
    with pytest.raises(ExpressionError, match="bits"):
        evaluate(number, {})

    long = Name("long")
    with pytest.raises(ExpressionError, match="elements"):
        evaluate(Binary("+", long, long), {"long": [0] * 6000})
    with pytest.raises(ExpressionError, match="steps"):
        evaluate(Filter(long, "length"), {"long": [0] * 20_000})


def test_a_python_object_among_the_names_is_refused() -> None:
    with pytest.raises(ExpressionError, match="not text"):
        evaluate(Name("x"), {"x": object()})
    with pytest.raises(ExpressionError, match="not text"):
        evaluate(Item(Name("x"), Literal("y")), {"x": {"y": print}})


def test_rendering() -> None:
    node = parse_yaml(
        "whole: ${{ alert.severity_id }}\n"
        "text: sev-${{ alert.severity_id }}-${{ '}}' }}!\n"
        "nested: {list: [1, '${{ alert.types }}'], none: null, flag: true}\n"
        "plain: just text\n",
        "p.yaml",
    )
    assert render(template(node), NAMES) == {
        "whole": 5,
        "text": "sev-5-}}!",
        "nested": {"list": [1, ["data_exposure"]], "none": None, "flag": True},
        "plain": "just text",
    }


@pytest.mark.parametrize(
    "text",
    ["a-${{ alert.agent_uid }}", "a-${{ alert.labels.team }}", "${{ alert.labels.team }}", "a${{ alert.types }}"],
)
def test_rendering_refuses_what_has_no_text(text: str) -> None:
    with pytest.raises(ExpressionError):
        render(template(parse_yaml(f'"{text}"', "p.yaml")), NAMES)


def test_an_alert_cannot_smuggle_an_expression_in() -> None:
    hostile = {"alert": {"title": "${{ agent.id }} {{ 7*7 }} {% raw %}"}}
    assert render(template(parse_yaml("t: 'x ${{ alert.title }}'", "p.yaml")), hostile) == {
        "t": "x ${{ agent.id }} {{ 7*7 }} {% raw %}"
    }


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "labels", "uid"]), inner),
    max_leaves=8,
)
_WORDS = (
    *("a", "b.a", "b.labels.x", "'s'", "1", "2.5", "10**9", "true", "none", "[", "]", "(", ")", ",", "}}", "{{"),
    *("+", "-", "*", "/", "//", "%", "~", "**", "==", "<", "in", "not", "and", "or", "if", "else"),
    *("|", "first", "length", "map('a')", "selectattr('a','eq',1)", "sort", "unique", "join"),
    *(".__class__", "['__class__']", ".items()"),
)
_TEXTS = st.lists(st.sampled_from(_WORDS), max_size=14).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(_TEXTS, _JSON, _JSON)
def test_any_text_gives_a_json_value_or_one_of_two_errors(text: str, a: Any, b: Any) -> None:
    try:
        result = evaluate(parse(text, "p.yaml:1"), {"a": a, "b": b})
    except (ConfigError, ExpressionError):
        return
    assert result is None or isinstance(result, str | int | float | bool | list | tuple | dict)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_the_parser_survives_any_text(text: str) -> None:
    with suppress(ConfigError):
        parse(text, "p.yaml:1")


@settings(max_examples=100, deadline=None)
@given(_JSON, st.sampled_from(sorted(expression.FILTERS)), st.lists(_JSON, max_size=3))
def test_any_filter_on_any_value_is_a_value_or_an_error(value: Any, name: str, arguments: list[Any]) -> None:
    names = {"v": value} | {f"a{index}": argument for index, argument in enumerate(arguments)}
    asked = Filter(Name("v"), name, tuple(Name(f"a{index}") for index in range(len(arguments))))
    with suppress(ExpressionError):
        evaluate(asked, names)
