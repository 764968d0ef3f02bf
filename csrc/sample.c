/* sample.c: draws symbols one after the other. */

#include "elementary.h"
#include "team.h"
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

fr_status FR(sample)(int32_t *symbols, real *state, real *scratch, real *logits, int32_t *barrier, const real *prepared,
                     const real *params, const double *uniforms, const uint8_t *starts, const int64_t *plan,
                     double temperature, int64_t symbol_before, int64_t stop_symbol, int64_t part, int64_t parts,
                     int64_t n)
{
    const int64_t V = plan[FR_VOCABULARY];
    const fr_worker worker = {barrier, part, parts};
    if (n < 0 || fr_bad_worker(worker))
        return FR_BAD_SIZE;
    if (symbol_before < 0 || symbol_before >= V)
        return FR_BAD_SYMBOL;
    int32_t symbol = (int32_t)symbol_before;
    int ended = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!ended) {
            FR_RETURN_IF_BAD(FR(network_step)(logits, state, scratch, barrier, prepared, params, &symbol, starts, plan,
                                              part, parts, 1));
            FR_RETURN_IF_BAD(fr_barrier_wait(worker));
            if (part == 0) /* the other workers read it after they have waited */
                symbols[i] = all_are_finite(logits, V) ? draw(logits, uniforms[i], temperature, V) : -1;
            FR_RETURN_IF_BAD(fr_barrier_wait(worker));
            symbol = symbols[i];
            ended = symbol == stop_symbol || symbol < 0;
        } else if (part == 0)
            symbols[i] = symbol;
    }
    return FR_OK;
}
