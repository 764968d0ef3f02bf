/* update.c: the norm of a gradient, and the optimizers. Each is one pass over flat vectors of n elements. */

#include "elementary.h"
#include "fastrnn.h"
#include "matmul.h"
#include "sums.h"

/* 0 if |g| < threshold, else g clipped to the range from -limit to limit. NaN stays NaN. */
fr_inline real clipped(real g, real limit, real threshold)
{
    g = fr_flush(g, threshold);
    return g > limit ? limit : g < -limit ? -limit : g;
}

/* The clipped and scaled gradient of an update. It is 0 if it is below FR_TINY, so that its square is normal. If the
 * factor would make g smaller than FR_TINY / 2, g is set to 0 before, so that g · factor is normal. */
fr_inline real scaled(real g, real limit, real factor)
{
    const real threshold = (real)0.5 * FR_TINY / factor;
    return fr_flush(clipped(g, limit, threshold > FR_TINY ? threshold : FR_TINY) * factor, FR_TINY);
}

fr_status FR(gradient_norm)(double *restrict norm, const real *restrict grads, double limit, int64_t n)
{
    if (n < 0)
        return FR_BAD_SIZE;
    double partial[FR_SUMS] = {0};
    const real bound = (real)limit;
    for (int64_t i = 0; i < n; i += FR_KC) {
        const int64_t count = fr_min(FR_KC, n - i), whole = count / FR_SUMS * FR_SUMS;
        real g[FR_KC];
        for (int64_t l = 0; l < count; l++)
            g[l] = clipped(grads[i + l], bound, FR_TINY);
        for (int64_t l = 0; l < whole; l += FR_SUMS)
            for (int64_t s = 0; s < FR_SUMS; s++)
                partial[s] += (double)g[l + s] * (double)g[l + s];
        for (int64_t s = 0; s < count - whole; s++)
            partial[s] += (double)g[whole + s] * (double)g[whole + s];
    }
    *norm = __builtin_sqrt(fr_add_halves_double(partial));
    return FR_OK;
}

fr_inline int bad_range(int64_t begin, int64_t end, int64_t n)
{
    return begin < 0 || end < begin || n < end;
}

fr_status FR(sgd_update)(real *restrict params, real *restrict moments, const real *restrict grads,
                         const double *restrict settings, double limit, double scale, int64_t begin,
                         int64_t end, int64_t n)
{
    if (bad_range(begin, end, n))
        return FR_BAD_SIZE;
    const real learning_rate = (real)settings[FR_LEARNING_RATE], momentum = (real)settings[FR_SGD_MOMENTUM],
               a = (real)settings[FR_SGD_OF_GRADIENT], b = (real)settings[FR_SGD_OF_MOMENT];
    const real bound = (real)limit, factor = (real)scale;
    if (momentum == 0)
        for (int64_t i = begin; i < end; i++)
            params[i] -= learning_rate * scaled(grads[i], bound, factor);
    else
        for (int64_t i = begin; i < end; i++) {
            const real g = scaled(grads[i], bound, factor);
            moments[i] = fr_flush(momentum * moments[i] + g, FR_TINY);
            params[i] -= learning_rate * (a * g + b * moments[i]);
        }
    return FR_OK;
}

/* Whether FR_SUMS elements are all 0 or -0. */
fr_inline int all_zero(const real *x)
{
    fr_uint bits = 0;
    for (int64_t i = 0; i < FR_SUMS; i++)
        bits |= (fr_uint)fr_bits(x[i]) << 1;
    return bits == 0;
}

fr_inline void adagrad(real *restrict p, real *restrict m, const real *restrict grads, real learning_rate, real epsilon,
                       real limit, real factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const real g = scaled(grads[i], limit, factor);
        m[i] += g * g;
        p[i] -= learning_rate * g / (fr_sqrt(m[i]) + epsilon);
    }
}

fr_status FR(adagrad_update)(real *restrict params, real *restrict moments, const real *restrict grads,
                             const double *restrict settings, double limit, double scale, int64_t begin,
                             int64_t end, int64_t n)
{
    if (bad_range(begin, end, n))
        return FR_BAD_SIZE;
    const real learning_rate = (real)settings[FR_LEARNING_RATE], epsilon = (real)settings[FR_ADAGRAD_EPSILON];
    const real bound = (real)limit, factor = (real)scale;
    int64_t i = begin;
    for (; i + FR_SUMS <= end; i += FR_SUMS) /* a gradient of 0 changes nothing; absent input symbols have it */
        if (!all_zero(grads + i))
            adagrad(params + i, moments + i, grads + i, learning_rate, epsilon, bound, factor, FR_SUMS);
    adagrad(params + i, moments + i, grads + i, learning_rate, epsilon, bound, factor, end - i);
    return FR_OK;
}

fr_status FR(adam_update)(real *restrict params, real *restrict moments, const real *restrict grads,
                          const double *restrict settings, double limit, double scale, int64_t begin,
                          int64_t end, int64_t n)
{
    if (bad_range(begin, end, n))
        return FR_BAD_SIZE;
    const real step = (real)settings[FR_LEARNING_RATE], beta1 = (real)settings[FR_ADAM_BETA1],
               beta2 = (real)settings[FR_ADAM_BETA2], rest1 = (real)(1 - settings[FR_ADAM_BETA1]),
               rest2 = (real)(1 - settings[FR_ADAM_BETA2]), epsilon = (real)settings[FR_ADAM_EPSILON],
               correction = (real)settings[FR_ADAM_CORRECTION], keep = (real)settings[FR_ADAM_KEEP];
    const real bound = (real)limit, factor = (real)scale;
    real *restrict m = moments, *restrict v = moments + n;
    for (int64_t i = begin; i < end; i++) {
        const real g = scaled(grads[i], bound, factor);
        m[i] = fr_flush(beta1 * m[i] + rest1 * g, FR_TINY);
        v[i] = fr_flush(beta2 * v[i] + fr_flush(rest2 * g, FR_TINY) * g, FR_TINY * FR_TINY);
        params[i] = keep * params[i] - step * m[i] / (fr_sqrt(v[i]) / correction + epsilon);
    }
    return FR_OK;
}

fr_status FR(rmsprop_update)(real *restrict params, real *restrict moments, const real *restrict grads,
                             const double *restrict settings, double limit, double scale, int64_t begin,
                             int64_t end, int64_t n)
{
    if (bad_range(begin, end, n))
        return FR_BAD_SIZE;
    const real learning_rate = (real)settings[FR_LEARNING_RATE], alpha = (real)settings[FR_RMSPROP_ALPHA],
               rest = (real)(1 - settings[FR_RMSPROP_ALPHA]), epsilon = (real)settings[FR_RMSPROP_EPSILON];
    const real bound = (real)limit, factor = (real)scale;
    for (int64_t i = begin; i < end; i++) {
        const real g = scaled(grads[i], bound, factor);
        moments[i] = fr_flush(alpha * moments[i] + fr_flush(rest * g, FR_TINY) * g, FR_TINY * FR_TINY);
        params[i] -= learning_rate * g / (fr_sqrt(moments[i]) + epsilon);
    }
    return FR_OK;
}

fr_status FR(average_update)(real *restrict average, const real *restrict params, double weight, int64_t begin,
                             int64_t end, int64_t n)
{
    if (bad_range(begin, end, n))
        return FR_BAD_SIZE;
    const real own = (real)weight, rest = (real)(1 - weight);
    for (int64_t i = begin; i < end; i++)
        average[i] = fr_flush(rest * average[i] + own * params[i], FR_TINY);
    return FR_OK;
}
