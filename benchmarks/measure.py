"""How a figure is taken: in turn with its floor, and put beside its goal."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Figure", "in_turn", "median_in_turn", "raw_write", "timed"]


@dataclass(slots=True)
class Figure:
    """One figure. ``ratio`` is that to the floor, where there is one."""

    name: str
    value: float
    unit: str
    what: str
    floor: float | None = None
    goal: str = ""
    met: bool | None = None
    """``None``: there is no goal."""

    @property
    def ratio(self) -> float | None:
        return self.value / self.floor if self.floor else None

    @classmethod
    def within(
        cls, name: str, value: float, unit: str, what: str, *, floor: float, times: float
    ) -> Figure:
        """A figure whose goal is a multiple of its floor."""
        return cls(name, value, unit, what, floor, f"<= {times:g}x", value <= times * floor)

    @classmethod
    def below(
        cls,
        name: str,
        value: float,
        unit: str,
        what: str,
        *,
        goal: float,
        floor: float | None = None,
    ) -> Figure:
        """A figure whose goal is absolute."""
        return cls(name, value, unit, what, floor, f"<= {goal:g} {unit}", value <= goal)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call. What it made is freed before the clock of the next one starts."""
    gc.collect()
    begin = time.perf_counter()
    made = work()
    took = time.perf_counter() - begin
    del made
    return took


def in_turn(
    work: Callable[[], Any],
    floor: Callable[[], Any],
    rounds: int,
    take: Callable[[Sequence[float]], float] = min,
) -> tuple[float, float]:
    """Seconds of both, measured in turn ``rounds`` times: the least of each by default, since what
    else the machine does only ever adds."""
    pairs = [(timed(work), timed(floor)) for _ in range(rounds)]
    return take([one for one, _ in pairs]), take([other for _, other in pairs])


def median_in_turn(
    work: Callable[[int], Any], floor: Callable[[int], Any], rounds: int
) -> tuple[float, float]:
    """Seconds of both, for many short calls with their number: the medians."""
    clock = time.perf_counter
    works, floors = [], []
    for i in range(rounds):
        begin = clock()
        work(i)
        middle = clock()
        floor(i)
        works.append(middle - begin)
        floors.append(clock() - middle)
    return statistics.median(works), statistics.median(floors)


def raw_write(folder: str, name: str, data: bytes, *, durable: bool) -> None:
    """What an exclusive, atomic create on a local disk takes, and nothing else: temp file, fsync,
    link, unlink, fsync of the folder."""
    path = f"{folder}/{name}"
    temp = f"{folder}/.tmp-{name}"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    os.write(fd, data)
    if durable:
        os.fsync(fd)
    os.close(fd)
    os.link(temp, path)
    os.unlink(temp)
    if durable:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(fd)
        os.close(fd)
