"""``runstore get``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from runstore.cli.exit_codes import DONE
from runstore.cli.options import store_option
from runstore.cli.render.console import hand_out, say
from runstore.cli.store_url import StoreLocation, is_exported

if TYPE_CHECKING:
    from runstore.plan.history import History
    from runstore.records import Blob
    from runstore.store import Run

__all__ = ["command"]

_LISTED = 10


@click.command("get")
@click.argument("run_id")
@click.argument("address")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(),
    help="File to write, or - for stdout; else the artifact's own name, here.",
)  # fmt: skip
@click.option(
    "--attempt", type=click.IntRange(0), metavar="N", help="Of this attempt; else of the latest."
)
@store_option
def command(
    run_id: str, address: str, output: str | None, attempt: int | None, store: StoreLocation
) -> int:
    """Fetch an artifact of run RUN_ID: by name, or by PATH/NAME where several steps saved it.

    An exact name goes before a pattern (*, ?). Checked against its digest; the file appears whole
    or not at all, executable if it was.
    """
    from runstore.cli.arguments import existing_run, tell_salvaged
    from runstore.errors import BlobMissingError

    run = existing_run(store, run_id, salvage=True)
    tell_salvaged(run)
    found = _chosen(run, run.history(), address, attempt)
    try:
        return _fetch(run, found, output)
    except BlobMissingError as error:
        problem = f"{found} is not in {run.storage.url}"
        raise error.reworded(problem, _absent(run, found, store)) from None


def _absent(run: Run, found: _Artifact, store: StoreLocation) -> str:
    """What helps where a file that a record names is not in the store."""
    from runstore.cli.render.text import verb_line

    if is_exported(run.storage.url):
        return "export the run again, with --artifacts"
    again = verb_line("retry", run.run_id, options=[*store.words(), "--force", found.path])
    return (
        "import it again from an export with --artifacts, push or pull it from a store that has "
        f"the file, or make it again: `{again}`"
    )


def _fetch(run: Run, found: _Artifact, output: str | None) -> int:
    from runstore.cli.render.text import amount, named
    from runstore.errors import RefusedError

    if output == "-":
        _print(run, found.blob)
        return DONE
    name = os.path.basename(found.name)
    if output is None or os.path.isdir(output):
        if name in ("", ".", "..") or "\0" in name:
            raise RefusedError(
                f"{found.name!r:.300} is no name of a file", advice="name one with -o"
            )
        target = os.path.join(output or "", name)
        if output is None and os.path.lexists(target):
            raise RefusedError(
                f"{named(target)} is here already", advice="name another file with -o"
            )
    else:
        target = output
        if os.path.exists(target) and not os.path.isfile(target):
            raise RefusedError(f"{named(target)} is no file: for a pipe or a device, use -o -")
    run.blobs.copy_to(found.blob, target)
    say(f"{target}: {amount(found.blob.size)}, of {found}", err=True)
    return DONE


class _Artifact(NamedTuple):
    path: str
    attempt: int
    name: str
    blob: Blob
    outcome: str

    @property
    def addresses(self) -> set[str]:
        """Its name, alone, and below the step that saved it, or the item of a map in which that
        stands (as a step outside of the map loads it)."""
        from runstore.paths import segments

        parts = segments(self.path)
        items = [n for n, part in enumerate(parts, 1) if "[" in part]
        holders = [self.path, *("/".join(parts[:n]) for n in items[-1:])]
        return {self.name, *(f"{holder}/{self.name}" for holder in holders)}

    def __str__(self) -> str:
        note = "" if self.outcome == "succeeded" else f", which {self.outcome}"
        return f"{self.path}/{self.name} (attempt {self.attempt}{note})"


def _chosen(run: Run, history: History, address: str, attempt: int | None) -> _Artifact:
    from runstore.cli.render.text import command_line
    from runstore.errors import RefusedError
    from runstore.paths import wildcard

    everything = list(_artifacts(history))
    found = [each for each in everything if address in each.addresses]
    if not found:
        match = wildcard(address)
        found = [each for each in everything if any(map(match, each.addresses))]
    if attempt is not None:
        found = [each for each in found if each.attempt == attempt]
    # Of the attempts at a path the latest one, and of the paths those that succeeded: the others
    # are looked at only if there is no such, to find out what went wrong.
    latest = list({(each.path, each.name): each for each in found}.values())
    good = [each for each in latest if each.outcome == "succeeded"]
    chosen = good or latest
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        every = sorted(f"{each.path}/{each.name}" for each in chosen)
        listed = ", ".join(every[:_LISTED])
        more = f", and {len(chosen) - _LISTED:,} more" if len(chosen) > _LISTED else ""
        raise RefusedError(
            f"{len(chosen):,} artifacts are called {address!r}", advice=f"say which: {listed}{more}"
        )
    show = command_line("runstore", "show", run.run_id)
    some = dict.fromkeys(each.name for each in everything)
    names = ", ".join(map(repr, list(some)[:_LISTED])) or "none"
    raise RefusedError(
        f"run {run.run_id!r} has no artifact {address!r}; there is {names}",
        advice=f"`{show}` lists them all",
    )


def _artifacts(history: History) -> Iterator[_Artifact]:
    """Every one, the attempts of a path in order."""
    from runstore.records import End

    for path in history.paths():
        for number, end in history.numbered(path):
            if isinstance(end, End):
                for name, blob in end.artifacts.items():
                    yield _Artifact(path, number, name, blob, end.outcome)


def _print(run: Run, blob: Blob) -> None:
    """To stdout: checked as a whole before the first byte of it, by way of a temp file."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="runstore-") as folder:
        file = os.path.join(folder, "artifact")
        run.blobs.copy_to(blob, file)
        with open(file, "rb") as source:
            hand_out(source)
