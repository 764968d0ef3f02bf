"""Vectors of reals as LLVM; csrc/simd.h has the same."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastrnn.backends.numba.jit import FUSES, WIDTH

MR = (6 if WIDTH == 256 else 8) if FUSES else 2  # AVX-512 and NEON have 32 registers
ROW_VECTORS = 8 if FUSES else 4


@intrinsic
def panel_columns(typing_context, array):
    """The number of columns of a panel, which is two vectors wide."""
    width = 2 * WIDTH // array.dtype.bitwidth

    def emit(context, builder, signature, arguments):
        return context.get_constant(types.intp, width)

    return types.intp(array), emit


def suffix(kind):
    """The suffix of LLVM's functions for a type of reals, or of vectors of reals."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{suffix(kind.element)}"
    return "f32" if isinstance(kind, ir.FloatType) else "f64"


class Vectors:
    """Vectors of reals in LLVM. The micro-kernels and the reductions use them."""

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
        """A mask of the first ``count`` lanes."""
        numbers = ir.VectorType(ir.IntType(64), self.lanes)
        return self.builder.icmp_signed(
            "<", ir.Constant(numbers, list(range(self.lanes))), self.fill(count, ir.IntType(64))
        )

    def load_some(self, start, offset, count, otherwise=0.0):
        """Load the first ``count`` lanes from memory, and set the others to a constant."""
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
        """The lower and the upper half of a vector of ``width`` lanes."""
        half = width // 2
        return [self.shuffle(value, value, list(range(first, first + half))) for first in (0, half)]
