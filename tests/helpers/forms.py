"""Runs libraries for `test_compare` in their own processes, because a process with threads must not fork."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence

from benchmarks.workloads import Workload


def results_of_forms(library: str, jobs: Sequence[Workload], only: Sequence[str] = ()) -> list[dict]:
    """The results of a library's first call of each job, by form."""
    forms = pkgutil.resolve_name(f"benchmarks.peers.{library}:forms")
    return [
        {
            form: [float(value) for value in build(job, job.weights(), 1)()]
            for form, build in forms(job).items()
            if not only or form in only
        }
        for job in jobs
    ]
