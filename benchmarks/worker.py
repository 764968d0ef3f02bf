"""The process of one library and one job: commands on stdin, answers on stdout, as JSON lines.

``compare`` starts it with the environment variables set. It pins itself to as many cores as it has threads,
before it imports a library that could start threads.
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
    """The seconds of a call: the mean over so many seconds of calls, after one that fills the caches.

    If the first call takes as long as that, it is the only one.
    """
    times: list[float] = []
    while not times or (times[0] < seconds and sum(times[1:]) < seconds):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    counted = times[1:] or times
    return sum(counted) / len(counted)


def answers(job: Workload, forms: dict[str, Build], threads: int) -> Iterator[dict[str, object]]:
    """Answer the commands: list the forms, start a form, and measure it once."""
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
    stdout, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not be read as an answer
    job = next(job for job in WORKLOADS if job.name == options.job)
    try:
        forms = pkgutil.resolve_name(options.forms)(job)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=stdout, flush=True)
        return
    for answer in answers(job, forms, options.threads):
        # Linux counts in KiB; the count starts at the parent's maximum, which is smaller than any library's
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({**answer, "memory": memory}), file=stdout, flush=True)


if __name__ == "__main__":
    main()
