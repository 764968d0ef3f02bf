/* rnn.c: the vanilla recurrent layer (Elman 1990),
 *
 *     h_t  = tanh(x_t + W_hh h_{t-1})
 *     dx_t = (1 - h_t²) (dh_t + W_hhᵀ dx_{t+1})
 *
 * T time steps · B batch rows · H hidden units. Only these two products run step by step. */

#include <string.h>

#include "fastrnn.h"
#include "elementary.h"
#include "matmul.h"

/* out (B, H) = rows, with zeros in place of the rows that start. */
static void copy_running_rows(real *restrict out, const real *restrict rows, const uint8_t *starts,
                              int64_t B, int64_t H)
{
    for (int64_t b = 0; b < B; b++) {
        if (starts[b])
            memset(out + b * H, 0, (size_t)H * sizeof(real));
        else
            memcpy(out + b * H, rows + b * H, (size_t)H * sizeof(real));
    }
}

fr_status FR(rnn_forward)(real *restrict h, real *restrict h_prev, real *restrict state,
                          real *restrict packed, const real *restrict weight_hh,
                          const uint8_t *restrict starts, int64_t T, int64_t B, int64_t H)
{
    if (T < 1 || B < 1 || H < 1)
        return FR_BAD_SIZE;
    fr_pack(packed, weight_hh, 1, H, H, H);
    for (int64_t t = 0; t < T; t++) {
        real *h_t = h + t * B * H;
        real *h_before = h_prev + t * B * H;
        copy_running_rows(h_before, t == 0 ? state : h_t - B * H, starts + t * B, B, H);
        fr_matmul_add(h_t, h_before, H, 1, packed, B, H, H);
        for (int64_t i = 0; i < B * H; i++)
            h_t[i] = fr_tanh(h_t[i]);
    }
    memcpy(state, h + (T - 1) * B * H, (size_t)(B * H) * sizeof(real));
    return FR_OK;
}

fr_status FR(rnn_backward)(real *restrict dh, real *restrict carry, real *restrict packed,
                           const real *restrict h, const real *restrict weight_hh,
                           const uint8_t *restrict starts, int64_t T, int64_t B, int64_t H)
{
    if (T < 1 || B < 1 || H < 1)
        return FR_BAD_SIZE;
    fr_pack(packed, weight_hh, H, 1, H, H);
    memset(carry, 0, (size_t)(B * H) * sizeof(real));
    for (int64_t t = T - 1; t >= 0; t--) {
        const real *h_t = h + t * B * H;
        real *dh_t = dh + t * B * H;
        for (int64_t i = 0; i < B * H; i++)
            dh_t[i] = (1 - h_t[i] * h_t[i]) * (dh_t[i] + carry[i]);
        memset(carry, 0, (size_t)(B * H) * sizeof(real));
        if (t > 0)
            fr_matmul_add(carry, dh_t, H, 1, packed, B, H, H);
        for (int64_t b = 0; b < B; b++)
            if (starts[t * B + b])
                memset(carry + b * H, 0, (size_t)H * sizeof(real));
    }
    return FR_OK;
}
