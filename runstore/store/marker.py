"""The marker of a store: its format, and whether one writer alone was promised."""

from __future__ import annotations

from runstore.errors import KeyExistsError, KeyMissingError
from runstore.records import Marker, keys
from runstore.records.codec import parse, to_body
from runstore.records.framing import damaged, frame
from runstore.storage import Storage, assume_single_writer, prove
from runstore.store.ids import now
from runstore.version import __version__

__all__ = ["heed_marker", "make_marker", "read_marker"]


def read_marker(storage: Storage) -> Marker | None:
    """The marker; ``None`` if there is no store yet. One read.

    :raises FormatVersionError: if a newer runstore made the store.
    """
    try:
        marker = parse(storage.read(keys.MARKER), keys.MARKER)
    except KeyMissingError:
        return None
    if not isinstance(marker, Marker):
        damaged(keys.MARKER, "is not the store's marker")
    return marker


def heed_marker(storage: Storage) -> Marker | None:
    """:func:`read_marker`, for who creates or resumes runs: if it promises a single writer, the
    storage looks before each create from now on."""
    marker = read_marker(storage)
    if marker is not None and marker.single_writer:
        assume_single_writer(storage)
    return marker


def make_marker(storage: Storage) -> bool:
    """Make the store, if there is none; whether its marker promises a single writer."""
    marker = heed_marker(storage)
    if marker is not None:
        return marker.single_writer
    single_writer = prove(storage)
    data, _ = frame(to_body(Marker(now(), __version__, single_writer)))
    try:
        storage.create(keys.MARKER, data)
    except KeyExistsError:  # somebody else made the store at this moment
        marker = heed_marker(storage)
        return marker is not None and marker.single_writer
    return single_writer
