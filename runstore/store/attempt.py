"""One attempt: claimed, worked at, ended exactly once."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from runstore.errors import (
    AttemptEndedError,
    AttemptLostError,
    BlobMissingError,
    InputError,
    KeyExistsError,
    PathError,
    RefusedError,
    ValueNotJsonError,
)
from runstore.keys import encode
from runstore.paths import segments, wildcard
from runstore.plan import Work
from runstore.records import Blob, Consumed, End, Loaded, Start
from runstore.store.clock import now
from runstore.store.ending import check_metric, check_names, clean, described
from runstore.store.masking import refuse_names, refuse_secrets
from runstore.store.token import to_token

if TYPE_CHECKING:
    from types import TracebackType

    from runstore.plan.steps import Visible
    from runstore.store.run import Run

__all__ = ["Attempt"]


class Attempt:
    """A claimed attempt. Made by :meth:`Run.begin`; end it once, with one of :meth:`succeed`,
    :meth:`fail`, :meth:`cancel`, or use it as a context manager::

        with run.attempt("train") as attempt:
            attempt.outputs["model"] = train(**attempt.params)

    Leaving the block succeeds with ``outputs``; an exception fails the attempt and goes on, and
    ``KeyboardInterrupt`` cancels it. Methods may be called from any thread.
    """

    def __init__(
        self,
        run: Run,
        start: Start,
        key: str,
        work: Work | None,
        returns: Sequence[str] | None = None,
    ) -> None:
        self.run = run
        self.start = start
        self.key = key
        """Object key of the start."""
        self.work = work
        self.returns = work.task.returns if work is not None else returns
        """The names the node returns; ``None`` where they are not known, and not checked."""
        self.outputs: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.log: Blob | None = None
        self._saved: dict[str, Blob] = {}
        self._loaded: dict[str, Loaded] = {}
        self._end: End | None = None
        self._params: Mapping[str, Any] | None = None
        self._folder: str | None = None
        self.since = time.monotonic()
        """When this process took it up, by its own clock."""

    def __repr__(self) -> str:
        return f"<Attempt {self.number} at {self.path} of {self.run.run_id!r}>"

    @property
    def path(self) -> str:
        """The node path."""
        return self.start.path

    @property
    def number(self) -> int:
        """The attempt number, from 1."""
        return self.start.attempt

    @property
    def end(self) -> End | None:
        """The end record, once there is one."""
        return self._end

    @property
    def token(self) -> str:
        """A text by which another process can end this attempt: ``run.attempt_of(token)``. It holds
        no values."""
        return to_token(self.start, self.returns)

    # -- what goes in ----------------------------------------------------------------------------

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters, by name; large values are fetched on first use.

        :raises ParameterError: for a secret that was not given again.
        :raises BlobMissingError, BlobDamagedError: for a large value.
        :raises RefusedError: for an attempt that was not begun with a step of a plan.
        """
        if self._params is None:
            self._params = self.run.materialise(self._known_work().params, self.path)
        return self._params

    def _known_work(self) -> Work:
        if self.work is None:
            raise RefusedError(
                f"attempt {self.number} at {self.path} was not begun here with a step of a plan, "
                f"so its inputs are not known: read them where it was, or begin it with "
                f"run.step({self.path!r})",
                path=self.path,
            )
        return self.work

    @property
    def folder(self) -> str:
        """An empty folder of this attempt's own, made on first use and gone when it has ended.

        Steps that run at the same time share the current folder; what they write there they may
        take from one another."""
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="runstore-")
        return self._folder

    def load(self, pattern: str, to: str | None = None) -> list[str]:
        """Fetch artifacts that an upstream step saved; returns the files written, relative names.

        :param pattern: a name as it was saved (``data/hello.csv``), or a glob in which ``*``
            and ``?`` are special and nothing else. What a
            map's body saved is addressed with the item's path in front
            (``scan["eu"]/hello.csv``, ``scan[*]/hello.csv``), and written below the key form of
            that path.
        :param to: the folder to write below; :attr:`folder` if that was used, else the current one.
        :raises BlobMissingError: if nothing in sight matches, or the store lost it.
        :raises BlobDamagedError: if it is not what was saved.
        :raises RefusedError: for an attempt that was not begun with a step of a plan.

        Each file appears whole or not at all. What was loaded becomes part of what this attempt
        consumed: if it changes, the step is stale.
        """
        seen = self._visible()
        matches = [pattern] if pattern in seen else _matching(seen, pattern)
        if not matches:
            names = ", ".join(sorted(seen)[:5]) or "none"
            raise BlobMissingError(
                f"{self.path} loads {pattern!r}, and no step before it saved that; "
                f"in sight: {names}",
                pattern=pattern,
            )
        written = []
        to = to or self._folder or "."
        for address in matches:
            blob, source = seen[address]
            if source == "?":
                raise InputError(
                    f"{self.path} loads {address!r}, which two steps before it saved, neither "
                    f"following the other: order them, or save under two names",
                    pattern=pattern,
                )
            name = _local(address)
            self.run.blobs.copy_to(blob, os.path.join(to, name))
            self._loaded[address] = Loaded(blob.sha256, source)
            written.append(name)
        return written

    def _visible(self) -> Visible:
        return self._known_work().artifacts()

    # -- what comes out --------------------------------------------------------------------------

    def save(self, pattern: str, base: str | None = None) -> list[str]:
        """Keep files as artifacts of this attempt; returns their names.

        :param pattern: a path or a glob (``**`` descends), relative to ``base``.
        :param base: :attr:`folder` if that was used, else the current folder.
        :raises InputError: if nothing matches, a name leads out of ``base``, or another step that
            was at work at the same time saved the very same file: one of them saves the other's.

        Streamed, hashed while written, and kept once however often the run saves them. They are
        served to later steps only if this attempt succeeds. What is in them is kept as it is:
        nothing looks for secrets there, but for their names.
        """
        base = base or self._folder or "."
        found = sorted(
            name
            for name in glob.glob(pattern, root_dir=base, recursive=True, include_hidden=True)
            if os.path.isfile(os.path.join(base, name))
        )
        if not found:
            raise InputError(
                f"{self.path} saves {pattern!r}, and {os.path.abspath(base)} has no such file",
                pattern=pattern,
            )
        for name in found:
            clean = _relative(name)
            self._refuse_names("an artifact", clean)
            other = self.run.saves_too(os.path.realpath(os.path.join(base, name)), self)
            if other is not None:
                raise InputError(
                    f"{self.path} saves {name!r}, which {other} saved while both were at work: "
                    f"write below attempt.folder, which is each attempt's own",
                    pattern=pattern,
                )
            with open(os.path.join(base, name), "rb") as file:
                self._saved[clean] = self.run.blobs.put_file(file)
        return [_relative(name) for name in found]

    def save_bytes(self, name: str, data: bytes) -> None:
        """Keep some bytes as an artifact."""
        clean = _relative(name)
        self._refuse_names("an artifact", clean)
        self._saved[clean] = self.run.blobs.put(data)

    def _refuse_names(self, what: str, *names: str) -> None:
        if self.run.secrets:
            refuse_names(map(str, names), self.run.secrets, what, self.path)

    # -- the one end -----------------------------------------------------------------------------

    def succeed(
        self, outputs: Mapping[str, Any] | None = None, *, metrics: Mapping[str, Any] | None = None
    ) -> End:
        """End as succeeded. One create, and one more for each large value.

        :param outputs: name -> JSON value, added to :attr:`outputs`. Names the node returns and
            that are not given are an error; others are, too.
        :raises ValueNotJsonError: naming node and parameter. Nothing was written: the attempt is
            still open.
        :raises InputError: for an output that is, or has in it, the value of a secret; neither was
            anything written. What was derived from one is not recognised.
        :raises AttemptLostError: somebody declared this attempt dead: stop, the result is refused.
        :raises AttemptEndedError: it was ended before.
        """
        values = {**self.outputs, **(outputs or {})}
        self._refuse_names("an output", *values)
        if self.returns is not None:
            check_names(self.path, self.returns, values)
        if self.run.secrets:
            refuse_secrets(values, self.run.secrets, "output", self.path)
        kept = {
            name: self.run.blobs.value(value, f"{name!r} returned by {self.path}")
            for name, value in values.items()
        }
        return self._finish("succeeded", outputs=kept, metrics=metrics)

    def fail(self, error: BaseException | str, *, metrics: Mapping[str, Any] | None = None) -> End:
        """End as failed, with type, message, traceback of the error. Raises as :meth:`succeed`.

        The values of secrets are masked in them; what was derived from one is not recognised.
        """
        said = described(error, self.run.mask)
        return self._finish("failed", error=said, metrics=metrics)

    def cancel(self, reason: str = "cancelled") -> End:
        """End as cancelled: nobody's fault, to be run again. Raises as :meth:`succeed`."""
        said = {"type": "Cancelled", "message": clean(self.run.mask(str(reason)))}
        return self._finish("cancelled", error=said)

    def _finish(
        self,
        outcome: str,
        *,
        outputs: Mapping[str, Any] | None = None,
        error: Mapping[str, str] | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> End:
        if self._end is not None:
            raise AttemptEndedError(
                f"attempt {self.number} at {self.path} was ended as {self._end.outcome}",
                path=self.path,
            )
        consumed = self.start.consumed
        if self._loaded:
            if self.work is not None:
                consumed = self.work.consumed_with(self._loaded)
            else:
                consumed = Consumed(
                    consumed.params, dict(self._loaded), consumed.results, consumed.ends
                )
        measured = {**self.metrics, **(metrics or {})}
        for name, value in list(measured.items()):
            try:
                self._refuse_names("a metric", name)
                check_metric(name, value, self.path)
                if self.run.secrets:
                    refuse_secrets({name: value}, self.run.secrets, "metric", self.path)
            except InputError:
                if outcome == "succeeded":
                    raise
                del measured[name]  # an attempt that failed must be able to end
        end = End(
            self.start.run_id,
            self.path,
            self.number,
            self.start.nonce,
            self.start.invocation,
            outcome,
            consumed,
            self.start.digest or None,
            outputs or {},
            dict(self._saved),
            measured,
            error,
            self.log,
            self.start.time,
            now(),
        )
        try:
            self.run.write_attempt(end)
        except KeyExistsError:
            raise self.refusal() from None
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
        self._end = end
        return end

    def refusal(self) -> AttemptEndedError:
        """Why another end is there, as the error to raise."""
        other = self.run.read_end(self.path, self.number)
        who = f" by {other.ended_by}" if other and other.ended_by else ""
        if other is not None and other.outcome == "lost":
            return AttemptLostError(
                f"attempt {self.number} at {self.path} was declared lost{who} at {other.ended}: "
                f"this result is refused; stop, and retry the run to see what is left",
                path=self.path,
            )
        how = other.outcome if other else "by a record that is damaged"
        return AttemptEndedError(
            f"attempt {self.number} at {self.path} has ended already: {how}{who}", path=self.path
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._end is not None:
            return
        if error is None:
            try:
                self.succeed()
            except (ValueNotJsonError, InputError) as wrong:
                self.fail(wrong)
                raise
        elif isinstance(error, KeyboardInterrupt):
            self.cancel("interrupted")
        else:
            self.fail(error)


def _relative(name: str) -> str:
    """A name that stays below the folder it is written in.

    :raises InputError: for one that is absolute or climbs out.
    """
    clean = os.path.normpath(name).replace(os.sep, "/")
    if clean.startswith(("/", "../")) or clean in ("..", ".") or "\0" in clean:
        raise InputError(f"{name!r} leads out of its folder: artifacts have relative names")
    try:
        clean.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{name!r} is not UTF-8, which an artifact's name must be: rename it"
        ) from None
    return clean


def _matching(seen: Visible, pattern: str) -> list[str]:
    match = wildcard(pattern)
    return sorted(address for address in seen if match(address))


def _local(address: str) -> str:
    """Where an artifact is written: items of maps may hold any character, so in their key form."""
    try:
        parts = segments(address)
    except PathError:
        parts = [address]
    return _relative("/".join(encode(p) if "[" in p and p[-1:] == "]" else p for p in parts))
