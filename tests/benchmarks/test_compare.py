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
from benchmarks.peers.fastrnn import c_forms, network
from benchmarks.workloads import TRAINING, TRAINING_CELLS, WORKLOADS, Lines, Training

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
    return {"machine": {"isa": "v4"}, "jobs": [{"name": "seed", "dtype": "float64", "results": results}]}


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
    assert {job.name for job in WORKLOADS} >= goals.GOALS.keys()


@pytest.mark.parametrize(("isa", "met"), [("v4", False), ("v3", True)])
def test_a_class_of_processor_has_goals_of_its_own(isa, met):
    result = {
        "job": "wide",
        "library": "c",
        "threads": 1,
        "percent_of_peak": 80.0,
        "characters_per_second": 1,
    }
    job = {"name": "wide", "results": [result]}
    (outcome,) = goals.evaluate({"machine": {"isa": isa}, "jobs": [job]})
    assert outcome["bounds"] == (86, 78)
    assert outcome["met"] is met
    assert goals.evaluate({"machine": {"isa": "baseline"}, "jobs": [job]}) == []


def test_every_peer_is_to_be_slower():
    results = [
        {"job": "gru", "library": name, "threads": 2, "characters_per_second": speed, "percent_of_peak": 1.0}
        for name, speed in {"c": 3.0, "torch": 2.0, "jax": 4.0}.items()
    ]
    found = goals.evaluate({"machine": {"isa": "v3"}, "jobs": [{"name": "gru", "results": results}]})
    assert [(one["goal"], one["met"]) for one in found] == [
        ("times faster than PyTorch", True), ("times faster than JAX", False),
    ]  # fmt: skip


def test_libraries_are_held_to_an_instruction_set(monkeypatch):
    monkeypatch.delenv("FASTRNN_ISA", raising=False)
    own, v3, v4 = (compare.environment(1, "", isa) for isa in (None, "v3", "v4"))
    assert (v3["FASTRNN_ISA"], v4["FASTRNN_ISA"]) == ("v3", "v4")
    assert v3["ATEN_CPU_CAPABILITY"] == "avx2"
    assert v3["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=false --xla_cpu_max_isa=AVX2"
    assert own.items() < v4.items()
    assert own["XLA_FLAGS"] == v4["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=false"


def test_the_generation_of_a_processor_is_named():
    text = "model name\t: AMD EPYC\ncpu family\t: {}\nflags\t\t: avx2 {} sse\n"
    for family, flag, name in (25, "", "Zen 3"), (25, "avx512f", "Zen 4"), (26, "avx512f", "Zen 5"):
        assert compare.processor_name(text.format(family, flag)) == f"AMD EPYC ({name})"
    assert compare.processor_name("model name\t: A\ncpu family\t: 6\n") == "A"


def test_an_instruction_set_that_the_processor_lacks_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(compare, "own_isa", lambda: "v3")
    with pytest.raises(SystemExit):
        compare.parse(["--isa", "v4"])
    assert "this processor has v3" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        compare.parse(["--write-docs", "--jobs", "seed"])


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


def lines_forms(library, job):
    """The bits of the first line in each form."""
    if library == "fastrnn":
        return {"public interface": c_forms(job)["public interface"](job, job.weights(), 1)()}
    return results_of(library, [job])[0]


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


@pytest.mark.parametrize("may_sort", [False, True])
def test_every_way_to_pad_lines_gives_the_same(may_sort):
    job = Lines("a job", 30, 150, 7, 8, "float64", shortest=2, may_sort=may_sort)
    ours, theirs = (lines_forms(name, job) for name in ("fastrnn", "torch"))
    expected = ours["public interface"]
    assert len(expected) == 30
    assert len(theirs) == 10
    for form, bits in theirs.items():
        compare.check(bits, expected, job, form)


def test_lines_have_the_lengths_that_are_stated():
    job = Lines("a job", 9, 400, 7, 8, "float64", shortest=3, may_sort=False)
    lengths = {len(line) - 1 for line in job.lines()}
    assert lengths == set(range(3, 10))
    assert job.characters == sum(len(line) - 1 for line in job.lines())


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
