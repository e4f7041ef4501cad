"""What people write in YAML or JSON: parameters, and pipelines with their short forms."""

from __future__ import annotations

import codecs
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from runstore.canonical import dumps, loads
from runstore.dag import KINDS, Dag, fields_of
from runstore.errors import DagError, PipelineError, ValueNotJsonError
from runstore.pipeline.yaml12 import Document, parse_yaml

__all__ = ["parse_document", "pipeline_of"]

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"),
)  # fmt: skip


def parse_document(data: bytes, path: str) -> Document:
    """The document of a ``.json``, ``.yaml`` or ``.yml`` file: UTF-8, with a byte order mark or
    without.

    :raises PipelineError: naming ``path``, and the line as far as it is known.
    """
    data = _decoded(data, path)
    if path.endswith(".json"):
        try:
            return Document(loads(data))
        except ValueNotJsonError as error:
            raise PipelineError(
                f"{path} cannot be used: {error}", advice="correct the file"
            ) from error
    return parse_yaml(data.decode(), path)


def _decoded(data: bytes, path: str) -> bytes:
    """Without the mark that some editors put in front. :raises PipelineError: if not UTF-8."""
    data = data.removeprefix(codecs.BOM_UTF8)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None and b"\0" in data[:4]:
        encoding = "UTF-16 or UTF-32"  # every document begins with ASCII: RFC 8259, YAML 5.2
    if encoding is not None:
        raise PipelineError(f"{path} is {encoding}", advice="save it as UTF-8")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PipelineError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8",
            advice="save it as UTF-8",
        ) from None
    return data


_SUGAR = (
    "command", "save", "load", "env", "retries", "retry_delay", "retry_backoff", "timeout",
)  # fmt: skip
_TOP = ("steps", "nodes", "parameters", "secrets")


def pipeline_of(document: Document, source: str) -> tuple[Dag, dict[str, Any], list[str]]:
    """The DAG, the parameters and the names of secrets in a pipeline's document, which is changed.

    :raises PipelineError, DagError: for what is none.
    """
    return _Reader(document, source).read()


class _Reader:
    def __init__(self, document: Document, source: str) -> None:
        self.document = document
        self.source = source
        self.steps: dict[str, list[object]] = {}
        """By name, all of the document."""

    def _refuse(self, part: object, what: str, key: str | None = None) -> NoReturn:
        raise PipelineError(f"{self._place(part, key)}: {what}")

    def _place(self, part: object, key: str | None = None) -> str:
        line = self.document.line(part, key)
        return f"{self.source}, line {line}" if line else self.source

    def read(self) -> tuple[Dag, dict[str, Any], list[str]]:
        top = self.document.value
        if not isinstance(top, dict):
            raise PipelineError(
                f'{self.source} is no pipeline: it must be an object with a list "steps"'
            )
        self._known(top, _TOP, "the pipeline has no")
        parameters = top.pop("parameters", None) or {}
        secrets = top.pop("secrets", None) or []
        if not isinstance(parameters, dict):
            self._refuse(top, "parameters must be an object of names and values", "parameters")
        if not isinstance(secrets, list) or not all(isinstance(name, str) for name in secrets):
            self._refuse(top, "secrets must be a list of names", "secrets")
        self._desugar(top)
        try:
            dag = Dag.from_json(top)
        except DagError as error:
            # The first that is named and is the only one of its name: else the line is not known.
            names = [str(path).rpartition("/")[2] for path in error.facts.get("nodes", ())]
            found = (self.steps[name] for name in names if len(self.steps.get(name, ())) == 1)
            where = self._place(next(found, [None])[0])
            raise error.reworded(f"{where}: {error.problem}") from None
        return dag, parameters, secrets

    def _known(self, given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
        """Refuse a name nobody knows, with the nearest one that somebody does."""
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                meant = (
                    f": did you mean {near[0]!r}?" if near else f"; it may have {', '.join(known)}"
                )
                self._refuse(given, f"{what} {name!r}{meant}", name)

    def _desugar(self, top: dict[str, Any]) -> None:
        """``steps`` (one after the other) to ``nodes``, ``command`` & co. to a task's config."""
        stack: list[tuple[Any, object, str]] = [(top, top, "")]
        while stack:
            graph, around, where = stack.pop()
            begin = f"{where}: " if where else ""
            if not isinstance(graph, dict) or not {"steps", "nodes"} & graph.keys():
                part = graph if isinstance(graph, dict | list) else around
                what = where or "the pipeline"
                self._refuse(part, f'{what} has neither a list "steps" nor a list "nodes"')
            if "steps" in graph and "nodes" in graph:
                self._refuse(graph, f"{begin}a graph has either nodes or steps, not both", "nodes")
            before: str | None = None
            for node in self._nodes(graph, begin):
                at = f"{begin}step {node['name']!r}"
                if "steps" in graph and before is not None:
                    node.setdefault("after", [before])
                before = node["name"]
                self._desugar_node(node, at)
                if "body" in node:
                    stack.append((node["body"], node, f"{at}: its body"))
                if isinstance(node.get("branches"), dict):
                    stack += [
                        (body, node, f"{at}: branch {branch!r}")
                        for branch, body in node["branches"].items()
                    ]
            if "steps" in graph:
                graph["nodes"] = graph.pop("steps")

    def _nodes(self, graph: dict[str, Any], begin: str) -> Iterator[dict[str, Any]]:
        key = "steps" if "steps" in graph else "nodes"
        if not isinstance(graph[key], list):
            self._refuse(graph, f"{begin}{key} must be a list, each with a dash before it", key)
        for number, node in enumerate(graph[key], 1):
            if not isinstance(node, dict) or node.get("name") is None:
                part = node if isinstance(node, dict | list) else graph[key]
                self._refuse(part, f"{begin}step {number} has no name: give it one (name: ...)")
            self._is_text(node, "name", f"{begin}step {number}")
            self.steps.setdefault(node["name"], []).append(node)
            yield node

    def _is_text(self, node: dict[str, Any], key: str, at: str) -> None:
        value = node[key]
        if isinstance(value, list | dict):
            self._refuse(node, f"{at}: its {key} must be one text", key)
        if not isinstance(value, str):
            what = f"its {key} is {json.dumps(value)}, and must be text: put it in quotes"
            self._refuse(node, f"{at}: {what}", key)

    def _desugar_node(self, node: dict[str, Any], at: str) -> None:
        for key in ("after", "params", "returns"):
            if isinstance(node.get(key), str):
                node[key] = [node[key]]
        default = node.get("default")
        if isinstance(default, bool | int | float):
            node["default"] = dumps(default).decode()  # as the value of `on` is compared
        if "command" in node:
            node.setdefault("kind", "task")
            node.setdefault("type", "shell")
        elif "kind" not in node:
            near = difflib.get_close_matches("command", node, 1)
            meant = f": did you mean 'command' by {near[0]!r}?" if near else ""
            what = f"{at} has neither a command nor a kind{meant}"
            self._refuse(node, what, near[0] if near else None)
        kind = node.get("kind")
        if isinstance(kind, str) and kind in KINDS:
            known = fields_of(kind) + (_SUGAR if "command" in node else ())
            self._known(node, known, f"{at} has no")
        if "command" in node:
            self._check_command(node, at)
            config = node.setdefault("config", {})
            if isinstance(config, dict):
                config.update({key: node.pop(key) for key in _SUGAR if key in node})

    def _check_command(self, node: dict[str, Any], at: str) -> None:
        if node["command"] in (None, ""):
            self._refuse(node, f"{at} has no command: give it one", "command")
        self._is_text(node, "command", at)
        for key in ("save", "load"):
            given = node.get(key, [])
            if not isinstance(given, str) and not (
                isinstance(given, list) and all(isinstance(name, str) for name in given)
            ):
                self._refuse(node, f"{at}: {key} must be a name of a file, or a list of some", key)
        env = node.get("env")
        if env is None:
            return
        if not isinstance(env, dict):
            self._refuse(node, f"{at}: env must be an object of names and values", "env")
        for name, value in env.items():
            if not name or "=" in name or "\0" in name:
                self._refuse(env, f"{at}: {name!r} can be no variable's name", name)
            if isinstance(value, str) and "\0" in value:
                self._refuse(env, f"{at}: {name!r} has a NUL, which no variable can have", name)
