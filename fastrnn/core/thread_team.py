"""A team of threads. Each does one part of a kernel call; they run at the same time and wait for each other.

The threads are Python's; the kernels release the interpreter's lock. The number of parts changes no bit of
a result.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.constants import ABORT, BARRIER

#: A container's limit on processor time: the microseconds of a period, and how many of them it may use.
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


class _Call:
    """One call of a team: the parts that have begun, and the error that is raised.

    Ctrl-C can interrupt the caller's thread at any instruction. So only the team's threads note which parts
    have begun, and the caller only waits for locks.
    """

    def __init__(self, work: Callable[[int], None], parts: range, barrier: NDArray[np.int32]) -> None:
        self._work, self._barrier = work, barrier
        self._lock = Lock()
        self._begun: set[int] = set()
        #: A lock for each part of the team's threads, which is held until the part has ended.
        self._ended = {part: Lock() for part in parts}
        for ended in self._ended.values():
            ended.acquire()
        self.error: BaseException | None = None

    def do(self, part: int) -> None:
        """Do a part. If the call has failed before, do nothing, because no thread waits for the part."""
        with self._lock:
            if self.error is None:
                self._begun.add(part)
        try:
            if part in self._begun:
                self._work(part)
        except BaseException as error:  # noqa: BLE001  (raised again by the caller)
            self.fail(error)
        finally:
            self._ended[part].release()

    def fail(self, error: BaseException) -> None:
        """Abort all parts. The first error is kept, but an interrupt replaces it."""
        with self._lock:
            if self.error is None or not isinstance(error, Exception):
                self.error = error
        self._barrier[ABORT] = 1

    def abandon(self) -> None:
        """Abort all parts, and let no part begin, because no thread waits for them."""
        self.error = self.error or KeyboardInterrupt()
        self._barrier[ABORT] = 1

    def wait(self) -> None:
        """Wait for all parts; after a failure, only for those that have begun. An interrupt aborts them."""
        while True:
            try:
                with self._lock:
                    waited_for = set(self._ended) if self.error is None else set(self._begun)
                for part in waited_for:
                    with self._ended[part]:
                        pass
            except BaseException as error:  # noqa: BLE001  (raised again by the caller)
                self.fail(error)
            else:
                return


def _serve(tasks: SimpleQueue[tuple[_Call, int] | None]) -> None:
    """Do the tasks of a thread until its team is deleted."""
    while (task := tasks.get()) is not None:
        call, part = task
        call.do(part)
        del task, call  # free the arrays that they refer to


class Team:
    """Threads that do the parts of one call at a time. They are started when they are first needed.

    They are daemon threads, each with a queue. Python's `ThreadPoolExecutor` can wait forever at the end of
    the process if Ctrl-C comes while it starts a thread.
    """

    def __init__(self) -> None:
        self.barrier = np.zeros(BARRIER, np.int32)
        self._queues: list[SimpleQueue[tuple[_Call, int] | None]] = []
        self._process = os.getpid()

    def run(self, parts: int, work: Callable[[int], None], *, lasts: bool = False) -> None:
        """Call ``work`` with each part from 0 to ``parts - 1`` at the same time.

        The caller's thread does the first part. If the call ``lasts``, it only waits, so that Ctrl-C can
        interrupt it. An exception in any part, or Ctrl-C, aborts all parts, and is raised when they have
        ended.
        """
        self.barrier = np.zeros(BARRIER, np.int32)
        others = range(0 if lasts and self.at_most(parts + 1) > parts else 1, parts)
        if not others:
            work(0)
            return
        call = _Call(work, others, self.barrier)
        ended = False
        try:
            self._start_threads(len(others))
            for part, queue in zip(others, self._queues, strict=False):
                queue.put((call, part))
            if 0 not in others:
                work(0)
            call.wait()
            ended = True
        except BaseException as error:  # noqa: BLE001  (raised below)
            call.fail(error)
            call.wait()
            ended = True
        finally:  # another Ctrl-C may have interrupted the lines above
            if not ended:
                call.abandon()
        if call.error is not None:
            try:
                raise call.error
            finally:
                del call  # else its error and this frame refer to each other

    def at_most(self, parts: int) -> int:
        """How many of these parts can run together: fewer if the system cannot start enough threads."""
        try:
            self._start_threads(parts - 1)
        except RuntimeError:  # "can't start new thread"
            return min(parts, 1 + len(self._queues))
        return parts

    def _start_threads(self, count: int) -> None:
        """Start threads until there are ``count``; after a fork, the child has no threads."""
        if self._process != os.getpid():
            self._process, self._queues = os.getpid(), []
        while len(self._queues) < count:
            tasks: SimpleQueue[tuple[_Call, int] | None] = SimpleQueue()
            end = weakref.finalize(self, tasks.put, None)
            end.atexit = False
            try:
                Thread(target=_serve, args=(tasks,), name="fastrnn", daemon=True).start()
            except RuntimeError:
                end.detach()
                raise
            self._queues.append(tasks)
