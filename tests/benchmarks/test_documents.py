"""What `compare` writes into the pages, and several runs as one, with made-up results."""

import pytest

from benchmarks import documents, goals, report, runs
from benchmarks.workloads import WORKLOADS

PAGE = "before\n<!-- compare:{0} begin -->\nold {0}\n<!-- compare:{0} end -->\nafter\n"


def run_of(speed, isa="v4"):
    """A run in which fastrnn's C has a speed and PyTorch a tenth of 100, of every job."""
    jobs = [
        {
            "name": job.name,
            "peak_gflops": {"1": 200.0},
            "results": [
                {
                    "job": job.name, "library": name, "threads": 1, "characters_per_second": value,
                    "gflops": value, "percent_of_peak": value / 2, "peak_memory_bytes": 1e6,
                    "seconds_to_first_result": {"cold": 1.0, "warm": None},
                }
                for name, value in (("c", speed), ("torch", 10.0))
            ],
        }
        for job in WORKLOADS
    ]  # fmt: skip
    machine = {
        "processor": "A Processor", "isa": isa, "own_isa": "v4", "cores": 2, "python": "3.11",
        "versions": {"numpy": "2.0"},
    }  # fmt: skip
    results = {"machine": machine, "settings": {"threads": [1], "repeats": 3}, "missing": {}, "jobs": jobs}
    return {**results, "goals": goals.evaluate(results)}


@pytest.fixture
def pages(tmp_path):
    """A folder with both pages, which have a part for each class."""
    (tmp_path / "docs").mkdir()
    for name in documents.PAGES:
        (tmp_path / name).write_text(PAGE.format("v4") + PAGE.format("v3"))
    return tmp_path


@pytest.mark.parametrize(("isa", "other"), [("v4", "v3"), ("v3", "v4")])
def test_a_run_writes_the_part_of_its_class(pages, isa, other):
    documents.write(run_of(42.0, isa), pages)
    documents.write(run_of(43.0, isa), pages)
    for name in documents.PAGES:
        text = (pages / name).read_text()
        assert f"old {other}" in text
        assert f"old {isa}" not in text
        assert text.count("before\n") == text.count("\nafter\n") == 2
        assert ("A Processor, held to AVX2" in text) == (isa == "v3")
        assert "| 43 |" in text
        assert "42" not in text.replace("2.42", "")
    assert "| train a GRU, T 50, B 50, H 256 | 43 |  | 10 |  |" in (pages / "README.md").read_text()


def test_the_pages_of_the_project_have_both_parts():
    for name in documents.PAGES:
        text = (documents.ROOT / name).read_text(encoding="utf-8")
        for isa in goals.CLASSES:
            assert "a part" in documents.replaced(text, f"compare:{isa}", "a part")


def test_a_run_that_left_out_a_job_is_not_written(pages):
    partial = run_of(42.0)
    del partial["jobs"][0]
    with pytest.raises(ValueError, match="nothing is written: seed was not measured"):
        documents.write(partial, pages)
    with pytest.raises(ValueError, match="the class was not measured"):
        documents.write(run_of(42.0, "baseline"), pages)
    assert "old v4" in (pages / "README.md").read_text()


def test_a_page_without_markers_is_not_written():
    with pytest.raises(ValueError, match="needs the markers"):
        documents.replaced("text", "compare:v4", "a part")


@pytest.mark.parametrize(("speeds", "met"), [((200, 160, 100), True), ((200, 100, 101), False)])
def test_a_goal_is_met_in_two_of_three_runs(speeds, met):
    merged = runs.combined([run_of(float(speed)) for speed in speeds])
    (goal,) = (
        one for one in merged["goals"] if (one["job"], one["goal"]) == ("batched", "per cent of the fma peak")
    )
    assert goal["met"] is met
    assert goal["met_in"] == ("2 of 3" if met else "1 of 3")
    (result,) = (one for one in merged["jobs"][3]["results"] if one["library"] == "c")
    assert result["characters_per_second"] == sorted(speeds)[1]
    text = report.markdown(merged)
    assert "of 3 runs" in text
    assert f"| batched | per cent of the fma peak | ≥ 80 | ≥ 70 |  | {goal['value']:.3g} (" in text


def test_runs_of_different_classes_are_not_merged():
    with pytest.raises(runs.DifferentRunsError, match="different processors or instruction sets"):
        runs.combined([run_of(1.0), run_of(1.0, "v3")])
