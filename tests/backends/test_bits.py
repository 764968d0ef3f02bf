"""Numba and C give the bits of tests/files/bits.json, with any instruction set and number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import require_isa
from helpers import bits

#: The updates of a training; the tests with many updates are slow.
UPDATES = [bits.FEW, pytest.param(bits.MANY, marks=pytest.mark.slow)]


def digests(
    backend: str, threads: int, updates: int, shared: str = "rows", **environment: str
) -> dict[str, dict[str, str]]:
    """Return what `bits.digests` returns, from its own process."""
    run = subprocess.run(
        [sys.executable, bits.__file__, backend, str(threads), str(updates), shared],
        env={**os.environ, "PYTHONPATH": str(Path(bits.__file__).parent), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, str]] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("threads", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_bits_are_those_that_are_written_down(compiled: str, threads: int, updates: int):
    if threads > 2 and updates > bits.FEW:
        pytest.skip("more threads than cores wait long for each other")
    assert digests(compiled, threads, updates) == bits.written(updates)


@pytest.mark.parametrize("threads", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_threads_that_share_columns_give_the_same_bits(compiled: str, threads: int):
    assert digests(compiled, threads, bits.FEW, "columns") == bits.written(bits.FEW)


@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("isa", ["v4", "v3", pytest.param("baseline", marks=pytest.mark.slow)])
def test_every_build_of_c_gives_the_same_bits(isa: str, updates: int):
    require_isa("c", isa)
    if isa == "baseline" and updates > bits.FEW:
        pytest.skip("fused multiply-adds in software take long")
    assert digests("c", 1, updates, FASTRNN_ISA=isa) == bits.written(updates)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["v3", "baseline"])
def test_every_target_of_numba_gives_the_same_bits(isa: str):
    """A processor that has v4 compiles for it by itself, and the other tests compare those bits."""
    require_isa("numba", isa)
    assert digests("numba", 1, bits.FEW, FASTRNN_ISA=isa) == bits.written(bits.FEW)


def test_blas_changes_nothing():
    environment = {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "1"}
    assert digests("c", 1, bits.FEW, **environment) == bits.written(bits.FEW)


def test_digests_are_of_what_the_arithmetic_gives():
    """Another text has another digest, and more updates change every digest of every training."""
    one, other = (bits.digest(bits.made_up_text(n)) for n in (100, 101))
    assert one != other
    for parts in zip(
        *(found.values() for found in (bits.written(bits.FEW), bits.written(bits.MANY))), strict=True
    ):
        assert all(few != many for few, many in zip(*(part.values() for part in parts), strict=True))
