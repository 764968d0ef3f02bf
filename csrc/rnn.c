/* rnn.c: one step of a vanilla recurrent layer (Elman 1990), forward and backward:
 *
 *     h_t = f(x_t + W_hh h_{t-1})     f = tanh, or max(0, ·)
 *
 * B batch rows · H hidden units. x_t is the input's share of the gate, with the bias. */

#include "fastrnn.h"
#include "matmul.h"
#include "rows.h"

fr_status FR(rnn_forward)(real *restrict h, real *restrict masked, const real *restrict h_before,
                          const real *restrict packed, const uint8_t *restrict starts, int64_t relu, int64_t B,
                          int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    const real *before = fr_mask_starts(masked, h_before, starts, B, H);
    fr_matmul(h, h, H, before, H, 1, packed, B, H, H);
    if (relu)
        for (int64_t i = 0; i < B * H; i++)
            h[i] = h[i] < FR_TINY ? 0 : h[i]; /* NaN stays NaN */
    else
        for (int64_t i = 0; i < B * H; i++)
            h[i] = fr_tanh(fr_flush(h[i], FR_TINY));
    return FR_OK;
}

fr_status FR(rnn_backward)(real *restrict dh, real *restrict dh_before, real *restrict masked,
                           const real *restrict h, const real *restrict packed, const uint8_t *restrict starts,
                           int64_t relu, int64_t carried, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    if (relu)
        for (int64_t i = 0; i < B * H; i++)
            dh[i] = h[i] > 0 ? fr_flush(dh[i], FR_TINY) : 0;
    else
        for (int64_t i = 0; i < B * H; i++)
            dh[i] = fr_flush((1 - h[i] * h[i]) * dh[i], FR_TINY);
    if (carried)
        fr_matmul(dh_before, dh_before, H, fr_mask_starts(masked, dh, starts, B, H), H, 1, packed, B, H, H);
    return FR_OK;
}
