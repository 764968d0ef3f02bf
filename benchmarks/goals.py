"""The goals of fastrnn's speed beside other libraries, and whether a run of ``compare`` met them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.peers import LIBRARIES

BACKENDS = ("numba", "c")

#: By job: how many times faster than each library fastrnn must be, with the same number of threads.
TIMES_FASTER = {
    "seed": {"numpy": 250, "jax": 8},
    "min-char-rnn": {"numpy": 14, "torch": 17, "jax": 1.8},
    "min-char-rnn-f32": {"torch": 34, "jax": 1.8},
    "batched": {"torch": 3.8, "jax": 1.4},
    "wide": {"torch": 1.4, "jax": 1.4},
    "lstm": {"torch": 1.8, "jax": 1.8},
    "lstm-one-row": {"torch": 10},
    "gru": {"torch": 1.8},
    "lstm-2x512": {"torch": 1.15},
    "sampling": {"torch": 40},
    "scoring": {"torch": 5},
}

#: By job: the per cent of the core's fma peak that one thread must reach.
PERCENT_OF_PEAK = {
    "batched": {"numba": 75, "c": 75},
    "wide": {"numba": 82, "c": 88},
    "gru": {"numba": 80, "c": 80},
    "lstm-2x512": {"numba": 80, "c": 80},
    "scoring-lines": {"numba": 65, "c": 65},
}

#: By job: how many times faster two threads must be than one.
TWO_THREADS = {"batched": 1.85, "wide": 1.85, "lstm": 1.85, "gru": 1.85, "lstm-2x512": 1.85}

#: A compiled backend may be at most so many times slower than the other one.
SLOWER = {"float64": 1.25, "float32": 1.15}


@dataclass(frozen=True)
class Outcome:
    """A goal, with the measured value and its lower bound, or its upper bound with ``upper``."""

    goal: str
    threads: int
    value: float | None
    bound: float
    upper: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal was met."""
        assert self.value is not None
        return self.value <= self.bound if self.upper else self.value >= self.bound


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


def outcomes(job: dict[str, Any], backend: str, measured: Measured) -> Iterator[Outcome]:
    """The outcomes of a backend at a job."""
    name = job["name"]
    other = "c" if backend == "numba" else "numba"
    for threads in 1, 2:
        me = backend, threads
        for peer, bound in TIMES_FASTER.get(name, {}).items():
            ratio = measured.ratio(name, me, (peer, threads))
            yield Outcome(f"times faster than {LIBRARIES[peer].title}", threads, ratio, bound)
        ratio = measured.ratio(name, (other, threads), me)
        yield Outcome("times slower than the other backend", threads, ratio, SLOWER[job["dtype"]], upper=True)
    if name in PERCENT_OF_PEAK:
        result = measured.results.get((name, backend, 1), {})
        bound = PERCENT_OF_PEAK[name][backend]
        yield Outcome("per cent of the fma peak", 1, result.get("percent_of_peak"), bound)
    if name in TWO_THREADS:
        ratio = measured.ratio(name, (backend, 2), (backend, 1))
        yield Outcome("times faster with two threads", 2, ratio, TWO_THREADS[name])


def evaluate(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """The outcome of every goal whose libraries were measured."""
    measured = Measured.of(comparison)
    return [
        {"job": job["name"], "library": backend, **asdict(outcome), "met": outcome.met}
        for job in comparison["jobs"]
        for backend in BACKENDS
        for outcome in outcomes(job, backend, measured)
        if outcome.value is not None
    ]
