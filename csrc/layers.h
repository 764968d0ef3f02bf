/* layers.h: the forward pass of the layers over a window, for training and inference. */
#ifndef FASTRNN_LAYERS_H
#define FASTRNN_LAYERS_H

#include <string.h>

#include "fastrnn.h"
#include "matmul.h"
#include "parts.h"
#include "team.h"
#include "views.h"

/* The dropout masks of a window, of the layers' outputs and of the inputs; where a fraction is 0, there is none. */
typedef struct {
    double dropout, input;
    int64_t seed, update;
} fr_dropout;

/* What a window reads, and the state that it carries. */
typedef struct {
    const int32_t *inputs, *targets;
    const uint8_t *starts;
    real *state;
    double scale; /* of the gradient */
    fr_dropout dropout;
} fr_window;

/* Every worker checks all ids, so that all workers return the same status. */
static inline int fr_bad_symbols(const int32_t *ids, int32_t lowest, int64_t N, int64_t V)
{
    int bad = 0;
    for (int64_t n = 0; n < N; n++)
        bad |= ids[n] < lowest || ids[n] >= V;
    return bad;
}

/* A worker's part of the packing of a weight. */
static inline fr_status fr_pack_part(real *packed, const real *weight, int64_t transposed, fr_worker worker, int64_t K,
                                     int64_t J)
{
    const int64_t pieces = fr_pieces(FR_MOVE * K * J, worker);
    for (int64_t i = 0; i < pieces; i++) {
        const fr_worker piece = fr_piece_of(worker, i, pieces);
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        FR_RETURN_IF_BAD(FR(pack)(packed, weight, transposed, piece.part, piece.parts, K, J));
    }
    return FR_OK;
}

static inline fr_status fr_pack_forward(real *packed, const real *params, fr_worker worker, fr_sizes s)
{
    const int64_t O = s.G * s.H;
    for (int64_t l = 0; l < s.L; l++) {
        const real *ih = params + fr_layer_offset_of(s, l, FR_WEIGHT_IH),
                   *hh = params + fr_layer_offset_of(s, l, FR_WEIGHT_HH);
        if (fr_is_dense(s, l))
            FR_RETURN_IF_BAD(
                fr_pack_part(packed + fr_layer_offset_of(s, l, FR_IH_T), ih, 1, worker, fr_inputs_of(s, l), O));
        FR_RETURN_IF_BAD(fr_pack_part(packed + fr_layer_offset_of(s, l, FR_HH_T), hh, 1, worker, s.H, O));
    }
    return fr_pack_part(packed + fr_offset_of(s, FR_HEAD_T), params + fr_offset_of(s, FR_HEAD_WEIGHT), 1, worker, s.H,
                        s.V);
}

/* Writes `rows` rows of h, from row n on, to the layer's output with dropout; without it, that is h itself. */
static inline fr_status fr_apply_dropout(real *trace, fr_dropout d, int64_t layer, int64_t n, int64_t rows, fr_sizes s)
{
    if (d.dropout == 0)
        return FR_OK;
    const real *h = trace + fr_layer_offset_of(s, layer, FR_H) + (s.B + n) * s.H;
    return FR(dropout)(trace + fr_layer_offset_of(s, layer, FR_OUTPUT) + n * s.H, h, d.dropout, d.seed, d.update,
                       layer, n, rows, s.B, s.H);
}

/* Sets the rows of x (N, E) whose inputs are dropped to zero, and scales the others; the first is row n. */
static inline fr_status fr_drop_inputs(real *x, fr_dropout d, int64_t n, int64_t N, fr_sizes s)
{
    real kept[FR_ROWS];
    if (d.input == 0)
        return FR_OK;
    for (int64_t first = 0; first < N; first += FR_ROWS) {
        const int64_t rows = fr_min(FR_ROWS, N - first);
        for (int64_t i = 0; i < rows; i++)
            kept[i] = 1;
        FR_RETURN_IF_BAD(FR(dropout)(kept, kept, d.input, d.seed, d.update, FR_INPUTS, n + first, rows, s.B, 1));
        for (int64_t i = 0; i < rows; i++)
            for (int64_t e = 0; e < s.E; e++)
                x[(first + i) * s.E + e] *= kept[i];
    }
    return FR_OK;
}

/* A worker's part of the batch rows; and of the columns of a recurrence's products and of the hidden units. A plan
 * says which of the two the workers share; each worker has all of the other. */
fr_inline fr_worker fr_of_rows(fr_worker worker, fr_sizes s)
{
    const int by_columns = fr_offset_of(s, FR_BY_COLUMNS) != 0;
    const fr_worker of_rows = {worker.barrier, by_columns ? 0 : worker.part, by_columns ? 1 : worker.parts};
    return of_rows;
}

fr_inline fr_worker fr_of_columns(fr_worker worker, fr_sizes s)
{
    const int by_columns = fr_offset_of(s, FR_BY_COLUMNS) != 0;
    const fr_worker of_columns = {worker.barrier, by_columns ? worker.part : 0, by_columns ? worker.parts : 1};
    return of_columns;
}

/* The scratch memory of a worker for batch rows from `first` on; by columns, the first worker's is shared too. */
static inline real *fr_scratch_of(real *trace, int64_t first, int64_t part, fr_sizes s)
{
    const int64_t row = fr_offset_of(s, FR_BY_COLUMNS) ? part * (s.B + 1) : first + part;
    return trace + fr_offset_of(s, FR_MASKED) + row * (s.G + 1) * s.H;
}

/* The input of a dense layer, for a worker's part of the T·B rows. */
static inline fr_status fr_layer_input(real *trace, const real *params, fr_window x, int64_t layer, fr_worker worker,
                                       fr_sizes s)
{
    const int64_t N = s.T * s.B, end = fr_part_start(N, worker.part + 1, worker.parts);
    for (int64_t n = fr_part_start(N, worker.part, worker.parts); n < end; n += FR_STRETCH) {
        const int64_t rows = fr_min(FR_STRETCH, end - n);
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        if (layer > 0)
            FR_RETURN_IF_BAD(fr_apply_dropout(trace, x.dropout, layer - 1, n, rows, s));
        else {
            real *embedded = trace + fr_offset_of(s, FR_X) + n * s.E;
            FR_RETURN_IF_BAD(FR(embedding_forward)(embedded, params + fr_offset_of(s, FR_EMBEDDING_WEIGHT),
                                                   x.inputs + n, rows, s.V, s.E));
            FR_RETURN_IF_BAD(fr_drop_inputs(embedded, x.dropout, n, rows, s));
        }
    }
    return FR_OK;
}

/* The input's share of a dense layer's gates, for a worker's part of the T·B rows, or of the columns. */
static inline fr_status fr_input_projection(real *trace, const real *packed, const real *params, int64_t layer,
                                            fr_worker worker, fr_sizes s)
{
    const fr_worker of_rows = fr_of_rows(worker, s), of_columns = fr_of_columns(worker, s);
    const int64_t N = s.T * s.B, end = fr_part_start(N, of_rows.part + 1, of_rows.parts), I = fr_inputs_of(s, layer),
                  O = s.G * s.H;
    const real *in = trace + (layer > 0 ? fr_layer_offset_of(s, layer - 1, FR_OUTPUT) : fr_offset_of(s, FR_X));
    const real *ih = packed + fr_layer_offset_of(s, layer, FR_IH_T),
               *bias = params + fr_layer_offset_of(s, layer, FR_GATE_BIAS);
    real *gates = trace + fr_layer_offset_of(s, layer, FR_GATES);
    for (int64_t n = fr_part_start(N, of_rows.part, of_rows.parts); n < end; n += FR_STRETCH) {
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        fr_matmul_part(gates + n * O, bias, 0, in + n * I, ih, of_columns, fr_min(FR_STRETCH, end - n), I, s.G,
                       s.H);
    }
    return FR_OK;
}

/* Sets a worker's hidden units of `rows` rows to zero. */
static inline void fr_clear_units(real *out, fr_worker worker, int64_t rows, int64_t H)
{
    const fr_columns units = fr_part_columns(worker, 1, H);
    for (int64_t b = 0; b < rows; b++)
        memset(out + b * H + units.first, 0, (size_t)units.n * sizeof(real));
}

/* Copies a worker's hidden units of `rows` rows. */
fr_inline void fr_copy_units(real *out, const real *x, fr_worker worker, int64_t rows, int64_t H)
{
    const fr_columns units = fr_part_columns(worker, 1, H);
    for (int64_t b = 0; b < rows; b++)
        memcpy(out + b * H + units.first, x + b * H + units.first, (size_t)units.n * sizeof(real));
}

/* The recurrence of a layer, for `rows` batch rows from `first` on. It carries the state. */
static inline fr_status fr_recurrence_forward_rows(real *trace, const real *packed, const real *params, fr_window x,
                                                   int64_t layer, int64_t first, int64_t rows, fr_worker worker,
                                                   fr_sizes s)
{
    const int64_t B = s.B, H = s.H, O = s.G * H, last = (s.T * B + first) * H;
    const fr_worker of_columns = fr_of_columns(worker, s);
    const real *weight_ih = params + fr_layer_offset_of(s, layer, FR_WEIGHT_IH);
    const real *bias = params + fr_layer_offset_of(s, layer, FR_GATE_BIAS);
    const real *hh = packed + fr_layer_offset_of(s, layer, FR_HH_T);
    real *masked = fr_scratch_of(trace, first, worker.part, s);
    real *product = fr_scratch_of(trace, first, of_columns.parts > 1 ? 0 : worker.part, s) + (rows + 3) * H; /* gru */
    real *h = trace + fr_layer_offset_of(s, layer, FR_H),
         *aux = fr_optional(trace, fr_layer_offset_of(s, layer, FR_AUX));
    real *gates = trace + fr_layer_offset_of(s, layer, FR_GATES);
    real *state_h = x.state + (layer * B + first) * H, *state_c = state_h + s.L * B * H;
    fr_copy_units(h + first * H, state_h, of_columns, rows, H);
    if (s.cell == FR_LSTM)
        fr_copy_units(aux + first * H, state_c, of_columns, rows, H);
    for (int64_t t = 0; t < s.T; t++) {
        const int64_t n = t * B + first, here = n * H, next = here + B * H;
        const uint8_t *starts = x.starts + n;
        real *row = gates + n * O;
        const real *h_before = t > 0 ? h + here : state_h; /* other workers may not have copied their units yet */
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        if (!fr_is_dense(s, layer))
            FR_RETURN_IF_BAD(fr_gather(row, weight_ih, bias, x.inputs + n, of_columns, rows, s.V, s.G, H));
        switch (s.cell) {
        case FR_GRU:
            FR_RETURN_IF_BAD(fr_gru_forward(h + next, aux + here, row, masked, product, h_before, hh,
                                            params + fr_layer_offset_of(s, layer, FR_BIAS_HN), starts, of_columns,
                                            rows, H));
            break;
        case FR_LSTM:
            FR_RETURN_IF_BAD(fr_lstm_forward(h + next, aux + next, row, masked, h_before, aux + here, hh, starts,
                                             of_columns, rows, H));
            break;
        default:
            FR_RETURN_IF_BAD(fr_rnn_forward(h + next, masked, h_before, hh, starts, s.cell == FR_RNN_RELU, of_columns,
                                            rows, H));
        }
    }
    fr_copy_units(state_h, h + last, of_columns, rows, H);
    if (s.cell == FR_LSTM)
        fr_copy_units(state_c, aux + last, of_columns, rows, H);
    return FR_OK;
}

/* The same for all batch rows of a worker. */
static inline fr_status fr_recurrence_forward(real *trace, const real *packed, const real *params, fr_window x,
                                              int64_t layer, fr_worker worker, fr_sizes s)
{
    const fr_worker of_rows = fr_of_rows(worker, s);
    const int64_t end = fr_part_start(s.B, of_rows.part + 1, of_rows.parts);
    for (int64_t b = fr_part_start(s.B, of_rows.part, of_rows.parts); b < end; b += FR_STRETCH)
        FR_RETURN_IF_BAD(fr_recurrence_forward_rows(trace, packed, params, x, layer, b, fr_min(FR_STRETCH, end - b),
                                                    worker, s));
    return FR_OK;
}

static inline fr_status fr_layers_forward(real *trace, const real *packed, const real *params, fr_window x,
                                          fr_worker worker, fr_sizes s)
{
    for (int64_t l = 0; l < s.L; l++) {
        if (fr_is_dense(s, l)) {
            if (l > 0)
                FR_RETURN_IF_BAD(fr_barrier_wait(fr_of_rows(worker, s)));
            FR_RETURN_IF_BAD(fr_layer_input(trace, params, x, l, worker, s));
            FR_RETURN_IF_BAD(fr_barrier_wait(fr_of_columns(worker, s)));
            FR_RETURN_IF_BAD(fr_input_projection(trace, packed, params, l, worker, s));
            FR_RETURN_IF_BAD(fr_barrier_wait(fr_of_rows(worker, s)));
        }
        FR_RETURN_IF_BAD(fr_recurrence_forward(trace, packed, params, x, l, worker, s));
    }
    return FR_OK;
}

#endif
