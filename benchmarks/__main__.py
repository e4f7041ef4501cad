"""``python -m benchmarks [NAME ...] [--json] [--folder DIR]``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile

from benchmarks.figures import FIGURES
from benchmarks.measure import Figure

_MET = {True: "met", False: "NOT MET", None: ""}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--folder", default=tempfile.gettempdir(), help="on the disk to measure (default: /tmp)"
    )
    options = parser.parse_args()
    if unknown := ", ".join(set(options.names) - set(FIGURES)):
        parser.error(f"no such figure: {unknown}; there are {', '.join(FIGURES)}")
    if not options.json:
        print(f"{'':16}{'value':>10} {'':8}{'floor':>10}{'ratio':>7}  goal")
    missed = False
    # One folder for all, removed at the end: removing in between would slow what comes after.
    with tempfile.TemporaryDirectory(prefix="runstore-bench-", dir=options.folder) as folder:
        for name in options.names or FIGURES:
            own = os.path.join(folder, name)
            os.mkdir(own)
            for figure in FIGURES[name](own):
                missed |= figure.met is False
                print(json.dumps(figure.to_json()) if options.json else _line(figure), flush=True)
    return 1 if missed else 0


def _line(figure: Figure) -> str:
    floor = "" if figure.floor is None else f"{figure.floor:.4g}"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    return (
        f"{figure.name:16}{figure.value:>10.4g} {figure.unit:8}{floor:>10}{ratio:>7}  "
        f"{figure.goal:12} {_MET[figure.met]:8} {figure.what}"
    )


if __name__ == "__main__":
    sys.exit(main())
