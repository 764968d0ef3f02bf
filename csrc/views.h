/* views.h: where the arrays of a network lie in its flat vectors. The order of the fields is that of
 * layout.py. */
#ifndef FASTRNN_VIEWS_H
#define FASTRNN_VIEWS_H

#include "fastrnn.h"

#define RETURN_IF_BAD(call)          \
    do {                             \
        const fr_status bad = (call); \
        if (bad != FR_OK)            \
            return bad;              \
    } while (0)

typedef struct {
    int64_t T, B, V, H;
} Sizes;

/* Views into one flat vector of parameters, or of their gradients. */
typedef struct {
    real *weight_ih;   /* (V, H), the public weight_ih_l0 transposed */
    real *weight_hh;   /* (H, H) */
    real *bias;        /* (H) */
    real *head_weight; /* (V, H) */
    real *head_bias;   /* (V) */
    int64_t n;
} Parameters;

static inline Parameters parameters_of(real *flat, Sizes s)
{
    Parameters p;
    p.weight_ih = flat;
    p.weight_hh = p.weight_ih + s.V * s.H;
    p.bias = p.weight_hh + s.H * s.H;
    p.head_weight = p.bias + s.H;
    p.head_bias = p.head_weight + s.V * s.H;
    p.n = p.head_bias + s.V - flat;
    return p;
}

/* The kernels only read through views of constant vectors; one struct serves both. */
static inline Parameters const_parameters_of(const real *flat, Sizes s)
{
    return parameters_of((real *)(uintptr_t)flat, s);
}

/* Elements of a packed matrix of K rows and J columns. */
static inline int64_t packed_size(int64_t K, int64_t J)
{
    return K * ((J + 31) / 32 * 32);
}

/* The weights as right operands of products, packed. */
typedef struct {
    real *hh_t;   /* W_hhᵀ (H, H), forward */
    real *head_t; /* head.weightᵀ (H, V), forward */
    real *hh;     /* W_hh (H, H), backward */
    real *head;   /* head.weight (V, H), backward */
    real *end;
} Packed;

static inline Packed packed_of(real *flat, Sizes s)
{
    Packed p;
    p.hh_t = flat;
    p.head_t = p.hh_t + packed_size(s.H, s.H);
    p.hh = p.head_t + packed_size(s.H, s.V);
    p.head = p.hh + packed_size(s.H, s.H);
    p.end = p.head + packed_size(s.V, s.H);
    return p;
}

/* Views into one flat workspace. What is packed comes first, since a tile reads it in whole vectors, which
 * is quickest where they begin with a cache line: the workspace does, and their sizes are multiples of one. */
typedef struct {
    Packed packed;
    real *block;   /* (parts, FR_BLOCK, H32) */
    real *h;       /* (T+1, B, H) */
    real *dh;      /* (T, B, H) */
    real *logits;  /* (T, B, V) */
    real *running; /* (B, H) */
    real *zeros;   /* (H) */
} Workspace;

static inline Workspace workspace_of(real *flat, int64_t parts, Sizes s)
{
    Workspace w;
    w.packed = packed_of(flat, s);
    w.block = w.packed.end;
    w.h = w.block + parts * packed_size(FR_BLOCK, s.H);
    w.dh = w.h + (s.T + 1) * s.B * s.H;
    w.logits = w.dh + s.T * s.B * s.H;
    w.running = w.logits + s.T * s.B * s.V;
    w.zeros = w.running + s.B * s.H;
    return w;
}

#endif
