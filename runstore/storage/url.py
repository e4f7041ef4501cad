"""Where a remote store lies: the parts of its URL, checked once."""

from __future__ import annotations

import re
from typing import NamedTuple

from runstore.errors import StorageError

__all__ = ["PACKAGES", "Address", "parse_address"]

PACKAGES = {"s3": ("s3fs", ""), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}
"""Family -> the package with which fsspec serves it, and the extra that brings it."""

_FAMILIES = {
    "s3": "s3", "s3a": "s3",
    "gs": "gs", "gcs": "gs",
    "az": "az", "abfs": "az", "abfss": "az",
}  # fmt: skip

# What some client reads as something else than itself: patterns, versions, generations, chains.
_SPECIAL = re.compile(r"[?#*\[\]\\\x00-\x1f\x7f]")


class Address(NamedTuple):
    """``family`` is s3, gs or az, or empty for any other file system that fsspec knows.

    ``bucket`` and ``root`` (no slash at either end) are empty where the family is.
    """

    url: str
    scheme: str
    family: str
    bucket: str
    root: str


def parse_address(url: str) -> Address:
    """The parts of ``scheme://bucket/prefix``.

    Raises `StorageError` for what cannot be the place of a store: no bucket, a chain
    (``simplecache::s3://...`` loses the condition of a create, silently), or characters that the
    clients read as patterns.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if "::" in url:
        raise StorageError(
            f"Cannot open {url!r}: chained file systems do not pass on the condition that "
            "makes a create exclusive",
            advice="give the URL of the storage itself",
            url=url,
        )
    if scheme == "local":
        raise StorageError(f"Cannot open {url!r}", advice="give a path, or file:///path", url=url)
    family = _FAMILIES.get(scheme, "")
    if not family:
        return Address(url.rstrip("/"), scheme, "", "", "")
    bucket, _, root = rest.partition("/")
    root = root.strip("/")
    if not bucket or "%" in bucket:
        raise StorageError(
            f"{url!r} names no bucket", advice=f"write {scheme}://BUCKET/PREFIX", url=url
        )
    segments = root.split("/") if root else []
    if _SPECIAL.search(root) or any(segment in ("", ".", "..") for segment in segments):
        raise StorageError(
            f"Cannot open {url!r}: the prefix of a store holds no empty segment, '.', '..', "
            "nor any of ? # * [ ] \\",
            advice="give another one",
            url=url,
        )
    return Address(f"{scheme}://{bucket}/{root}".rstrip("/"), scheme, family, bucket, root)
