/* gradients.h: the phases of one window, forward and backward; each function does the part of one worker.
 *
 * The workers of a team wait for each other after each phase. A worker packs some of the panels. It does the
 * recurrences and the head for some of the batch rows, which stay in its core's cache; the products between layers
 * for some of the T·B rows; and the gradients for some of the output rows of each product. If the plan says so, a
 * worker instead does the recurrences for all batch rows and some of the columns (parts.h), and the head for some of
 * the T·B rows. */

#ifndef FASTRNN_GRADIENTS_H
#define FASTRNN_GRADIENTS_H

#include <string.h>

#include "fastrnn.h"
#include "layers.h"
#include "matmul.h"
#include "sums.h"
#include "team.h"
#include "views.h"

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
        if (layer == 0)
            FR_RETURN_IF_BAD(fr_drop_inputs(some, d, n, rows, s));
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

#endif
