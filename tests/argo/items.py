"""The items of `withParam`, `withItems` and `withSequence`, and what each makes of the task.

An item is kept as the JSON it was written in: types go where it becomes text, numbers keep their
spelling, and the names of its nodes show the inside of a JSON string undecoded.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.argo import conditions, gotext, templating

__all__ = ["Expanded", "Item", "expand"]

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"\s*")
_KINDS = {'"': "text", "[": "list", "n": "list", "{": "map", "t": "number", "f": "number"}


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _raw(text: str, at: int) -> tuple[str, int]:
    _, end = _DECODER.raw_decode(text, at)
    return text[at:end], _skip(text, end)


@dataclass(frozen=True, slots=True)
class Item:
    """One item, as raw JSON."""

    raw: str

    @property
    def kind(self) -> str:
        return _KINDS.get(self.raw[0], "number")

    def __str__(self) -> str:
        text = gotext.compact(self.raw)
        text = text[1:-1] if text[0] == '"' else text
        return text.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&")

    def members(self) -> list["Item"]:
        """Of a list; null has none."""
        return [] if self.raw[0] == "n" else [Item(raw) for raw in _elements(self.raw)]

    def fields(self) -> dict[str, "Item"]:
        """Of a map."""
        found, at = {}, _skip(self.raw, 1)
        while self.raw[at] != "}":
            key, at = _raw(self.raw, at)
            value, at = _raw(self.raw, _skip(self.raw, at + 1))
            found[json.loads(key)] = Item(value)
            at = _skip(self.raw, at + 1) if self.raw[at] == "," else at
        return found

    def values(self) -> templating.Values:
        """`item`, and `item.key` of a map."""
        if self.kind == "text":
            return {"item": json.loads(self.raw)}
        if self.kind == "map":
            fields = self.fields()
            pairs = (f"{gotext.marshal(k)}:{gotext.compact(fields[k].raw)}" for k in sorted(fields))
            named: templating.Values = {f"item.{key}": str(value) for key, value in fields.items()}
            return named | {"item": "{" + ",".join(pairs) + "}"}
        return {"item": gotext.compact(self.raw) if self.kind == "list" else str(self)}

    def label(self) -> str:
        """What the node's name says of it."""
        if self.kind == "map":
            text = ",".join(sorted(f"{key}:{value}" for key, value in self.fields().items()))
        elif self.kind == "list":
            text = "[" + " ".join(map(str, self.members())) + "]"
        else:
            text = str(self)
        return text.replace("(", "").replace(")", "")


def _elements(text: str) -> list[str]:
    found, at = [], _skip(text, 0)
    if text[at : at + 1] != "[":
        raise ValueError("not a list")
    at = _skip(text, at + 1)
    while text[at] != "]":
        raw, at = _raw(text, at)
        found.append(raw)
        if text[at] == ",":
            at = _skip(text, at + 1)
        elif text[at] != "]":
            raise ValueError("not a list")
    if _skip(text, at + 1) != len(text):
        raise ValueError("not a list")
    return found


def _sequence(sequence: dict[str, Any]) -> list[Item]:
    start = int(sequence.get("start") or 0)
    if sequence.get("end") is not None:
        end = int(sequence["end"])
    elif int(sequence["count"]) == 0:
        return []
    else:
        end = start + int(sequence["count"]) - 1
    numbers = range(start, end + 1) if start <= end else range(start, end - 1, -1)
    spelling = sequence.get("format") or "%d"
    return [Item(f'"{spelling % number}"') for number in numbers]


@dataclass(frozen=True, slots=True)
class Expanded:
    """One of the tasks (or steps) that a loop is made of; `name` is the last part of its node's."""

    name: str
    task: dict[str, Any]


def loops(task: dict[str, Any]) -> bool:
    """Whether it is to be expanded at all."""
    return any(task.get(field) for field in ("withItems", "withParam", "withSequence"))


def expand(task: dict[str, Any], values: templating.Values) -> list[Expanded]:
    """The tasks of a loop, in order; of what is no loop, itself."""
    if not loops(task):
        return [Expanded(task["name"], task)]
    found = _items(task)
    bare = {k: v for k, v in task.items() if k not in ("withItems", "withSequence", "withParam")}
    if "{{" in json.dumps(task.get("withParam") or task.get("withItems") or ""):
        # The controller fills in the loop's own list too, for each item: its tags may be at fault.
        bare = task
    text = json.dumps(bare, ensure_ascii=False, separators=(",", ":"))
    strict = templating.EVERYTHING
    known = values
    if _never_runs(task):
        strict, known = None, {name: value for name, value in values.items() if value is not None}
    tasks = []
    for index, item in enumerate(found):
        filled = templating.loads(templating.replace(text, known | item.values(), strict))
        name = f"{task['name']}({index}:{item.label()})"
        tasks.append(Expanded(name, filled | {"template": task.get("template", "")}))
    return tasks


def _items(task: dict[str, Any]) -> list[Item]:
    if task.get("withItems"):
        return [Item(json.dumps(item, ensure_ascii=False)) for item in task["withItems"]]
    if task.get("withSequence"):
        return _sequence(task["withSequence"])
    try:
        return [Item(raw) for raw in _elements(task["withParam"])]
    except (ValueError, IndexError) as failure:
        if _never_runs(task):
            return []
        raise templating.TemplateError(
            "withParam value could not be parsed as a JSON list: "
            f"{task['withParam'].strip()}: {failure}"
        ) from failure


def _never_runs(task: dict[str, Any]) -> bool:
    """Its `when`, before any item is known, is false already."""
    try:
        return not conditions.when_holds(task.get("when") or "")
    except conditions.ConditionError:
        return False
