"""A barrier, at which the workers of a team wait for each other at the end of each phase."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import ABORT, ABORTED, ARRIVED, GENERATION, OK, PIECE
from fastrnn.backends.numba.jit import inlined, routine
from fastrnn.backends.numba.llvm import address, exists, no_barrier


class Worker(NamedTuple):
    """A worker of a team: the team's barrier, and the number of its part."""

    barrier: Any
    part: int
    parts: int


@inlined
def alone():
    """A single worker, which never waits and is never aborted."""
    return Worker(no_barrier(), np.int64(0), np.int64(1))


@routine
def bad_worker(worker):
    return worker.part < 0 or worker.part >= worker.parts


@intrinsic
def atomic_add(typing_context, array, i, value):
    """Add to an element of an int32 array, atomically; return its old value."""

    def emit(context, builder, signature, arguments):
        element = builder.gep(address(context, builder, array, arguments[0]), [arguments[1]])
        return builder.atomic_rmw("add", element, arguments[2], "seq_cst")

    return types.int32(array, types.intp, types.int32), emit


@intrinsic
def atomic_load(typing_context, array, i):
    """Load an element of an int32 array, atomically."""

    def emit(context, builder, signature, arguments):
        element = builder.gep(address(context, builder, array, arguments[0]), [arguments[1]])
        return builder.load_atomic(element, "seq_cst", 4)

    return types.int32(array, types.intp), emit


@intrinsic
def replace(typing_context, array, i, now, by):
    """Replace an element of an int32 array if it is still ``now``, atomically; return whether it was."""

    def emit(context, builder, signature, arguments):
        element = builder.gep(address(context, builder, array, arguments[0]), [arguments[1]])
        swapped = builder.cmpxchg(element, arguments[2], arguments[3], "seq_cst", "seq_cst")
        return builder.extract_value(swapped, 1)

    return types.boolean(array, types.intp, types.int32, types.int32), emit


#: The generation of a barrier that nobody passes any more, because a worker that waited was aborted.
CLOSED = -1

#: Yields the processor to other threads.
yield_cpu = types.ExternalFunction(
    "SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32()
)


@routine
def check_abort(worker):
    """ABORTED if the call is to end. A phase that may take long checks this regularly."""
    return ABORTED if exists(worker.barrier) and atomic_load(worker.barrier, ABORT) != 0 else OK


@routine
def pieces(multiply_adds, worker):
    """In how many pieces a worker does its part of so many multiply-adds; each begins with a check."""
    return 1 + multiply_adds // worker.parts // PIECE


@inlined
def piece_of(worker, piece, count):
    """A piece of a worker's part, as a part of more parts; it is not for waiting."""
    return Worker(worker.barrier, worker.part * count + piece, worker.parts * count)


@routine
def barrier_wait(worker):
    """All workers pass a barrier or none does: the last to arrive opens it, or an aborted one closes it."""
    barrier, parts = worker.barrier, worker.parts
    if parts == 1:
        return OK
    now = atomic_load(barrier, GENERATION)
    if now == CLOSED:
        return ABORTED
    if atomic_add(barrier, ARRIVED, np.int32(1)) == parts - 1:
        atomic_add(barrier, ARRIVED, np.int32(-parts))
        return OK if replace(barrier, GENERATION, now, np.int32(now + 1)) else ABORTED
    spins = 0
    while atomic_load(barrier, GENERATION) == now:
        if check_abort(worker) != OK:
            replace(barrier, GENERATION, now, np.int32(CLOSED))
        spins += 1
        if spins > 2000:
            yield_cpu()
    return ABORTED if atomic_load(barrier, GENERATION) == CLOSED else OK
