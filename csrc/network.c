/* network.c: one window forward and backward, and the training on many windows in one call.
 *
 * A window has phases, and the workers of a team wait for each other after each phase. A worker packs some of
 * the panels. It does the recurrences and the head for some of the batch rows, which stay in its core's cache;
 * the products between layers for some of the T·B rows; the gradients for some of the output rows of each
 * product; and the update for a range of the parameters. If the plan says so, a worker instead does the recurrences
 * for all batch rows and some of the columns (parts.h), and the head for some of the T·B rows. */

#include <string.h>

#include "fastrnn.h"
#include "layers.h"
#include "matmul.h"
#include "sums.h"
#include "team.h"
#include "views.h"

/* ---- Phases: the part of one worker ------------------------------------------------------------ */

static fr_status pack_backward(real *w, const real *params, fr_worker worker, fr_sizes s)
{
    const int64_t O = s.G * s.H;
    for (int64_t l = 0; l < s.L; l++) {
        const real *ih = params + fr_layer_offset_of(s, l, FR_WEIGHT_IH),
                   *hh = params + fr_layer_offset_of(s, l, FR_WEIGHT_HH);
        if (fr_is_dense(s, l))
            FR_RETURN_IF_BAD(fr_pack_part(w + fr_layer_offset_of(s, l, FR_IH), ih, 0, worker, O, fr_inputs_of(s, l)));
        FR_RETURN_IF_BAD(fr_pack_part(w + fr_layer_offset_of(s, l, FR_HH), hh, 0, worker, O, s.H));
    }
    if (worker.part == 0)
        memset(w + fr_offset_of(s, FR_ZEROS), 0, (size_t)(s.E > s.H ? s.E : s.H) * sizeof(real));
    return fr_pack_part(w + fr_offset_of(s, FR_HEAD), params + fr_offset_of(s, FR_HEAD_WEIGHT), 0, worker, s.V, s.H);
}

/* Sets a worker's part of n elements to zero. */
static fr_status clear_part(real *x, fr_worker worker, int64_t n)
{
    const int64_t pieces = fr_pieces(FR_MOVE * n, worker);
    for (int64_t i = 0; i < pieces; i++) {
        const fr_worker piece = fr_piece_of(worker, i, pieces);
        const int64_t first = fr_part_start(n, piece.part, piece.parts),
                      last = fr_part_start(n, piece.part + 1, piece.parts);
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        memset(x + first, 0, (size_t)(last - first) * sizeof(real));
    }
    return FR_OK;
}

/* The head at `count` steps from `begin` on, for a worker's batch rows, or by columns for its part of the rows of all
 * these steps: losses, dlogits in place of logits, and the gradient of h. It takes up to FR_ROWS contiguous rows at a
 * time. If a worker has all batch rows, the rows of all steps are contiguous, else only those of one step. */
static fr_status run_head(double *losses, real *w, const real *params, fr_window x, int64_t begin, int64_t count,
                          fr_worker worker, fr_sizes s)
{
    const fr_worker of_rows = fr_of_rows(worker, s), of_steps = fr_of_columns(worker, s);
    const int64_t first = fr_part_start(s.B, of_rows.part, of_rows.parts),
                  last = fr_part_start(s.B, of_rows.part + 1, of_rows.parts);
    const int64_t steps = last - first == s.B ? count : 1, N = (steps - 1) * s.B + last - first, top = s.L - 1;
    const real *head_bias = params + fr_offset_of(s, FR_HEAD_BIAS), *zeros = w + fr_offset_of(s, FR_ZEROS);
    const fr_dropout d = x.dropout;
    for (int64_t t = begin; t < begin + count; t += steps) {
        const int64_t start = t * s.B + first, end = start + fr_part_start(N, of_steps.part + 1, of_steps.parts);
        for (int64_t n = start + fr_part_start(N, of_steps.part, of_steps.parts); n < end; n += FR_ROWS) {
            const int64_t rows = fr_min(FR_ROWS, end - n);
            real *logits = w + fr_offset_of(s, FR_LOGITS) + (n - begin * s.B) * s.V;
            real *output = w + fr_layer_offset_of(s, top, FR_OUTPUT) + n * s.H,
                 *dh = w + fr_layer_offset_of(s, top, FR_DH) + n * s.H;
            FR_RETURN_IF_BAD(fr_check_abort(worker));
            FR_RETURN_IF_BAD(fr_apply_dropout(w, d, top, n, rows, s));
            FR_RETURN_IF_BAD(
                FR(linear_forward)(logits, output, w + fr_offset_of(s, FR_HEAD_T), head_bias, rows, s.H, s.V));
            FR_RETURN_IF_BAD(fr_check_abort(worker));
            FR_RETURN_IF_BAD(FR(cross_entropy)(losses + n, logits, logits, x.targets + n, x.scale, rows, s.V));
            FR_RETURN_IF_BAD(fr_check_abort(worker));
            FR_RETURN_IF_BAD(FR(linear_forward)(dh, logits, w + fr_offset_of(s, FR_HEAD), zeros, rows, s.V, s.H));
            if (d.dropout > 0)
                FR_RETURN_IF_BAD(FR(dropout)(dh, dh, d.dropout, d.seed, d.update, top, n, rows, s.B, s.H));
        }
    }
    return FR_OK;
}

/* Adds the gradients of the head's parameters at `count` steps, for a worker's part of the outputs. */
static fr_status add_head_gradients(real *grads, real *w, int64_t begin, int64_t count, real *block, fr_worker worker,
                                    fr_sizes s)
{
    const real *dlogits = w + fr_offset_of(s, FR_LOGITS);
    const real *output = w + fr_layer_offset_of(s, s.L - 1, FR_OUTPUT) + begin * s.B * s.H;
    for (int64_t n = 0; n < count * s.B; n += FR_STRETCH) {
        const int64_t rows = fr_min(FR_STRETCH, count * s.B - n), pieces = fr_pieces(rows * s.H * s.V, worker);
        for (int64_t i = 0; i < pieces; i++) {
            const fr_worker piece = fr_piece_of(worker, i, pieces);
            FR_RETURN_IF_BAD(fr_check_abort(worker));
            FR_RETURN_IF_BAD(FR(linear_gradients)(
                grads + fr_offset_of(s, FR_HEAD_WEIGHT), grads + fr_offset_of(s, FR_HEAD_BIAS), block,
                dlogits + n * s.V, output + n * s.H, piece.part, piece.parts, rows, s.H, s.V));
        }
    }
    return FR_OK;
}

/* The backward recurrence of a layer, for `rows` batch rows from `first` on: the gradients of its gates. */
static fr_status recurrence_backward_rows(real *w, fr_window x, int64_t layer, int64_t first, int64_t rows,
                                          fr_worker worker, fr_sizes s)
{
    const int64_t B = s.B, H = s.H;
    const fr_worker of_columns = fr_of_columns(worker, s);
    const real *h = w + fr_layer_offset_of(s, layer, FR_H), *hh = w + fr_layer_offset_of(s, layer, FR_HH);
    real *aux = fr_optional(w, fr_layer_offset_of(s, layer, FR_AUX)), *dc = fr_optional(w, fr_offset_of(s, FR_DC));
    real *gates = w + fr_layer_offset_of(s, layer, FR_GATES), *dh = w + fr_layer_offset_of(s, layer, FR_DH);
    real *masked = fr_scratch_of(w, first, s.cell == FR_GRU && of_columns.parts > 1 ? 0 : worker.part, s);
    if (s.cell == FR_LSTM)
        fr_clear_units(dc + first * H, of_columns, rows, H);
    for (int64_t t = s.T - 1; t >= 0; t--) {
        const int64_t n = t * B + first, here = n * H, next = here + B * H;
        real *before = dh + (t > 0 ? here - B * H : here), *row = gates + here * s.G;
        const uint8_t *starts = x.starts + n;
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        switch (s.cell) {
        case FR_GRU:
            FR_RETURN_IF_BAD(fr_gru_backward(before, row, aux + here, masked, dh + here, h + here, hh, starts, t > 0,
                                             of_columns, rows, H));
            break;
        case FR_LSTM:
            FR_RETURN_IF_BAD(fr_lstm_backward(before, dc + first * H, row, masked, dh + here, aux + next, aux + here,
                                              hh, starts, t > 0, of_columns, rows, H));
            break;
        default:
            FR_RETURN_IF_BAD(fr_rnn_backward(dh + here, before, masked, h + next, hh, starts, s.cell == FR_RNN_RELU,
                                             t > 0, of_columns, rows, H));
        }
    }
    return FR_OK;
}

/* The same for all batch rows of a worker. */
static fr_status recurrence_backward(real *w, fr_window x, int64_t layer, fr_worker worker, fr_sizes s)
{
    const fr_worker of_rows = fr_of_rows(worker, s);
    const int64_t end = fr_part_start(s.B, of_rows.part + 1, of_rows.parts);
    for (int64_t b = fr_part_start(s.B, of_rows.part, of_rows.parts); b < end; b += FR_STRETCH)
        FR_RETURN_IF_BAD(recurrence_backward_rows(w, x, layer, b, fr_min(FR_STRETCH, end - b), worker, s));
    return FR_OK;
}

/* The gradient of a dense layer's input, for a worker's part of the T·B rows. */
static fr_status input_gradient(real *w, fr_window x, int64_t layer, fr_worker worker, fr_sizes s)
{
    const int64_t N = s.T * s.B, end = fr_part_start(N, worker.part + 1, worker.parts), I = fr_inputs_of(s, layer),
                  O = s.G * s.H;
    const real *dgates = w + fr_layer_offset_of(s, layer, FR_DGATES), *ih = w + fr_layer_offset_of(s, layer, FR_IH);
    const fr_dropout d = x.dropout;
    real *out = w + (layer > 0 ? fr_layer_offset_of(s, layer - 1, FR_DH) : fr_offset_of(s, FR_DX));
    for (int64_t n = fr_part_start(N, worker.part, worker.parts); n < end; n += FR_STRETCH) {
        const int64_t rows = fr_min(FR_STRETCH, end - n);
        real *some = out + n * I;
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        FR_RETURN_IF_BAD(FR(linear_forward)(some, dgates + n * O, ih, w + fr_offset_of(s, FR_ZEROS), rows, O, I));
        if (layer > 0 && d.dropout > 0)
            FR_RETURN_IF_BAD(FR(dropout)(some, some, d.dropout, d.seed, d.update, layer - 1, n, rows, s.B, s.H));
    }
    return FR_OK;
}

/* Adds what N of the T·B rows, from n on, give to the gradients of a layer's parameters, for a part of the outputs. */
static fr_status add_gradients_of_rows(real *grads, real *w, fr_window x, int64_t layer, int64_t n, int64_t N,
                                       real *block, fr_worker worker, fr_sizes s)
{
    const int64_t I = fr_inputs_of(s, layer), O = s.G * s.H, part = worker.part, parts = worker.parts;
    const real *dgates = w + fr_layer_offset_of(s, layer, FR_DGATES) + n * O,
               *h = w + fr_layer_offset_of(s, layer, FR_H) + n * s.H;
    const uint8_t *starts = x.starts + n;
    real *dweight_ih = grads + fr_layer_offset_of(s, layer, FR_WEIGHT_IH),
         *dbias = grads + fr_layer_offset_of(s, layer, FR_GATE_BIAS);
    real *dweight_hh = grads + fr_layer_offset_of(s, layer, FR_WEIGHT_HH);
    if (fr_is_dense(s, layer)) {
        const real *in = w + (layer > 0 ? fr_layer_offset_of(s, layer - 1, FR_OUTPUT) : fr_offset_of(s, FR_X));
        FR_RETURN_IF_BAD(
            FR(linear_gradients)(dweight_ih, dbias, block, dgates, in + n * I, part, parts, N, I, O));
    } else
        FR_RETURN_IF_BAD(FR(gather_gradients)(dweight_ih, dbias, dgates, x.inputs + n, part, parts, N, s.V, O));
    if (s.cell == FR_GRU)
        return FR(gru_gradients)(dweight_hh, grads + fr_layer_offset_of(s, layer, FR_BIAS_HN), block, dgates,
                                 w + fr_layer_offset_of(s, layer, FR_AUX) + n * s.H, h, starts, part, parts, N, s.H);
    return FR(recurrent_gradients)(dweight_hh, block, dgates, h, starts, part, parts, N, s.H, O);
}

/* Adds the gradients of all parameters except the head's, for a worker's part of the outputs. */
static fr_status add_gradients(real *grads, real *w, fr_window x, real *block, fr_worker worker, fr_sizes s)
{
    const int64_t N = s.T * s.B;
    for (int64_t l = 0; l < s.L; l++)
        for (int64_t n = 0; n < N; n += FR_STRETCH) {
            const int64_t rows = fr_min(FR_STRETCH, N - n), I = fr_is_dense(s, l) ? fr_inputs_of(s, l) : 1,
                          pieces = fr_pieces(rows * (I + s.H) * s.G * s.H, worker);
            for (int64_t i = 0; i < pieces; i++) {
                FR_RETURN_IF_BAD(fr_check_abort(worker));
                FR_RETURN_IF_BAD(
                    add_gradients_of_rows(grads, w, x, l, n, rows, block, fr_piece_of(worker, i, pieces), s));
            }
        }
    /* with tied weights, the head has added its gradient to the embedding's before the last barrier */
    for (int64_t n = 0; s.E > 0 && n < N; n += FR_STRETCH) {
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        FR_RETURN_IF_BAD(FR(embedding_gradients)(grads + fr_offset_of(s, FR_EMBEDDING_WEIGHT),
                                                 w + fr_offset_of(s, FR_DX) + n * s.E, x.inputs + n, worker.part,
                                                 worker.parts, fr_min(FR_STRETCH, N - n), s.V, s.E));
    }
    return FR_OK;
}

static fr_status gradients(double *losses, real *grads, real *w, const real *params, fr_window x, fr_worker worker,
                           fr_sizes s)
{
    const int64_t steps = fr_offset_of(s, FR_HEAD_STEPS);
    real *block = w + fr_offset_of(s, FR_BLOCKS) + worker.part * fr_packed_size(FR_KC, s.E > s.H ? s.E : s.H);
    FR_RETURN_IF_BAD(clear_part(grads, worker, fr_offset_of(s, FR_PARAMETERS)));
    FR_RETURN_IF_BAD(fr_pack_forward(w, params, worker, s));
    FR_RETURN_IF_BAD(pack_backward(w, params, worker, s));
    FR_RETURN_IF_BAD(fr_barrier_wait(worker));
    FR_RETURN_IF_BAD(fr_layers_forward(w, w, params, x, worker, s));
    for (int64_t t = 0; t < s.T; t += steps) {
        const int64_t count = fr_min(steps, s.T - t);
        FR_RETURN_IF_BAD(run_head(losses, w, params, x, t, count, worker, s));
        FR_RETURN_IF_BAD(fr_barrier_wait(worker));
        FR_RETURN_IF_BAD(add_head_gradients(grads, w, t, count, block, worker, s));
        if (t + count < s.T) /* the next logits overwrite these dlogits */
            FR_RETURN_IF_BAD(fr_barrier_wait(worker));
    }
    for (int64_t l = s.L - 1; l >= 0; l--) {
        FR_RETURN_IF_BAD(recurrence_backward(w, x, l, worker, s));
        FR_RETURN_IF_BAD(fr_barrier_wait(worker));
        if (fr_is_dense(s, l)) {
            FR_RETURN_IF_BAD(input_gradient(w, x, l, worker, s));
            FR_RETURN_IF_BAD(fr_barrier_wait(worker));
        }
    }
    FR_RETURN_IF_BAD(add_gradients(grads, w, x, block, worker, s));
    return fr_barrier_wait(worker);
}

/* ---- Kernels -------------------------------------------------------------------------------------------- */

fr_status FR(network_gradients)(double *losses, real *grads, real *state, real *workspace, int32_t *barrier,
                                const real *params, const int32_t *inputs, const int32_t *targets,
                                const uint8_t *starts, const int64_t *plan, double scale, double dropout,
                                int64_t dropout_seed, int64_t update, int64_t part, int64_t parts, int64_t T,
                                int64_t B)
{
    const fr_sizes s = fr_sizes_of(plan, T, B);
    const fr_worker worker = {barrier, part, parts};
    const fr_window x = {inputs, targets, starts, state, scale, {dropout, dropout_seed, update}};
    FR_RETURN_IF_BAD(fr_bad_sizes(s));
    if (fr_bad_worker(worker))
        return FR_BAD_SIZE;
    if (fr_bad_symbols(inputs, 0, T * B, s.V) || fr_bad_symbols(targets, -1, T * B, s.V))
        return FR_BAD_SYMBOL;
    return gradients(losses, grads, workspace, params, x, worker, s);
}

/* The factor of the sum of a window's losses. A mean divides by the number of targets that are not -1. */
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

/* Whether ranges are not in ascending order within n elements. */
static int bad_ranges(const int64_t *ranges, int64_t R, int64_t n)
{
    int64_t end = 0;
    for (int64_t r = 0; r < R; r++) {
        if (ranges[2 * r] < end || ranges[2 * r + 1] < ranges[2 * r])
            return 1;
        end = ranges[2 * r + 1];
    }
    return R < 0 || end > n;
}

/* The number of elements outside of the ranges. */
static int64_t count_frozen(const int64_t *ranges, int64_t R, int64_t n)
{
    for (int64_t r = 0; r < R; r++)
        n -= ranges[2 * r + 1] - ranges[2 * r];
    return n;
}

/* Sets the gradients outside of the ranges to zero: a worker sets its part of them, and waits for the others. */
static fr_status clear_frozen(real *grads, const int64_t *ranges, fr_worker worker, int64_t R, int64_t n)
{
    int64_t end = 0;
    for (int64_t r = 0; r <= R; r++) {
        const int64_t next = r < R ? ranges[2 * r] : n,
                      first = end + fr_part_start(next - end, worker.part, worker.parts),
                      last = end + fr_part_start(next - end, worker.part + 1, worker.parts);
        memset(grads + first, 0, (size_t)(last - first) * sizeof(real));
        end = r < R ? ranges[2 * r + 1] : n;
    }
    return fr_barrier_wait(worker);
}

/* The update of the elements from `begin` up to `end`. */
static fr_status update_range(real *params, real *moments, const real *grads, const double *settings,
                              int64_t optimizer, double limit, double scale, int64_t begin, int64_t end, int64_t n)
{
    switch (optimizer) {
    case FR_SGD:
        return FR(sgd_update)(params, moments, grads, settings, limit, scale, begin, end, n);
    case FR_ADAGRAD:
        return FR(adagrad_update)(params, moments, grads, settings, limit, scale, begin, end, n);
    case FR_ADAM:
        return FR(adam_update)(params, moments, grads, settings, limit, scale, begin, end, n);
    case FR_RMSPROP:
        return FR(rmsprop_update)(params, moments, grads, settings, limit, scale, begin, end, n);
    default:
        return FR_BAD_CHOICE;
    }
}

/* A worker's part of an update of the ranges, each with its row of settings, and of the average if A is 1. */
static fr_status update(real *params, real *moments, real *average, const real *grads, const double *settings,
                        double average_weight, const int64_t *ranges, int64_t optimizer, double limit, double scale,
                        fr_worker worker, int64_t A, int64_t R, int64_t n)
{
    for (int64_t r = 0; r < R; r++) {
        const int64_t first = ranges[2 * r], count = ranges[2 * r + 1] - first,
                      begin = first + fr_part_start(count, worker.part, worker.parts),
                      end = first + fr_part_start(count, worker.part + 1, worker.parts);
        FR_RETURN_IF_BAD(update_range(params, moments, grads, settings + r * FR_SETTINGS, optimizer, limit, scale,
                                      begin, end, n));
        if (A > 0)
            FR_RETURN_IF_BAD(FR(average_update)(average, params, average_weight, begin, end, n));
    }
    return FR_OK;
}

fr_status FR(train_windows)(double *losses, double *norms, double *symbol_losses, real *params, real *grads,
                            real *moments, real *average, real *state, real *workspace, int32_t *barrier,
                            const int32_t *inputs, const int32_t *targets, const uint8_t *starts,
                            const double *settings, const double *average_weights, const int64_t *ranges,
                            const int64_t *plan, int64_t optimizer, int64_t reduction, double value_limit,
                            double norm_limit, double dropout, int64_t dropout_seed, int64_t first_update,
                            int64_t first, int64_t part, int64_t parts, int64_t A, int64_t R, int64_t W, int64_t S,
                            int64_t T, int64_t B)
{
    const fr_sizes longest = fr_sizes_of(plan, T, B);
    const fr_worker worker = {barrier, part, parts};
    FR_RETURN_IF_BAD(fr_bad_sizes(longest));
    const int64_t windows = (S + T - 1) / T, n = plan[FR_PARAMETERS];
    if (fr_bad_worker(worker) || first < 0 || W < 0 || S < 1 || bad_ranges(ranges, R, n))
        return FR_BAD_SIZE;
    if (fr_bad_symbols(inputs, 0, S * B, longest.V) || fr_bad_symbols(targets, -1, S * B, longest.V))
        return FR_BAD_SYMBOL;
    const int has_frozen = count_frozen(ranges, R, n) > 0;
    if (part == 0)
        for (int64_t i = 0; i < W; i++)
            losses[i] = norms[i] = (double)NAN;
    for (int64_t i = 0; i < W; i++) {
        const int64_t start = (first + i) % windows * T;
        const fr_sizes s = fr_sizes_of(plan, fr_min(T, S - start), B);
        const int64_t N = s.T * B;
        const int32_t *y = targets + start * B;
        const fr_window x = {inputs + start * B, y, starts + start * B, state, gradient_scale(y, reduction, N, B),
                             {dropout, dropout_seed, first_update + i}};
        FR_RETURN_IF_BAD(gradients(symbol_losses, grads, workspace, params, x, worker, s));
        if (has_frozen)
            FR_RETURN_IF_BAD(clear_frozen(grads, ranges, worker, R, n));
        double norm; /* all workers compute the same loss and norm, so they all stop or all go on */
        const double loss = sum_of(symbol_losses, N);
        FR_RETURN_IF_BAD(FR(gradient_norm)(&norm, grads, value_limit, n));
        if (part == 0) {
            losses[i] = loss;
            norms[i] = norm;
        }
        if (!isfinite(loss) || !isfinite(norm))
            return FR_OK;
        FR_RETURN_IF_BAD(update(params, moments, average, grads, settings + i * R * FR_SETTINGS, average_weights[i],
                                ranges, optimizer, value_limit, norm > norm_limit ? norm_limit / norm : 1.0, worker,
                                A, R, n));
        FR_RETURN_IF_BAD(fr_barrier_wait(worker));
    }
    return FR_OK;
}
