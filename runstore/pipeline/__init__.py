"""Pipelines people write: plain functions as tasks, and pipeline files.

Nothing here is needed to read a store; nothing decorates or changes the functions it is given.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from typing import Any

from msgspec.structs import replace

from runstore.dag import AnyNode, Dag, Task, Trigger
from runstore.errors import DagError, PipelineError
from runstore.pipeline.signatures import attempt_parameters, parameters_of, refuse_generator

__all__ = ["Pipeline", "function_of", "is_there", "load_pipeline", "sequence", "task"]


def task(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    returns: str | Sequence[str] = (),
    after: str | Sequence[str] = (),
    trigger: Trigger = "all_success",
    handles: bool = False,
    **config: Any,
) -> Task:
    """A plain function as a task: its parameters are read by name, ``returns`` names its results.

    With one name the returned value is the result; with several, a tuple of that many, or a dict
    with these keys. A parameter annotated ``Attempt`` is given the attempt at work, and is none of
    the pipeline's; nor is one that ``functools.partial`` binds. Python defaults are not used: what
    a step was given is recorded, and compared when it is planned. The function stays what it is.
    One that is ``async def`` is run in an event loop of its own.

    :param config: whatever the executor is to know besides; in no digest.
    :raises DagError: for ``*args``, ``**kwargs`` or positional-only parameters: they have no names;
        and for a generator function, of which a call runs nothing.
    """
    bound = function.keywords if isinstance(function, functools.partial) else {}
    called = str(name or getattr(_unbound(function), "__name__", ""))
    refuse_generator(function, called)
    try:
        known = parameters_of(function)
        attempts = attempt_parameters(function)
    except (TypeError, ValueError) as error:
        raise DagError(
            f"function {called!r} does not say what it takes ({error})",
            advice="call it in a function of your own",
            nodes=(called,),
        ) from None
    params = []
    for parameter in known.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise DagError(
                f"function {called!r} takes {parameter}: a task's parameters need names",
                nodes=(called,),
            )
        if parameter.name not in attempts and parameter.name not in bound:
            params.append(parameter.name)
    # An object that can be called, a partial for one, has no name that it could be imported by.
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module and qualname and "<" not in qualname:
        config.setdefault("callable", f"{module}:{qualname}")
    made = Task(
        name=called,
        params=tuple(params),
        returns=returns,
        after=after,
        trigger=trigger,
        handles=handles,
        config=config,
    )
    return replace(made, _function=function)


def _unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def sequence(*nodes: AnyNode) -> Dag:
    """A DAG of steps one after the other: each without an ``after`` follows the one before it."""
    chained: list[AnyNode] = []
    for node in nodes:
        follows = bool(chained) and not node.after
        # A copy keeps its function.
        chained.append(replace(node, after=(chained[-1].name,)) if follows else node)
    return Dag(chained)


def function_of(node: Task) -> Callable[..., Any]:
    """The function of a Python task: the one it was made of, else what its config names.

    :raises PipelineError: if there is none, or it cannot be imported.
    :raises DagError: if it is a generator function.
    """
    if node._function is not None:
        return node._function
    named = node.config.get("callable")
    if not isinstance(named, str) or ":" not in named:
        raise PipelineError(
            f"task {node.name!r} has no function",
            advice='give the pipeline file, or config {"callable": "module:function"}',
        )
    module, _, qualname = named.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise PipelineError(
            f"the function of task {node.name!r}, {named}, cannot be imported ({error})",
            advice="name the pipeline file on the command line",
        ) from error
    function: Callable[..., Any] = found
    refuse_generator(function, node.name)
    return function


@dataclass(frozen=True)
class Pipeline:
    """A DAG with what a pipeline file says besides it."""

    dag: Dag
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of the run's parameters."""
    secrets: Sequence[str] = ()
    """Names of parameters whose values are never stored."""
    source: str | None = None
    """The file, with ``:name`` where one was given."""
    digest: str | None = None
    """sha256 of the file, for the record."""

    @property
    def folder(self) -> str:
        """Where the file is; the current folder for a pipeline without one."""
        return os.path.dirname(os.path.abspath(_split(self.source or "?")[0]))


def load_pipeline(source: str) -> Pipeline:
    """Read ``file.py``, ``file.py:name``, or a ``.yaml``/``.json`` file.

    A Python file is run as a module; the pipeline is its one :class:`Dag` or :class:`Pipeline` at
    the top level, or the one named; ``parameters`` and ``secrets`` there are taken along.

    :raises PipelineError: saying which line is wrong, or which names there are to choose from.
    :raises DagError: for a file whose graph is not one.
    """
    path, name = _split(source)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise PipelineError(
            f"pipeline {path!r} cannot be read: {error.strerror}",
            advice="name a .py, .yaml or .json file",
        ) from error
    digest = sha256(data).hexdigest()
    if path.endswith(".py"):
        return _from_python(path, name, source, data, digest)
    if name:
        raise PipelineError(f"{source!r}: a name after the colon goes with a .py file only")
    if path.endswith((".json", ".yaml", ".yml")):
        from runstore.pipeline.document import parse_document, pipeline_of

        dag, parameters, secrets = pipeline_of(parse_document(data, path), source)
        return Pipeline(dag, parameters, secrets, source, digest)
    raise PipelineError(f"{path!r} is no pipeline file: they end in .py, .yaml, .yml or .json")


def is_there(source: str) -> bool:
    """Whether there is the file that a pipeline's ``source`` names. Nothing is read of it."""
    return os.path.isfile(_split(source)[0])


def _split(source: str) -> tuple[str, str]:
    head, colon, tail = source.rpartition(":")
    return (head, tail) if colon and head.endswith(".py") else (source, "")


class _AsItWasRead(SourceFileLoader):
    """Runs the bytes whose digest is recorded. Python would read the file again, or take what it
    compiled before of another text of the same second and length."""

    text = b""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.text, self.path)


def _from_python(path: str, name: str, source: str, data: bytes, digest: str) -> Pipeline:
    full = os.path.abspath(path)
    module_name = _module_name(full)
    loader = _AsItWasRead(module_name, full)
    loader.text = data
    spec = importlib.util.spec_from_file_location(module_name, full, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    folder = os.path.dirname(full)
    if folder not in sys.path:
        sys.path.append(folder)  # what lies beside it can be imported, and hides nothing
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        if isinstance(error, DagError):
            raise
        said = error.msg if isinstance(error, SyntaxError) else error
        advice = "correct that; --debug shows the traceback"
        if isinstance(error, ModuleNotFoundError):
            advice = "install it for this Python, or put it beside the file"
        where = _where(error, full)
        raise PipelineError(
            f"{path} does not import: {where}{type(error).__name__}: {said}", advice=advice
        ) from error
    found = {
        key: value
        for key, value in vars(module).items()
        # Not isinstance: a proxy that stands for something not made yet would be asked its class.
        if issubclass(type(value), Dag | Pipeline) and not key.startswith("_")
    }
    if name:
        if name not in found:
            there = ", ".join(found) or "none"
            raise PipelineError(f"{path} has no pipeline {name!r}; it has: {there}")
        chosen = found[name]
    elif len({id(value) for value in found.values()}) == 1:
        chosen = next(iter(found.values()))
    elif "pipeline" in found:
        chosen = found["pipeline"]
    elif found:
        example = f"{path}:{next(iter(found))}"
        raise PipelineError(
            f"{path} has several pipelines",
            advice=f"say which, {example} for example (it has {', '.join(found)})",
        )
    else:
        raise PipelineError(
            f"{path} has no pipeline", advice="make one with runstore.sequence(...) or Dag(...)"
        )
    if isinstance(chosen, Pipeline):
        return Pipeline(chosen.dag, chosen.parameters, chosen.secrets, source, digest)
    parameters = getattr(module, "parameters", None)
    secrets = getattr(module, "secrets", None)
    return Pipeline(
        chosen,
        dict(parameters) if isinstance(parameters, Mapping) else {},
        tuple(secrets) if isinstance(secrets, list | tuple) else (),
        source,
        digest,
    )


def _module_name(path: str) -> str:
    """The name a pipeline file is imported under: its own, unless another module has it. A pipeline
    called json.py must not become everybody's json, nor a __main__.py the main module."""
    name = os.path.splitext(os.path.basename(path))[0]
    if name not in ("__main__", "__mp_main__"):
        try:
            other = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            other = None
        if other is None or other.origin == path:
            return name
    return f"{name}_{sha256(path.encode()).hexdigest()[:8]}"


def _where(error: BaseException, path: str) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: "
    trace = error.__traceback__
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line else ""
