"""Prints the oldest versions that pyproject.toml allows, as constraints of pip: ``oldest.py EXTRA``."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
requirements = list(project["dependencies"])
for extra in sys.argv[1:]:
    requirements += project["optional-dependencies"][extra]
for requirement in requirements:
    print(re.sub(r"^([\w-]+)>=([\w.]+)", r"\1==\2", requirement))
