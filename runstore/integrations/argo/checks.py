"""Refuses, when it is emitted, what Argo's own checks let through and its controller trips over.

Its schema passes misspelt fields; ``argo lint`` passes tasks called ``in``, expressions that name
nothing, and templates that nobody calls; both pass text with ``{{`` in it, which is interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runstore.errors import InputError
from runstore.integrations.argo.fields import FIELDS

if TYPE_CHECKING:
    from runstore.integrations.argo.options import Options
    from runstore.pipeline import Pipeline

__all__ = ["check", "check_literals", "check_parameter_names"]

_NAME = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_PARAMETER = re.compile(r"[-_a-zA-Z0-9]+")
_KUBERNETES = re.compile(r"[a-z0-9](?:[-.a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"(?:[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(
    r"(?:[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?"
)
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_RESERVED = frozenset({"in", "not", "and", "or", "true", "false", "nil", "contains", "matches"})
_TAG = re.compile(r"\{\{(=?)(.*?)\}\}", re.DOTALL)
_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_TASK = re.compile(
    r"\b(tasks|steps)(?:\.([-\w]+)|\[['\"]([^'\"]+)['\"]\])\.(\w+)(?:\.(\w+)\.([-\w]+))?"
)
_INPUT = re.compile(r"\binputs\.parameters(?:\.([-\w]+)|\[['\"]([^'\"]+)['\"]\])")
_PARAMETER_OF = re.compile(r"\bworkflow\.parameters(?:\.([-\w]+)|\[['\"]([^'\"]+)['\"]\])")
_ROOT = re.compile(r"(?<![\w.\]])([A-Za-z_]\w*)")
_ROOTS = frozenset(
    {
        "inputs", "workflow", "tasks", "steps", "item", "node", "pod", "retries", "lastRetry",
        "sprig", "asInt", "asFloat", "string", "toJson", "jsonpath", "contains", "matches",
        "startsWith", "endsWith", "in", "not", "and", "or", "true", "false", "nil", "outputs",
        "cronworkflow", "status", "duration", "exitCode",
    }
)  # fmt: skip
_DEPENDS = re.compile(r"([-\w]+)(?:\.(\w+))?")
_RESULTS = frozenset(
    {"Succeeded", "Failed", "Errored", "Skipped", "Omitted", "Daemoned", "AnySucceeded",
     "AllFailed"}
)  # fmt: skip


def check_literals(options: Options, pipeline: Pipeline) -> None:
    """:raises InputError: for a text that is ours and that Argo would interpret, or cannot take."""
    allowed = _TAG.sub("", options.run_id)
    texts: list[tuple[str, str]] = [
        ("the image", options.image), ("the store", options.store),
        ("the pipeline file", options.pipeline), ("the name", options.name),
        ("the default run id", allowed), ("the namespace", options.namespace),
        ("the service account", options.service_account), ("the timezone", options.timezone),
    ]  # fmt: skip
    for what, given in (("label", options.labels), ("annotation", options.annotations)):
        texts += [(f"{what} {name!r}", f"{name}\n{value}") for name, value in given.items()]
    texts += [(f"variable {name!r}", f"{name}\n{text}") for name, text in options.env.items()]
    texts += [(f"the default of parameter {name!r}", _flat(value))
              for name, value in pipeline.parameters.items()]  # fmt: skip
    for what, text in texts:
        if "{{" in text:
            raise InputError(
                f"{what} has {{{{ in it, which Argo would take for a template: {text!r:.120}",
                advice="leave it out; a value with braces can be given by a file or a step",
            )
    for name, value in options.labels.items():
        if not _LABEL_KEY.fullmatch(name) or not _LABEL.fullmatch(value):
            raise InputError(
                f"label {name!r}={value!r:.80} is none that Kubernetes takes",
                advice="a value has at most 63 letters, digits, '.', '_' and '-'",
            )
    for name in (*options.env, *options.secret_env):
        if not _VARIABLE.fullmatch(name):
            raise InputError(f"{name!r} can be no variable's name", advice="rename it")
    for what, name in (("the name", options.name), ("the namespace", options.namespace)):
        if name and (not _KUBERNETES.fullmatch(name) or len(name) > 52):
            raise InputError(
                f"{what} is {name!r:.80}, which Kubernetes does not take",
                advice="use at most 52 small letters, digits and '-'",
            )


def _flat(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def check_parameter_names(names: Iterable[str], own: tuple[str, ...]) -> None:
    """:raises InputError: for a parameter whose name Argo cannot take, or is one of ours."""
    seen: set[str] = set()
    for name in names:
        if name in own and (name in seen or name == "json"):
            raise InputError(
                f"the pipeline has a parameter {name!r}, which Argo or the workflow has itself",
                advice="rename the pipeline's",
                parameter=name,
            )
        seen.add(name)
        if not _PARAMETER.fullmatch(name) or len(name) > 128:
            raise InputError(
                f"parameter {name!r:.120} cannot be a parameter of a workflow",
                advice="use letters, digits, '-' and '_'",
                parameter=name,
            )


def check(document: Mapping[str, Any]) -> None:
    """Check a whole document, an overlay included.

    :raises InputError: naming the place, what is wrong there, and what is there instead.
    """
    _fields(document, str(document.get("kind", "Workflow")), "")
    spec = document["spec"].get("workflowSpec", document["spec"])
    templates: dict[str, Mapping[str, Any]] = {}
    for template in spec.get("templates", ()):
        name = template.get("name", "")
        if name in templates:
            raise _wrong(f"template {name}", "there are two of this name")
        _argo_name(name, "template")
        templates[name] = template
    declared = {each["name"] for each in spec.get("arguments", {}).get("parameters", ())}
    _reachable(spec, templates)
    for template in templates.values():
        _template(template, templates, declared)
    rest = {name: value for name, value in spec.items() if name != "templates"}
    for text, place in _texts(rest, "spec"):
        for expression in _expressions(text):
            _known(expression, place, declared, set(), {})


def _wrong(place: str, what: str, advice: str = "correct it") -> InputError:
    return InputError(f"{place or 'the document'}: {what}", advice=advice)


def _argo_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > 128 or name in _RESERVED:
        raise _wrong(
            f"{what} {name!r:.140}", "Argo takes no such name",
            "use at most 128 letters, digits and '-', and no word of its expressions",
        )  # fmt: skip


def _fields(value: Any, kind: str, place: str) -> None:
    """Refuse a field that Argo would ignore, and one of another type."""
    known = FIELDS[kind]
    if not isinstance(value, Mapping):
        raise _wrong(place, f"it is {value!r:.60}, and must be an object")
    for name, inner in value.items():
        where = f"{place}.{name}" if place else str(name)
        if name not in known:
            import difflib

            near = difflib.get_close_matches(str(name), known, 1)
            raise _wrong(
                where, "Argo has no such field, and would ignore it",
                f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(sorted(known))}",
            )  # fmt: skip
        _type(inner, known[name], where)


def _type(value: Any, wanted: str, place: str) -> None:
    match wanted:
        case "text":
            right = isinstance(value, str)
        case "number":
            right = isinstance(value, int) and not isinstance(value, bool)
        case "truth":
            right = isinstance(value, bool)
        case "either":
            right = isinstance(value, str) or type(value) is int
        case "any":
            right = isinstance(value, Mapping | list)
        case "texts":
            right = isinstance(value, list) and all(isinstance(each, str) for each in value)
        case "steps":
            for at, group in enumerate(value if isinstance(value, list) else ()):
                _type(group, "list:task", f"{place}[{at}]")
            right = isinstance(value, list)
        case "map":
            right = isinstance(value, Mapping) and all(
                isinstance(each, str) for each in (*value, *value.values())
            )
        case _:
            if wanted.startswith("map:"):
                for name, inner in value.items():
                    _fields(inner, wanted[4:], f"{place}.{name}")
            elif wanted.startswith("list:"):
                if not isinstance(value, list):
                    raise _wrong(place, f"it is {value!r:.60}, and must be a list")
                for at, inner in enumerate(value):
                    _fields(inner, wanted[5:], f"{place}[{at}]")
            else:
                _fields(value, wanted, place)
            return
    if not right:
        words = {"text": "text", "number": "a whole number", "truth": "true or false",
                 "either": "text or a number", "any": "an object or a list",
                 "texts": "a list of texts", "map": "an object of texts",
                 "steps": "a list of lists"}  # fmt: skip
        raise _wrong(place, f"it is {value!r:.60}, and must be {words[wanted]}")


def _reachable(spec: Mapping[str, Any], templates: Mapping[str, Mapping[str, Any]]) -> None:
    hooks = [hook["template"] for hook in spec.get("hooks", {}).values() if "template" in hook]
    stack = [spec.get("entrypoint", ""), *filter(None, [spec.get("onExit")]), *hooks]
    seen: set[str] = set()
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        if name not in templates:
            raise _wrong(f"template {name!r}", "it is called, and there is none of this name")
        seen.add(name)
        for task in _tasks(templates[name]):
            stack += [task[key] for key in ("template", "onExit") if key in task]
            stack += [h["template"] for h in task.get("hooks", {}).values() if "template" in h]
    for name in templates:
        if name not in seen:
            raise _wrong(f"template {name!r}", "nothing calls it", "call it, or leave it out")


def _tasks(template: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "dag" in template:
        return list(template["dag"]["tasks"])
    return [step for group in template.get("steps", ()) for step in group]


def _template(
    template: Mapping[str, Any], templates: Mapping[str, Mapping[str, Any]], declared: set[str]
) -> None:
    place = f"template {template['name']}"
    inputs = {each["name"] for each in template.get("inputs", {}).get("parameters", ())}
    tasks = {task["name"]: task for task in _tasks(template)}
    if len(tasks) != len(_tasks(template)):
        raise _wrong(place, "two of its tasks have one name")
    for name in tasks:
        _argo_name(name, f"{place}: task")
    ancestors = (
        _ancestors(tasks, place) if "dag" in template else {name: set(tasks) for name in tasks}
    )
    target = template.get("dag", {}).get("target")
    for name in (target or "").split():
        if name not in tasks:
            raise _wrong(place, f"its target {name!r} is none of its tasks")
    for name, task in tasks.items():
        where = f"{place}, task {name}"
        given = {each["name"] for each in task.get("arguments", {}).get("parameters", ())}
        called = templates[task["template"]]
        needs = {
            each["name"] for each in called.get("inputs", {}).get("parameters", ())
            if "value" not in each and "default" not in each
        }  # fmt: skip
        if missing := needs - given:
            raise _wrong(
                where, f"it does not give {sorted(missing)[0]!r}, which its template needs"
            )
        outputs = {each: _outputs(templates[tasks[each]["template"]]) for each in ancestors[name]}
        loops = any(key in task for key in ("withParam", "withItems", "withSequence"))
        for text, inner in _texts(task, where):
            for expression in _expressions(text):
                if re.search(r"\bitem\b", _TEXT.sub("''", expression)) and not loops:
                    raise _wrong(inner, f"{expression!r} names an item, and there are none")
                _known(expression, inner, declared, inputs, outputs)
    rest = {key: value for key, value in template.items() if key not in ("dag", "steps")}
    for text, inner in _texts(rest, place):
        for expression in _expressions(text):
            _known(expression, inner, declared, inputs, {})


def _outputs(template: Mapping[str, Any]) -> set[str]:
    return {each["name"] for each in template.get("outputs", {}).get("parameters", ())}


def _ancestors(tasks: Mapping[str, Mapping[str, Any]], place: str) -> dict[str, set[str]]:
    """Of each task, those that have ended, or will not run, when it begins."""
    before: dict[str, set[str]] = {}
    for name, task in tasks.items():
        before[name] = set()
        for found, result in _DEPENDS.findall(task.get("depends", "")):
            if found not in tasks:
                raise _wrong(f"{place}, task {name}", f"it depends on {found!r}, and there is none")
            if result and result not in _RESULTS:
                raise _wrong(f"{place}, task {name}", f"no task ends as {result!r}")
            before[name].add(found)
        before[name].update(task.get("dependencies", ()))
    done: dict[str, set[str]] = {}
    left = dict(before)
    while left:
        ready = [name for name, needs in left.items() if needs <= done.keys()]
        if not ready:
            raise _wrong(place, f"its tasks wait for one another: {', '.join(sorted(left))}")
        for name in ready:
            done[name] = before[name].union(*(done[each] for each in before[name]))
            del left[name]
    return done


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    stack = [(value, place)]
    while stack:
        found, where = stack.pop()
        if isinstance(found, str):
            yield found, where
        elif isinstance(found, Mapping):
            stack += [(inner, f"{where}.{name}") for name, inner in found.items()]
        elif isinstance(found, list):
            stack += [(inner, f"{where}[{at}]") for at, inner in enumerate(found)]


def _expressions(text: str) -> Iterator[str]:
    for is_expression, inner in _TAG.findall(text):
        yield inner if is_expression else inner.strip()


def _known(
    expression: str,
    place: str,
    declared: set[str],
    inputs: set[str],
    outputs: Mapping[str, set[str]],
) -> None:
    """Refuse an expression that names what is not there."""
    for found in _INPUT.finditer(expression):
        name = found[1] or found[2]
        if name not in inputs:
            raise _wrong(place, f"{expression!r} names the input {name!r}, which is none")
    for found in _PARAMETER_OF.finditer(expression):
        name = found[1] or found[2]
        if name not in declared and name != "json":
            raise _wrong(place, f"{expression!r} names the parameter {name!r}, which is none")
    for found in _TASK.finditer(expression):
        task, output = found[2] or found[3], found[6]
        if task not in outputs:
            raise _wrong(place, f"{expression!r} names {task!r}, which need not have ended by then")
        if output is not None and output not in outputs[task]:
            raise _wrong(place, f"{expression!r} names an output that {task!r} does not have")
    for found in _ROOT.finditer(_TEXT.sub("''", expression)):
        if found[1] not in _ROOTS:
            raise _wrong(place, f"{expression!r} names {found[1]!r}, which Argo does not know")
