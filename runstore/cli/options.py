"""Options that several verbs share, and what they are read as."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from runstore.cli import debug
from runstore.cli.render.console import ask
from runstore.cli.store_url import DEFAULT_STORE, StoreLocation
from runstore.errors import InputError, ParameterError
from runstore.storage import expand_home

__all__ = [
    "Age", "Given", "Pairs", "Takeover", "all_steps", "at_work", "format_option",
    "at_one_step", "from_earlier", "label_option", "names_of_secrets", "parameters",
    "recorded_code_option", "recorded_command", "repeated", "single_writer_option", "store_option",
    "takeover_option",
]  # fmt: skip

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # which takes no arguments before click 8.2


class Pairs(_Type):
    """``NAME=VALUE``; with ``bare``, ``NAME`` alone gives no value."""

    def __init__(self, name: str, *, bare: bool = False) -> None:
        self.name = name
        self.bare = bare

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str | None]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not name or not (equals or self.bare):
            self.fail(f"{value[:80]!r} is not NAME=VALUE", param, ctx)
        return name, text if equals else None


_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])|0")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Age(_Type):
    """An age like ``30m``, ``2h``, ``1d``, as a timedelta."""

    name = "AGE"
    words: tuple[str, ...] = ()
    """What may stand in place of an age, and is given as it is."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from datetime import timedelta

        if value in self.words or isinstance(value, timedelta):
            return value
        found = _AGE.fullmatch(str(value))
        if found is None:
            others = f"{', '.join(self.words)} or " if self.words else ""
            self.fail(f"{value!r} is not {others}an age like 30m, 2h or 1d", param, ctx)
        try:
            return timedelta(**{_UNITS[found[2]]: float(found[1])} if found[2] else {})
        except OverflowError:
            self.fail(f"{value!r} is longer ago than anything", param, ctx)


class Takeover(Age):
    """``dead``, ``all`` or an age."""

    name = "dead|all|AGE"
    words = ("dead", "all")


single_writer_option = click.option(
    "--single-writer", is_flag=True,
    help="The endpoint cannot create exclusively, and nobody else will ever write there.",
)  # fmt: skip
format_option = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True,
    help="json: one document, for programs.",
)  # fmt: skip
all_steps = click.option(
    "--all", "everything", is_flag=True, help="Every item of a map, instead of how many."
)
label_option = click.option(
    "--label", "labels", multiple=True, type=Pairs("NAME=VALUE"), help="A label. Repeatable."
)
takeover_option = click.option(
    "--takeover", type=Takeover(), default="dead", show_default=True,
    help="Whose attempts in progress to give up: of processes known to be dead, all, or besides "
    "the dead those that began longer ago than AGE (30m, 2h, 1d).",
)  # fmt: skip

recorded_code_option = click.option(
    "--recorded-code", is_flag=True,
    help="Without a PIPELINE: run what the records name, though others made them. It can do all "
    "that you can.",
)  # fmt: skip
_EARLIER = (
    recorded_code_option,
    click.option(
        "--keep-unchanged", is_flag=True,
        help="Go on though the structure changed; what did not change keeps its results.",
    ),
)  # fmt: skip

_STORE = (
    debug,
    click.option(
        "--storage-option", "storage_options", multiple=True, type=Pairs("NAME=VALUE"),
        help="Of a remote store, as s3fs, gcsfs and adlfs have it; the value is JSON, else text. "
        "Repeatable.",
    ),
    click.option(
        "--store", "store", metavar="URL", envvar="RUNSTORE_URL", default=DEFAULT_STORE,
        help="Folder or URL of the store; else $RUNSTORE_URL, else ./.runstore.",
    ),
)  # fmt: skip

_WORK = (
    single_writer_option,
    click.option(
        "--secret", "secrets", multiple=True, type=Pairs("NAME[=VALUE]", bare=True),
        help="A parameter that is never stored. Without VALUE: $RUNSTORE_SECRET_<NAME>, else it "
        "is asked for.",
    ),
    click.option(
        "--workers", type=click.IntRange(1), metavar="N", help="Steps that run at a time."
    ),
    click.option(
        "--params-file", type=click.Path(), metavar="FILE",
        help="Parameters in a .json or .yaml file; --param goes before it.",
    ),
    click.option(
        "--param", "-p", "params", multiple=True, type=Pairs("NAME=VALUE"),
        help="A parameter; the value is JSON, else text. Repeatable.",
    ),
)  # fmt: skip


def store_option(function: Callable[..., Any]) -> Any:
    """``--store`` and ``--storage-option``, given as ``store``, a `StoreLocation`; and ``--debug``
    after the verb too. To be put below `single_writer_option`."""

    @functools.wraps(function)
    def with_place(*words: Any, **options: Any) -> Any:
        options["store"] = StoreLocation(
            expand_home(options["store"]),
            options.pop("storage_options"),
            options.pop("single_writer", False),
        )
        return function(*words, **options)

    return _with(_STORE, with_place)


class Given(NamedTuple):
    """What every verb that works on a run is given."""

    store: StoreLocation
    params: Sequence[tuple[str, str]]
    params_file: str | None
    secrets: Sequence[tuple[str, str | None]]
    command: Sequence[str]
    """The command line, as it is recorded."""

    def parameters(self, secret: Iterable[str]) -> dict[str, Any]:
        """See :func:`parameters`."""
        return parameters(self.params, self.params_file, secret)

    def secret_values(self, names: Iterable[str]) -> dict[str, str]:
        """Name -> value: as given, else of the environment, else asked for on a terminal.

        :param names: what the pipeline or the run needs. One that is found nowhere is left out, and
            the library says what is missing, if it is missing.
        """
        values: dict[str, str] = {}
        asked = dict.fromkeys(names)
        for name, value in self.secrets:
            if value is None:
                asked[name] = None
            else:
                values[name] = value
        explicit = {name for name, value in self.secrets if value is None}
        for name in asked:
            if name in values:
                continue
            variable = f"RUNSTORE_SECRET_{name.upper()}"
            if variable in os.environ:
                values[name] = os.environ[variable]
            elif sys.stdin is not None and sys.stdin.isatty():
                values[name] = ask(f"secret {name}")
            elif name in explicit:
                raise ParameterError(
                    f"the secret {name!r} has no value",
                    advice=f"write --secret {name}=VALUE, or set {variable}",
                    parameter=name,
                )
        return values


def at_work(function: Callable[..., Any]) -> Any:
    """The options of who runs steps; the function is given a `Given` before the others."""
    processes = click.option(
        "--processes", is_flag=True, help="Run steps in processes, not threads."
    )
    return processes(at_one_step(function))


def at_one_step(function: Callable[..., Any]) -> Any:
    """:func:`at_work`, of who runs one step in this very process."""

    @click.pass_context
    @functools.wraps(function)
    def with_given(ctx: click.Context, /, **options: Any) -> Any:
        own = {name: options.pop(name) for name in ("store", "params", "params_file", "secrets")}
        return function(Given(command=recorded_command(ctx.obj["arguments"]), **own), **options)

    return _with(_WORK, store_option(with_given))


def from_earlier(function: Callable[..., Any]) -> Any:
    """:func:`at_work`, and the options of who goes on from what a run recorded."""
    return _with(_EARLIER, at_work(function))


def _with(options: Iterable[Any], function: Any) -> Any:
    for option in options:
        function = option(function)
    return function


def repeated(options: Mapping[str, Any]) -> list[str]:
    """Of the options given, what a retry that is to work the same way is to be given again."""
    words = ["--processes"] if options.get("processes") else []
    words += ["--workers", str(options["workers"])] if options.get("workers") else []
    return words


def parameters(
    params: Iterable[tuple[str, str]], file: str | None, secret: Iterable[str] = ()
) -> dict[str, Any]:
    """The parameters of ``--params-file`` and, over them, ``--param``.

    :param secret: names that must not be among them, since these would be stored.
    :raises InputError: naming the one that cannot be used.
    """
    given = {**(_from_file(file) if file else {}), **{n: _value(n, t) for n, t in params}}
    for name in secret:
        if name in given:
            raise InputError(
                f"{name!r} is a secret, and a parameter would be stored",
                advice=f"give it with --secret {name}, or in RUNSTORE_SECRET_{name.upper()}",
            )
    return given


def _value(name: str, text: str) -> Any:
    import json

    from runstore.canonical import loads

    try:
        json.loads(text)
    except json.JSONDecodeError:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"parameter {name!r} is no text: it is not UTF-8") from None
        return text
    except (ValueError, RecursionError):
        pass  # it is JSON, and too long or too deep: said below
    try:
        return loads(text.encode())
    except InputError as error:
        raise InputError(
            f"parameter {name!r}: {error}; for the text itself, put it in double quotes: "
            f"""'{name}="..."'"""
        ) from None


def _from_file(path: str) -> dict[str, Any]:
    from runstore.pipeline.document import parse_document

    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(
            f"parameters file {path!r} cannot be read: {error.strerror}",
            advice="name one that can with --params-file, or give each with --param NAME=VALUE",
        ) from error
    if not path.endswith((".json", ".yaml", ".yml")):
        raise InputError(
            f"parameters file {path!r} must end in .json, .yaml or .yml", advice="rename it"
        )
    found = parse_document(data, path).value
    if not isinstance(found, dict):
        example = '{"n": 1}' if path.endswith(".json") else "n: 1"
        raise InputError(
            f"parameters file {path!r} must hold an object of names and values, such as {example}"
        )
    return found


_HIDDEN = re.compile(r"([^=]*)=(.*)", re.DOTALL)


def recorded_command(arguments: Sequence[str]) -> list[str]:
    """The command as it is stored with the invocation: without the values of secrets."""
    out = ["runstore"]
    after = False
    for argument in arguments:
        shown = argument.encode("utf-8", "backslashreplace").decode()
        option, equals, rest = shown.partition("=")
        is_secret = option in ("--secret", "--storage-option")
        if after:
            shown = _HIDDEN.sub(r"\1=***", shown)
        elif is_secret and equals:
            shown = option + "=" + _HIDDEN.sub(r"\1=***", rest)
        after = is_secret and not equals and not after
        out.append(shown)
    return out


def names_of_secrets(parameters: Mapping[str, Any]) -> list[str]:
    """The parameters of a run whose values are not in the store."""
    from runstore.records import Secret

    return [name for name, value in parameters.items() if type(value) is Secret]
