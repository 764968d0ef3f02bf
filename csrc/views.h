/* views.h: the sizes of a network and the offsets of its arrays, read from a plan. */
#ifndef FASTRNN_VIEWS_H
#define FASTRNN_VIEWS_H

#include <stddef.h>

#include "fastrnn.h"

#define FR_RETURN_IF_BAD(call)          \
    do {                             \
        const fr_status bad = (call); \
        if (bad != FR_OK)            \
            return bad;              \
    } while (0)

typedef struct {
    const int64_t *plan;
    int64_t cell, L, V, E, H;
    int64_t G; /* gates of the cell */
    int64_t T, B;
} fr_sizes;

static inline fr_sizes fr_sizes_of(const int64_t *plan, int64_t T, int64_t B)
{
    const fr_sizes s = {plan, plan[FR_CELL], plan[FR_LAYERS], plan[FR_VOCABULARY], plan[FR_EMBEDDING],
                        plan[FR_HIDDEN], plan[FR_GATE_COUNT], T, B};
    return s;
}

static inline fr_status fr_bad_sizes(fr_sizes s)
{
    if (s.cell < 0 || s.cell >= FR_CELL_KINDS)
        return FR_BAD_CHOICE;
    return s.T < 1 || s.B < 1 || s.L < 1 || s.V < 1 || s.E < 0 || s.H < 1 ? FR_BAD_SIZE : FR_OK;
}

/* The offset of an array of the network, or of a layer. */
static inline int64_t fr_offset_of(fr_sizes s, int64_t field)
{
    return s.plan[field];
}

static inline int64_t fr_layer_offset_of(fr_sizes s, int64_t layer, int64_t field)
{
    return s.plan[FR_LAYER + layer * FR_LAYER_PLAN + field];
}

/* An array of a plan, or NULL where it is absent. */
static inline real *fr_optional(real *base, int64_t offset)
{
    return offset >= 0 ? base + offset : NULL;
}

/* Whether a layer multiplies its input by its weight. Else the input is one-hot, and selects a row of the weight. */
static inline int fr_is_dense(fr_sizes s, int64_t layer)
{
    return layer > 0 || s.E > 0;
}

/* The size of a layer's input. */
static inline int64_t fr_inputs_of(fr_sizes s, int64_t layer)
{
    return layer > 0 ? s.H : s.E > 0 ? s.E : s.V;
}

/* The size of a packed matrix of K rows and J columns. */
static inline int64_t fr_packed_size(int64_t K, int64_t J)
{
    return K * ((J + FR_MAX_NR - 1) / FR_MAX_NR * FR_MAX_NR);
}

#endif
