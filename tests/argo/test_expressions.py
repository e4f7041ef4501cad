"""Expressions, conditions and templates, case by case.

Where no recording shows a case, it is taken from Argo's own tests of the same function.
"""

import json

import pytest

from tests.argo import conditions, expressions, gotext, items, templating

KNOWN = {"tasks.n-x.outputs.parameters.y": " each report ", "inputs.parameters.i": "3", "q": "'"}


def replaced(text, values=None, strict=None):
    return templating.substitute({"v": text}, KNOWN if values is None else values, strict)["v"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{=asInt(inputs.parameters.i)+1}}", "4"),
        ("{{=asFloat(inputs.parameters.i) / 2}}", "1.5"),
        ("{{=tasks['n-x'].outputs.parameters.y contains ' each '}}", "true"),
        ("{{=inputs.parameters.i == '3' ? '1ns' : '8760h'}}", "1ns"),
        ("{{=asInt(inputs.parameters.i)+1 >= 5 || not (inputs.parameters.i in ['3'])}}", "false"),
        ("{{=inputs.parameters.i matches '^[0-9]$' && inputs.parameters.i != ''}}", "true"),
        ("{{=sprig.trimPrefix('wf', 'wf.n-a')}}", ".n-a"),
        ("{{=sprig.b64enc(inputs.parameters.i)}}", "Mw=="),
        ("{{=len(fromJSON('[1,2]')) > 1 and true}}", "true"),
        ("{{=filter([1, 2, 3], {# > 1}) | len()}}", "2"),
        ('{{=jsonpath(\'{"a": [{"b": 1}, {"b": 2}]}\', \'$.a[*].b\')}}', "[1,2]"),
        ("{{='some\\nstring'}}", "some\nstring"),
        ("{{=toJson([1, '2', {an: 'object'}])}}", '[1,"2",{"an":"object"}]'),
        ("{{=1 + \n1}}", "2"),
        ("{{='\"'}}", '"'),
        ("{{ q }}", "'"),
        ("{{unknown}} {{=unknown.name}}", "{{unknown}} {{=unknown.name}}"),
        ("{{=retries + 'x'}}", "{{=retries + 'x'}}"),
    ],
)
def test_a_tag_is_replaced(text, value):
    assert replaced(text) == value


@pytest.mark.parametrize(
    "text",
    ["{{=tasks.n-x.outputs.parameters.y}}", "{{tasks.n-z.outputs.parameters.y}}", "{{=!}}", "{{"],
)
def test_a_reference_that_must_be_known(text):
    """`tasks.n-x` without brackets is `tasks.n` minus `x`."""
    with pytest.raises(templating.TemplateError):
        replaced(text, strict=templating.EVERYTHING)


def test_a_value_is_looked_into_once_more():
    assert replaced("{{outer-{{inner}}}}", {"inner": "x", "outer-x": "y"}) == "{{outer-x}}"


def test_the_output_of_a_skipped_task():
    absent = {"tasks.a.outputs.parameters.x": None}
    with pytest.raises(templating.TemplateError, match="absent optional"):
        replaced("{{tasks.a.outputs.parameters.x}}", absent)
    assert replaced("{{=tasks.a.outputs.parameters.x ?? 'none'}}", absent) == "none"


@pytest.mark.parametrize(
    "text",
    ["1 +", "'a' + 1", "asInt('x')", "[1", "{a: 1", "nil.x", "in == 1", "unknown", "item == 1"],
)
def test_what_is_no_expression(text):
    with pytest.raises(expressions.ExpressionError):
        expressions.evaluate(text, {"asInt": int, "item": "1"})


def test_a_member_is_compared_whatever_it_is():
    assert expressions.evaluate("a.b != 1 && nil == a.c", {"a": {"b": "1"}})


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("", True),
        ("false", False),
        ("big == big", True),
        ("'a b' != \"a\" && 3 > 2", True),
        ("!(x == y) || false", True),
        ("2 in (1, 2)", True),
        ("'abc' =~ '^a'", True),
        ("3 == '3'", False),
        ("true ? false : true", False),
    ],
)
def test_a_plain_when(when, holds):
    assert conditions.when_holds(when) is holds


@pytest.mark.parametrize(
    "when", ["'[\"a\"]' != '[]'", "'it's' == x", "n-x == y", "== 3", "a b", "3", "(a == a", "a.b"]
)
def test_a_plain_when_that_is_an_error(when):
    """A quote in the value is the usual one."""
    with pytest.raises(conditions.ConditionError):
        conditions.when_holds(when)


def results(**true):
    every = {name: dict.fromkeys(conditions.RESULTS, False) for name in ("n-a", "n-b")}
    for name, result in true.items():
        every[name.replace("_", "-")][result] = True
    return every


@pytest.mark.parametrize(
    ("depends", "a", "b", "runs"),
    [
        ("n-a", "Skipped", "Failed", True),
        ("n-a", "Omitted", "Failed", False),
        ("n-a.Succeeded", "Skipped", "Failed", False),
        ("n-a && (n-b.Failed || n-b.Errored)", "Succeeded", "Errored", True),
        ("!n-a.Succeeded && n-b", "Failed", "Daemoned", True),
        ("n-a.AnySucceeded || n-b.AllFailed", "Succeeded", "AllFailed", True),
    ],
)
def test_depends(depends, a, b, runs):
    names, logic = conditions.dependencies({"depends": depends}, {"n-a": {}, "n-b": {}})
    assert names == [name for name in ("n-a", "n-b") if name in depends]
    assert conditions.depends_holds(logic, results(n_a=a, n_b=b)) is runs


@pytest.mark.parametrize("name", ["in", "not", "nil", "true"])
def test_a_task_with_the_name_of_an_operator(name):
    """Passes every check, and is an error when it is run."""
    _, logic = conditions.dependencies({"depends": f"{name}.Succeeded"}, {name: {}})
    with pytest.raises(conditions.ConditionError):
        conditions.depends_holds(logic, {name: {"Succeeded": True}})


def test_dependencies_are_bare_names():
    task, others = {"dependencies": ["a", "b"]}, {"a": {"continueOn": {"failed": True}}, "b": {}}
    assert conditions.dependencies(task, others) == (
        ["a", "b"],
        "(a.Succeeded || a.Skipped || a.Daemoned || a.Failed) && "
        "(b.Succeeded || b.Skipped || b.Daemoned)",
    )


def test_sequences():
    task = {"name": "n", "withSequence": {"start": "3", "count": 2, "format": "x%02d"}}
    assert [each.name for each in items.expand(task, {})] == ["n(0:x03)", "n(1:x04)"]
    task = {"name": "n", "withSequence": {"start": 1, "end": "0"}}
    assert [each.name for each in items.expand(task, {})] == ["n(0:1)", "n(1:0)"]
    assert items.expand({"name": "n", "withSequence": {"count": 0, "end": None}}, {}) == []


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ('a"b\\', 'a\\"b\\\\'),
        ("\x00\x07\x7f", "\\x00\\a\\x7f"),
        ("\u200d\U000e0067", "\\u200d\\U000e0067"),
        ("ü日😀", "ü日😀"),
    ],
)
def test_quoting_as_go_does(text, escaped):
    assert gotext.quote(text) == escaped


def test_json_as_go_writes_it():
    value = {"b": [1.0, 1e21, 1e-7, 0.1], "a": "<&>\u2028", "c": None}
    written = gotext.marshal(value)
    assert written == ('{"a":"\\u003c\\u0026\\u003e\\u2028","b":[1,1e+21,1e-7,0.1],"c":null}')
    assert json.loads(written) == value
