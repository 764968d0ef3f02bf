/* cross_entropy.c: the softmax of each row of logits, its loss in nats and its gradient:
 *
 *     p = softmax(logits)     loss = -ln p[target]     dlogits = scale (p - onehot(target))
 *
 * N rows · V vocabulary. */

#include <string.h>

#include "elementary.h"
#include "fastrnn.h"
#include "matmul.h"
#include "sums.h"

/* Vectors in a group of FR_SUMS elements. */
enum { GROUP = FR_SUMS / FR_LANES };

static real largest(const real *row, int64_t V)
{
    if (V < FR_SUMS) {
        real max = row[0];
        for (int64_t v = 1; v < V; v++)
            max = row[v] > max ? row[v] : max;
        return max;
    }
    fr_vec group[GROUP];
    for (int64_t g = 0; g < GROUP; g++)
        group[g] = fr_vec_load(row + V - FR_SUMS + g * FR_LANES);
    for (int64_t v = 0; v < V - FR_SUMS; v += FR_SUMS)
        for (int64_t g = 0; g < GROUP; g++)
            group[g] = fr_vec_max(fr_vec_load(row + v + g * FR_LANES), group[g]);
    real max[FR_SUMS];
    for (int64_t g = 0; g < GROUP; g++)
        fr_vec_store(max + g * FR_LANES, group[g]);
    for (int64_t l = 1; l < FR_SUMS; l++)
        max[0] = max[l] > max[0] ? max[l] : max[0];
    return max[0];
}

static real sum_of(const real *row, int64_t V)
{
    fr_vec group[GROUP];
    for (int64_t g = 0; g < GROUP; g++)
        group[g] = fr_vec_fill(0);
    for (int64_t v = 0; v < V; v += FR_SUMS)
        for (int64_t g = 0; g < GROUP; g++)
            group[g] = fr_vec_add(group[g], fr_vec_load_some(row + v + g * FR_LANES, V - v - g * FR_LANES));
    real partial[FR_SUMS];
    for (int64_t g = 0; g < GROUP; g++)
        fr_vec_store(partial + g * FR_LANES, group[g]);
    return fr_add_halves(partial);
}

/* Several rows in several passes: each pass is one long loop over elements that are in the cache. */
static void some_rows(double *restrict losses, real *dlogits, const real *logits, const int32_t *restrict targets,
                      real scale, int64_t N, int64_t V)
{
    real shifted[FR_ROWS], sums[FR_ROWS], over_sum[FR_ROWS];
    for (int64_t n = 0; n < N; n++) {
        const real *row = logits + n * V;
        real *out = dlogits + n * V;
        const real largest_logit = largest(row, V);
        shifted[n] = targets[n] < 0 ? 0 : row[targets[n]] - largest_logit;
        for (int64_t v = 0; v < V; v++)
            out[v] = fr_flush(row[v] - largest_logit, FR_TINY); /* if x is tiny, eˣ rounds to 1 */
    }
    for (int64_t i = 0; i < N * V; i++)
        dlogits[i] = fr_exp_of_negative(dlogits[i]);
    for (int64_t n = 0; n < N; n++)
        sums[n] = targets[n] < 0 ? 1 : sum_of(dlogits + n * V, V);
    for (int64_t n = 0; n < N; n++) {
        losses[n] = (double)(fr_log(sums[n]) - shifted[n]);
        over_sum[n] = scale / sums[n];
    }
    for (int64_t n = 0; n < N; n++) {
        real *out = dlogits + n * V;
        if (targets[n] < 0) {
            memset(out, 0, (size_t)V * sizeof(real));
            continue;
        }
        for (int64_t v = 0; v < V; v++)
            out[v] = fr_flush(out[v] * over_sum[n], FR_TINY);
        out[targets[n]] -= scale;
    }
}

fr_status FR(cross_entropy)(double *restrict losses, real *dlogits, const real *logits,
                            const int32_t *restrict targets, double scale, int64_t N, int64_t V)
{
    if (N < 0 || V < 1)
        return FR_BAD_SIZE;
    for (int64_t n = 0; n < N; n++)
        if (targets[n] < -1 || targets[n] >= V)
            return FR_BAD_SYMBOL;
    const int64_t rows = V < FR_KC ? FR_ROWS : 1 + (FR_ROWS * FR_KC - 1) / V;
    for (int64_t n = 0; n < N; n += rows)
        some_rows(losses + n, dlogits + n * V, logits + n * V, targets + n, (real)scale, fr_min(rows, N - n), V);
    return FR_OK;
}
