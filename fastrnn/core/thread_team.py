"""Threads for the parts of one kernel call, which run at the same time and wait for each other.

The threads are Python's; the kernels release the interpreter's lock. How work is split changes no bit of
its result.
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


class _Call:
    """One call of a team: which of its parts are at work, and what went wrong first.

    Ctrl-C may strike anywhere in the caller's thread, so only threads that it cannot strike keep the
    books, and the caller waits with nothing but plain locks.
    """

    def __init__(self, work: Callable[[int], None], parts: range, barrier: NDArray[np.int32]) -> None:
        self._work, self._barrier = work, barrier
        self._lock = Lock()
        self._begun: set[int] = set()
        #: For each of the threads' parts a lock that is held until it has ended.
        self._ended = {part: Lock() for part in parts}
        for ended in self._ended.values():
            ended.acquire()
        self.error: BaseException | None = None

    def do(self, part: int) -> None:
        """Do a part, unless the call has failed already: then nobody waits for it."""
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
        """Send all parts home. The first error counts, but an interrupt comes before any."""
        with self._lock:
            if self.error is None or not isinstance(error, Exception):
                self.error = error
        self._barrier[ABORT] = 1

    def abandon(self) -> None:
        """Send all parts home, and let none begin: nobody waits for them."""
        self.error = self.error or KeyboardInterrupt()
        self._barrier[ABORT] = 1

    def wait(self) -> None:
        """Wait for all parts, or after a failure for those that have begun; interrupts only hasten it."""
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
    """What a thread of a team does until its team is gone."""
    while (task := tasks.get()) is not None:
        call, part = task
        call.do(part)
        del task, call  # and what they hold


class Team:
    """Threads that do the parts of one call at a time. They are started when they are first needed.

    They are daemons with a queue each, since Ctrl-C while it starts a thread lets Python's
    `ThreadPoolExecutor` wait for it for ever at the end of the process.
    """

    def __init__(self) -> None:
        self.barrier = np.zeros(BARRIER, np.int32)
        self._queues: list[SimpleQueue[tuple[_Call, int] | None]] = []
        self._process = os.getpid()

    def run(self, parts: int, work: Callable[[int], None], *, lasts: bool = False) -> None:
        """Call ``work`` with each part from 0 to ``parts - 1`` at the same time.

        The first is the caller's, unless the call ``lasts``: then the caller does nothing but wait, so that
        it hears Ctrl-C. An exception in any part, Ctrl-C included, ends them all, and is raised when they
        have ended.
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
        finally:  # where another Ctrl-C struck the lines above
            if not ended:
                call.abandon()
        if call.error is not None:
            try:
                raise call.error
            finally:
                del call  # its error knows this frame

    def at_most(self, parts: int) -> int:
        """How many of so many parts can run together: fewer where the system starts no more threads."""
        try:
            self._start_threads(parts - 1)
        except RuntimeError:  # "can't start new thread"
            return min(parts, 1 + len(self._queues))
        return parts

    def _start_threads(self, count: int) -> None:
        """Have at least so many threads in this process; a fork has none of its parent's."""
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
