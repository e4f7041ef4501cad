"""``runstore doctor``."""

from __future__ import annotations

import click

from runstore.cli.exit_codes import DAMAGED, DONE
from runstore.cli.options import format_option, store_option
from runstore.cli.render.console import say_json
from runstore.cli.store_url import StoreLocation, is_exported

__all__ = ["command"]

_MARKS = {True: ("ok", "green"), False: ("BAD", "bold red"), None: ("", "")}


@click.command("doctor")
@click.argument("url", metavar="[URL]", required=False)
@format_option
@store_option
def command(url: str | None, style: str, store: StoreLocation) -> int:
    """Try out whether a store can be at URL (else at --store): create exclusively, read, list.

    How quick that is, by which engine and versions, and whether the clocks agree. Leaves one small
    object, which `runstore gc` removes. Exits with 3 if something is wrong.
    """
    from runstore.cli.render.tables import print_table
    from runstore.cli.render.text import clean
    from runstore.errors import InputError
    from runstore.upkeep.doctor import examine

    place = store.at(url or store.url)
    if is_exported(place.url):
        raise InputError(
            f"{place.url} is an exported file, and no store can be made there",
            advice="`runstore verify RUN_ID --store FILE` checks what is in it",
        )
    found = examine(place.url, storage_options=place.storage_options() or None)
    if style == "json":
        findings = [{**each._asdict(), "facts": dict(each.facts)} for each in found]
        say_json({"url": place.url, "findings": findings})
    else:
        print_table(
            ("what", "", "found"),
            [(each.name, _MARKS[each.ok], clean(each.detail, 600)) for each in found],
        )
    return DAMAGED if any(each.ok is False for each in found) else DONE
