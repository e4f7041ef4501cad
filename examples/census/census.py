"""A census of the Python standard library (without its tests): how much of what is in it.

    runstore run examples/census/census.py --run-id census   stops at a package that is Python 2
    runstore retry census examples/census/census_fixed.py    goes on, with the fix

Plain functions; what follows what stands at the end.
"""

import ast
import csv
import sysconfig
import threading
from collections import Counter
from pathlib import Path

import runstore

LIBRARY = Path(sysconfig.get_path("stdlib"))
OLD = Path(__file__).parent / "old"
"""Three files of lib2to3's, for a Python that comes without them."""

ONE_AT_A_TIME = threading.Lock()
"""Steps run on threads, and ast.parse counts its depth for all threads together: two at once give
a SystemError now and then."""

SINGLE, PRIVATE = "single modules", "private modules"

parameters = {"folders": [str(LIBRARY)]}
if not (LIBRARY / "lib2to3/tests/data").is_dir():
    parameters["folders"].append(str(OLD))


def find_packages(folders):
    """The packages, and the modules that are in none, in two groups."""
    found = {SINGLE, PRIVATE}
    for folder in map(Path, folders):
        for package in folder.iterdir():
            # No identifiers, so no packages: site-packages, config-3.11-x86_64-linux-gnu.
            if package.name.isidentifier() and any(package.glob("*.py")):
                found.add(package.name)
    return sorted(found - {"test"})


def files_of(package, folders):
    for folder in map(Path, folders):
        if package in (SINGLE, PRIVATE):
            private = package == PRIVATE
            yield from (f for f in folder.glob("*.py") if f.name.startswith("_") == private)
        else:
            yield from (folder / package).rglob("*.py")


def measure(package, folders):
    """Parse every module of one package and count what is in it."""
    seen, statements = Counter(), Counter()
    for file in sorted(files_of(package, folders)):
        with ONE_AT_A_TIME:
            tree = ast.parse(file.read_text(encoding="utf-8"), file.name)
        seen["modules"] += 1
        seen["lines"] += len(file.read_bytes().splitlines())
        for node in ast.walk(tree):
            if isinstance(node, ast.stmt):
                statements[type(node).__name__] += 1
    seen["functions"] = statements["FunctionDef"] + statements["AsyncFunctionDef"]
    seen["classes"] = statements["ClassDef"]
    return {"package": package, **seen}, dict(statements)


def add_up(counts):
    """The reduce: ``counts`` is the list of what each item of the map returned."""
    total = Counter()
    for count in counts:
        total.update({name: n for name, n in count.items() if name != "package"})
    return dict(total), "large" if len(counts) > 12 else "small"


def all_rows(counts):
    return counts


def ten_rows(counts):
    """The ten biggest, and the others as one."""
    ranked = sorted(counts, key=lambda count: -count.get("lines", 0))
    others, _ = add_up(ranked[10:])
    return [*ranked[:10], {"package": f"{len(ranked) - 10} others", **others}]


def biggest(counts):
    return max(counts, key=lambda count: count.get("lines", 0))["package"]


def habits(statements):
    """The three statements used most."""
    used = sum(map(Counter, statements), Counter())
    return [name for name, _ in used.most_common(3)]


def table(rows, total, biggest_package, favourites, attempt: runstore.Attempt):
    columns = ["package", *total]
    with open(attempt.folder / "census.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval=0)
        writer.writeheader()
        writer.writerows([*rows, {"package": "total", **total}])
    attempt.save("census.csv")
    print(f"{len(rows)} rows; the biggest is {biggest_package}; mostly {', '.join(favourites)}")


task, sequence = runstore.task, runstore.sequence

pipeline = sequence(
    task(find_packages, returns="packages"),
    runstore.Map(
        name="measure",
        over="packages",
        as_="package",
        body=sequence(task(measure, name="count", returns=["counts", "statements"])),
    ),
    task(add_up, returns=["total", "size"]),
    runstore.Conditional(
        name="shape",
        on="size",
        branches={
            "small": sequence(task(all_rows, returns="rows")),
            "large": sequence(task(ten_rows, returns="rows")),
        },
    ),
    runstore.Parallel(
        name="summaries",
        branches={
            "size": sequence(task(biggest, returns="biggest_package")),
            "habits": sequence(task(habits, returns="favourites")),
        },
    ),
    task(table),
)
