"""The kernels of ``csrc/fastrnn.h``, compiled by Numba.

Names, arguments and meanings are the header's, and so are the dimension letters: T time steps,
B batch rows, V vocabulary, H hidden units, N rows of a product, n elements of a flat vector. A kernel
is compiled when it is first called, for the precision that it is called with, and is cached on disk
where a writable place is found. All of them stand in this one module because Numba's cache does not
notice a change in another file.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.caching import FunctionCache
from numba.extending import intrinsic, overload, register_jitable
from numba.np.arrayobj import make_array, populate_array

logger = logging.getLogger("fastrnn")

OK, BAD_SIZE, BAD_SYMBOL, BAD_CHOICE = 0, 1, 2, 3
SGD, ADAGRAD, ADAM = 0, 1, 2
EXP, TANH, SIGMOID, LOG = 0, 1, 2, 3


class ForgivingCache(FunctionCache):
    """Numba's cache on disk, without which fastrnn does where it is damaged, full or out of reach."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a compiled kernel, or ``None``: then it is compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            logger.warning("Numba's cache cannot be read: %s", self.cache_path, exc_info=True)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, if possible."""
        try:
            super().save_overload(sig, data)
        except Exception:
            logger.warning("Numba's cache cannot be written: %s", self.cache_path, exc_info=True)


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the GIL and without exceptions, with a cache where one can be written."""
    compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
    try:
        compiled._cache = ForgivingCache(function)  # noqa: SLF001  (what cache=True does)
    except RuntimeError:  # "cannot cache function …: no locator available"
        logger.info("Numba finds no place for its cache")
    return cast("Callable[..., Any]", compiled)


def processor() -> tuple[int, bool]:
    """The widest vectors, in bits, that the processor has (0: not known), and whether it fuses."""
    features = llvmlite.binding.get_host_cpu_features()
    widths = {"avx512f": 512, "avx": 256, "sse2": 128, "neon": 128}
    bits = max((width for name, width in widths.items() if features.get(name)), default=0)
    return bits, bool(features.get("fma") or features.get("neon"))


# ---- What Numba has no words for, as LLVM --------------------------------------------------------------

WIDTH = max(processor()[0], 128)
TILE_ROWS = 8 if WIDTH == 512 else 4
BLOCK, SUMS = 256, 16


def element_pointer(context, builder, array_type, array, offset):
    """A pointer to the element at an offset of a C-contiguous array of any dimension."""
    return builder.gep(make_array(array_type)(context, builder, array).data, [offset])


@intrinsic
def fma(typing_context, a, b, c):
    """``a * b + c`` in one rounding, for three scalars of one precision."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def emit(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return a(a, a, a), emit


@intrinsic(prefer_literal=True)
def stack_array(typing_context, like, size):
    """An uninitialised array of a constant size, of the type of ``like``, on the stack."""
    array_type = types.Array(like.dtype, 1, "C")

    def emit(context, builder, signature, arguments):
        element = context.get_data_type(like.dtype)
        data = cgutils.alloca_once(builder, element, size=size.literal_value)
        array = make_array(array_type)(context, builder)
        bytes_each = context.get_constant(types.intp, like.dtype.bitwidth // 8)
        populate_array(
            array,
            data=data,
            shape=[context.get_constant(types.intp, size.literal_value)],
            strides=[bytes_each],
            itemsize=bytes_each,
            meminfo=None,
        )
        return array._getvalue()  # noqa: SLF001  (as Numba's own code does)

    return array_type(like, size), emit


@intrinsic
def panel_width(typing_context, array):
    """The columns of a panel, two vectors."""
    width = 2 * WIDTH // array.dtype.bitwidth

    def emit(context, builder, signature, arguments):
        return context.get_constant(types.intp, width)

    return types.intp(array), emit


@intrinsic(prefer_literal=True)
def tile(typing_context, rows, panels, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K):
    """``rows`` rows of C, ``panels`` panels wide, += rows of A times panels of K rows of B.

    C is kept in registers. Arrays are given with the offset of their first element; the elements of a
    row of C and of B are beside each other.
    """
    lanes = WIDTH // c.dtype.bitwidth
    cells = [(i, j) for i in range(rows.literal_value) for j in range(2 * panels.literal_value)]

    def emit(context, builder, signature, arguments):
        _, _, c_, c_at_, c_i_, a_, a_at_, a_i_, a_k_, b_, b_at_, K_ = arguments
        vector = ir.VectorType(context.get_data_type(c.dtype), lanes)
        align = c.dtype.bitwidth // 8
        fma_of_vectors = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector] * 3),
            f"llvm.fma.v{lanes}f{c.dtype.bitwidth}",
        )

        def number(value):
            return context.get_constant(types.intp, value)

        def vector_at(start, offset):
            return builder.bitcast(builder.gep(start, [offset]), vector.as_pointer())

        def in_all_lanes(scalar):
            first = builder.insert_element(
                ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
            )
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
            return builder.shuffle_vector(first, first, zeros)

        c_start = element_pointer(context, builder, c, c_, c_at_)
        a_start = element_pointer(context, builder, a, a_, a_at_)
        b_start = element_pointer(context, builder, b, b_, b_at_)
        panel_size = builder.mul(K_, number(2 * lanes))
        where = [
            vector_at(c_start, builder.add(builder.mul(number(i), c_i_), number(j * lanes))) for i, j in cells
        ]
        sums = [cgutils.alloca_once_value(builder, builder.load(at, align=align)) for at in where]
        with cgutils.for_range(builder, K_) as loop:
            left = [
                in_all_lanes(
                    builder.load(
                        builder.gep(
                            a_start,
                            [builder.add(builder.mul(number(i), a_i_), builder.mul(loop.index, a_k_))],
                        )
                    )
                )
                for i in range(rows.literal_value)
            ]
            in_panel = builder.mul(loop.index, number(2 * lanes))
            right = [
                builder.load(
                    vector_at(
                        b_start,
                        builder.add(
                            builder.mul(number(j // 2), panel_size),
                            builder.add(in_panel, number(j % 2 * lanes)),
                        ),
                    ),
                    align=align,
                )
                for j in range(2 * panels.literal_value)
            ]
            for (i, j), total in zip(cells, sums, strict=True):
                new = builder.call(fma_of_vectors, [left[i], right[j], builder.load(total)])
                builder.store(new, total)
        for at, total in zip(where, sums, strict=True):
            builder.store(builder.load(total), at, align=align)
        return context.get_dummy_value()

    return types.none(rows, panels, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K), emit


# ---- The matrix product ------------------------------------------------------------------------------


@jit
def tile_of_rows(rows, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K):
    """A tile of any number of rows up to TILE_ROWS."""
    if rows == 1:
        tile(1, 1, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K)
    elif rows == 2:
        tile(2, 1, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K)
    elif rows == 3:
        tile(3, 1, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K)
    elif rows == 4:
        tile(4, 1, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K)
    elif rows == 5:
        tile(5, 1, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K)
    elif rows == 6:
        tile(6, 1, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K)
    elif rows == 7:
        tile(7, 1, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K)
    elif rows == 8:
        tile(8, 1, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K)


@jit
def edge_tile(rows, columns, c, c_at, c_i, a, a_at, a_i, a_k, b, b_at, K):
    """A tile narrower than a panel, worked on in a copy that is as wide as one."""
    panel = panel_width(c)
    padded = stack_array(c, 256)
    for i in range(rows):
        for j in range(panel):
            padded[i * panel + j] = c[c_at + i * c_i + j] if j < columns else 0
    tile_of_rows(rows, padded, np.int64(0), panel, a, a_at, a_i, a_k, b, b_at, K)
    for i in range(rows):
        for j in range(columns):
            c[c_at + i * c_i + j] = padded[i * panel + j]


@jit
def pack(packed, b, b_at, b_k, b_j, K, J):
    """Pack B (K, J), whose element (k, j) stands at ``b_at + b_k * k + b_j * j``, into panels."""
    panel = panel_width(b)
    at = 0
    for j in range(0, J, panel):
        columns = min(panel, J - j)
        for k in range(K):
            start = b_at + k * b_k + j * b_j
            for i in range(columns):
                packed[at + i] = b[start + i * b_j]
            for i in range(columns, panel):
                packed[at + i] = 0
            at += panel


@jit
def matmul_add(c, c_at, a, a_at, a_i, a_k, packed, I, K, J):
    """C (I, J) += A B, with B (K, J) packed; A's element (i, k) stands at ``a_at + a_i * i + a_k * k``.

    Arrays are flat, and given with the offset of their first element. Callers say ``np.int64(1)``, since
    for a literal 1 Numba compiles a copy of its own.
    """
    panel = panel_width(c)
    j = 0
    if I == 1:
        while j + 4 * panel <= J:
            tile(1, 4, c, c_at + j, J, a, a_at, a_i, a_k, packed, j * K, K)
            j += 4 * panel
    while j < J:
        columns = min(panel, J - j)
        for i in range(0, I, TILE_ROWS):
            rows = min(TILE_ROWS, I - i)
            c_first, a_first = c_at + i * J + j, a_at + i * a_i
            if columns < panel:
                edge_tile(rows, columns, c, c_first, J, a, a_first, a_i, a_k, packed, j * K, K)
            else:
                tile_of_rows(rows, c, c_first, J, a, a_first, a_i, a_k, packed, j * K, K)
        j += panel


@jit
def matmul_add_long(c, a, b, packed, I, K, J):
    """C (I, J) += Aᵀ B, for A (K, I) and B (K, J) with K large: B is packed a block of rows at a time."""
    for k in range(0, K, BLOCK):
        rows = min(BLOCK, K - k)
        pack(packed, b, k * J, J, np.int64(1), rows, J)
        matmul_add(c, np.int64(0), a, k * I, np.int64(1), I, packed, I, rows, J)


# ---- Elementary functions: csrc/elementary.h has the same, and says what they do ----------------------


def make_integer_scaling(halves):
    """An intrinsic from x and ``rounded``, which holds a whole number n, to x · 2ⁿ or to 2ⁿ itself."""

    @intrinsic
    def scaling(typing_context, x, rounded):
        bits = x.bitwidth
        mantissa, bias, rounder = (23, 127, 0x4B400000) if bits == 32 else (52, 1023, 0x4338000000000000)

        def emit(context, builder, signature, arguments):
            value, whole = arguments
            integer, real = ir.IntType(bits), context.get_data_type(x)

            def power_of_two(n):
                biased = builder.add(n, ir.Constant(integer, bias))
                return builder.bitcast(builder.shl(biased, ir.Constant(integer, mantissa)), real)

            n = builder.sub(builder.bitcast(whole, integer), ir.Constant(integer, rounder))
            if not halves:
                return builder.fmul(value, power_of_two(n))
            half = builder.sdiv(n, ir.Constant(integer, 2))
            once = builder.fmul(value, power_of_two(half))
            return builder.fmul(once, power_of_two(builder.sub(n, half)))

        return x(x, rounded), emit

    return scaling


times_power_of_two = make_integer_scaling(halves=False)
times_power_of_two_in_steps = make_integer_scaling(halves=True)


@intrinsic
def copysign(typing_context, x, sign):
    """The size of x with the sign of another real."""

    def emit(context, builder, signature, arguments):
        real = context.get_data_type(x)
        function = builder.module.declare_intrinsic(
            "llvm.copysign", [real], ir.FunctionType(real, [real, real])
        )
        return builder.call(function, arguments)

    return x(x, sign), emit


@intrinsic
def split_exponent(typing_context, x):
    """For a normal x > 0: k + ROUNDER as a real, and m from √½ to √2, with x = m · 2ᵏ⁻ᵇⁱᵃˢ."""
    bits = x.bitwidth
    mantissa, bias, rounder, root = (
        (23, 127, 0x4B400000, 0x3F3504F3)
        if bits == 32
        else (52, 1023, 0x4338000000000000, 0x3FE6A09E667F3BCD)
    )

    def emit(context, builder, signature, arguments):
        integer, real = ir.IntType(bits), context.get_data_type(x)

        def number(value):
            return ir.Constant(integer, value)

        offset = builder.sub(builder.bitcast(arguments[0], integer), number(root))
        offset = builder.add(offset, number(bias << mantissa))
        k = builder.add(builder.lshr(offset, number(mantissa)), number(rounder))
        m = builder.add(builder.and_(offset, number((1 << mantissa) - 1)), number(root))
        parts = [builder.bitcast(k, real), builder.bitcast(m, real)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(x, 2)(x), emit


class Precision(NamedTuple):
    """The constants of the elementary functions in one precision."""

    log2e: Any
    ln2_high: Any
    ln2_low: Any
    rounder: Any
    exp_low: Any
    exp_high: Any
    tanh_enough: Any
    tanh_small: Any
    smallest: Any
    up: Any
    mantissa: Any
    bias: Any
    exp_coefficients: tuple[Any, ...]
    log_coefficients: tuple[Any, ...]


def precision(real, constants, exp_coefficients, log_coefficients):
    hexadecimal = [real(float.fromhex(value) if isinstance(value, str) else value) for value in constants]
    polynomials = [
        tuple(real(float.fromhex(c)) for c in p.split()) for p in (exp_coefficients, log_coefficients)
    ]
    return Precision(*hexadecimal, *polynomials)


SINGLE = precision(
    np.float32,
    [
        "0x1.715476p+0",
        "0x1.62e400p-1",
        "0x1.7f7d1cp-20",
        "0x1.8p23",
        -104,
        89,
        20,
        0.6,
        "0x1p-126",
        "0x1p23",
        23,
        127,
    ],
    "0x1.6bec06p-10 0x1.122776p-7 0x1.555674p-5 0x1.5554b0p-3 0x1.fffffep-2",
    "0x1.3b20b4p-3 0x1.745cdep-3 0x1.c71c72p-3 0x1.249250p-2 0x1.99999ap-2 0x1.555556p-1",
)
DOUBLE = precision(
    np.float64,
    [
        *("0x1.71547652b82fep+0", "0x1.62e42fefa3800p-1", "0x1.ef35793c76730p-45", "0x1.8p52"),
        *(-746, 710, 40, 0.6, "0x1p-1022", "0x1p52", 52, 1023),
    ],
    "0x1.1ee88a10a4452p-29 0x1.af5e751c3e845p-26 0x1.27e5362ab05fcp-22 0x1.71ddf87eacb85p-19 "
    "0x1.a01a017bc728dp-16 0x1.a01a01afd3e6bp-13 0x1.6c16c16c1f076p-10 0x1.111111110f6dap-7 "
    "0x1.555555555553fp-5 0x1.5555555555559p-3 0x1p-1",
    "0x1.0f6a9a6e462b1p-3 0x1.0f5bf6014603fp-3 0x1.3b20b4deee594p-3 0x1.745cddff6653fp-3 "
    "0x1.c71c7259aa339p-3 0x1.249249242aaf7p-2 0x1.9999999999e06p-2 0x1.5555555555555p-1",
)


@intrinsic
def polynomial(typing_context, x, coefficients):
    """The polynomial with these coefficients, the highest first, by fused multiply-adds."""

    def emit(context, builder, signature, arguments):
        first, *rest = cgutils.unpack_tuple(builder, arguments[1])
        total = first
        for coefficient in rest:
            total = builder.fma(total, arguments[0], coefficient)
        return total

    return x(x, coefficients), emit


def make_elementary(p):
    """The functions exp, tanh, sigmoid and log of one precision."""
    real = type(p.bias)
    one, two, half, zero = real(1), real(2), real(0.5), real(0)
    infinity, nan = real(np.inf), real(np.nan)
    offset = p.rounder + p.bias

    @register_jitable
    def reduce(x):
        rounded = fma(x, p.log2e, p.rounder)
        whole = rounded - p.rounder
        first = fma(whole, -p.ln2_high, x)
        r = fma(whole, -p.ln2_low, first)
        rest = fma(whole, -p.ln2_low, first - r)
        return r + fma(polynomial(r, p.exp_coefficients), r * r, rest), rounded

    @register_jitable
    def exp(x):
        x = p.exp_low if x < p.exp_low else x
        x = p.exp_high if x > p.exp_high else x
        e, rounded = reduce(x)
        return times_power_of_two_in_steps(e + one, rounded)

    def tanh(x):
        size = copysign(x, one)
        twice = size + size
        twice = p.tanh_enough if twice > p.tanh_enough else twice
        e, rounded = reduce(twice)
        scale = times_power_of_two(one, rounded)
        s = fma(scale, e, scale - one) * half
        is_small = twice < p.tanh_small
        quotient = (s * s if is_small else s) / (one + s)
        return copysign(s - quotient if is_small else quotient, x)

    def sigmoid(x):
        e = exp(-copysign(x, one))
        return (e if x < zero else one) / (one + e)

    def log(x):
        normal = x * p.up if x < p.smallest else x
        exponent, m = split_exponent(normal)
        k = exponent - offset - (p.mantissa if x < p.smallest else zero)
        f = m - one
        s = f / (two + f)
        z = s * s
        square = half * f * f
        low = fma(s, fma(z, polynomial(z, p.log_coefficients), square), k * p.ln2_low)
        result = fma(k, p.ln2_high, f - (square - low))
        edge = -infinity if x == zero else (infinity if x == infinity else nan)
        return result if x > zero and x < infinity else edge

    return {"exp": exp, "tanh": tanh, "sigmoid": sigmoid, "log": log}


def for_both_precisions(name):
    """A function of that name, for reals of either precision."""
    implementations = {
        types.float32: make_elementary(SINGLE)[name],
        types.float64: make_elementary(DOUBLE)[name],
    }

    def function(x):
        raise NotImplementedError

    @overload(function)
    def implementation(x):
        return implementations.get(x)

    return function


exp, tanh, sigmoid, log = map(for_both_precisions, ("exp", "tanh", "sigmoid", "log"))


@jit
def elementary(y, x, function, n):
    if n < 0:
        return BAD_SIZE
    if function == EXP:
        for i in range(n):
            y[i] = exp(x[i])
    elif function == TANH:
        for i in range(n):
            y[i] = tanh(x[i])
    elif function == SIGMOID:
        for i in range(n):
            y[i] = sigmoid(x[i])
    elif function == LOG:
        for i in range(n):
            y[i] = log(x[i])
    else:
        return BAD_CHOICE
    return OK


@jit
def add_halves(partial):
    """The sum of SUMS numbers, added up in halves."""
    width = SUMS // 2
    while width > 0:
        for i in range(width):
            partial[i] += partial[i + width]
        width //= 2
    return partial[0]


# ---- Linear maps -------------------------------------------------------------------------------------


@jit
def gather_forward(y, weight, bias, ids, N, V, O):
    if N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        for o in range(O):
            y[n, o] = weight[v, o] + bias[o]
    return OK


@jit
def gather_gradients(dweight, dy, ids, N, V, O):
    if N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        for o in range(O):
            dweight[v, o] += dy[n, o]
    return OK


@jit
def linear_forward(y, packed, x, weight, bias, N, I, O):
    if N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    flat = packed.reshape(packed.size)
    pack(flat, weight.reshape(weight.size), np.int64(0), np.int64(1), I, I, O)
    for n in range(N):
        for o in range(O):
            y[n, o] = bias[o]
    matmul_add(y.reshape(y.size), np.int64(0), x.reshape(x.size), np.int64(0), I, np.int64(1), flat, N, I, O)
    return OK


@jit
def linear_backward(dx, packed, dy, weight, N, I, O):
    if N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    dx[:] = 0
    flat = packed.reshape(packed.size)
    pack(flat, weight.reshape(weight.size), np.int64(0), I, np.int64(1), O, I)
    matmul_add(
        dx.reshape(dx.size), np.int64(0), dy.reshape(dy.size), np.int64(0), O, np.int64(1), flat, N, O, I
    )
    return OK


@jit
def linear_gradients(dweight, dbias, packed, dy, x, N, I, O):
    if N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    matmul_add_long(
        dweight.reshape(dweight.size),
        dy.reshape(dy.size),
        x.reshape(x.size),
        packed.reshape(packed.size),
        O,
        N,
        I,
    )
    for n in range(N):
        for o in range(O):
            dbias[o] += dy[n, o]
    return OK


# ---- Cells -------------------------------------------------------------------------------------------


@jit
def rnn_forward(h, h_prev, state, packed, weight_hh, starts, T, B, H):
    if T < 1 or B < 1 or H < 1:
        return BAD_SIZE
    flat = packed.reshape(packed.size)
    pack(flat, weight_hh.reshape(weight_hh.size), np.int64(0), np.int64(1), H, H, H)
    h_flat, h_prev_flat = h.reshape(h.size), h_prev.reshape(h_prev.size)
    for t in range(T):
        before = state if t == 0 else h[t - 1]
        for b in range(B):
            running = starts[t, b] == 0
            for i in range(H):
                h_prev[t, b, i] = before[b, i] if running else 0
        matmul_add(h_flat, t * B * H, h_prev_flat, t * B * H, H, np.int64(1), flat, B, H, H)
        for b in range(B):
            for i in range(H):
                h[t, b, i] = tanh(h[t, b, i])
    for b in range(B):
        for i in range(H):
            state[b, i] = h[T - 1, b, i]
    return OK


@jit
def rnn_backward(dh, carry, packed, h, weight_hh, starts, T, B, H):
    if T < 1 or B < 1 or H < 1:
        return BAD_SIZE
    one = h.dtype.type(1)
    flat = packed.reshape(packed.size)
    pack(flat, weight_hh.reshape(weight_hh.size), np.int64(0), H, np.int64(1), H, H)
    dh_flat = dh.reshape(dh.size)
    carry[:] = 0
    for t in range(T - 1, -1, -1):
        for b in range(B):
            for i in range(H):
                dh[t, b, i] = (one - h[t, b, i] * h[t, b, i]) * (dh[t, b, i] + carry[b, i])
        if t > 0:
            carry[:] = 0
            matmul_add(
                carry.reshape(carry.size), np.int64(0), dh_flat, t * B * H, H, np.int64(1), flat, B, H, H
            )
        for b in range(B):
            if starts[t, b] != 0:
                for i in range(H):
                    carry[b, i] = 0
    return OK


# ---- Head --------------------------------------------------------------------------------------------


@jit
def cross_entropy(losses, dlogits, logits, targets, scale, N, V):
    if N < 0 or V < 1:
        return BAD_SIZE
    real_scale = logits.dtype.type(scale)
    partial = stack_array(logits, SUMS)
    for n in range(N):
        target = targets[n]
        if target < -1 or target >= V:
            return BAD_SYMBOL
        if target == -1:
            losses[n] = 0
            for v in range(V):
                dlogits[n, v] = 0
            continue
        most = logits[n, 0]
        for v in range(1, V):
            most = max(most, logits[n, v])
        target_logit = logits[n, target] - most
        for v in range(V):
            dlogits[n, v] = exp(logits[n, v] - most)
        partial[:] = 0
        whole = V - V % SUMS
        for v in range(0, whole, SUMS):
            for i in range(SUMS):
                partial[i] += dlogits[n, v + i]
        for v in range(whole, V):
            partial[v - whole] += dlogits[n, v]
        total = add_halves(partial)
        losses[n] = log(total) - target_logit
        over_total = real_scale / total
        for v in range(V):
            dlogits[n, v] *= over_total
        dlogits[n, target] -= real_scale
    return OK


# ---- Clipping and updates ----------------------------------------------------------------------------


@jit
def clip_value(grads, limit, n):
    if n < 0:
        return BAD_SIZE
    high = grads.dtype.type(limit)
    for i in range(n):
        g = grads[i]
        grads[i] = high if g > high else (max(g, -high))
    return OK


@jit
def clip_norm(norm, grads, limit, n):
    if n < 0:
        return BAD_SIZE
    partial = stack_array(norm, SUMS)
    partial[:] = 0
    whole = n - n % SUMS
    for start in range(0, whole, SUMS):
        for i in range(SUMS):
            g = np.float64(grads[start + i])
            partial[i] += g * g
    for start in range(whole, n):
        g = np.float64(grads[start])
        partial[start - whole] += g * g
    norm[0] = math.sqrt(add_halves(partial))
    if norm[0] > limit:
        scale = grads.dtype.type(limit / norm[0])
        for i in range(n):
            grads[i] *= scale
    return OK


@jit
def sgd_update(params, moments, grads, settings, n):
    if n < 0:
        return BAD_SIZE
    rate = params.dtype.type(settings[0])
    for i in range(n):
        params[i] -= rate * grads[i]
    return OK


@jit
def adagrad_update(params, moments, grads, settings, n):
    if n < 0:
        return BAD_SIZE
    real = params.dtype.type
    rate, epsilon = real(settings[0]), real(settings[1])
    m = moments[0]
    for i in range(n):
        m[i] += grads[i] * grads[i]
        params[i] -= rate * grads[i] / (math.sqrt(m[i]) + epsilon)
    return OK


@jit
def adam_update(params, moments, grads, settings, n):
    if n < 0:
        return BAD_SIZE
    real = params.dtype.type
    step, beta1, beta2 = real(settings[0]), real(settings[1]), real(settings[2])
    rest1, rest2 = real(1 - settings[1]), real(1 - settings[2])
    epsilon, correction = real(settings[3]), real(settings[4])
    m, v = moments[0], moments[1]
    for i in range(n):
        g = grads[i]
        m[i] = beta1 * m[i] + rest1 * g
        v[i] = beta2 * v[i] + rest2 * g * g
        params[i] -= step * m[i] / (math.sqrt(v[i]) / correction + epsilon)
    return OK


# ---- The whole network -------------------------------------------------------------------------------


@jit
def split_parameters(flat, V, H):
    """Views of weight_ih (V, H), weight_hh (H, H), bias (H), head weight (V, H) and head bias (V)."""
    hh = V * H
    bias = hh + H * H
    head = bias + H
    head_bias = head + V * H
    return (
        flat[:hh].reshape((V, H)),
        flat[hh:bias].reshape((H, H)),
        flat[bias:head],
        flat[head:head_bias].reshape((V, H)),
        flat[head_bias : head_bias + V],
    )


@jit
def split_workspace(flat, T, B, V, H):
    """Views of h, h_prev, dh (T, B, H), logits (T, B, V), carry (B, H) and packed."""
    size = T * B * H
    logits = 3 * size
    carry = logits + T * B * V
    packed = carry + B * H
    return (
        flat[:size].reshape((T, B, H)),
        flat[size : 2 * size].reshape((T, B, H)),
        flat[2 * size : logits].reshape((T, B, H)),
        flat[logits:carry].reshape((T, B, V)),
        flat[carry:packed].reshape((B, H)),
        flat[packed:],
    )


@jit
def network_forward(state, workspace, params, inputs, starts, T, B, V, H):
    if T < 1 or B < 1 or V < 1 or H < 1:
        return BAD_SIZE
    weight_ih, weight_hh, bias, head_weight, head_bias = split_parameters(params, V, H)
    h, h_prev, dh, logits, carry, packed = split_workspace(workspace, T, B, V, H)
    N = T * B
    status = gather_forward(h.reshape((N, H)), weight_ih, bias, inputs.reshape(N), N, V, H)
    if status != OK:
        return status
    status = rnn_forward(h, h_prev, state, packed, weight_hh, starts, T, B, H)
    if status != OK:
        return status
    return linear_forward(logits.reshape((N, V)), packed, h.reshape((N, H)), head_weight, head_bias, N, H, V)


@jit
def network_backward(losses, grads, workspace, params, inputs, targets, starts, scale, T, B, V, H):
    if T < 1 or B < 1 or V < 1 or H < 1:
        return BAD_SIZE
    weight_ih, weight_hh, bias, head_weight, head_bias = split_parameters(params, V, H)
    dweight_ih, dweight_hh, dbias, dhead_weight, dhead_bias = split_parameters(grads, V, H)
    h, h_prev, dh, logits, carry, packed = split_workspace(workspace, T, B, V, H)
    N = T * B
    rows, drows = h.reshape((N, H)), dh.reshape((N, H))
    dlogits = logits.reshape((N, V))
    status = cross_entropy(losses.reshape(N), dlogits, dlogits, targets.reshape(N), scale, N, V)
    if status != OK:
        return status
    linear_backward(drows, packed, dlogits, head_weight, N, H, V)
    linear_gradients(dhead_weight, dhead_bias, packed, dlogits, rows, N, H, V)
    rnn_backward(dh, carry, packed, h, weight_hh, starts, T, B, H)
    linear_gradients(dweight_hh, dbias, packed, drows, h_prev.reshape((N, H)), N, H, H)
    return gather_gradients(dweight_ih, drows, inputs.reshape(N), N, V, H)


@jit
def gradient_scale(targets, mean):
    """One over the number of targets, or 1 for a sum or for a window without targets."""
    count = 0
    for target in targets.flat:
        count += target >= 0
    return 1.0 / count if mean and count > 0 else 1.0


@jit
def update(params, moments, grads, settings, optimizer, n):
    if optimizer == SGD:
        return sgd_update(params, moments, grads, settings, n)
    if optimizer == ADAGRAD:
        return adagrad_update(params, moments, grads, settings, n)
    if optimizer == ADAM:
        return adam_update(params, moments, grads, settings, n)
    return BAD_CHOICE


@jit
def train_windows(
    losses, norms, symbol_losses, params, grads, moments, state, workspace, inputs, targets, starts,
    settings, optimizer, mean, value_limit, norm_limit, first, W, S, T, B, V, H,
):  # fmt: skip
    if first < 0 or W < 0 or S < 1 or T < 1 or B < 1 or V < 1 or H < 1:
        return BAD_SIZE
    n = params.shape[0]
    windows = (S + T - 1) // T
    losses[:] = np.nan
    norms[:] = np.nan
    for w in range(W):
        start = (first + w) % windows * T
        steps = min(T, S - start)
        x, y, s = inputs[start : start + steps], targets[start : start + steps], starts[start : start + steps]
        grads[:] = 0
        status = network_forward(state, workspace, params, x, s, steps, B, V, H)
        if status != OK:
            return status
        status = network_backward(
            symbol_losses[:steps], grads, workspace, params, x, y, s, gradient_scale(y, mean), steps, B, V, H
        )
        if status != OK:
            return status
        losses[w] = 0
        for loss in symbol_losses[:steps].flat:
            losses[w] += loss
        clip_value(grads, value_limit, n)
        clip_norm(norms[w : w + 1], grads, norm_limit, n)
        if not (math.isfinite(losses[w]) and math.isfinite(norms[w])):
            return OK
        status = update(params, moments, grads, settings[w], optimizer, n)
        if status != OK:
            return status
    return OK
