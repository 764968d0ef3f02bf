"""The goals of fastrnn's speed beside other libraries, on two classes of processor.

A class is named as the instruction set that ``FASTRNN_ISA`` chooses: v4 has AVX-512, v3 has AVX2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers import LIBRARIES

BACKENDS = ("numba", "c")

CLASSES = {"v4": "AVX-512", "v3": "AVX2"}

#: A goal of each class, in the order of CLASSES.
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Goals:
    """A job's goals: per cent of the fma peak, times faster than a library, and with two threads."""

    percent: Bounds | None = None
    faster: dict[str, Bounds] = field(default_factory=dict)
    two_threads: Bounds | None = None


TWO = 1.85, 1.85

#: Per cent and times faster are for one thread. A library without a goal here must be slower all the same.
GOALS = {
    "seed": Goals(faster={"numpy": (250, 250), "jax": (8, 8)}),
    "min-char-rnn": Goals(faster={"numpy": (14, 14), "torch": (17, 17), "jax": (1.8, 1.8)}),
    "min-char-rnn-f32": Goals(faster={"torch": (30, 34), "jax": (1.9, 1.9)}),
    "batched": Goals((80, 70), {"torch": (4.2, 4), "jax": (1.5, 1.6)}, TWO),
    "wide": Goals((86, 78), {"torch": (2.5, 1.6), "jax": (1.4, 1.7)}, TWO),
    "lstm": Goals((78, 68), {"torch": (2.2, 2), "jax": (1.8, 1.7)}, TWO),
    "lstm-one-row": Goals(faster={"torch": (10, 10)}),
    "gru": Goals((82, 75), {"torch": (3, 2.2), "jax": (1.4, 1.8)}, TWO),
    "lstm-2x512": Goals((80, 74), {"torch": (1.35, 1.2)}, TWO),
    "sampling": Goals(faster={"torch": (40, 40)}),
    "sampling-lstm-512": Goals(two_threads=(1.6, 1.6)),
    "scoring": Goals(faster={"torch": (5, 5)}),
    "scoring-lines": Goals((68, 62), {"torch": (5, 4), "jax": (2.7, 2.5)}, TWO),
    "scoring-20k-sorted": Goals(faster={"torch": (2.5, 2.5)}),
    "scoring-20k": Goals(faster={"torch": (4.5, 4.5)}),
}

#: Every library must be slower, with one thread and with two.
AHEAD = 1.0, 1.0

#: A compiled backend may be so many times slower than the other one, with one thread.
SLOWER = 1.1, 1.1


@dataclass(frozen=True)
class Outcome:
    """A goal of both classes, with the measured value; the bounds are upper ones with ``upper``."""

    goal: str
    threads: int
    value: float | None
    bounds: Bounds
    upper: bool = False

    def met(self, isa: str) -> bool:
        """Whether a run of that class met the goal."""
        assert self.value is not None
        bound = self.bounds[list(CLASSES).index(isa)]
        return self.value <= bound if self.upper else self.value >= bound


@dataclass(frozen=True)
class Measured:
    """The medians of a run, by job, library and threads."""

    results: dict[tuple[str, str, int], dict[str, Any]]

    @classmethod
    def of(cls, comparison: dict[str, Any]) -> Measured:
        return cls({
            (result["job"], result["library"], result["threads"]): result
            for job in comparison["jobs"]
            for result in job["results"]
        })  # fmt: skip

    def ratio(self, job: str, faster: tuple[str, int], slower: tuple[str, int]) -> float | None:
        """How many times faster one library is than another; ``None`` if one was not measured."""
        pair = [self.results.get((job, *which)) for which in (faster, slower)]
        if None in pair:
            return None
        speeds = [result["characters_per_second"] for result in pair if result]
        return float(speeds[0] / speeds[1])


def outcomes(name: str, backend: str, measured: Measured) -> Iterator[Outcome]:
    """The outcomes of a backend at a job."""
    wanted = GOALS.get(name, Goals())
    if wanted.percent:
        result = measured.results.get((name, backend, 1), {})
        yield Outcome("per cent of the fma peak", 1, result.get("percent_of_peak"), wanted.percent)
    for threads in 1, 2:
        for peer in (name for name in LIBRARIES if name not in BACKENDS):
            bounds = wanted.faster.get(peer, AHEAD) if threads == 1 else AHEAD
            ratio = measured.ratio(name, (backend, threads), (peer, threads))
            yield Outcome(f"times faster than {LIBRARIES[peer].title}", threads, ratio, bounds)
    other = "c" if backend == "numba" else "numba"
    ratio = measured.ratio(name, (other, 1), (backend, 1))
    yield Outcome("times slower than the other backend", 1, ratio, SLOWER, upper=True)
    if wanted.two_threads:
        ratio = measured.ratio(name, (backend, 2), (backend, 1))
        yield Outcome("times faster with two threads", 2, ratio, wanted.two_threads)


def evaluate(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """The outcome of every goal whose libraries were measured; none if the processor is of neither class."""
    isa = comparison["machine"]["isa"]
    if isa not in CLASSES:
        return []
    measured = Measured.of(comparison)
    return [
        {
            "job": job["name"], "library": backend, "goal": outcome.goal, "threads": outcome.threads,
            "value": outcome.value, "bounds": outcome.bounds, "upper": outcome.upper, "met": outcome.met(isa),
        }
        for job in comparison["jobs"]
        for backend in BACKENDS
        for outcome in outcomes(job["name"], backend, measured)
        if outcome.value is not None
    ]  # fmt: skip
