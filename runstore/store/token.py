"""An attempt as a text, by which another process ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from runstore.errors import InputError
from runstore.records import Blob, Consumed, Count, Digest, Nonce, Number, RunRecord, Start
from runstore.store.process import current_process

__all__ = ["Claim", "read_token", "to_token"]


class _Token(msgspec.Struct):
    """What is in a token: checked as records are, since an end is made from it."""

    run_id: str
    run_nonce: Nonce
    path: str
    attempt: Number
    nonce: Nonce
    invocation: str
    time: str
    start: Digest
    consumed: Consumed
    returns: list[str] | None
    code_digest: Digest | None
    tries: tuple[Count | None, Count | None]
    artifacts: dict[str, Blob]


_read: Any = msgspec.json.Decoder(_Token).decode


class Claim(NamedTuple):
    """What a token tells."""

    start: Start
    """With what the attempt had consumed when the token was made, the files it had loaded too."""
    returns: tuple[str, ...] | None
    saved: dict[str, Blob]


def to_token(
    start: Start, consumed: Consumed, returns: Sequence[str] | None, saved: Mapping[str, Blob]
) -> str:
    """
    :param consumed: by now, the files that were loaded too.
    :param returns: the names the node returns; ``None`` if they are not known.
    :param saved: the files that were saved by now.
    """
    told = _Token(
        start.run_id, start.run_nonce, start.path, start.attempt, start.nonce, start.invocation,
        start.time, start.digest, consumed.lean(), None if returns is None else list(returns),
        start.code_digest, (start.try_, start.of), dict(saved),
    )  # fmt: skip
    return msgspec.json.encode(told).decode()


def read_token(token: str, run: RunRecord) -> Claim:
    """
    :raises InputError: if it is no token, or one of another run.
    """
    try:
        told = _read(token)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{token!r:.60} is not what Attempt.token gave ({error})", advice="pass it on as it is"
        ) from None
    if told.run_id != run.run_id:
        raise InputError(
            f"the token is of an attempt in run {told.run_id!r}, and this is run {run.run_id!r}",
            advice="open that one",
            run_id=told.run_id,
        )
    if told.run_nonce != run.nonce:
        raise InputError(
            f"the token is of an attempt in an earlier run {run.run_id!r}, which was removed: its "
            f"result cannot be kept",
            run_id=run.run_id,
        )
    start = Start(
        run.run_id, told.path, told.attempt, told.nonce, told.invocation, current_process(),
        told.time, told.consumed, None, told.start, told.code_digest,
        told.tries[0], told.tries[1], run.nonce,
    )  # fmt: skip
    return Claim(start, None if told.returns is None else tuple(told.returns), told.artifacts)
