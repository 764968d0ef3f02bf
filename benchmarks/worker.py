"""The process of one library and one job: commands on stdin, answers on stdout, a JSON object a line.

It is started by ``compare``, with the environment's variables set, and pins itself to as many cores as it
has threads before it imports anything that could start some.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import resource
import sys
import time
from collections.abc import Iterator

from benchmarks.peers import Build, Run
from benchmarks.workloads import WORKLOADS, Workload


def timed(run: Run, seconds: float) -> float:
    """Seconds of a call: the mean of calls that take so long, after one that fills the caches.

    A call that takes so long by itself is the only one.
    """
    times: list[float] = []
    while not times or (times[0] < seconds and sum(times[1:]) < seconds):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    counted = times[1:] or times
    return sum(counted) / len(counted)


def answers(job: Workload, forms: dict[str, Build], threads: int) -> Iterator[dict[str, object]]:
    """Answer the commands: what forms there are, to start one, and to measure it once."""
    run: Run
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "list":
            yield {"forms": list(forms)}
        elif command["do"] == "start":
            build = forms[command["form"]]
            first = build(job, job.weights_of_check(), threads)()
            yield {"values": [float(value) for value in first[: job.checked]]}
            run = build(job, job.weights(), threads)
        elif command["do"] == "measure":
            yield {"seconds": timed(run, command["seconds"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("forms")
    parser.add_argument("job")
    parser.add_argument("threads", type=int)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.threads :])
    stdout, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    job = next(job for job in WORKLOADS if job.name == options.job)
    try:
        forms = pkgutil.resolve_name(options.forms)(job)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=stdout, flush=True)
        return
    for answer in answers(job, forms, options.threads):
        # Linux counts in KiB, and from the parent's maximum on, which is smaller than any library's
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({**answer, "memory": memory}), file=stdout, flush=True)


if __name__ == "__main__":
    main()
