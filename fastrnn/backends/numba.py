"""The kernels of ``csrc/fastrnn.h``, compiled by Numba.

Names, arguments and meanings are the header's, and so are the dimension letters: T time steps,
B batch rows, V vocabulary, H hidden units, N rows of a product, n elements of a flat vector. A kernel
is compiled when it is first called, for the precision that it is called with, and is cached on disk
where a writable place is found. All of them stand in this one module because Numba's cache does not
notice a change in another file.

Not all of it is Python. A tile of the matrix product, the functions exp, tanh, sigmoid and log, the loops
that apply them, and sums are written as LLVM instructions, for their exact operations and their speed. And
``at(array, i)`` is C's ``array + i``, a pointer, where a slice would cost more than what is done with it.
"""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from fastrnn.backends.backend import forced_isa
from fastrnn.backends.kernel_cache import cache_on_disk
from fastrnn.errors import BackendUnavailableError

OK, BAD_SIZE, BAD_SYMBOL, BAD_CHOICE, ABORTED = 0, 1, 2, 3, 4
SGD, ADAGRAD, ADAM, RMSPROP = 0, 1, 2, 3
SUM, MEAN, BATCHMEAN = 0, 1, 2
EXP, TANH, SIGMOID, LOG = 0, 1, 2, 3
BLOCK, ROWS, STRETCH, SUMS, SETTINGS = 256, 64, 1024, 16, 6
RNN_TANH, RNN_RELU, GRU, LSTM = 0, 1, 2, 3

# what a plan says of a network, and of each of its layers
CELL, LAYERS, VOCABULARY, EMBEDDING, HIDDEN, PARAMETERS, HEAD_STEPS = range(7)
EMBEDDING_WEIGHT, HEAD_WEIGHT, HEAD_BIAS = range(7, 10)
HEAD_T, HEAD, BLOCKS, X, RUNNING, DC, DX, LOGITS, ZEROS, LAYER = range(10, 20)
WEIGHT_IH, WEIGHT_HH, GATE_BIAS, BIAS_HN, IH_T, HH_T, IH, HH, H_, INNER, GATES, UP, DH, DGATES, LAYER_PLAN = (
    range(15)
)
ARRIVED, ROUND, ABORT = 0, 16, 32


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile without the GIL and without exceptions, with a cache where one can be written."""
    compiled = numba.njit(nogil=True, error_model="numpy", **options)(function)
    cache_on_disk(compiled, cache_stamp())
    return cast("Callable[..., Any]", compiled)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, as a part of each kernel that calls it: what Numba compiles apart it compiles twice."""
    return jit(function, inline="always")


# ---- What Numba compiles for ----------------------------------------------------------------------------

#: The instruction sets that FASTRNN_ISA may force, as LLVM names a processor and features.
TARGETS = {
    "v4": ("x86-64-v4", "+avx512f,+fma,-prefer-256-bit"),
    "v3": ("x86-64-v3", "+avx2,+fma"),
    "baseline": ("x86-64", "+sse2"),
}


def forced_here() -> str | None:
    """The instruction set that FASTRNN_ISA forces, by the same rules as for the C backend."""
    has = llvmlite.binding.get_host_cpu_features()
    v3 = all(has.get(name) for name in ("avx2", "fma", "bmi", "bmi2"))
    v4 = v3 and all(has.get(f"avx512{name}") for name in ("f", "bw", "cd", "dq", "vl"))
    return forced_isa([isa for isa, runs in (("v4", v4), ("v3", v3), ("baseline", True)) if runs])


def choose_target() -> frozenset[str]:
    """The features that Numba compiles for: the processor's, or for the whole process those that are forced.

    Numba makes its compiler when it first compiles, and keeps the target in the keys of its cache.
    """
    forced = FORCED if platform.machine() in {"x86_64", "AMD64"} else None
    if forced:
        config = cast("Any", numba.config)
        config.CPU_NAME, config.CPU_FEATURES = TARGETS[forced]
    _, *target = cpu_target.target_context.codegen().magic_tuple()
    if forced and tuple(target) != TARGETS[forced]:
        raise BackendUnavailableError(
            f"FASTRNN_ISA={forced!r} comes too late for backend='numba': Numba has compiled for {target[0]} "
            "in this process; load the backend before anything else uses Numba"
        )
    return frozenset(name[1:] for name in target[1].split(",") if name.startswith("+"))


def processor() -> tuple[int, bool]:
    """The widest vectors, in bits, that the kernels have (0: not known), and whether the processor fuses."""
    if forced_here() != FORCED:
        raise BackendUnavailableError(
            f"FASTRNN_ISA={forced_here()!r} comes too late for backend='numba', which was loaded in this "
            f"process with {FORCED!r}"
        )
    widths = {"avx512f": 512, "avx2": 256, "avx": 256, "sse2": 128, "neon": 128}
    bits = max((width for name, width in widths.items() if name in FEATURES), default=0)
    return bits, not FEATURES.isdisjoint({"fma", "neon"})


FORCED = forced_here()
FEATURES = choose_target()

# ---- What Numba has no words for, as LLVM --------------------------------------------------------------

WIDTH, FUSES = max(processor()[0], 128), processor()[1]
TILE_ROWS = (8 if WIDTH == 512 else 6) if FUSES else 2
ROW_VECTORS = 8 if FUSES else 4


def cache_stamp() -> tuple[Any, ...]:
    """What a compiled kernel depends on beside this file, its signature and the processor."""
    return numba.__version__, WIDTH


def address(context, builder, kind, value):
    """The address of an array's first element, or a pointer itself."""
    return value if isinstance(kind, types.CPointer) else make_array(kind)(context, builder, value).data


@intrinsic
def at(typing_context, array, offset):
    """The memory of a C-contiguous array, or behind a pointer, from an element on."""

    def emit(context, builder, signature, arguments):
        return builder.gep(address(context, builder, array, arguments[0]), [arguments[1]])

    return types.CPointer(array.dtype)(array, types.intp), emit


@intrinsic(prefer_literal=True)
def on_stack(typing_context, like, size):
    """Memory for a constant number of elements of the type of those of ``like``."""

    def emit(context, builder, signature, arguments):
        return cgutils.alloca_once(builder, context.get_data_type(like.dtype), size=size.literal_value)

    return types.CPointer(like.dtype)(like, size), emit


@intrinsic
def as_element(typing_context, like, number):
    """A number in the type of the elements of ``like``."""

    def emit(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], number, like.dtype)

    return like.dtype(like, number), emit


@intrinsic
def nothing(typing_context, like):
    """No memory, in place of an array like this one."""

    def emit(context, builder, signature, arguments):
        return ir.Constant(context.get_data_type(like.dtype).as_pointer(), None)

    return types.CPointer(like.dtype)(like), emit


@intrinsic
def no_starts(typing_context):
    """In place of ``starts``, where no row can start."""

    def emit(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.CPointer(types.uint8)(), emit


@intrinsic
def no_losses(typing_context):
    """In place of losses, where none are wanted."""

    def emit(context, builder, signature, arguments):
        return ir.Constant(ir.DoubleType().as_pointer(), None)

    return types.CPointer(types.float64)(), emit


@intrinsic
def exists(typing_context, pointer):
    """Whether a pointer points at something."""

    def emit(context, builder, signature, arguments):
        return builder.icmp_unsigned("!=", arguments[0], ir.Constant(arguments[0].type, None))

    return types.boolean(pointer), emit


@intrinsic
def atomic_add(typing_context, array, i, value):
    """Add to an element of an int32 array, at once for all threads; returns what it was."""

    def emit(context, builder, signature, arguments):
        element = builder.gep(address(context, builder, array, arguments[0]), [arguments[1]])
        return builder.atomic_rmw("add", element, arguments[2], "seq_cst")

    return types.int32(array, types.intp, types.int32), emit


@intrinsic
def atomic_load(typing_context, array, i):
    """An element of an int32 array as other threads have written it."""

    def emit(context, builder, signature, arguments):
        element = builder.gep(address(context, builder, array, arguments[0]), [arguments[1]])
        return builder.load_atomic(element, "seq_cst", 4)

    return types.int32(array, types.intp), emit


#: Gives way to other threads.
give_way = types.ExternalFunction(
    "SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32()
)


@intrinsic
def panel_width(typing_context, array):
    """The columns of a panel, two vectors."""
    width = 2 * WIDTH // array.dtype.bitwidth

    def emit(context, builder, signature, arguments):
        return context.get_constant(types.intp, width)

    return types.intp(array), emit


def suffix(kind):
    """How LLVM's functions name a type of reals or of vectors of them."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{suffix(kind.element)}"
    return "f32" if isinstance(kind, ir.FloatType) else "f64"


class Vectors:
    """Vectors of reals in LLVM: what the tiles and the reductions below are written with."""

    def __init__(self, builder, real, lanes):
        self.builder, self.real, self.lanes = builder, real, lanes
        self.type = ir.VectorType(real, lanes)
        self.align = 4 if isinstance(real, ir.FloatType) else 8

    def intrinsic(self, name, result, arguments):
        """Call one of LLVM's functions for vectors of this type."""
        name = name.format(suffix(self.type))
        function_type = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, function_type, name)
        return self.builder.call(function, arguments)

    def pointer(self, start, offset):
        return self.builder.bitcast(self.builder.gep(start, [offset]), self.type.as_pointer())

    def load(self, start, offset):
        return self.builder.load(self.pointer(start, offset), align=self.align)

    def store(self, value, start, offset):
        self.builder.store(value, self.pointer(start, offset), align=self.align)

    def mask(self, count):
        """Which lanes are among the first so many."""
        numbers = ir.VectorType(ir.IntType(64), self.lanes)
        return self.builder.icmp_signed(
            "<", ir.Constant(numbers, list(range(self.lanes))), self.fill(count, ir.IntType(64))
        )

    def load_some(self, start, offset, count, otherwise=0.0):
        """The first ``count`` lanes from memory, and a constant in the others."""
        pointer, mask = self.pointer(start, offset), self.mask(count)
        rest = ir.Constant(self.type, [otherwise] * self.lanes)
        arguments = [pointer, ir.Constant(ir.IntType(32), self.align), mask, rest]
        return self.intrinsic("llvm.masked.load.{}.p0", self.type, arguments)

    def store_some(self, value, start, offset, count):
        pointer, mask = self.pointer(start, offset), self.mask(count)
        arguments = [value, pointer, ir.Constant(ir.IntType(32), self.align), mask]
        self.intrinsic("llvm.masked.store.{}.p0", ir.VoidType(), arguments)

    def fill(self, scalar, element=None):
        vector = ir.VectorType(element or self.real, self.lanes)
        first = self.builder.insert_element(
            ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)
        return self.builder.shuffle_vector(first, first, zeros)

    def fma(self, a, b, c):
        return self.intrinsic("llvm.fma.{}", self.type, [a, b, c])

    def shuffle(self, a, b, lanes):
        """Some lanes of two vectors, counted from the first of a."""
        index = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        return self.builder.shuffle_vector(a, b, index)

    def halves(self, value, width):
        """The lower and the upper half of a vector that has so many lanes."""
        half = width // 2
        return [self.shuffle(value, value, list(range(first, first + half))) for first in (0, half)]


def whole(value):
    """A constant size."""
    return ir.Constant(ir.IntType(64), value)


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
    c, c_i, start, start_i, a, a_i, a_k, panels, apart, K, _, columns = arguments
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
        y = [v.load(panels, builder.add(builder.mul(whole(j // 2), apart), ends[j])) for j in range(vectors)]
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
    shapes |= {2 * high + thin: (high, 2 - thin) for high in range(2, TILE_ROWS + 1) for thin in (0, 1)}
    for key, (high, vectors) in shapes.items():
        block = function.append_basic_block(f"tile_{high}_{vectors}")
        choice.add_case(whole(key), block)
        builder = ir.IRBuilder(block)
        emit_tile(builder, Vectors(builder, real, lanes), high, vectors, function.args)
        builder.branch(end)
    ir.IRBuilder(end).ret_void()


@intrinsic
def tile(typing_context, c, c_i, start, start_i, a, a_i, a_k, panels, apart, K, rows, columns):
    """A tile of C, kept in registers, = C0 + rows of A times panels of K rows of B, ``apart`` elements apart.

    It has up to TILE_ROWS rows and a panel's columns, or one row and the columns of ROW_VECTORS vectors.
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


# ---- Elementary functions: csrc/elementary.h has the same, and says what they do ----------------------


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
    """Hexadecimal floating-point numbers."""
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
    tiny=2.0**-60,
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
    tiny=2.0**-500,
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
        """One of LLVM's functions of reals."""
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
    """e^r - 1 and n, for x = n ln 2 + r."""
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


def flush_formula(p, x, least=None):
    return constant(x, 0.0).where(size_of(x).compare("<", least or p.tiny), x)


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


def relu_formula(p, x):
    return constant(x, 0.0).where(x.compare("<", p.tiny), x)


def relu_slope_formula(p, dh, h):
    return flush_formula(p, dh).where(h.compare(">", 0.0), 0.0)


def slope(p, s):
    """The slope of a sigmoid whose value is s."""
    return flush_formula(p, s * (constant(s, 1.0) - s))


def unless_starting(x, goes_on):
    return x.where(goes_on.compare("!=", 0.0), 0.0)


def gru_formula(p, r, z, n, share_r, share_z, share_n, h_before):
    r, z = gate_formula(p, r + share_r), gate_formula(p, z + share_z)
    u = flush_formula(p, share_n)
    n = tanh_formula(p, flush_formula(p, r.times_plus(u, n)))
    h = flush_formula(p, z.times_plus(h_before, (constant(z, 1.0) - z) * n))
    return r, z, n, u, h


def gru_back_formula(p, r, z, n, u, dh, h_before, goes_on):
    one = constant(r, 1.0)
    d, before = flush_formula(p, dh), unless_starting(h_before, goes_on)
    dz = flush_formula(p, d * flush_formula(p, before - n))
    dn = flush_formula(p, flush_formula(p, d * (one - z)) * (one - n * n))
    dr, du = flush_formula(p, dn * u), flush_formula(p, dn * r)
    straight = unless_starting(flush_formula(p, d * z), goes_on)
    dr, dz = flush_formula(p, dr * slope(p, r)), flush_formula(p, dz * slope(p, z))
    return dr, dz, dn, du, straight, *(unless_starting(x, goes_on) for x in (dr, dz, du))


def lstm_formula(p, i, f, g, o, c_before, goes_on):
    i, f, o = (gate_formula(p, x) for x in (i, f, o))
    g = tanh_formula(p, flush_formula(p, g))
    c = flush_formula(p, f.times_plus(unless_starting(c_before, goes_on), i * g))
    return i, f, g, o, c, flush_formula(p, o * tanh_formula(p, c))


def lstm_back_formula(p, i, f, g, o, dh, c, c_before, dc, goes_on):
    one = constant(i, 1.0)
    d, squashed = flush_formula(p, dh), tanh_formula(p, c)
    through = flush_formula(p, d * o)
    dc = flush_formula(p, through.times_plus(one - squashed * squashed, dc))
    di, dg = flush_formula(p, dc * g), flush_formula(p, dc * i)
    df = flush_formula(p, dc * unless_starting(c_before, goes_on))
    do = flush_formula(p, d * squashed)
    return (
        flush_formula(p, di * slope(p, i)),
        flush_formula(p, df * slope(p, f)),
        flush_formula(p, dg * (one - g * g)),
        flush_formula(p, do * slope(p, o)),
        unless_starting(flush_formula(p, dc * f), goes_on),
    )


def clip_formula(p, x, limit, least=None):
    g = flush_formula(p, x, least)
    g = limit.where(g.compare(">", limit), g)
    return (-limit).where(g.compare("<", -limit), g)


PRECISIONS = {types.float32: SINGLE, types.float64: DOUBLE}


def emit_map(formula, kind, outputs, arrays, scalars, abreast=4):
    """Instructions for ``out[i], … = formula(x[i], …, scalars …)``: some vectors side by side, one, the rest.

    An output may be one of the arrays that are read.
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
        for width in sorted({abreast * lanes, lanes}, reverse=True):
            v, most = Vectors(builder, real, width), builder.and_(n, whole(-width))
            with cgutils.for_range_slice(builder, done, most, whole(width), inc=True) as (i, _):
                apply(
                    v, lambda x, v=v, i=i: v.load(x, i), lambda value, out, v=v, i=i: v.store(value, out, i)
                )
            done = most
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
each_state = each(lambda p, x: tanh_formula(p, flush_formula(p, x)))
each_sum = each_two(lambda _, x, y: x + y)
each_difference = each_with(lambda p, x, s: flush_formula(p, x - s))
each_product = each_with(lambda p, x, s: flush_formula(p, x * s))
each_through_tanh = each_two(lambda p, dh, h: flush_formula(p, (constant(h, 1.0) - h * h) * dh))
each_relu, each_through_relu = each(relu_formula), each_two(relu_slope_formula)


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


@intrinsic
def gru_row(typing_context, gates, u, h, before_gates, share, h_before, n):
    """One row of a step: r, z, n, u and h."""
    takes = gates, u, h, before_gates, share, h_before, types.intp
    return types.none(*takes), emit_row(gru_formula, gates, ([3, 1, 1], [3, 3, 1], 0))


@intrinsic
def gru_row_back(typing_context, dgates, du, straight, back, gates, u, dh, h_before, goes_on, n):
    """One row of a step backwards; ``back`` goes through the recurrent weight, and ``straight`` past it."""
    takes = dgates, du, straight, back, gates, u, dh, h_before, dgates.dtype, types.intp
    return types.none(*takes), emit_row(gru_back_formula, dgates, ([3, 1, 1, 3], [3, 1, 1, 1], 1))


@intrinsic
def lstm_row(typing_context, gates, c, h, before_gates, c_before, goes_on, n):
    """One row of a step: i, f, g, o, c and h."""
    takes = gates, c, h, before_gates, c_before, gates.dtype, types.intp
    return types.none(*takes), emit_row(lstm_formula, gates, ([4, 1, 1], [4, 1], 1))


@intrinsic
def lstm_row_back(typing_context, dgates, dc_before, gates, dh, c, c_before, dc, goes_on, n):
    """One row of a step backwards."""
    takes = dgates, dc_before, gates, dh, c, c_before, dc, dgates.dtype, types.intp
    return types.none(*takes), emit_row(lstm_back_formula, dgates, ([4, 1], [4, 1, 1, 1, 1], 1))


# ---- Dropout: csrc/dropout.c -------------------------------------------------------------------------

#: Counters that are worked on side by side.
COUNTERS = 16


def emit_philox(builder, counter, key):
    """Four vectors of words of Philox4x32-10, from four of counters and two numbers, all of 32 bits."""
    narrow = ir.VectorType(ir.IntType(32), COUNTERS)
    wide = ir.VectorType(ir.IntType(64), COUNTERS)

    def fill(number):
        first = builder.insert_element(
            ir.Constant(narrow, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), COUNTERS), None)
        return builder.shuffle_vector(first, first, zeros)

    def product(word, factor):
        """The high and the low half."""
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
def dropout_row(typing_context, out, x, threshold, scale, first, row, step, update, key, H):
    """One row: what is kept of x, times ``scale``; ``first`` is the layer's first counter."""
    size = types.int64
    takes = out, x, size, out.dtype, size, size, size, size, size, size

    def emit(context, builder, signature, arguments):
        to, start, least, factor, first_, row_, step_, update_, key_, n = arguments
        word = ir.IntType(32)
        v = Vectors(builder, context.get_data_type(out.dtype), COUNTERS)
        words = Vectors(builder, word, COUNTERS)
        low = [builder.trunc(number, word) for number in (first_, row_, step_, update_, key_, least)]
        halves = low[4], builder.trunc(builder.lshr(key_, whole(32)), word)
        rest = [words.fill(number, word) for number in low[1:4]]
        bound, factors = words.fill(low[5], word), v.fill(factor)
        numbers = ir.Constant(ir.VectorType(word, COUNTERS), list(range(COUNTERS)))
        quarter = builder.sdiv(builder.add(n, whole(3)), whole(4))
        with cgutils.for_range_slice(builder, whole(0), quarter, whole(COUNTERS), inc=True) as (j, _):
            begin = builder.add(low[0], builder.trunc(j, word))
            counter = [builder.add(words.fill(begin, word), numbers), *rest]
            left = builder.sub(quarter, j)
            for w, drawn in enumerate(emit_philox(builder, counter, halves)):
                place = builder.add(builder.mul(whole(w), quarter), j)
                here = builder.sub(n, place)
                count = builder.select(builder.icmp_signed("<", here, left), here, left)
                scaled = builder.fmul(v.load_some(start, place, count), factors)
                keep = builder.icmp_unsigned(">=", drawn, bound)
                v.store_some(builder.select(keep, scaled, ir.Constant(v.type, None)), to, place, count)
        return context.get_dummy_value()

    return types.none(*takes), emit


@intrinsic
def flush(typing_context, x):
    """Zero instead of what is tiny."""

    def emit(context, builder, signature, arguments):
        return flush_formula(PRECISIONS[x], Value(builder, arguments[0])).value

    return x(x), emit


@intrinsic
def flush_square(typing_context, x):
    """Zero instead of the square of what is tiny."""
    p = PRECISIONS[x]

    def emit(context, builder, signature, arguments):
        return flush_formula(p, Value(builder, arguments[0]), p.tiny**2).value

    return x(x), emit


@intrinsic
def copy(typing_context, out, x, n):
    """Copy n elements."""

    def emit(context, builder, signature, arguments):
        cgutils.raw_memcpy(builder, *arguments, x.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(out, x, types.intp), emit


@intrinsic
def clear(typing_context, out, n):
    """Set n elements to zero."""

    def emit(context, builder, signature, arguments):
        bytes_in_all = builder.mul(arguments[1], whole(out.dtype.bitwidth // 8))
        cgutils.memset(builder, arguments[0], bytes_in_all, 0)
        return context.get_dummy_value()

    return types.none(out, types.intp), emit


# ---- Sums of SUMS interleaved parts ------------------------------------------------------------------


def fold(context, builder, kind, start, n, otherwise, combine, prepare=None):
    """Fold n elements: SUMS side by side, then in halves; ``prepare`` is done to each before."""
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


def take_larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


@intrinsic
def sum_of(typing_context, x, n):
    """The sum of n elements."""

    def emit(context, builder, signature, arguments):
        return fold(context, builder, x, *arguments, 0.0, add)

    return x.dtype(x, types.intp), emit


@intrinsic
def largest(typing_context, x, n):
    """The largest of n elements; NaN is passed over."""

    def emit(context, builder, signature, arguments):
        return fold(context, builder, x, *arguments, -math.inf, take_larger)

    return x.dtype(x, types.intp), emit


@intrinsic
def sum_of_squares(typing_context, x, n, limit):
    """The sum in double precision of the squares of n elements, clipped to between -limit and limit."""
    p = PRECISIONS[x.dtype]

    def emit(context, builder, signature, arguments):
        start, count, most = arguments
        v = Vectors(builder, context.get_data_type(x.dtype), SUMS)
        doubles = ir.VectorType(ir.DoubleType(), SUMS)
        most = Value(builder, v.fill(most))

        def prepare(vector):
            g = clip_formula(p, Value(builder, vector), most).value
            g = g if p is DOUBLE else builder.fpext(g, doubles)
            return builder.fmul(g, g)

        return fold(context, builder, x, start, count, 0.0, add, prepare)

    return types.float64(x, types.intp, x.dtype), emit


@jit
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


@intrinsic
def share(typing_context, n, part, parts):
    """Where a part of n things begins; the next part begins where it ends."""

    def emit(context, builder, signature, arguments):
        count, which, of = arguments
        product = builder.mul(count, which)
        found = cgutils.alloca_once_value(builder, product)
        with builder.if_then(builder.icmp_signed(">", of, whole(1))):  # a division takes its time
            builder.store(builder.sdiv(product, of), found)
        return builder.load(found)

    return types.intp(types.intp, types.intp, types.intp), emit


# ---- The matrix product ------------------------------------------------------------------------------


@intrinsic
def walks_back(typing_context, c, J):
    """One row of C after the other: the panels are walked there and back; a row's address tells its turn."""

    def emit(context, builder, signature, arguments):
        address = builder.ptrtoint(arguments[0], ir.IntType(64))
        row = builder.mul(arguments[1], whole(c.dtype.bitwidth // 8))
        return builder.trunc(builder.udiv(address, row), ir.IntType(1))

    return types.boolean(c, types.intp), emit


@jit
def matmul(c, start, start_i, a, a_i, a_k, packed, I, K, J):
    """C (I, J) = C0 + A B, with B (K, J) packed; A's element (i, k) stands at ``a[a_i * i + a_k * k]``.

    Rows of C are J apart, those of C0 ``start_i``. Callers say ``np.int64(1)``, since for a literal 1 Numba
    compiles a copy of its own.
    """
    panel = panel_width(c)
    tiles, least, more = np.int64(1), I, np.int64(0)
    if I > TILE_ROWS:  # as high as each other, within a row
        tiles = (I + TILE_ROWS - 1) // TILE_ROWS
        least, more = I // tiles, I % tiles
    width = ROW_VECTORS * panel // 2 if I == 1 else panel
    walks = (J + width - 1) // width
    back = I == 1 and walks > 1 and walks_back(c, J)
    for k in range(0, K, BLOCK):
        for walk in range(walks):
            j = (walks - 1 - walk if back else walk) * width
            i = 0
            for t in range(tiles):
                rows = least + (t < more)
                tile(
                    at(c, i * J + j),
                    J,
                    at(start, i * start_i + j),
                    start_i,
                    at(a, i * a_i + k * a_k),
                    a_i,
                    a_k,
                    at(packed, j * K + k * panel),
                    K * panel,
                    min(BLOCK, K - k),
                    rows,
                    min(width, J - j),
                )
                i += rows
        start, start_i = c, J


@jit
def pack_transposed(panel, b, K, columns):
    """Pack one panel of a transposed matrix: its columns are rows of ``b``, of K elements."""
    width = panel_width(b)
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


@inlined
def pack_rows(panel, b, b_k, K, columns):
    """Pack one panel of a matrix as it is, ``b_k`` from row to row."""
    width = panel_width(b)
    for k in range(K):
        to = at(panel, k * width)
        if columns == width:
            copy(to, at(b, k * b_k), width)
        else:
            clear(to, width)
            copy(to, at(b, k * b_k), columns)


@inlined
def bias_gradients(dbias, dy, first, last, N, O):
    """The sum of the rows, of some outputs, in their order."""
    total = at(dbias, first)
    for n in range(N):
        each_sum(total, total, at(dy, n * O + first), last - first)


@jit
def weight_gradients(dweight, dbias, block, dy, x, starts, first, last, N, I, O):
    """The gradients of y = x Wᵀ + b, for some outputs: dW (O, I) += dyᵀ x and db (O) += Σ dy, over N rows.

    Of a row that starts x counts as zeros. There may be no ``starts``, and no ``dbias``.
    """
    panel = panel_width(x)
    for n in range(0, N, BLOCK):
        rows, some = min(BLOCK, N - n), at(dy, n * O)
        for i in range(0, I, panel):
            pack_rows(at(block, i * rows), at(x, n * I + i), I, rows, min(panel, I - i))
        if exists(starts):
            for k in range(rows):
                if starts[n + k] != 0:
                    for j in range(0, I, panel):
                        clear(at(block, j * rows + k * panel), panel)
        for o in range(first, last, ROWS):
            drows, few = at(dweight, o * I), min(ROWS, last - o)
            matmul(drows, drows, I, at(some, o), np.int64(1), O, block, few, rows, I)
        if exists(dbias):
            bias_gradients(dbias, some, first, last, rows, O)


# ---- Linear maps -------------------------------------------------------------------------------------


@inlined
def pack(packed, weight, transposed, part, parts, K, J):
    if part < 0 or part >= parts or K < 1 or J < 1:
        return BAD_SIZE
    panel = panel_width(weight)
    panels = (J + panel - 1) // panel
    first, last = share(panels, part, parts) * panel, min(share(panels, part + 1, parts) * panel, J)
    for j in range(first, last, panel):
        out, columns = at(packed, j * K), min(panel, last - j)
        if transposed:
            pack_transposed(out, at(weight, j * K), K, columns)
        else:
            pack_rows(out, at(weight, j), J, K, columns)
    return OK


@inlined
def embedding_forward(y, weight, ids, N, V, O):
    if N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        copy(at(y, n * O), at(weight, v * O), O)
    return OK


@inlined
def embedding_gradients(dweight, dy, ids, part, parts, N, V, O):
    if part < 0 or part >= parts or N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    first = share(O, part, parts)
    columns = share(O, part + 1, parts) - first
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        drow = at(dweight, v * O + first)
        each_sum(drow, drow, at(dy, n * O + first), columns)
    return OK


@inlined
def gather_forward(y, weight, bias, ids, N, V, O):
    if N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        each_sum(at(y, n * O), at(weight, v * O), at(bias, 0), O)
    return OK


@inlined
def gather_gradients(dweight, dbias, dy, ids, part, parts, N, V, O):
    if part < 0 or part >= parts or N < 0 or V < 1 or O < 1:
        return BAD_SIZE
    first = share(O, part, parts)
    columns, total = share(O, part + 1, parts) - first, at(dbias, first)
    for n in range(N):
        v = ids[n]
        if v < 0 or v >= V:
            return BAD_SYMBOL
        drow, some = at(dweight, v * O + first), at(dy, n * O + first)  # while it is in the cache
        each_sum(drow, drow, some, columns)
        each_sum(total, total, some, columns)
    return OK


@inlined
def linear_forward(y, x, packed, bias, N, I, O):
    if N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    if N > 0:
        matmul(at(y, 0), at(bias, 0), np.int64(0), at(x, 0), I, np.int64(1), at(packed, 0), N, I, O)
    return OK


@inlined
def linear_gradients(dweight, dbias, block, dy, x, part, parts, N, I, O):
    if part < 0 or part >= parts or N < 0 or I < 1 or O < 1:
        return BAD_SIZE
    first, last = share(O, part, parts), share(O, part + 1, parts)
    weight_gradients(
        at(dweight, 0), at(dbias, 0), at(block, 0), at(dy, 0), at(x, 0), no_starts(), first, last, N, I, O
    )
    return OK


@inlined
def recurrent_gradients(dweight_hh, block, dy, h_before, starts, part, parts, N, H, O):
    if part < 0 or part >= parts or N < 0 or H < 1 or O < 1:
        return BAD_SIZE
    first, last = share(O, part, parts), share(O, part + 1, parts)
    weight_gradients(
        at(dweight_hh, 0), nothing(dweight_hh), at(block, 0), at(dy, 0), at(h_before, 0), at(starts, 0),
        first, last, N, H, O,
    )  # fmt: skip
    return OK


@jit
def dropout(y, x, rate, key, update, layer, first, N, B, H):
    if N < 0 or B < 1 or H < 1 or first < 0 or not 0 <= rate < 1:
        return BAD_SIZE
    threshold, scale = np.int64(rate * 4294967296.0), as_element(y, 1 / (1 - rate))
    for n in range(N):
        row, step = (first + n) % B, (first + n) // B
        dropout_row(
            at(y, n * H), at(x, n * H), threshold, scale, layer * ((H + 3) // 4), row, step, update, key, H
        )
    return OK


# ---- Cells -------------------------------------------------------------------------------------------


@inlined
def running_rows(running, rows, starts, B, H):
    """The rows (B, H) with zeros in place of those that start: themselves where none does, else a copy."""
    any_start = False
    for b in range(B):
        any_start |= starts[b] != 0
    if not any_start:
        return at(rows, 0)
    for b in range(B):
        if starts[b] != 0:
            clear(at(running, b * H), H)
        else:
            copy(at(running, b * H), at(rows, b * H), H)
    return at(running, 0)


@inlined
def rnn_forward(h, running, h_before, packed, starts, relu, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    out = at(h, 0)
    before = running_rows(running, h_before, starts, B, H)
    if B > 0:
        matmul(out, out, H, before, H, np.int64(1), at(packed, 0), B, H, H)
    if relu:
        each_relu(out, out, B * H)
    else:
        each_state(out, out, B * H)
    return OK


@inlined
def rnn_backward(dh, dh_before, running, h, packed, starts, relu, carried, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    dx, dbefore = at(dh, 0), at(dh_before, 0)
    if relu:
        each_through_relu(dx, dx, at(h, 0), B * H)
    else:
        each_through_tanh(dx, dx, at(h, 0), B * H)
    if carried and B > 0:
        rows = running_rows(running, dh, starts, B, H)
        matmul(dbefore, dbefore, H, rows, H, np.int64(1), at(packed, 0), B, H, H)
    return OK


@inlined
def gru_forward(h, u, gates, running, h_before, packed, bias_hn, starts, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    begin, product = at(running, B * H), at(running, (B + 3) * H)  # products start from 0, 0 and b_hn
    before = running_rows(running, h_before, starts, B, H)
    clear(begin, 2 * H)
    copy(at(begin, 2 * H), at(bias_hn, 0), H)
    if B > 0:
        matmul(product, begin, np.int64(0), before, H, np.int64(1), at(packed, 0), B, H, 3 * H)
    for b in range(B):
        row, here = at(gates, 3 * b * H), b * H
        gru_row(row, at(u, here), at(h, here), row, at(product, 3 * here), at(before, here), H)
    return OK


@inlined
def gru_backward(dh_before, gates, u, running, dh, h_before, packed, starts, carried, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    straight, dbefore = at(running, 3 * B * H), at(dh_before, 0)
    for b in range(B):
        row, here = at(gates, 3 * b * H), b * H
        gru_row_back(
            row, at(u, here), at(straight, here), at(running, 3 * here), row, at(u, here), at(dh, here),
            at(h_before, here), as_element(dh, starts[b] == 0), H,
        )  # fmt: skip
    if carried and B > 0:
        each_sum(dbefore, dbefore, straight, B * H)
        matmul(dbefore, dbefore, H, at(running, 0), 3 * H, np.int64(1), at(packed, 0), B, 3 * H, H)
    return OK


@inlined
def gru_gradients(dweight_hh, dbias_hn, block, dx, du, h_before, starts, part, parts, N, H):
    if part < 0 or part >= parts or N < 0 or H < 1:
        return BAD_SIZE
    first, last, n = share(3 * H, part, parts), share(3 * H, part + 1, parts), 2 * H
    weight, room, before, begins = at(dweight_hh, 0), at(block, 0), at(h_before, 0), at(starts, 0)
    if first < n:
        weight_gradients(
            weight, nothing(weight), room, at(dx, 0), before, begins, first, min(last, n), N, H, 3 * H
        )
    if last > n:
        weight_gradients(
            at(weight, n * H), at(dbias_hn, 0), room, at(du, 0), before, begins, max(first - n, 0), last - n,
            N, H, H,
        )  # fmt: skip
    return OK


@inlined
def lstm_forward(h, c, gates, running, h_before, c_before, packed, starts, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    x, before = at(gates, 0), running_rows(running, h_before, starts, B, H)
    if B > 0:
        matmul(x, x, 4 * H, before, H, np.int64(1), at(packed, 0), B, H, 4 * H)
    for b in range(B):
        row, here = at(gates, 4 * b * H), b * H
        lstm_row(row, at(c, here), at(h, here), row, at(c_before, here), as_element(h, starts[b] == 0), H)
    return OK


@inlined
def lstm_backward(dh_before, dc, gates, running, dh, c, c_before, packed, starts, carried, B, H):
    if B < 0 or H < 1:
        return BAD_SIZE
    dbefore = at(dh_before, 0)
    for b in range(B):
        row, here = at(gates, 4 * b * H), b * H
        lstm_row_back(
            row, at(dc, here), row, at(dh, here), at(c, here), at(c_before, here), at(dc, here),
            as_element(dh, starts[b] == 0), H,
        )  # fmt: skip
    if carried and B > 0:
        rows = running_rows(running, gates, starts, B, 4 * H)
        matmul(dbefore, dbefore, H, rows, 4 * H, np.int64(1), at(packed, 0), B, 4 * H, H)
    return OK


# ---- Head --------------------------------------------------------------------------------------------


@jit
def some_cross_entropy(losses, dlogits, logits, targets, scale, N, V):
    """Some rows at a time, pass by pass: each is one long loop over elements that are in the cache."""
    shifted, sums, logs = on_stack(logits, ROWS), on_stack(logits, ROWS), on_stack(logits, ROWS)
    for n in range(N):
        row, out = at(logits, n * V), at(dlogits, n * V)
        most = largest(row, V)
        shifted[n] = 0 if targets[n] < 0 else row[targets[n]] - most
        each_difference(out, row, most, V)
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


@inlined
def cross_entropy(losses, dlogits, logits, targets, scale, N, V):
    if N < 0 or V < 1:
        return BAD_SIZE
    for n in range(N):
        if targets[n] < -1 or targets[n] >= V:
            return BAD_SYMBOL
    rows = ROWS if V < BLOCK else 1 + (ROWS * BLOCK - 1) // V
    for n in range(0, N, rows):
        some_cross_entropy(
            at(losses, n), at(dlogits, n * V), at(logits, n * V), at(targets, n), as_element(logits, scale),
            min(rows, N - n), V,
        )  # fmt: skip
    return OK


# ---- Clipping and updates ----------------------------------------------------------------------------


@intrinsic
def scaled(typing_context, g, limit, factor):
    """An element of the gradient, clipped and scaled."""
    p = PRECISIONS[g]

    def emit(context, builder, signature, arguments):
        g, most, by = (Value(builder, argument) for argument in arguments)
        least = constant(by, 0.5 * p.tiny) / by  # what the factor makes smaller than half of what is tiny
        least = least.where(least.compare(">", p.tiny), p.tiny)
        return flush_formula(p, clip_formula(p, g, most, least) * by).value

    return g(g, limit, factor), emit


@inlined
def gradient_norm(norm, grads, limit, n):
    if n < 0:
        return BAD_SIZE
    norm[0] = math.sqrt(sum_of_squares(at(grads, 0), n, as_element(grads, limit)))
    return OK


@inlined
def sgd_update(params, moments, grads, settings, limit, scale, part, parts, n):
    if part < 0 or part >= parts or n < 0:
        return BAD_SIZE
    rate, most, factor = as_element(params, settings[0]), as_element(params, limit), as_element(params, scale)
    momentum, a, b = (
        as_element(params, settings[1]),
        as_element(params, settings[2]),
        as_element(params, settings[3]),
    )
    first, last = share(n, part, parts), share(n, part + 1, parts)
    p, m, dp = at(params, first), at(moments, first), at(grads, first)
    if momentum == 0:
        for i in range(last - first):
            p[i] -= rate * scaled(dp[i], most, factor)
    else:
        for i in range(last - first):
            g = scaled(dp[i], most, factor)
            m[i] = flush(momentum * m[i] + g)
            p[i] -= rate * (a * g + b * m[i])
    return OK


@inlined
def adagrad(p, m, grads, rate, epsilon, limit, factor, n):
    for i in range(n):
        g = scaled(grads[i], limit, factor)
        m[i] += g * g
        p[i] -= rate * g / (math.sqrt(m[i]) + epsilon)


@inlined
def adagrad_update(params, moments, grads, settings, limit, scale, part, parts, n):
    if part < 0 or part >= parts or n < 0:
        return BAD_SIZE
    rate, epsilon, most, factor = (
        as_element(params, settings[0]),
        as_element(params, settings[1]),
        as_element(params, limit),
        as_element(params, scale),
    )
    i, last = share(n, part, parts), share(n, part + 1, parts)
    while i + SUMS <= last:  # no gradient, no change: so it is for absent input symbols
        some, nonzero = at(grads, i), 0
        for j in range(SUMS):
            nonzero |= some[j] != 0
        if nonzero:
            adagrad(at(params, i), at(moments, i), some, rate, epsilon, most, factor, SUMS)
        i += SUMS
    adagrad(at(params, i), at(moments, i), at(grads, i), rate, epsilon, most, factor, last - i)
    return OK


@inlined
def adam_update(params, moments, grads, settings, limit, scale, part, parts, n):
    if part < 0 or part >= parts or n < 0:
        return BAD_SIZE
    step, beta1, beta2 = (
        as_element(params, settings[0]),
        as_element(params, settings[1]),
        as_element(params, settings[2]),
    )
    rest1, rest2 = as_element(params, 1 - settings[1]), as_element(params, 1 - settings[2])
    epsilon, correction = as_element(params, settings[3]), as_element(params, settings[4])
    keep, most, factor = as_element(params, settings[5]), as_element(params, limit), as_element(params, scale)
    first = share(n, part, parts)
    p, dp = at(params, first), at(grads, first)
    m, v = at(moments, first), at(moments, n + first)
    for i in range(share(n, part + 1, parts) - first):
        g = scaled(dp[i], most, factor)
        m[i] = flush(beta1 * m[i] + rest1 * g)
        v[i] = flush_square(beta2 * v[i] + flush(rest2 * g) * g)
        p[i] = keep * p[i] - step * m[i] / (math.sqrt(v[i]) / correction + epsilon)
    return OK


@inlined
def rmsprop_update(params, moments, grads, settings, limit, scale, part, parts, n):
    if part < 0 or part >= parts or n < 0:
        return BAD_SIZE
    rate, alpha, rest, epsilon = (
        as_element(params, settings[0]),
        as_element(params, settings[1]),
        as_element(params, 1 - settings[1]),
        as_element(params, settings[2]),
    )
    most, factor = as_element(params, limit), as_element(params, scale)
    first = share(n, part, parts)
    p, m, dp = at(params, first), at(moments, first), at(grads, first)
    for i in range(share(n, part + 1, parts) - first):
        g = scaled(dp[i], most, factor)
        m[i] = flush_square(alpha * m[i] + flush(rest * g) * g)
        p[i] -= rate * g / (math.sqrt(m[i]) + epsilon)
    return OK


@inlined
def average_update(average, params, weight, part, parts, n):
    if part < 0 or part >= parts or n < 0:
        return BAD_SIZE
    own, rest = as_element(params, weight), as_element(params, 1 - weight)
    first = share(n, part, parts)
    mean, p = at(average, first), at(params, first)
    for i in range(share(n, part + 1, parts) - first):
        mean[i] = flush(rest * mean[i] + own * p[i])
    return OK


# ---- Where the arrays of a network lie: csrc/views.h -----------------------------------------------------


class Sizes(NamedTuple):
    """The sizes of a network and of a window."""

    plan: Any
    cell: int
    L: int
    V: int
    E: int
    H: int
    G: int
    T: int
    B: int


@inlined
def sizes_of(plan, T, B):
    cell = plan[CELL]
    G = 4 if cell == LSTM else (3 if cell == GRU else 1)
    return Sizes(
        at(plan, 0), cell, plan[LAYERS], plan[VOCABULARY], plan[EMBEDDING], plan[HIDDEN], np.int64(G), T, B
    )


@inlined
def bad_sizes(s):
    if s.cell < RNN_TANH or s.cell > LSTM:
        return BAD_CHOICE
    return BAD_SIZE if s.T < 1 or s.B < 1 or s.L < 1 or s.V < 1 or s.E < 0 or s.H < 1 else OK


@intrinsic
def array(typing_context, flat, s, field):
    """The memory of one of the network's arrays."""

    def emit(context, builder, signature, arguments):
        plan = builder.extract_value(arguments[1], 0)
        place = builder.load(builder.gep(plan, [arguments[2]]))
        return builder.gep(address(context, builder, flat, arguments[0]), [place])

    return types.CPointer(flat.dtype)(flat, s, types.intp), emit


@intrinsic
def layer_array(typing_context, flat, s, layer, field):
    """The memory of one of a layer's arrays."""

    def emit(context, builder, signature, arguments):
        plan = builder.extract_value(arguments[1], 0)
        number = builder.add(whole(LAYER), builder.mul(arguments[2], whole(LAYER_PLAN)))
        place = builder.load(builder.gep(plan, [builder.add(number, arguments[3])]))
        return builder.gep(address(context, builder, flat, arguments[0]), [place])

    return types.CPointer(flat.dtype)(flat, s, types.intp, types.intp), emit


@inlined
def inputs_of(s, layer):
    """The elements that a layer takes in."""
    return s.H if layer > 0 else (s.E if s.E > 0 else s.V)


# ---- A team's parts wait for each other: csrc/team.h -----------------------------------------------------


@inlined
def go_on(team):
    """ABORTED once the parts are to end: what may last asks now and then."""
    return ABORTED if exists(team.sync) and atomic_load(team.sync, ABORT) != 0 else OK


@jit
def wait_for_all(team):
    sync, parts = team.sync, team.parts
    if parts == 1:
        return OK
    now = atomic_load(sync, ROUND)
    if atomic_add(sync, ARRIVED, np.int32(1)) == parts - 1:
        atomic_add(sync, ARRIVED, np.int32(-parts))
        atomic_add(sync, ROUND, np.int32(1))
        return OK
    spins = 0
    while atomic_load(sync, ROUND) == now:
        if go_on(team) != OK:
            return ABORTED
        spins += 1
        if spins > 2000:
            give_way()
    return OK


# ---- The layers of a network, forward: csrc/layers.h -------------------------------------------------------


class Dropout(NamedTuple):
    """Which mask a window has; a rate of 0 is no dropout."""

    rate: float
    key: int
    update: int


class Team(NamedTuple):
    """What a part of a team has."""

    sync: Any
    part: int
    parts: int


@jit
def pack_weights(packed, params, ih, hh, head, transposed, team, s):
    """Pack all weights as right operands; ``ih``, ``hh`` and ``head`` are where to, in the plan."""
    O = s.G * s.H
    for layer in range(s.L + 1):  # the head after the last one
        for dense in range(2):
            I, rows, field, to = s.H, O, WEIGHT_IH if dense else WEIGHT_HH, ih if dense else hh
            weight, out = at(params, 0), at(packed, 0)
            if layer == s.L:
                rows = s.V if dense else 0
                weight, out = array(params, s, HEAD_WEIGHT), array(packed, s, head)
            else:
                weight, out = layer_array(params, s, layer, field), layer_array(packed, s, layer, to)
                if dense:
                    I = inputs_of(s, layer)
                    rows = O if layer > 0 or s.E > 0 else 0
            K, J = (I, rows) if transposed else (rows, I)
            if rows > 0:
                pack(out, weight, transposed, team.part, team.parts, K, J)


@inlined
def hand_up(trace, d, layer, n, rows, s):
    """Drop a part of what some rows of a layer hand up, from row n on; else they hand up h itself."""
    if d.rate > 0:
        h, up = layer_array(trace, s, layer, H_), layer_array(trace, s, layer, UP)
        dropout(at(up, n * s.H), at(h, (s.B + n) * s.H), d.rate, d.key, d.update, layer, n, rows, s.B, s.H)


@inlined
def take_inputs(trace, packed, params, inputs, d, layer, team, s):
    """The input's share of the gates of a dense layer, for some of the rows of all steps."""
    N, I, O = s.T * s.B, inputs_of(s, layer), s.G * s.H
    gates, packed_ih = layer_array(trace, s, layer, GATES), layer_array(packed, s, layer, IH_T)
    bias, x = layer_array(params, s, layer, GATE_BIAS), array(trace, s, X)
    if layer > 0:
        x = layer_array(trace, s, layer - 1, UP)
    status, end = OK, share(N, team.part + 1, team.parts)
    for n in range(share(N, team.part, team.parts), end, STRETCH):
        rows, some = min(STRETCH, end - n), at(x, n * I)
        status = go_on(team)
        if status == OK and layer > 0:
            hand_up(trace, d, layer - 1, n, rows, s)
        elif status == OK:
            weight = array(params, s, EMBEDDING_WEIGHT)
            status = embedding_forward(some, weight, at(inputs, n), rows, s.V, I)
        if status != OK:
            break
        linear_forward(at(gates, n * O), some, packed_ih, bias, rows, I, O)
    return status


@jit
def run_rows(trace, state, packed, params, inputs, starts, layer, first, rows, team, s):
    """The recurrence of a layer, for batch rows from ``first`` on: carries the state."""
    H, B, O = s.H, s.B, s.G * s.H
    h, inner = layer_array(trace, s, layer, H_), layer_array(trace, s, layer, INNER)
    gates, hh = layer_array(trace, s, layer, GATES), layer_array(packed, s, layer, HH_T)
    weight_ih, bias = layer_array(params, s, layer, WEIGHT_IH), layer_array(params, s, layer, GATE_BIAS)
    running = at(array(trace, s, RUNNING), (first + team.part) * (s.G + 1) * H)
    state_h, state_c = at(state, (layer * B + first) * H), at(state, ((s.L + layer) * B + first) * H)
    copy(at(h, first * H), state_h, rows * H)
    if s.cell == LSTM:
        copy(at(inner, first * H), state_c, rows * H)
    for t in range(s.T):
        n = t * B + first
        here, after, x, begins = n * H, (n + B) * H, at(gates, n * O), at(starts, n)
        status = go_on(team)
        if status != OK:
            return status
        if layer == 0 and s.E == 0:
            status = gather_forward(x, weight_ih, bias, at(inputs, n), rows, s.V, O)
            if status != OK:
                return status
        if s.cell == LSTM:
            lstm_forward(
                at(h, after), at(inner, after), x, running, at(h, here), at(inner, here), hh, begins, rows, H
            )
        elif s.cell == GRU:
            bias_hn = layer_array(params, s, layer, BIAS_HN)
            gru_forward(at(h, after), at(inner, here), x, running, at(h, here), hh, bias_hn, begins, rows, H)
        else:
            rnn_forward(at(h, after), running, at(h, here), hh, begins, s.cell == RNN_RELU, rows, H)
    copy(state_h, at(h, (s.T * B + first) * H), rows * H)
    if s.cell == LSTM:
        copy(state_c, at(inner, (s.T * B + first) * H), rows * H)
    return OK


@inlined
def run_layer(trace, state, packed, params, inputs, starts, layer, team, s):
    """The same for all batch rows of a part."""
    status, end = OK, share(s.B, team.part + 1, team.parts)
    for b in range(share(s.B, team.part, team.parts), end, STRETCH):
        rows = min(STRETCH, end - b)
        status = run_rows(trace, state, packed, params, inputs, starts, layer, b, rows, team, s)
        if status != OK:
            break
    return status


@jit
def run_layers(trace, state, packed, params, inputs, starts, d, team, s):
    status = OK
    for layer in range(s.L):
        if layer > 0 or s.E > 0:
            if layer > 0:
                status = wait_for_all(team)
            if status == OK:
                status = take_inputs(trace, packed, params, inputs, d, layer, team, s)
            if status == OK:
                status = wait_for_all(team)
        if status == OK:
            status = run_layer(trace, state, packed, params, inputs, starts, layer, team, s)
        if status != OK:
            return status
    return OK


# ---- The phases of a window: csrc/network.c --------------------------------------------------------------


class Window(NamedTuple):
    """What a window of training reads."""

    inputs: Any
    targets: Any
    starts: Any
    scale: float
    dropout: Dropout


@inlined
def run_head(losses, w, params, x, begin, count, team, s):
    """The head at some steps, for some of the batch rows: losses, dlogits for logits, the gradient of h."""
    B, V, H, top, d = s.B, s.V, s.H, s.L - 1, x.dropout
    first, last = share(B, team.part, team.parts), share(B, team.part + 1, team.parts)
    steps = count if last - first == B else 1
    head_t, head, head_bias = array(w, s, HEAD_T), array(w, s, HEAD), array(params, s, HEAD_BIAS)
    logits, zeros = array(w, s, LOGITS), array(w, s, ZEROS)
    up, dh = layer_array(w, s, top, UP), layer_array(w, s, top, DH)
    for t in range(begin, begin + count, steps):
        end = (t + steps - 1) * B + last
        for n in range(t * B + first, end, ROWS):
            rows, some, back = min(ROWS, end - n), at(logits, (n - begin * B) * V), at(dh, n * H)
            status = go_on(team)
            if status != OK:
                return status
            hand_up(w, d, top, n, rows, s)
            linear_forward(some, at(up, n * H), head_t, head_bias, rows, H, V)
            status = cross_entropy(at(losses, n), some, some, at(x.targets, n), x.scale, rows, V)
            if status != OK:
                return status
            linear_forward(back, some, head, zeros, rows, V, H)
            if d.rate > 0:
                dropout(back, back, d.rate, d.key, d.update, top, n, rows, B, H)
    return OK


@inlined
def add_head_gradients(grads, w, begin, count, block, team, s):
    """The gradients of the head's parameters at some steps, for some of the outputs."""
    up, dlogits = at(layer_array(w, s, s.L - 1, UP), begin * s.B * s.H), array(w, s, LOGITS)
    dweight, dbias = array(grads, s, HEAD_WEIGHT), array(grads, s, HEAD_BIAS)
    status, N = OK, count * s.B
    for n in range(0, N, STRETCH):
        status = go_on(team)
        if status != OK:
            break
        linear_gradients(
            dweight, dbias, block, at(dlogits, n * s.V), at(up, n * s.H), team.part, team.parts,
            min(STRETCH, N - n), s.H, s.V,
        )  # fmt: skip
    return status


@jit
def run_rows_back(w, x, layer, first, rows, team, s):
    """The recurrence of a layer backwards, for batch rows from ``first`` on: the gradients of its gates."""
    B, H, O = s.B, s.H, s.G * s.H
    h, inner, gates = (
        layer_array(w, s, layer, H_), layer_array(w, s, layer, INNER), layer_array(w, s, layer, GATES)
    )  # fmt: skip
    hh, dh, dc = layer_array(w, s, layer, HH), layer_array(w, s, layer, DH), at(array(w, s, DC), first * H)
    running = at(array(w, s, RUNNING), (first + team.part) * (s.G + 1) * H)
    if s.cell == LSTM:
        clear(dc, rows * H)
    for t in range(s.T - 1, -1, -1):
        n = t * B + first
        here, after = n * H, (n + B) * H
        dnow, before = at(dh, here), at(dh, (max(t - 1, 0) * B + first) * H)
        dgates, begins, carried = at(gates, n * O), at(x.starts, n), t > 0
        status = go_on(team)
        if status != OK:
            return status
        if s.cell == LSTM:
            lstm_backward(
                before,
                dc,
                dgates,
                running,
                dnow,
                at(inner, after),
                at(inner, here),
                hh,
                begins,
                carried,
                rows,
                H,
            )
        elif s.cell == GRU:
            gru_backward(
                before, dgates, at(inner, here), running, dnow, at(h, here), hh, begins, carried, rows, H
            )
        else:
            rnn_backward(
                dnow, before, running, at(h, after), hh, begins, s.cell == RNN_RELU, carried, rows, H
            )
    return OK


@inlined
def run_layer_back(w, x, layer, team, s):
    """The same for all batch rows of a part."""
    status, end = OK, share(s.B, team.part + 1, team.parts)
    for b in range(share(s.B, team.part, team.parts), end, STRETCH):
        status = run_rows_back(w, x, layer, b, min(STRETCH, end - b), team, s)
        if status != OK:
            break
    return status


@inlined
def hand_down(w, x, layer, team, s):
    """The gradient of what a dense layer takes in, for some of the rows of all steps."""
    N, I, O, d = s.T * s.B, inputs_of(s, layer), s.G * s.H, x.dropout
    out, dgates = array(w, s, DX), layer_array(w, s, layer, DGATES)
    if layer > 0:
        out = layer_array(w, s, layer - 1, DH)
    status, end = OK, share(N, team.part + 1, team.parts)
    for n in range(share(N, team.part, team.parts), end, STRETCH):
        rows, some = min(STRETCH, end - n), at(out, n * I)
        status = go_on(team)
        if status != OK:
            break
        ih, zeros = layer_array(w, s, layer, IH), array(w, s, ZEROS)
        linear_forward(some, at(dgates, n * O), ih, zeros, rows, O, I)
        if layer > 0 and d.rate > 0:
            dropout(some, some, d.rate, d.key, d.update, layer - 1, n, rows, s.B, s.H)
    return status


@inlined
def add_gradients_of_rows(grads, w, x, layer, n, N, block, team, s):
    """What rows of all steps add to the gradients of a layer's parameters, from n on, for some outputs."""
    H, O, part, parts = s.H, s.G * s.H, team.part, team.parts
    dgates, h = at(layer_array(w, s, layer, DGATES), n * O), at(layer_array(w, s, layer, H_), n * H)
    dweight_ih, dbias = layer_array(grads, s, layer, WEIGHT_IH), layer_array(grads, s, layer, GATE_BIAS)
    dweight_hh = layer_array(grads, s, layer, WEIGHT_HH)
    if layer == 0 and s.E == 0:
        gather_gradients(dweight_ih, dbias, dgates, at(x.inputs, n), part, parts, N, s.V, O)
    else:
        I, taken = inputs_of(s, layer), layer_array(w, s, layer - 1, UP) if layer > 0 else array(w, s, X)
        linear_gradients(dweight_ih, dbias, block, dgates, at(taken, n * I), part, parts, N, I, O)
    if s.cell == GRU:
        du, dbias_hn = at(layer_array(w, s, layer, INNER), n * H), layer_array(grads, s, layer, BIAS_HN)
        gru_gradients(dweight_hh, dbias_hn, block, dgates, du, h, at(x.starts, n), part, parts, N, H)
    else:
        recurrent_gradients(dweight_hh, block, dgates, h, at(x.starts, n), part, parts, N, H, O)


@inlined
def add_gradients(grads, w, x, block, team, s):
    """The gradients of all parameters but the head's, for some of the outputs."""
    status, N = OK, s.T * s.B
    for layer in range(s.L):
        for n in range(0, N, STRETCH):
            status = go_on(team)
            if status != OK:
                return status
            add_gradients_of_rows(grads, w, x, layer, n, min(STRETCH, N - n), block, team, s)
    if s.E > 0:
        dembedding, dx = array(grads, s, EMBEDDING_WEIGHT), array(w, s, DX)
        for n in range(0, N, STRETCH):
            status = go_on(team)
            if status != OK:
                return status
            some, ids, rows = at(dx, n * s.E), at(x.inputs, n), min(STRETCH, N - n)
            embedding_gradients(dembedding, some, ids, team.part, team.parts, rows, s.V, s.E)
    return OK


@jit
def gradients(losses, grads, state, w, params, x, team, s):
    """A window, forward and backward, in a workspace ``w``."""
    size, steps = s.plan[PARAMETERS], s.plan[HEAD_STEPS]
    first = share(size, team.part, team.parts)
    block = at(array(w, s, BLOCKS), team.part * BLOCK * ((max(s.E, s.H) + 31) // 32 * 32))
    clear(at(grads, first), share(size, team.part + 1, team.parts) - first)
    pack_weights(w, params, np.int64(IH_T), np.int64(HH_T), np.int64(HEAD_T), np.int64(1), team, s)
    pack_weights(w, params, np.int64(IH), np.int64(HH), np.int64(HEAD), np.int64(0), team, s)
    if team.part == 0:
        clear(array(w, s, ZEROS), max(s.E, s.H))
    status = wait_for_all(team)
    if status == OK:
        status = run_layers(w, state, w, params, x.inputs, x.starts, x.dropout, team, s)
    for t in range(0, s.T, steps):
        count = min(steps, s.T - t)
        if status == OK:
            status = run_head(losses, w, params, x, t, count, team, s)
        if status == OK:
            status = wait_for_all(team)
        if status == OK:
            status = add_head_gradients(grads, w, t, count, block, team, s)
        if status == OK and t + count < s.T:  # the next logits take the place of these
            status = wait_for_all(team)
    for layer in range(s.L - 1, -1, -1):
        if status == OK:
            status = run_layer_back(w, x, layer, team, s)
        if status == OK:
            status = wait_for_all(team)
        if status == OK and (layer > 0 or s.E > 0):
            status = hand_down(w, x, layer, team, s)
            if status == OK:
                status = wait_for_all(team)
    if status == OK:
        status = add_gradients(grads, w, x, block, team, s)
    return wait_for_all(team) if status == OK else status


# ---- The whole network: csrc/network.c and csrc/inference.c ------------------------------------------------


@inlined
def bad_symbols(ids, lowest, N, V):
    """Whether there are any; every part looks at all ids, so that they agree."""
    bad = 0
    for n in range(N):
        bad |= (ids[n] < lowest) | (ids[n] >= V)
    return bad


@inlined
def alone(like):
    """A team of one, and no dropout."""
    return Team(nothing(like), np.int64(0), np.int64(1)), Dropout(0.0, np.int64(0), np.int64(0))


@jit
def forward(losses, logits, state, w, params, inputs, targets, starts, plan, T, B):
    """A window forward, some steps at a time: logits, or where there are targets losses."""
    most = sizes_of(plan, T, B)
    status = bad_sizes(most)
    if status != OK:
        return status
    team, no_dropout = alone(inputs)
    V, H, steps = most.V, most.H, min(T, (BLOCK + B - 1) // B)
    head_t, head_bias = array(w, most, HEAD_T), array(params, most, HEAD_BIAS)
    h = at(layer_array(w, most, most.L - 1, H_), B * H)
    pack_weights(w, params, np.int64(IH_T), np.int64(HH_T), np.int64(HEAD_T), np.int64(1), team, most)
    for t in range(0, T, steps):
        s = sizes_of(plan, min(steps, T - t), B)
        ids, begins = at(inputs, t * B), at(starts, t * B)
        status = run_layers(w, state, w, params, ids, begins, no_dropout, team, s)
        if status != OK:
            return status
        for n in range(0, s.T * B, ROWS):
            rows, here = min(ROWS, s.T * B - n), t * B + n
            out = array(w, s, LOGITS) if exists(targets) else at(logits, here * V)
            linear_forward(out, at(h, n * H), head_t, head_bias, rows, H, V)
            if exists(targets):
                status = cross_entropy(at(losses, here), out, out, at(targets, here), 1.0, rows, V)
                if status != OK:
                    return status
    return OK


@jit
def network_forward(logits, state, workspace, params, inputs, starts, plan, T, B):
    return forward(
        no_losses(), at(logits, 0), at(state, 0), at(workspace, 0), at(params, 0), at(inputs, 0),
        nothing(inputs), at(starts, 0), at(plan, 0), T, B,
    )  # fmt: skip


@jit
def network_losses(losses, state, workspace, params, inputs, targets, starts, plan, T, B):
    return forward(
        at(losses, 0), nothing(params), at(state, 0), at(workspace, 0), at(params, 0), at(inputs, 0),
        at(targets, 0), at(starts, 0), at(plan, 0), T, B,
    )  # fmt: skip


@jit
def network_gradients(
    losses, grads, state, workspace, sync, params, inputs, targets, starts, plan, scale, rate, key, update,
    part, parts, T, B,
):  # fmt: skip
    s = sizes_of(plan, T, B)
    status = bad_sizes(s)
    if status != OK:
        return status
    if part < 0 or part >= parts:
        return BAD_SIZE
    x = Window(at(inputs, 0), at(targets, 0), at(starts, 0), scale, Dropout(rate, key, update))
    if bad_symbols(x.inputs, 0, T * B, s.V) or bad_symbols(x.targets, -1, T * B, s.V):
        return BAD_SYMBOL
    team = Team(at(sync, 0), part, parts)
    return gradients(at(losses, 0), at(grads, 0), at(state, 0), at(workspace, 0), at(params, 0), x, team, s)


@inlined
def gradient_scale(targets, reduction, N, B):
    """What the sum of a window's losses is multiplied by: its mean is over the targets that there are."""
    count = B if reduction == BATCHMEAN else 0
    if reduction == MEAN:
        for n in range(N):
            count += targets[n] >= 0
    return 1.0 / count if count > 0 else 1.0


@inlined
def update(params, moments, grads, settings, optimizer, limit, scale, part, parts, n):
    if optimizer == SGD:
        return sgd_update(params, moments, grads, settings, limit, scale, part, parts, n)
    if optimizer == ADAGRAD:
        return adagrad_update(params, moments, grads, settings, limit, scale, part, parts, n)
    if optimizer == ADAM:
        return adam_update(params, moments, grads, settings, limit, scale, part, parts, n)
    if optimizer == RMSPROP:
        return rmsprop_update(params, moments, grads, settings, limit, scale, part, parts, n)
    return BAD_CHOICE


@jit
def train_windows(
    losses, norms, symbol_losses, params, grads, moments, average, state, workspace, sync, inputs, targets,
    starts, settings, weights, plan, optimizer, reduction, value_limit, norm_limit, rate, key,
    first_update, first, part, parts, A, W, S, T, B,
):  # fmt: skip
    most = sizes_of(plan, T, B)
    status = bad_sizes(most)
    if status != OK:
        return status
    if first < 0 or W < 0 or S < 1 or part < 0 or part >= parts:
        return BAD_SIZE
    if bad_symbols(at(inputs, 0), 0, S * B, most.V) or bad_symbols(at(targets, 0), -1, S * B, most.V):
        return BAD_SYMBOL
    n = params.shape[0]
    windows = (S + T - 1) // T
    norm, team = on_stack(norms, 1), Team(at(sync, 0), part, parts)
    if part == 0:
        for w in range(W):
            losses[w] = norms[w] = math.nan
    for w in range(W):
        start = (first + w) % windows * T
        s = sizes_of(plan, min(T, S - start), B)
        y = at(targets, start * B)
        dropped = Dropout(rate, key, first_update + w)
        x = Window(
            at(inputs, start * B), y, at(starts, start * B), gradient_scale(y, reduction, s.T * B, B), dropped
        )
        status = gradients(
            at(symbol_losses, 0), at(grads, 0), at(state, 0), at(workspace, 0), at(params, 0), x, team, s
        )
        if status != OK:
            return status
        # every part finds the same loss and norm, and goes on or ends like the others
        loss = sum_of(at(symbol_losses, 0), s.T * B)
        gradient_norm(norm, grads, value_limit, n)
        if part == 0:
            losses[w], norms[w] = loss, norm[0]
        if not (math.isfinite(loss) and math.isfinite(norm[0])):
            return OK
        scale = norm_limit / norm[0] if norm[0] > norm_limit else 1.0
        status = update(
            params, moments, grads, at(settings, w * SETTINGS), optimizer, value_limit, scale, part, parts, n
        )
        if status == OK and A > 0:
            status = average_update(average, params, weights[w], part, parts, n)
        if status == OK:
            status = wait_for_all(team)
        if status != OK:
            return status
    return OK


# ---- One symbol at a time ----------------------------------------------------------------------------


@jit
def network_prepare(prepared, params, plan):
    s = sizes_of(plan, np.int64(1), np.int64(1))
    status = bad_sizes(s)
    if status == OK:
        team, _ = alone(plan)
        pack_weights(
            at(prepared, 0),
            at(params, 0),
            np.int64(IH_T),
            np.int64(HH_T),
            np.int64(HEAD_T),
            np.int64(1),
            team,
            s,
        )
    return status


@jit
def network_step(logits, state, scratch, prepared, params, inputs, starts, plan, B):
    s = sizes_of(plan, np.int64(1), B)
    status = bad_sizes(s)
    if status != OK:
        return status
    team, no_dropout = alone(inputs)
    weights, packed, trace = at(params, 0), at(prepared, 0), at(scratch, 0)
    status = run_layers(
        trace, at(state, 0), packed, weights, at(inputs, 0), at(starts, 0), no_dropout, team, s
    )
    if status != OK:
        return status
    h, head_bias = at(layer_array(trace, s, s.L - 1, H_), B * s.H), array(weights, s, HEAD_BIAS)
    return linear_forward(logits, h, array(packed, s, HEAD_T), head_bias, B, s.H, s.V)


@inlined
def draw(logits, uniform, temperature, V):
    """One id; replaces logits by e^((logit - largest) / temperature)."""
    best = 0
    for v in range(1, V):
        best = v if logits[v] > logits[best] else best
    if temperature == 0:
        return best
    most, divisor = logits[best], as_element(logits, temperature)
    each_difference(logits, logits, most, V)
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


@jit
def all_are_finite(x, n):
    """Whether n elements are finite."""
    finite = True
    for i in range(n):
        finite &= x[i] - x[i] == 0
    return finite


@jit
def sample(
    symbols, state, scratch, logits, prepared, params, uniforms, starts, plan, temperature, symbol_before,
    last, n,
):  # fmt: skip
    V = plan[VOCABULARY]
    if n < 0:
        return BAD_SIZE
    if symbol_before < 0 or symbol_before >= V:
        return BAD_SYMBOL
    symbol = on_stack(symbols, 1)
    symbol[0] = symbol_before
    for i in range(n):
        if i == 0 or symbol[0] != last:
            status = network_step(logits, state, scratch, prepared, params, symbol, starts, plan, np.int64(1))
            if status != OK:
                return status
            if not all_are_finite(at(logits, 0), V):
                for rest in range(i, n):
                    symbols[rest] = -1
                return OK
            symbol[0] = draw(at(logits, 0), uniforms[i], temperature, V)
        symbols[i] = symbol[0]
    return OK
