"""Draws symbols one after the other, for rows side by side."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba.core import types

from fastrnn.backends.numba.constants import BAD_SIZE, BAD_SYMBOL, COMPLETE, OK, OVERFLOW, VOCABULARY
from fastrnn.backends.numba.elementary import each_difference, each_exp_of_negative
from fastrnn.backends.numba.inference import step
from fastrnn.backends.numba.jit import jit, procedure, routine
from fastrnn.backends.numba.layers import bad_symbols
from fastrnn.backends.numba.llvm import as_element, at, clear
from fastrnn.backends.numba.matmul import part_start
from fastrnn.backends.numba.team import Worker, bad_worker, barrier_wait

#: The marks of symbols: one that may not be drawn, one that may, and one that would repeat an n-gram.
FORBIDDEN, ALLOWED, REPEATS = 0, 1, 2


class Filters(NamedTuple):
    """How symbols are drawn, as in the contract."""

    temperature: float
    top_p: float
    min_p: float
    penalty: float
    top_k: int
    window: int
    ngram: int


class Automaton(NamedTuple):
    """Pointers to the arrays of an automaton, and its number of states."""

    transitions: Any
    distances: Any
    states: int


@routine
def all_are_finite(x, n):
    """Whether n elements are finite."""
    finite = True
    for i in range(n):
        finite &= x[i] - x[i] == 0
    return finite


@procedure
def penalize(logits, order, end, f, done, V, B):
    """Penalize the symbols among the last ``f.window`` of the ``done`` symbols before ``end``."""
    penalty = as_element(logits, f.penalty)
    clear(order, V)
    for i in range(1, min(f.window, done) + 1):
        order[end[-i * B]] = 1
    for v in range(V):
        if order[v]:
            logits[v] = logits[v] / penalty if logits[v] > 0 else logits[v] * penalty


@routine
def mark_allowed(marks, a, place, left, V):
    """Mark the symbols after which ``left`` more ones suffice to be accepted; return how many they are."""
    next_states = at(a.transitions, place * V if a.states > 0 else np.int64(0))
    count = 0
    for v in range(V):
        if a.states == 0:
            marks[v] = ALLOWED
        else:
            after = next_states[v]
            marks[v] = ALLOWED if after >= 0 and a.distances[after] <= left else FORBIDDEN
        count += marks[v]
    return count


@routine
def mark_repeats(marks, end, ngram, done, B):
    """Mark the allowed symbols that would repeat an n-gram of the symbols before ``end``; return how many."""
    count = 0
    for i in range(1, done - ngram + 2):
        k = 1
        while k < ngram and end[-(i + k) * B] == end[-k * B]:
            k += 1
        symbol = end[-i * B]
        if k == ngram and marks[symbol] == ALLOWED:
            marks[symbol] = REPEATS
            count += 1
    return count


@routine
def comes_before(i, j, e):
    """Whether i comes before j: the larger e first, of equal ones the lower number. It has no branches."""
    return (e[i] > e[j]) | ((e[i] == e[j]) & (i < j))


@procedure
def sift_down(heap, i, e, n):
    """Move an element of a heap of n down to its place."""
    child = 2 * i + 1
    while child < n:
        other = min(child + 1, n - 1)
        child = other if comes_before(heap[other], heap[child], e) else child
        if not comes_before(heap[child], heap[i], e):
            return
        moved = heap[i]
        heap[i] = heap[child]
        heap[child] = moved
        i = child
        child = 2 * i + 1


@procedure
def keep_largest(e, heap, most, enough, least, V):
    """Keep the largest of e, until there are ``most`` or their sum is ``enough``; set the others to zero.

    Those that are at most ``least`` are set to zero too.
    """
    n = np.int64(0)
    for v in range(V):
        stays = np.float64(e[v]) > least
        heap[n] = v  # n ≤ v
        n += stays
        e[v] = e[v] if stays else 0
    for i in range(n // 2 - 1, -1, -1):
        sift_down(heap, i, e, n)
    total = 0.0
    while n > 0 and most > 0 and total < enough:
        total += np.float64(e[heap[0]])
        n -= 1
        heap[0] = heap[n]
        sift_down(heap, np.int64(0), e, n)
        most -= 1
    for i in range(n):
        e[heap[i]] = 0


@partial(routine, result=types.float64)
def total_of(e, V):
    """The sum of V elements, in their order."""
    total = 0.0
    for v in range(V):
        total += np.float64(e[v])
    return total


@routine
def draw(logits, marks, drawn, uniform, f, V):
    """Draw one of the symbols with a mark, or of all if it is FORBIDDEN. Overwrite logits and marks."""
    if drawn != FORBIDDEN:
        for v in range(V):
            if marks[v] != drawn:
                logits[v] = -np.inf
    best = 0
    for v in range(1, V):
        best = v if logits[v] > logits[best] else best
    if f.temperature == 0:
        return best
    largest_logit, divisor = logits[best], as_element(logits, f.temperature)
    each_difference(logits, logits, largest_logit, V)
    for v in range(V):
        logits[v] /= divisor
    each_exp_of_negative(logits, logits, V)
    if drawn != FORBIDDEN:
        for v in range(V):
            if marks[v] != drawn:
                logits[v] = 0
    if f.top_k < V:
        keep_largest(logits, marks, f.top_k, np.inf, 0.0, V)
    if f.top_p < 1:  # all that are at most `least` have half of the sum that is dropped, at most
        total = total_of(logits, V)
        least = (1 - f.top_p) * total / (2 * V)
        keep_largest(logits, marks, V, f.top_p * total, least, V)
    if f.min_p > 0:
        lowest = as_element(logits, f.min_p)
        for v in range(V):
            if logits[v] < lowest:
                logits[v] = 0
    wanted, below = uniform * total_of(logits, V), 0.0
    for v in range(V):
        below += np.float64(logits[v])
        if below > wanted:
            return v
    return best


@routine
def next_symbol(logits, order, end, uniform, f, a, place, left, done, V, B):
    """The next symbol of a row with ``done`` symbols before ``end``, whose automaton is at ``place``."""
    drawn = FORBIDDEN
    if f.window > 0:
        penalize(logits, order, end, f, done, V, B)
    if not all_are_finite(logits, V):
        return -OVERFLOW
    if a.states > 0 or f.ngram > 0:
        allowed = mark_allowed(order, a, place, left, V)
        if allowed == 0:
            return -COMPLETE
        repeats = mark_repeats(order, end, f.ngram, done, B) if f.ngram > 0 else 0
        drawn = REPEATS if repeats == allowed else ALLOWED
    return draw(logits, order, drawn, uniform, f, V)


@routine
def has_ended(symbol, stop_symbol):
    return symbol == stop_symbol or symbol < 0


@jit
def sample(
    symbols, inputs, places, state, scratch, logits, order, barrier, prepared, params, uniforms, starts,
    transitions, distances, plan, temperature, top_k, top_p, min_p, penalty, window, ngram, stop_symbol, room,
    part, parts, D, Q, n, B,
):  # fmt: skip
    V, worker = plan[VOCABULARY], Worker(at(barrier, 0), part, parts)
    f = Filters(temperature, top_p, min_p, penalty, top_k, window, ngram)
    a = Automaton(at(transitions, 0), at(distances, 0), Q)
    if n < 0 or B < 1 or D < 0 or Q < 0 or bad_worker(worker):
        return BAD_SIZE
    if (
        bad_symbols(at(inputs, 0), 0, B, V)
        or bad_symbols(at(symbols, 0), 0, D * B, V)
        or (Q > 0 and bad_symbols(at(places, 0), 0, B, Q))
        or bad_symbols(at(transitions, 0), -1, Q * V, Q)
    ):
        return BAD_SYMBOL
    running, status = B, OK
    for i in range(n):
        drawn = at(symbols, (D + i) * B)
        waits = running > 0  # all workers check the same arrays, so all of them wait or none does
        if waits:
            status = step(
                at(logits, 0), at(state, 0), at(scratch, 0), at(prepared, 0), at(params, 0),
                at(inputs, 0), at(starts, 0), at(plan, 0), worker, B,
            )  # fmt: skip
            if status == OK:
                status = barrier_wait(worker)
            if status != OK:
                return status
        for b in range(part_start(B, part, parts), part_start(B, part + 1, parts)):
            before = np.int64(drawn[b - B]) if i > 0 else np.int64(0)
            if i > 0 and has_ended(before, stop_symbol):
                drawn[b] = before
                continue
            symbol = next_symbol(
                at(logits, b * V), at(order, b * V), at(drawn, b), uniforms[i, b], f, a,
                np.int64(places[b]), room - i - 1, D + i, V, B,
            )  # fmt: skip
            drawn[b] = symbol
            if not has_ended(symbol, stop_symbol):
                inputs[b] = symbol
                if Q > 0:
                    places[b] = transitions[places[b], symbol]
        if waits:
            status = barrier_wait(worker)
            if status != OK:
                return status
            running = 0
            for b in range(B):
                running += not has_ended(np.int64(drawn[b]), stop_symbol)
    return OK
