"""The files of an attempt: saved from its own folder, and loaded into it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runstore.errors import BlobMissingError, InputError, RefusedError
from runstore.paths import segments, wildcard
from runstore.plan import Work
from runstore.records import Blob, Loaded, Start
from runstore.records.keys import encode
from runstore.store.files import MAX_FILES, artifact_name, find, is_artifact_name, open_file
from runstore.store.folder import make_folder, place_in, remove

if TYPE_CHECKING:
    from pathlib import Path

    from runstore.errors import RunstoreError
    from runstore.plan.steps import Visible
    from runstore.store.access import RunAccess

__all__ = ["Artifacts"]

_UNKNOWN = "?"
"""The source of an artifact that two steps saved, neither following the other."""


class Artifacts:
    """What :class:`~runstore.store.attempt.Attempt` does with files."""

    access: RunAccess
    start: Start
    work: Work | None

    def __init__(self) -> None:
        self._saved: dict[str, Blob] = {}
        self._loaded: dict[str, Loaded] = {}
        self._files = threading.Lock()
        self._folder: str | None = None
        self._closed = False
        self._written: dict[str, str] = {}
        """File that was loaded -> the address it was loaded by."""

    if TYPE_CHECKING:

        @property
        def path(self) -> str: ...
        def _known_work(self) -> Work: ...
        def _refuse_names(self, what: str, *names: str) -> None: ...

    @property
    def folder(self) -> Path:
        """A folder of this attempt's own: :meth:`load` writes into it, :meth:`save` reads from it,
        and a command runs in it. Made, empty, on first use.

        It is removed when the end of the attempt is recorded, and kept if that fails. The current
        folder of the process belongs to no step: all of them share it.

        :raises RefusedError: once the attempt has ended.
        """
        from pathlib import Path

        with self._files:
            self._refuse_ended()
            if self._folder is None:
                self._folder = make_folder(self.start.nonce)
            return Path(self._folder)

    def _refuse_ended(self) -> None:
        if self._closed:
            raise RefusedError(
                f"attempt {self.start.attempt} at {self.path} has ended",
                advice="load and save before that",
                path=self.path,
            )

    def load(self, *patterns: str, to: str | os.PathLike[str] | None = None) -> list[Path]:
        """Fetch artifacts that upstream steps saved; returns the paths of the files.

        :param patterns: each a name as it was saved (``data/hello.csv``), or, if there is no such
            name, a glob in which ``*`` and ``?`` are special and nothing else. What a map's body
            saved is addressed with the item's path in front (``scan["eu"]/hello.csv``,
            ``scan[*]/hello.csv``), and written below the key form of that path.
        :param to: the folder to write below; by default :attr:`folder`.
        :raises BlobMissingError: if nothing in sight matches, or the store lost it.
        :raises BlobDamagedError: if it is not what was saved.
        :raises InputError: if two artifacts would be one file, if a link or a folder is where a
            file is to be written, or if the record has a name that leads out of the folder.
        :raises RefusedError: for an attempt that was not begun with a step of a plan, or has ended.

        Each file appears whole or not at all, in place of one that was there, executable if it was
        when it was saved. What was loaded becomes part of what this attempt consumed: if its bytes
        change, the step is stale.
        """
        from pathlib import Path

        self._refuse_ended()
        seen = self._known_work().artifacts()
        chosen: dict[str, None] = {}
        for pattern in _texts(patterns, "load"):
            chosen.update(dict.fromkeys(self._in_sight(seen, pattern)))
        root = os.fspath(self.folder if to is None else to)
        names = {address: _local(address, seen[address][1]) for address in chosen}
        self._reserve(root, names)
        for address, name in names.items():
            blob, source = seen[address]
            with place_in(root, name) as (folder, last):
                self.access.blobs.copy_to(blob, last, dir_fd=folder)
            self._loaded[address] = Loaded(blob.sha256, source)
        return [Path(root, name) for name in names.values()]

    def _in_sight(self, seen: Visible, pattern: str) -> list[str]:
        matches = [pattern] if pattern in seen else sorted(filter(wildcard(pattern), seen))
        if not matches:
            names = ", ".join(sorted(seen)[:5]) or "none"
            raise BlobMissingError(
                f"{self.path} loads {pattern!r}, and no step before it saved that; "
                f"in sight: {names}",
                pattern=pattern,
            )
        for address in matches:
            if seen[address][1] == _UNKNOWN:
                raise InputError(
                    f"{self.path} loads {address!r}, which two steps before it saved, neither "
                    "following the other",
                    advice="order them, or save under two names",
                    pattern=pattern,
                )
        return matches

    def _reserve(self, root: str, names: dict[str, str]) -> None:
        """Refuse to load two artifacts into one file."""
        with self._files:
            for address, name in names.items():
                other = self._written.setdefault(os.path.abspath(os.path.join(root, name)), address)
                if other != address:
                    raise InputError(
                        f"{self.path} loads {address!r} and {other!r}, which would be one file, "
                        f"{name!r}",
                        advice="load one of them into another folder, with `to`",
                    )

    def save(
        self, *patterns: str | os.PathLike[str], base: str | os.PathLike[str] | None = None
    ) -> list[str]:
        """Keep files as artifacts of this attempt; returns their names.

        :param patterns: each the name of a file, relative to ``base``, or, if nothing has that
            name, a glob: ``*``, ``?`` and ``[...]`` within a name, ``**`` for any folders. Hidden
            files are matched as any other. A link is kept as the file that it leads to.
        :param base: by default :attr:`folder`.
        :raises InputError: for a pattern by which no file is found, saying what is there and what
            to write; for a name that leads out of ``base``, is not UTF-8, or too long; for a file
            that cannot be read; for more than 100,000 files. Nothing was kept then.
        :raises StorageError: for a file that changes while it is saved, and if the store fails.
        :raises RefusedError: once the attempt has ended.

        Streamed, hashed while written, and kept once however often the run saves them, with their
        executable bit (of the owner), and no other mode, owner or time. They are
        served to later steps only if this attempt succeeds. What is in them is kept as it is:
        nothing looks for secrets there, but in their names.
        """
        self._refuse_ended()
        root = os.fspath(self.folder if base is None else base) or "."
        found: dict[str, None] = {}
        for pattern in _texts(patterns, "save"):
            try:
                found.update(dict.fromkeys(find(root, pattern)))
            except InputError as error:
                if base is None and not os.path.isabs(pattern) and os.path.isfile(pattern):
                    error.problem += "; it is in the current folder, which all steps share"
                    error.advice = "write it below attempt.folder"
                raise self._refused(error) from error.__cause__
        self._refuse_names("an artifact", *found)
        self._check_count(found)
        kept: dict[str, Blob] = {}
        for name in found:
            try:
                file = open_file(root, name)
            except InputError as error:
                raise self._refused(error) from error.__cause__
            with file:
                about = os.fstat(file.fileno())
                kept[name] = self.access.blobs.put_file(
                    file, size=about.st_size, executable=bool(about.st_mode & stat.S_IXUSR)
                )
        self._saved.update(kept)
        return list(found)

    def _refused(self, error: InputError) -> InputError:
        return error.reworded(f"{self.path} saves {error.problem}")

    def save_bytes(self, name: str, data: bytes) -> None:
        """Keep some bytes as an artifact.

        :raises InputError: for a name that no file can have, or that leads out of its folder.
        """
        self._refuse_ended()
        try:
            clean = artifact_name(name)
        except InputError as error:
            raise self._refused(error) from None
        self._refuse_names("an artifact", clean)
        self._check_count({clean: None})
        self._saved[clean] = self.access.blobs.put(data)

    def keep(self, saved: Mapping[str, Blob]) -> None:
        """Count as saved by this attempt what another process saved for it."""
        self._saved.update(saved)

    def _check_count(self, more: dict[str, Any]) -> None:
        if len(self._saved) + len(more) > MAX_FILES and len({*self._saved, *more}) > MAX_FILES:
            raise InputError(
                f"{self.path} saves more than {MAX_FILES:,} files",
                advice="put them into one archive (tar), and save that",
            )

    def _close_folder(self) -> None:
        """The end is recorded: remove the folder."""
        with self._files:
            self._closed = True
            if self._folder is not None:
                remove(self._folder)

    def _keep_folder(self, error: RunstoreError) -> RunstoreError:
        """The end is not recorded: say where the files are."""
        with self._files:
            folder = self._folder
            if folder is None or self._closed:  # another thread may have ended it just now
                return error
            with suppress(OSError):
                os.rmdir(folder)  # with nothing in it, it is of no use to anybody
                self._folder = None
                return error
        error.problem += f"; the files of this attempt are kept in {folder}"
        error.facts["folder"] = folder
        return error


def _texts(patterns: Sequence[str | os.PathLike[str]], verb: str) -> list[str]:
    if not patterns:
        raise InputError(f"name what to {verb}: attempt.{verb}('data/*.csv')")
    texts = []
    for pattern in patterns:
        text = os.fspath(pattern) if isinstance(pattern, os.PathLike) else pattern
        if not isinstance(text, str):
            raise InputError(
                f"{pattern!r:.80} is no name of a file",
                advice=f"write attempt.{verb}('a.csv', 'b.csv')",
            )
        texts.append(text)
    return texts


def _is_plain(segment: str) -> bool:
    return segment not in (".", "..") and len(segment.encode()) <= 255 and "[" not in segment


def _local(address: str, source: str) -> str:
    """Where an artifact is written: items of maps may hold any character, so in their key form.

    :param source: the path of the step that saved it.
    :raises InputError: for a name that :meth:`Artifacts.save` would not have kept.
    """
    prefix, name = "", address
    parts = segments(source)
    items = [n for n, part in enumerate(parts, 1) if "[" in part]
    if items:
        item = "/".join(parts[: items[-1]]) + "/"
        if address.startswith(item):
            prefix = "/".join(p if _is_plain(p) else encode(p) for p in parts[: items[-1]]) + "/"
            name = address[len(item) :]
    if is_artifact_name(name):
        return prefix + name
    raise InputError(
        f"{address!r:.300}, which {source} saved, is a name that runstore gives no "
        "artifact, and may lead out of the folder: it is not loaded",
        advice="see where the run comes from",
    )
