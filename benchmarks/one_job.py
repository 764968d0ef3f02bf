"""A job of fastrnn's C backend, a few calls of it and nothing else, for tools that watch the process.

``--modules`` names a folder with another build of the modules of C, such as one with symbols. The result is
a JSON object: the compiler, the characters of a call, and the seconds of each.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers import fastrnn as peer
from benchmarks.workloads import WORKLOADS, Lines, Training, Workload
from fastrnn.training import pace

#: The steps of a window that is shortened.
MIN_STEPS = 5

#: The jobs; lines take the same kernels as texts of one length.
JOBS = {job.name: job for job in WORKLOADS if not isinstance(job, Lines)}


def shortened(job: Workload, operations: int) -> Workload:
    """The job with as many windows, or steps of one, as take so many operations; a few steps at least."""
    if job.operations <= operations:
        return job
    if isinstance(job, Training) and job.operations <= operations * job.windows:
        return replace(job, windows=job.windows * operations // job.operations)
    windows = {"windows": 1} if isinstance(job, Training) else {}
    return replace(job, T=max(MIN_STEPS, job.T * operations // replace(job, **windows).operations), **windows)


def take_modules(folder: Path) -> None:
    """Import the modules of C from a folder; the C backend then finds them imported."""
    for path in folder.glob("_c_*.so"):
        name = f"fastrnn.backends.{path.name.split('.')[0]}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)


def compiler() -> str:
    """The compiler of the build that is used here."""
    from fastrnn.backends import c

    module = c._choose_build()[1]  # noqa: SLF001
    return str(module.ffi.string(module.lib.fr_compiler()), "utf-8")


def measured(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """What a process of this module prints."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=list(JOBS))
    parser.add_argument("--operations", type=int, default=1 << 62, help="of a call at most, or a few steps")
    parser.add_argument("--seconds", type=float, default=0.0, help="for so long, or one call")
    parser.add_argument("--modules", type=Path)
    options = parser.parse_args()
    if options.modules:
        take_modules(options.modules)
    pace.CALL_SECONDS = 1e9  # what a native call checks in advance does not depend on time
    job = shortened(JOBS[options.job], options.operations)
    run = peer.c_forms(job)["public interface"](job, job.weights(), 1)
    seconds: list[float] = []
    while sum(seconds) < options.seconds or not seconds:
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"compiler": compiler(), "characters": job.characters, "seconds": seconds}))


if __name__ == "__main__":
    main()
