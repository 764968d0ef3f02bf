/* layers.h: the layers of a network over a window, forward: what training and inference share. */
#ifndef FASTRNN_LAYERS_H
#define FASTRNN_LAYERS_H

#include <string.h>

#include "fastrnn.h"
#include "matmul.h"
#include "team.h"
#include "views.h"

/* Which mask a window has; a rate of 0 is no dropout. */
typedef struct {
    double rate;
    int64_t key, update;
} Dropout;

static inline void pack_forward(Packed packed, Parameters p, Team team, Sizes s)
{
    for (int64_t l = 0; l < s.L; l++) {
        const Layer y = layer_of(p, s, l);
        if (is_dense(s, l))
            FR(pack)(packed_ih(packed, s, l), y.weight_ih, 1, team.part, team.parts, inputs_of(s, l), s.G * s.H);
        FR(pack)(packed_hh(packed, s, l), y.weight_hh, 1, team.part, team.parts, s.H, s.G * s.H);
    }
    FR(pack)(packed_head(packed, s), p.head_weight, 1, team.part, team.parts, s.H, s.V);
}

/* What some rows of a layer hand up, from row n on: h, or with dropout a part of it. */
static inline fr_status hand_up(LayerTrace a, Dropout d, int64_t layer, int64_t n, int64_t rows, Sizes s)
{
    if (d.rate == 0)
        return FR_OK;
    return FR(dropout)(a.dropped + n * s.H, a.h + (s.B + n) * s.H, d.rate, d.key, d.update, layer, n, rows, s.B, s.H);
}

/* The input's share of the gates of a dense layer, for some of the rows of all steps. */
static inline fr_status take_inputs(Trace w, Packed packed, Parameters p, const int32_t *inputs, Dropout d,
                                    int64_t layer, Team team, Sizes s)
{
    const int64_t N = s.T * s.B, first = fr_part(N, team.part, team.parts);
    const int64_t rows = fr_part(N, team.part + 1, team.parts) - first, I = inputs_of(s, layer), O = s.G * s.H;
    const real *x = w.x;
    if (layer == 0) {
        RETURN_IF_BAD(FR(embedding_forward)(w.x + first * I, p.embedding, inputs + first, rows, s.V, I));
    } else {
        const LayerTrace below = layer_trace(w, s, d.rate > 0, layer - 1);
        RETURN_IF_BAD(hand_up(below, d, layer - 1, first, rows, s));
        x = below.dropped;
    }
    return FR(linear_forward)(layer_trace(w, s, d.rate > 0, layer).gates + first * O, x + first * I,
                              packed_ih(packed, s, layer), layer_of(p, s, layer).bias, rows, I, O);
}

/* One step of a cell, for `rows` batch rows from `first` on. */
static inline fr_status step_forward(LayerTrace a, const real *packed_hh, const real *bias_hn, real *running,
                                     const uint8_t *starts, int64_t t, int64_t first, int64_t rows, Sizes s)
{
    const int64_t at = (t * s.B + first) * s.H, next = at + s.B * s.H;
    real *gates = a.gates + at * s.G;
    switch (s.cell) {
    case FR_GRU:
        return FR(gru_forward)(a.h + next, a.inner + at, gates, running, a.h + at, packed_hh, bias_hn, starts, rows,
                               s.H);
    case FR_LSTM:
        return FR(lstm_forward)(a.h + next, a.inner + next, gates, running, a.h + at, a.inner + at, packed_hh, starts,
                                rows, s.H);
    default:
        return FR(rnn_forward)(a.h + next, running, a.h + at, packed_hh, starts, s.cell == FR_RNN_RELU, rows, s.H);
    }
}

/* The recurrence of a layer, for some of the batch rows: carries the state. */
static inline fr_status run_layer(Trace w, real *state, Packed packed, Parameters p, const int32_t *inputs,
                                  const uint8_t *starts, Dropout d, int64_t layer, Team team, Sizes s)
{
    const int64_t first = fr_part(s.B, team.part, team.parts), O = s.G * s.H;
    const int64_t rows = fr_part(s.B, team.part + 1, team.parts) - first;
    const size_t bytes = (size_t)(rows * s.H) * sizeof(real);
    const LayerTrace a = layer_trace(w, s, d.rate > 0, layer);
    const Layer y = layer_of(p, s, layer);
    real *running = w.running + first * (s.G + 1) * s.H;
    real *h = state + (layer * s.B + first) * s.H, *c = h + s.L * s.B * s.H;
    const int64_t last = (s.T * s.B + first) * s.H;
    memcpy(a.h + first * s.H, h, bytes);
    if (s.cell == FR_LSTM)
        memcpy(a.inner + first * s.H, c, bytes);
    for (int64_t t = 0; t < s.T; t++) {
        const int64_t n = t * s.B + first;
        if (!is_dense(s, layer))
            RETURN_IF_BAD(FR(gather_forward)(a.gates + n * O, y.weight_ih, y.bias, inputs + n, rows, s.V, O));
        RETURN_IF_BAD(step_forward(a, packed_hh(packed, s, layer), y.bias_hn, running, starts + n, t, first, rows, s));
    }
    memcpy(h, a.h + last, bytes);
    if (s.cell == FR_LSTM)
        memcpy(c, a.inner + last, bytes);
    return FR_OK;
}

static inline fr_status run_layers(Trace w, real *state, Packed packed, Parameters p, const int32_t *inputs,
                                   const uint8_t *starts, Dropout d, Team team, Sizes s)
{
    for (int64_t l = 0; l < s.L; l++) {
        if (is_dense(s, l)) {
            if (l > 0)
                RETURN_IF_BAD(fr_wait_for_all(team));
            RETURN_IF_BAD(take_inputs(w, packed, p, inputs, d, l, team, s));
            RETURN_IF_BAD(fr_wait_for_all(team));
        }
        RETURN_IF_BAD(run_layer(w, state, packed, p, inputs, starts, d, l, team, s));
    }
    return FR_OK;
}

#endif
