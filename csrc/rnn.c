/* rnn.c: the vanilla recurrent cell (Elman 1990),
 *
 *     h_t  = tanh(x_t + W_hh h_{t-1})
 *     dx_t = (1 - h_t²) dh_t,    dh_{t-1} += W_hhᵀ dx_t
 *
 * B batch rows · H hidden units · N steps and rows of a window. */

#include <string.h>

#include "elementary.h"
#include "fastrnn.h"
#include "matmul.h"

/* The rows (B, H) with zeros in place of those that start: themselves where none does, else a copy. */
static const real *running_rows(real *restrict running, const real *restrict rows, const uint8_t *starts,
                                int64_t B, int64_t H)
{
    if (!memchr(starts, 1, (size_t)B))
        return rows;
    for (int64_t b = 0; b < B; b++) {
        if (starts[b])
            memset(running + b * H, 0, (size_t)H * sizeof(real));
        else
            memcpy(running + b * H, rows + b * H, (size_t)H * sizeof(real));
    }
    return running;
}

fr_status FR(rnn_forward)(real *restrict h, real *restrict running, const real *restrict h_before,
                          const real *restrict packed, const uint8_t *restrict starts, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    const real *before = running_rows(running, h_before, starts, B, H);
    fr_matmul(h, h, H, before, H, 1, packed, B, H, H);
    for (int64_t i = 0; i < B * H; i++)
        h[i] = fr_tanh(fr_flush(h[i], FR_TINY));
    return FR_OK;
}

fr_status FR(rnn_backward)(real *restrict dh, real *restrict dh_before, real *restrict running,
                           const real *restrict h, const real *restrict packed, const uint8_t *restrict starts,
                           int64_t carried, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    for (int64_t i = 0; i < B * H; i++)
        dh[i] = fr_flush((1 - h[i] * h[i]) * dh[i], FR_TINY);
    if (carried)
        fr_matmul(dh_before, dh_before, H, running_rows(running, dh, starts, B, H), H, 1, packed, B, H, H);
    return FR_OK;
}

fr_status FR(rnn_gradients)(real *restrict dweight_hh, real *restrict dbias, real *restrict block,
                            const real *restrict dx, const real *restrict h_before,
                            const uint8_t *restrict starts, int64_t part, int64_t parts, int64_t N, int64_t H)
{
    if (part < 0 || part >= parts || N < 0 || H < 1)
        return FR_BAD_SIZE;
    const int64_t first = fr_part(H, part, parts), last = fr_part(H, part + 1, parts);
    fr_weight_gradients(dweight_hh, dbias, block, dx, h_before, starts, first, last, N, H, H);
    return FR_OK;
}
