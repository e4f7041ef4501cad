"""Runs of many shapes and sizes, made without a store, and how much planning them takes.

What is counted is what the interpreter does: bytecodes, and calls of built-in functions. Two runs
give the same count, on any machine. What a built-in does inside is not seen.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

from runstore.dag import Conditional, Dag, Loop, Map, Parallel, Task
from runstore.plan import Planner, expand
from runstore.plan.history import Damaged, History
from runstore.records import Blob, End, Invocation, Loaded, RunRecord

__all__ = ["LINEAR", "SHAPES", "Shape", "counted", "finish", "growth", "map_that_loads"]

LINEAR = 1.2
"""What :func:`growth` gives at most for what counts as linear."""


Shape = Callable[[], Any]
"""A run of some size, made: what is counted is the call."""


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Doing(NamedTuple):
    """What a task does, given its path and parameters."""

    outputs: Mapping[str, Any] = {}
    saves: Sequence[str] = ()
    loads: Sequence[str] = ()
    outcome: str = "succeeded"


Does = Callable[[str, Mapping[str, Any]], Doing]


def finish(
    dag: Dag,
    does: Does | None = None,
    parameters: Mapping[str, Any] | None = None,
    rounds: int = 10**9,
) -> History:
    """The history of a run in which everything ran that could."""
    history = History(RunRecord("r", "n", "", dag.to_json(), "", dict(parameters or {})))
    history.add(Invocation("r", "i0001", "start"))
    planner = Planner(dag)
    for _ in range(rounds):
        ready = planner.plan(history, "i0001").ready
        for step in ready:
            work = step.work
            assert work is not None
            doing = does(step.path, work.params) if does else Doing()
            outputs = dict.fromkeys(work.task.returns, step.path) | dict(doing.outputs)
            loaded = {}
            if doing.loads:
                seen = work.artifacts()
                loaded = {a: Loaded(seen[a][0].sha256, seen[a][1]) for a in doing.loads}
            good = doing.outcome == "succeeded"
            saved = {a: Blob(digest_of(step.path + a), 1) for a in doing.saves} if good else {}
            history.add(
                End(
                    "r", step.path, work.number, "n", "i0001", doing.outcome,
                    work.consumed_with(loaded), None, outputs if good else {}, saved,
                    digest=digest_of(f"{step.path} {work.number}"),
                )
            )  # fmt: skip
        if not ready:
            break
    return history


def counted(work: Callable[[], Any]) -> int:
    """How much the interpreter does for a call."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        count += 1
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return trace

    def profile(_frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal count
        count += event == "c_call"

    before, profiled = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(profiled)
        sys.settrace(before)
    return count


def growth(make: Callable[[int], Shape], count: int) -> tuple[list[int], float]:
    """What a shape takes at ``count``, twice and four times that; and what the second doubling
    adds, in terms of the first: 1.0 for what is linear, 2.0 for a square, about 1.1 for n log n."""
    made = [counted(make(count * times)) for times in (1, 2, 4)]
    return made, (made[2] - made[1]) / (2 * (made[1] - made[0]))


# -- the shapes ----------------------------------------------------------------------------------


def chain(count: int, **more: Any) -> Dag:
    return Dag([Task(name=f"s{i}", after=f"s{i - 1}" if i else (), **more) for i in range(count)])


def planned(dag: Dag, history: History, invocation: str | None = None) -> Shape:
    return lambda: Planner(dag).plan(history, invocation)


def _number(path: str) -> int:
    return int("".join(c for c in path if c.isdigit()))


def _chain_of(loads: Callable[[int], Sequence[str]], saves: Callable[[int], str]) -> Any:
    def make(count: int) -> Shape:
        def does(path: str, _: Any) -> Doing:
            i = _number(path)
            return Doing({}, [saves(i)], loads(i))

        dag = chain(count)
        return planned(dag, finish(dag, does))

    return make


def _before(i: int) -> list[str]:
    return [f"f{i - 1}"] if i else []


def map_that_loads(count: int, loads: bool = True) -> Shape:
    """Each item loads two artifacts: one that all load, and one of its own."""

    def does(path: str, params: Mapping[str, Any]) -> Doing:
        if path == "src":
            return Doing({"xs": list(range(count))}, ["all", *(f"f{i}" for i in range(count))])
        return Doing({}, [], ["all", f"f{params['x']}"] if loads else [])

    each = Dag([Task(name="w", params="x", returns="y")])
    nodes: list[Any] = [
        Task(name="src", returns="xs"),
        Map(name="m", after="src", over="xs", as_="x", body=each),
    ]
    dag = Dag(nodes)
    return planned(dag, finish(dag, does))


def map_that_saves(count: int) -> Shape:
    """Each item saves; a step of the item loads that; one after the map loads all."""

    def does(path: str, params: Mapping[str, Any]) -> Doing:
        if path == "last":
            return Doing({}, [], [f"m[{i}]/f" for i in range(count)])
        return Doing({}, ["f", "g"]) if path.endswith("/a") else Doing({}, [], ["f", "g"])

    body = Dag([Task(name="a", params="x"), Task(name="b", after="a")])
    dag = Dag([Map(name="m", over="xs", as_="x", body=body), Task(name="last", after="m")])
    return planned(dag, finish(dag, does, {"xs": list(range(count))}))


def nested_maps(count: int) -> Shape:
    """Eight items of items, each of which loads what stands outside and what is beside it."""

    def does(path: str, _: Any) -> Doing:
        if path == "src":
            return Doing({}, ["f"])
        if path == "last":
            return Doing({}, [], [f"o[{i}]/i[{j}]/g" for i in range(8) for j in range(count // 8)])
        return Doing({}, ["g"], ["f"]) if path.endswith("/a") else Doing({}, [], ["f", "g"])

    body = Dag([Task(name="a", params=("x", "y", "v")), Task(name="b", after="a")])
    inner = Dag([Map(name="i", over="ys", as_="y", body=body)])
    dag = Dag([
        Task(name="src"), Map(name="o", after="src", over="xs", as_="x", body=inner),
        Task(name="last", after="o"),
    ])  # fmt: skip
    given = {"xs": list(range(8)), "ys": list(range(count // 8)), "v": 1}
    return planned(dag, finish(dag, does, given))


def siblings_of_one_name(count: int) -> Shape:
    """Side by side, steps that save under one name, and steps that load it."""
    nodes = [Task(name="first")]
    nodes += [Task(name=f"a{i}", after="first") for i in range(count)]
    nodes += [Task(name=f"b{i}", after=f"a{i}") for i in range(count)]
    dag = Dag(nodes)

    def does(path: str, _: Any) -> Doing:
        if path[0] == "a":
            return Doing({}, ["f"])
        return Doing({}, [], ["f"] if path[0] == "b" else [])

    return planned(dag, finish(dag, does))


def fan_in(count: int) -> Shape:
    """One step that follows all others, and loads what each of them saved."""
    nodes = [Task(name=f"a{i}") for i in range(count)]
    dag = Dag([*nodes, Task(name="last", after=tuple(f"a{i}" for i in range(count)))])

    def does(path: str, _: Any) -> Doing:
        if path == "last":
            return Doing({}, [], [f"f{i}" for i in range(count)])
        return Doing({}, [f"f{_number(path)}"])

    return planned(dag, finish(dag, does))


def ladder(count: int) -> Shape:
    """Two chains side by side, with rungs; each step loads what the other began with."""
    nodes = []
    for i in range(count):
        nodes.append(Task(name=f"a{i}", after=f"a{i - 1}" if i else ()))
        nodes.append(Task(name=f"b{i}", after=(f"b{i - 1}", f"a{i}") if i else ()))
    dag = Dag(nodes)

    def does(path: str, _: Any) -> Doing:
        if _number(path) == 0:
            return Doing({}, [path])
        return Doing({}, [], ["b0"] if path[0] == "b" else ["a0"])

    return planned(dag, finish(dag, does))


def two_pipelines(count: int) -> Shape:
    """Two chains that use one name each for themselves, in one graph."""
    nodes = []
    for i in range(count):
        nodes += [Task(name=f"{p}{i}", after=f"{p}{i - 1}" if i else ()) for p in "ab"]
    dag = Dag(nodes)

    def does(path: str, _: Any) -> Doing:
        return Doing({}, [] if _number(path) else ["model"], ["model"] if _number(path) else [])

    return planned(dag, finish(dag, does))


def loop(count: int, *, cutoff: bool = True, grow: bool = True) -> Shape:
    """Many iterations, each of which saves, and loads from the one before and from outside."""

    def does(path: str, params: Mapping[str, Any]) -> Doing:
        if path == "src":
            return Doing({}, ["all"])
        i = params["i"]
        saves = ["same", f"f{i}"] if grow else ["same"]
        loads = ["all", *(["same", *([f"f{i // 2}"] if grow else [])] if i else [])]
        return Doing({"d": i == count - 1}, saves, loads)

    body = Dag([Task(name="a", params="i", returns="d", config={"cutoff": cutoff})])
    dag = Dag([
        Task(name="src"),
        Loop(name="lo", after="src", until="d", as_="i", body=body, max_iterations=10**6),
    ])  # fmt: skip
    return planned(dag, finish(dag, does))


def no_cutoff(count: int) -> Shape:
    dag = chain(count, config={"cutoff": False})
    return planned(dag, finish(dag))


def no_cutoff_inside(count: int) -> Shape:
    body = Dag([Task(name="a", params="x", config={"cutoff": False}), Task(name="b", after="a")])
    first = [Task(name=f"s{i}") for i in range(8)]
    follows = tuple(task.name for task in first)
    dag = Dag([*first, Map(name="m", after=follows, over="xs", as_="x", body=body)])
    return planned(dag, finish(dag, None, {"xs": list(range(count))}))


def nest(count: int, rounds: int = 10**9) -> Shape:
    """Parallels in parallels, with a step on each level that saves, and reads from outside."""
    dag = Dag([Task(name="z0", params="v")])
    for level in range(1, count):
        inner = Parallel(name="p", branches={"b": dag})
        dag = Dag([inner, Task(name=f"z{level}", after="p", params="v")])

    def does(path: str, _: Any) -> Doing:
        return Doing({}, [path.rpartition("/")[2]])

    return planned(dag, finish(dag, does, {"v": 1}, rounds))


def nested_handlers(count: int) -> Shape:
    """Parallels in parallels, with a handler on each level; something failed on the innermost."""
    dag = Dag([Task(name="bad", returns="y")])
    for level in range(1, count):
        nodes: list[Any] = [Parallel(name="p", branches={"b": dag}), Task(name="z", after="p")]
        if level > 1:
            handler: dict[str, Any] = {"trigger": "one_failed", "handles": True}
            nodes.append(Task(name="h", after="z", **handler))
        dag = Dag(nodes)

    def does(path: str, _: Any) -> Doing:
        return Doing(outcome="failed" if path.endswith(("bad", "h")) else "succeeded")

    return planned(dag, finish(dag, does))


def handlers(count: int) -> Shape:
    """A failure, a chain behind it, and a handler for each step of that."""
    more: dict[str, Any] = {"trigger": "one_failed", "handles": True}
    alerts = [Task(name=f"h{i}", after=f"s{i}", **more) for i in range(count)]
    dag = Dag([*chain(count).nodes, *alerts])

    def does(path: str, _: Any) -> Doing:
        return Doing(outcome="failed" if path == "s0" else "succeeded")

    return planned(dag, finish(dag, does))


def many_failures(count: int) -> Shape:
    """Each of many steps fails, with a handler of its own; and a choice that handles all."""
    more: dict[str, Any] = {"trigger": "one_failed", "handles": True}
    nodes: list[Any] = [Task(name=f"s{i}") for i in range(count)]
    everything = tuple(node.name for node in nodes)
    nodes += [Task(name=f"h{i}", after=f"s{i}", **more) for i in range(count)]
    body = Dag([Task(name="tell")])
    nodes.append(Conditional(name="all", after=everything, on="v", branches={"y": body}, **more))
    dag = Dag(nodes)

    def does(path: str, _: Any) -> Doing:
        return Doing(outcome="failed" if path[0] == "s" else "succeeded")

    return planned(dag, finish(dag, does, {"v": "y"}))


def missing_outputs(count: int) -> Shape:
    """A loop and a chain whose artifacts are all gone, and many steps that may load them."""

    def does(path: str, params: Mapping[str, Any]) -> Doing:
        if path.startswith("lo"):
            return Doing({"d": params["i"] == count // 2}, [f"l{params['i']}"])
        failed = path[0] == "m"
        return Doing({}, [path], (), "failed" if failed else "succeeded")

    done = Dag([Task(name="a", params="i", returns="d")])
    more: dict[str, Any] = {"after": (f"s{count - 1}", "lo"), "over": "xs", "as_": "x"}
    dag = Dag([
        *chain(count).nodes,
        Loop(name="lo", until="d", as_="i", body=done, max_iterations=10**6),
        Map(name="m", body=Dag([Task(name="w", params="x")]), **more),
    ])  # fmt: skip
    history = finish(dag, does, {"xs": list(range(count))})
    for attempts in history.attempts.values():
        for end in attempts:
            assert isinstance(end, End)
            history.missing.update(blob.sha256 for blob in end.artifacts.values())
    return planned(dag, history)


def damaged(count: int) -> Shape:
    """Every end of a map is damaged; reading them is counted too."""
    body = Dag([Task(name="w", params="x")])
    dag = Dag([Map(name="m", over="xs", as_="x", body=body)])
    paths = [f"m[{i}]/w" for i in range(count)]

    def work() -> Any:
        history = History(RunRecord("r", "n", "", dag.to_json(), "", {"xs": list(range(count))}))
        for path in paths:
            history.add(Damaged(f"{path}.end", "torn", path, 1, "end"))
        return Planner(dag).plan(history)

    return work


def many_attempts(count: int) -> Shape:
    """One step that was tried again and again; its records come in any order."""
    dag = Dag([Task(name="a")])
    run = RunRecord("r", "n", "", dag.to_json(), "")
    ends = [
        End("r", "a", i * 7919 % count + 1, "n", "i", "failed", digest=digest_of(str(i)))
        for i in range(count)
    ]
    return lambda: Planner(dag).plan(History(run, ends))


def many_invocations(count: int) -> Shape:
    """Each forced a step more; each is asked about before it is recorded."""
    dag = chain(8)
    history = finish(dag)

    def work() -> None:
        planner = Planner(dag)
        for i in range(count):
            invocation = Invocation("r", f"j{i:06}", "retry", force={"s0": 1})
            history.add(invocation)
            planner.plan(history, invocation.id)
            history.remove(invocation)

    return work


def forces(count: int) -> Shape:
    """Many patterns over the items of a map, and a force on each of those."""
    body = Dag([Task(name="w", params="x")])
    follow = [Task(name=f"t{i}", after=f"t{i - 1}" if i else "m") for i in range(count)]
    dag = Dag([Map(name="m", over="xs", as_="x", body=body), *follow])
    history = finish(dag, None, {"xs": list(range(count))}, rounds=3)
    plan = Planner(dag).plan(history)
    patterns = [f"m[{i}]" for i in range(count)]

    def work() -> Any:
        forced = expand(["m+", "*/w", *patterns], dag, history, plan)
        history.add(Invocation("r", "i0002", "retry", force=forced))
        return Planner(dag).plan(history, "i0002")

    return work


def some_paths(count: int) -> Shape:
    """The plan of one step in a graph full of handlers."""
    more: dict[str, Any] = {"trigger": "one_failed", "handles": True}
    alerts = [Task(name=f"h{i}", after=f"s{i}", **more) for i in range(count)]
    dag = Dag([*chain(count).nodes, *alerts])
    history = finish(dag)
    return lambda: Planner(dag).plan(history, paths=[f"s{count - 1}"])


SHAPES: dict[str, Callable[[int], Shape]] = {
    "chain": lambda count: planned(d := chain(count), finish(d)),
    "chain, fresh": lambda count: planned(d := chain(count), finish(d, rounds=0)),
    "chain, each loads the one before": _chain_of(_before, "f{}".format),
    "chain, each loads the first": _chain_of(lambda i: ["f0"] if i else [], "f{}".format),
    "chain, each loads from half-way": _chain_of(
        lambda i: [f"f{i // 2}"] if i else [], "f{}".format),
    "chain, all save one name": _chain_of(lambda i: ["f"] if i else [], lambda i: "f"),
    "chain, two save each name": _chain_of(
        lambda i: [f"f{i // 4}"] if i else [], lambda i: f"f{i // 2}"),
    "map that loads": map_that_loads,
    "map that saves": map_that_saves,
    "nested maps": nested_maps,
    "siblings of one name": siblings_of_one_name,
    "fan-in": fan_in,
    "ladder": ladder,
    "two pipelines": two_pipelines,
    "loop": loop,
    "loop, one name": lambda count: loop(count, grow=False),
    "loop, no cutoff": lambda count: loop(count, cutoff=False),
    "chain, no cutoff": no_cutoff,
    "map, no cutoff": no_cutoff_inside,
    "nest": nest,
    "nest, fresh": lambda count: nest(count, rounds=0),
    "nested handlers": nested_handlers,
    "handlers": handlers,
    "many failures": many_failures,
    "missing outputs": missing_outputs,
    "damaged": damaged,
    "many attempts": many_attempts,
    "many invocations": many_invocations,
    "forces": forces,
    "some paths": some_paths,
}  # fmt: skip
