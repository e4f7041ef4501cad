"""The documentation as a site: `make docs`. Its pages are those that are read in the repository."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent

project = "runstore"
author = "the runstore authors"
release = re.search(r'__version__ = "(.*)"', (ROOT / "runstore/version.py").read_text())[1]
version = release

extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/**.md", "examples/wrong-file-name/README.md"]
root_doc = "docs/index"
html_theme = "furo"
html_title = f"runstore {release}"

myst_heading_anchors = 4
# A link to a page or a heading that is not there is a warning, and each warning is an error (-W).
nitpicky = True
