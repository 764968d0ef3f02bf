/* sample.c: draws symbols one after the other. */

#include "elementary.h"
#include "views.h"

static int64_t first_of_largest(const real *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

static int all_are_finite(const real *x, int64_t n)
{
    int others = 0;
    for (int64_t i = 0; i < n; i++)
        others |= x[i] - x[i] != 0;
    return !others;
}

/* Draws one symbol. Overwrites logits with e^((logit - largest) / temperature). */
static int32_t draw(real *logits, double uniform, double temperature, int64_t V)
{
    const int64_t best = first_of_largest(logits, V);
    if (temperature == 0)
        return (int32_t)best;
    const real largest_logit = logits[best], divisor = (real)temperature;
    for (int64_t v = 0; v < V; v++)
        logits[v] = fr_exp_of_negative(fr_flush(logits[v] - largest_logit, FR_TINY) / divisor);
    double total = 0, below = 0;
    for (int64_t v = 0; v < V; v++)
        total += (double)logits[v];
    const double wanted = uniform * total;
    for (int64_t v = 0; v < V; v++) {
        below += (double)logits[v];
        if (below > wanted)
            return (int32_t)v;
    }
    return (int32_t)best; /* `wanted` was rounded up to `total` */
}

fr_status FR(sample)(int32_t *restrict symbols, real *restrict state, real *restrict scratch, real *restrict logits,
                     const real *restrict prepared, const real *restrict params, const double *restrict uniforms,
                     const uint8_t *restrict starts, const int64_t *restrict plan, double temperature,
                     int64_t symbol_before, int64_t stop_symbol, int64_t n)
{
    const int64_t V = plan[FR_VOCABULARY];
    if (n < 0)
        return FR_BAD_SIZE;
    if (symbol_before < 0 || symbol_before >= V)
        return FR_BAD_SYMBOL;
    int32_t symbol = (int32_t)symbol_before;
    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || symbol != stop_symbol) {
            FR_RETURN_IF_BAD(FR(network_step)(logits, state, scratch, prepared, params, &symbol, starts, plan, 1));
            symbol = all_are_finite(logits, V) ? draw(logits, uniforms[i], temperature, V) : -1;
            if (symbol < 0) {
                for (int64_t rest = i; rest < n; rest++)
                    symbols[rest] = -1;
                break;
            }
        }
        symbols[i] = symbol;
    }
    return FR_OK;
}
