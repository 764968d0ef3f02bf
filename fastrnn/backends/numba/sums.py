"""Reductions with SUMS interleaved partial results."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import SUMS
from fastrnn.backends.numba.llvm import whole
from fastrnn.backends.numba.simd import Vectors


def fold(context, builder, kind, start, n, otherwise, combine, prepare=None):
    """Reduce n elements, each after ``prepare``, to SUMS partial results; then combine these in halves."""
    v = Vectors(builder, context.get_data_type(kind.dtype), SUMS)
    prepare = prepare or (lambda vector: vector)
    first = prepare(ir.Constant(v.type, [otherwise] * SUMS))
    total = cgutils.alloca_once_value(builder, first)

    def take(vector):
        builder.store(combine(builder, builder.load(total), prepare(vector)), total)

    in_groups = builder.and_(n, whole(-SUMS))
    with cgutils.for_range_slice(builder, whole(0), in_groups, whole(SUMS), inc=True) as (i, _):
        take(v.load(start, i))
    rest = builder.sub(n, in_groups)
    with builder.if_then(builder.icmp_signed(">", rest, whole(0))):
        take(v.load_some(start, in_groups, rest, otherwise))
    value, width = builder.load(total), SUMS
    while width > 1:
        value = combine(builder, *v.halves(value, width))
        width //= 2
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def add(builder, a, b):
    return builder.fadd(a, b)


@intrinsic
def sum_of(typing_context, x, n):
    """The sum of n elements."""

    def emit(context, builder, signature, arguments):
        return fold(context, builder, x, *arguments, 0.0, add)

    return x.dtype(x, types.intp), emit
