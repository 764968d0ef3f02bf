"""How the parts of one piece of work wait for each other, at the end of each phase."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import ABORT, ABORTED, ARRIVED, OK, ROUND
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.llvm import address, exists


@intrinsic
def atomic_add(typing_context, array, i, value):
    """Add to an element of an int32 array, at once for all threads; returns what it was."""

    def emit(context, builder, signature, arguments):
        element = builder.gep(address(context, builder, array, arguments[0]), [arguments[1]])
        return builder.atomic_rmw("add", element, arguments[2], "seq_cst")

    return types.int32(array, types.intp, types.int32), emit


@intrinsic
def atomic_load(typing_context, array, i):
    """An element of an int32 array as other threads have written it."""

    def emit(context, builder, signature, arguments):
        element = builder.gep(address(context, builder, array, arguments[0]), [arguments[1]])
        return builder.load_atomic(element, "seq_cst", 4)

    return types.int32(array, types.intp), emit


#: Gives way to other threads.
give_way = types.ExternalFunction(
    "SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32()
)


@routine
def go_on(team):
    """ABORTED once the parts are to end: what may last asks now and then."""
    return ABORTED if exists(team.sync) and atomic_load(team.sync, ABORT) != 0 else OK


@routine
def wait_for_all(team):
    sync, parts = team.sync, team.parts
    if parts == 1:
        return OK
    now = atomic_load(sync, ROUND)
    if atomic_add(sync, ARRIVED, np.int32(1)) == parts - 1:
        atomic_add(sync, ARRIVED, np.int32(-parts))
        atomic_add(sync, ROUND, np.int32(1))
        return OK
    spins = 0
    while atomic_load(sync, ROUND) == now:
        if go_on(team) != OK:
            return ABORTED
        spins += 1
        if spins > 2000:
            give_way()
    return OK


class Team(NamedTuple):
    """What a part of a team has."""

    sync: Any
    part: int
    parts: int
