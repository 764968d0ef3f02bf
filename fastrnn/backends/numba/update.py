"""The norm of a gradient, and the optimizers. Each is one pass over flat vectors of n elements."""

from __future__ import annotations

import math

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.constants import (
    ADAGRAD_EPSILON,
    ADAM_BETA1,
    ADAM_BETA2,
    ADAM_CORRECTION,
    ADAM_EPSILON,
    ADAM_KEEP,
    BAD_SIZE,
    LEARNING_RATE,
    OK,
    RMSPROP_ALPHA,
    RMSPROP_EPSILON,
    SGD_MOMENTUM,
    SGD_OF_GRADIENT,
    SGD_OF_MOMENT,
    SUMS,
)
from fastrnn.backends.numba.elementary import (
    DOUBLE,
    PRECISIONS,
    Value,
    constant,
    flush,
    flush_formula,
    flush_square,
)
from fastrnn.backends.numba.jit import procedure, routine
from fastrnn.backends.numba.llvm import as_element, at
from fastrnn.backends.numba.simd import Vectors
from fastrnn.backends.numba.sums import add, fold


def clip_formula(p, x, limit, threshold=None):
    g = flush_formula(p, x, threshold)
    g = limit.where(g.compare(">", limit), g)
    return (-limit).where(g.compare("<", -limit), g)


@intrinsic
def sum_of_squares(typing_context, x, n, limit):
    """The sum in double precision of the squares of n elements, each clipped to [-limit, limit]."""
    p = PRECISIONS[x.dtype]

    def emit(context, builder, signature, arguments):
        start, count, bound = arguments
        v = Vectors(builder, context.get_data_type(x.dtype), SUMS)
        doubles = ir.VectorType(ir.DoubleType(), SUMS)
        bound = Value(builder, v.fill(bound))

        def prepare(vector):
            g = clip_formula(p, Value(builder, vector), bound).value
            g = g if p is DOUBLE else builder.fpext(g, doubles)
            return builder.fmul(g, g)

        return fold(context, builder, x, start, count, 0.0, add, prepare)

    return types.float64(x, types.intp, x.dtype), emit


@intrinsic
def scaled(typing_context, g, limit, factor):
    """An element of the gradient, clipped and scaled."""
    p = PRECISIONS[g]

    def emit(context, builder, signature, arguments):
        g, bound, by = (Value(builder, argument) for argument in arguments)
        threshold = constant(by, 0.5 * p.tiny) / by  # for smaller g, g · factor is below tiny / 2
        threshold = threshold.where(threshold.compare(">", p.tiny), p.tiny)
        return flush_formula(p, clip_formula(p, g, bound, threshold) * by).value

    return g(g, limit, factor), emit


@routine
def gradient_norm(norm, grads, limit, n):
    if n < 0:
        return BAD_SIZE
    norm[0] = math.sqrt(sum_of_squares(at(grads, 0), n, as_element(grads, limit)))
    return OK


@routine
def bad_range(begin, end, n):
    return begin < 0 or end < begin or n < end


@routine
def sgd_update(params, moments, grads, settings, limit, scale, begin, end, n):
    if bad_range(begin, end, n):
        return BAD_SIZE
    learning_rate, bound, factor = (
        as_element(params, settings[LEARNING_RATE]),
        as_element(params, limit),
        as_element(params, scale),
    )
    momentum, a, b = (
        as_element(params, settings[SGD_MOMENTUM]),
        as_element(params, settings[SGD_OF_GRADIENT]),
        as_element(params, settings[SGD_OF_MOMENT]),
    )
    p, m, dp = at(params, begin), at(moments, begin), at(grads, begin)
    if momentum == 0:
        for i in range(end - begin):
            p[i] -= learning_rate * scaled(dp[i], bound, factor)
    else:
        for i in range(end - begin):
            g = scaled(dp[i], bound, factor)
            m[i] = flush(momentum * m[i] + g)
            p[i] -= learning_rate * (a * g + b * m[i])
    return OK


@procedure
def adagrad(p, m, grads, learning_rate, epsilon, limit, factor, n):
    for i in range(n):
        g = scaled(grads[i], limit, factor)
        m[i] += g * g
        p[i] -= learning_rate * g / (math.sqrt(m[i]) + epsilon)


@routine
def adagrad_update(params, moments, grads, settings, limit, scale, begin, end, n):
    if bad_range(begin, end, n):
        return BAD_SIZE
    learning_rate, epsilon, bound, factor = (
        as_element(params, settings[LEARNING_RATE]),
        as_element(params, settings[ADAGRAD_EPSILON]),
        as_element(params, limit),
        as_element(params, scale),
    )
    i = begin
    while i + SUMS <= end:  # a gradient of 0 changes nothing; absent input symbols have it
        some, nonzero = at(grads, i), 0
        for j in range(SUMS):
            nonzero |= some[j] != 0
        if nonzero:
            adagrad(at(params, i), at(moments, i), some, learning_rate, epsilon, bound, factor, SUMS)
        i += SUMS
    adagrad(at(params, i), at(moments, i), at(grads, i), learning_rate, epsilon, bound, factor, end - i)
    return OK


@routine
def adam_update(params, moments, grads, settings, limit, scale, begin, end, n):
    if bad_range(begin, end, n):
        return BAD_SIZE
    step, beta1, beta2 = (
        as_element(params, settings[LEARNING_RATE]),
        as_element(params, settings[ADAM_BETA1]),
        as_element(params, settings[ADAM_BETA2]),
    )
    rest1, rest2 = as_element(params, 1 - settings[ADAM_BETA1]), as_element(params, 1 - settings[ADAM_BETA2])
    epsilon, correction = (
        as_element(params, settings[ADAM_EPSILON]),
        as_element(params, settings[ADAM_CORRECTION]),
    )
    keep, bound, factor = (
        as_element(params, settings[ADAM_KEEP]),
        as_element(params, limit),
        as_element(params, scale),
    )
    p, dp = at(params, begin), at(grads, begin)
    m, v = at(moments, begin), at(moments, n + begin)
    for i in range(end - begin):
        g = scaled(dp[i], bound, factor)
        m[i] = flush(beta1 * m[i] + rest1 * g)
        v[i] = flush_square(beta2 * v[i] + flush(rest2 * g) * g)
        p[i] = keep * p[i] - step * m[i] / (math.sqrt(v[i]) / correction + epsilon)
    return OK


@routine
def rmsprop_update(params, moments, grads, settings, limit, scale, begin, end, n):
    if bad_range(begin, end, n):
        return BAD_SIZE
    learning_rate, alpha, rest, epsilon = (
        as_element(params, settings[LEARNING_RATE]),
        as_element(params, settings[RMSPROP_ALPHA]),
        as_element(params, 1 - settings[RMSPROP_ALPHA]),
        as_element(params, settings[RMSPROP_EPSILON]),
    )
    bound, factor = as_element(params, limit), as_element(params, scale)
    p, m, dp = at(params, begin), at(moments, begin), at(grads, begin)
    for i in range(end - begin):
        g = scaled(dp[i], bound, factor)
        m[i] = flush_square(alpha * m[i] + flush(rest * g) * g)
        p[i] -= learning_rate * g / (math.sqrt(m[i]) + epsilon)
    return OK


@routine
def average_update(average, params, weight, begin, end, n):
    if bad_range(begin, end, n):
        return BAD_SIZE
    own, rest = as_element(params, weight), as_element(params, 1 - weight)
    mean, p = at(average, begin), at(params, begin)
    for i in range(end - begin):
        mean[i] = flush(rest * mean[i] + own * p[i])
    return OK
