"""Backends are found by name, and a missing backend is reported."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import require_backend, require_isa

import fastrnn
from fastrnn.backends import c, registry
from fastrnn.backends.backend import forced_isa
from fastrnn.backends.registry import BACKENDS, get_backend


def forget() -> None:
    """Forget which backends were found, so that they are looked for again."""
    registry._load.cache_clear()
    registry._find_first.cache_clear()


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
    found = [name for name in BACKENDS if not isinstance(registry.find_backend(name), str)]
    assert BACKENDS == ("c", "numba", "numpy")
    assert get_backend("auto").name == found[0]
    without("numba", "fastrnn.backends._c_baseline")
    assert get_backend("auto").name == get_backend("auto").name == "numpy"
    (record,) = caplog.records
    assert "numpy is slow: backend='c' was not compiled" in record.message
    assert "backend='numba' needs Numba" in record.message
    assert fastrnn.train("hello", steps=3, hidden_size=2).network.backend.name == "numpy"


def test_a_missing_backend_says_why_and_what_to_do(without):
    without("numba", "fastrnn.backends._c_baseline")
    with pytest.raises(fastrnn.BackendUnavailableError, match="backend='numba' needs Numba.*pip install"):
        get_backend("numba")
    with pytest.raises(
        fastrnn.BackendUnavailableError, match="backend='c' was not compiled.*gcc, python3-dev"
    ):
        get_backend("c")


def test_c_falls_back_to_a_build_that_is_there(without, monkeypatch: pytest.MonkeyPatch):
    require_backend("c")
    monkeypatch.delenv("FASTRNN_ISA", raising=False)
    without("fastrnn.backends._c_v3", "fastrnn.backends._c_v4")
    assert get_backend("c").description.version == "C build baseline"
    assert fastrnn.train("hello", preset="scratch", backend="c").history[-1]["loss"] < 0.002


def test_every_build_of_c_that_runs_here_learns_the_same(without, monkeypatch: pytest.MonkeyPatch):
    require_backend("c")
    monkeypatch.delenv("FASTRNN_ISA", raising=False)
    losses = []
    for hidden in ([], ["v4"], ["v4", "v3"]):
        without(*[f"fastrnn.backends._c_{isa}" for isa in hidden])
        losses.append(fastrnn.train("hello", preset="scratch", backend="c").history[-1]["loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-9)


def test_fastrnn_isa_forces_a_build_of_c(without, monkeypatch: pytest.MonkeyPatch):
    require_backend("c")
    monkeypatch.setenv("FASTRNN_ISA", "baseline")
    without()
    assert get_backend("c").description.version == "C build baseline"


@pytest.mark.parametrize("isa", ["v9", "avx2", "V3", " "])
def test_an_instruction_set_that_does_not_run_here_is_refused(
    compiled: str, isa: str, without, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FASTRNN_ISA", isa)
    without()
    message = f"FASTRNN_ISA='{isa}' is not an instruction set that this .* runs; set it to one of .*baseline"
    with pytest.raises(fastrnn.BackendUnavailableError, match=message):
        get_backend(compiled)


def test_an_instruction_set_is_forced_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FASTRNN_ISA", "v3")
    assert forced_isa(["v4", "v3", "baseline"]) == "v3"
    with pytest.raises(fastrnn.BackendUnavailableError, match="set it to one of baseline, or do not set it"):
        forced_isa(["baseline"])
    monkeypatch.setenv("FASTRNN_ISA", "")
    assert forced_isa(["baseline"]) is None


def test_the_fastest_build_follows_the_processor(without, monkeypatch: pytest.MonkeyPatch):
    require_backend("c")
    monkeypatch.delenv("FASTRNN_ISA", raising=False)
    without()
    isa, module = c._choose_build()
    level = module.lib.fr_processor_level()
    assert isa == {4: "v4", 3: "v3", 0: "baseline"}[level]
    assert bool(module.lib.fr_has_fma()) >= (level >= 3)


TARGET = """
import json, re, sys
import numpy as np
import fastrnn
backend = fastrnn.get_backend("numba")
backend.sgd_update(
    params=np.ones(99), moments=np.ones((0, 99)), grads=np.ones(99), settings=np.zeros(6), limit=1.0,
    scale=1.0, begin=0, end=99, n=99,
)
from fastrnn.backends.numba import jit, sgd_update
(code,) = sgd_update.inspect_asm().values()
registers = re.findall(r"%([xyz])mm", code)
print(json.dumps([backend.description.vector_bits, backend.description.fma, jit.WIDTH, max(registers)]))
"""


@pytest.mark.parametrize(
    ("isa", "expected"),
    [
        ("v4", [512, True, 512, "z"]),
        ("v3", [256, True, 256, "y"]),
        ("baseline", [128, False, 128, "x"]),
    ],
)
def test_fastrnn_isa_is_what_numba_compiles_for(isa: str, expected: list[object], tmp_path: Path):
    require_isa("numba", isa)
    actual = output_of(TARGET, FASTRNN_ISA=isa, NUMBA_CACHE_DIR=str(tmp_path))
    assert json.loads(actual) == expected


def test_numba_obeys_what_it_is_told_to_compile_for():
    """Numba's own variables or FASTRNN_ISA choose the target; FASTRNN_ISA is refused if it comes too late."""
    require_isa("numba", "v3")
    program = "import fastrnn; print(fastrnn.get_backend('numba').description.vector_bits)"
    environment = {"FASTRNN_ISA": "", "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    assert output_of(program, **environment) == "256"
    used = "import numba; numba.njit(lambda x: x)(1); " + program
    assert "FASTRNN_ISA='v3' comes too late for backend='numba'" in output_of(used, FASTRNN_ISA="v3")
    late = "import os, fastrnn; from fastrnn.backends import numba; os.environ['FASTRNN_ISA'] = 'baseline'; "
    assert "FASTRNN_ISA='baseline' comes too late" in output_of(late + program, FASTRNN_ISA="")


def test_numba_s_cache_holds_kernels_of_each_instruction_set(tmp_path: Path):
    require_isa("numba", "v3")
    found = [set(tmp_path.rglob("*.nbc"))]
    for isa in ("v3", "baseline", "v3", "baseline"):
        assert output_of(NORM, FASTRNN_ISA=isa, NUMBA_CACHE_DIR=str(tmp_path)) == "[5.0]"
        found.append(set(tmp_path.rglob("*.nbc")))
    assert [len(files) for files in found] == [0, 1, 2, 2, 2]


def test_backends_pickle_by_name(backend: str):
    assert pickle.loads(pickle.dumps(get_backend(backend))) is get_backend(backend)
    assert backend in repr(get_backend(backend))


NORM = """
import numpy as np
import fastrnn
norm = np.empty(1)
fastrnn.get_backend("numba").gradient_norm(norm=norm, grads=np.array([3.0, -9.0]), limit=4.0, n=2)
print(norm.tolist())
"""


def output_of(program: str, **environment: str) -> str:
    """Run a program in its own process; return what it prints, or its error."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    return done.stdout.strip() or done.stderr


def test_numba_without_its_compiler_is_missing():
    require_backend("numba")
    assert "NUMBA_DISABLE_JIT disables it" in output_of(NORM, NUMBA_DISABLE_JIT="1")


def test_an_installation_without_c_says_so_once(without, caplog: pytest.LogCaptureFixture):
    require_backend("numba")
    without("fastrnn.backends._c_baseline")
    with caplog.at_level("INFO", "fastrnn"):
        get_backend("auto")
        get_backend("auto")
    (record,) = caplog.records
    assert record.message.startswith("backend='auto' chooses numba: backend='c' was not compiled")


AUTO = """
import sys
from click.testing import CliRunner
import fastrnn
from fastrnn.cli.main import main
fastrnn.train("hello " * 20, steps=5, hidden_size=4).save(sys.argv[1])
for command, *options in (["sample", "-n", "20"], ["eval", "-"], ["info"]):
    assert CliRunner().invoke(main, [command, sys.argv[1], *options], input=b"hello").exit_code == 0
print({"numba", "llvmlite"} & set(sys.modules))
"""


def test_auto_with_c_never_imports_numba(tmp_path: Path):
    require_backend("c")
    command = [sys.executable, "-c", AUTO, str(tmp_path / "m")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")
