"""Tests of kernels, bits, denormals and cells for each instruction set of the processor: ``make test-isa``.

So a machine with AVX-512 finds what fails on one without. The baseline, whose fused multiply-adds are
software, has a short selection; ``make test-all`` compares the bits of whole trainings between all of them.
With ``--others``, as in CI, the instruction set that is taken where none is forced is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys

from fastrnn.backends import c
from fastrnn.errors import BackendUnavailableError

FILES = [
    *(f"tests/backends/test_{name}.py" for name in ("backends", "kernels", "elementary", "bits")),
    *(f"tests/network/test_{name}.py" for name in ("denormals", "cells")),
]

#: What is run of these files, as pytest's ``-k`` names it.
SELECTIONS = {
    "v4": "not every_build and not every_target",
    "v3": "not every_build and not every_target",
    "baseline": "test_backends or in_c_and_numba or errors_are or no_update"
    " or (no_training and float32-adagrad)",
}


def runs_here(isa: str) -> bool:
    """Whether the processor runs an instruction set, which is forced from here on, and fastrnn has it."""
    os.environ["FASTRNN_ISA"] = isa
    try:
        c._choose_build()
    except BackendUnavailableError as error:
        print(f"{isa}: {error}")
        return False
    return True


def main() -> None:
    """Run each selection, and fail where one fails or none is there."""
    codes = []
    here = [isa for isa in SELECTIONS if runs_here(isa)]
    for isa in here[1:] if "--others" in sys.argv else here:
        print(f"FASTRNN_ISA={isa}", flush=True)
        options = ["--quiet", "-m", "", "-k", SELECTIONS[isa], "--numprocesses", "2", "--dist", "loadfile"]
        codes.append(subprocess.call([sys.executable, "-m", "pytest", *options, *FILES]))
    sys.exit(not here or any(codes))


if __name__ == "__main__":
    main()
