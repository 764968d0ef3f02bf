"""Train each job in its time, with several seeds, and compare with its goal.

``python -m benchmarks.quality`` does all of them, for hours. A job's seconds are those of a machine whose two
cores each do 250 GFLOP/s of float32 fused multiply-adds. The peak of this machine is measured first, and a
slower one gets more time; the highest peak that the file of results has for it counts. With
``--by-updates``, the speed of updates is measured too, and a training has as many updates as its time allows
if nothing else runs. The worst seed counts, and the last result of each seed. Results are appended to a file
of JSON lines that is kept with the source, so that a long run can be done in parts. It needs FASTRNN_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.compare import processor_name, say
from benchmarks.documents import write_part
from benchmarks.peers.peak import gflops_of_core
from benchmarks.quality import report
from benchmarks.quality.jobs import CHOSEN, COUNTED, JOBS, STATED, Job
from benchmarks.quality.run import Machine, Result, run
from benchmarks.quality.texts import TEXTS
from fastrnn.core.thread_team import usable_cores

THREADS = 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--jobs", nargs="*", choices=list(JOBS), help="the default is all without counts")
    parser.add_argument("--adaptation", action="store_true", help="do the jobs with counts")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--backend", default="auto")
    parser.add_argument(
        "--by-updates",
        action="store_true",
        help="train for as many updates as the time allows on an idle machine: it may then be busy",
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("results.jsonl"), help="the file of results"
    )
    parser.add_argument("--write-docs", action="store_true", help="write the tables of the docs")
    options = parser.parse_args(arguments)
    if options.jobs is None:
        options.jobs = [job.name for job in (COUNTED if options.adaptation else (*STATED, *CHOSEN))]
    if options.jobs and not Path(os.environ.get("FASTRNN_DATA") or "/nowhere").is_dir():
        parser.error("FASTRNN_DATA does not name a folder of texts")
    return options


def results_of(job: Job, machine: Machine, options: argparse.Namespace, seed: int) -> list[Result]:
    """Train with the job's settings and, if there are any, with those found by hand."""
    split = TEXTS[job.text]()
    kinds = {"trained": job.settings} | ({} if job.by_hand is None else {"by hand": job.by_hand})
    extra = {"xz_bits": split.xz_bits} if job in CHOSEN else {}
    return [
        {
            **run(job, settings, split, machine, options.backend, seed, by_updates=options.by_updates),
            "kind": kind,
            **extra,
        }
        for kind, settings in kinds.items()
    ]


def measured(processor: str, cores: int, before: Iterable[Result]) -> Machine:
    """The machine, with the highest peak that was measured: when it is busy, trainings get no more time."""
    peaks = [
        one["machine"]["gflops"]
        for one in before
        if (one["machine"]["processor"], one["machine"]["cores"]) == (processor, cores)
    ]
    return Machine(processor, cores, max([gflops_of_core(cores), *peaks]))


def results(file: Path) -> list[Result]:
    """What was found so far."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the jobs, append their results to the file, and print the tables of all that it has."""
    options = parse(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    threads = min(THREADS, usable_cores())
    name = processor_name(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    for seed in options.seeds:
        for job in map(JOBS.get, options.jobs):
            assert job is not None
            machine = measured(name, threads, results(options.output))
            for result in results_of(job, machine, options, seed):
                say(
                    f"{job.name}, {result['kind']}, seed {seed}: {result['nats']:.4f} nats in "
                    f"{result['seconds']:.1f} s here (a peak of {machine.gflops:.0f} GFLOP/s a core)"
                )
                with options.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
    found = results(options.output)
    text, counted = report.markdown(found), report.with_counts(found)
    print(text, counted, sep="\n\n")
    if options.write_docs:
        write_part("docs/quality.md", "quality", text)
        write_part("docs/adaptation.md", "counts", counted)


if __name__ == "__main__":
    main()
