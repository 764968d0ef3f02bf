"""Compare fastrnn with a NumPy script, PyTorch, JAX and ONNX Runtime: ``python -m benchmarks.compare``.

Every library does the same jobs (``workloads``) in its fastest form, in its own process, which is pinned to
one core with one thread, and then to two. The first results of each must agree with those of fastrnn's NumPy
backend, or the run stops. ``--isa`` limits all of them to an instruction set, except ONNX Runtime, which has
no switch for it. The repeats are interleaved: each library and the fma peak are measured once, then all
again, so that a slow minute of the machine affects all of them. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import documents, goals, report, runs
from benchmarks.peers import LIBRARIES, PEAK, REFERENCE, Library
from benchmarks.workloads import WORKLOADS, Workload

ROOT = Path(__file__).parent.parent

#: The largest difference from the reference, relative to the larger of the reference and one.
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}

#: The seconds between measurements, in which the idle threads of a library stop spinning.
PAUSE = 0.05

#: To choose a form, each is measured for so many seconds, and twice more unless its call is longer.
TRIAL_SECONDS = 0.2

#: Instruction sets, each with all of those before it.
ISAS = ("baseline", "v3", "v4")

#: How the libraries are held to an instruction set, beside fastrnn and the peak, which read FASTRNN_ISA:
#: PyTorch's own code, its oneDNN and MKL; JAX; NumPy's OpenBLAS.
HELD_TO = {
    "v3": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    }
}

DISTRIBUTIONS = ("fastrnn", "numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "onnx", "onnxruntime")


class MissingError(Exception):
    """A library is not installed."""


@dataclass(frozen=True)
class Settings:
    """The jobs, libraries and threads to compare, and the length of measurements."""

    jobs: list[str]
    libraries: list[str]
    threads: list[int]
    repeats: int
    seconds: float
    quick: bool
    isa: str | None


class Process:
    """The process of a library that does one job."""

    def __init__(
        self, library: Library, job: Workload, threads: int, cache: str, isa: str | None = None
    ) -> None:
        self._what = f"{library.title}, {job.name}, threads {threads}"
        command = [sys.executable, "-m", "benchmarks.worker", library.forms, job.name, str(threads)]
        self._process = subprocess.Popen(  # noqa: S603  (our own worker)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=environment(threads, cache, isa),
        )  # fmt: skip

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # if the process ended, it has printed why
            print(json.dumps({"do": do, **details}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._what}: the process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingError(answer["missing"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextmanager
def process(
    library: Library, job: Workload, threads: int, cache: str, isa: str | None = None
) -> Iterator[Process]:
    """A process that is ended at the end of the ``with`` block."""
    started = Process(library, job, threads, cache, isa)
    try:
        yield started
    finally:
        started.close()


def environment(threads: int, cache: str, isa: str | None = None) -> dict[str, str]:
    """The environment variables that libraries read on import; compiled code is stored in ``cache``."""
    count = str(threads)
    held = HELD_TO.get(isa, {}) if isa else {}
    flags = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} {held.get('XLA_FLAGS', '')}"
    return {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), count),
        **held,
        **({"FASTRNN_ISA": isa} if isa else {}),
        "XLA_FLAGS": flags.rstrip(),
        "JAX_PLATFORMS": "cpu",
        "NUMBA_CACHE_DIR": cache,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


@dataclass
class Entrant:
    """A library that does one job with a number of threads, and its measurements."""

    job: Workload
    library: str
    threads: int
    process: Process
    form: str
    forms: dict[str, float]
    cold: float | None = None
    warm: float | None = None
    memory: int = 0
    seconds: list[float] = field(default_factory=list)

    def repeat(self, seconds: float) -> None:
        """Measure once more."""
        answer = self.process.ask("measure", seconds=seconds)
        self.seconds.append(answer["seconds"])
        self.memory = answer["memory"]

    def record(self, peak: float) -> dict[str, Any]:
        """The entry of the JSON file; the peak is in operations per second."""
        median = statistics.median(self.seconds)
        speed = self.job.operations / median
        return {
            "job": self.job.name, "library": self.library, "threads": self.threads, "form": self.form,
            "seconds_per_call": {
                "median": median, "minimum": min(self.seconds), "repeats": self.seconds,
            },
            "characters_per_second": self.job.characters / median,
            "gflops": speed / 1e9,
            "percent_of_peak": 100 * speed / peak,
            "seconds_to_first_result": {"cold": self.cold, "warm": self.warm},
            "peak_memory_bytes": self.memory,
            "seconds_per_call_of_forms": self.forms if len(self.forms) > 1 else {},
        }  # fmt: skip


def check(values: Sequence[float], expected: Sequence[float], job: Workload, what: str) -> None:
    """Raise an error if the results of two libraries differ, because they did not do the same work."""
    tolerance = TOLERANCE[job.dtype]
    for i, (value, wanted) in enumerate(zip(values, expected, strict=True)):
        if not abs(value - wanted) <= tolerance * max(1, abs(wanted)):
            raise RuntimeError(f"{what}, {job.name}: result {i} is {value}, and the reference's is {wanted}")


def trial(tried: Process) -> float:
    """About how many seconds a call takes."""
    first: float = tried.ask("measure", seconds=TRIAL_SECONDS)["seconds"]
    again = 2 if first < TRIAL_SECONDS else 0
    return min([first, *(tried.ask("measure", seconds=TRIAL_SECONDS)["seconds"] for _ in range(again))])


class Comparison:
    """One job: its entrants are started one after the other, and measured in turn."""

    def __init__(self, job: Workload, settings: Settings, cache: str) -> None:
        self.job = job
        self.settings = settings
        self._cache = cache
        self._processes = ExitStack()
        with process(REFERENCE, job, 1, cache, settings.isa) as reference:
            self._expected = reference.ask("start", form="public interface")["values"]

    def start(self, name: str, form: str, threads: int, cache: str) -> tuple[Process, float]:
        """Start a process; return it, and the seconds until its first results."""
        began = time.perf_counter()
        started = self._processes.enter_context(
            process(LIBRARIES[name], self.job, threads, cache, self.settings.isa)
        )
        self.begin(started, name, form)
        return started, time.perf_counter() - began

    def begin(self, started: Process, name: str, form: str) -> None:
        """Let a process start a form, and check its first results."""
        values = started.ask("start", form=form)["values"]
        check(values, self._expected, self.job, f"{LIBRARIES[name].title} ({form})")

    def trials(self, name: str, threads: int) -> dict[str, float]:
        """The seconds of a call in each form that the library has for the job."""
        seconds = {}
        with process(LIBRARIES[name], self.job, threads, self._cache, self.settings.isa) as tried:
            forms = tried.ask("list")["forms"]
            if self.settings.quick or len(forms) < 2:
                return dict.fromkeys(forms[:1], 0.0)
            for form in forms:
                self.begin(tried, name, form)
                seconds[form] = trial(tried)
        return seconds

    def enter(self, name: str, threads: int) -> Entrant | None:
        """Start a library in its fastest form; return ``None`` if it cannot do the job."""
        forms = self.trials(name, threads)
        if not forms:
            return None
        form = min(forms, key=lambda form: forms[form])
        if self.settings.quick or threads > min(self.settings.threads):  # the start is measured only once
            started, _ = self.start(name, form, threads, self._cache)
            return Entrant(self.job, name, threads, started, form, forms)
        with tempfile.TemporaryDirectory() as cache:
            discarded, cold = self.start(name, form, threads, cache)
            discarded.close()
            started, warm = self.start(name, form, threads, cache)
        return Entrant(self.job, name, threads, started, form, forms, cold, warm)

    def measure(self, entrants: list[Entrant]) -> dict[int, float]:
        """Measure all in turn; return the peak in operations per second for each number of threads."""
        peaks: dict[int, list[float]] = {threads: [] for threads in self.settings.threads}
        cores = {
            threads: self._processes.enter_context(
                process(PEAK, self.job, threads, self._cache, self.settings.isa)
            )
            for threads in peaks
        }
        operations = {
            threads: core.ask("start", form="chains")["values"][0] for threads, core in cores.items()
        }
        for _ in range(self.settings.repeats):
            for threads, core in cores.items():
                answer = core.ask("measure", seconds=min(0.2, self.settings.seconds))
                peaks[threads].append(operations[threads] / answer["seconds"])
                for entrant in entrants:
                    if entrant.threads == threads:
                        time.sleep(PAUSE)
                        entrant.repeat(self.settings.seconds)
        return {threads: statistics.median(measured) for threads, measured in peaks.items()}

    def close(self) -> None:
        """End every process."""
        self._processes.close()


def compare_job(job: Workload, settings: Settings, missing: dict[str, str], cache: str) -> dict[str, Any]:
    """Measure every library at one job; libraries that are not installed are added to ``missing``."""
    comparison = Comparison(job, settings, cache)
    entrants = []
    try:
        for threads in settings.threads:
            for name in settings.libraries:
                try:
                    entrant = None if name in missing else comparison.enter(name, threads)
                except MissingError as error:
                    missing[name] = str(error)
                    entrant = None
                if entrant is not None:
                    entrants.append(entrant)
                    say(f"{job.name}: {name} ({entrant.form}), threads {threads}, is ready")
        peaks = comparison.measure(entrants)
    finally:
        comparison.close()
    return {
        "name": job.name,
        "cell": job.cell,
        "sizes": job.sizes,
        "dtype": job.dtype,
        "peak_gflops": {str(threads): peak / 1e9 for threads, peak in peaks.items()},
        "results": [entrant.record(peaks[entrant.threads]) for entrant in entrants],
    }


def processor_name(cpuinfo: str) -> str:
    """The processor's name, with the generation where a virtual machine hides it."""
    found = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    family = re.search(r"^cpu family\s*: (\d+)$", cpuinfo, re.MULTILINE)
    name = found[1] if found else platform.machine()
    zens = {"25": "Zen 4" if " avx512f " in cpuinfo else "Zen 3", "26": "Zen 5"}
    zen = zens.get(family[1]) if family and name.startswith("AMD") else None
    return f"{name} ({zen})" if zen else name


def own_isa() -> str:
    """The instruction set that fastrnn takes here where none is forced."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "v4" if " avx512vl " in flags else "v3" if " avx2 " in flags else "baseline"


def machine(isa: str | None) -> dict[str, Any]:
    """The processor, and the versions of Python and of the libraries."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": processor_name(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        "isa": isa or own_isa(),
        "own_isa": own_isa(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
    }


def say(message: str) -> None:
    """Print a message about the progress to stderr."""
    print(message, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options."""
    jobs = [job.name for job in WORKLOADS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--jobs", nargs="+", choices=jobs, default=jobs)
    parser.add_argument("--libraries", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES))
    parser.add_argument("--threads", nargs="+", type=int, choices=[1, 2], default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9, help="measurements of each library, interleaved")
    parser.add_argument("--seconds", type=float, default=0.4, help="seconds of a measurement, or one call")
    parser.add_argument("--output", type=Path, default=Path("build", "compare"), help="a folder")
    parser.add_argument("--quick", action="store_true", help="only check that all runs; times mean nothing")
    parser.add_argument("--isa", choices=list(goals.CLASSES), help="limit all libraries to this class")
    parser.add_argument("--merge", nargs="+", type=Path, metavar="JSON", help="report these runs as one")
    parser.add_argument("--write-docs", action="store_true", help="write the tables of README and docs")
    options = parser.parse_args(arguments)
    options.isa = options.isa or os.environ.get("FASTRNN_ISA") or None
    if options.isa and ISAS.index(options.isa) > ISAS.index(own_isa()):
        parser.error(f"--isa {options.isa}: this processor has {own_isa()}")
    if options.write_docs and not options.merge and set(options.jobs) != set(jobs):
        parser.error("--write-docs needs all jobs")
    return options


def measure(settings: Settings) -> dict[str, Any]:
    """One run: every job, its goals, and the machine."""
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache:
        jobs = [compare_job(job, settings, missing, cache) for job in WORKLOADS if job.name in settings.jobs]
    results = {"machine": machine(settings.isa), "settings": vars(settings), "missing": missing, "jobs": jobs}
    return {**results, "goals": goals.evaluate(results)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print the tables, and write the tables, the measurements and a picture."""
    options = parse(arguments)
    settings = Settings(
        options.jobs, options.libraries,
        [n for n in options.threads if n <= len(os.sched_getaffinity(0))],
        1 if options.quick else options.repeats, 0.0 if options.quick else options.seconds,
        options.quick, options.isa,
    )  # fmt: skip
    if options.merge:
        results = runs.combined([json.loads(path.read_text(encoding="utf-8")) for path in options.merge])
    else:
        results = measure(settings)
    text = report.markdown(results)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    name = "merged" if options.merge else "compare"
    (options.output / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.output / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    report.picture(results, options.output / f"{name}.png")
    if options.write_docs:
        documents.write(results)


if __name__ == "__main__":
    main()
