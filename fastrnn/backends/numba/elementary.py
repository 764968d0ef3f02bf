"""exp, tanh, sigmoid and log, as one fixed sequence of IEEE operations each, and loops that apply a formula.

csrc/elementary.h has the same functions, and explains them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import BAD_CHOICE, BAD_SIZE, EXP, LOG, OK, SIGMOID, TANH, TINY
from fastrnn.backends.numba.jit import WIDTH, routine
from fastrnn.backends.numba.llvm import at, whole
from fastrnn.backends.numba.simd import Vectors, suffix


class Precision(NamedTuple):
    """The constants of the elementary functions in one precision."""

    bits: int
    mantissa: int
    bias: int
    log2e: float
    ln2_high: float
    ln2_low: float
    rounder: float
    exp_low: float
    exp_high: float
    exp_tiny: float
    tiny: float
    tanh_enough: float
    tanh_small: float
    smallest: float
    root_half: float
    exp_coefficients: tuple[float, ...]
    log_coefficients: tuple[float, ...]


def numbers(text):
    """Read hexadecimal floating-point numbers."""
    return tuple(map(float.fromhex, text.split()))


SINGLE = Precision(
    bits=32,
    mantissa=23,
    bias=127,
    log2e=float.fromhex("0x1.715476p+0"),
    ln2_high=float.fromhex("0x1.62e400p-1"),
    ln2_low=float.fromhex("0x1.7f7d1cp-20"),
    rounder=float.fromhex("0x1.8p23"),
    exp_low=-104.0,
    exp_high=89.0,
    exp_tiny=-44.0,
    tiny=TINY["float32"],
    tanh_enough=20.0,
    tanh_small=float(np.float32(0.6)),
    smallest=2.0**-126,
    root_half=float.fromhex("0x1.6a09e6p-1"),
    exp_coefficients=numbers("0x1.6bec06p-10 0x1.122776p-7 0x1.555674p-5 0x1.5554b0p-3 0x1.fffffep-2"),
    log_coefficients=numbers(
        "0x1.3b20b4p-3 0x1.745cdep-3 0x1.c71c72p-3 0x1.249250p-2 0x1.99999ap-2 0x1.555556p-1"
    ),
)
DOUBLE = Precision(
    bits=64,
    mantissa=52,
    bias=1023,
    log2e=float.fromhex("0x1.71547652b82fep+0"),
    ln2_high=float.fromhex("0x1.62e42fefa3800p-1"),
    ln2_low=float.fromhex("0x1.ef35793c76730p-45"),
    rounder=float.fromhex("0x1.8p52"),
    exp_low=-746.0,
    exp_high=710.0,
    exp_tiny=-350.0,
    tiny=TINY["float64"],
    tanh_enough=40.0,
    tanh_small=0.6,
    smallest=2.0**-1022,
    root_half=float.fromhex("0x1.6a09e667f3bcdp-1"),
    exp_coefficients=numbers(
        "0x1.1ee88a10a4452p-29 0x1.af5e751c3e845p-26 0x1.27e5362ab05fcp-22 0x1.71ddf87eacb85p-19 "
        "0x1.a01a017bc728dp-16 0x1.a01a01afd3e6bp-13 0x1.6c16c16c1f076p-10 0x1.111111110f6dap-7 "
        "0x1.555555555553fp-5 0x1.5555555555559p-3 0x1p-1"
    ),
    log_coefficients=numbers(
        "0x1.0f6a9a6e462b1p-3 0x1.0f5bf6014603fp-3 0x1.3b20b4deee594p-3 0x1.745cddff6653fp-3 "
        "0x1.c71c7259aa339p-3 0x1.249249242aaf7p-2 0x1.9999999999e06p-2 0x1.5555555555555p-1"
    ),
)


class Value:
    """A real or an integer in LLVM, with Python's operators; constants are Python's numbers."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value
        self.is_real = not isinstance(getattr(value.type, "element", value.type), ir.IntType)

    def constant(self, number):
        if isinstance(number, Value):
            return number.value
        kind = self.value.type
        return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)

    def with_(self, other, of_reals, of_integers=None):
        operation = of_reals if self.is_real else of_integers
        return Value(self.builder, operation(self.value, self.constant(other)))

    def __add__(self, other):
        return self.with_(other, self.builder.fadd, self.builder.add)

    def __sub__(self, other):
        return self.with_(other, self.builder.fsub, self.builder.sub)

    def __mul__(self, other):
        return self.with_(other, self.builder.fmul)

    def __truediv__(self, other):
        return self.with_(other, self.builder.fdiv)

    def __neg__(self):
        return Value(self.builder, self.builder.fneg(self.value))

    def __lshift__(self, other):
        return self.with_(other, None, self.builder.shl)

    def __rshift__(self, other):
        return self.with_(other, None, self.builder.lshr)

    def __and__(self, other):
        return self.with_(other, None, self.builder.and_)

    def compare(self, sign, other):
        return self.builder.fcmp_ordered(sign, self.value, self.constant(other))

    def where(self, condition, otherwise):
        return Value(self.builder, self.builder.select(condition, self.value, self.constant(otherwise)))

    def with_sign_of(self, other):
        return self.call("copysign", self, other)

    def times_plus(self, factor, addend):
        """A fused multiply-add."""
        return self.call("fma", self, factor, addend)

    def call(self, name, *operands):
        """Call one of LLVM's functions of reals."""
        kind = self.value.type
        function_type = ir.FunctionType(kind, [kind] * len(operands))
        function = cgutils.get_or_insert_function(
            self.builder.module, function_type, f"llvm.{name}.{suffix(kind)}"
        )
        return Value(self.builder, self.builder.call(function, [self.constant(x) for x in operands]))

    def as_bits(self, bits):
        kind, integer = self.value.type, ir.IntType(bits)
        if isinstance(kind, ir.VectorType):
            integer = ir.VectorType(integer, kind.count)
        return Value(self.builder, self.builder.bitcast(self.value, integer))

    def as_real(self, like):
        return Value(self.builder, self.builder.bitcast(self.value, like.value.type))


def horner(x, coefficients):
    """The polynomial with these coefficients, the highest first."""
    total = Value(x.builder, x.constant(coefficients[0]))
    for coefficient in coefficients[1:]:
        total = total.times_plus(x, coefficient)
    return total


def bits_of(p, number):
    """The bit pattern of a constant."""
    return int(np.array(number, f"f{p.bits // 8}").view(f"i{p.bits // 8}"))


def size_of(x):
    return x.with_sign_of(1.0)


def constant(x, number):
    return Value(x.builder, x.constant(number))


def power_of_two(p, n, like):
    return ((n + p.bias) << p.mantissa).as_real(like)


def reduced(p, x):
    """Return e^r - 1 and n, where x = n ln 2 + r."""
    rounded = x.times_plus(p.log2e, p.rounder)
    n = rounded.as_bits(p.bits) - bits_of(p, p.rounder)
    turns = rounded - p.rounder
    r = turns.times_plus(-p.ln2_low, turns.times_plus(-p.ln2_high, x))
    return horner(r, p.exp_coefficients).times_plus(r * r, r), n


def exp_formula(p, x):
    x = constant(x, p.exp_low).where(x.compare("<", p.exp_low), x)
    x = constant(x, p.exp_high).where(x.compare(">", p.exp_high), x)
    e, n = reduced(p, x)
    half = Value(x.builder, x.builder.ashr(n.value, n.constant(1)))
    return (e + 1.0) * power_of_two(p, half, x) * power_of_two(p, n - half, x)


def flush_formula(p, x, threshold=None):
    return constant(x, 0.0).where(size_of(x).compare("<", threshold or p.tiny), x)


def exp_of_negative_formula(p, x):
    x = constant(x, p.exp_tiny).where(x.compare("<", p.exp_tiny), x)
    e, n = reduced(p, x)
    return flush_formula(p, (e + 1.0) * power_of_two(p, n, x))


def tanh_formula(p, x):
    twice = size_of(x) + size_of(x)
    twice = constant(x, p.tanh_enough).where(twice.compare(">", p.tanh_enough), twice)
    e, n = reduced(p, twice)
    scale = power_of_two(p, n, x)
    s = scale.times_plus(e, scale - 1.0) * 0.5
    is_small = twice.compare("<", p.tanh_small)
    quotient = (s * s).where(is_small, s) / (s + 1.0)
    return (s - quotient).where(is_small, quotient).with_sign_of(x)


def sigmoid_formula(p, x):
    e = exp_formula(p, -size_of(x))
    return e.where(x.compare("<", 0.0), 1.0) / (e + 1.0)


def log_formula(p, x):
    is_subnormal = x.compare("<", p.smallest)
    normal = (x * 2.0**p.mantissa).where(is_subnormal, x)
    root = bits_of(p, p.root_half)
    offset = normal.as_bits(p.bits) - root + (p.bias << p.mantissa)
    exponent = ((offset >> p.mantissa) + bits_of(p, p.rounder)).as_real(x)
    k = exponent - (p.rounder + p.bias) - constant(x, float(p.mantissa)).where(is_subnormal, 0.0)
    f = ((offset & ((1 << p.mantissa) - 1)) + root).as_real(x) - 1.0
    s = f / (f + 2.0)
    z, half = s * s, f * 0.5 * f
    low = s.times_plus(z.times_plus(horner(z, p.log_coefficients), half), k * p.ln2_low)
    result = k.times_plus(p.ln2_high, f - (half - low))
    edge = constant(x, math.inf).where(x.compare("==", math.inf), math.nan)
    edge = constant(x, -math.inf).where(x.compare("==", 0.0), edge)
    inside = x.builder.and_(x.compare(">", 0.0), x.compare("<", math.inf))
    return result.where(inside, edge)


def gate_formula(p, x):
    e = exp_of_negative_formula(p, -size_of(flush_formula(p, x)))
    return e.where(x.compare("<", 0.0), 1.0) / (e + 1.0)


PRECISIONS = {types.float32: SINGLE, types.float64: DOUBLE}


def emit_map(formula, kind, outputs, arrays, scalars, at_once=4):
    """Instructions for ``out[i], … = formula(x[i], …, scalars …)``.

    They take ``at_once`` vectors at a time, then one, then the rest. An output may be an input array.
    """
    lanes, p = WIDTH // kind.dtype.bitwidth, PRECISIONS[kind.dtype]

    def emit(context, builder, signature, arguments):
        *operands, n = arguments
        outs, starts, constants = (
            operands[:outputs], operands[outputs : outputs + arrays], operands[outputs + arrays :]
        )  # fmt: skip
        real = context.get_data_type(kind.dtype)

        def apply(v, load, store):
            values = [load(start) for start in starts] + [v.fill(constant) for constant in constants]
            found = formula(p, *(Value(builder, value) for value in values))
            for out, value in zip(outs, found if outputs > 1 else [found], strict=True):
                store(value.value, out)

        done = whole(0)
        for width in sorted({at_once * lanes, lanes}, reverse=True):
            v, end = Vectors(builder, real, width), builder.and_(n, whole(-width))
            with cgutils.for_range_slice(builder, done, end, whole(width), inc=True) as (i, _):
                apply(
                    v, lambda x, v=v, i=i: v.load(x, i), lambda value, out, v=v, i=i: v.store(value, out, i)
                )
            done = end
        rest, v = builder.sub(n, done), Vectors(builder, real, lanes)
        with builder.if_then(builder.icmp_signed(">", rest, whole(0))):
            apply(
                v,
                lambda x: v.load_some(x, done, rest),
                lambda value, out: v.store_some(value, out, done, rest),
            )
        return context.get_dummy_value()

    return emit


def each(formula):
    """A function for kernels that does ``out[i] = formula(x[i])`` for n elements."""

    @intrinsic
    def function(typing_context, out, x, n):
        return types.none(out, x, types.intp), emit_map(formula, x, 1, 1, 0)

    return function


def each_with(formula):
    """A function for kernels that does ``out[i] = formula(x[i], s)`` for n elements and a number s."""

    @intrinsic
    def function(typing_context, out, x, s, n):
        return types.none(out, x, x.dtype, types.intp), emit_map(formula, x, 1, 1, 1)

    return function


def each_two(formula):
    """A function for kernels that does ``out[i] = formula(x[i], y[i])`` for n elements."""

    @intrinsic
    def function(typing_context, out, x, y, n):
        return types.none(out, x, y, types.intp), emit_map(formula, x, 1, 2, 0)

    return function


each_exp, each_tanh, each_sigmoid, each_log = map(
    each, (exp_formula, tanh_formula, sigmoid_formula, log_formula)
)
each_exp_of_negative = each(exp_of_negative_formula)
each_sum = each_two(lambda _, x, y: x + y)
each_difference = each_with(lambda p, x, s: flush_formula(p, x - s))
each_product = each_with(lambda p, x, s: flush_formula(p, x * s))


@intrinsic
def flush(typing_context, x):
    """x, or 0 if its size is below the tiny threshold."""

    def emit(context, builder, signature, arguments):
        return flush_formula(PRECISIONS[x], Value(builder, arguments[0])).value

    return x(x), emit


@intrinsic
def flush_square(typing_context, x):
    """x, or 0 if its size is below the square of the tiny threshold."""
    p = PRECISIONS[x]

    def emit(context, builder, signature, arguments):
        return flush_formula(p, Value(builder, arguments[0]), p.tiny**2).value

    return x(x), emit


def scalar(formula):
    """A function for kernels that applies a formula to one number."""

    @intrinsic
    def function(typing_context, x):
        def emit(context, builder, signature, arguments):
            return formula(PRECISIONS[x], Value(builder, arguments[0])).value

        return x(x), emit

    return function


exp, log, sigmoid = map(scalar, (exp_formula, log_formula, sigmoid_formula))


@routine
def elementary(y, x, function, n):
    if n < 0:
        return BAD_SIZE
    out, start = at(y, 0), at(x, 0)
    if function == EXP:
        each_exp(out, start, n)
    elif function == TANH:
        each_tanh(out, start, n)
    elif function == SIGMOID:
        each_sigmoid(out, start, n)
    elif function == LOG:
        each_log(out, start, n)
    else:
        return BAD_CHOICE
    return OK
