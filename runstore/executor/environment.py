"""Parameters as environment variables of a command: which can be, and what is said of the others.

What cannot be one is in the JSON file `$RUNSTORE_PARAMS`, where all of them are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from runstore.canonical import dumps

__all__ = ["ONE_BYTES", "TOTAL_BYTES", "environment_of", "spelt"]

ONE_BYTES = 100_000  # Linux takes 128 KiB for one, name and all
TOTAL_BYTES = 512_000  # and for all, with the arguments, a quarter of the stack limit: 2 MiB

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEEDED = (
    "PATH HOME IFS ENV SHELL TMPDIR CDPATH PS1 PS2 PS4 SHELLOPTS BASHOPTS GLOBIGNORE "
    "POSIXLY_CORRECT"
)
"""What the shell needs to find commands, files and words, and what runs before the command does."""
_SET = (
    "_ PWD OLDPWD PPID OPTIND OPTARG LINENO SHLVL UID EUID GROUPS RANDOM SRANDOM SECONDS HISTCMD "
    "EPOCHSECONDS EPOCHREALTIME DIRSTACK FUNCNAME PIPESTATUS COMP_WORDBREAKS BASH BASHPID"
)
"""What dash(1) or bash(1) set themselves, whatever they were given."""
_OF_THE_SHELL = frozenset(f"{_NEEDED} {_SET}".split())
_OF_THE_SYSTEM = ("RUNSTORE_", "LD_", "DYLD_", "BASH_")


def spelt(value: Any) -> str:
    """A value as a command is given it: text as it is, anything else as canonical JSON."""
    return value if isinstance(value, str) else dumps(value).decode()


def environment_of(
    params: Mapping[str, Any], inherited: Mapping[str, str]
) -> tuple[dict[str, str], str]:
    """The environment of a command, and a line on the parameters that are not in it, if any are.

    A parameter is there with its own value or not at all: an inherited variable of its name goes,
    unless the name is one that the shell needs, which no parameter replaces.
    """
    found = dict(inherited)
    left_out: list[str] = []
    room = TOTAL_BYTES
    for name, value in params.items():
        if name in _OF_THE_SHELL or name.startswith(_OF_THE_SYSTEM):
            left_out.append(f"{name} (a name the shell or runstore uses itself)")
            continue
        found.pop(name, None)
        if not _NAME.fullmatch(name):
            left_out.append(f"{json.dumps(name)} (not a name of a variable)")
            continue
        text = spelt(value)
        if "\0" in text:
            left_out.append(f"{name} (it has a NUL in it)")
            continue
        try:
            size = len(name) + len(os.fsencode(text)) + 2  # "=", and the NUL at its end
        except UnicodeEncodeError:
            left_out.append(f"{name} (not in the encoding of this locale)")
            continue
        if size > ONE_BYTES:
            left_out.append(f"{name} (too large: {size:,} bytes, of {ONE_BYTES:,})")
        elif size > room:
            left_out.append(f"{name} (too large together: {TOTAL_BYTES:,} bytes in all)")
        else:
            found[name] = text
            room -= size
    if not left_out:
        return found, ""
    return found, (
        "runstore: parameters that are not in the environment, read them from the JSON file "
        f"$RUNSTORE_PARAMS: {', '.join(left_out)}\n"
    )
