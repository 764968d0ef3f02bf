"""Finding, naming and missing backends."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn
from fastrnn import backends
from fastrnn.backends import BACKENDS, c, get_backend


def forget() -> None:
    """Let backends be looked for anew."""
    backends._load.cache_clear()
    backends._find_first.cache_clear()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """A function that makes modules impossible to import."""

    def hide(*modules: str) -> None:
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
        forget()

    yield hide
    monkeypatch.undo()
    forget()


def test_auto_is_the_first_that_is_there(without, caplog: pytest.LogCaptureFixture):
    found = [name for name in BACKENDS if not isinstance(backends.find_backend(name), str)]
    assert get_backend("auto").name == found[0]
    without("numba", "fastrnn.backends._c_baseline")
    assert get_backend("auto").name == get_backend("auto").name == "numpy"
    (record,) = caplog.records
    assert "numpy is slow: backend='numba' needs Numba" in record.message
    assert fastrnn.train("hello", steps=3, hidden_size=2).network.backend.name == "numpy"


def test_a_missing_backend_says_why_and_what_to_do(without):
    without("numba", "fastrnn.backends._c_baseline")
    with pytest.raises(fastrnn.BackendUnavailableError, match="backend='numba' needs Numba.*pip install"):
        get_backend("numba")
    with pytest.raises(
        fastrnn.BackendUnavailableError, match="backend='c' was not compiled.*gcc, python3-dev"
    ):
        get_backend("c")


def test_c_falls_back_to_a_build_that_is_there(without):
    if isinstance(backends.find_backend("c"), str):
        pytest.skip("the C backend is not here")
    without("fastrnn.backends._c_v3", "fastrnn.backends._c_v4")
    assert get_backend("c").description.version == "C build baseline"
    assert fastrnn.train("hello", preset="scratch", backend="c").history[-1]["loss"] < 0.002


def test_every_build_of_c_that_runs_here_learns_the_same(without):
    if isinstance(backends.find_backend("c"), str):
        pytest.skip("the C backend is not here")
    losses = []
    for hidden in ([], ["v4"], ["v4", "v3"]):
        without(*[f"fastrnn.backends._c_{isa}" for isa in hidden])
        losses.append(fastrnn.train("hello", preset="scratch", backend="c").history[-1]["loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-9)


def test_the_fastest_build_follows_the_processor():
    if isinstance(backends.find_backend("c"), str):
        pytest.skip("the C backend is not here")
    isa, module = c._fastest_build()
    level = module.lib.fr_processor_level()
    assert isa == {4: "v4", 3: "v3", 0: "baseline"}[level]
    assert bool(module.lib.fr_has_fma()) >= (level >= 3)


def test_backends_pickle_by_name(backend: str):
    assert pickle.loads(pickle.dumps(get_backend(backend))) is get_backend(backend)
    assert backend in repr(get_backend(backend))


def test_numba_does_without_a_cache_that_it_cannot_write(tmp_path: Path):
    """A read-only package and home: compiled all the same, without a crash."""
    if isinstance(backends.find_backend("numba"), str):
        pytest.skip("Numba is not here")
    code = """
import numba.core.caching as caching
class NoPlace:
    @classmethod
    def from_function(cls, function, file):
        return None
caching.CacheImpl._locator_classes = [NoPlace]
from fastrnn.backends import numba as kernels
import numpy as np
grads = np.array([3.0, -9.0])
assert kernels.clip_value(grads, 5.0, 2) == 0
assert kernels.clip_value.stats.cache_path is None
print(grads.tolist())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[3.0, -5.0]", run.stderr
