"""``python -m runstore.cli``: the same as ``runstore``."""

from runstore.cli import main

main()
