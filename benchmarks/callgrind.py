"""What valgrind's tool callgrind writes: the instructions of each function of each object file.

Its format: https://valgrind.org/docs/manual/cl-format.html. A name comes with a number, and later the number
stands for it; a line of costs belongs to the object and the function that were named last; the line after
``calls=`` is the cost of the called function, which has lines of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: OpenBLAS asks the processor itself, and valgrind 3.19 knows no AVX-512.
ENVIRONMENT = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "1"}

NAME = re.compile(r"(c?(?:ob|fn))=\((\d+)\)(?: (.*))?")


def costs(lines: Iterable[str]) -> Counter[tuple[str, str]]:
    """Instructions by object file and function, from the lines of a file of callgrind."""
    names: dict[tuple[str, str], str] = {}
    found: Counter[tuple[str, str]] = Counter()
    here = {"ob": "", "fn": ""}
    after_call = False
    for line in lines:
        if named := NAME.match(line):
            kind, number, name = named.groups()
            key = kind[-2:], number
            if name is not None:
                names[key] = name.rstrip("\n")
            if kind in here:
                here[kind] = names[key]
        elif line.startswith("calls="):
            after_call = True
        elif line[:1].isdigit() or line[:1] in {"+", "-", "*"}:
            if not after_call:
                found[here["ob"], here["fn"]] += int(line.split()[1])
            after_call = False
    return found


def find() -> str:
    """The path of valgrind.

    Raises
    ------
    FileNotFoundError
        It is not installed.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise FileNotFoundError("valgrind is not installed (Debian: apt install valgrind)")
    return valgrind


def run(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], *options: str
) -> Counter[tuple[str, str]]:
    """Run a Python module under callgrind, and count."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind.out")
        command = [find(), "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}", *options]
        subprocess.run(
            [*command, sys.executable, "-m", module, *arguments],
            cwd=ROOT, env={**environment, **ENVIRONMENT}, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with out.open(encoding="utf-8", errors="replace") as lines:
            return costs(lines)
