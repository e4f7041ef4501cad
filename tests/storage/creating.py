"""What the processes do that ``test_local_kill.py`` kills: they import this, and not pytest."""

from __future__ import annotations

import hashlib
import io
import os

from runstore.storage.local import LocalStorage

SIZES = [bytes([n]) * 50_000 for n in range(4)]
"""What ``repairing`` replaces one object by, in turn."""


def body_of(key: str) -> bytes:
    """Bytes that only this key can have, between 32 bytes and 130 KB of them."""
    digest = hashlib.sha256(key.encode()).digest()
    return digest * (1 + int.from_bytes(digest[:3], "big") % (4096 if digest[3] < 40 else 64))


def key_of(child: int, number: int) -> str:
    return f"runs/k{child % 5}/attempts/c{child:04d}.{number:06d}.start.json"


def creating(root: str, durable: bool, child: int, pipe: int) -> None:
    """Create objects until the end. A key goes to the pipe when ``create`` has returned."""
    storage = LocalStorage(root, durable=durable)
    for number in range(1_000_000):
        key = key_of(child, number)
        body = body_of(key)
        storage.create(key, io.BytesIO(body) if number % 2 else body)
        os.write(pipe, key.encode() + b"\n")


def repairing(root: str, pipe: int) -> None:
    """Replace one object until the end."""
    storage = LocalStorage(root, durable=False)
    while True:
        for body in SIZES:
            storage.create("blobs/x", body, repair=True)
            os.write(pipe, b".")
