/* gru.c: one step of a gated recurrent unit, forward and backward, as in PyTorch and ONNX: the reset gate
 * multiplies after the product (Cho et al. 2014):
 *
 *     r, z = σ(x + W_h h_{t-1})     u = b_hn + W_hn h_{t-1}     n = tanh(x_n + r ⊙ u)
 *     h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}
 *
 * B batch rows · H hidden units. Factors below FR_TINY are set to zero, so that no product is denormal. */

#include "fastrnn.h"
#include "matmul.h"
#include "parts.h"
#include "rows.h"
#include "views.h"

/* n hidden units of one batch row; rows of `product` have the vectors of a gate H apart. */
static void row_forward(real *restrict h, real *restrict u, real *restrict r, real *restrict z, real *restrict n,
                        const real *restrict product, const real *restrict h_before, int64_t units, int64_t H)
{
    for (int64_t k = 0; k < units; k++) {
        r[k] = fr_gate(r[k] + product[k]);
        z[k] = fr_gate(z[k] + product[H + k]);
    }
    for (int64_t k = 0; k < units; k++) {
        u[k] = fr_flush(product[2 * H + k], FR_TINY);
        n[k] = fr_tanh(fr_flush(fr_fma(r[k], u[k], n[k]), FR_TINY));
        h[k] = fr_flush(fr_fma(z[k], h_before[k], (1 - z[k]) * n[k]), FR_TINY);
    }
}

/* Writes to `recurrent` the gradients that W_hh multiplies, and to `direct` the rest of the gradient of h_before. */
static void row_backward(real *restrict recurrent, real *restrict direct, real *restrict r, real *restrict z,
                         real *restrict n, real *restrict u, const real *restrict dh, const real *restrict h_before,
                         int continues, int64_t units, int64_t H)
{
    for (int64_t k = 0; k < units; k++) {
        const real d = fr_flush(dh[k], FR_TINY), before = fr_blend(continues, h_before[k], 0);
        const real dz = fr_flush(d * fr_flush(before - n[k], FR_TINY), FR_TINY);
        const real dn = fr_flush(fr_flush(d * (1 - z[k]), FR_TINY) * (1 - n[k] * n[k]), FR_TINY);
        const real dr = fr_flush(dn * u[k], FR_TINY), du = fr_flush(dn * r[k], FR_TINY);
        direct[k] = fr_blend(continues, fr_flush(d * z[k], FR_TINY), 0);
        r[k] = fr_flush(dr * fr_sigmoid_slope(r[k]), FR_TINY);
        z[k] = fr_flush(dz * fr_sigmoid_slope(z[k]), FR_TINY);
        n[k] = dn;
        u[k] = du;
        recurrent[k] = fr_blend(continues, r[k], 0);
        recurrent[H + k] = fr_blend(continues, z[k], 0);
        recurrent[2 * H + k] = fr_blend(continues, du, 0);
    }
}

fr_inline fr_status some_forward(real *h, real *u, real *gates, real *masked, real *product, const real *h_before,
                                 const real *packed, const real *bias_hn, const uint8_t *starts, fr_worker worker,
                                 int64_t B, int64_t H)
{
    const fr_columns units = fr_part_columns(worker, 1, H);
    real *from = masked + B * H; /* the products start from 0, 0 and b_hn */
    const real *before = fr_mask_starts(masked, h_before, starts, B, H);
    memset(from, 0, (size_t)(2 * H) * sizeof(real));
    memcpy(from + 2 * H, bias_hn, (size_t)H * sizeof(real));
    fr_matmul_part(product, from, 0, before, packed, worker, B, H, 3, H);
    if (!fr_by_units(worker, H))
        FR_RETURN_IF_BAD(fr_barrier_wait(worker));
    for (int64_t b = 0; b < B; b++) {
        const int64_t at = b * H + units.first;
        real *row = gates + 3 * b * H + units.first;
        row_forward(h + at, u + at, row, row + H, row + 2 * H, product + 3 * b * H + units.first, before + at,
                    units.n, H);
    }
    return fr_barrier_wait(worker);
}

fr_status FR(gru_forward)(real *restrict h, real *restrict u, real *restrict gates, real *restrict masked,
                          const real *restrict h_before, const real *restrict packed,
                          const real *restrict bias_hn, const uint8_t *restrict starts, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    real *product = masked + (B + 3) * H;
    return some_forward(h, u, gates, masked, product, h_before, packed, bias_hn, starts, fr_alone, B, H);
}

fr_status FR(gru_forward_part)(real *h, real *u, real *gates, real *masked, real *product, const real *h_before,
                               const real *packed, const real *bias_hn, const uint8_t *starts, fr_worker worker,
                               int64_t B, int64_t H)
{
    return some_forward(h, u, gates, masked, product, h_before, packed, bias_hn, starts, worker, B, H);
}

fr_inline fr_status some_backward(real *dh_before, real *gates, real *u, real *masked, const real *dh,
                                  const real *h_before, const real *packed, const uint8_t *starts, int64_t carried,
                                  fr_worker worker, int64_t B, int64_t H)
{
    const fr_columns units = fr_part_columns(worker, 1, H);
    real *direct = masked + 3 * B * H;
    for (int64_t b = 0; b < B; b++) {
        const int64_t at = b * H + units.first;
        real *row = gates + 3 * b * H + units.first;
        row_backward(masked + 3 * b * H + units.first, direct + at, row, row + H, row + 2 * H, u + at, dh + at,
                     h_before + at, !starts[b], units.n, H);
    }
    if (!carried)
        return FR_OK;
    for (int64_t b = 0; b < B; b++)
        for (int64_t k = b * H + units.first; k < b * H + units.first + units.n; k++)
            dh_before[k] += direct[k];
    FR_RETURN_IF_BAD(fr_barrier_wait(worker));
    fr_matmul_part(dh_before, dh_before, H, masked, packed, worker, B, 3 * H, 1, H);
    return fr_barrier_wait(worker); /* the next step overwrites `masked` */
}

fr_status FR(gru_backward)(real *restrict dh_before, real *restrict gates, real *restrict u, real *restrict masked,
                           const real *restrict dh, const real *restrict h_before, const real *restrict packed,
                           const uint8_t *restrict starts, int64_t carried, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    return some_backward(dh_before, gates, u, masked, dh, h_before, packed, starts, carried, fr_alone, B, H);
}

fr_status FR(gru_backward_part)(real *dh_before, real *gates, real *u, real *masked, const real *dh,
                                const real *h_before, const real *packed, const uint8_t *starts, int64_t carried,
                                fr_worker worker, int64_t B, int64_t H)
{
    return some_backward(dh_before, gates, u, masked, dh, h_before, packed, starts, carried, worker, B, H);
}

fr_status FR(gru_gradients)(real *restrict dweight_hh, real *restrict dbias_hn, real *restrict block,
                            const real *restrict dx, const real *restrict du, const real *restrict h_before,
                            const uint8_t *restrict starts, int64_t part, int64_t parts, int64_t N, int64_t H)
{
    if (part < 0 || part >= parts || N < 0 || H < 1)
        return FR_BAD_SIZE;
    const int64_t first = fr_part_start(3 * H, part, parts), last = fr_part_start(3 * H, part + 1, parts), n = 2 * H;
    if (first < n)
        fr_weight_gradients(dweight_hh, NULL, block, dx, h_before, starts, first, fr_min(last, n), N, H, 3 * H);
    if (last > n)
        fr_weight_gradients(dweight_hh + n * H, dbias_hn, block, du, h_before, starts, first > n ? first - n : 0,
                            last - n, N, H, H);
    return FR_OK;
}
