"""expr-lang, the language of `{{=...}}`, `depends` and `retryStrategy.expression`.

    evaluate("asInt(inputs.parameters.i) + 1", {"inputs": {"parameters": {"i": "1"}}})   # 2

A name that the environment has not is an error, as for the compiler of the real thing. A member
that a map has not is nil. `identifiers` lists what an expression refers to: the controller looks
there to tell "not known yet" from "wrong".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tests.argo import functions
from tests.argo.functions import ExpressionError

__all__ = ["ExpressionError", "evaluate", "identifiers", "parse"]


@dataclass(frozen=True, slots=True)
class Expr:
    """A node of the syntax tree: what it is, its value, its operands."""

    kind: str
    value: Any = None
    operands: tuple["Expr", ...] = ()


_TOKENS = re.compile(
    r"""\s+
    | (?P<number>0x[0-9a-fA-F]+ | \d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)? | \.\d+)
    | (?P<string>'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `[^`]*`)
    | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
    | (?P<sign>\?\. | \?\? | \|\| | && | == | != | <= | >= | \*\* | \.\.
        | [-+*/%<>!?:()\[\]{},.|\#^])
    """,
    re.VERBOSE | re.DOTALL,
)

# How tightly the operators of two sides bind (the language's own numbers).
_BINARY = {
    "|": 0, "or": 10, "||": 10, "and": 15, "&&": 15, "==": 20, "!=": 20, "<": 20, ">": 20, ">=": 20,
    "<=": 20, "in": 20, "matches": 20, "contains": 20, "startsWith": 20, "endsWith": 20, "..": 25,
    "+": 30, "-": 30, "*": 60, "/": 60, "%": 60, "**": 100, "^": 100, "??": 500,
}  # fmt: skip
_UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
_CONSTANTS = {"true": True, "false": False, "nil": None}
_RESERVED = {"in", "not", "and", "or", "matches", "contains", "startsWith", "endsWith"}


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None or match.end() == at:
            raise ExpressionError(f"unrecognized character: {text[at]!r} at {at} of {text!r}")
        if match.lastgroup is not None:
            found.append((match.lastgroup, match[0]))
        at = match.end()
    found.append(("end", ""))
    return found


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"}


def _literal(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]

    def unescape(match: re.Match[str]) -> str:
        escape = match[0][1:]
        if escape[0] in "xuU" and len(escape) > 1:
            return chr(int(escape[1:], 16))
        return _ESCAPES.get(escape, escape)

    pattern = r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)"
    return re.sub(pattern, unescape, text[1:-1], flags=re.DOTALL)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0

    def peek(self) -> str:
        return "" if self.tokens[self.at][0] == "string" else self.tokens[self.at][1]

    def take(self, expected: str | None = None) -> tuple[str, str]:
        kind, text = self.tokens[self.at]
        if expected is not None and self.peek() != expected:
            raise ExpressionError(f"unexpected token {text!r}, expected {expected!r}: {self.text}")
        self.at += 1
        return kind, text

    def accept(self, text: str) -> bool:
        if self.peek() != text:
            return False
        self.at += 1
        return True

    def expression(self, floor: int = 0) -> Expr:
        left = self.unary()
        while True:
            operator = self.peek()
            negated = operator == "not" and self.tokens[self.at + 1][1] == "in"
            if negated:
                operator = "in"
            binds = _BINARY.get(operator)
            if binds is None or binds < floor:
                break
            self.at += 2 if negated else 1
            if operator == "|":
                left = self.pipe(left)
                continue
            right_associative = operator in ("**", "^")
            right = self.expression(binds if right_associative else binds + 1)
            left = Expr("binary", operator, (left, right))
            if negated:
                left = Expr("unary", "not", (left,))
        if floor == 0 and self.accept("?"):
            yes = None if self.peek() == ":" else self.expression()
            self.take(":")
            left = Expr("choice", None, (left, yes or left, self.expression()))
        return left

    def pipe(self, left: Expr) -> Expr:
        kind, name = self.take()
        if kind != "name":
            raise ExpressionError(f"unexpected token {name!r} after a pipe: {self.text}")
        arguments = self.arguments() if self.peek() == "(" else ()
        return self.postfix(Expr("call", None, (Expr("name", name), left, *arguments)))

    def unary(self) -> Expr:
        operator = self.peek()
        if operator in _UNARY:
            self.at += 1
            return Expr("unary", operator, (self.expression(_UNARY[operator]),))
        return self.postfix(self.primary())

    def primary(self) -> Expr:
        kind, text = self.take()
        if kind == "number":
            plain = text.replace("_", "")
            whole = plain.isdigit() or plain.startswith("0x")
            return Expr("literal", int(plain, 0) if whole else float(plain))
        if kind == "string":
            return Expr("literal", _literal(text))
        if kind == "name":
            if text in _RESERVED:
                raise ExpressionError(f"unexpected token Operator({text!r}): {self.text}")
            return Expr("literal", _CONSTANTS[text]) if text in _CONSTANTS else Expr("name", text)
        if text == "(":
            inner = self.expression()
            self.take(")")
            return inner
        if text == "[":
            return Expr("list", None, self.several("]"))
        if text == "{":
            return self.map_or_predicate()
        if text == "#":
            return Expr("name", "#")
        if text == ".":
            return Expr("member", None, (Expr("name", "#"), Expr("literal", self.take()[1])))
        raise ExpressionError(f"unexpected token {text or 'EOF'!r}: {self.text}")

    def several(self, closing: str) -> tuple[Expr, ...]:
        found = []
        while not self.accept(closing):
            found.append(self.expression())
            if not self.accept(","):
                self.take(closing)
                break
        return tuple(found)

    def arguments(self) -> tuple[Expr, ...]:
        self.take("(")
        return self.several(")")

    def map_or_predicate(self) -> Expr:
        """`{a: 1}` is a map, `{# > 1}` a predicate: told apart by the colon after the first key."""
        kind, _ = self.tokens[self.at]
        if kind in ("name", "string", "number") and self.tokens[self.at + 1][1] == ":":
            pairs = []
            while not self.accept("}"):
                key_kind, key = self.take()
                self.take(":")
                name = _literal(key) if key_kind == "string" else key
                pairs.append(Expr("pair", name, (self.expression(),)))
                if not self.accept(","):
                    self.take("}")
                    break
            return Expr("map", None, tuple(pairs))
        if self.accept("}"):
            return Expr("map")
        body = self.expression()
        self.take("}")
        return Expr("predicate", None, (body,))

    def postfix(self, base: Expr) -> Expr:
        while True:
            if self.peek() in (".", "?."):
                optional = self.take()[1] == "?."
                if optional and self.accept("["):
                    base = Expr("member", optional, (base, self.expression()))
                    self.take("]")
                    continue
                kind, name = self.take()
                if kind != "name":
                    raise ExpressionError(f"unexpected token {name!r} after a dot: {self.text}")
                base = Expr("member", optional, (base, Expr("literal", name)))
            elif self.accept("["):
                base = self.index_or_slice(base)
            elif self.peek() == "(" and base.kind in ("name", "member"):
                base = Expr("call", None, (base, *self.arguments()))
            else:
                return base

    def index_or_slice(self, base: Expr) -> Expr:
        start = Expr("literal", None) if self.peek() == ":" else self.expression()
        if self.accept(":"):
            end = Expr("literal", None) if self.peek() == "]" else self.expression()
            self.take("]")
            return Expr("slice", None, (base, start, end))
        self.take("]")
        return Expr("member", False, (base, start))


@lru_cache(maxsize=4096)
def parse(text: str) -> Expr:
    """The syntax tree; `ExpressionError` says what is wrong."""
    parser = _Parser(text)
    tree = parser.expression()
    if parser.tokens[parser.at][0] != "end":
        raise ExpressionError(f"unexpected token {parser.tokens[parser.at][1]!r}: {text}")
    return tree


def _path(expr: Expr) -> str | None:
    """`tasks.a.outputs` of a chain of constant members, else None."""
    if expr.kind == "name":
        return str(expr.value)
    if expr.kind == "member" and not expr.value:
        base, key = _path(expr.operands[0]), expr.operands[1]
        if base is not None and key.kind == "literal" and isinstance(key.value, str):
            return f"{base}.{key.value}"
    return None


@lru_cache(maxsize=4096)
def identifiers(text: str) -> tuple[str, ...]:
    """Names and member paths that must be known; not those guarded by `??` or `?.`."""
    found: dict[str, None] = {}

    def walk(expr: Expr, guarded: bool) -> None:
        path = _path(expr)
        if path is not None and not (guarded and expr.kind == "member"):
            found[path] = None
        for position, operand in enumerate(expr.operands):
            shelter = expr.kind == "binary" and expr.value == "??" and position == 0
            optional = expr.kind == "member" and bool(expr.value)
            walk(operand, (guarded and expr.kind != "call") or shelter or optional)

    walk(parse(text), False)
    return tuple(found)


def evaluate(text: str, environment: dict[str, Any]) -> Any:
    """The value; `ExpressionError` for what the real thing refuses to compile or to run."""
    return _value(parse(text), environment)


def _value(expr: Expr, environment: dict[str, Any]) -> Any:
    return _RULES[expr.kind](expr, environment)


def _name(expr: Expr, environment: dict[str, Any]) -> Any:
    if expr.value in environment:
        return environment[expr.value]
    raise ExpressionError(f"unknown name {expr.value}")


def _member(expr: Expr, environment: dict[str, Any]) -> Any:
    base, key = (_value(operand, environment) for operand in expr.operands)
    if base is None and expr.value:
        return None
    if isinstance(base, dict):
        return base.get(key)
    if isinstance(base, (list, str)) and isinstance(key, int):
        if not -len(base) <= key < len(base):
            raise ExpressionError(f"index out of range: {key} (array length is {len(base)})")
        return base[key]
    raise ExpressionError(f"cannot fetch {key} from {functions.type_name(base)}")


def _slice(expr: Expr, environment: dict[str, Any]) -> Any:
    base, start, end = (_value(operand, environment) for operand in expr.operands)
    return base[start:end]


def _call(expr: Expr, environment: dict[str, Any]) -> Any:
    callee, *operands = expr.operands
    name = callee.value if callee.kind == "name" else None
    if name in functions.PREDICATES and name not in environment:
        items = _value(operands[0], environment)
        body = operands[1].operands[0] if operands[1].kind == "predicate" else operands[1]
        return functions.PREDICATES[name](
            items, lambda item: _value(body, {**environment, "#": item, **_fields(item)})
        )
    function: Callable[..., Any]
    if name is not None and name not in environment and name in functions.BUILTINS:
        function = functions.BUILTINS[name]
    else:
        function = _value(callee, environment)
    if not callable(function):
        raise ExpressionError(f"{_path(callee)} is not a function")
    arguments = [_value(operand, environment) for operand in operands]
    try:
        return function(*arguments)
    except ExpressionError:
        raise
    except Exception as failure:
        raise ExpressionError(f"{_path(callee)}: {failure}") from failure


def _fields(item: Any) -> dict[str, Any]:
    return item if isinstance(item, dict) else {}


def _unary(expr: Expr, environment: dict[str, Any]) -> Any:
    return functions.unary(str(expr.value), _value(expr.operands[0], environment))


def _binary(expr: Expr, environment: dict[str, Any]) -> Any:
    left, operator = _value(expr.operands[0], environment), str(expr.value)
    if operator in ("&&", "and", "||", "or"):
        stop = operator in ("||", "or")
        if functions.boolean(left) is stop:
            return stop
        return functions.boolean(_value(expr.operands[1], environment))
    if operator == "??":
        return left if left is not None else _value(expr.operands[1], environment)
    if operator in ("==", "!="):
        kinds = [_known_type(operand, environment) for operand in expr.operands]
        if None not in kinds and kinds[0] != kinds[1]:
            mismatch = f"{kinds[0]} and {kinds[1]}"
            raise ExpressionError(f"invalid operation: {operator} (mismatched types {mismatch})")
    return functions.binary(operator, left, _value(expr.operands[1], environment))


def _known_type(expr: Expr, environment: dict[str, Any]) -> str | None:
    """What the compiler knows: literals and plain names, not members. `item == 1` is an error,
    `inputs.parameters.i == 1` is false."""
    value = expr.value if expr.kind == "literal" else None
    if expr.kind == "name" and expr.value in environment:
        value = environment[expr.value]
    if isinstance(value, (str, bool)):
        return functions.type_name(value)
    return "number" if isinstance(value, (int, float)) else None


def _choice(expr: Expr, environment: dict[str, Any]) -> Any:
    test, yes, no = expr.operands
    return _value(yes if functions.boolean(_value(test, environment)) else no, environment)


_RULES: dict[str, Callable[[Expr, dict[str, Any]], Any]] = {
    "literal": lambda expr, _: expr.value,
    "name": _name,
    "member": _member,
    "slice": _slice,
    "call": _call,
    "unary": _unary,
    "binary": _binary,
    "choice": _choice,
    "list": lambda expr, environment: [_value(item, environment) for item in expr.operands],
    "map": lambda expr, environment: {
        pair.value: _value(pair.operands[0], environment) for pair in expr.operands
    },
}
