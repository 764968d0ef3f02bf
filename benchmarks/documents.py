"""The tables of the README and the pages that benchmarks write with ``--write-docs``.

They stand between two markers. Those of ``compare`` have markers for each class of processor, and a run
replaces what is between the markers of its own class.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from benchmarks import report
from benchmarks.goals import CLASSES
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parent.parent

#: The README's rows: what a job does.
README_JOBS = {
    "batched": "train an RNN, T 50, B 32, H 128",
    "gru": "train a GRU, T 50, B 50, H 256",
    "lstm": "train an LSTM, T 50, B 32, H 128",
    "lstm-2x512": "train an LSTM of two layers, T 50, B 50, H 512",
    "sampling": "sample, H 128",
    "scoring-lines": "score 512 texts side by side, H 128",
}

README_LIBRARIES = {"c": "fastrnn (C)", "numba": "fastrnn (Numba)", "torch": "PyTorch", "jax": "JAX"}


def replaced(text: str, name: str, part: str) -> str:
    """The text, with the part between the markers of this name replaced.

    Raises
    ------
    ValueError
        The text does not have the markers, each once.
    """
    begin, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page needs the markers {begin} and {end}, each once")
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return between.sub(lambda _: f"{begin}\n{part}\n{end}", text)


def readme(comparison: report.Results) -> str:
    """A short table: characters per second on one thread."""
    jobs = {job["name"]: job for job in comparison["jobs"]}
    rows = [
        [title, *report.of_libraries(jobs[name], 1, list(README_LIBRARIES), speed)]
        for name, title in README_JOBS.items()
    ]
    about = f"{CLASSES[comparison['machine']['isa']]}, on {report.processor(comparison)}:"
    return f"{about}\n\n{report.table(['job', *README_LIBRARIES.values()], rows)}"


def speed(result: report.Results) -> str:
    """Characters per second."""
    return report.human(result["characters_per_second"])


def performance(comparison: report.Results) -> str:
    """All jobs: characters per second, GFLOP/s of fastrnn, and the goals that are not met."""
    return "\n\n".join([
        textwrap.fill(report.machine(comparison), 120),
        "Characters per second; in brackets, how many times faster fastrnn's C is:",
        report.speeds(comparison),
        "GFLOP/s; in brackets, per cent of the fma peak of as many cores, which is the last column:",
        report.operations(comparison, report.BASES),
        f"{report.summary_of_goals(comparison)} Those that one of the backends does not meet:",
        report.goals(missed(comparison)),
    ])  # fmt: skip


def missed(comparison: report.Results) -> report.Results:
    """The run with those goals only that one of the backends does not meet."""
    rows = {(goal["job"], goal["goal"], goal["threads"]) for goal in comparison["goals"] if not goal["met"]}
    kept = [goal for goal in comparison["goals"] if (goal["job"], goal["goal"], goal["threads"]) in rows]
    return {**comparison, "goals": kept}


PAGES = {"README.md": readme, "docs/performance.md": performance}


def write(comparison: report.Results, root: Path = ROOT) -> None:
    """Write the part of the run's class into both pages.

    Raises
    ------
    ValueError
        The run left out a job, so it would make the tables shorter; or the processor is of neither class.
    """
    left_out = {job.name for job in WORKLOADS} - {job["name"] for job in comparison["jobs"]}
    if left_out or comparison["machine"]["isa"] not in CLASSES:
        raise ValueError(f"nothing is written: {', '.join(sorted(left_out)) or 'the class'} was not measured")
    for page, part in PAGES.items():
        write_part(page, f"compare:{comparison['machine']['isa']}", part(comparison), root)


def write_part(page: str, name: str, part: str, root: Path = ROOT) -> None:
    """Write what is between the markers of this name in a page."""
    path = root / page
    path.write_text(replaced(path.read_text(encoding="utf-8"), name, part), encoding="utf-8")
