/* cross_entropy.c: the softmax of each row of logits, its loss in nats and its gradient,
 *
 *     p = softmax(logits)     loss = -ln p[target]     dlogits = scale (p - onehot(target))
 *
 * N rows · V vocabulary. */

#include <string.h>

#include "elementary.h"
#include "fastrnn.h"

static real largest(const real *row, int64_t V)
{
    real most = row[0];
    for (int64_t v = 1; v < V; v++)
        most = row[v] > most ? row[v] : most;
    return most;
}

/* out = exp(row - most); returns the sum: interleaved partial sums, added up as a tree. */
static real exponentials(real *out, const real *row, real most, int64_t V)
{
    real partial[FR_SUMS] = {0};
    int64_t v = 0;
    for (; v + FR_SUMS <= V; v += FR_SUMS)
        for (int64_t l = 0; l < FR_SUMS; l++) {
            out[v + l] = fr_exp(row[v + l] - most);
            partial[l] += out[v + l];
        }
    if (v < V) { /* as wide as the others, with exp(-∞) = 0 in the lanes beyond the end */
        real last[FR_SUMS];
        for (int64_t l = 0; l < FR_SUMS; l++)
            last[l] = v + l < V ? row[v + l] - most : -(real)INFINITY;
        for (int64_t l = 0; l < FR_SUMS; l++) {
            last[l] = fr_exp(last[l]);
            partial[l] += last[l];
        }
        memcpy(out + v, last, (size_t)(V - v) * sizeof(real));
    }
    for (int64_t width = FR_SUMS / 2; width > 0; width /= 2)
        for (int64_t l = 0; l < width; l++)
            partial[l] += partial[l + width];
    return partial[0];
}

fr_status FR(cross_entropy)(double *restrict losses, real *dlogits, const real *logits,
                            const int32_t *restrict targets, double scale, int64_t N, int64_t V)
{
    if (N < 0 || V < 1)
        return FR_BAD_SIZE;
    for (int64_t n = 0; n < N; n++) {
        const real *row = logits + n * V;
        real *drow = dlogits + n * V;
        const int32_t target = targets[n];
        if (target < -1 || target >= V)
            return FR_BAD_SYMBOL;
        if (target == -1) {
            losses[n] = 0.0;
            memset(drow, 0, (size_t)V * sizeof(real));
            continue;
        }
        const real most = largest(row, V);
        const real target_logit = row[target] - most;
        const real sum = exponentials(drow, row, most, V);
        losses[n] = (double)(fr_log(sum) - target_logit);
        const real over_sum = (real)scale / sum;
        for (int64_t v = 0; v < V; v++)
            drow[v] *= over_sum;
        drow[target] -= (real)scale;
    }
    return FR_OK;
}
