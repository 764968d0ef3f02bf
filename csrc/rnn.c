/* rnn.c: one step of a vanilla recurrent layer (Elman 1990), forward and backward:
 *
 *     h_t = f(x_t + W_hh h_{t-1})     f = tanh, or max(0, ·)
 *
 * B batch rows · H hidden units. x_t is the input's share of the gate, with the bias. */

#include "fastrnn.h"
#include "matmul.h"
#include "parts.h"
#include "rows.h"
#include "views.h"

/* n hidden units of one batch row. */
static void row_forward(real *restrict h, int64_t relu, int64_t n)
{
    if (relu)
        for (int64_t k = 0; k < n; k++)
            h[k] = h[k] < FR_TINY ? 0 : h[k]; /* NaN stays NaN */
    else
        for (int64_t k = 0; k < n; k++)
            h[k] = fr_tanh(fr_flush(h[k], FR_TINY));
}

static void row_backward(real *restrict dh, const real *restrict h, int64_t relu, int64_t n)
{
    if (relu)
        for (int64_t k = 0; k < n; k++)
            dh[k] = h[k] > 0 ? fr_flush(dh[k], FR_TINY) : 0;
    else
        for (int64_t k = 0; k < n; k++)
            dh[k] = fr_flush((1 - h[k] * h[k]) * dh[k], FR_TINY);
}

fr_inline fr_status some_forward(real *h, real *masked, const real *h_before, const real *packed,
                                 const uint8_t *starts, int64_t relu, fr_worker worker, int64_t B, int64_t H)
{
    const fr_columns units = fr_part_columns(worker, 1, H);
    fr_matmul_part(h, h, H, fr_mask_starts(masked, h_before, starts, B, H), packed, worker, B, H, 1, H);
    if (units.n == H) /* one long loop */
        row_forward(h, relu, B * H);
    else
        for (int64_t b = 0; b < B; b++)
            row_forward(h + b * H + units.first, relu, units.n);
    return fr_barrier_wait(worker);
}

fr_status FR(rnn_forward)(real *restrict h, real *restrict masked, const real *restrict h_before,
                          const real *restrict packed, const uint8_t *restrict starts, int64_t relu, int64_t B,
                          int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    return some_forward(h, masked, h_before, packed, starts, relu, fr_alone, B, H);
}

fr_status FR(rnn_forward_part)(real *h, real *masked, const real *h_before, const real *packed, const uint8_t *starts,
                               int64_t relu, fr_worker worker, int64_t B, int64_t H)
{
    return some_forward(h, masked, h_before, packed, starts, relu, worker, B, H);
}

fr_inline fr_status some_backward(real *dh, real *dh_before, real *masked, const real *h, const real *packed,
                                  const uint8_t *starts, int64_t relu, int64_t carried, fr_worker worker, int64_t B,
                                  int64_t H)
{
    const fr_columns units = fr_part_columns(worker, 1, H);
    if (units.n == H)
        row_backward(dh, h, relu, B * H);
    else
        for (int64_t b = 0; b < B; b++)
            row_backward(dh + b * H + units.first, h + b * H + units.first, relu, units.n);
    FR_RETURN_IF_BAD(fr_barrier_wait(worker));
    if (carried)
        fr_matmul_part(dh_before, dh_before, H, fr_mask_starts(masked, dh, starts, B, H), packed, worker, B, H, 1, H);
    return FR_OK;
}

fr_status FR(rnn_backward)(real *restrict dh, real *restrict dh_before, real *restrict masked,
                           const real *restrict h, const real *restrict packed, const uint8_t *restrict starts,
                           int64_t relu, int64_t carried, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    return some_backward(dh, dh_before, masked, h, packed, starts, relu, carried, fr_alone, B, H);
}

fr_status FR(rnn_backward_part)(real *dh, real *dh_before, real *masked, const real *h, const real *packed,
                                const uint8_t *starts, int64_t relu, int64_t carried, fr_worker worker, int64_t B,
                                int64_t H)
{
    return some_backward(dh, dh_before, masked, h, packed, starts, relu, carried, worker, B, H);
}
