"""What a record can hold, seen to before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from runstore.canonical import dumps
from runstore.dag import Dag, walk
from runstore.errors import DagError, ValueNotJsonError
from runstore.records import Secret
from runstore.store.secrets import refuse_secrets

__all__ = ["check_values", "storable"]


def storable(dag: Dag) -> dict[str, Any]:
    """The JSON form of a DAG, if a record can hold it.

    :raises DagError: for configuration JSON cannot hold, or nesting beyond some 120 levels.
    """
    document = dag.to_json()
    try:
        dumps(document)
    except ValueNotJsonError as error:
        raise DagError(f"the DAG cannot be recorded: {error}") from None
    for path, node in walk(dag):
        if node.config:
            try:
                orjson.dumps(dict(node.config), option=orjson.OPT_STRICT_INTEGER)
            except orjson.JSONEncodeError as error:
                raise DagError(
                    f"the config of {path!r} cannot be recorded: {error}", nodes=(path,)
                ) from None
    return document


def check_values(
    run_id: str,
    parameters: Mapping[str, Any],
    labels: Mapping[str, str],
    secrets: Mapping[str, Any],
) -> None:
    """Look at everything before anything is written.

    :raises ValueNotJsonError: naming the parameter or label that cannot be kept.
    :raises InputError: for the value of a secret in a parameter or a label, which is stored.
    """
    if secrets:
        others = {n: v for n, v in parameters.items() if n not in secrets}
        refuse_secrets(others, secrets, "parameter", f"run {run_id!r}")
        refuse_secrets(labels, secrets, "label", f"run {run_id!r}")
    for name, value in parameters.items():
        if type(value) is not Secret:
            try:
                dumps({name: value})
            except ValueNotJsonError as error:
                problem = f"parameter {name!r} is no JSON value: {error.problem}"
                raise error.reworded(problem) from None
    for name, text in labels.items():
        if type(name) is not str or type(text) is not str:
            raise ValueNotJsonError(f"label {name!r} is {text!r:.60}: labels are texts")
        dumps({name: text})
