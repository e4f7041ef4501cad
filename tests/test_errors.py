"""What every error carries: a problem, what to do about it, a kind, and facts that its class
declares."""

from __future__ import annotations

import ast
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import runstore
from runstore import errors
from runstore.errors import Kind, RunstoreError

CLASSES = {
    name: each
    for name, each in vars(errors).items()
    if inspect.isclass(each) and issubclass(each, RunstoreError)
}
SOURCES = sorted(Path(runstore.__file__).parent.rglob("*.py"))


def raised() -> Iterator[tuple[str, ast.Call, str]]:
    """Each call of an error class in the library: where, the call, the name of the class."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in CLASSES:
                    yield f"{file.name}:{node.lineno}", node, name


def declared(kind: type) -> set[str]:
    return {name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})}


def test_every_fact_is_declared_by_its_class() -> None:
    calls = list(raised())
    assert len(calls) > 200, "they are found"
    for where, call, name in calls:
        given = {each.arg for each in call.keywords if each.arg} - {"advice"}
        assert given <= declared(CLASSES[name]), f"{where}: {name} does not declare {given}"


def test_advice_goes_on_in_the_sentence() -> None:
    """It stands behind the problem and a colon, and callers add to it."""
    for where, call, _ in raised():
        for each in call.keywords:
            if each.arg == "advice" and isinstance(each.value, ast.Constant) and each.value.value:
                text = str(each.value.value)
                assert not text.endswith("."), f"{where}: {text}"
                assert text[0].islower() or not text[0].isalpha(), f"{where}: {text}"


def test_every_class_has_a_kind_of_its_own() -> None:
    kinds = [each.kind for each in CLASSES.values()]
    assert sorted(kinds) == sorted(Kind)


def test_the_names_of_kinds_are_never_changed() -> None:
    """Programs go by them. A new one is added at the end."""
    assert [each.value for each in Kind] == [
        "error", "input", "dag", "path", "value-not-json", "force", "parameter", "pipeline",
        "import-refused", "refused", "run-exists", "run-not-found", "run-removed",
        "run-not-failed", "structure-changed", "diverged", "recorded-code", "attempt",
        "attempt-taken", "attempt-ended", "attempt-lost", "damaged", "record-damaged",
        "blob-damaged", "blob-missing", "format-version", "codec", "storage", "store-not-found",
        "key-exists", "key-missing", "outcome-unknown",
    ]  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_goes_to_another_process_as_it_is(name: str) -> None:
    error = CLASSES[name]("it is so", advice="change it", key="k")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CLASSES[name]
    assert str(again) == str(error) == "it is so: change it"
    assert (again.problem, again.advice, again.facts) == ("it is so", "change it", {"key": "k"})
    assert again.key == "k"  # type: ignore[attr-defined]


def test_without_advice_the_problem_is_the_text() -> None:
    assert str(RunstoreError("it is so")) == "it is so"
