"""One attempt: claimed, worked at, ended exactly once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from runstore.errors import (
    AttemptEndedError,
    AttemptLostError,
    InputError,
    KeyExistsError,
    RefusedError,
    RunRemovedError,
    StorageError,
)
from runstore.plan import Work
from runstore.records import Blob, Consumed, End, Start, end_of
from runstore.records.keys import attempt_key
from runstore.store.artifacts import Artifacts
from runstore.store.blobs import checked
from runstore.store.ids import now
from runstore.store.secrets import refuse_names, refuse_secrets
from runstore.store.token import to_token
from runstore.store.validation import check_names, clean, described, measured, plain
from runstore.store.view import RunReader
from runstore.store.writer import RecordWriter

__all__ = ["Attempt"]

_FIXED = frozenset({"writer", "access", "start", "work", "returns", "_run"})


class Attempt(Artifacts):
    """A claimed attempt. Made by :meth:`Run.begin`; end it once, with one of :meth:`succeed`,
    :meth:`fail`, :meth:`cancel`, or use it as a context manager::

        with run.begin("train") as attempt:
            attempt.outputs["model"] = train(**attempt.params())

    Leaving the block succeeds with ``outputs``; an exception fails the attempt and goes on, and
    ``KeyboardInterrupt`` cancels it. A process that was forked inside the block ends nothing by
    leaving it: the attempt is its parent's. Methods may be called from any thread.
    """

    def __init__(
        self,
        writer: RecordWriter,
        start: Start,
        work: Work | None,
        returns: Sequence[str] | None = None,
        *,
        run: Callable[[], RunReader],
    ) -> None:
        super().__init__()
        self.writer = writer
        """For executors: what creates the end."""
        self.access = writer.access
        """For executors: the blobs and the secrets of the run."""
        self.start = start
        self._run = run
        self.work = work
        self.returns = work.task.returns if work is not None else returns
        """The names the node returns; ``None`` where they are not known, and not checked."""
        self.outputs: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.log: Blob | None = None
        self._end: End | None = None
        self._process = os.getpid()
        self._params: Mapping[str, Any] | None = None

    def __setattr__(self, name: str, value: object) -> None:
        # The executor relies on these, whatever the task does to the object.
        if name == "run" or (name in _FIXED and name in vars(self)):
            raise AttributeError(
                f"attempt.{name} cannot be set: it is what the attempt was made of"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<Attempt {self.number} at {self.path} of {self.start.run_id!r}>"

    @property
    def run(self) -> RunReader:
        """The run, to be read. In a worker process it is opened when it is first asked for: two
        reads, and `RunRemovedError` if it was removed meanwhile."""
        return self._run()

    @property
    def key(self) -> str:
        """Object key of the start."""
        return attempt_key(self.access.prefix, self.path, self.number, "start")

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
        no values; and names and digests of the files that were saved and loaded by now: some
        hundred bytes, and as many again for each file."""
        return to_token(self.start, self._consumed(), self.returns, self._saved)

    def params(self) -> Mapping[str, Any]:
        """The parameters, by name. The first call reads each large one.

        :raises ParameterError: for a secret that was not given again.
        :raises BlobMissingError, BlobDamagedError: for a large value.
        :raises RefusedError: for an attempt that was not begun with a step of a plan.
        """
        if self._params is None:
            self._params = self.access.materialise(self._known_work().params, self.path)
        return self._params

    def _known_work(self) -> Work:
        if self.work is None:
            raise RefusedError(
                f"attempt {self.number} at {self.path} was not begun here with a step of a plan, "
                "so its inputs are not known",
                advice=f"read them where it was, or begin it with run.step({self.path!r})",
                path=self.path,
            )
        return self.work

    def _refuse_names(self, what: str, *names: str) -> None:
        if self.access.secrets:
            refuse_names(map(str, names), self.access.secrets, what, self.path)

    def succeed(
        self, outputs: Mapping[str, Any] | None = None, *, metrics: Mapping[str, Any] | None = None
    ) -> End:
        """End as succeeded. One create, and one more for each large value.

        :param outputs: name -> JSON value, added to :attr:`outputs`. Names the node returns and
            that are not given are an error; others are, too. What is recorded is what they are
            now, whatever becomes of these objects.
        :raises ValueNotJsonError: naming node and parameter. Nothing was written: the attempt is
            still open.
        :raises InputError: for what is no mapping, for an output or a metric that is, or has in it,
            the value of a secret; neither was anything written. What was derived from a secret is
            not recognised.
        :raises AttemptLostError: somebody declared this attempt dead: stop, the result is refused.
        :raises AttemptEndedError: it was ended before.
        :raises RunRemovedError: the run was removed meanwhile: stop, nothing of it is kept.
        """
        given = plain(self.outputs, f"`attempt.outputs` of {self.path}")
        if outputs is not None:
            given |= plain(outputs, f"what {self.path} returned")
        self._refuse_names("an output", *given)
        if self.returns is not None:
            check_names(self.path, self.returns, given)
        values = {
            name: checked(value, f"{name!r} returned by {self.path}")
            for name, value in given.items()
        }
        self._refuse_secrets({name: value.value for name, value in values.items()}, "output")
        known = self._measured(metrics, strict=True)
        kept = {name: self.access.blobs.keep(value) for name, value in values.items()}
        return self._finish("succeeded", known, outputs=kept)

    def fail(self, error: BaseException | str, *, metrics: Mapping[str, Any] | None = None) -> End:
        """End as failed, with type, message, traceback of the error. Raises as :meth:`succeed`.

        The values of secrets are masked in them; what was derived from one is not recognised.
        """
        said = described(error, self.access.mask)
        return self._finish("failed", self._measured(metrics, strict=False), error=said)

    def cancel(self, reason: str = "cancelled") -> End:
        """End as cancelled: nobody's fault, to be run again. Raises as :meth:`succeed`."""
        said = {"type": "Cancelled", "message": clean(self.access.mask(str(reason)))}
        return self._finish("cancelled", self._measured(None, strict=False), error=said)

    def _measured(self, metrics: Mapping[str, Any] | None, *, strict: bool) -> dict[str, Any]:
        given: list[tuple[object, str]] = [(self.metrics, f"`attempt.metrics` of {self.path}")]
        if metrics is not None:
            given.append((metrics, f"the metrics of {self.path}"))
        return measured(
            given,
            self.path,
            lambda name: self._refuse_names("a metric", name),
            lambda one: self._refuse_secrets(one, "metric"),
            strict=strict,
        )

    def _refuse_secrets(self, values: Mapping[str, Any], what: str) -> None:
        if self.access.secrets:
            refuse_secrets(values, self.access.secrets, what, self.path)

    def _finish(
        self,
        outcome: str,
        metrics: Mapping[str, Any],
        *,
        outputs: Mapping[str, Any] | None = None,
        error: Mapping[str, str] | None = None,
    ) -> End:
        if self._end is not None:
            raise AttemptEndedError(
                f"attempt {self.number} at {self.path} was ended as {self._end.outcome}",
                path=self.path,
            )
        end = end_of(
            self.start,
            outcome,
            now(),
            consumed=self._consumed(),
            outputs=outputs or {},
            artifacts=dict(self._saved),
            metrics=metrics,
            error=error,
            log=self.log,
        )
        try:
            self.writer.end(end)
        except KeyExistsError:
            raise self._keep_folder(self.refusal()) from None
        except (RunRemovedError, StorageError) as failed:
            self._keep_folder(failed)
            raise
        self._end = end
        self._close_folder()
        return end

    def _consumed(self) -> Consumed:
        """What was consumed by now: what the start says, and what was loaded since."""
        if not self._loaded:
            return self.start.consumed
        return self._known_work().consumed_with(self._loaded)

    def refusal(self) -> AttemptEndedError:
        """Why another end is there, as the error to raise."""
        other = self.access.read_end(self.path, self.number)
        who = f" by {other.ended_by}" if other and other.ended_by else ""
        if other is not None and other.outcome == "lost":
            return AttemptLostError(
                f"attempt {self.number} at {self.path} was declared lost{who} at {other.ended}: "
                "this result is refused",
                advice="stop, and retry the run to see what is left",
                path=self.path,
            )
        how = other.outcome if other else "by a record that is damaged"
        return AttemptEndedError(
            f"attempt {self.number} at {self.path} has ended already: {how}{who}", path=self.path
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._end is not None or os.getpid() != self._process:
            return
        if error is None:
            try:
                self.succeed()
            except InputError as wrong:
                self.fail(wrong)
                raise
        elif isinstance(error, KeyboardInterrupt):
            self.cancel("interrupted")
        else:
            self.fail(error)
