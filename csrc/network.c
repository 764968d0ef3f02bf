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

/* ---- Phases: what one part of a team does ------------------------------------------------------------ */

static void pack_backward(real *w, const real *params, Team team, Sizes s)
{
    const int64_t part = team.part, parts = team.parts, O = s.G * s.H;
    for (int64_t l = 0; l < s.L; l++) {
        const real *ih = params + layer_place_of(s, l, FR_WEIGHT_IH), *hh = params + layer_place_of(s, l, FR_WEIGHT_HH);
        if (is_dense(s, l))
            FR(pack)(w + layer_place_of(s, l, FR_IH), ih, 0, part, parts, O, inputs_of(s, l));
        FR(pack)(w + layer_place_of(s, l, FR_HH), hh, 0, part, parts, O, s.H);
    }
    FR(pack)(w + place_of(s, FR_HEAD), params + place_of(s, FR_HEAD_WEIGHT), 0, part, parts, s.V, s.H);
    if (part == 0)
        memset(w + place_of(s, FR_ZEROS), 0, (size_t)(s.E > s.H ? s.E : s.H) * sizeof(real));
}

/* The head at some steps, from `begin` on, for some of the batch rows: losses, dlogits in place of logits, and
 * the gradient of h. Rows that stand beside each other are taken FR_ROWS at a time: of all steps where a part
 * has the whole batch, else of one step. */
static fr_status run_head(double *losses, real *w, const real *params, Window x, int64_t begin, int64_t count,
                          Team team, Sizes s)
{
    const int64_t first = fr_part(s.B, team.part, team.parts), last = fr_part(s.B, team.part + 1, team.parts);
    const int64_t steps = last - first == s.B ? count : 1, top = s.L - 1;
    const real *head_bias = params + place_of(s, FR_HEAD_BIAS), *zeros = w + place_of(s, FR_ZEROS);
    const Dropout d = x.dropout;
    for (int64_t t = begin; t < begin + count; t += steps)
        for (int64_t n = t * s.B + first; n < (t + steps - 1) * s.B + last; n += FR_ROWS) {
            const int64_t rows = fr_min(FR_ROWS, (t + steps - 1) * s.B + last - n);
            real *logits = w + place_of(s, FR_LOGITS) + (n - begin * s.B) * s.V;
            real *up = w + layer_place_of(s, top, FR_UP) + n * s.H, *dh = w + layer_place_of(s, top, FR_DH) + n * s.H;
            RETURN_IF_BAD(fr_go_on(team));
            RETURN_IF_BAD(hand_up(w, d, top, n, rows, s));
            RETURN_IF_BAD(FR(linear_forward)(logits, up, w + place_of(s, FR_HEAD_T), head_bias, rows, s.H, s.V));
            RETURN_IF_BAD(FR(cross_entropy)(losses + n, logits, logits, x.targets + n, x.scale, rows, s.V));
            RETURN_IF_BAD(FR(linear_forward)(dh, logits, w + place_of(s, FR_HEAD), zeros, rows, s.V, s.H));
            if (d.rate > 0)
                RETURN_IF_BAD(FR(dropout)(dh, dh, d.rate, d.key, d.update, top, n, rows, s.B, s.H));
        }
    return FR_OK;
}

/* The gradients of the head's parameters at some steps, for some of the outputs. */
static fr_status add_head_gradients(real *grads, real *w, int64_t begin, int64_t count, real *block, Team team, Sizes s)
{
    const real *dlogits = w + place_of(s, FR_LOGITS);
    const real *up = w + layer_place_of(s, s.L - 1, FR_UP) + begin * s.B * s.H;
    for (int64_t n = 0; n < count * s.B; n += FR_STRETCH) {
        RETURN_IF_BAD(fr_go_on(team));
        RETURN_IF_BAD(FR(linear_gradients)(grads + place_of(s, FR_HEAD_WEIGHT), grads + place_of(s, FR_HEAD_BIAS), block,
                                           dlogits + n * s.V, up + n * s.H, team.part, team.parts,
                                           fr_min(FR_STRETCH, count * s.B - n), s.H, s.V));
    }
    return FR_OK;
}

/* The recurrence of a layer backwards, for batch rows from `first` on: the gradients of its gates. */
static fr_status run_rows_back(real *w, Window x, int64_t layer, int64_t first, int64_t rows, Team team, Sizes s)
{
    const int64_t B = s.B, H = s.H;
    const real *h = w + layer_place_of(s, layer, FR_H), *hh = w + layer_place_of(s, layer, FR_HH);
    real *inner = w + layer_place_of(s, layer, FR_INNER), *gates = w + layer_place_of(s, layer, FR_GATES);
    real *running = w + place_of(s, FR_RUNNING) + (first + team.part) * (s.G + 1) * H;
    real *dh = w + layer_place_of(s, layer, FR_DH), *dc = w + place_of(s, FR_DC) + first * H;
    if (s.cell == FR_LSTM)
        memset(dc, 0, (size_t)(rows * H) * sizeof(real));
    for (int64_t t = s.T - 1; t >= 0; t--) {
        const int64_t n = t * B + first, here = n * H, next = here + B * H;
        real *before = dh + (t > 0 ? here - B * H : here), *row = gates + here * s.G;
        const uint8_t *starts = x.starts + n;
        RETURN_IF_BAD(fr_go_on(team));
        switch (s.cell) {
        case FR_GRU:
            FR(gru_backward)(before, row, inner + here, running, dh + here, h + here, hh, starts, t > 0, rows, H);
            break;
        case FR_LSTM:
            FR(lstm_backward)(before, dc, row, running, dh + here, inner + next, inner + here, hh, starts, t > 0, rows,
                              H);
            break;
        default:
            FR(rnn_backward)(dh + here, before, running, h + next, hh, starts, s.cell == FR_RNN_RELU, t > 0, rows, H);
        }
    }
    return FR_OK;
}

/* The same for all batch rows of a part. */
static fr_status run_layer_back(real *w, Window x, int64_t layer, Team team, Sizes s)
{
    const int64_t end = fr_part(s.B, team.part + 1, team.parts);
    for (int64_t b = fr_part(s.B, team.part, team.parts); b < end; b += FR_STRETCH)
        RETURN_IF_BAD(run_rows_back(w, x, layer, b, fr_min(FR_STRETCH, end - b), team, s));
    return FR_OK;
}

/* The gradient of what a dense layer takes in, for some of the rows of all steps. */
static fr_status hand_down(real *w, Window x, int64_t layer, Team team, Sizes s)
{
    const int64_t N = s.T * s.B, end = fr_part(N, team.part + 1, team.parts), I = inputs_of(s, layer), O = s.G * s.H;
    const real *dgates = w + layer_place_of(s, layer, FR_DGATES), *ih = w + layer_place_of(s, layer, FR_IH);
    const Dropout d = x.dropout;
    real *out = w + (layer > 0 ? layer_place_of(s, layer - 1, FR_DH) : place_of(s, FR_DX));
    for (int64_t n = fr_part(N, team.part, team.parts); n < end; n += FR_STRETCH) {
        const int64_t rows = fr_min(FR_STRETCH, end - n);
        real *some = out + n * I;
        RETURN_IF_BAD(fr_go_on(team));
        RETURN_IF_BAD(FR(linear_forward)(some, dgates + n * O, ih, w + place_of(s, FR_ZEROS), rows, O, I));
        if (layer > 0 && d.rate > 0)
            RETURN_IF_BAD(FR(dropout)(some, some, d.rate, d.key, d.update, layer - 1, n, rows, s.B, s.H));
    }
    return FR_OK;
}

/* The gradients of a layer's parameters that rows of all steps add, from n on, for some of the outputs. */
static fr_status add_gradients_of_rows(real *grads, real *w, Window x, int64_t layer, int64_t n, int64_t N, real *block,
                                       Team team, Sizes s)
{
    const int64_t I = inputs_of(s, layer), O = s.G * s.H, part = team.part, parts = team.parts;
    const real *dgates = w + layer_place_of(s, layer, FR_DGATES) + n * O, *h = w + layer_place_of(s, layer, FR_H) + n * s.H;
    const real *in = w + (layer > 0 ? layer_place_of(s, layer - 1, FR_UP) : place_of(s, FR_X)) + n * I;
    const uint8_t *starts = x.starts + n;
    real *dweight_ih = grads + layer_place_of(s, layer, FR_WEIGHT_IH), *dbias = grads + layer_place_of(s, layer, FR_GATE_BIAS);
    real *dweight_hh = grads + layer_place_of(s, layer, FR_WEIGHT_HH);
    if (is_dense(s, layer))
        RETURN_IF_BAD(
            FR(linear_gradients)(dweight_ih, dbias, block, dgates, in, part, parts, N, I, O));
    else
        RETURN_IF_BAD(FR(gather_gradients)(dweight_ih, dbias, dgates, x.inputs + n, part, parts, N, s.V, O));
    if (s.cell == FR_GRU)
        return FR(gru_gradients)(dweight_hh, grads + layer_place_of(s, layer, FR_BIAS_HN), block, dgates,
                                 w + layer_place_of(s, layer, FR_INNER) + n * s.H, h, starts, part, parts, N, s.H);
    return FR(recurrent_gradients)(dweight_hh, block, dgates, h, starts, part, parts, N, s.H, O);
}

/* The gradients of all parameters but the head's, for some of the outputs. */
static fr_status add_gradients(real *grads, real *w, Window x, real *block, Team team, Sizes s)
{
    const int64_t N = s.T * s.B;
    for (int64_t l = 0; l < s.L; l++)
        for (int64_t n = 0; n < N; n += FR_STRETCH) {
            RETURN_IF_BAD(fr_go_on(team));
            RETURN_IF_BAD(add_gradients_of_rows(grads, w, x, l, n, fr_min(FR_STRETCH, N - n), block, team, s));
        }
    /* what the head added to the embedding, where it is tied, was added before the last wait */
    for (int64_t n = 0; s.E > 0 && n < N; n += FR_STRETCH) {
        RETURN_IF_BAD(fr_go_on(team));
        RETURN_IF_BAD(FR(embedding_gradients)(grads + place_of(s, FR_EMBEDDING_WEIGHT),
                                              w + place_of(s, FR_DX) + n * s.E, x.inputs + n, team.part, team.parts,
                                              fr_min(FR_STRETCH, N - n), s.V, s.E));
    }
    return FR_OK;
}

static fr_status gradients(double *losses, real *grads, real *state, real *w, const real *params, Window x, Team team,
                           Sizes s)
{
    const int64_t n = place_of(s, FR_PARAMETERS), steps = place_of(s, FR_HEAD_STEPS);
    const int64_t first = fr_part(n, team.part, team.parts), last = fr_part(n, team.part + 1, team.parts);
    real *block = w + place_of(s, FR_BLOCKS) + team.part * packed_size(FR_BLOCK, s.E > s.H ? s.E : s.H);
    memset(grads + first, 0, (size_t)(last - first) * sizeof(real));
    pack_forward(w, params, team, s);
    pack_backward(w, params, team, s);
    RETURN_IF_BAD(fr_wait_for_all(team));
    RETURN_IF_BAD(run_layers(w, state, w, params, x.inputs, x.starts, x.dropout, team, s));
    for (int64_t t = 0; t < s.T; t += steps) {
        const int64_t count = fr_min(steps, s.T - t);
        RETURN_IF_BAD(run_head(losses, w, params, x, t, count, team, s));
        RETURN_IF_BAD(fr_wait_for_all(team));
        RETURN_IF_BAD(add_head_gradients(grads, w, t, count, block, team, s));
        if (t + count < s.T) /* the next logits take the place of these */
            RETURN_IF_BAD(fr_wait_for_all(team));
    }
    for (int64_t l = s.L - 1; l >= 0; l--) {
        RETURN_IF_BAD(run_layer_back(w, x, l, team, s));
        RETURN_IF_BAD(fr_wait_for_all(team));
        if (is_dense(s, l)) {
            RETURN_IF_BAD(hand_down(w, x, l, team, s));
            RETURN_IF_BAD(fr_wait_for_all(team));
        }
    }
    RETURN_IF_BAD(add_gradients(grads, w, x, block, team, s));
    return fr_wait_for_all(team);
}

/* ---- Kernels -------------------------------------------------------------------------------------------- */

fr_status FR(network_gradients)(double *losses, real *grads, real *state, real *workspace, int32_t *sync,
                                const real *params, const int32_t *inputs, const int32_t *targets,
                                const uint8_t *starts, const int64_t *plan, double scale, double rate, int64_t key,
                                int64_t update, int64_t part, int64_t parts, int64_t T, int64_t B)
{
    const Sizes s = sizes_of(plan, T, B);
    const Team team = {sync, part, parts};
    const Window x = {inputs, targets, starts, scale, {rate, key, update}};
    RETURN_IF_BAD(bad_sizes(s));
    if (bad_team(team))
        return FR_BAD_SIZE;
    if (bad_symbols(inputs, 0, T * B, s.V) || bad_symbols(targets, -1, T * B, s.V))
        return FR_BAD_SYMBOL;
    return gradients(losses, grads, state, workspace, params, x, team, s);
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
                            real *moments, real *average, real *state, real *workspace, int32_t *sync,
                            const int32_t *inputs, const int32_t *targets, const uint8_t *starts,
                            const double *settings, const double *weights, const int64_t *plan, int64_t optimizer,
                            int64_t reduction, double value_limit, double norm_limit, double rate, int64_t key,
                            int64_t first_update, int64_t first, int64_t part, int64_t parts, int64_t A, int64_t W,
                            int64_t S, int64_t T, int64_t B)
{
    const Sizes most = sizes_of(plan, T, B);
    const Team team = {sync, part, parts};
    RETURN_IF_BAD(bad_sizes(most));
    if (bad_team(team) || first < 0 || W < 0 || S < 1)
        return FR_BAD_SIZE;
    if (bad_symbols(inputs, 0, S * B, most.V) || bad_symbols(targets, -1, S * B, most.V))
        return FR_BAD_SYMBOL;
    const int64_t windows = (S + T - 1) / T, n = plan[FR_PARAMETERS];
    if (part == 0)
        for (int64_t i = 0; i < W; i++)
            losses[i] = norms[i] = (double)NAN;
    for (int64_t i = 0; i < W; i++) {
        const int64_t start = (first + i) % windows * T;
        const Sizes s = sizes_of(plan, fr_min(T, S - start), B);
        const int64_t N = s.T * B;
        const int32_t *y = targets + start * B;
        const Window x = {inputs + start * B, y, starts + start * B, gradient_scale(y, reduction, N, B),
                          {rate, key, first_update + i}};
        RETURN_IF_BAD(gradients(symbol_losses, grads, state, workspace, params, x, team, s));
        double norm; /* every part finds the same loss and norm, and goes on or ends like the others */
        const double loss = sum_of(symbol_losses, N);
        RETURN_IF_BAD(FR(gradient_norm)(&norm, grads, value_limit, n));
        if (part == 0) {
            losses[i] = loss;
            norms[i] = norm;
        }
        if (!isfinite(loss) || !isfinite(norm))
            return FR_OK;
        RETURN_IF_BAD(update(params, moments, grads, settings + i * FR_SETTINGS, optimizer, value_limit,
                             norm > norm_limit ? norm_limit / norm : 1.0, team, n));
        if (A > 0)
            RETURN_IF_BAD(FR(average_update)(average, params, weights[i], part, parts, n));
        RETURN_IF_BAD(fr_wait_for_all(team));
    }
    return FR_OK;
}
