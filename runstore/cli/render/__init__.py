"""What people see: tables, progress, summaries, advice. Nothing else writes to a terminal."""

__all__: list[str] = []
