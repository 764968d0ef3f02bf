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

static inline void pack_forward(real *packed, const real *params, Team team, Sizes s)
{
    const int64_t part = team.part, parts = team.parts, O = s.G * s.H;
    for (int64_t l = 0; l < s.L; l++) {
        const real *ih = params + layer_place_of(s, l, FR_WEIGHT_IH), *hh = params + layer_place_of(s, l, FR_WEIGHT_HH);
        if (is_dense(s, l))
            FR(pack)(packed + layer_place_of(s, l, FR_IH_T), ih, 1, part, parts, inputs_of(s, l), O);
        FR(pack)(packed + layer_place_of(s, l, FR_HH_T), hh, 1, part, parts, s.H, O);
    }
    FR(pack)(packed + place_of(s, FR_HEAD_T), params + place_of(s, FR_HEAD_WEIGHT), 1, part, parts, s.H, s.V);
}

/* Drops a part of what some rows of a layer hand up, from row n on; without dropout they hand up h itself. */
static inline fr_status hand_up(real *trace, Dropout d, int64_t layer, int64_t n, int64_t rows, Sizes s)
{
    if (d.rate == 0)
        return FR_OK;
    const real *h = trace + layer_place_of(s, layer, FR_H) + (s.B + n) * s.H;
    return FR(dropout)(trace + layer_place_of(s, layer, FR_UP) + n * s.H, h, d.rate, d.key, d.update, layer, n, rows,
                       s.B, s.H);
}

/* The input's share of the gates of a dense layer, for some of the rows of all steps. */
static inline fr_status take_inputs(real *trace, const real *packed, const real *params, const int32_t *inputs,
                                    Dropout d, int64_t layer, Team team, Sizes s)
{
    const int64_t N = s.T * s.B, end = fr_part(N, team.part + 1, team.parts), I = inputs_of(s, layer), O = s.G * s.H;
    real *x = trace + (layer > 0 ? layer_place_of(s, layer - 1, FR_UP) : place_of(s, FR_X));
    real *gates = trace + layer_place_of(s, layer, FR_GATES);
    const real *ih = packed + layer_place_of(s, layer, FR_IH_T), *bias = params + layer_place_of(s, layer, FR_GATE_BIAS);
    for (int64_t n = fr_part(N, team.part, team.parts); n < end; n += FR_STRETCH) {
        const int64_t rows = fr_min(FR_STRETCH, end - n);
        RETURN_IF_BAD(fr_go_on(team));
        if (layer > 0)
            RETURN_IF_BAD(hand_up(trace, d, layer - 1, n, rows, s));
        else
            RETURN_IF_BAD(FR(embedding_forward)(x + n * I, params + place_of(s, FR_EMBEDDING_WEIGHT), inputs + n, rows,
                                                s.V, I));
        RETURN_IF_BAD(FR(linear_forward)(gates + n * O, x + n * I, ih, bias, rows, I, O));
    }
    return FR_OK;
}

/* The recurrence of a layer, for batch rows from `first` on: carries the state. */
static inline fr_status run_rows(real *trace, real *state, const real *packed, const real *params,
                                 const int32_t *inputs, const uint8_t *starts, int64_t layer, int64_t first,
                                 int64_t rows, Team team, Sizes s)
{
    const int64_t B = s.B, H = s.H, O = s.G * H, last = (s.T * B + first) * H;
    const size_t bytes = (size_t)(rows * H) * sizeof(real);
    const real *weight_ih = params + layer_place_of(s, layer, FR_WEIGHT_IH);
    const real *bias = params + layer_place_of(s, layer, FR_GATE_BIAS);
    const real *bias_hn = params + layer_place_of(s, layer, FR_BIAS_HN);
    const real *hh = packed + layer_place_of(s, layer, FR_HH_T);
    real *running = trace + place_of(s, FR_RUNNING) + (first + team.part) * (s.G + 1) * H;
    real *h = trace + layer_place_of(s, layer, FR_H), *inner = trace + layer_place_of(s, layer, FR_INNER);
    real *gates = trace + layer_place_of(s, layer, FR_GATES);
    real *state_h = state + (layer * B + first) * H, *state_c = state_h + s.L * B * H;
    memcpy(h + first * H, state_h, bytes);
    if (s.cell == FR_LSTM)
        memcpy(inner + first * H, state_c, bytes);
    for (int64_t t = 0; t < s.T; t++) {
        const int64_t n = t * B + first, here = n * H, next = here + B * H;
        real *x = gates + n * O;
        RETURN_IF_BAD(fr_go_on(team));
        if (!is_dense(s, layer))
            RETURN_IF_BAD(FR(gather_forward)(x, weight_ih, bias, inputs + n, rows, s.V, O));
        switch (s.cell) {
        case FR_GRU:
            FR(gru_forward)(h + next, inner + here, x, running, h + here, hh, bias_hn, starts + n, rows, H);
            break;
        case FR_LSTM:
            FR(lstm_forward)(h + next, inner + next, x, running, h + here, inner + here, hh, starts + n, rows, H);
            break;
        default:
            FR(rnn_forward)(h + next, running, h + here, hh, starts + n, s.cell == FR_RNN_RELU, rows, H);
        }
    }
    memcpy(state_h, h + last, bytes);
    if (s.cell == FR_LSTM)
        memcpy(state_c, inner + last, bytes);
    return FR_OK;
}

/* The same for all batch rows of a part. */
static inline fr_status run_layer(real *trace, real *state, const real *packed, const real *params,
                                  const int32_t *inputs, const uint8_t *starts, int64_t layer, Team team, Sizes s)
{
    const int64_t end = fr_part(s.B, team.part + 1, team.parts);
    for (int64_t b = fr_part(s.B, team.part, team.parts); b < end; b += FR_STRETCH)
        RETURN_IF_BAD(run_rows(trace, state, packed, params, inputs, starts, layer, b, fr_min(FR_STRETCH, end - b), team, s));
    return FR_OK;
}

static inline fr_status run_layers(real *trace, real *state, const real *packed, const real *params,
                                   const int32_t *inputs, const uint8_t *starts, Dropout d, Team team, Sizes s)
{
    for (int64_t l = 0; l < s.L; l++) {
        if (is_dense(s, l)) {
            if (l > 0)
                RETURN_IF_BAD(fr_wait_for_all(team));
            RETURN_IF_BAD(take_inputs(trace, packed, params, inputs, d, l, team, s));
            RETURN_IF_BAD(fr_wait_for_all(team));
        }
        RETURN_IF_BAD(run_layer(trace, state, packed, params, inputs, starts, l, team, s));
    }
    return FR_OK;
}

#endif
