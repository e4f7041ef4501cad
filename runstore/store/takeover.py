"""Takeover: ending attempts of writers that are dead, or that the caller gives up."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Literal

from runstore.errors import InputError
from runstore.plan.history import Damaged, History
from runstore.records import Consumed, End, Start, end_of, keys
from runstore.store.folder import left_files
from runstore.store.ids import new_nonce, now
from runstore.store.process import Liveness, current_process, is_dead, was_released

__all__ = ["Takeover", "check_takeover", "presume_lost", "take_over"]

Takeover = Literal["dead", "all"] | datetime.timedelta
"""Whose open attempts may be ended as lost: those known to be dead (same host and boot), all, or
besides the dead those that began longer ago than this."""

_UNKNOWN = "unknown"
"""The invocation that began an attempt whose start cannot be read: not the one that gives it up."""


def check_takeover(takeover: object) -> None:
    """To be asked before anything is written.

    :raises InputError: for what is no :data:`Takeover`.
    """
    if takeover in ("dead", "all"):
        return
    if not isinstance(takeover, datetime.timedelta) or takeover < datetime.timedelta(0):
        raise InputError(
            f"takeover is {takeover!r:.60}: it is 'dead', 'all', or an age as a timedelta"
        )


def take_over(
    history: History,
    takeover: Takeover,
    paths: Iterable[str],
    ended: Callable[[End], End | Damaged],
    liveness: Liveness | None = None,
    within: Callable[[str], bool] | None = None,
) -> list[Start | Damaged]:
    """See :meth:`Run.take_over`.

    :param ended: given the end of an attempt that is lost, gives the one that it has then.
    """
    check_takeover(takeover)
    run_id, nonce = history.run.run_id, history.run.nonce
    left: list[Start | Damaged] = []
    for start in list(history.open()):
        if within is not None and not within(start.path):
            continue
        dead = is_dead(start.by) or was_released(start.nonce)
        if not dead and liveness is not None:
            dead = liveness.is_alive(start.by) is False
        if dead or _given_up(start.time, takeover):
            why = f"declared dead: {start.by}{left_files(start.nonce)}"
            end = end_of(start, "lost", now(), error=_lost(why), ended_by=current_process())
            history.add(ended(end))
        else:
            left.append(start)
    for damaged in list(history.damaged):
        if damaged.kind != "start":
            continue
        path = damaged.path
        if path is None:
            path = next((p for p in paths if keys.encode(p) == damaged.node_key), None)
            if path is None:
                continue
        if within is not None and not within(path):
            continue
        latest = history.latest(path)
        if not isinstance(latest, Damaged) or latest.attempt != damaged.attempt:
            continue
        if takeover == "dead":
            left.append(damaged)
            continue
        end = End(
            run_id, path, damaged.attempt, new_nonce(), _UNKNOWN, "lost",
            Consumed(), error=_lost("its start record is damaged"),
            ended=now(), ended_by=current_process(), run_nonce=nonce,
        )  # fmt: skip
        history.add(ended(end))
    return left


def presume_lost(
    history: History, takeover: Takeover = "dead", paths: Iterable[str] = ()
) -> list[Start | Damaged]:
    """What :func:`take_over` would do now, in ``history`` alone: nothing is written.

    For saying what a retry would find. The ends that ``history`` learns of are in no store, and
    have no digest.

    :raises InputError: for a ``takeover`` that is none.
    """
    return take_over(history, takeover, paths, lambda end: end)


def _lost(why: str) -> dict[str, str]:
    return {"type": "Lost", "message": why}


def _given_up(since: str, takeover: Takeover) -> bool:
    if not isinstance(takeover, datetime.timedelta):
        return takeover == "all"
    try:
        age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(since)
    except (ValueError, TypeError):
        return False  # when it began is not known; nor is it where a time names no zone
    return age > takeover
