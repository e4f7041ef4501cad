"""An attempt as a text, by which another process ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from runstore.bodies import parse_artifacts, parse_consumed
from runstore.errors import InputError
from runstore.records import Blob, Consumed, RunRecord, Start
from runstore.store.holder import myself

__all__ = ["Claim", "read_token", "to_token"]

_TEXTS = ("run_id", "run_nonce", "path", "nonce", "invocation", "time", "start")


class Claim(NamedTuple):
    """What a token tells."""

    start: Start
    """With what the attempt had consumed when the token was made, the files it had loaded too."""
    returns: tuple[str, ...] | None
    saved: dict[str, Blob]


def to_token(
    start: Start,
    consumed: Consumed,
    returns: Sequence[str] | None,
    saved: Mapping[str, Blob],
) -> str:
    """
    :param consumed: by now, the files that were loaded too.
    :param returns: the names the node returns; ``None`` if they are not known.
    :param saved: the files that were saved by now.
    """
    return orjson.dumps(
        {
            "run_id": start.run_id,
            "run_nonce": start.run_nonce,
            "path": start.path,
            "attempt": start.attempt,
            "nonce": start.nonce,
            "invocation": start.invocation,
            "time": start.time,
            "start": start.digest,
            "consumed": consumed.to_json(),
            "returns": None if returns is None else list(returns),
            "code_digest": start.code_digest,
            "tries": [start.try_, start.of],
            "artifacts": {name: blob.to_json() for name, blob in saved.items()},
        }
    ).decode()


def read_token(token: str, run: RunRecord) -> Claim:
    """
    :raises InputError: if it is no token, or one of another run.
    """
    try:
        raw = orjson.loads(token)
        texts = [raw[name] for name in _TEXTS]
        number, returns = raw["attempt"], raw["returns"]
        if (
            not all(type(text) is str for text in (*texts, *(returns or ())))
            or type(number) is not int
            or not 1 <= number <= 999_999
        ):
            raise TypeError("a field is of another type")
        consumed = parse_consumed(raw["consumed"])
        saved = parse_artifacts(raw["artifacts"])
        tries = raw["tries"]
        if len(tries) != 2 or not all(one is None or type(one) is int for one in tries):
            raise TypeError("a field is of another type")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{token!r:.60} is not what Attempt.token gave ({error}): pass it on as it is"
        ) from None
    if raw["run_id"] != run.run_id:
        raise InputError(
            f"the token is of an attempt in run {raw['run_id']!r}, and this is run {run.run_id!r}: "
            f"open that one",
            run_id=raw["run_id"],
        )
    if raw["run_nonce"] != run.nonce:
        raise InputError(
            f"the token is of an attempt in an earlier run {run.run_id!r}, which was removed: its "
            f"result cannot be kept",
            run_id=run.run_id,
        )
    start = Start(
        run.run_id, raw["path"], number, raw["nonce"], raw["invocation"], myself(), raw["time"],
        consumed, None, raw["start"], raw["code_digest"], tries[0], tries[1], run.nonce,
    )  # fmt: skip
    return Claim(start, None if returns is None else tuple(returns), saved)
