"""The comparison with other libraries: its checks and its conclusions, without real times."""

import json
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from helpers.forms import results_of_forms

from benchmarks import compare, goals
from benchmarks.peers.fastrnn import network
from benchmarks.workloads import TRAINING, TRAINING_CELLS, WORKLOADS, Training

SEED = WORKLOADS[0]


def comparison(seconds):
    """The results of `compare` for these seconds of each library, all on one thread."""
    results = [
        {
            "job": "seed",
            "library": library,
            "threads": 1,
            "characters_per_second": 1 / time,
            "percent_of_peak": 1.0,
        }
        for library, time in seconds.items()
    ]
    return {"jobs": [{"name": "seed", "dtype": "float64", "results": results}]}


def test_other_results_stop_the_run():
    compare.check([5.0, 2.0], [5.0, 2.0 + 1e-7], SEED, "a library")
    for values in ([5.0, 2.0001], [5.0, float("nan")]):
        with pytest.raises(RuntimeError, match="a library, seed: result 1 is"):
            compare.check(values, [5.0, 2.0], SEED, "a library")


def test_goals_are_judged_by_ratios():
    outcomes = goals.evaluate(comparison({"numba": 1.0, "c": 1.3, "numpy": 260.0, "jax": 10.0}))
    met = {(outcome["goal"], outcome["library"]): outcome["met"] for outcome in outcomes}
    assert met == {
        ("times faster than NumPy script", "numba"): True,
        ("times faster than NumPy script", "c"): False,
        ("times faster than JAX", "numba"): True,
        ("times faster than JAX", "c"): False,
        ("times slower than the other backend", "numba"): True,
        ("times slower than the other backend", "c"): False,
    }


def test_a_library_that_was_not_measured_has_no_goals():
    assert goals.evaluate(comparison({"c": 1.0})) == []


def test_goals_are_of_jobs_that_there_are():
    names = {job.name for job in WORKLOADS}
    assert names >= {*goals.TIMES_FASTER, *goals.PERCENT_OF_PEAK, *goals.TWO_THREADS}


def test_operations_are_those_of_the_products():
    T, B, V, H = 2, 3, 5, 7
    for cell, G in ("rnn", 1), ("gru", 3), ("lstm", 4):
        for L in 1, 2, 3:
            job = Training("a job", T, B, V, H, "float32", "sgd", 0.1, windows=1, cell=cell, num_layers=L)
            matrices = [a for name, a in job.weights().items() if a.ndim == 2 and name != "weight_ih_l0"]
            assert job.operations == 3 * T * B * sum(2 * matrix.size for matrix in matrices)
            assert matrices[0].shape == (G * H, H)


@pytest.mark.parametrize("job", [*TRAINING, *TRAINING_CELLS], ids=lambda job: job.name)
def test_weights_are_those_of_a_network(job):
    parameters = network(job, job.weights(), 1, "numpy").parameters
    assert {name: view.shape for name, view in parameters.items()} == job.shapes()


def results_of(library, jobs, only=()):
    """The results by job and form; the library is loaded in its own process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(results_of_forms, library, jobs, only).result()
        except ImportError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("library", ["numpy", "onnxruntime"])
def test_libraries_without_cells_say_so(library):
    assert results_of(library, TRAINING_CELLS) == [{}] * len(TRAINING_CELLS)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_every_form_of_a_library_does_the_same(library):
    """Small jobs are compared with PyTorch's modules. A wrong gate or bias would change the second loss."""
    jobs = [
        Training("a job", 5, 3, 5, 8, "float64", "adagrad", 0.01, windows=3, cell=cell, num_layers=layers)
        for cell, layers in (("rnn", 1), ("gru", 2), ("lstm", 2))
    ]
    expected = results_of("torch", jobs, ["one-hot, loop"])
    for job, wanted, results in zip(jobs, expected, results_of(library, jobs), strict=True):
        for form, losses in results.items():
            compare.check(losses, wanted["one-hot, loop"], job, f"{library}, {form}, {job.cell}")


def test_a_worker_says_that_its_library_is_missing():
    command = [sys.executable, "-m", "benchmarks.worker", "benchmarks.peers.nowhere:forms", "seed", "1"]
    root = Path(compare.__file__).parent.parent
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, input="", text=True, check=True)
    assert "nowhere" in json.loads(done.stdout)["missing"]


@pytest.mark.slow
def test_the_script_agrees_with_the_reference(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("numba")  # it measures the peak
    compare.main(["--quick", "--jobs", "seed", "--libraries", "numpy", "--output", str(tmp_path)])
    assert "NumPy script" in capsys.readouterr().out
    (result,) = (
        one for one in json.loads((tmp_path / "compare.json").read_text())["jobs"][0]["results"]
        if one["threads"] == 1
    )  # fmt: skip
    assert result["characters_per_second"] > 0
    assert (tmp_path / "compare.png").stat().st_size > 0
