/* network.c: the kernels put together: one window forward and backward, and many windows of training
 * in one call.
 *
 * A window goes through phases, and the threads of a team wait for each other after each: the weights are
 * packed, each thread some panels; recurrences and head, each some of the batch rows, which stay in its
 * core's cache; between layers the products of all steps, each some of the rows; the gradients, each some of
 * the output rows of every product; the update, each a range. */

#include <string.h>

#include "fastrnn.h"
#include "layers.h"
#include "matmul.h"
#include "sums.h"
#include "team.h"
#include "views.h"

/* What a window of training reads. */
typedef struct {
    const int32_t *inputs, *targets;
    const uint8_t *starts;
    double scale;
    Dropout dropout;
} Window;

static int bad_team(Team team)
{
    return team.part < 0 || team.part >= team.parts;
}

/* Every part looks at all ids, so that they agree. */
static int bad_symbols(const int32_t *ids, int32_t lowest, int64_t N, int64_t V)
{
    int bad = 0;
    for (int64_t n = 0; n < N; n++)
        bad |= ids[n] < lowest || ids[n] >= V;
    return bad;
}

static LayerTrace kept(Workspace w, Window x, int64_t layer, Sizes s)
{
    return layer_trace(w.trace, s, x.dropout.rate > 0, layer);
}

/* ---- Phases: what one part of a team does ------------------------------------------------------------ */

static void pack_backward(Workspace w, Parameters p, Team team, Sizes s)
{
    for (int64_t l = 0; l < s.L; l++) {
        const Layer y = layer_of(p, s, l);
        if (is_dense(s, l))
            FR(pack)(packed_ih(w.backward, s, l), y.weight_ih, 0, team.part, team.parts, s.G * s.H, inputs_of(s, l));
        FR(pack)(packed_hh(w.backward, s, l), y.weight_hh, 0, team.part, team.parts, s.G * s.H, s.H);
    }
    FR(pack)(packed_head(w.backward, s), p.head_weight, 0, team.part, team.parts, s.V, s.H);
    if (team.part == 0)
        memset(w.zeros, 0, (size_t)(s.E > s.H ? s.E : s.H) * sizeof(real));
}

/* The head at some steps, from `begin` on, for some of the batch rows: losses, dlogits in place of logits, and
 * the gradient of h. Rows that stand beside each other are taken FR_ROWS at a time: of all steps where a part
 * has the whole batch, else of one step. */
static fr_status run_head(double *losses, Workspace w, Parameters p, Window x, int64_t begin, int64_t count, Team team,
                          Sizes s)
{
    const int64_t first = fr_part(s.B, team.part, team.parts), last = fr_part(s.B, team.part + 1, team.parts);
    const int64_t steps = last - first == s.B ? count : 1;
    const LayerTrace top = kept(w, x, s.L - 1, s);
    const Dropout d = x.dropout;
    real *dh = layer_dh(w, s, s.L - 1);
    for (int64_t t = begin; t < begin + count; t += steps)
        for (int64_t n = t * s.B + first; n < (t + steps - 1) * s.B + last; n += FR_ROWS) {
            const int64_t rows = fr_min(FR_ROWS, (t + steps - 1) * s.B + last - n);
            real *logits = w.logits + (n - begin * s.B) * s.V, *back = dh + n * s.H;
            RETURN_IF_BAD(hand_up(top, d, s.L - 1, n, rows, s));
            RETURN_IF_BAD(FR(linear_forward)(logits, top.dropped + n * s.H, packed_head(w.forward, s), p.head_bias, rows,
                                             s.H, s.V));
            RETURN_IF_BAD(FR(cross_entropy)(losses + n, logits, logits, x.targets + n, x.scale, rows, s.V));
            RETURN_IF_BAD(
                FR(linear_forward)(back, logits, packed_head(w.backward, s), w.zeros, rows, s.V, s.H));
            if (d.rate > 0)
                RETURN_IF_BAD(FR(dropout)(back, back, d.rate, d.key, d.update, s.L - 1, n, rows, s.B, s.H));
        }
    return FR_OK;
}

/* The gradients of the head's parameters at some steps, for some of the outputs. */
static fr_status add_head_gradients(Parameters d, Workspace w, Window x, int64_t begin, int64_t count, real *block,
                                    Team team, Sizes s)
{
    return FR(linear_gradients)(d.head_weight, d.head_bias, block, w.logits,
                                kept(w, x, s.L - 1, s).dropped + begin * s.B * s.H, team.part, team.parts, count * s.B,
                                s.H, s.V);
}

/* One step of a cell backwards, for `rows` batch rows from `first` on: the gradients of the gates. */
static fr_status step_backward(LayerTrace a, real *dh, real *dc, const real *packed_hh, real *running,
                               const uint8_t *starts, int64_t t, int64_t first, int64_t rows, Sizes s)
{
    const int64_t step = s.B * s.H, at = (t * s.B + first) * s.H, next = at + step;
    real *gates = a.gates + at * s.G, *dh_before = dh + (t > 0 ? at - step : at);
    switch (s.cell) {
    case FR_GRU:
        return FR(gru_backward)(dh_before, gates, a.inner + at, running, dh + at, a.h + at, packed_hh, starts, t > 0,
                                rows, s.H);
    case FR_LSTM:
        return FR(lstm_backward)(dh_before, dc + first * s.H, gates, running, dh + at, a.inner + next, a.inner + at,
                                 packed_hh, starts, t > 0, rows, s.H);
    default:
        return FR(rnn_backward)(dh + at, dh_before, running, a.h + next, packed_hh, starts, s.cell == FR_RNN_RELU,
                                t > 0, rows, s.H);
    }
}

/* The recurrence of a layer backwards, for some of the batch rows. */
static fr_status run_layer_back(Workspace w, Window x, int64_t layer, Team team, Sizes s)
{
    const int64_t first = fr_part(s.B, team.part, team.parts);
    const int64_t rows = fr_part(s.B, team.part + 1, team.parts) - first;
    const LayerTrace a = kept(w, x, layer, s);
    if (s.cell == FR_LSTM)
        memset(w.dc + first * s.H, 0, (size_t)(rows * s.H) * sizeof(real));
    for (int64_t t = s.T - 1; t >= 0; t--)
        RETURN_IF_BAD(step_backward(a, layer_dh(w, s, layer), w.dc, packed_hh(w.backward, s, layer),
                                    w.trace.running + first * (s.G + 1) * s.H, x.starts + t * s.B + first, t, first,
                                    rows, s));
    return FR_OK;
}

/* The gradient of what a dense layer takes in, for some of the rows of all steps. */
static fr_status hand_down(Workspace w, Window x, int64_t layer, Team team, Sizes s)
{
    const int64_t N = s.T * s.B, first = fr_part(N, team.part, team.parts), I = inputs_of(s, layer), O = s.G * s.H;
    const int64_t rows = fr_part(N, team.part + 1, team.parts) - first;
    const real *dgates = layer_dgates(w, s, kept(w, x, layer, s), layer) + first * O;
    const Dropout d = x.dropout;
    real *out = (layer > 0 ? layer_dh(w, s, layer - 1) : w.dx) + first * I;
    RETURN_IF_BAD(FR(linear_forward)(out, dgates, packed_ih(w.backward, s, layer), w.zeros, rows, O, I));
    if (layer > 0 && d.rate > 0)
        return FR(dropout)(out, out, d.rate, d.key, d.update, layer - 1, first, rows, s.B, s.H);
    return FR_OK;
}

/* The gradients of a layer's parameters, for some of the outputs. */
static fr_status add_layer_gradients(Layer d, Workspace w, Window x, int64_t layer, real *block, Team team, Sizes s)
{
    const int64_t N = s.T * s.B, O = s.G * s.H, part = team.part, parts = team.parts;
    const LayerTrace a = kept(w, x, layer, s);
    const real *dgates = layer_dgates(w, s, a, layer);
    if (is_dense(s, layer)) {
        const real *in = layer > 0 ? kept(w, x, layer - 1, s).dropped : w.trace.x;
        RETURN_IF_BAD(FR(linear_gradients)(d.weight_ih, d.bias, block, dgates, in, part, parts, N, inputs_of(s, layer), O));
    } else {
        RETURN_IF_BAD(FR(gather_gradients)(d.weight_ih, d.bias, dgates, x.inputs, part, parts, N, s.V, O));
    }
    if (s.cell == FR_GRU)
        return FR(gru_gradients)(d.weight_hh, d.bias_hn, block, dgates, a.inner, a.h, x.starts, part, parts, N, s.H);
    return FR(recurrent_gradients)(d.weight_hh, block, dgates, a.h, x.starts, part, parts, N, s.H, O);
}

static fr_status gradients(double *losses, real *grads, real *state, Workspace w, Parameters p, Window x, Team team,
                           Sizes s)
{
    const Parameters d = parameters_of(grads, s);
    const int64_t first = fr_part(d.n, team.part, team.parts), last = fr_part(d.n, team.part + 1, team.parts);
    const int64_t steps = head_steps(s);
    real *block = w.block + team.part * packed_size(FR_BLOCK, s.E > s.H ? s.E : s.H);
    memset(grads + first, 0, (size_t)(last - first) * sizeof(real));
    pack_forward(w.forward, p, team, s);
    pack_backward(w, p, team, s);
    RETURN_IF_BAD(fr_wait_for_all(team));
    RETURN_IF_BAD(run_layers(w.trace, state, w.forward, p, x.inputs, x.starts, x.dropout, team, s));
    for (int64_t t = 0; t < s.T; t += steps) {
        const int64_t count = fr_min(steps, s.T - t);
        RETURN_IF_BAD(run_head(losses, w, p, x, t, count, team, s));
        if (steps < s.T) { /* the next logits take the place of these */
            RETURN_IF_BAD(fr_wait_for_all(team));
            RETURN_IF_BAD(add_head_gradients(d, w, x, t, count, block, team, s));
            RETURN_IF_BAD(fr_wait_for_all(team));
        }
    }
    for (int64_t l = s.L - 1; l >= 0; l--) {
        RETURN_IF_BAD(run_layer_back(w, x, l, team, s));
        if (is_dense(s, l)) {
            RETURN_IF_BAD(fr_wait_for_all(team));
            RETURN_IF_BAD(hand_down(w, x, l, team, s));
        }
        RETURN_IF_BAD(fr_wait_for_all(team));
    }
    if (steps == s.T)
        RETURN_IF_BAD(add_head_gradients(d, w, x, 0, s.T, block, team, s));
    for (int64_t l = 0; l < s.L; l++)
        RETURN_IF_BAD(add_layer_gradients(layer_of(d, s, l), w, x, l, block, team, s));
    if (s.tied) /* what the head has added was other threads' */
        RETURN_IF_BAD(fr_wait_for_all(team));
    if (s.E > 0)
        RETURN_IF_BAD(FR(embedding_gradients)(d.embedding, w.dx, x.inputs, team.part, team.parts, s.T * s.B, s.V, s.E));
    return fr_wait_for_all(team);
}

/* ---- Kernels -------------------------------------------------------------------------------------------- */

fr_status FR(network_gradients)(double *losses, real *grads, real *state, real *workspace, int32_t *sync,
                                const real *params, const int32_t *inputs, const int32_t *targets,
                                const uint8_t *starts, const int64_t *shape, double scale, double rate, int64_t key,
                                int64_t update, int64_t part, int64_t parts, int64_t T, int64_t B)
{
    const Sizes s = sizes_of(shape, T, B);
    const Team team = {sync, part, parts};
    const Window x = {inputs, targets, starts, scale, {rate, key, update}};
    RETURN_IF_BAD(bad_sizes(s));
    if (bad_team(team))
        return FR_BAD_SIZE;
    if (bad_symbols(inputs, 0, T * B, s.V) || bad_symbols(targets, -1, T * B, s.V))
        return FR_BAD_SYMBOL;
    return gradients(losses, grads, state, workspace_of(workspace, parts, rate > 0, s), const_parameters_of(params, s),
                     x, team, s);
}

/* One over the number of targets in a window, or 1 for a sum or for a window without targets. */
static double gradient_scale(const int32_t *targets, int64_t mean, int64_t N)
{
    int64_t count = 0;
    for (int64_t n = 0; n < N; n++)
        count += targets[n] >= 0;
    return mean && count > 0 ? 1.0 / (double)count : 1.0;
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
    default:
        return FR_BAD_CHOICE;
    }
}

fr_status FR(train_windows)(double *losses, double *norms, double *symbol_losses, real *params, real *grads,
                            real *moments, real *average, real *state, real *workspace, int32_t *sync,
                            const int32_t *inputs, const int32_t *targets, const uint8_t *starts,
                            const double *settings, const double *weights, const int64_t *shape, int64_t optimizer,
                            int64_t mean, double value_limit, double norm_limit, double rate, int64_t key,
                            int64_t first_update, int64_t first, int64_t part, int64_t parts, int64_t A, int64_t W,
                            int64_t S, int64_t T, int64_t B)
{
    const Sizes most = sizes_of(shape, T, B);
    const Team team = {sync, part, parts};
    RETURN_IF_BAD(bad_sizes(most));
    if (bad_team(team) || first < 0 || W < 0 || S < 1)
        return FR_BAD_SIZE;
    if (bad_symbols(inputs, 0, S * B, most.V) || bad_symbols(targets, -1, S * B, most.V))
        return FR_BAD_SYMBOL;
    const Parameters p = parameters_of(params, most);
    const int64_t windows = (S + T - 1) / T;
    if (part == 0)
        for (int64_t i = 0; i < W; i++)
            losses[i] = norms[i] = (double)NAN;
    for (int64_t i = 0; i < W; i++) {
        const int64_t start = (first + i) % windows * T;
        const Sizes s = sizes_of(shape, fr_min(T, S - start), B);
        const int64_t N = s.T * B;
        const int32_t *y = targets + start * B;
        const Window x = {inputs + start * B, y, starts + start * B, gradient_scale(y, mean, N),
                          {rate, key, first_update + i}};
        RETURN_IF_BAD(
            gradients(symbol_losses, grads, state, workspace_of(workspace, parts, rate > 0, s), p, x, team, s));
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
        (void)weights, (void)average, (void)A;
        RETURN_IF_BAD(fr_wait_for_all(team));
    }
    return FR_OK;
}
