"""What `test_compare` lets a process of its own do: the libraries start threads, which do not bear a fork."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence

from benchmarks.workloads import Workload


def results_of_forms(library: str, jobs: Sequence[Workload], only: Sequence[str] = ()) -> list[dict]:
    """By form, what a library's first call returns at each job."""
    forms = pkgutil.resolve_name(f"benchmarks.peers.{library}:forms")
    return [
        {
            form: [float(value) for value in build(job, job.weights(), 1)()]
            for form, build in forms(job).items()
            if not only or form in only
        }
        for job in jobs
    ]
