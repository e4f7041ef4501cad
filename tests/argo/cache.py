"""The memoization cache: ConfigMaps, shared by the workflows of a namespace."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Cache", "CacheError"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class CacheError(ValueError):
    """A key or an age that the controller refuses: the node is an error."""


@dataclass(slots=True)
class Cache:
    """Entries by ConfigMap and key. An entry is a second old when it is looked for: younger than
    any age but that of a rerun (`1ns`)."""

    entries: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def load(self, config_map: str, key: str, max_age: str) -> dict[str, Any] | None:
        """The entry, unless there is none or it is too old."""
        if not re.fullmatch(r"[a-zA-Z0-9][-a-zA-Z0-9]*", key):
            raise CacheError(f"invalid cache key: {key}")
        oldest = _seconds(max_age) if max_age else float("inf")
        entry = self.entries.get(config_map, {}).get(key)
        return entry if oldest >= 1 else None

    def save(self, memoization: dict[str, Any], node_id: str, outputs: Any) -> str:
        """Saves, or says why not: a ConfigMap holds a mebibyte, and the node is an error then."""
        entries = self.entries.setdefault(memoization["cacheName"], {})
        entry = {"nodeID": node_id, "outputs": outputs}
        size = sum(len(key) + len(json.dumps(value)) for key, value in entries.items())
        if size + len(json.dumps(entry)) > 1 << 20:
            return "could not save to config map cache: Too long: must have at most 1048576 bytes"
        entries[memoization["key"]] = entry
        return ""


def _seconds(duration: str) -> float:
    """A Go duration: `1h30m`, not `30d`."""
    if not re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+", duration):
        raise CacheError(f'invalid maxAge: time: invalid duration "{duration}"')
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", duration)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
