"""What ``runstore pull`` and ``runstore push`` share."""

from __future__ import annotations

import re

from runstore.cli.exit_codes import DONE
from runstore.cli.render.console import say
from runstore.cli.store_url import StoreLocation, is_exported

__all__ = ["copy", "without_credentials"]

_SECRETS = re.compile(r"(?<=://)[^/]*@|[?#].*", re.DOTALL)
"""A user with a password before the host, and what may be a token behind the path."""


def copy(source: StoreLocation, run_id: str, target: StoreLocation, *, pulled: bool = False) -> int:
    """Bring a run in ``target`` up to what ``source`` has of it, and say what came of it.

    :param pulled: record in ``target`` where the run came from.
    :raises RefusedError: for an exported file, which is to be imported: that checks it.
    """
    from runstore.cli.arguments import existing_store
    from runstore.cli.render.bar import bar
    from runstore.cli.render.text import command_line, count, named
    from runstore.errors import RefusedError, RunNotFoundError
    from runstore.transfer import Arrival, transfer_run

    if is_exported(source.url):
        words = command_line("runstore", "import", source.url, *target.words())
        raise RefusedError(f"{source.url} is an exported file: {words}")
    opened = source.open(cache=False)
    to = target.open_to_write(cache=False)
    arrival = Arrival("pull", {"store": without_credentials(opened.url)}) if pulled else None
    with bar() as progress:
        try:
            done = transfer_run(opened, run_id, to, progress=progress, arrival=arrival)
        except RunNotFoundError:
            existing_store(source, cache=False)
            raise
    if done.left_out:
        lost = f"{count(len(done.left_out), 'blob')} damaged in {opened.url}"
        say(f"warning: left out {lost}: a retry makes them again", err=True)
    copied = (
        f"{count(done.records, 'record')}, {count(done.packs, 'pack')} and "
        f"{count(done.blobs, 'blob')} copied"
    )
    say(f"run {named(run_id)}: {copied} to {to.url}, {count(done.present, 'object')} there before")
    return DONE


def without_credentials(url: str) -> str:
    """The URL of a store as it may be recorded."""
    return _SECRETS.sub("", url) if "://" in url else url
