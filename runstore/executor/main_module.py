"""What a worker process makes of the program that was started: it imports it, where it can.

A function that was defined there is sent by name. One that was defined in a notebook has a name
that no other process can look up; and a script that starts a run whenever it is imported would
start one in each worker.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
from typing import Any

from runstore.dag import Dag, Task, walk
from runstore.errors import PipelineError

__all__ = [
    "UNGUARDED", "WORKER_NAME", "check_sendable", "main_is_imported", "refuse_while_imported",
    "unguarded",
]  # fmt: skip

WORKER_NAME = "runstore-worker"
"""How the names of our worker processes begin."""
UNGUARDED = 113
"""Exit code of a worker in which the program's main module began to start a run."""


def main_is_imported() -> bool:
    """Whether a worker process imports the main module of this one, as multiprocessing does it."""
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return not (name == "__main__" or name.endswith(".__main__"))
    file = getattr(main, "__file__", None)
    return file is not None and os.path.splitext(os.path.basename(file))[0] != "ipython"


def unguarded() -> str:
    """What is wrong with a main module that starts a run when it is imported, and what to do."""
    main = getattr(sys.modules["__main__"], "__file__", None) or "the program"
    return (
        f"{main} starts a run whenever it is imported, and worker processes import it: put what "
        f'is to happen once below `if __name__ == "__main__":`, or use threads'
    )


def refuse_while_imported() -> None:
    """Refuse to start a run in a process that is only importing the program's main module.

    A worker of ours ends at once, with :data:`UNGUARDED`: who started it tells.

    :raises PipelineError: in a process that somebody else started.
    """
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:  # it is there in every process that it starts
        return
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):  # it has no public name
        if process.name.startswith(WORKER_NAME):
            os._exit(UNGUARDED)
        raise PipelineError(unguarded())


def check_sendable(dag: Dag, *, by_file: bool) -> None:
    """Refuse tasks that no worker process could be sent.

    :param by_file: the functions are found by loading the pipeline file there.
    :raises PipelineError: naming the task, and what to do.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)
    if main_is_imported() and file is not None and not os.path.exists(file):
        raise PipelineError(
            f"worker processes import the program that was started, and {file} is no file",
            advice="save the program in one, or use threads",
        )
    for path, node in walk(dag):
        if isinstance(node, Task) and node.type == "python" and not by_file:
            _check_function(path, node)


def _check_function(path: str, node: Task) -> None:
    function: Any = node._function
    while isinstance(function, functools.partial):
        function = function.func
    named = str(node.config.get("callable", ""))
    module = named.partition(":")[0] if function is None else getattr(function, "__module__", "")
    if module == "__main__" and not main_is_imported():
        where = "a notebook, or at a prompt"
        if getattr(sys.modules["__main__"], "__file__", None) is not None:
            where = "a __main__.py, or below ipython"
        raise PipelineError(
            f"{path} cannot be sent to a worker process: functions that are defined in "
            f"{where}, have no module that another process could import",
            advice="put them in a .py file and import them from there, or use threads",
        )
    if function is None:
        return
    try:
        pickle.dumps(function)
    except Exception as error:
        raise PipelineError(
            f"{path} cannot be sent to another process ({error})",
            advice="define its function at the top level of a module, or use threads",
        ) from error
