"""Instructions of the C backend for each symbol of each job: ``python -m benchmarks.instructions``.

callgrind counts them, in the build for AVX2, so the figures do not depend on what else the machine does. Only
instructions of fastrnn's own module count: neither Python's nor those of libc's memset and memcpy. The
committed figures are in ``instructions.json``, with their compiler. More of them by the same compiler is a
failure; another compiler's are only reported. On Linux with an x86-64 processor, with valgrind.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import callgrind
from benchmarks.one_job import JOBS, measured, shortened

FIGURES = Path(__file__).parent / "instructions.json"

#: valgrind 3.19 knows no AVX-512.
ISA = "v3"

#: A job's call is shortened to so many floating-point operations, or a few steps.
OPERATIONS = 200_000_000

#: By how much the instructions may grow, and the failure's exit status.
TOLERANCE, FAILURE = 0.03, 1


@dataclass(frozen=True)
class Judgement:
    """Instructions of a symbol, beside the committed figure, if there is one."""

    job: str
    measured: float
    committed: float | None

    @property
    def change(self) -> float:
        """By how much the instructions grew, as a part of what they were."""
        return self.measured / self.committed - 1 if self.committed else 0.0

    def says(self) -> str:
        """A line of the report."""
        before = "none" if self.committed is None else f"{self.committed:,.1f}"
        verdict = "MORE" if self.change > TOLERANCE else "fewer" if self.change < -TOLERANCE else ""
        return f"{self.job:20}{self.measured:14,.1f}{before:>14}{self.change:+9.1%}  {verdict}".rstrip()


def judge(measured: dict[str, float], figures: dict[str, float]) -> list[Judgement]:
    """Each measured job beside its committed figure."""
    return [Judgement(job, value, figures.get(job)) for job, value in measured.items()]


def fails(judgements: Sequence[Judgement], compiler: str, committed: str) -> bool:
    """Whether a job has more instructions than before, by the same compiler."""
    return compiler == committed and any(one.change > TOLERANCE for one in judgements)


def of_module(costs: Counter[tuple[str, str]]) -> int:
    """The instructions of the C backend's module."""
    return sum(count for (file, _), count in costs.items() if Path(file).name.startswith(f"_c_{ISA}."))


def count(job: str, environment: dict[str, str]) -> float:
    """Instructions of a symbol."""
    costs = callgrind.run("benchmarks.one_job", [job, "--operations", str(OPERATIONS)], environment)
    return of_module(costs) / shortened(JOBS[job], OPERATIONS).characters


def compiler_of(environment: dict[str, str]) -> str:
    """The compiler of the C backend."""
    return str(measured([sys.executable, "-m", "benchmarks.one_job", "seed"], environment)["compiler"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, compare, and write the figures if asked; return an exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--write", action="store_true", help="write the figures of these jobs anew")
    options = parser.parse_args(arguments)
    environment = {**os.environ, "FASTRNN_ISA": ISA}
    written = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    try:
        callgrind.find()
    except FileNotFoundError as error:
        sys.exit(f"instructions are not counted: {error}")
    compiler = compiler_of(environment)
    print(f"Instructions of a symbol, {compiler}; committed: {written.get('compiler', 'none')}")
    print(f"{'job':20}{'now':>14}{'committed':>14}{'change':>9}", flush=True)
    judgements = []
    for job in options.jobs:
        judgements += judge({job: count(job, environment)}, written.get("jobs", {}))
        print(judgements[-1].says(), flush=True)
    if options.write:
        kept = written["jobs"] if written.get("compiler") == compiler else {}
        jobs = {**kept, **{one.job: round(one.measured, 1) for one in judgements}}
        figures = {"compiler": compiler, "jobs": {job: jobs[job] for job in JOBS if job in jobs}}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        return 0
    if compiler != written.get("compiler"):
        print("The committed figures are another compiler's, so nothing is judged.")
    return FAILURE if fails(judgements, compiler, written.get("compiler", "")) else 0


if __name__ == "__main__":
    sys.exit(main())
