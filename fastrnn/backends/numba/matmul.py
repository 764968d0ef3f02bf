"""The one matrix product behind every kernel, C = C0 + A B; csrc/matmul.h says how."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import KC, MC, ROWS
from fastrnn.backends.numba.elementary import each_sum
from fastrnn.backends.numba.jit import WIDTH, inlined, procedure
from fastrnn.backends.numba.llvm import at, clear, copy, exists, whole
from fastrnn.backends.numba.simd import MR, ROW_VECTORS, Vectors, panel_columns


@intrinsic
def transpose(typing_context, out, out_i, x, x_i):
    """Eight rows of eight become columns: three times the first four are shuffled into the other four."""

    def emit(context, builder, signature, arguments):
        to, to_i, start, start_i = arguments
        v = Vectors(builder, context.get_data_type(x.dtype), 8)
        rows = [v.load(start, builder.mul(whole(i), start_i)) for i in range(8)]
        for _ in range(3):
            rows = [
                v.shuffle(rows[i], rows[i + 4], [half + lane // 2 + lane % 2 * 8 for lane in range(8)])
                for i in range(4)
                for half in (0, 4)
            ]
        for i, row in enumerate(rows):
            v.store(row, to, builder.mul(whole(i), to_i))
        return context.get_dummy_value()

    return types.none(out, types.intp, x, types.intp), emit


def emit_tile(builder, v, high, vectors, arguments):
    """A tile of so many rows and vectors in a row, of which the last may be there in part."""
    c, c_i, start, start_i, a, a_i, a_k, panels, panel_stride, K, _, columns = arguments
    cells = [(i, j) for i in range(high) for j in range(vectors)]
    in_last = builder.sub(columns, whole((vectors - 1) * v.lanes))

    def place(i, j, row):
        return builder.add(builder.mul(whole(i), row), whole(j * v.lanes))

    sums = []
    for i, j in cells:
        at_ij = place(i, j, start_i)
        value = v.load(start, at_ij) if j < vectors - 1 else v.load_some(start, at_ij, in_last)
        sums.append(cgutils.alloca_once_value(builder, value))
    with cgutils.for_range(builder, K) as loop:
        along, down = builder.mul(loop.index, a_k), builder.mul(loop.index, whole(2 * v.lanes))
        x = [
            v.fill(builder.load(builder.gep(a, [builder.add(builder.mul(whole(i), a_i), along)])))
            for i in range(high)
        ]
        ends = [builder.add(down, whole(j % 2 * v.lanes)) for j in range(vectors)]
        y = [
            v.load(panels, builder.add(builder.mul(whole(j // 2), panel_stride), ends[j]))
            for j in range(vectors)
        ]
        for (i, j), total in zip(cells, sums, strict=True):
            builder.store(v.fma(x[i], y[j], builder.load(total)), total)
    for (i, j), total in zip(cells, sums, strict=True):
        at_ij, value = place(i, j, c_i), builder.load(total)
        if j < vectors - 1:
            v.store(value, c, at_ij)
        else:
            v.store_some(value, c, at_ij, in_last)


def emit_tiles(function, real, lanes):
    """The body of ``tile``: one for each number of rows, and of vectors in a row."""
    *_, rows, columns = function.args
    entry, end = function.append_basic_block("entry"), function.append_basic_block("end")
    builder = ir.IRBuilder(entry)
    narrow = builder.zext(builder.icmp_signed("<=", columns, whole(lanes)), ir.IntType(64))
    wide = builder.sdiv(builder.add(columns, whole(lanes - 1)), whole(lanes))
    many = builder.add(builder.mul(rows, whole(2)), narrow)
    one_row = builder.icmp_signed("==", rows, whole(1))
    choice = builder.switch(builder.select(one_row, builder.neg(wide), many), end)
    shapes = {-vectors: (1, vectors) for vectors in range(1, ROW_VECTORS + 1)}
    shapes |= {2 * high + thin: (high, 2 - thin) for high in range(2, MR + 1) for thin in (0, 1)}
    for key, (high, vectors) in shapes.items():
        block = function.append_basic_block(f"tile_{high}_{vectors}")
        choice.add_case(whole(key), block)
        builder = ir.IRBuilder(block)
        emit_tile(builder, Vectors(builder, real, lanes), high, vectors, function.args)
        builder.branch(end)
    ir.IRBuilder(end).ret_void()


@intrinsic
def tile(typing_context, c, c_i, start, start_i, a, a_i, a_k, panels, panel_stride, K, rows, columns):
    """A tile of C, kept in registers: C0 + rows of A times panels of K rows of B.

    From panel to panel it is ``panel_stride`` elements.

    It has up to MR rows and a panel's columns, or one row and the columns of ROW_VECTORS vectors.
    """
    size, array = types.intp, types.CPointer(c.dtype)
    lanes = WIDTH // c.dtype.bitwidth
    takes = [array, size, array, size, array, size, size, array, *[size] * 4]

    def emit(context, builder, signature, arguments):
        real = context.get_data_type(c.dtype)
        function_type = ir.FunctionType(ir.VoidType(), [value.type for value in arguments])
        function = cgutils.get_or_insert_function(
            builder.module, function_type, f"fastrnn_tile_{c.dtype}_{WIDTH}"
        )
        if not function.blocks:
            function.linkage = "linkonce_odr"
            emit_tiles(function, real, lanes)
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.none(*takes), emit


@intrinsic
def part_start(typing_context, n, part, parts):
    """Where a part of n things begins; the next part begins where it ends."""

    def emit(context, builder, signature, arguments):
        count, which, of = arguments
        product = builder.mul(count, which)
        found = cgutils.alloca_once_value(builder, product)
        with builder.if_then(builder.icmp_signed(">", of, whole(1))):  # a division takes its time
            builder.store(builder.sdiv(product, of), found)
        return builder.load(found)

    return types.intp(types.intp, types.intp, types.intp), emit


@inlined
def part_column(like, J, part, parts):
    """Where a part of the J columns of a packed matrix begins: the parts have whole panels."""
    panel = panel_columns(like)
    return min(part_start((J + panel - 1) // panel, part, parts) * panel, J)


class Columns(NamedTuple):
    """A worker's part of the columns of G gates of H units each: some ranges of n columns, H apart."""

    first: int
    n: int
    ranges: int


@inlined
def by_units(like, worker, H):
    """Whether a worker has the columns of all gates of its hidden units: a gate must have whole panels."""
    return worker.parts > 1 and H % panel_columns(like) == 0


@inlined
def part_columns(like, worker, G, H):
    first, n, ranges = np.int64(0), G * H, np.int64(1)
    if worker.parts > 1:
        own_gates = by_units(like, worker, H)
        J = H if own_gates else G * H
        first = part_column(like, J, worker.part, worker.parts)
        n = part_column(like, J, worker.part + 1, worker.parts) - first
        ranges = G if own_gates else 1
    return Columns(first, n, ranges)


@intrinsic
def reversed_panels(typing_context, c, c_i):
    """Whether a product of one row reads the panels backwards; every second row of C does."""

    def emit(context, builder, signature, arguments):
        address = builder.ptrtoint(arguments[0], ir.IntType(64))
        row = builder.mul(arguments[1], whole(c.dtype.bitwidth // 8))
        return builder.trunc(builder.udiv(address, row), ir.IntType(1))

    return types.boolean(c, types.intp), emit


@procedure
def matmul_block(c, c_i, start, start_i, a, a_i, a_k, packed, I, K, J):
    """C (I, J) = C0 + A B for one block of rows."""
    panel = panel_columns(c)
    tiles, height, more = np.int64(1), I, np.int64(0)
    if I > MR:  # their heights differ by at most one row
        tiles = (I + MR - 1) // MR
        height, more = I // tiles, I % tiles
    width = ROW_VECTORS * panel // 2 if I == 1 else panel
    strips = (J + width - 1) // width
    reverse = I == 1 and strips > 1 and reversed_panels(c, c_i)
    for k in range(0, K, KC):
        for strip in range(strips):
            j = (strips - 1 - strip if reverse else strip) * width
            i = 0
            for t in range(tiles):
                rows = height + (t < more)
                tile(
                    at(c, i * c_i + j),
                    c_i,
                    at(start, i * start_i + j),
                    start_i,
                    at(a, i * a_i + k * a_k),
                    a_i,
                    a_k,
                    at(packed, j * K + k * panel),
                    K * panel,
                    min(KC, K - k),
                    rows,
                    min(width, J - j),
                )
                i += rows
        start, start_i = c, c_i


@procedure
def matmul(c, c_i, start, start_i, a, a_i, a_k, packed, I, K, J):
    """C (I, J) = C0 + A B, with B (K, J) packed; A's element (i, k) stands at ``a[a_i * i + a_k * k]``.

    Rows of C are ``c_i`` apart, those of C0 ``start_i``. Callers say ``np.int64(1)``, since for a literal 1
    Numba compiles a copy of its own. The rows are taken in blocks, as in C.
    """
    blocks = (I + MC - 1) // MC
    for block in range(blocks):
        i, end = part_start(I, block, blocks), part_start(I, block + 1, blocks)
        matmul_block(
            at(c, i * c_i), c_i, at(start, i * start_i), start_i, at(a, i * a_i), a_i, a_k, packed, end - i,
            K, J,
        )  # fmt: skip


@procedure
def matmul_part(c, start, start_i, a, packed, worker, I, K, G, H):
    """A worker's columns of C (I, G·H) = C0 + A (I, K) B (K, G·H), where the rows of A are K apart."""
    part = part_columns(c, worker, G, H)
    for share in range(part.ranges):
        j = part.first + share * H
        matmul(at(c, j), G * H, at(start, j), start_i, a, K, np.int64(1), at(packed, j * K), I, K, part.n)


@procedure
def pack_transposed(panel, b, K, columns):
    """Pack one panel of a transposed matrix: its columns are rows of ``b``, of K elements."""
    width = panel_columns(b)
    if columns < width:
        clear(panel, K * width)
    eights, i = K - K % 8, np.int64(0)
    while i + 8 <= columns:
        for k in range(0, eights, 8):
            transpose(at(panel, k * width + i), width, at(b, i * K + k), K)
        for k in range(eights, K):
            for row in range(i, i + 8):
                panel[k * width + row] = b[row * K + k]
        i += 8
    for row in range(i, columns):
        for k in range(K):
            panel[k * width + row] = b[row * K + k]


@procedure
def pack_panel(panel, b, b_k, K, columns):
    """Pack one panel of a matrix as it is, ``b_k`` from row to row."""
    width = panel_columns(b)
    for k in range(K):
        to = at(panel, k * width)
        if columns == width:
            copy(to, at(b, k * b_k), width)
        else:
            clear(to, width)
            copy(to, at(b, k * b_k), columns)


@procedure
def bias_gradients(dbias, dy, first, last, N, O):
    """The sum of the rows, of some outputs, in their order."""
    total = at(dbias, first)
    for n in range(N):
        each_sum(total, total, at(dy, n * O + first), last - first)


@procedure
def weight_gradients(dweight, dbias, block, dy, x, starts, first, last, N, I, O):
    """The gradients of y = x Wᵀ + b, for some outputs: dW (O, I) += dyᵀ x and db (O) += Σ dy, over N rows.

    Of a row that starts x counts as zeros. There may be no ``starts``, and no ``dbias``.
    """
    panel = panel_columns(x)
    for n in range(0, N, KC):
        rows, some = min(KC, N - n), at(dy, n * O)
        for i in range(0, I, panel):
            pack_panel(at(block, i * rows), at(x, n * I + i), I, rows, min(panel, I - i))
        if exists(starts):
            for k in range(rows):
                if starts[n + k] != 0:
                    for j in range(0, I, panel):
                        clear(at(block, j * rows + k * panel), panel)
        for o in range(first, last, ROWS):
            drows, few = at(dweight, o * I), min(ROWS, last - o)
            matmul(drows, I, drows, I, at(some, o), np.int64(1), O, block, few, rows, I)
        if exists(dbias):
            bias_gradients(dbias, some, first, last, rows, O)
