/* gru.c: one step of a gated recurrent unit, forward and backward, as PyTorch and ONNX have it (reset after
 * the product; Cho et al. 2014),
 *
 *     r, z = σ(x + W_h h_{t-1})     u = W_hn h_{t-1} + b_hn     n = tanh(x_n + r ⊙ u)
 *     h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}
 *
 * B batch rows · H hidden units. What is a factor of a product is zero rather than tiny, so that no product
 * is denormal. */

#include "fastrnn.h"
#include "matmul.h"
#include "rows.h"

fr_status FR(gru_forward)(real *restrict h, real *restrict u, real *restrict gates, real *restrict running,
                          const real *restrict h_before, const real *restrict packed,
                          const real *restrict bias_hn, const uint8_t *restrict starts, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    real *product = running + B * H;
    const real *before = fr_running_rows(running, h_before, starts, B, H);
    memset(product, 0, (size_t)(B * 3 * H) * sizeof(real));
    fr_matmul(product, product, 3 * H, before, H, 1, packed, B, H, 3 * H);
    for (int64_t b = 0; b < B; b++) {
        real *restrict r = gates + 3 * b * H, *restrict z = r + H, *restrict n = z + H;
        const real *restrict share = product + 3 * b * H;
        for (int64_t i = 0; i < H; i++) {
            u[b * H + i] = fr_flush(share[2 * H + i] + bias_hn[i], FR_TINY);
            r[i] = fr_gate(r[i] + share[i]);
            z[i] = fr_gate(z[i] + share[H + i]);
        }
        for (int64_t i = 0; i < H; i++) {
            n[i] = fr_tanh(fr_flush(fr_fma(r[i], u[b * H + i], n[i]), FR_TINY));
            h[b * H + i] = fr_flush(fr_fma(z[i], before[b * H + i], (1 - z[i]) * n[i]), FR_TINY);
        }
    }
    return FR_OK;
}

fr_status FR(gru_backward)(real *restrict dh_before, real *restrict gates, real *restrict u, real *restrict running,
                           const real *restrict dh, const real *restrict h_before, const real *restrict packed,
                           const uint8_t *restrict starts, int64_t carried, int64_t B, int64_t H)
{
    if (B < 0 || H < 1)
        return FR_BAD_SIZE;
    for (int64_t b = 0; b < B; b++) {
        real *restrict r = gates + 3 * b * H, *restrict z = r + H, *restrict n = z + H, *restrict p = u + b * H;
        real *restrict out = running + 3 * b * H, *restrict to = dh_before + b * H;
        const real *restrict before = h_before + b * H, *restrict from = dh + b * H;
        const int goes_on = !starts[b];
        for (int64_t i = 0; i < H; i++) {
            const real d = fr_flush(from[i], FR_TINY), was = goes_on ? before[i] : 0;
            const real dz = fr_flush(d * fr_flush(was - n[i], FR_TINY), FR_TINY);
            const real dn = fr_flush(fr_flush(d * (1 - z[i]), FR_TINY) * (1 - n[i] * n[i]), FR_TINY);
            const real dr = fr_flush(dn * p[i], FR_TINY), du = fr_flush(dn * r[i], FR_TINY);
            const real back = fr_flush(d * z[i], FR_TINY);
            r[i] = fr_flush(dr * fr_sigmoid_slope(r[i]), FR_TINY);
            z[i] = fr_flush(dz * fr_sigmoid_slope(z[i]), FR_TINY);
            n[i] = dn;
            p[i] = du;
            out[i] = goes_on ? r[i] : 0;
            out[H + i] = goes_on ? z[i] : 0;
            out[2 * H + i] = goes_on ? du : 0;
            if (carried)
                to[i] += goes_on ? back : 0;
        }
    }
    if (carried)
        fr_matmul(dh_before, dh_before, H, running, 3 * H, 1, packed, B, 3 * H, H);
    return FR_OK;
}

fr_status FR(gru_gradients)(real *restrict dweight_hh, real *restrict dbias_hn, real *restrict block,
                            const real *restrict dx, const real *restrict du, const real *restrict h_before,
                            const uint8_t *restrict starts, int64_t part, int64_t parts, int64_t N, int64_t H)
{
    if (part < 0 || part >= parts || N < 0 || H < 1)
        return FR_BAD_SIZE;
    const int64_t first = fr_part(3 * H, part, parts), last = fr_part(3 * H, part + 1, parts), n = 2 * H;
    if (first < n)
        fr_weight_gradients(dweight_hh, NULL, block, dx, h_before, starts, first, fr_min(last, n), N, H, 3 * H);
    if (last > n)
        fr_weight_gradients(dweight_hh + n * H, dbias_hn, block, du, h_before, starts, first > n ? first - n : 0,
                            last - n, N, H, H);
    return FR_OK;
}
