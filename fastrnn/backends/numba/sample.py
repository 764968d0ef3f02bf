"""Draws symbols one after the other."""

from __future__ import annotations

import numpy as np

from fastrnn.backends.numba.constants import BAD_SIZE, BAD_SYMBOL, OK, VOCABULARY
from fastrnn.backends.numba.elementary import each_difference, each_exp_of_negative
from fastrnn.backends.numba.inference import step
from fastrnn.backends.numba.jit import jit, routine
from fastrnn.backends.numba.llvm import as_element, at, on_stack
from fastrnn.backends.numba.team import Worker, bad_worker, barrier_wait


@routine
def draw(logits, uniform, temperature, V):
    """Draw one symbol. Overwrite logits with e^((logit - largest) / temperature)."""
    best = 0
    for v in range(1, V):
        best = v if logits[v] > logits[best] else best
    if temperature == 0:
        return best
    largest_logit, divisor = logits[best], as_element(logits, temperature)
    each_difference(logits, logits, largest_logit, V)
    for v in range(V):
        logits[v] /= divisor
    each_exp_of_negative(logits, logits, V)
    total = below = 0.0
    for v in range(V):
        total += np.float64(logits[v])
    for v in range(V):
        below += np.float64(logits[v])
        if below > uniform * total:
            return v
    return best


@routine
def all_are_finite(x, n):
    """Whether n elements are finite."""
    finite = True
    for i in range(n):
        finite &= x[i] - x[i] == 0
    return finite


@jit
def sample(
    symbols, state, scratch, logits, barrier, prepared, params, uniforms, starts, plan, temperature,
    symbol_before, stop_symbol, part, parts, n,
):  # fmt: skip
    V, worker = plan[VOCABULARY], Worker(at(barrier, 0), part, parts)
    if n < 0 or bad_worker(worker):
        return BAD_SIZE
    if symbol_before < 0 or symbol_before >= V:
        return BAD_SYMBOL
    symbol, ended = on_stack(symbols, 1), False
    symbol[0] = symbol_before
    for i in range(n):
        if not ended:
            status = step(
                at(logits, 0), at(state, 0), at(scratch, 0), at(prepared, 0), at(params, 0),
                symbol, at(starts, 0), at(plan, 0), worker, np.int64(1),
            )  # fmt: skip
            if status == OK:
                status = barrier_wait(worker)
            if status == OK and part == 0:  # the other workers read it after they have waited
                finite = all_are_finite(at(logits, 0), V)
                symbols[i] = draw(at(logits, 0), uniforms[i], temperature, V) if finite else -1
            if status == OK:
                status = barrier_wait(worker)
            if status != OK:
                return status
            symbol[0] = symbols[i]
            ended = symbol[0] == stop_symbol or symbol[0] < 0
        elif part == 0:
            symbols[i] = symbol[0]
    return OK
