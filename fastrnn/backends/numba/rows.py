"""What the cells share: rows of a batch that begin anew, and gates."""

from __future__ import annotations

from fastrnn.backends.numba.elementary import constant, emit_map, flush_formula
from fastrnn.backends.numba.jit import inlined
from fastrnn.backends.numba.llvm import at, clear, copy, whole


def slope(p, s):
    """The slope of a sigmoid whose value is s."""
    return flush_formula(p, s * (constant(s, 1.0) - s))


def unless_starting(x, continues):
    return x.where(continues.compare("!=", 0.0), 0.0)


def emit_row(formula, kind, shares):
    """The same for a batch row, whose arrays stand beside each other, each of n elements.

    ``shares`` says how many each output has, each of what is read, and how many numbers come after them.
    """
    outs, ins, scalars = shares
    emit = emit_map(formula, kind, sum(outs), sum(ins), scalars, abreast=1)

    def spread(context, builder, signature, arguments):
        *operands, n = arguments
        arrays, numbers = operands[: len(operands) - scalars], operands[len(operands) - scalars :]
        pieces = [
            builder.gep(array, [builder.mul(whole(i), n)])
            for array, count in zip(arrays, outs + ins, strict=True)
            for i in range(count)
        ]
        return emit(context, builder, signature, [*pieces, *numbers, n])

    return spread


@inlined
def mask_starts(masked, rows, starts, B, H):
    """The rows (B, H) with zeros in place of those that start: themselves where none does, else a copy."""
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
