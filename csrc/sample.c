/* sample.c: one symbol at a time, with weights that are packed once for many. */

#include <string.h>

#include "elementary.h"
#include "matmul.h"
#include "views.h"

fr_status FR(network_prepare)(real *prepared, const real *params, int64_t V, int64_t H)
{
    if (V < 1 || H < 1)
        return FR_BAD_SIZE;
    const Sizes s = {1, 1, V, H};
    const Parameters p = const_parameters_of(params, s);
    const Packed packed = packed_of(prepared, s);
    RETURN_IF_BAD(FR(pack)(packed.hh_t, p.weight_hh, 1, 0, 1, H, H));
    return FR(pack)(packed.head_t, p.head_weight, 1, 0, 1, H, V);
}

fr_status FR(network_step)(real *restrict logits, real *restrict state, real *restrict scratch,
                           const real *restrict prepared, const real *restrict params,
                           const int32_t *restrict inputs, const uint8_t *restrict starts, int64_t B, int64_t V,
                           int64_t H)
{
    if (B < 1 || V < 1 || H < 1)
        return FR_BAD_SIZE;
    const Sizes s = {1, B, V, H};
    const Parameters p = const_parameters_of(params, s);
    const Packed packed = packed_of((real *)(uintptr_t)prepared, s);
    real *h = scratch, *running = scratch + B * H;
    RETURN_IF_BAD(FR(gather_forward)(h, p.weight_ih, p.bias, inputs, B, V, H));
    RETURN_IF_BAD(FR(rnn_forward)(h, running, state, packed.hh_t, starts, B, H));
    memcpy(state, h, (size_t)(B * H) * sizeof(real));
    return FR(linear_forward)(logits, h, packed.head_t, p.head_bias, B, H, V);
}

static int64_t first_of_largest(const real *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

/* Replaces logits by e^((logit - largest) / temperature). */
static int32_t draw(real *logits, double uniform, double temperature, int64_t V)
{
    const int64_t best = first_of_largest(logits, V);
    if (temperature == 0)
        return (int32_t)best;
    const real most = logits[best], divisor = (real)temperature;
    for (int64_t v = 0; v < V; v++)
        logits[v] = fr_exp_of_negative(fr_flush(logits[v] - most, FR_TINY) / divisor);
    double total = 0, below = 0;
    for (int64_t v = 0; v < V; v++)
        total += (double)logits[v];
    const double wanted = uniform * total;
    for (int64_t v = 0; v < V; v++) {
        below += (double)logits[v];
        if (below > wanted)
            return (int32_t)v;
    }
    return (int32_t)best; /* the logits are not finite */
}

fr_status FR(sample)(int32_t *restrict symbols, real *restrict state, real *restrict scratch,
                     real *restrict logits, const real *restrict prepared, const real *restrict params,
                     const double *restrict uniforms, const uint8_t *restrict starts, double temperature,
                     int64_t symbol_before, int64_t last, int64_t n, int64_t V, int64_t H)
{
    if (n < 0 || V < 1 || H < 1)
        return FR_BAD_SIZE;
    if (symbol_before < 0 || symbol_before >= V)
        return FR_BAD_SYMBOL;
    int32_t symbol = (int32_t)symbol_before;
    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || symbol != last) {
            RETURN_IF_BAD(FR(network_step)(logits, state, scratch, prepared, params, &symbol, starts, 1, V, H));
            symbol = draw(logits, uniforms[i], temperature, V);
        }
        symbols[i] = symbol;
    }
    return FR_OK;
}
