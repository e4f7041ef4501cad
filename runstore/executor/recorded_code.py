"""Whether what the records of a run name may be executed: commands, functions, a pipeline file.

Without a pipeline that the user named, only the records say what runs, and whoever can hand in a
record can write any host, user, number and time into it. So what they name is run only where this
user recorded it on this machine. An import or a pull leaves an invocation of a higher number than
all that came with it, which tells what others handed in. docs/security.md says what that does not
cover.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

from runstore.errors import RecordedCodeError
from runstore.pipeline import is_there
from runstore.plan.history import WORKING, History
from runstore.records import Invocation, keys
from runstore.store import Run
from runstore.store.process import current_process

__all__ = ["RECORDED", "recorded_dag", "recorded_file"]

RECORDED: Mapping[str, Any] = {"recorded": True}
"""``code`` of an invocation that ran what the run's own record names."""


def recorded_file(run: Run, known: History, *, allowed: bool = False) -> str | None:
    """The pipeline file to go on with where none was named: that of the latest invocation, if it is
    there. ``None``: the run's own DAG.

    :param known: the run's invocations, all of them.
    :param allowed: whether the user allows what is recorded, whoever recorded it.
    :raises RecordedCodeError: if neither is this user's own, and it is not allowed.
    """
    work = known.latest_work
    file = _file(work)
    if file is None or not is_there(file):
        recorded_dag(run, known, allowed=allowed)
        return None
    if not allowed and (why := _not_ours(run, known)):
        _refuse(run, why, work, f"the file {_shown(file)}, which {_who(work)} used")
    return file


def recorded_dag(run: Run, known: History, *, allowed: bool = False) -> None:
    """See whether the commands and functions that the run's own DAG names may be executed.

    That DAG is as old as the run, and others may have made it: it is this user's if the latest
    invocation ran just that, or if nobody else ever worked on the run.

    :raises RecordedCodeError: if it may not.
    """
    if allowed:
        return
    why = _not_ours(run, known)
    latest = known.latest_invocation
    if why is None and latest is not None:
        if (latest.code or {}).get("recorded") is True or _is_ours_alone(run, known):
            return
        file = _file(latest)
        used = f"it used, {_shown(file)}, is not there" if file else "it used is in no file"
        why = (
            f"its latest invocation was made here, but the pipeline {used}, and the DAG of the run "
            f"itself was made by others"
        )
    if why:
        _refuse(run, why, latest, "the commands and functions that the run itself names")


def _is_ours_alone(run: Run, known: History) -> bool:
    """Whether this user, here, made every invocation; of a fork, the first of them, too, which says
    that it was this user who asked for what it has from its origin."""
    made = known.invocations.values()
    return all(map(_is_ours, made)) and (
        run.record.origin is None or any(each.mode == "fork" for each in made)
    )


def _is_ours(invocation: Invocation) -> bool:
    """Whether this user, on this machine, worked on the run in it."""
    me, by = current_process(), invocation.by
    return (
        invocation.mode in WORKING
        and by is not None
        and by.user is not None
        and (by.host, by.user, by.pod) == (me.host, me.user, me.pod)
    )


def _not_ours(run: Run, known: History) -> str | None:
    """Why the latest invocation is not this user's own; ``None`` if it is."""
    from runstore.archive.reader import ExportedStorage

    if isinstance(run.storage, ExportedStorage):
        return f"{run.storage.url} is an exported file, which may say anything"
    folder = run.prefix + keys.INVOCATIONS
    unknown = [each.key for each in known.damaged if each.key.startswith(folder)]
    if unknown:
        return f"{unknown[0]} is damaged, so it is not known which invocation is its latest"
    latest = known.latest_invocation
    if latest is None:
        return "no invocation says who made it"
    if _is_ours(latest):
        return None
    if latest.mode in WORKING:
        me = current_process()
        here = f"{_shown(me.user)} on {_shown(me.host)}"
        return f"its latest invocation is {_who(latest)}, and not one of {here}"
    return f"its latest invocation is {_who(latest)}, so others may have made it"


def _who(invocation: Invocation | None) -> str:
    """An invocation, for people."""
    assert invocation is not None
    by = invocation.by
    who = ""
    if by is not None:
        place = f"pod {_shown(by.pod)}" if by.pod else _shown(by.host)
        who = f" by {_shown(by.user or 'an unknown user')} on {place}"
    when = f" at {_shown(invocation.time)}" if invocation.time else ""
    source = invocation.source or {}
    given = source.get("file") or source.get("store")
    origin = f" of {_shown(given)}" if invocation.mode not in WORKING and given else ""
    article = "an" if invocation.mode == "import" else "a"
    return f"{article} {_shown(invocation.mode)}{origin}{who}{when}"


def _shown(text: str | None) -> str:
    """What a record says, in one line."""
    text = str(text)
    return (text if text.isprintable() else ascii(text))[:200]


def _file(invocation: Invocation | None) -> str | None:
    file = ((invocation.code if invocation else None) or {}).get("pipeline")
    return file if isinstance(file, str) and os.path.isabs(file) else None


def _refuse(run: Run, why: str, invocation: Invocation | None, what: str) -> NoReturn:
    raise RecordedCodeError(
        f"no PIPELINE is named, and what run {run.run_id!r} names itself is not run on its "
        f"word: {why}",
        advice=(
            f"name the PIPELINE; or, if you trust whoever made that, run {what} with "
            "--recorded-code (recorded_code=True)"
        ),
        run_id=run.run_id,
        invocation=invocation.id if invocation else None,
    )
