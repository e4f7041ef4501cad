"""The verbs, one a file; each is imported when it is called."""

__all__: list[str] = []
