"""Which engine serves a URL, and with what options."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import partial
from typing import Any

from runstore.errors import StorageError
from runstore.storage.client import Engine
from runstore.storage.remote import BUDGET_SECONDS, RemoteStorage
from runstore.storage.url import PACKAGES, Address, parse_address

__all__ = ["ENGINES", "open_remote"]

ENGINES = ("fsspec", "obstore")


def open_remote(
    url: str,
    storage_options: Mapping[str, Any] | None,
    engine: str | None,
    single_writer: bool,
    budget: float | None,
) -> RemoteStorage:
    """See `runstore.storage.open_storage`. Asks no server; imports no client for s3, gs, az."""
    address = parse_address(url)
    options = dict(storage_options or {})
    chosen = _choose(address, options, engine)
    if chosen == "fsspec":
        _check_installed(address)
    return RemoteStorage(
        address,
        lambda: _connect(chosen, address, options),
        budget=BUDGET_SECONDS if budget is None else budget,
        single_writer=single_writer,
        reopen=partial(open_remote, url, storage_options, engine, budget=budget),
    )


def _choose(address: Address, options: Mapping[str, Any], engine: str | None) -> str:
    if engine not in (None, *ENGINES):
        advice = f"choose one of {', '.join(ENGINES)}"
        raise StorageError(f"There is no engine {engine!r}", advice=advice, url=address.url)
    why = ""
    if not address.family:
        why = "it serves s3, gs and az"
    elif importlib.util.find_spec("obstore") is None:
        why = "it is not installed (pip install 'runstore[fast]')"
    elif engine != "fsspec":
        from runstore.storage.obstore_options import Untranslatable, translate

        try:
            translate(address, options)
        except Untranslatable as error:
            why = str(error)
    if why and engine == "obstore":
        raise StorageError(
            f"Cannot open {address.url} with obstore: {why}",
            advice='use engine="fsspec"',
            url=address.url,
        )
    return "fsspec" if why or engine == "fsspec" else "obstore"


def _connect(chosen: str, address: Address, options: Mapping[str, Any]) -> Engine:
    if chosen == "obstore":
        from runstore.storage.obstore_client import ObstoreEngine, is_forked

        if not is_forked():
            return ObstoreEngine(address, options)
        # Its threads stayed in the parent, and every call would hang: the other engine serves.
        try:
            _check_installed(address)
        except StorageError as error:
            raise StorageError(
                f"Cannot use {address.url} in a forked process: obstore does not survive a fork",
                advice=f"start processes with 'spawn' or 'forkserver'. ({error})",
                url=address.url,
            ) from None
    from runstore.storage.fsspec_client import FsspecEngine

    return FsspecEngine(address, options)


def _check_installed(address: Address) -> None:
    if not address.family:
        from runstore.storage.fsspec_client import check_scheme

        check_scheme(address)
        return
    package, extra = PACKAGES[address.family]
    if importlib.util.find_spec(package) is None:
        name = f"'runstore[{extra}]'" if extra else package
        raise StorageError(
            f"Cannot open {address.url}: {package} is not installed",
            advice=f"pip install {name}",
            url=address.url,
        )
