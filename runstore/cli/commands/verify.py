"""``runstore verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runstore.cli.exit_codes import DAMAGED, DONE, print_error
from runstore.cli.options import format_option, store_option
from runstore.cli.render.console import say, say_json
from runstore.cli.store_url import StoreLocation, is_exported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runstore.store import Run
    from runstore.upkeep.verify import Checked

__all__ = ["command"]


@click.command("verify")
@click.argument("run_id")
@format_option
@store_option
def command(run_id: str, style: str, store: StoreLocation) -> int:
    """Read every record and blob of run RUN_ID, and check them against their digests.

    Names each file that is damaged or missing on stdout, what is lost with it and what can be done
    about it, and exits with 3 if there is one. A log that is not there was left out: no damage.
    """
    from runstore.cli.arguments import existing_run
    from runstore.cli.render.text import clean, count, named
    from runstore.records import keys
    from runstore.upkeep.verify import verify

    run = existing_run(store, run_id, cache=False, salvage=True)
    # What an export left out is no damage.
    exported = is_exported(run.storage.url)
    there = set(run.storage.list("")) if exported else set()
    checked = left_out = 0
    marked = exported
    bad: list[Checked] = []
    for found in verify(run):
        marked = marked or found.key == keys.MARKER
        if found.state == "left out" or (exported and found.key not in there):
            left_out += 1
            continue
        checked += 1
        if found.problem is not None:
            bad.append(found)
    told = list(_told(run, bad, store)) if bad else []
    if style == "json":
        place = {"store": run.storage.url, "run_id": run.run_id}
        say_json(place | {"checked": checked, "left_out": left_out, "problems": told})
    for each in told if style == "table" else ():
        named_in_it = each["key"] in each["problem"]
        text = each["problem"] if named_in_it else f"{each['key']}: {each['problem']}"
        advice = f": {each['advice']}" if "advice" in each else ""
        say(clean(text + advice, 1_000))
    if not marked:
        say(f"note: no {keys.MARKER}: the next run makes one", err=True)
    if bad:
        print_error(
            f"{count(len(bad), 'object')} of {checked:,} in run {named(run.run_id)} "
            f"{'is' if len(bad) == 1 else 'are'} damaged, missing or unreadable: "
            f"what to do about each stands behind it"
        )
        return DAMAGED
    if style == "table":
        absent = ""
        if left_out:
            what = "blob" if exported else "log"
            where = "in this file" if exported else "here (left out by an export, perhaps)"
            absent = f"; {count(left_out, what)} {'is' if left_out == 1 else 'are'} not {where}"
        whole = f"{count(checked, 'object')} checked, all as written{absent}"
        say(f"run {named(run.run_id)}: {whole}")
    return DONE


def _told(run: Run, bad: list[Checked], store: StoreLocation) -> Iterator[dict[str, Any]]:
    from runstore.cli.render.text import commands
    from runstore.errors import RunstoreError
    from runstore.upkeep.repair import RepairAdvice

    try:
        history = run.history()
    except RunstoreError:  # a record that the storage does not give
        history = None
    damaged = {found.key for found in bad}
    repair = RepairAdvice(run, history, damaged, commands(run.run_id, store.words()))
    for found in bad:
        assert found.problem is not None
        told = {"key": found.key, "state": found.state, "problem": found.problem}
        if found.state != "unreadable":  # of that one the storage says what to do
            told["advice"] = repair.of(found.key).text
        yield told
