"""Writes docs/api.md from the docstrings of the public names: `python docs/make_api.py`.

`tests/test_api.py` fails if the page is not what this makes.
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import runstore
from runstore import errors

PAGE = Path(__file__).parent / "api.md"

GROUPS = {
    "A pipeline": [
        "task", "sequence", "load_pipeline", "Pipeline",
        "Dag", "Task", "Map", "Conditional", "Parallel", "Loop",
    ],
    "Running one": ["start", "retry", "fork", "Result", "Reporter"],
    "A store, its runs, and their attempts": [
        "open_store", "Store", "Run", "Attempt", "Takeover", "verify",
    ],
    "What is left to do": ["Plan", "Step", "Action", "Reason", "History"],
    "A run that moves": ["export_run", "import_run", "transfer_run"],
}  # fmt: skip

HEAD = """# The public API

Made from the docstrings by `python docs/make_api.py`. These names are public, and so are those of
`runstore.errors`; everything else may change without notice ([stability](stability.md)). They are
loaded when they are first used.

Below a function stand the errors that a caller may want to handle; `StorageError` may come from
anything that reads or writes.
"""


def page() -> str:
    named = [name for names in GROUPS.values() for name in names]
    missing = {*runstore.__all__} - {*named, "RunstoreError", "errors"}
    assert not missing, f"they belong to no group: {missing}"
    out = [HEAD]
    for title, names in GROUPS.items():
        out.append(f"\n## {title}\n")
        for name in names:
            out.extend(_entry(name, getattr(runstore, name)))
    out.append("\n## Errors\n")
    out.append("`runstore.errors`. " + _text(errors.RunstoreError.__doc__ or "") + "\n")
    out.append("| class | kind | when | facts |\n|---|---|---|---|")
    for name, each in vars(errors).items():
        if inspect.isclass(each) and issubclass(each, errors.RunstoreError):
            doc = _text((each.__doc__ or "").split("\n\n")[0]).replace("\n", " ")
            facts = [
                fact
                for base in each.__mro__[:-1]
                if base is not errors.RunstoreError
                for fact in vars(base).get("__annotations__", {})
                if fact != "kind"
            ]
            shown = ", ".join(f"`{fact}`" for fact in dict.fromkeys(facts))
            base = each.__bases__[0].__name__
            under = f" ({base})" if base not in ("Exception", "RunstoreError") else ""
            out.append(f"| `{name}`{under} | `{each.kind}` | {doc} | {shown} |")
    return "\n".join(out) + "\n"


def _entry(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"\n### {name}\n"
        yield _text(value.__doc__ or "") + "\n"
        if issubclass(value, enum.Enum):
            yield "\n".join(f"* `{each.name}`: {each.value}" for each in value)
            return
        if attributes := _attributes(value):
            yield "\n".join(attributes) + "\n"
        for member, each in _members(value):
            shown = _signature(each) if callable(each) else ""
            yield f"\n#### {name}.{member}\n\n```python\n{member}{shown}\n```\n"
            yield _text(inspect.getdoc(each) or "") + "\n"
    elif callable(value):
        yield f"\n### {name}\n\n```python\n{name}{_signature(value)}\n```\n"
        yield _text(inspect.getdoc(value) or "") + "\n"
    else:
        yield f"\n### {name}\n\n`{_type(value)}`\n"
        yield _beside(value) + "\n"


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties of a class and of its bases in this library, in the order of
    their definition."""
    seen: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith("runstore"):
            continue
        for name, value in vars(base).items():
            if name.startswith("_") or name in _FIELDS.get(cls.__name__, ()):
                continue
            bare = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if isinstance(bare, property | functools.cached_property) or inspect.isfunction(bare):
                seen[name] = bare
    for name, value in seen.items():
        if inspect.getdoc(value):
            yield name, value


_FIELDS = {
    "Attempt": ("keep", "refusal"),
    "Run": ("check_there", "log_of", "mask", "materialise", "read_log", "read_whole"),
}
"""Methods without an underscore that are for other rooms of the library."""


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    inside: list[str] = []
    for each in signature.parameters.values():
        if each.name in ("self", "cls"):
            continue
        if each.kind is each.KEYWORD_ONLY and not any(one.startswith("*") for one in inside):
            inside.append("*")
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        shown = stars + each.name
        if each.annotation is not each.empty:
            shown += f": {each.annotation}"
        if each.default is not each.empty:
            shown += f" = {each.default!r}"
        inside.append(shown)
    result = "" if signature.return_annotation is signature.empty else signature.return_annotation
    line = f"({', '.join(inside)}) -> {result}"
    if len(line) <= 76:
        return line
    return "(\n" + "".join(f"    {each},\n" for each in inside) + f") -> {result}"


def _attributes(cls: type) -> list[str]:
    """The fields of a class that have a text below them."""
    out: list[str] = []
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith("runstore"):
            continue
        tree = ast.parse(inspect.getsource(base))
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and not field.target.id.startswith("_")
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                doc = _text(str(text.value.value)).replace("\n", " ")
                out.append(f"* `{field.target.id}: {ast.unparse(field.annotation)}`: {doc}")
    return out


def _type(value: Any) -> str:
    return " | ".join(
        " | ".join(map(repr, get_args(each))) or getattr(each, "__name__", repr(each))
        for each in get_args(value)
    )


def _beside(value: Any) -> str:
    """The text that stands below the definition of a name that has no docstring of its own."""
    from runstore.store import takeover

    source = inspect.getsource(takeover)
    found = re.search(r'^Takeover = .*\n"""(.*?)"""', source, re.MULTILINE | re.DOTALL)
    assert found is not None
    return _text(found[1])


def _text(doc: str) -> str:
    """A docstring as Markdown: fields as a list, literals and roles as code."""
    text = inspect.cleandoc(doc)
    text = re.sub(r":(?:class|meth|func|attr|data|mod):`~?\.?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    # A field goes on in the lines that are indented below it.
    text = re.sub(r"^(:(?:param|raises) [^\n:]*)\n +(?=[^\n]*:)", r"\1 ", text, flags=re.MULTILINE)
    text = re.sub(
        r"^:param ([\w, ]+): ?",
        lambda found: "* " + ", ".join(f"`{each.strip()}`" for each in found[1].split(",")) + ": ",
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(
        r"^:raises ([\w, ]+): ?",
        lambda found: (
            "* raises " + ", ".join(f"`{each.strip()}`" for each in found[1].split(",")) + ": "
        ),
        text,
        flags=re.MULTILINE,
    )
    # An indented block after a double colon is an example.
    text = re.sub(
        r"::\n\n((?:    .*\n?|\n)+)",
        lambda found: ":\n\n```python\n" + textwrap.dedent(found[1]).strip() + "\n```\n\n",
        text,
    )
    lines: list[str] = []
    example = False
    for each in text.splitlines():
        line = each
        example ^= line.startswith("```")
        before = lines[-1] if lines else ""
        # A list begins after an empty line, and so does what follows it.
        if line.startswith("* ") and before and not before.startswith(("* ", "  ")):
            lines.append("")
        if not example and line.startswith("    ") and before.startswith(("* ", "  ")):
            line = line[2:]
        lines.append(line)
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
