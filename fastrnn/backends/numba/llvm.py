"""Pointers and memory as LLVM instructions, since Numba has no functions for them.

``at(array, i)`` is the pointer ``array + i`` of C. A slice of an array would often cost more than its use.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array


def address(context, builder, kind, value):
    """The address of an array's first element, or a pointer itself."""
    return value if isinstance(kind, types.CPointer) else make_array(kind)(context, builder, value).data


@intrinsic
def at(typing_context, array, offset):
    """A pointer to an element of a C-contiguous array, or of the memory at a pointer."""

    def emit(context, builder, signature, arguments):
        return builder.gep(address(context, builder, array, arguments[0]), [arguments[1]])

    return types.CPointer(array.dtype)(array, types.intp), emit


@intrinsic(prefer_literal=True)
def on_stack(typing_context, like, size):
    """Memory on the stack for a constant number of elements, of the type of the elements of ``like``."""

    def emit(context, builder, signature, arguments):
        return cgutils.alloca_once(builder, context.get_data_type(like.dtype), size=size.literal_value)

    return types.CPointer(like.dtype)(like, size), emit


@intrinsic
def as_element(typing_context, like, number):
    """A number, converted to the type of the elements of ``like``."""

    def emit(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], number, like.dtype)

    return like.dtype(like, number), emit


@intrinsic
def nothing(typing_context, like):
    """A null pointer to elements of the type of those of ``like``."""

    def emit(context, builder, signature, arguments):
        return ir.Constant(context.get_data_type(like.dtype).as_pointer(), None)

    return types.CPointer(like.dtype)(like), emit


@intrinsic
def no_starts(typing_context):
    """A null pointer in place of ``starts``, if no row can start."""

    def emit(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.CPointer(types.uint8)(), emit


@intrinsic
def no_barrier(typing_context):
    """A null pointer in place of ``barrier``, for a single worker."""

    def emit(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(32).as_pointer(), None)

    return types.CPointer(types.int32)(), emit


@intrinsic
def no_losses(typing_context):
    """A null pointer in place of ``losses``, if they are not needed."""

    def emit(context, builder, signature, arguments):
        return ir.Constant(ir.DoubleType().as_pointer(), None)

    return types.CPointer(types.float64)(), emit


@intrinsic
def exists(typing_context, pointer):
    """Whether a pointer is not null."""

    def emit(context, builder, signature, arguments):
        return builder.icmp_unsigned("!=", arguments[0], ir.Constant(arguments[0].type, None))

    return types.boolean(pointer), emit


def whole(value):
    """A constant 64-bit integer."""
    return ir.Constant(ir.IntType(64), value)


@intrinsic
def leading_zeros(typing_context, number):
    """The zeros before the first bit of a positive integer of 64 bits."""

    def emit(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), emit


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
