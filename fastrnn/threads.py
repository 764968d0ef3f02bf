"""Threads for the parts of one kernel call, which run at the same time and wait for each other.

The threads are Python's; the kernels release the interpreter's lock. How work is split changes no bit of
its result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

#: The counters that the parts share, and the one that sends them home (FR_SYNC and FR_ABORT).
SYNC, ABORT = 48, 32

#: A container's limit on processor time: microseconds of it in a period.
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """How many cores this process may use."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        cores = os.cpu_count() or 1
    try:
        quota, period = _CGROUP_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or no limit: "max"
        pass
    return cores


class Team:
    """Threads that do the parts of one call at a time. They are started when they are first needed."""

    def __init__(self) -> None:
        self.sync = np.zeros(SYNC, np.int32)
        self._pool: ThreadPoolExecutor | None = None
        self._made_for = (0, 0)

    def run(self, parts: int, work: Callable[[int], None]) -> None:
        """Call ``work`` with each part from 0 to ``parts - 1`` at the same time; 0 is the caller's.

        An exception in any part, Ctrl-C included, ends them all, and is raised when they have ended.
        """
        if parts == 1:
            work(0)
            return
        self.sync[:] = 0
        others: list[Future[None]] = []
        try:
            pool = self._threads(parts - 1)
            others.extend(pool.submit(self._guarded, work, part) for part in range(1, parts))
            work(0)
        except BaseException:
            self.sync[ABORT] = 1
            raise
        finally:
            wait(others)
        for other in others:
            other.result()

    def _guarded(self, work: Callable[[int], None], part: int) -> None:
        try:
            work(part)
        except BaseException:
            self.sync[ABORT] = 1
            raise

    def _threads(self, count: int) -> ThreadPoolExecutor:
        """So many threads of this process; a fork has none of its parent's."""
        made_for = (os.getpid(), count)
        if self._pool is None or self._made_for != made_for:
            self._pool = ThreadPoolExecutor(count, thread_name_prefix="fastrnn")
            self._made_for = made_for
        return self._pool
