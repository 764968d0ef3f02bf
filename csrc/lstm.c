/* lstm.c: one step of a long short-term memory, forward and backward (Hochreiter & Schmidhuber 1997; Gers,
 * Schmidhuber & Cummins 2000):
 *
 *     i, f, o = σ(x + W_h h_{t-1})     g = tanh(x_g + W_hg h_{t-1})
 *     c_t = f ⊙ c_{t-1} + i ⊙ g     h_t = o ⊙ tanh(c_t)
 *
 * B batch rows · H hidden units. Factors below FR_TINY are set to zero, so that no product is denormal. */

#include "fastrnn.h"
#include "matmul.h"
#include "rows.h"

/* One batch row: its gates are contiguous. */
static void row_forward(real *restrict h, real *restrict c, real *restrict i, real *restrict f, real *restrict g,
                        real *restrict o, const real *restrict c_before, int continues, int64_t H)
{
    for (int64_t k = 0; k < H; k++) {
        i[k] = fr_gate(i[k]);
        f[k] = fr_gate(f[k]);
    }
    for (int64_t k = 0; k < H; k++) {
        g[k] = fr_tanh(fr_flush(g[k], FR_TINY));
        o[k] = fr_gate(o[k]);
    }
    for (int64_t k = 0; k < H; k++) {
        c[k] = fr_flush(fr_fma(f[k], fr_blend(continues, c_before[k], 0), i[k] * g[k]), FR_TINY);
        h[k] = fr_flush(o[k] * fr_tanh(c[k]), FR_TINY);
    }
}

static void row_backward(real *restrict dc, real *restrict i, real *restrict f, real *restrict g, real *restrict o,
                         const real *restrict dh, const real *restrict c, const real *restrict c_before, int continues,
                         int64_t H)
{
    for (int64_t k = 0; k < H; k++) {
        const real d = fr_flush(dh[k], FR_TINY), squashed = fr_tanh(c[k]);
        const real through = fr_flush(d * o[k], FR_TINY);
        const real dc_k = fr_flush(fr_fma(through, 1 - squashed * squashed, dc[k]), FR_TINY);
        const real di = fr_flush(dc_k * g[k], FR_TINY), dg = fr_flush(dc_k * i[k], FR_TINY);
        const real df = fr_flush(dc_k * fr_blend(continues, c_before[k], 0), FR_TINY);
        const real do_k = fr_flush(d * squashed, FR_TINY);
        dc[k] = fr_blend(continues, fr_flush(dc_k * f[k], FR_TINY), 0);
        i[k] = fr_flush(di * fr_sigmoid_slope(i[k]), FR_TINY);
        f[k] = fr_flush(df * fr_sigmoid_slope(f[k]), FR_TINY);
        g[k] = fr_flush(dg * (1 - g[k] * g[k]), FR_TINY);
        o[k] = fr_flush(do_k * fr_sigmoid_slope(o[k]), FR_TINY);
    }
}

fr_status FR(lstm_forward)(real *restrict h, real *restrict c, real *restrict gates, real *restrict masked,
                           const real *restrict h_before, const real *restrict c_before,
                           const real *restrict packed, const uint8_t *restrict starts, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    const real *before = fr_mask_starts(masked, h_before, starts, B, H);
    fr_matmul(gates, gates, 4 * H, before, H, 1, packed, B, H, 4 * H);
    for (int64_t b = 0, at = 0; b < B; b++, at += H) {
        real *row = gates + 4 * at;
        row_forward(h + at, c + at, row, row + H, row + 2 * H, row + 3 * H, c_before + at, !starts[b], H);
    }
    return FR_OK;
}

fr_status FR(lstm_backward)(real *restrict dh_before, real *restrict dc, real *restrict gates,
                            real *restrict masked, const real *restrict dh, const real *restrict c,
                            const real *restrict c_before, const real *restrict packed,
                            const uint8_t *restrict starts, int64_t carried, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    for (int64_t b = 0, at = 0; b < B; b++, at += H) {
        real *row = gates + 4 * at;
        row_backward(dc + at, row, row + H, row + 2 * H, row + 3 * H, dh + at, c + at, c_before + at, !starts[b], H);
    }
    if (carried)
        fr_matmul(dh_before, dh_before, H, fr_mask_starts(masked, gates, starts, B, 4 * H), 4 * H, 1, packed, B,
                  4 * H, H);
    return FR_OK;
}
