"""The results of a run of ``compare``, as Markdown tables and as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.goals import BACKENDS, CLASSES
from benchmarks.peers import LIBRARIES

Results = dict[str, Any]

#: The base to which other libraries are compared: the first of these that was measured.
BASES = ("c", "numba")


def human(number: float) -> str:
    """A number with three digits and a unit, such as ``3.21 M``."""
    for size, unit in (1e9, " G"), (1e6, " M"), (1e3, " k"):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def of_libraries(
    job: Results, threads: int, libraries: Sequence[str], cell: Callable[[Results], str]
) -> list[str]:
    """The cell of each library in the row of a job."""
    found = {result["library"]: result for result in job["results"] if result["threads"] == threads}
    return [cell(found[name]) if name in found else "" for name in libraries]


def libraries_of(comparison: Results) -> list[str]:
    """The libraries that did at least one job."""
    found = {result["library"] for job in comparison["jobs"] for result in job["results"]}
    return [name for name in LIBRARIES if name in found]


def base_of(job: Results, threads: int) -> Results | None:
    """The result to which others are compared."""
    found = {result["library"]: result for result in job["results"] if result["threads"] == threads}
    return next((found[name] for name in BASES if name in found), None)


def speed_cell(base: Results | None) -> Callable[[Results], str]:
    """Characters per second and, for a peer, how many times faster the base is."""

    def cell(result: Results) -> str:
        speed = result["characters_per_second"]
        if base is None or result["library"] in BACKENDS:
            return human(speed)
        return f"{human(speed)} ({human(base['characters_per_second'] / speed)})"

    return cell


def operations_cell(result: Results) -> str:
    """GFLOP/s and per cent of the peak."""
    return f"{result['gflops']:.3g} ({result['percent_of_peak']:.0f} %)"


def start_cell(result: Results) -> str:
    """Seconds to the first result, with an empty and a filled cache, and peak memory."""
    first = result["seconds_to_first_result"]
    seconds = " / ".join(f"{first[kind]:.2g}" for kind in ("cold", "warm") if first[kind] is not None)
    memory = f"{result['peak_memory_bytes'] / 1e6:.0f} MB"
    return f"{seconds} s, {memory}" if seconds else memory


def speeds(comparison: Results) -> str:
    """The table of characters per second."""
    libraries = libraries_of(comparison)
    rows = [
        [job["name"], str(threads), *of_libraries(job, threads, libraries, speed_cell(base_of(job, threads)))]
        for job in comparison["jobs"]
        for threads in comparison["settings"]["threads"]
    ]
    return table(["job", "threads", *(LIBRARIES[name].title for name in libraries)], rows)


def operations(comparison: Results, only: Sequence[str] = tuple(LIBRARIES)) -> str:
    """The table of GFLOP/s."""
    libraries = [name for name in libraries_of(comparison) if name in only]
    rows = [
        [
            job["name"], str(threads), *of_libraries(job, threads, libraries, operations_cell),
            f"{job['peak_gflops'][str(threads)]:.3g}",
        ]
        for job in comparison["jobs"]
        for threads in comparison["settings"]["threads"]
    ]  # fmt: skip
    return table(["job", "threads", *(LIBRARIES[name].title for name in libraries), "fma peak"], rows)


def starts(comparison: Results) -> str:
    """The table of first results and memory, on the fewest threads."""
    libraries = libraries_of(comparison)
    threads = min(comparison["settings"]["threads"])
    rows = [[job["name"], *of_libraries(job, threads, libraries, start_cell)] for job in comparison["jobs"]]
    return table(["job", *(LIBRARIES[name].title for name in libraries)], rows)


def goals(comparison: Results) -> str:
    """The table of goals: a row each, with the bounds of both classes, and what this run reached."""
    columns = [(backend, threads) for threads in (1, 2) for backend in BACKENDS]
    rows: dict[tuple[str, ...], dict[tuple[str, int], str]] = {}
    for goal in comparison["goals"]:
        sign = "≤" if goal["upper"] else "≥"
        bounds = [f"{sign} {bound:g}" for bound in goal["bounds"]]
        cells = rows.setdefault((goal["job"], goal["goal"], *bounds), {})
        mark = "met" if goal["met"] else "**not met**"
        runs = f" in {goal['met_in']}" if "met_in" in goal else ""
        cells[goal["library"], goal["threads"]] = f"{goal['value']:.3g} ({mark}{runs})"
    return table(
        ["job", "goal", *CLASSES.values(), *(f"{backend}, {threads} thr." for backend, threads in columns)],
        [[*which, *(cells.get(column, "") for column in columns)] for which, cells in rows.items()],
    )


def summary_of_goals(comparison: Results) -> str:
    """How many goals are met."""
    isa, met = comparison["machine"]["isa"], sum(goal["met"] for goal in comparison["goals"])
    if isa not in CLASSES:
        return f"There are no goals for a processor without {' or '.join(CLASSES.values())}."
    most = " A goal is met if it is met in more than half of the runs." if "runs" in comparison else ""
    return f"Goals of {CLASSES[isa]}: {met} of {len(comparison['goals'])} are met.{most}"


def processor(comparison: Results) -> str:
    """The processor, and the instruction set where a narrower one than its own was measured."""
    machine = comparison["machine"]
    held = machine["isa"] != machine["own_isa"]
    return machine["processor"] + (f", held to {CLASSES[machine['isa']]}" if held else "")


def machine(comparison: Results) -> str:
    """The processor, the versions of everything, and how it was measured."""
    found, settings = comparison["machine"], comparison["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    repeats = f"Medians of {settings['repeats']} interleaved repeats"
    runs = f", and of {comparison['runs']} runs" if "runs" in comparison else ""
    about = f"{processor(comparison)}, {found['cores']} cores, Python {found['python']}, {versions}"
    return f"{about}. {repeats}{runs}."


def markdown(comparison: Results) -> str:
    """All of it."""
    parts = [
        machine(comparison),
        *(f"{LIBRARIES[name].title} is missing: {why}." for name, why in comparison["missing"].items()),
        "Characters per second; in brackets, how many times faster fastrnn's C is:",
        speeds(comparison),
        "GFLOP/s; in brackets, per cent of the fma peak of as many cores, which is the last column:",
        operations(comparison),
        "From a new process to the first result, with an empty cache / a filled one, and peak memory:",
        starts(comparison),
        summary_of_goals(comparison),
        goals(comparison),
    ]
    return "\n\n".join(parts)


#: The colours of fastrnn's backends and of the others: on one thread, and paler on two.
COLOURS = {True: ("#d9480f", "#f7a072"), False: ("#3b5b7a", "#a3b8cc")}


def picture(comparison: Results, path: Path) -> None:
    """Draw a panel for each job: characters per second of every library, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    jobs = comparison["jobs"]
    columns = min(2, len(jobs))
    rows = -(-len(jobs) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(6.5 * columns, 2.8 * rows + 0.4), squeeze=False, layout="constrained"
    )
    for axis, job in zip(axes.flat, jobs, strict=False):
        draw_job(axis, job)
    for axis in axes.flat[len(jobs) :]:
        axis.remove()
    figure.suptitle(
        f"Characters a second on {processor(comparison)}: one thread and, paler, two "
        "(in brackets, how many times faster fastrnn's C is)"
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_job(axis: Any, job: Results) -> None:
    """Draw the bars from the top down, library by library, each with its speed."""
    results = sorted(job["results"], key=lambda one: (list(LIBRARIES).index(one["library"]), one["threads"]))
    names = list(dict.fromkeys(result["library"] for result in results))
    for result in results:
        second = result["threads"] > 1
        speed = result["characters_per_second"]
        y = names.index(result["library"]) + (0.2 if second else -0.2)
        axis.barh(y, speed, 0.38, color=COLOURS[result["library"] in BACKENDS][second])
        base = base_of(job, result["threads"])
        axis.annotate(
            speed_cell(base)(result), (speed, y), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    speeds = [result["characters_per_second"] for result in results]
    lowest = 10 ** math.floor(math.log10(min(speeds) / 2))
    axis.set(
        xscale="log", xlim=(lowest, 6 * max(speeds)), ylim=(len(names) - 0.5, -0.5),
        yticks=range(len(names)), yticklabels=[LIBRARIES[name].title for name in names],
    )  # fmt: skip
    sizes = ", ".join(f"{letter} {size}" for letter, size in job["sizes"].items())
    axis.set_title(f"{job['name']}: {job['cell'].upper()}, {sizes}, {job['dtype']}", fontsize=10, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(left=False)
    axis.xaxis.set_major_formatter(lambda speed, _: human(speed))
    axis.xaxis.set_minor_formatter(lambda *_: "")
