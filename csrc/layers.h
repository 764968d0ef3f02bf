/* layers.h: the forward pass of the layers over a window, for training and inference. */
#ifndef FASTRNN_LAYERS_H
#define FASTRNN_LAYERS_H

#include <string.h>

#include "fastrnn.h"
#include "matmul.h"
#include "team.h"
#include "views.h"

/* The dropout mask of a window; if `dropout` is 0, there is none. */
typedef struct {
    double dropout;
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

static inline void fr_pack_forward(real *packed, const real *params, fr_worker worker, fr_sizes s)
{
    const int64_t part = worker.part, parts = worker.parts, O = s.G * s.H;
    for (int64_t l = 0; l < s.L; l++) {
        const real *ih = params + fr_layer_offset_of(s, l, FR_WEIGHT_IH),
                   *hh = params + fr_layer_offset_of(s, l, FR_WEIGHT_HH);
        if (fr_is_dense(s, l))
            FR(pack)(packed + fr_layer_offset_of(s, l, FR_IH_T), ih, 1, part, parts, fr_inputs_of(s, l), O);
        FR(pack)(packed + fr_layer_offset_of(s, l, FR_HH_T), hh, 1, part, parts, s.H, O);
    }
    FR(pack)(packed + fr_offset_of(s, FR_HEAD_T), params + fr_offset_of(s, FR_HEAD_WEIGHT), 1, part, parts, s.H, s.V);
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

/* The input's share of a dense layer's gates, for a worker's part of the T·B rows. */
static inline fr_status fr_input_projection(real *trace, const real *packed, const real *params, fr_window x,
                                            int64_t layer, fr_worker worker, fr_sizes s)
{
    const int64_t N = s.T * s.B, end = fr_part_start(N, worker.part + 1, worker.parts), I = fr_inputs_of(s, layer),
                  O = s.G * s.H;
    real *in = trace + (layer > 0 ? fr_layer_offset_of(s, layer - 1, FR_OUTPUT) : fr_offset_of(s, FR_X));
    real *gates = trace + fr_layer_offset_of(s, layer, FR_GATES);
    const real *ih = packed + fr_layer_offset_of(s, layer, FR_IH_T),
               *bias = params + fr_layer_offset_of(s, layer, FR_GATE_BIAS);
    for (int64_t n = fr_part_start(N, worker.part, worker.parts); n < end; n += FR_STRETCH) {
        const int64_t rows = fr_min(FR_STRETCH, end - n);
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        if (layer > 0)
            FR_RETURN_IF_BAD(fr_apply_dropout(trace, x.dropout, layer - 1, n, rows, s));
        else
            FR_RETURN_IF_BAD(FR(embedding_forward)(in + n * I, params + fr_offset_of(s, FR_EMBEDDING_WEIGHT),
                                                   x.inputs + n, rows, s.V, I));
        FR_RETURN_IF_BAD(FR(linear_forward)(gates + n * O, in + n * I, ih, bias, rows, I, O));
    }
    return FR_OK;
}

/* The recurrence of a layer, for `rows` batch rows from `first` on. It carries the state. */
static inline fr_status fr_recurrence_forward_rows(real *trace, const real *packed, const real *params, fr_window x,
                                                   int64_t layer, int64_t first, int64_t rows, fr_worker worker,
                                                   fr_sizes s)
{
    const int64_t B = s.B, H = s.H, O = s.G * H, last = (s.T * B + first) * H;
    const size_t bytes = (size_t)(rows * H) * sizeof(real);
    const real *weight_ih = params + fr_layer_offset_of(s, layer, FR_WEIGHT_IH);
    const real *bias = params + fr_layer_offset_of(s, layer, FR_GATE_BIAS);
    const real *hh = packed + fr_layer_offset_of(s, layer, FR_HH_T);
    real *masked = trace + fr_offset_of(s, FR_MASKED) + (first + worker.part) * (s.G + 1) * H;
    real *h = trace + fr_layer_offset_of(s, layer, FR_H),
         *aux = fr_optional(trace, fr_layer_offset_of(s, layer, FR_AUX));
    real *gates = trace + fr_layer_offset_of(s, layer, FR_GATES);
    real *state_h = x.state + (layer * B + first) * H, *state_c = state_h + s.L * B * H;
    memcpy(h + first * H, state_h, bytes);
    if (s.cell == FR_LSTM)
        memcpy(aux + first * H, state_c, bytes);
    for (int64_t t = 0; t < s.T; t++) {
        const int64_t n = t * B + first, here = n * H, next = here + B * H;
        const uint8_t *starts = x.starts + n;
        real *row = gates + n * O;
        FR_RETURN_IF_BAD(fr_check_abort(worker));
        if (!fr_is_dense(s, layer))
            FR_RETURN_IF_BAD(FR(gather_forward)(row, weight_ih, bias, x.inputs + n, rows, s.V, O));
        switch (s.cell) {
        case FR_GRU:
            FR(gru_forward)(h + next, aux + here, row, masked, h + here, hh,
                            params + fr_layer_offset_of(s, layer, FR_BIAS_HN), starts, rows, H);
            break;
        case FR_LSTM:
            FR(lstm_forward)(h + next, aux + next, row, masked, h + here, aux + here, hh, starts, rows, H);
            break;
        default:
            FR(rnn_forward)(h + next, masked, h + here, hh, starts, s.cell == FR_RNN_RELU, rows, H);
        }
    }
    memcpy(state_h, h + last, bytes);
    if (s.cell == FR_LSTM)
        memcpy(state_c, aux + last, bytes);
    return FR_OK;
}

/* The same for all batch rows of a worker. */
static inline fr_status fr_recurrence_forward(real *trace, const real *packed, const real *params, fr_window x,
                                              int64_t layer, fr_worker worker, fr_sizes s)
{
    const int64_t end = fr_part_start(s.B, worker.part + 1, worker.parts);
    for (int64_t b = fr_part_start(s.B, worker.part, worker.parts); b < end; b += FR_STRETCH)
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
                FR_RETURN_IF_BAD(fr_barrier_wait(worker));
            FR_RETURN_IF_BAD(fr_input_projection(trace, packed, params, x, l, worker, s));
            FR_RETURN_IF_BAD(fr_barrier_wait(worker));
        }
        FR_RETURN_IF_BAD(fr_recurrence_forward(trace, packed, params, x, l, worker, s));
    }
    return FR_OK;
}

#endif
