"""Records that are there and cannot be read: said, never passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstore.cli.exit_codes import DAMAGED, DONE, print_error
from runstore.cli.render.console import say
from runstore.cli.render.text import clean, commands, count, verb_line

if TYPE_CHECKING:
    from runstore.cli.store_url import StoreLocation
    from runstore.plan.history import History
    from runstore.store import Run

__all__ = ["tell_damage"]

_LISTED = 20


def tell_damage(run: Run, history: History, store: StoreLocation, *, plans: bool = False) -> int:
    """Name what is damaged, and what to do about it, on stderr. The exit code that goes with it.

    :param plans: for a verb that says what is to be done: damage that decides nothing of that is
        told as a warning.
    """
    if not history.damaged:
        return DONE
    from runstore.upkeep.repair import RepairAdvice

    problems: dict[str, str] = {}  # an object may be damaged in several ways: the first tells most
    for each in history.damaged:
        problems.setdefault(each.key, each.problem)
    repair = RepairAdvice(run, history, problems, commands(run.run_id, store.words()))
    advice = {key: repair.of(key) for key in problems}
    decides = any(each.decides for each in advice.values())
    what = count(len(problems), "object is", "objects are") + " damaged"
    counted = sum(each.counted for each in advice.values())
    if counted:
        what += f", and {'' if counted == len(problems) else f'{counted:,} of them '}"
        what += "counted as not succeeded"
    elif not decides:
        what += f", and nothing rests on {'it' if len(problems) == 1 else 'them'}"
    verify = verb_line("verify", run.run_id, options=store.words())
    what += f" ({verify} checks all of the run)"
    if plans and not decides:
        say(f"warning: {clean(what, 600)}", err=True)
    else:
        print_error(what)
    for key, problem in list(problems.items())[:_LISTED]:
        say(f"  {clean(f'{problem}: {advice[key].text}', 600)}", err=True)
    if len(problems) > _LISTED:
        say(f"  and {count(len(problems) - _LISTED, 'more', 'more')}", err=True)
    return DONE if plans and not decides else DAMAGED
