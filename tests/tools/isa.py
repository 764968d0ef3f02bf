"""Tests of kernels, denormals and cells for each instruction set of the processor: ``make test-isa``.

So a machine with AVX-512 also finds failures of machines without it. The baseline has fma in software, so its
selection is short; ``make test-all`` compares the bits of whole trainings between all instruction sets. With
``--others``, as in CI, the instruction set that fastrnn chooses by itself is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys

from fastrnn.backends import c
from fastrnn.errors import BackendUnavailableError

FILES = [
    *(f"tests/backends/test_{name}.py" for name in ("backends", "kernels", "elementary")),
    *(f"tests/network/test_{name}.py" for name in ("denormals", "cells")),
]

#: The longest tests of threads that share columns are left out.
COMMON = "not large_layers"

#: The tests of these files that are run, as an expression for pytest's ``-k``.
SELECTIONS = {
    "v4": COMMON,
    "v3": COMMON,
    "baseline": "test_backends or in_c_and_numba or errors_are or no_update"
    " or (no_training and float32-adagrad)",
}


def runs_here(isa: str) -> bool:
    """Force an instruction set; return whether the processor can run it and fastrnn has a build for it."""
    os.environ["FASTRNN_ISA"] = isa
    try:
        c._choose_build()
    except BackendUnavailableError as error:
        print(f"{isa}: {error}")
        return False
    return True


def main() -> None:
    """Run each selection; fail if a test fails or if no instruction set can be tested."""
    codes = []
    here = [isa for isa in SELECTIONS if runs_here(isa)]
    for isa in here[1:] if "--others" in sys.argv else here:
        print(f"FASTRNN_ISA={isa}", flush=True)
        options = ["--quiet", "-m", "", "-k", SELECTIONS[isa], "--numprocesses", "2", "--dist", "load"]
        codes.append(subprocess.call([sys.executable, "-m", "pytest", *options, *FILES]))
    sys.exit(not here or any(codes))


if __name__ == "__main__":
    main()
