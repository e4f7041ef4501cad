"""`when` and `depends`.

A plain `when` is govaluate: unquoted words are texts, a string ends at the next quote *of either
kind*, and a value that holds a quote therefore breaks it. `depends` is expr-lang over the results
of the tasks that it names.
"""

import re
from collections.abc import Callable
from typing import Any

from tests.argo import expressions

__all__ = ["RESULTS", "ConditionError", "dependencies", "depends_holds", "when_holds"]


class ConditionError(ValueError):
    """A condition that the controller refuses: the node is an error."""


RESULTS = (
    "Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded", "AllFailed",
)  # fmt: skip

_TASKS = re.compile(r"([a-zA-Z0-9][-a-zA-Z0-9]*?\.[A-Z][a-zA-Z]+)|([a-zA-Z0-9][-a-zA-Z0-9]*)")


def dependencies(task: dict[str, Any], tasks: dict[str, dict[str, Any]]) -> tuple[list[str], str]:
    """The tasks that a task depends on, and its condition with every bare name spelt out."""
    logic = task.get("depends") or " && ".join(
        _spelt_out(name, tasks) for name in task.get("dependencies") or []
    )
    names: dict[str, None] = {}

    def expand(match: re.Match[str]) -> str:
        name = match[0].split(".")[0]
        names[name] = None
        return match[0] if match[1] else _spelt_out(name, tasks)

    spelt_out = _TASKS.sub(expand, logic)
    return list(names), spelt_out


def _spelt_out(name: str, tasks: dict[str, dict[str, Any]]) -> str:
    results = ["Succeeded", "Skipped", "Daemoned"]
    go_on = tasks.get(name, {}).get("continueOn") or {}
    results += ["Errored"] * bool(go_on.get("error")) + ["Failed"] * bool(go_on.get("failed"))
    return "(" + " || ".join(f"{name}.{result}" for result in results) + ")"


def depends_holds(logic: str, results: dict[str, dict[str, bool]]) -> bool:
    """Whether a task is to run, by the results of others. One named `in` makes this an error."""
    text = logic.replace("-", "_")
    environment = {name.replace("-", "_"): result for name, result in results.items()}
    try:
        value = expressions.evaluate(text, environment)
    except expressions.ExpressionError as failure:
        raise ConditionError(f"unable to evaluate expression '{text}': {failure}") from failure
    if not isinstance(value, bool):
        raise ConditionError(f"unable to cast expression result '{value}' to bool")
    return value


def when_holds(when: str) -> bool:
    """Whether a `when`, with all its tags replaced, is true; none is true."""
    if when == "":
        return True
    try:
        tokens = _tokens(when)
        value = _Condition(tokens).value()
    except ConditionError as failure:
        hint = (
            ' (hint: try wrapping the affected expression in quotes ("))'
            if "Invalid token" in str(failure)
            else ""
        )
        raise ConditionError(f"Invalid 'when' expression '{when}': {failure}{hint}") from None
    if not isinstance(value, bool):
        raise ConditionError(f"Expected boolean evaluation for '{when}'. Got {value}")
    return value


_COMPARATORS = {"==", "!=", ">", ">=", "<", "<=", "=~", "!~"}
_MODIFIERS = {"+", "-", "*", "/", "%", "**"}

_OPERANDS = {"number", "boolean", "text"}
# What may follow what, as far as it decides anything here.
_AFTER = {
    "start": _OPERANDS | {"prefix", "("},
    "(": _OPERANDS | {"prefix", "(", ")"},
    ")": {"comparator", "modifier", "logical", "ternary", ",", "(", ")"} | _OPERANDS,
    "operand": {"comparator", "modifier", "logical", "ternary", ",", ")"},
    "comparator": _OPERANDS | {"prefix", "(", ")"},
    "modifier": _OPERANDS | {"prefix", "(", ")"},
    "logical": _OPERANDS | {"prefix", "(", ")"},
    "prefix": {"number", "boolean", "text", "(", ")"},
    "ternary": _OPERANDS | {"prefix", "("},
    ",": _OPERANDS | {"prefix", "("},
}
_LEXEMES = re.compile(
    r"""(?P<number>0x[0-9a-fA-F]+ | [\d.]+) | (?P<comma>,) | \[(?P<bracket>[^\]]*)(?P<shut>\]?)
    | (?P<word>[^\W\d_][\w.]*) | ['"](?P<text>(?:\\.|[^'"\\])*)(?P<end>['"]?)
    | (?P<parenthesis>[()])
    | (?P<symbol>(?:\\.|[^\s\w()\[\]'"]|_)+)""",
    re.VERBOSE | re.DOTALL,
)


def _tokens(when: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    state, at = "start", 0
    while at < len(when):
        if when[at].isspace():
            at += 1
            continue
        match = _LEXEMES.match(when, at)
        if match is None:
            raise ConditionError(f"Invalid token: '{when[at]}'")
        at = match.end()
        token = _token(match, "prefix" in _AFTER[state])
        if token[0] not in _AFTER[state]:
            before = found[-1] if found else ("start", "")
            raise ConditionError(
                f"Cannot transition token types from {before[0].upper()} [{before[1]}] "
                f"to {token[0].upper()} [{token[1]}]"
            )
        found.append(token)
        state = "operand" if token[0] in _OPERANDS else token[0]
    if state not in ("operand", ")"):
        raise ConditionError("Unexpected end of expression")
    if [t[0] for t in found].count("(") != [t[0] for t in found].count(")"):
        raise ConditionError("Unbalanced parenthesis")
    return found


def _token(match: re.Match[str], may_be_prefix: bool) -> tuple[str, Any]:
    kind, text = match.lastgroup, match[0]
    if kind == "number":
        try:
            return "number", float(int(text, 16)) if text.startswith("0x") else float(text)
        except ValueError:
            raise ConditionError(f"Unable to parse numeric value '{text}' to float64\n") from None
    if match["bracket"] is not None:
        if not match["shut"]:
            raise ConditionError("Unclosed parameter bracket")
        return "text", match["bracket"]
    if match["text"] is not None:
        if not match["end"]:
            raise ConditionError("Unclosed string literal")
        return "text", re.sub(r"\\(.)", r"\1", match["text"], flags=re.DOTALL)
    if kind == "word":
        return _word(text)
    if kind in ("comma", "parenthesis"):
        return text, text
    text = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
    if may_be_prefix and text in ("-", "!", "~"):
        return "prefix", text
    for kind, symbols in (
        ("modifier", _MODIFIERS),
        ("logical", {"&&", "||"}),
        ("comparator", _COMPARATORS),
        ("ternary", {"?", ":", "??"}),
    ):
        if text in symbols:
            return kind, text
    raise ConditionError(f"Invalid token: '{text}'")


def _word(text: str) -> tuple[str, Any]:
    if text in ("true", "false"):
        return "boolean", text == "true"
    if text in ("in", "IN"):
        return "comparator", "in"
    if "." in text:
        raise ConditionError(f"Unable to access unexported field in token '{text}'")
    return "text", text


class _Condition:
    """Precedence climbing: ternary, `||`, `&&`, comparison, sums, products, power."""

    LEVELS: tuple[set[str], ...] = (
        {"||"}, {"&&"}, _COMPARATORS | {"in"}, {"+", "-"}, {"*", "/", "%"}, {"**"},
    )  # fmt: skip

    def __init__(self, tokens: list[tuple[str, Any]]) -> None:
        self.tokens = [*tokens, ("end", None)]
        self.at = 0

    def value(self) -> Any:
        value = self.ternary()
        if self.tokens[self.at][0] != "end":
            raise ConditionError(f"Unexpected token {self.tokens[self.at][1]}")
        return value

    def ternary(self) -> Any:
        test = self.level(0)
        if self.tokens[self.at] != ("ternary", "?"):
            return test
        self.at += 1
        yes = self.level(0)
        no = None
        if self.tokens[self.at] == ("ternary", ":"):
            self.at += 1
            no = self.ternary()
        return yes if test is True else no

    def level(self, depth: int) -> Any:
        if depth == len(self.LEVELS):
            return self.operand()
        left = self.level(depth + 1)
        while (
            self.tokens[self.at][0] in ("logical", "comparator", "modifier")
            and (operator := self.tokens[self.at][1]) in (self.LEVELS[depth])
        ):
            self.at += 1
            left = _apply(operator, left, self.level(depth + 1))
        return left

    def operand(self) -> Any:
        kind, value = self.tokens[self.at]
        self.at += 1
        if kind == "prefix":
            inner = self.operand()
            return _negated(value, inner)
        if kind == "(":
            items = []
            while self.tokens[self.at][0] != ")":
                items.append(self.ternary())
                if self.tokens[self.at][0] == ",":
                    self.at += 1
                elif self.tokens[self.at][0] != ")":
                    raise ConditionError(f"Unexpected token {self.tokens[self.at][1]}")
            self.at += 1
            return items[0] if len(items) == 1 else items
        if kind not in _OPERANDS:
            raise ConditionError(f"Unexpected token {value}")
        return value


def _negated(prefix: str, value: Any) -> Any:
    if prefix == "!" and isinstance(value, bool):
        return not value
    if prefix == "-" and isinstance(value, float):
        return -value
    raise ConditionError(f"Value '{value}' cannot be used with the prefix '{prefix}'")


def _modulus(left: float, right: float) -> float:
    return left - right * int(left / right)


_NUMERIC: dict[str, Callable[[float, float], Any]] = {
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else float("inf"),
    "%": _modulus,
    "**": lambda a, b: a**b,
}
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def _apply(operator: str, left: Any, right: Any) -> Any:
    if operator in ("==", "!="):
        return (type(left) is type(right) and left == right) is (operator == "==")
    if operator in ("&&", "||"):
        for value in (left, right):
            if not isinstance(value, bool):
                raise ConditionError(
                    f"Value '{value}' cannot be used with the logical operator '{operator}', "
                    "it is not a bool"
                )
        return (left and right) if operator == "&&" else (left or right)
    if operator == "in":
        return any(type(left) is type(item) and left == item for item in _several(right))
    texts = isinstance(left, str) and isinstance(right, str)
    if operator in ("=~", "!~") and texts:
        return bool(re.search(right, left)) is (operator == "=~")
    if operator == "+" and isinstance(left, (str, float)) and isinstance(right, (str, float)):
        return left + right if type(left) is type(right) else f"{_shown(left)}{_shown(right)}"
    numbers = isinstance(left, float) and isinstance(right, float)
    if operator in _ORDERED and (texts or numbers):
        return _ORDERED[operator](left, right)
    if operator in _NUMERIC and numbers:
        return _NUMERIC[operator](left, right)
    culprit = right if isinstance(left, float) else left
    raise ConditionError(
        f"Value '{culprit}' cannot be used with the operator '{operator}', it is not a number"
    )


def _several(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ConditionError(f"Value '{value}' cannot be used with the comparator 'in'")
    return value


def _shown(value: str | float) -> str:
    return f"{value:g}" if isinstance(value, float) else value
