"""Where the time of a job goes, phase by phase and function by function: ``python -m benchmarks.phases JOB``.

It watches a build of the C backend of its own, in which functions keep their names (``make build/profiled``);
this build takes a few per cent longer. A phase is the function of ``csrc`` that an update calls, and below it
are the functions where the time is spent, in the kernels or in the system. The shares are of
the time that perf sees, and the microseconds divide the fastest call. perf tells who called whom. Where it
is missing, callgrind counts instructions instead of time, without AVX-512.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import callgrind, one_job
from benchmarks.workloads import Training, Workload

BUILD = Path("build", "profiled")
MODULES = BUILD / "fastrnn" / "backends"

#: Functions that only call phases.
FRAMES = re.compile(r"(fr_train_windows|fr_network_\w+|gradients|forward|fr_layers_forward)$")

#: What a compiler adds to the name of a changed copy of a function.
COPY = re.compile(r"(\.(constprop|isra|part|cold)(\.\d+)?)+|_f\d\d$")

#: Functions below this part of the time are added up.
SMALL = 0.005

#: Floating-point operations of a job under callgrind.
OPERATIONS = 200_000_000

Stack = tuple[str, ...]


def samples(lines: Iterable[str]) -> Counter[Stack]:
    """Stacks, the called function first, from what ``perf script -F ip,sym,dso`` prints."""
    found: Counter[Stack] = Counter()
    stack: list[str] = []
    for line in [*lines, ""]:
        words = line.split()
        if words:
            stack.append(" ".join(words[1:-1]))
        elif stack:
            found[tuple(stack)] += 1
            stack = []
    return found


def attributed(stacks: Counter[Stack]) -> dict[str, Counter[str]]:
    """What each phase costs, by the function that costs it; only what a kernel does counts."""
    phases: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for stack, cost in stacks.items():
        inner = stack[: next((i for i, name in enumerate(stack) if name.startswith("_cffi_f_")), 0)]
        if inner:
            names = [COPY.sub("", name) for name in inner]
            called = [name for name in names if not FRAMES.match(name)]
            phases[called[-1] if called else names[0]][names[0]] += cost
    return dict(phases)


def table(phases: dict[str, Counter[str]], microseconds: float) -> str:
    """The phases, the longest first, and their functions: per cent and microseconds of an update."""
    total = sum(functions.total() for functions in phases.values())
    lines = [f"{'phase':34}{'function':34}{'%':>7}{'µs':>12}"]

    def add(phase: str, function: str, cost: float) -> None:
        lines.append(f"{phase:34}{function:34}{100 * cost / total:7.1f}{microseconds * cost / total:12.3f}")

    shown = {name: costs for name, costs in phases.items() if costs.total() >= SMALL * total}
    for phase, functions in sorted(shown.items(), key=lambda item: -item[1].total()):
        add(phase, "", functions.total())
        small = sum(cost for cost in functions.values() if cost < SMALL * total)
        for function, cost in functions.most_common():
            if cost >= SMALL * total and len(functions) > 1:
                add("", function, cost)
        if small and len(functions) > 1:
            add("", "others", small)
    add("others", "", total - sum(functions.total() for functions in shown.values()))
    return "\n".join([*lines, f"{'all':68}{100:7.1f}{microseconds:12.3f}"])


def by_perf(command: Sequence[str], environment: dict[str, str]) -> Counter[Stack]:
    """Record a job with perf, by the clock: a virtual machine has no counters of the hardware."""
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder, "perf.data"))
        record = ["perf", "record", "-q", "-F", "3000", "-e", "cpu-clock", "--call-graph", "fp", "-o", data]
        subprocess.run([*record, *command], env=environment, check=True, stdout=subprocess.DEVNULL)
        script = ["perf", "script", "-i", data, "-F", "ip,sym,dso"]
        done = subprocess.run(
            script, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return samples(done.stdout.splitlines())


def by_callgrind(arguments: Sequence[str], environment: dict[str, str]) -> Counter[Stack]:
    """Count the instructions of a job; a function's name then has those of its callers behind it."""
    options = [*arguments, "--operations", str(OPERATIONS)]
    costs = callgrind.run("benchmarks.one_job", options, environment, "--separate-callers=12")
    found: Counter[Stack] = Counter()
    for (_, function), cost in costs.items():
        found[tuple(function.split("'"))] += cost
    return found


def updates(job: Workload) -> int:
    """The updates of a call, or its characters where it does not train."""
    return job.windows if isinstance(job, Training) else job.characters


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, watch, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phases", description=__doc__)
    parser.add_argument("job", choices=list(one_job.JOBS))
    parser.add_argument("--isa", choices=["v3", "v4"], help="the instruction set; the processor's best")
    parser.add_argument("--seconds", type=float, default=5.0, help="to watch")
    parser.add_argument("--callgrind", action="store_true", help="count instructions, though perf is there")
    options = parser.parse_args(arguments)
    job = one_job.JOBS[options.job]
    subprocess.run(["make", "--quiet", str(BUILD)], cwd=callgrind.ROOT, check=True)
    environment = {**os.environ, **({"FASTRNN_ISA": options.isa} if options.isa else {})}
    watched = [job.name, "--modules", str(callgrind.ROOT / MODULES)]
    timed = [sys.executable, "-m", "benchmarks.one_job", *watched, "--seconds", str(options.seconds)]
    seconds = min(one_job.measured(timed, environment)["seconds"])
    if shutil.which("perf") and not options.callgrind:
        stacks, what = by_perf(timed, environment), "time, by perf"
    else:
        stacks, what = by_callgrind(watched, environment), "instructions, by callgrind, as shares of the time"
    unit = "update" if isinstance(job, Training) else "symbol"
    print(f"{job.name}, FASTRNN_ISA={options.isa or 'not set'}, for each {unit}: {what}")
    print(table(attributed(stacks), 1e6 * seconds / updates(job)))


if __name__ == "__main__":
    main()
