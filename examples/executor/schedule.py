"""A scheduler of your own, on plain functions: the plan says what is ready, this runs it.

Try it: python examples/executor/schedule.py
"""

import runstore


def work(run, functions, mode):
    """Run what is ready until nothing is. Returns the paths it ran.

    A start and a resume are the same loop. Several processes may be at it: each step is one's.
    """
    run.begin_invocation(mode)  # the new attempts belong to it
    run.take_over(run.history())  # what a dead process began, it will not end
    ran = []
    while ready := run.plan().ready:
        for step in ready:
            try:
                attempt = run.begin(step)  # one of all who try gets it
            except runstore.errors.AttemptTakenError:
                continue
            try:
                value = functions[step.work.task.name](**attempt.params())
                attempt.succeed(dict.fromkeys(step.work.task.returns, value))
            except runstore.errors.AttemptEndedError:
                raise  # somebody declared this process dead: stop
            except Exception as error:  # noqa: BLE001 - whatever a step raises is its failure
                attempt.fail(error)
            ran.append(step.path)
    return ran


PRICES = {"tea": 3, "milk": "2"}  # a price that is no number

LOOK_UP = runstore.Dag([runstore.Task(name="look_up", params=["item"], returns=["euros"])])
DAG = runstore.Dag([
    runstore.Task(name="items", returns=["items"]),
    runstore.Map(name="price", after=["items"], over="items", as_="item", body=LOOK_UP),
    runstore.Task(name="add", after=["price"], params=["euros"], returns=["sum"]),
])  # fmt: skip

FIXED = {
    "items": lambda: list(PRICES),
    "look_up": lambda item: int(PRICES[item]),
    "add": lambda euros: round(sum(euros), 2),
}
BROKEN = {**FIXED, "look_up": lambda item: PRICES[item] + 0}


def main(url="memory://shop"):
    store = runstore.open_store(url)
    run = store.create_run(DAG, run_id="shopping")

    print("first time:", *work(run, BROKEN, "start"), sep="\n  ")
    failed = run.history().latest('price["milk"]/look_up')
    print(f"it failed: {failed.error['type']}: {failed.error['message']}")

    run = store.get_run("shopping")  # as another process finds it
    print("resumed, with the fix:", *work(run, FIXED, "retry"), sep="\n  ")
    print("sum:", run.values()["sum"])


if __name__ == "__main__":
    main()
