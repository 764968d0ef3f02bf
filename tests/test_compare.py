"""The comparison with other libraries: what it checks and what it concludes, without its times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import compare, goals
from benchmarks.workloads import WORKLOADS

SEED = WORKLOADS[0]


def comparison(seconds):
    """What `compare` hands on, from the seconds that a library takes, all on one thread."""
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


def test_a_worker_says_that_its_library_is_missing():
    command = [sys.executable, "-m", "benchmarks.worker", "benchmarks.peers.nowhere:forms", "seed", "1"]
    root = Path(compare.__file__).parent.parent
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, input="", text=True, check=True)
    assert "nowhere" in json.loads(done.stdout)["missing"]


def test_the_script_agrees_with_the_reference(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("numba")  # measures the peak
    compare.main(["--quick", "--jobs", "seed", "--libraries", "numpy", "--output", str(tmp_path)])
    assert "NumPy script" in capsys.readouterr().out
    (result,) = (
        one for one in json.loads((tmp_path / "compare.json").read_text())["jobs"][0]["results"]
        if one["threads"] == 1
    )  # fmt: skip
    assert result["characters_per_second"] > 0
    assert (tmp_path / "compare.png").stat().st_size > 0
