"""What was read from a bucket, kept on this machine."""

__all__: list[str] = []
