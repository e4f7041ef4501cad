"""How much the properties try, from which seed, and whether they got where they look.

How many examples there are, and which, is said by a profile and nowhere else. `RUNSTORE_HYPOTHESIS`
names it:

* ``default``: few, and the same in every run, so that a change is judged by what it changes;
* ``ci``: more, and new ones in every run;
* ``explore``: many new ones, in rounds (``make explore``).

The seed of a run stands in its summary; `RUNSTORE_SEED` sets it. What draws at random without
hypothesis takes :func:`randomness`, which rests on the same seed.
"""

from __future__ import annotations

import functools
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st

__all__ = ["PROFILE", "SEED", "SEEDS", "again", "randomness", "reached", "reaches", "scaled"]

Test = TypeVar("Test", bound=Callable[..., Any])

# A noisy machine must not fail a property for being slow.
_ALWAYS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("default", max_examples=60, derandomize=True, **_ALWAYS)
settings.register_profile("ci", max_examples=200, derandomize=False, **_ALWAYS)
settings.register_profile("explore", max_examples=300, derandomize=False, **_ALWAYS)

PROFILE = os.environ.get("RUNSTORE_HYPOTHESIS") or "default"
settings.load_profile(PROFILE)

_told = os.environ.get("RUNSTORE_SEED")
if not _told and PROFILE != "default":
    # For the processes that share the work of this run, too.
    _told = os.environ["RUNSTORE_SEED"] = str(random.SystemRandom().getrandbits(32))
SEED = int(_told or 0)
"""What this run draws from: 0 by default, a new one where something new is looked for."""


def again(*tests: str) -> str:
    """The command that draws the same once more."""
    names = " ".join(f"'{test}'" for test in tests)
    return (
        f"RUNSTORE_HYPOTHESIS={PROFILE} RUNSTORE_SEED={SEED} .venv/bin/python -m pytest {names}"
    ).rstrip()


SEEDS = st.tuples(*[st.integers(0, 63)] * 4).map(bytes).map(int.from_bytes)
"""Seeds of what is drawn with ``random``. Of large integers hypothesis tries the small and the same
ones again and again."""


def scaled(share: float) -> int:
    """The profile's number of examples, for a property that costs more or less than others."""
    return max(5, round(settings().max_examples * share))


def randomness(*of: object) -> random.Random:
    """For a test that draws without hypothesis. ``of``: what tells its draws from others'."""
    return random.Random(repr((SEED, *of)))


# -- whether a property reaches what it asserts ----------------------------------------------------

_met: list[Counter[str]] = []
_SHOW = bool(os.environ.get("RUNSTORE_REACHED"))  # with pytest -s


def reached(what: str = "its assertion", times: int = 1) -> None:
    """Say, in a property that :func:`reaches`, that this example came so far."""
    if times:
        event(what)
        _met[-1][what] += times


def reaches(share: float = 0.0, /, **shares: float) -> Callable[[Test], Test]:
    """Fail a property of which too few examples :func:`reached` what it looks at.

    It stands above ``@given`` and ``@settings``.

    :param share: the least share of examples for ``reached()``.
    :param shares: the same, for what is named, with ``_`` for spaces.
    """
    least = {name.replace("_", " "): least for name, least in shares.items()}
    if share:
        least["its assertion"] = share

    def decorate(test: Test) -> Test:
        inner = test.hypothesis.inner_test  # type: ignore[attr-defined]
        tried = 0

        @functools.wraps(inner)
        def counted(*args: Any, **named: Any) -> Any:
            nonlocal tried
            tried += 1
            return inner(*args, **named)

        @functools.wraps(test)
        def checked(*args: Any, **named: Any) -> Any:
            nonlocal tried
            tried = 0
            _met.append(Counter())
            try:
                test(*args, **named)
            finally:
                met = _met.pop()
            for what, enough in least.items():
                said = f"{what}: {met[what]} of {tried} examples"
                if _SHOW:
                    print(f"REACHED {test.__name__}: {said}; at least {enough:.0%}")
                # One example that is told to be tried again shows nothing of the strategy.
                assert tried < 20 or met[what] >= enough * tried, f"too few reached {said}"

        test.hypothesis.inner_test = counted  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate
