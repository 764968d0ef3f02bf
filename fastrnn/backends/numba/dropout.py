"""Dropout by a counter-based generator, Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011)."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import BAD_SIZE, OK
from fastrnn.backends.numba.jit import routine
from fastrnn.backends.numba.llvm import as_element, at, whole
from fastrnn.backends.numba.simd import Vectors

#: The number of counters that are computed together.
COUNTERS = 16


def philox(builder, counter, key):
    """Philox4x32-10: four vectors of words from four of counters and a key of two numbers, all of 32 bits."""
    narrow = ir.VectorType(ir.IntType(32), COUNTERS)
    wide = ir.VectorType(ir.IntType(64), COUNTERS)

    def fill(number):
        first = builder.insert_element(
            ir.Constant(narrow, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), COUNTERS), None)
        return builder.shuffle_vector(first, first, zeros)

    def product(word, factor):
        """The high and the low half of a product."""
        both = builder.mul(builder.zext(word, wide), ir.Constant(wide, [factor] * COUNTERS))
        high = builder.lshr(both, ir.Constant(wide, [32] * COUNTERS))
        return builder.trunc(high, narrow), builder.trunc(both, narrow)

    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        (a_high, a_low), (b_high, b_low) = product(c0, 0xD2511F53), product(c2, 0xCD9E8D57)
        c0 = builder.xor(builder.xor(b_high, c1), fill(k0))
        c2 = builder.xor(builder.xor(a_high, c3), fill(k1))
        c1, c3 = b_low, a_low
        k0 = builder.add(k0, ir.Constant(ir.IntType(32), 0x9E3779B9))
        k1 = builder.add(k1, ir.Constant(ir.IntType(32), 0xBB67AE85))
    return c0, c1, c2, c3


@intrinsic
def dropout_row(typing_context, out, x, threshold, scale, first, row, step, update, dropout_seed, H):
    """One row: the kept elements of x times ``scale``, else 0; ``first`` is the layer's first counter."""
    size = types.int64
    takes = out, x, size, out.dtype, size, size, size, size, size, size

    def emit(context, builder, signature, arguments):
        to, start, threshold, factor, first_, row_, step_, update_, seed_, n = arguments
        word = ir.IntType(32)
        v = Vectors(builder, context.get_data_type(out.dtype), COUNTERS)
        words = Vectors(builder, word, COUNTERS)
        low = [builder.trunc(number, word) for number in (first_, row_, step_, update_, seed_, threshold)]
        halves = low[4], builder.trunc(builder.lshr(seed_, whole(32)), word)
        rest = [words.fill(number, word) for number in low[1:4]]
        bound, factors = words.fill(low[5], word), v.fill(factor)
        numbers = ir.Constant(ir.VectorType(word, COUNTERS), list(range(COUNTERS)))
        quarter = builder.sdiv(builder.add(n, whole(3)), whole(4))
        with cgutils.for_range_slice(builder, whole(0), quarter, whole(COUNTERS), inc=True) as (j, _):
            begin = builder.add(low[0], builder.trunc(j, word))
            counter = [builder.add(words.fill(begin, word), numbers), *rest]
            left = builder.sub(quarter, j)
            for w, drawn in enumerate(philox(builder, counter, halves)):
                place = builder.add(builder.mul(whole(w), quarter), j)
                here = builder.sub(n, place)
                count = builder.select(builder.icmp_signed("<", here, left), here, left)
                scaled = builder.fmul(v.load_some(start, place, count), factors)
                keep = builder.icmp_unsigned(">=", drawn, bound)
                v.store_some(builder.select(keep, scaled, ir.Constant(v.type, None)), to, place, count)
        return context.get_dummy_value()

    return types.none(*takes), emit


@routine
def dropout(y, x, dropout, dropout_seed, update, layer, first, N, B, H):
    if N < 0 or B < 1 or H < 1 or first < 0 or not 0 <= dropout < 1:
        return BAD_SIZE
    threshold, scale = np.int64(dropout * 4294967296.0), as_element(y, 1 / (1 - dropout))
    for n in range(N):
        row, step = (first + n) % B, (first + n) // B
        dropout_row(
            at(y, n * H),
            at(x, n * H),
            threshold,
            scale,
            layer * ((H + 3) // 4),
            row,
            step,
            update,
            dropout_seed,
            H,
        )
    return OK
