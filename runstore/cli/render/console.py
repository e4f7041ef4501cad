"""All that is printed goes through here: nothing of a task or a record that a terminal would obey,
or that would read as something else, gets past.

No other module of the command line prints; ruff holds that (`banned-api` in pyproject.toml).
"""

from __future__ import annotations

import codecs
import io
import sys
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import click

from runstore.cli.render.text import json_text, visible

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ask", "confirm", "console", "hand_out", "say", "say_json", "say_text", "stream_out",
]  # fmt: skip

_LINE = 1 << 16
"""Characters of a line that are handed out at a time."""


def say(*lines: str, err: bool = False, file: IO[str] | None = None) -> None:
    """Print lines to stdout, or to stderr. What would break one into two is shown, as ``\\n``."""
    click.echo("\n".join(map(visible, lines)), err=err, file=file)


def say_text(text: str, *, err: bool = False) -> None:
    """Print a text of several lines, and tabs, as a traceback is."""
    click.echo(visible(text.replace("\r\n", "\n"), keep="\n\t"), err=err)


def say_json(document: Any) -> None:
    """Print one JSON document, in ASCII without control characters."""
    # What is not ASCII is escaped, and the control characters below 32.
    click.echo(json_text(document, 1).replace("\x7f", "\\u007f"))


def hand_out(source: BinaryIO) -> None:
    """Copy what a task wrote to stdout: byte for byte, but to a terminal as :func:`say_text`."""
    import shutil

    sys.stdout.flush()
    if sys.stdout.isatty():
        text = io.TextIOWrapper(source, "utf-8", "backslashreplace", newline="\n")
        while line := text.readline(_LINE):
            if line.endswith("\r\n"):
                line = line[:-2] + "\n"
            click.echo(visible(line, keep="\n\t"), nl=False)
        text.detach()
    else:
        shutil.copyfileobj(source, sys.stdout.buffer)
    sys.stdout.flush()


def stream_out() -> Callable[[str, bytes], None]:
    """Copies what tasks are writing to stdout, as :func:`hand_out`. The function it gives takes
    whose it is, if there are several at once, and some bytes; of several it prints whole lines."""
    lock = threading.Lock()
    rest: dict[str, bytes] = {}
    decoders: dict[str, Any] = {}

    def write(whose: str, data: bytes) -> None:
        with lock:
            if whose:
                *lines, rest[whose] = (rest.get(whose, b"") + data).split(b"\n")
                label = visible(whose).encode() + b": "
                data = b"".join(label + line + b"\n" for line in lines)
            if sys.stdout.isatty():
                decoder = decoders.setdefault(
                    whose, codecs.getincrementaldecoder("utf-8")("replace")
                )
                click.echo(
                    visible(decoder.decode(data).replace("\r\n", "\n"), keep="\n\t"), nl=False
                )
            else:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()

    return write


def ask(question: str) -> str:
    """What is typed on the terminal, unseen."""
    answer: str = click.prompt(visible(question), hide_input=True, err=True)
    return answer


def confirm(question: str) -> bool:
    """Whether the answer is yes."""
    return click.confirm(visible(question), err=True)


def console(**options: Any) -> Console:
    """A console of rich that passes its own control sequences on, and no others; without markup."""
    from rich.console import Console, RenderableType
    from rich.segment import Segment

    class Cleaned(Console):
        def render(self, renderable: RenderableType, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                text, style, control = segment
                yield segment if control else Segment(visible(text, keep="\n"), style)

    return Cleaned(**{"highlight": False, "markup": False, "emoji": False, **options})
