"""Several runs of ``compare`` as one: medians of what they measured, and goals that most of them met."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

Results = dict[str, Any]


class DifferentRunsError(Exception):
    """Runs of different processors or instruction sets are not one."""


def combined(runs: Sequence[Results]) -> Results:
    """One run's results from those of several, which may have measured different jobs.

    A number is the median of the runs that have it. A goal is met if it was met in more than half of them,
    such as in two of three.
    """
    first = runs[0]
    if len(runs) == 1:
        return first
    for run in runs:
        if any(run["machine"][key] != first["machine"][key] for key in ("processor", "isa")):
            raise DifferentRunsError("the files are of different processors or instruction sets")
    jobs: defaultdict[str, list[Results]] = defaultdict(list)
    goals: defaultdict[tuple[str, ...], list[Results]] = defaultdict(list)
    for run in runs:
        for job in run["jobs"]:
            jobs[job["name"]].append(job)
        for goal in run["goals"]:
            goals[goal["job"], goal["library"], goal["goal"], goal["threads"]].append(goal)
    threads = sorted({n for run in runs for n in run["settings"]["threads"]})
    return {
        "machine": first["machine"],
        "settings": {**first["settings"], "threads": threads},
        "runs": len(runs),
        "missing": {name: why for run in runs for name, why in run["missing"].items()},
        "jobs": [job_of(same) for same in jobs.values()],
        "goals": [goal_of(same) for same in goals.values()],
    }


def job_of(same: Sequence[Results]) -> Results:
    """A job of several runs as one."""
    results: defaultdict[tuple[str, int], list[Results]] = defaultdict(list)
    peaks: defaultdict[str, list[float]] = defaultdict(list)
    for job in same:
        for result in job["results"]:
            results[result["library"], result["threads"]].append(result)
        for threads, peak in job["peak_gflops"].items():
            peaks[threads].append(peak)
    return {
        **same[0],
        "peak_gflops": {threads: statistics.median(of_runs) for threads, of_runs in peaks.items()},
        "results": [result_of(of_runs) for of_runs in results.values()],
    }


def result_of(same: Sequence[Results]) -> Results:
    """A library's results in several runs as one; what is no single number is the first run's."""
    medians = {
        name: statistics.median(result[name] for result in same)
        for name in ("characters_per_second", "gflops", "percent_of_peak", "peak_memory_bytes")
    }
    return {**same[0], **medians}


def goal_of(same: Sequence[Results]) -> Results:
    """A goal in several runs as one."""
    met = sum(goal["met"] for goal in same)
    value = statistics.median(goal["value"] for goal in same)
    return {**same[0], "value": value, "met": 2 * met > len(same), "met_in": f"{met} of {len(same)}"}
