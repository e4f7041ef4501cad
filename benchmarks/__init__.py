"""The figures runstore promises, measured against what the machine itself takes.

``python -m benchmarks [NAME ...] [--json]`` prints, for each figure, its value, the *floor* of the
same run (the same work without runstore: raw writes, raw reads), their ratio, and the goal. A floor
is measured in turn with its figure, so a slow or busy machine slows both.

The same code runs small and untimed in ``tests/benchmarks``, where requests, files and bytes are
counted; time is never asserted there.
"""
