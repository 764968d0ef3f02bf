/* lstm.c: one step of a long short-term memory, forward and backward (Hochreiter & Schmidhuber 1997; Gers,
 * Schmidhuber & Cummins 2000):
 *
 *     i, f, o = σ(x + W_h h_{t-1})     g = tanh(x_g + W_hg h_{t-1})
 *     c_t = f ⊙ c_{t-1} + i ⊙ g     h_t = o ⊙ tanh(c_t)
 *
 * B batch rows · H hidden units. Factors below FR_TINY are set to zero, so that no product is denormal. */

#include "fastrnn.h"
#include "matmul.h"
#include "parts.h"
#include "rows.h"
#include "views.h"

/* n hidden units of one batch row. */
static void row_forward(real *restrict h, real *restrict c, real *restrict i, real *restrict f, real *restrict g,
                        real *restrict o, const real *restrict c_before, int continues, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        i[k] = fr_gate(i[k]);
        f[k] = fr_gate(f[k]);
    }
    for (int64_t k = 0; k < n; k++) {
        g[k] = fr_tanh(fr_flush(g[k], FR_TINY));
        o[k] = fr_gate(o[k]);
    }
    for (int64_t k = 0; k < n; k++) {
        c[k] = fr_flush(fr_fma(f[k], fr_blend(continues, c_before[k], 0), i[k] * g[k]), FR_TINY);
        h[k] = fr_flush(o[k] * fr_tanh(c[k]), FR_TINY);
    }
}

static void row_backward(real *restrict dc, real *restrict i, real *restrict f, real *restrict g, real *restrict o,
                         const real *restrict dh, const real *restrict c, const real *restrict c_before, int continues,
                         int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
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

fr_inline fr_status some_forward(real *h, real *c, real *gates, real *masked, const real *h_before,
                                 const real *c_before, const real *packed, const uint8_t *starts, fr_worker worker,
                                 int64_t B, int64_t H)
{
    const fr_columns units = fr_part_columns(worker, 1, H);
    fr_matmul_part(gates, gates, 4 * H, fr_mask_starts(masked, h_before, starts, B, H), packed, worker, B, H, 4, H);
    if (!fr_by_units(worker, H))
        FR_RETURN_IF_BAD(fr_barrier_wait(worker));
    for (int64_t b = 0; b < B; b++) {
        const int64_t at = b * H + units.first;
        real *row = gates + 4 * b * H + units.first;
        row_forward(h + at, c + at, row, row + H, row + 2 * H, row + 3 * H, c_before + at, !starts[b], units.n);
    }
    return fr_barrier_wait(worker);
}

fr_status FR(lstm_forward)(real *restrict h, real *restrict c, real *restrict gates, real *restrict masked,
                           const real *restrict h_before, const real *restrict c_before,
                           const real *restrict packed, const uint8_t *restrict starts, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    return some_forward(h, c, gates, masked, h_before, c_before, packed, starts, fr_alone, B, H);
}

fr_status FR(lstm_forward_part)(real *h, real *c, real *gates, real *masked, const real *h_before,
                                const real *c_before, const real *packed, const uint8_t *starts, fr_worker worker,
                                int64_t B, int64_t H)
{
    return some_forward(h, c, gates, masked, h_before, c_before, packed, starts, worker, B, H);
}

fr_inline fr_status some_backward(real *dh_before, real *dc, real *gates, real *masked, const real *dh, const real *c,
                                  const real *c_before, const real *packed, const uint8_t *starts, int64_t carried,
                                  fr_worker worker, int64_t B, int64_t H)
{
    const fr_columns units = fr_part_columns(worker, 1, H);
    for (int64_t b = 0; b < B; b++) {
        const int64_t at = b * H + units.first;
        real *row = gates + 4 * b * H + units.first;
        row_backward(dc + at, row, row + H, row + 2 * H, row + 3 * H, dh + at, c + at, c_before + at, !starts[b],
                     units.n);
    }
    FR_RETURN_IF_BAD(fr_barrier_wait(worker));
    if (carried)
        fr_matmul_part(dh_before, dh_before, H, fr_mask_starts(masked, gates, starts, B, 4 * H), packed, worker, B,
                       4 * H, 1, H);
    return FR_OK;
}

fr_status FR(lstm_backward)(real *restrict dh_before, real *restrict dc, real *restrict gates,
                            real *restrict masked, const real *restrict dh, const real *restrict c,
                            const real *restrict c_before, const real *restrict packed,
                            const uint8_t *restrict starts, int64_t carried, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    return some_backward(dh_before, dc, gates, masked, dh, c, c_before, packed, starts, carried, fr_alone, B,
                                     H);
}

fr_status FR(lstm_backward_part)(real *dh_before, real *dc, real *gates, real *masked, const real *dh, const real *c,
                                 const real *c_before, const real *packed, const uint8_t *starts, int64_t carried,
                                 fr_worker worker, int64_t B, int64_t H)
{
    return some_backward(dh_before, dc, gates, masked, dh, c, c_before, packed, starts, carried, worker, B, H);
}
