/* network.c: the kernels put together: one window forward and backward, and many windows of training
 * in one call.
 *
 * A window goes through phases, and the threads of a team wait for each other after each: the weights are
 * packed, each thread some panels; forward, head and backward, each some of the batch rows, which stay in its
 * core's cache; the gradients, each some of the output rows of every product; the update, each a range. */

#include <string.h>

#include "fastrnn.h"
#include "matmul.h"
#include "sums.h"
#include "team.h"
#include "views.h"

static int bad_sizes(Sizes s, Team team)
{
    return s.T < 1 || s.B < 1 || s.V < 1 || s.H < 1 || team.part < 0 || team.part >= team.parts;
}

/* Every part looks at all ids, so that they agree. */
static int bad_symbols(const int32_t *ids, int32_t lowest, int64_t N, int64_t V)
{
    int bad = 0;
    for (int64_t n = 0; n < N; n++)
        bad |= ids[n] < lowest || ids[n] >= V;
    return bad;
}

/* ---- Phases: what one part of a team does ------------------------------------------------------------ */

static void pack_forward(Packed packed, Parameters p, Team team, Sizes s)
{
    FR(pack)(packed.hh_t, p.weight_hh, 1, team.part, team.parts, s.H, s.H);
    FR(pack)(packed.head_t, p.head_weight, 1, team.part, team.parts, s.H, s.V);
}

static void pack_backward(Workspace w, Parameters p, Team team, Sizes s)
{
    FR(pack)(w.packed.hh, p.weight_hh, 0, team.part, team.parts, s.H, s.H);
    FR(pack)(w.packed.head, p.head_weight, 0, team.part, team.parts, s.V, s.H);
    if (team.part == 0)
        memset(w.zeros, 0, (size_t)s.H * sizeof(real));
}

/* The recurrence, for some of the batch rows: fills h and carries the state. */
static fr_status run_layer(Workspace w, real *state, Parameters p, const int32_t *inputs, const uint8_t *starts,
                           Team team, Sizes s)
{
    const int64_t first = fr_part(s.B, team.part, team.parts);
    const int64_t rows = fr_part(s.B, team.part + 1, team.parts) - first;
    const size_t bytes = (size_t)(rows * s.H) * sizeof(real);
    real *h = w.h + first * s.H;
    memcpy(h, state + first * s.H, bytes);
    for (int64_t t = 0; t < s.T; t++, h += s.B * s.H) {
        real *after = h + s.B * s.H;
        RETURN_IF_BAD(FR(gather_forward)(after, p.weight_ih, p.bias, inputs + t * s.B + first, rows, s.V, s.H));
        RETURN_IF_BAD(FR(rnn_forward)(after, w.running + first * s.H, h, w.packed.hh_t, starts + t * s.B + first,
                                      rows, s.H));
    }
    memcpy(state + first * s.H, h, bytes);
    return FR_OK;
}

/* The head, for some of the batch rows: losses, dlogits in place of logits, and the gradient of h. Rows that
 * stand beside each other are taken FR_ROWS at a time: of all steps where a part has the whole batch, else
 * of one step. */
static fr_status run_head(double *losses, Workspace w, Parameters p, const int32_t *targets, double scale,
                          Team team, Sizes s)
{
    const int64_t first = fr_part(s.B, team.part, team.parts), last = fr_part(s.B, team.part + 1, team.parts);
    const int64_t steps = last - first == s.B ? s.T : 1;
    const real *h = w.h + s.B * s.H;
    for (int64_t t = 0; t < s.T; t += steps)
        for (int64_t n = t * s.B + first; n < (t + steps - 1) * s.B + last; n += FR_ROWS) {
            const int64_t rows = fr_min(FR_ROWS, (t + steps - 1) * s.B + last - n);
            real *logits = w.logits + n * s.V;
            RETURN_IF_BAD(FR(linear_forward)(logits, h + n * s.H, w.packed.head_t, p.head_bias, rows, s.H, s.V));
            RETURN_IF_BAD(FR(cross_entropy)(losses + n, logits, logits, targets + n, scale, rows, s.V));
            RETURN_IF_BAD(FR(linear_forward)(w.dh + n * s.H, logits, w.packed.head, w.zeros, rows, s.V, s.H));
        }
    return FR_OK;
}

/* The recurrence backwards, for some of the batch rows: dx takes the place of dh. */
static fr_status run_layer_back(Workspace w, const uint8_t *starts, Team team, Sizes s)
{
    const int64_t first = fr_part(s.B, team.part, team.parts);
    const int64_t rows = fr_part(s.B, team.part + 1, team.parts) - first;
    for (int64_t t = s.T - 1; t >= 0; t--) {
        const int64_t at = (t * s.B + first) * s.H, before = t > 0 ? at - s.B * s.H : at;
        RETURN_IF_BAD(FR(rnn_backward)(w.dh + at, w.dh + before, w.running + first * s.H, w.h + at + s.B * s.H,
                                       w.packed.hh, starts + t * s.B + first, t > 0, rows, s.H));
    }
    return FR_OK;
}

/* The gradients of all parameters, for some of the outputs. */
static fr_status add_gradients(Parameters d, Workspace w, const int32_t *inputs, const uint8_t *starts, Team team,
                               Sizes s)
{
    const int64_t N = s.T * s.B;
    real *block = w.block + team.part * packed_size(FR_BLOCK, s.H);
    RETURN_IF_BAD(FR(linear_gradients)(d.head_weight, d.head_bias, block, w.logits, w.h + s.B * s.H, team.part,
                                       team.parts, N, s.H, s.V));
    RETURN_IF_BAD(
        FR(rnn_gradients)(d.weight_hh, d.bias, block, w.dh, w.h, starts, team.part, team.parts, N, s.H));
    return FR(gather_gradients)(d.weight_ih, w.dh, inputs, team.part, team.parts, N, s.V, s.H);
}

static fr_status gradients(double *losses, real *grads, real *state, Workspace w, Parameters p,
                           const int32_t *inputs, const int32_t *targets, const uint8_t *starts, double scale,
                           Team team, Sizes s)
{
    const Parameters d = parameters_of(grads, s);
    const int64_t first = fr_part(d.n, team.part, team.parts), last = fr_part(d.n, team.part + 1, team.parts);
    memset(grads + first, 0, (size_t)(last - first) * sizeof(real));
    pack_forward(w.packed, p, team, s);
    pack_backward(w, p, team, s);
    RETURN_IF_BAD(fr_wait_for_all(team));
    RETURN_IF_BAD(run_layer(w, state, p, inputs, starts, team, s));
    RETURN_IF_BAD(run_head(losses, w, p, targets, scale, team, s));
    RETURN_IF_BAD(run_layer_back(w, starts, team, s));
    RETURN_IF_BAD(fr_wait_for_all(team));
    RETURN_IF_BAD(add_gradients(d, w, inputs, starts, team, s));
    return fr_wait_for_all(team);
}

/* ---- Kernels -------------------------------------------------------------------------------------------- */

/* A window forward, FR_BLOCK rows or a step at a time, so that the workspace stays in the cache. Writes the
 * logits, or where there are targets the losses. */
static fr_status forward(double *losses, real *logits, real *state, real *workspace, const real *params,
                         const int32_t *inputs, const int32_t *targets, const uint8_t *starts, Sizes window)
{
    const Team alone = {NULL, 0, 1};
    if (bad_sizes(window, alone))
        return FR_BAD_SIZE;
    const int64_t B = window.B, V = window.V, H = window.H;
    const int64_t steps = fr_min(window.T, (FR_BLOCK + B - 1) / B);
    const Sizes most = {steps, B, V, H};
    const Parameters p = const_parameters_of(params, most);
    const Workspace w = workspace_of(workspace, 1, most);
    pack_forward(w.packed, p, alone, most);
    for (int64_t t = 0; t < window.T; t += steps) {
        const Sizes s = {fr_min(steps, window.T - t), B, V, H};
        const int64_t N = s.T * B;
        RETURN_IF_BAD(run_layer(w, state, p, inputs + t * B, starts + t * B, alone, s));
        for (int64_t n = 0; n < N; n += FR_ROWS) {
            const int64_t rows = fr_min(FR_ROWS, N - n), at = t * B + n;
            real *out = targets ? w.logits : logits + at * V;
            RETURN_IF_BAD(FR(linear_forward)(out, w.h + (B + n) * H, w.packed.head_t, p.head_bias, rows, H, V));
            if (targets)
                RETURN_IF_BAD(FR(cross_entropy)(losses + at, out, out, targets + at, 1.0, rows, V));
        }
    }
    return FR_OK;
}

fr_status FR(network_forward)(real *logits, real *state, real *workspace, const real *params,
                              const int32_t *inputs, const uint8_t *starts, int64_t T, int64_t B, int64_t V,
                              int64_t H)
{
    const Sizes s = {T, B, V, H};
    return forward(NULL, logits, state, workspace, params, inputs, NULL, starts, s);
}

fr_status FR(network_losses)(double *losses, real *state, real *workspace, const real *params,
                             const int32_t *inputs, const int32_t *targets, const uint8_t *starts, int64_t T,
                             int64_t B, int64_t V, int64_t H)
{
    const Sizes s = {T, B, V, H};
    return forward(losses, NULL, state, workspace, params, inputs, targets, starts, s);
}

fr_status FR(network_gradients)(double *losses, real *grads, real *state, real *workspace, int32_t *sync,
                                const real *params, const int32_t *inputs, const int32_t *targets,
                                const uint8_t *starts, double scale, int64_t part, int64_t parts, int64_t T,
                                int64_t B, int64_t V, int64_t H)
{
    const Sizes s = {T, B, V, H};
    const Team team = {sync, part, parts};
    if (bad_sizes(s, team))
        return FR_BAD_SIZE;
    if (bad_symbols(inputs, 0, T * B, V) || bad_symbols(targets, -1, T * B, V))
        return FR_BAD_SYMBOL;
    return gradients(losses, grads, state, workspace_of(workspace, parts, s), const_parameters_of(params, s), inputs,
                     targets, starts, scale, team, s);
}

/* What the sum of a window's losses is multiplied by: its mean is over the targets that there are. */
static double gradient_scale(const int32_t *targets, int64_t reduction, int64_t N, int64_t B)
{
    int64_t count = reduction == FR_BATCHMEAN ? B : 0;
    if (reduction == FR_MEAN)
        for (int64_t n = 0; n < N; n++)
            count += targets[n] >= 0;
    return count > 0 ? 1.0 / (double)count : 1.0;
}

static double sum_of(const double *values, int64_t N)
{
    double partial[FR_SUMS] = {0};
    for (int64_t n = 0; n < N; n++)
        partial[n % FR_SUMS] += values[n];
    return fr_add_halves_double(partial);
}

static fr_status update(real *params, real *moments, const real *grads, const double *settings,
                        int64_t optimizer, double limit, double scale, Team team, int64_t n)
{
    switch (optimizer) {
    case FR_SGD:
        return FR(sgd_update)(params, moments, grads, settings, limit, scale, team.part, team.parts, n);
    case FR_ADAGRAD:
        return FR(adagrad_update)(params, moments, grads, settings, limit, scale, team.part, team.parts, n);
    case FR_ADAM:
        return FR(adam_update)(params, moments, grads, settings, limit, scale, team.part, team.parts, n);
    case FR_RMSPROP:
        return FR(rmsprop_update)(params, moments, grads, settings, limit, scale, team.part, team.parts, n);
    default:
        return FR_BAD_CHOICE;
    }
}

fr_status FR(train_windows)(double *losses, double *norms, double *symbol_losses, real *params, real *grads,
                            real *moments, real *state, real *workspace, int32_t *sync, const int32_t *inputs,
                            const int32_t *targets, const uint8_t *starts, const double *settings,
                            int64_t optimizer, int64_t reduction, double value_limit, double norm_limit,
                            int64_t first, int64_t part, int64_t parts, int64_t W, int64_t S, int64_t T,
                            int64_t B, int64_t V, int64_t H)
{
    const Sizes most = {T, B, V, H};
    const Team team = {sync, part, parts};
    if (bad_sizes(most, team) || first < 0 || W < 0 || S < 1)
        return FR_BAD_SIZE;
    if (bad_symbols(inputs, 0, S * B, V) || bad_symbols(targets, -1, S * B, V))
        return FR_BAD_SYMBOL;
    const Parameters p = parameters_of(params, most);
    const Workspace w = workspace_of(workspace, parts, most);
    const int64_t windows = (S + T - 1) / T;
    if (part == 0)
        for (int64_t i = 0; i < W; i++)
            losses[i] = norms[i] = (double)NAN;
    for (int64_t i = 0; i < W; i++) {
        const int64_t start = (first + i) % windows * T;
        const Sizes s = {fr_min(T, S - start), B, V, H};
        const int64_t N = s.T * B;
        const int32_t *y = targets + start * B;
        RETURN_IF_BAD(gradients(symbol_losses, grads, state, w, p, inputs + start * B, y, starts + start * B,
                                gradient_scale(y, reduction, N, B), team, s));
        double norm; /* every part finds the same loss and norm, and goes on or ends like the others */
        const double loss = sum_of(symbol_losses, N);
        RETURN_IF_BAD(FR(gradient_norm)(&norm, grads, value_limit, p.n));
        if (part == 0) {
            losses[i] = loss;
            norms[i] = norm;
        }
        if (!isfinite(loss) || !isfinite(norm))
            return FR_OK;
        RETURN_IF_BAD(update(params, moments, grads, settings + i * FR_SETTINGS, optimizer, value_limit,
                             norm > norm_limit ? norm_limit / norm : 1.0, team, p.n));
        RETURN_IF_BAD(fr_wait_for_all(team));
    }
    return FR_OK;
}
