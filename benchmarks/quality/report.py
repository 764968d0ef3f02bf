"""The results of the quality benchmark as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from benchmarks.quality.jobs import CHOSEN, COUNTED, JOBS, MARGIN, STATED, Job
from benchmarks.quality.run import Result
from benchmarks.report import table

BITS = 1 / math.log(2)

BY_UPDATES = (
    "A star marks `--by-updates`: as many updates as the time allows on an idle machine, by their speed in "
    "the first five seconds."
)


def latest(results: Iterable[Result]) -> list[Result]:
    """The last result of each seed of a job, for the jobs that there still are."""
    found = {(one["job"], one["kind"], one["seed"]): one for one in results if one["job"] in JOBS}
    return list(found.values())


def worst(results: Iterable[Result], job: Job, kind: str) -> Result | None:
    """The result of the seed that needs most bits."""
    of_job = [one for one in results if (one["job"], one["kind"]) == (job.name, kind)]
    return max(of_job, key=lambda one: one["nats"], default=None)


def seeds(results: Iterable[Result], job: Job, kind: str) -> str:
    """How many seeds were run."""
    return str(sum((one["job"], one["kind"]) == (job.name, kind) for one in results))


def updates(result: Result) -> str:
    """How many updates there were; with a star if their number, and not the time, was the limit."""
    return f"{result['updates']:,}" + ("*" if result["by_updates"] else "")


def in_words(settings: dict[str, object]) -> str:
    """The settings of a model, without those that change nothing."""
    words = [str(settings["cell"]), str(settings["hidden_size"])]
    if settings["num_layers"] != 1:
        words[1] += f" in {settings['num_layers']} layers"
    words.append(f"T {settings['seq_length']}, B {settings['batch_size']}, {settings['learning_rate']:.3g}")
    others = [
        f"{name.removesuffix('_size').replace('_', ' ')} {settings[name]:g}"
        for name in ("embedding_size", "dropout", "input_dropout", "averaging")
        if settings.get(name)
    ]
    return ", ".join([*words, *others])


def stated(results: Sequence[Result]) -> str:
    """The jobs with a stated figure."""
    rows = []
    for job in STATED:
        found = worst(results, job, "trained")
        if found is None:
            continue
        goal = "none" if job.nats is None else f"≤ {job.nats:g}"
        verdict = "met" if job.nats is None or found["nats"] <= job.nats else "**not met**"
        rows.append([
            job.name, goal, f"{found['nats']:.4f}", verdict, seeds(results, job, "trained"),
            f"{job.seconds:g} / {found['limit']:.0f}", updates(found), in_words(found["settings"]),
        ])  # fmt: skip
    header = ("job", "goal", "nats", "", "seeds", "seconds: stated / here", "updates", "model")
    return table(header, rows)


def chosen(results: Sequence[Result]) -> str:
    """What ``time_limit`` alone reaches, beside settings found by hand and xz."""
    rows = []
    for job in CHOSEN:
        rule, hand = (worst(results, job, kind) for kind in ("trained", "by hand"))
        if rule is None:
            continue
        xz = rule["xz_bits"]
        cells = [job.name.removesuffix("-chosen"), f"{rule['nats'] * BITS:.3f}"]
        if hand is None:
            cells += ["not searched", f"{xz:.3f}", ""]
        else:
            near = rule["nats"] <= (1 + MARGIN) * hand["nats"]
            beats = rule["nats"] * BITS < xz or hand["nats"] * BITS >= xz
            cells += [f"{hand['nats'] * BITS:.3f}", f"{xz:.3f}", "met" if near and beats else "**not met**"]
        rows.append([*cells, seeds(results, job, "trained"), updates(rule), in_words(rule["settings"])])
    header = ("text", "chosen", "by hand", "xz -9e", "", "seeds", "updates", "the chosen model")
    return table(header, rows)


def counted(results: Sequence[Result]) -> str:
    """The jobs with counts: the network alone, with fixed counts, and with counts that learn."""
    rows = []
    for job in COUNTED:
        of_job = [one for one in results if one["job"] == job.name]
        if not of_job:
            continue
        cells = [job.name.removesuffix("-counts")]
        for name, most in (("nats", None), ("fixed", job.fixed), ("adapted", job.adapted)):
            found = max(one[name] for one in of_job)
            verdict = "" if most is None else f" (≤ {most:g}: {'met' if found <= most else '**not met**'})"
            cells.append(f"{found:.4f}{verdict}")
        last = max(of_job, key=lambda one: one["adapted"])
        cells += [str(len(of_job)), f"{job.seconds:g} / {last['limit']:.0f}", updates(last)]
        rows.append([*cells, in_words(last["settings"])])
    header = (
        "job", "network alone", "fixed counts", "counts learn", "seeds", "seconds: stated / here", "updates",
        "model",
    )  # fmt: skip
    return table(header, rows)


def with_counts(results: Sequence[Result]) -> str:
    """The table of the jobs with counts, and where it was measured."""
    known = [one for one in latest(results) if one["job"] in map(_name, COUNTED)]
    about = "Nats per symbol of the scored part, of the worst seed; contexts of up to 8 symbols (names: 6):"
    parts = [machines(known), about, counted(known)]
    return "\n\n".join([*parts, BY_UPDATES] if any(one["by_updates"] for one in known) else parts)


def machines(results: Iterable[Result]) -> str:
    """Where the results were measured."""
    peaks: dict[tuple[str, int, str], float] = {}
    for one in results:
        processor, cores, gflops = one["machine"].values()
        peaks[processor, cores, one["backend"]] = gflops  # the highest one so far, see `measured`
    words = [
        f"{processor} ({cores} threads, {gflops:.0f} GFLOP/s of float32 fused multiply-adds on each core, "
        f"backend {backend})"
        for (processor, cores, backend), gflops in peaks.items()
    ]
    return "On " + "; ".join(words) + "."


def markdown(results: Sequence[Result]) -> str:
    """Both tables; a table without results is left out."""
    known = [one for one in latest(results) if one["job"] not in map(_name, COUNTED)]
    parts = [machines(known)]
    if any(one["by_updates"] for one in known):
        parts += [BY_UPDATES]
    if any(one["job"] in map(_name, STATED) for one in known):
        parts += ["Nats per symbol of the scored part, of the worst seed:", stated(known)]
    if any(one["job"] in map(_name, CHOSEN) for one in known):
        about = "Bits per symbol of the scored part after ``train(text, time_limit=60)``, of the worst seed:"
        parts += [about, chosen(known)]
    return "\n\n".join(parts)


def _name(job: Job) -> str:
    return job.name
