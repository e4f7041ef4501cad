"""Object keys: the only place where they are built and parsed (FORMAT.md, section 2).

A path or a run id becomes one component of a key, its *key form* (``encode``): only
``[a-z0-9._-]``, at most 100 bytes, the same under case folding, no reserved name of Windows. Two
texts never share one. The form of a long text holds only its beginning and a digest: who reads a
record under it compares the path in the record with the one asked for.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Literal

from runstore.errors import PathError
from runstore.paths import check_run_id

__all__ = [
    "ATTEMPTS", "BLOBS", "END", "INVOCATIONS", "MARKER", "MAX_ATTEMPT", "MAX_KEY", "PACKS", "RUN",
    "RUNS", "START", "attempt_key", "blob_key", "decode", "encode", "invocation_key", "is_nonce",
    "name_in", "pack_key", "parse_attempt", "prefix", "run_folder", "run_key", "run_prefix",
]  # fmt: skip

MARKER = "runstore.json"
"""The key of the format marker."""

RUNS = "runs/"
"""Below it, one folder for each run."""

# Below a run's folder, ``runs/<run key>/``:
RUN = "run.json"

# Below the prefix of what the run consists of, ``runs/<run key>/<nonce>/``:
INVOCATIONS = "invocations/"
ATTEMPTS = "attempts/"
BLOBS = "blobs/sha256/"
PACKS = "packs/"

# How the keys of an attempt's two records end.
START = ".start.json"
END = ".end.json"

MAX_KEY = 100
"""Bytes of the longest key form."""

MAX_ATTEMPT = 999_999
"""The highest attempt number: six digits, so that names sort as numbers do."""

_SLUG = 58
_HASH = 40
_PREFIX = 50  # shorter than a slug, so that a prefix holds for long key forms too

_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
)

_RESERVED_HEADS = frozenset(name[:3] for name in _RESERVED)

_NAMED = {
    "/": ".",
    ".": "_o",
    "[": "_i",
    "]": "_j",
    '"': "_q",
    ":": "_n",
    "@": "_t",
    "#": "_h",
    ",": "_k",
    "{": "_l",
    "}": "_r",
    " ": "_s",
    "%": "_p",
    "+": "_m",
    "_": "__",
}


def _spelling(byte: int) -> str:
    character = chr(byte)
    if character in "abcdefghijklmnopqrstuvwxyz0123456789-":
        return character
    if "A" <= character <= "Z":
        return f"_u{character.lower()}"
    return _NAMED.get(character, f"_{byte:02x}")


# By byte of UTF-8; ASCII text is its own bytes, others are seen as Latin-1 (``_spell``).
_SPELLINGS = {byte: _spelling(byte) for byte in range(256)}

_MEANINGS = {written[1:]: ord(named) for named, written in _NAMED.items() if written != "."}
_MEANINGS["g"] = ord("/")

_ODD_SLASH = re.compile(r"\A/|/\Z|(?<=/)/")
_WRITTEN = re.compile(rb"\.|_(?:u([a-z])|([0-9a-f]{2})|([a-z_]))")
_LONG_FORM = re.compile(r"[a-z0-9._-]{1,58}\.\.[0-9a-f]{40}")
is_invocation_id = re.compile(r"[a-z0-9-]{1,64}").fullmatch
_SHA256 = re.compile(r"[0-9a-f]{64}")
is_nonce = re.compile(r"[0-9a-f]{32}").fullmatch
_ATTEMPT = re.compile(r"([a-z0-9._-]{1,100})\.([0-9]{6})\.(start|end)\.json")


# --- key forms ------------------------------------------------------------------------------


def encode(text: str) -> str:
    """The key form of a path or run id.

    Raises ``PathError`` for a lone surrogate, which has no UTF-8. A microsecond for a short
    ASCII text, linear for long ones.
    """
    if not text:
        return "_v"
    # A character is spelled as one or more: of a long text, what follows is in the digest alone.
    spelled = _spell(text[: MAX_KEY + 1] if text.isascii() else text)
    if spelled[:3] in _RESERVED_HEADS:
        spelled = _guard(spelled)
    if len(spelled) <= MAX_KEY:
        return spelled
    # The cut may leave a reserved name alone ("con" of "con______..."), or nothing.
    slug = _guard(spelled[:_SLUG].rstrip("._")) or "_v"
    return f"{slug}..{hashlib.sha256(text.encode('utf-8')).hexdigest()[:_HASH]}"


def decode(key: str) -> str | None:
    """The text whose key form this is; None for the long form, which does not hold all of it.

    Raises ``PathError`` for what ``encode`` never gives.
    """
    if _LONG_FORM.fullmatch(key) is not None:
        return None
    try:
        text = "" if key == "_v" else _WRITTEN.sub(_meaning, key.encode("ascii")).decode("utf-8")
        if encode(text) == key:
            return text
    except (UnicodeError, KeyError):
        pass  # not ASCII, an unknown escape, or bytes that are not UTF-8: no key form
    raise PathError(
        f"{key!a} was not written by runstore: no text has this key form",
        advice="move it out of the store",
    )


def prefix(text: str) -> str:
    """What the key forms of all texts that begin with ``text`` begin with.

    For listing what is below a composite: ``prefix('mp["eu"]/')``. At most 50 bytes, and shorter
    where it must be ("" if the first part could still become a reserved name): a listing may give
    more than was asked for, and the path in each record decides.
    """
    closed = len(text) > 1 and text[-1] == "/" and text[-2] != "/"
    # A slash at the end is written in one way there, in another before more text.
    spelled = _spell(text[:-1] if closed else text)
    if "." in spelled:
        spelled = _guard(spelled)
    # A long form's slug loses trailing "." and "_", which a prefix therefore cannot count on.
    start = spelled[:_PREFIX].rstrip("._")
    if "." in start or not any(name.startswith(start) for name in _RESERVED):
        return start
    return start if closed and start not in _RESERVED else ""


def _spell(text: str) -> str:
    if not text.isascii():
        try:
            text = text.encode("utf-8").decode("latin-1")
        except UnicodeEncodeError as error:
            raise PathError(
                f"{text[:100]!a} holds a lone surrogate, which no key can stand for",
                advice="rename it",
            ) from error
    if "//" in text or text[:1] == "/" or text[-1:] == "/":
        return "_g".join([part.translate(_SPELLINGS) for part in _ODD_SLASH.split(text)])
    return text.translate(_SPELLINGS)


def _guard(spelled: str) -> str:
    if spelled.partition(".")[0] in _RESERVED:
        return f"_{ord(spelled[0]):02x}{spelled[1:]}"
    return spelled


def _meaning(found: re.Match[bytes]) -> bytes:
    capital, code, named = found.groups()
    if capital is not None:
        return bytes(capital).upper()
    if code is not None:
        return bytes.fromhex(code.decode("ascii"))
    return b"/" if named is None else bytes((_MEANINGS[named.decode("ascii")],))


# --- the layout -----------------------------------------------------------------------------


@lru_cache(maxsize=256)
def run_folder(run_id: str) -> str:
    """``runs/<run key>/``: ``run.json``, and what belongs to runs that had this id one after the
    other. Raises ``PathError`` for what cannot be a run id."""
    return f"{RUNS}{encode(check_run_id(run_id))}/"


def run_key(run_id: str) -> str:
    """``runs/<run key>/run.json``."""
    return run_folder(run_id) + RUN


def run_prefix(run_id: str, nonce: str) -> str:
    """``runs/<run key>/<nonce>/``, below which everything of one run is, but for ``run.json``.

    Raises ``PathError`` unless the nonce is 32 lowercase hex digits.
    """
    if is_nonce(nonce) is None:
        raise PathError(f"{nonce[:100]!a} is no nonce of a run: 32 lowercase hex digits")
    return f"{run_folder(run_id)}{nonce}/"


# The functions below take such a prefix.


def invocation_key(prefix: str, invocation_id: str) -> str:
    """``<prefix>invocations/<id>.json``. Raises ``PathError`` unless the id is 1 to 64 of
    ``[a-z0-9-]``."""
    if is_invocation_id(invocation_id) is None:
        raise PathError(
            f"{invocation_id[:100]!a} is no invocation id", advice="use 1 to 64 of a-z, 0-9 and -"
        )
    return f"{prefix}{INVOCATIONS}{invocation_id}.json"


def attempt_key(prefix: str, path: str, number: int, which: Literal["start", "end"]) -> str:
    """``<prefix>attempts/<node key>.<6 digits>.start.json``, or ``.end.json``.

    Raises ``PathError`` for a number that is not in 1 to 999,999. Two microseconds.
    """
    if not 1 <= number <= MAX_ATTEMPT:
        raise PathError(
            f"attempt {number} of {path[:100]!a}: attempts are numbered 1 to {MAX_ATTEMPT}",
            advice="fork the run to go on",
            number=number,
        )
    return f"{prefix}{ATTEMPTS}{encode(path)}.{number:06d}.{which}.json"


def blob_key(prefix: str, sha256: str) -> str:
    """``<prefix>blobs/sha256/<2 hex>/<hex>``. Raises ``PathError`` unless 64 lowercase hex
    digits."""
    return f"{prefix}{BLOBS}{_checked(sha256)[:2]}/{sha256}"


def pack_key(prefix: str, sha256: str) -> str:
    """``<prefix>packs/<hex>.json``. Raises as ``blob_key``."""
    return f"{prefix}{PACKS}{_checked(sha256)}.json"


def parse_attempt(name: str) -> tuple[str, int, str] | None:
    """The parts of an attempt record's file name: node key, number, ``start`` or ``end``.

    None for any other name. Checks the characters of the node key, not that ``encode`` gave it.
    """
    found = _ATTEMPT.fullmatch(name)
    if found is None or found[2] == "000000":
        return None
    return found[1], int(found[2]), found[3]


def name_in(key: str) -> str:
    """The last part of a key, without ``.json``: the digest that names a blob or a pack, the id of
    an invocation."""
    return key.rpartition("/")[2].removesuffix(".json")


def _checked(sha256: str) -> str:
    if _SHA256.fullmatch(sha256) is None:
        raise PathError(f"{sha256[:100]!a} is no sha256: 64 lowercase hex digits")
    return sha256
