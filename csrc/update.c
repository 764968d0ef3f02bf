/* update.c: clipping and the optimizers, each one pass over flat vectors of n elements. */

#include "fastrnn.h"

fr_status FR(clip_value)(real *restrict grads, double limit, int64_t n)
{
    if (n < 0)
        return FR_BAD_SIZE;
    const real high = (real)limit, low = -high;
    for (int64_t i = 0; i < n; i++) {
        const real g = grads[i];
        grads[i] = g > high ? high : g < low ? low : g;
    }
    return FR_OK;
}

/* In double: sixteen interleaved partial sums, added up as a tree. */
static double sum_of_squares(const real *x, int64_t n)
{
    double partial[FR_SUMS] = {0};
    int64_t i = 0;
    for (; i + FR_SUMS <= n; i += FR_SUMS)
        for (int64_t l = 0; l < FR_SUMS; l++)
            partial[l] += (double)x[i + l] * (double)x[i + l];
    for (int64_t l = 0; i + l < n; l++)
        partial[l] += (double)x[i + l] * (double)x[i + l];
    for (int64_t width = FR_SUMS / 2; width > 0; width /= 2)
        for (int64_t l = 0; l < width; l++)
            partial[l] += partial[l + width];
    return partial[0];
}

fr_status FR(clip_norm)(double *restrict norm, real *restrict grads, double limit, int64_t n)
{
    if (n < 0)
        return FR_BAD_SIZE;
    *norm = __builtin_sqrt(sum_of_squares(grads, n));
    if (*norm > limit) {
        const real scale = (real)(limit / *norm);
        for (int64_t i = 0; i < n; i++)
            grads[i] *= scale;
    }
    return FR_OK;
}

fr_status FR(sgd_update)(real *restrict params, real *restrict moments, const real *restrict grads,
                         const double *restrict settings, int64_t n)
{
    (void)moments;
    if (n < 0)
        return FR_BAD_SIZE;
    const real rate = (real)settings[0];
    for (int64_t i = 0; i < n; i++)
        params[i] -= rate * grads[i];
    return FR_OK;
}

fr_status FR(adagrad_update)(real *restrict params, real *restrict moments, const real *restrict grads,
                             const double *restrict settings, int64_t n)
{
    if (n < 0)
        return FR_BAD_SIZE;
    const real rate = (real)settings[0], epsilon = (real)settings[1];
    for (int64_t i = 0; i < n; i++) {
        moments[i] += grads[i] * grads[i];
        params[i] -= rate * grads[i] / (fr_sqrt(moments[i]) + epsilon);
    }
    return FR_OK;
}

fr_status FR(adam_update)(real *restrict params, real *restrict moments, const real *restrict grads,
                          const double *restrict settings, int64_t n)
{
    if (n < 0)
        return FR_BAD_SIZE;
    const real step = (real)settings[0], beta1 = (real)settings[1], beta2 = (real)settings[2];
    const real rest1 = (real)(1 - settings[1]), rest2 = (real)(1 - settings[2]);
    const real epsilon = (real)settings[3], correction = (real)settings[4];
    real *restrict m = moments, *restrict v = moments + n;
    for (int64_t i = 0; i < n; i++) {
        const real g = grads[i];
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * g * g;
        params[i] -= step * m[i] / (fr_sqrt(v[i]) / correction + epsilon);
    }
    return FR_OK;
}
