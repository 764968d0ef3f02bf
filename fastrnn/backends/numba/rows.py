"""Functions that several cells use: for rows that start anew, and for gates."""

from __future__ import annotations

from fastrnn.backends.numba.elementary import constant, emit_map, flush_formula
from fastrnn.backends.numba.jit import inlined
from fastrnn.backends.numba.llvm import at, clear, copy, whole


def sigmoid_slope(p, s):
    """The derivative of the sigmoid where its value is s."""
    return flush_formula(p, s * (constant(s, 1.0) - s))


def unless_starting(x, continues):
    return x.where(continues.compare("!=", 0.0), 0.0)


def emit_row(formula, kind, shares):
    """Like `emit_map` for n elements of a batch row. An array may hold several vectors, such as gates.

    The vectors of an array begin ``apart`` elements apart.

    ``shares`` is the number of vectors in each output, those in each input, and the number of scalars.
    """
    outs, ins, scalars = shares
    emit = emit_map(formula, kind, sum(outs), sum(ins), scalars, at_once=1)

    def spread(context, builder, signature, arguments):
        *operands, n, apart = arguments
        arrays, numbers = operands[: len(operands) - scalars], operands[len(operands) - scalars :]
        pieces = [
            builder.gep(array, [builder.mul(whole(i), apart)])
            for array, count in zip(arrays, outs + ins, strict=True)
            for i in range(count)
        ]
        return emit(context, builder, signature, [*pieces, *numbers, n])

    return spread


@inlined
def mask_starts(masked, rows, starts, B, H):
    """The rows (B, H), with zeros in the rows that start: ``rows`` itself if no row starts, else a copy."""
    any_start = False
    for b in range(B):
        any_start |= starts[b] != 0
    if not any_start:
        return at(rows, 0)
    for b in range(B):
        if starts[b] != 0:
            clear(at(masked, b * H), H)
        else:
            copy(at(masked, b * H), at(rows, b * H), H)
    return at(masked, 0)
