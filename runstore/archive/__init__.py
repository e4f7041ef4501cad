"""A run in one file: its format, and the file read as a store."""

__all__: list[str] = []
