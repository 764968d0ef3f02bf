/* views.h: where the arrays of a network lie in its flat vectors. The order is that of layout.py. */
#ifndef FASTRNN_VIEWS_H
#define FASTRNN_VIEWS_H

#include "fastrnn.h"

#define RETURN_IF_BAD(call)          \
    do {                             \
        const fr_status bad = (call); \
        if (bad != FR_OK)            \
            return bad;              \
    } while (0)

/* The sizes of a network and of a window. */
typedef struct {
    int64_t cell, L, V, E, H, tied; /* what `shape` says */
    int64_t G;                      /* gates of the cell */
    int64_t T, B;
} Sizes;

static inline Sizes sizes_of(const int64_t *shape, int64_t T, int64_t B)
{
    const int64_t cell = shape[FR_CELL];
    Sizes s = {cell, shape[FR_LAYERS], shape[FR_VOCABULARY], shape[FR_EMBEDDING], shape[FR_HIDDEN], shape[FR_TIED],
               0, T, B};
    s.G = cell == FR_LSTM ? 4 : cell == FR_GRU ? 3 : 1;
    return s;
}

static inline fr_status bad_sizes(Sizes s)
{
    if (s.cell < FR_RNN_TANH || s.cell > FR_LSTM)
        return FR_BAD_CHOICE;
    if (s.T < 1 || s.B < 1 || s.L < 1 || s.V < 1 || s.E < 0 || s.H < 1 || (s.tied && s.E != s.H))
        return FR_BAD_SIZE;
    return FR_OK;
}

/* Whether the gates have memory of their own; those of an rnn begin where h will be. */
static inline int has_gates(Sizes s)
{
    return s.G > 1;
}

/* Whether the input of a layer is a product, and not a row of its weight. */
static inline int is_dense(Sizes s, int64_t layer)
{
    return layer > 0 || s.E > 0;
}

/* The elements that a layer takes in. */
static inline int64_t inputs_of(Sizes s, int64_t layer)
{
    return layer > 0 ? s.H : s.E > 0 ? s.E : s.V;
}

/* ---- Parameters, or their gradients ---------------------------------------------------------------- */

typedef struct {
    real *weight_ih; /* (G·H, I); of a one-hot input (V, G·H), the public one transposed */
    real *weight_hh; /* (G·H, H) */
    real *bias;      /* (G·H) */
    real *bias_hn;   /* (H), of a gru */
    real *end;
} Layer;

static inline Layer first_layer(real *flat, Sizes s, int64_t inputs)
{
    Layer p;
    p.weight_ih = flat;
    p.weight_hh = p.weight_ih + s.G * s.H * inputs;
    p.bias = p.weight_hh + s.G * s.H * s.H;
    p.bias_hn = p.bias + s.G * s.H;
    p.end = p.bias_hn + (s.cell == FR_GRU ? s.H : 0);
    return p;
}

typedef struct {
    real *embedding;   /* (V, E) */
    real *layers;
    real *head_weight; /* (V, H), which may be the embedding */
    real *head_bias;   /* (V) */
    int64_t n;
} Parameters;

static inline Layer layer_of(Parameters p, Sizes s, int64_t layer)
{
    const Layer first = first_layer(p.layers, s, inputs_of(s, 0));
    if (layer == 0)
        return first;
    const int64_t size = first_layer(first.end, s, s.H).end - first.end;
    return first_layer(first.end + (layer - 1) * size, s, s.H);
}

static inline Parameters parameters_of(real *flat, Sizes s)
{
    Parameters p;
    p.embedding = flat;
    p.layers = p.embedding + s.V * s.E;
    real *end = layer_of(p, s, s.L - 1).end;
    p.head_weight = s.tied ? p.embedding : end;
    p.head_bias = s.tied ? end : end + s.V * s.H;
    p.n = p.head_bias + s.V - flat;
    return p;
}

/* The kernels only read through views of constant vectors; one struct serves both. */
static inline Parameters const_parameters_of(const real *flat, Sizes s)
{
    return parameters_of((real *)(uintptr_t)flat, s);
}

/* ---- Weights as right operands of products, packed ---------------------------------------------------- */

/* Elements of a packed matrix of K rows and J columns. */
static inline int64_t packed_size(int64_t K, int64_t J)
{
    return K * ((J + 31) / 32 * 32);
}

/* Those of the forward pass, W_ihᵀ (I, G·H), where it is a product, and W_hhᵀ (H, G·H) of each layer, then
 * head.weightᵀ (H, V); or those of the backward pass, W_ih (G·H, I), W_hh (G·H, H) and head.weight (V, H). */
typedef struct {
    real *flat;
    int backward;
} Packed;

static inline real *packed_ih(Packed p, Sizes s, int64_t layer)
{
    const int64_t O = s.G * s.H;
    const int64_t first = s.E == 0 ? 0 : p.backward ? packed_size(O, s.E) : packed_size(s.E, O);
    const int64_t square = p.backward ? packed_size(O, s.H) : packed_size(s.H, O);
    return layer == 0 ? p.flat : p.flat + first + (2 * layer - 1) * square;
}

static inline real *packed_hh(Packed p, Sizes s, int64_t layer)
{
    const int64_t O = s.G * s.H;
    const int64_t square = p.backward ? packed_size(O, s.H) : packed_size(s.H, O);
    return layer == 0 ? packed_ih(p, s, 1) - square : packed_ih(p, s, layer) + square;
}

static inline real *packed_head(Packed p, Sizes s)
{
    return packed_ih(p, s, s.L);
}

static inline real *end_of_packed(Packed p, Sizes s)
{
    return packed_head(p, s) + (p.backward ? packed_size(s.V, s.H) : packed_size(s.H, s.V));
}

/* ---- What is kept of a window ------------------------------------------------------------------------- */

typedef struct {
    real *x;       /* (T, B, E): the embedding's rows */
    real *layers;
    real *running; /* (B, (G+1)·H) */
    real *end;
} Trace;

/* What is kept of a layer. */
typedef struct {
    real *h;       /* (T+1, B, H): its first step is the state before the window */
    real *inner;   /* (T+1, B, H): the lstm's c, likewise; the gru's u, from the first step on; not the rnn's */
    real *gates;   /* (T, B, G·H): those of an rnn begin in h */
    real *dropped; /* (T, B, H): what h hands up, with dropout; else h itself */
    real *end;
} LayerTrace;

static inline LayerTrace layer_trace(Trace w, Sizes s, int dropout, int64_t layer)
{
    const int64_t step = s.B * s.H, states = (s.T + 1) * step;
    const int64_t inner = has_gates(s) ? states : 0, gates = has_gates(s) ? s.T * s.G * step : 0;
    LayerTrace a;
    a.h = w.layers + layer * (states + inner + gates + (dropout ? s.T * step : 0));
    a.inner = a.h + states;
    a.gates = has_gates(s) ? a.inner + inner : a.h + step;
    real *end = a.inner + inner + gates;
    a.dropped = dropout ? end : a.h + step;
    a.end = end + (dropout ? s.T * step : 0);
    return a;
}

static inline Trace trace_of(real *flat, Sizes s, int dropout)
{
    Trace w;
    w.x = flat;
    w.layers = w.x + s.T * s.B * s.E;
    w.running = layer_trace(w, s, dropout, s.L - 1).end;
    w.end = w.running + s.B * (s.G + 1) * s.H;
    return w;
}

/* The steps whose logits are held at a time. */
static inline int64_t head_steps(Sizes s)
{
    const int64_t most = FR_LOGITS / s.B / s.V;
    return most < 1 ? 1 : most < s.T ? most : s.T;
}

/* Views into the workspace of a window, forward and backward. What is packed comes first, since a tile reads
 * it in whole vectors, which is quickest where they begin with a cache line: the workspace does, and their
 * sizes are multiples of one. */
typedef struct {
    Packed forward, backward;
    real *block; /* (parts, FR_BLOCK, max(E, H)32) */
    Trace trace;
    real *dh;    /* (T, B, H); an rnn's layers, whose gates' gradients take its place, have one each */
    real *dc;    /* (B, H), of an lstm */
    real *dx;    /* (T, B, E) */
    real *logits; /* (head_steps, B, V) */
    real *zeros; /* (max(E, H)) */
} Workspace;

static inline Workspace workspace_of(real *flat, int64_t parts, int dropout, Sizes s)
{
    const int64_t widest = s.E > s.H ? s.E : s.H;
    Workspace w;
    w.forward = (Packed){flat, 0};
    w.backward = (Packed){end_of_packed(w.forward, s), 1};
    w.block = end_of_packed(w.backward, s);
    w.trace = trace_of(w.block + parts * packed_size(FR_BLOCK, widest), s, dropout);
    w.dh = w.trace.end;
    w.dc = w.dh + (has_gates(s) ? 1 : s.L) * s.T * s.B * s.H;
    w.dx = w.dc + (s.cell == FR_LSTM ? s.B * s.H : 0);
    w.logits = w.dx + s.T * s.B * s.E;
    w.zeros = w.logits + head_steps(s) * s.B * s.V;
    return w;
}

/* Where the gradient of a layer's h is, and that of its gates. */
static inline real *layer_dh(Workspace w, Sizes s, int64_t layer)
{
    return has_gates(s) ? w.dh : w.dh + layer * s.T * s.B * s.H;
}

static inline real *layer_dgates(Workspace w, Sizes s, LayerTrace a, int64_t layer)
{
    return has_gates(s) ? a.gates : layer_dh(w, s, layer);
}

#endif
