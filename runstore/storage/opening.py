"""Which storage serves a path or a URL. No backend is imported before one is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from runstore.errors import StorageError
from runstore.storage.base import Storage, is_near

__all__ = ["expand_home", "open_storage", "prove"]

_has_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*:/").match


def open_storage(
    url: str | os.PathLike[str],
    *,
    durable: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    engine: str | None = None,
    single_writer: bool = False,
    budget: float | None = None,
) -> Storage:
    """The storage at ``url``; opening touches nothing, so a store need not be there yet.

    * a path (``~/x`` and ``~user/x`` are below a home folder), or ``file:///absolute/path`` (taken
      literally, no ``%20``): the local disk.
      ``durable=False`` skips every fsync and nothing else: creates stay exclusive and whole.
    * ``memory://NAME``: in this process; one name is one store, and it is gone with the process.
    * ``s3://``, ``gs://``, ``az://`` or ``abfs://BUCKET/PREFIX``, and any other URL fsspec opens:
      `runstore.storage.remote`. ``storage_options``, environment and profiles are those of s3fs,
      gcsfs and adlfs. ``engine``: ``"obstore"`` or ``"fsspec"``; by default obstore for s3, gs
      and az if it is installed and knows the options, else fsspec.

    ``budget``: how many seconds a remote operation goes on trying (60). ``single_writer``: the
    endpoint cannot create exclusively, and nobody else writes; local and memory stores need no
    such promise.

    Raises `StorageError` for anything else, or for what is not installed.
    """
    text = os.fspath(url)
    scheme, separator, rest = text.partition("://")
    if separator and "/" not in scheme:
        if scheme not in ("file", "memory"):
            from runstore.storage.engines import open_remote

            return open_remote(text, storage_options, engine, single_writer, budget)
        _refuse_remote_arguments(text, storage_options, engine)
        if scheme == "memory" and rest.strip("/"):
            from runstore.storage.memory import named_store

            return named_store(rest.strip("/"))
        if scheme != "file" or not rest.startswith("/"):
            problem, example = (
                f"{text!r} is not absolute",
                "file:///absolute/path, or the path alone",
            )
            if scheme == "memory":
                problem, example = f"{text!r} names no store", "memory://NAME"
            raise StorageError(problem, advice=f"write {example}", url=text)
        text = rest
    elif not text or _has_scheme(text):
        # Path("s3://bucket") is "s3:/bucket": it would become a folder of that name, unnoticed.
        raise StorageError(
            f"{text!r} is not the place of a store",
            advice="give a path, or a URL as a str with both slashes after its colon (pathlib "
            "drops one)",
            url=text,
        )
    else:
        text = expand_home(text)
    _refuse_remote_arguments(text, storage_options, engine)
    from runstore.storage.local import LocalStorage

    return LocalStorage(text, durable=durable)


def expand_home(path: str) -> str:
    """``~`` and ``~user`` at the beginning of a path as that home folder, as a shell has it: what
    comes from a variable or a file was seen by no shell. ``./~`` is a folder of that name.

    Raises `StorageError` if nobody knows the home folder.
    """
    if not path.startswith("~"):
        return path
    user = path.partition("/")[0]
    expanded = os.path.expanduser(path)
    # An empty $HOME would be taken for the root of the disk.
    if not os.path.isabs(expanded) or (user == "~" and os.environ.get("HOME") == ""):
        why = f"there is no user {user[1:]!r}" if user != "~" else "HOME is not set to a folder"
        raise StorageError(
            f"{path!r} cannot be opened: {why}",
            advice=f"give the whole path, or ./{path} for a folder that is called {user}",
            url=path,
        )
    return expanded


def prove(storage: Storage) -> bool:
    """Before a store is made: whether its marker must say that it has a single writer.

    Local and memory stores cost nothing. A remote one is tried out: two creates and two reads.

    Raises `StorageError` if the endpoint does not create exclusively, and nobody has promised to
    be its only writer.
    """
    if is_near(storage):
        return False
    from runstore.storage.probe import require

    return require(storage)


def _refuse_remote_arguments(
    url: str, storage_options: Mapping[str, Any] | None, engine: str | None
) -> None:
    for name, value in (("storage_options", storage_options), ("engine", engine)):
        if value:
            raise StorageError(f"{name} is for remote stores; {url!r} is none", url=url)
