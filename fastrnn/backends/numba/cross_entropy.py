"""The softmax of each row of logits, its loss in nats and its gradient."""

from __future__ import annotations

import math

from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import BAD_SIZE, BAD_SYMBOL, KC, OK, ROWS
from fastrnn.backends.numba.elementary import each_difference, each_exp_of_negative, each_log, each_product
from fastrnn.backends.numba.jit import procedure, routine
from fastrnn.backends.numba.llvm import as_element, at, clear, on_stack
from fastrnn.backends.numba.sums import fold, sum_of


def take_larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


@intrinsic
def largest(typing_context, x, n):
    """The largest of n elements; NaN is ignored."""

    def emit(context, builder, signature, arguments):
        return fold(context, builder, x, *arguments, -math.inf, take_larger)

    return x.dtype(x, types.intp), emit


@procedure
def some_rows(losses, dlogits, logits, targets, scale, N, V):
    """Several rows in several passes: each pass is one long loop over elements that are in the cache."""
    shifted, sums, logs = on_stack(logits, ROWS), on_stack(logits, ROWS), on_stack(logits, ROWS)
    for n in range(N):
        row, out = at(logits, n * V), at(dlogits, n * V)
        largest_logit = largest(row, V)
        shifted[n] = 0 if targets[n] < 0 else row[targets[n]] - largest_logit
        each_difference(out, row, largest_logit, V)
    each_exp_of_negative(dlogits, dlogits, N * V)
    for n in range(N):
        sums[n] = 1 if targets[n] < 0 else sum_of(at(dlogits, n * V), V)
    each_log(logs, sums, N)
    for n in range(N):
        out = at(dlogits, n * V)
        losses[n] = logs[n] - shifted[n]
        if targets[n] < 0:
            clear(out, V)
        else:
            each_product(out, out, scale / sums[n], V)
            out[targets[n]] -= scale


@routine
def cross_entropy(losses, dlogits, logits, targets, scale, N, V):
    if N < 0 or V < 1:
        return BAD_SIZE
    for n in range(N):
        if targets[n] < -1 or targets[n] >= V:
            return BAD_SYMBOL
    rows = ROWS if V < KC else 1 + (ROWS * KC - 1) // V
    for n in range(0, N, rows):
        some_rows(
            at(losses, n), at(dlogits, n * V), at(logits, n * V), at(targets, n), as_element(logits, scale),
            min(rows, N - n), V,
        )  # fmt: skip
    return OK
