"""The version of the package, which also stands in the marker of each store that it makes."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
