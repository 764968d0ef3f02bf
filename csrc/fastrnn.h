/* fastrnn.h: the contract. It states every kernel of fastrnn once; backends/reference.py and
 * backends/numba/ hold the same kernels under the same names, with the same arguments in the same
 * order, and a test reads this file and compares the three.
 *
 * It is not a library for others to link: memory, checks and errors belong to the Python side.
 *
 * Dimension letters:  T time steps of a window · B batch rows · V vocabulary · H hidden units · L layers
 *                     E elements of an embedding, 0 where the input is one-hot
 *                     G gates of a cell (1 rnn, 3 gru, 4 lstm) · Z arrays of a state (2 lstm, else 1)
 *                     N rows of a product, T·B for a window · I inputs · O outputs of a linear map
 *                     K rows and J columns of the right operand of a product
 *                     n elements of a flat vector, M moments of each, P parameters of a network
 *                     W windows, S steps of the streams that they are cut from · A averages, 0 or 1
 *                     Xp: X rounded up to whole panels of a packed matrix, to a multiple of FR_MAX_NR
 *
 * Conventions
 *  - Outputs come first, then inputs, then sizes. Arrays are C-contiguous; `(+=)` is added to,
 *    `(in, out)` is read and replaced, `(scratch)` holds nothing before or after the call.
 *  - Each kernel exists for `real` = float, fr_name_f32, and for `real` = double, fr_name_f64.
 *  - The caller allocates. A kernel never allocates, prints, exits or keeps anything.
 *  - Arrays do not overlap unless it is said that they may.
 *  - A kernel with `part` and `parts` does one part of its work; all the parts together do it all, in any
 *    order or at the same time, and no result depends on how many there are.
 *  - Losses are sums in nats, and are double for either `real`.
 *  - The compiled kernels are one fixed sequence of IEEE operations each, with the same bits for any
 *    instruction set: products as matmul.h says, functions as elementary.h does, sums in FR_SUMS
 *    interleaved parts.
 *  - States, gradients and moments are zero rather than tiny: below FR_TINY (FR_TINY² for sums of squares),
 *    so that no product of two of them is denormal, which is slow on many processors. Weights are as they
 *    are.
 *  - `starts` is 1 where a row begins anew: its state is zero before that step, and no gradient
 *    crosses. A target of -1 has no loss.
 *  - A kernel returns a status. After anything but FR_OK the outputs are undefined.
 */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stdint.h>

#include "real.h"

typedef int32_t fr_status;

enum {
    FR_OK = 0,
    FR_BAD_SIZE = 1,   /* a size is negative, or zero where it may not be */
    FR_BAD_SYMBOL = 2, /* an id outside 0 … V-1, or a target outside -1 … V-1 */
    FR_BAD_CHOICE = 3, /* a cell, an optimizer or a function that does not exist */
    FR_ABORTED = 4     /* the caller or another part ended the call */
};

/* Functions, as `elementary` numbers them. */
enum { FR_EXP = 0, FR_TANH = 1, FR_SIGMOID = 2, FR_LOG = 3 };

/* Rows of B and of A that a product works on at a time (BLIS's KC and MC); columns of the widest panel of a packed
 * matrix, of any instruction set; rows that the head works on at a time; rows after which a part of a window asks
 * whether it is to end, whole blocks; the interleaved partial sums of a reduction: element i goes into sum
 * i mod FR_SUMS, and these are added up in halves. */
enum { FR_KC = 256, FR_MC = 96, FR_MAX_NR = 32, FR_ROWS = 64, FR_STRETCH = 1024, FR_SUMS = 16 };

/* States, gradients and moments below this are set to zero, and sums of squares below its square. */
#define FR_TINY FR_BY_PRECISION(0x1p-60f, 0x1p-500)

/* Cells, by PyTorch's names. */
enum { FR_RNN_TANH = 0, FR_RNN_RELU = 1, FR_GRU = 2, FR_LSTM = 3, FR_CELL_KINDS = 4 };

/* What `plan` says of a network: its cell and sizes, the number of the cell's gates, the size of its parameters,
 * the steps whose logits are held at a time; then where arrays begin, in the parameters and in a workspace, -1 for
 * an array that is absent. core/plan.py makes it. */
enum {
    FR_CELL = 0, FR_LAYERS = 1, FR_VOCABULARY = 2, FR_EMBEDDING = 3, FR_HIDDEN = 4, FR_GATE_COUNT = 5,
    FR_PARAMETERS = 6, FR_HEAD_STEPS = 7,
    FR_TIED = 8,             /* 1 where the head's weight is the embedding's, else 0 */
    FR_EMBEDDING_WEIGHT = 9, /* (V, E), where E > 0 */
    FR_HEAD_WEIGHT = 10,     /* (V, H), which may be the embedding's */
    FR_HEAD_BIAS = 11,       /* (V) */
    FR_HEAD_T = 12,          /* head.weightᵀ packed (H, Vp) */
    FR_HEAD = 13,            /* head.weight packed (V, Hp) */
    FR_BLOCKS = 14,          /* (parts, FR_KC, max(E, H)p) */
    FR_X = 15,               /* (T, B, E), where E > 0: rows of the embedding */
    FR_MASKED = 16,          /* (B+parts, (G+1)·H) */
    FR_DC = 17,              /* (B, H), of an lstm */
    FR_DX = 18,              /* (T, B, E), where E > 0 */
    FR_LOGITS = 19,          /* (head steps, B, V), or (FR_ROWS, V) */
    FR_ZEROS = 20,           /* (max(E, H)) */
    FR_LAYER = 21            /* and of each layer, one after the other: */
};
enum {
    FR_WEIGHT_IH = 0, /* (G·H, I); of a one-hot input (V, G·H), the public one transposed */
    FR_WEIGHT_HH = 1, /* (G·H, H) */
    FR_GATE_BIAS = 2, /* (G·H) */
    FR_BIAS_HN = 3,   /* (H), of a gru */
    FR_IH_T = 4,      /* W_ihᵀ packed (I, G·Hp), where the input is a product */
    FR_HH_T = 5,      /* W_hhᵀ packed (H, G·Hp) */
    FR_IH = 6,        /* W_ih packed (G·H, Ip) */
    FR_HH = 7,        /* W_hh packed (G·H, Hp) */
    FR_H = 8,         /* (T+1, B, H): its first step is the state before the window */
    FR_AUX = 9,       /* (T+1, B, H): the lstm's c, likewise; the gru's u, from the first step on */
    FR_GATES = 10,    /* (T, B, G·H): those of an rnn begin where h will be */
    FR_OUTPUT = 11,   /* (T, B, H): its output with dropout; without dropout, h itself */
    FR_DH = 12,       /* (T, B, H) */
    FR_DGATES = 13,   /* (T, B, G·H): they take the place of the gates, in an rnn of dh */
    FR_LAYER_PLAN = 14
};

/* What the parts of a window share to wait for each other: three counters, each on a cache line of its
 * own. They begin as zeros. Setting the last one to 1 makes all parts return FR_ABORTED after at most FR_STRETCH
 * rows. */
enum { FR_BARRIER = 48, FR_ARRIVED = 0, FR_GENERATION = 16, FR_ABORT = 32 };

/* Optimizers, as train_windows numbers them, and the width of a row of their settings. */
enum { FR_SGD = 0, FR_ADAGRAD = 1, FR_ADAM = 2, FR_RMSPROP = 3, FR_SETTINGS = 6 };

/* What a window's gradient is that of: the sum of its losses, their mean over the targets, or the sum divided
 * by the number of rows. */
enum { FR_SUM = 0, FR_MEAN = 1, FR_BATCHMEAN = 2 };

/* ---- Elementary functions ------------------------------------------------------------------------
 *
 * Within 2.5 units in the last place over the whole range; NaN stays NaN. */

/* y_i = f(x_i), where f is one of FR_EXP, FR_TANH, FR_SIGMOID (1 / (1 + e⁻ˣ)) and FR_LOG. */
fr_status FR(elementary)(
    real *y,       /* (n) */
    const real *x, /* (n) */
    int64_t function, int64_t n);

/* ---- Linear maps ------------------------------------------------------------------------------ */

/* Packs B (K, J) for a product A B: `weight` itself, or its transpose. How it lies in `packed` is the
 * backend's own business. */
fr_status FR(pack)(
    real *packed,       /* (K, Jp) */
    const real *weight, /* (K, J), or with `transposed` (J, K) */
    int64_t transposed, int64_t part, int64_t parts, int64_t K, int64_t J);

/* y_n = weight[ids_n]. */
fr_status FR(embedding_forward)(
    real *y,            /* (N, O) */
    const real *weight, /* (V, O) */
    const int32_t *ids, /* (N) */
    int64_t N, int64_t V, int64_t O);

/* Its gradient: dweight[ids_n] += dy_n, in the order of n. A part is some of the columns. */
fr_status FR(embedding_gradients)(
    real *dweight,      /* (V, O) (+=) */
    const real *dy,     /* (N, O) */
    const int32_t *ids, /* (N) */
    int64_t part, int64_t parts, int64_t N, int64_t V, int64_t O);

/* The product of one-hot inputs with a weight: y_n = weight[ids_n] + bias. */
fr_status FR(gather_forward)(
    real *y,            /* (N, O) */
    const real *weight, /* (V, O) */
    const real *bias,   /* (O) */
    const int32_t *ids, /* (N) */
    int64_t N, int64_t V, int64_t O);

/* Its gradients: dweight[ids_n] += dy_n and dbias += dy_n, in the order of n. A part is some of the columns. */
fr_status FR(gather_gradients)(
    real *dweight,      /* (V, O) (+=) */
    real *dbias,        /* (O) (+=) */
    const real *dy,     /* (N, O) */
    const int32_t *ids, /* (N) */
    int64_t part, int64_t parts, int64_t N, int64_t V, int64_t O);

/* y = bias + x B, with B (I, O) packed. */
fr_status FR(linear_forward)(
    real *y,            /* (N, O) */
    const real *x,      /* (N, I) */
    const real *packed, /* (I, Op): B */
    const real *bias,   /* (O) */
    int64_t N, int64_t I, int64_t O);

/* The gradients of the parameters of y = x weightᵀ + bias: dweight += dyᵀ x and dbias += Σ_n dy_n, in the
 * order of n. A part is some of the outputs. */
fr_status FR(linear_gradients)(
    real *dweight,  /* (O, I) (+=) */
    real *dbias,    /* (O) (+=) */
    real *block,    /* (FR_KC, Ip) (scratch) */
    const real *dy, /* (N, O) */
    const real *x,  /* (N, I) */
    int64_t part, int64_t parts, int64_t N, int64_t I, int64_t O);

/* The gradient of a recurrent weight: dweight_hh += Σ dyᵀ h_before over the N steps and rows of a window,
 * where h_before is zeros in a row that starts. A part is some of the outputs. */
fr_status FR(recurrent_gradients)(
    real *dweight_hh,      /* (O, H) (+=) */
    real *block,           /* (FR_KC, Hp) (scratch) */
    const real *dy,        /* (N, O) */
    const real *h_before,  /* (N, H) */
    const uint8_t *starts, /* (N) */
    int64_t part, int64_t parts, int64_t N, int64_t H, int64_t O);

/* Dropout (Srivastava et al. 2014): y = x / (1 - dropout) where an element is kept, and 0 elsewhere.
 * Row n is batch row n mod B of step n div B. With Q = ⌈H/4⌉, element w·Q + j is kept where word w of
 * Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011), with the low and high half of dropout_seed as its key and
 * (layer·Q + j, batch row, step, update) as its counter, is at least dropout · 2³². */
fr_status FR(dropout)(
    real *y,       /* (N, H), which may be `x` itself */
    const real *x, /* (N, H) */
    double dropout, int64_t dropout_seed, int64_t update, int64_t layer,
    int64_t first, /* the number of the first row */
    int64_t N, int64_t B, int64_t H);

/* ---- Cells: one layer, one step ------------------------------------------------------------------
 *
 * The gates begin as the input's share with the bias, x W_ihᵀ + b, and h_before is the state that a step
 * continues from; a row that starts continues from zeros. σ is the sigmoid, ⊙ the product of elements.
 * Backwards, what reaches h comes in as dh, and what goes on to the step before is added to dh_before where
 * `carried` is not 0, but not for the rows that start. */

/* h = f(x + W_hh h_before) (Elman 1990), where f is tanh, or with `relu` max(0, ·) (Le, Jaitly & Hinton
 * 2015). */
fr_status FR(rnn_forward)(
    real *h,               /* (B, H) (in, out): the gate x; then h */
    real *masked,          /* (B, H) (scratch) */
    const real *h_before,  /* (B, H) */
    const real *packed,    /* (H, Hp): W_hhᵀ */
    const uint8_t *starts, /* (B) */
    int64_t relu, int64_t B, int64_t H);

/* dx = f'(h) ⊙ dh, dh_before += W_hhᵀ dx. */
fr_status FR(rnn_backward)(
    real *dh,              /* (B, H) (in, out): then dx */
    real *dh_before,       /* (B, H) (+=) */
    real *masked,          /* (B, H) (scratch) */
    const real *h,         /* (B, H) */
    const real *packed,    /* (H, Hp): W_hh */
    const uint8_t *starts, /* (B) */
    int64_t relu, int64_t carried, int64_t B, int64_t H);

/* The GRU of PyTorch and ONNX, which resets after the product (Cho et al. 2014):
 * r = σ(x_r + W_hr h_before), z = σ(x_z + W_hz h_before), u = b_hn + W_hn h_before,
 * n = tanh(x_n + r ⊙ u), h = (1 - z) ⊙ n + z ⊙ h_before. */
fr_status FR(gru_forward)(
    real *h,               /* (B, H) */
    real *u,               /* (B, H) */
    real *gates,           /* (B, 3H) (in, out): x; then r, z, n */
    real *masked,          /* (B+1, 4H) (scratch) */
    const real *h_before,  /* (B, H) */
    const real *packed,    /* (H, 3Hp): W_hhᵀ */
    const real *bias_hn,   /* (H) */
    const uint8_t *starts, /* (B) */
    int64_t B, int64_t H);

/* dn = (1 - z) ⊙ (1 - n²) ⊙ dh, dz = z ⊙ (1 - z) ⊙ (h_before - n) ⊙ dh, dr = r ⊙ (1 - r) ⊙ u ⊙ dn,
 * du = r ⊙ dn, dh_before += z ⊙ dh + W_hhᵀ (dr, dz, du). */
fr_status FR(gru_backward)(
    real *dh_before,       /* (B, H) (+=) */
    real *gates,           /* (B, 3H) (in, out): r, z, n; then dx */
    real *u,               /* (B, H) (in, out): then du */
    real *masked,          /* (B, 4H) (scratch) */
    const real *dh,        /* (B, H) */
    const real *h_before,  /* (B, H) */
    const real *packed,    /* (3H, Hp): W_hh */
    const uint8_t *starts, /* (B) */
    int64_t carried, int64_t B, int64_t H);

/* dweight_hh += Σ (dr, dz, du)ᵀ h_before and dbias_hn += Σ du over the N steps and rows of a window, of whose
 * dx = (dr, dz, dn). A part is some of the outputs. */
fr_status FR(gru_gradients)(
    real *dweight_hh,      /* (3H, H) (+=) */
    real *dbias_hn,        /* (H) (+=) */
    real *block,           /* (FR_KC, Hp) (scratch) */
    const real *dx,        /* (N, 3H) */
    const real *du,        /* (N, H) */
    const real *h_before,  /* (N, H) */
    const uint8_t *starts, /* (N) */
    int64_t part, int64_t parts, int64_t N, int64_t H);

/* The LSTM (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000):
 * i, f, o = σ(x + W_h h_before) and g = tanh(x_g + W_hg h_before), each of its own rows of the weight,
 * c = f ⊙ c_before + i ⊙ g, h = o ⊙ tanh(c). */
fr_status FR(lstm_forward)(
    real *h,               /* (B, H) */
    real *c,               /* (B, H) */
    real *gates,           /* (B, 4H) (in, out): x; then i, f, g, o */
    real *masked,          /* (B, H) (scratch) */
    const real *h_before,  /* (B, H) */
    const real *c_before,  /* (B, H) */
    const real *packed,    /* (H, 4Hp): W_hhᵀ */
    const uint8_t *starts, /* (B) */
    int64_t B, int64_t H);

/* dc += o ⊙ (1 - tanh(c)²) ⊙ dh, di = i ⊙ (1 - i) ⊙ g ⊙ dc, df = f ⊙ (1 - f) ⊙ c_before ⊙ dc,
 * dg = (1 - g²) ⊙ i ⊙ dc, do = o ⊙ (1 - o) ⊙ tanh(c) ⊙ dh, dc_before = f ⊙ dc,
 * dh_before += W_hhᵀ (di, df, dg, do). */
fr_status FR(lstm_backward)(
    real *dh_before,       /* (B, H) (+=) */
    real *dc,              /* (B, H) (in, out): what reaches c; then dc_before, 0 where a row starts */
    real *gates,           /* (B, 4H) (in, out): i, f, g, o; then dx */
    real *masked,          /* (B, 4H) (scratch) */
    const real *dh,        /* (B, H) */
    const real *c,         /* (B, H) */
    const real *c_before,  /* (B, H) */
    const real *packed,    /* (4H, Hp): W_hh */
    const uint8_t *starts, /* (B) */
    int64_t carried, int64_t B, int64_t H);

/* ---- Head -------------------------------------------------------------------------------------- */

/* Cross-entropy of the softmax of each row, the largest logit subtracted first:
 * losses_n = -ln p_n[target_n] and dlogits_n = scale (p_n - onehot(target_n)); both are zero where the
 * target is -1. Where a logit is NaN, so is the loss. */
fr_status FR(cross_entropy)(
    double *losses,         /* (N) */
    real *dlogits,          /* (N, V), which may be `logits` itself */
    const real *logits,     /* (N, V) */
    const int32_t *targets, /* (N) */
    double scale, int64_t N, int64_t V);

/* ---- Clipping and updates, over flat vectors ----------------------------------------------------
 *
 * An element of the gradient is clipped to between -limit and limit, and for an update then multiplied by
 * `scale`. An infinite limit clips nothing. A part of an update is a range of the parameters. */

/* The Euclidean norm of the clipped gradient. */
fr_status FR(gradient_norm)(
    double *norm,      /* (1) */
    const real *grads, /* (n) */
    double limit, int64_t n);

/* p -= learning_rate · g, or, where momentum is not 0 (Sutskever et al. 2013, as PyTorch has it),
 * m = momentum · m + g, p -= learning_rate · (a · g + b · m).
 * settings: learning_rate, momentum, a, b; these are 0, 1, or for Nesterov's momentum 1, momentum */
fr_status FR(sgd_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (M, n) (in, out): m, and none where momentum is 0 */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    double limit, double scale, int64_t part, int64_t parts, int64_t n);

/* Adagrad (Duchi, Hazan & Singer 2011): m += g², p -= learning_rate · g / (√m + epsilon).
 * settings: learning_rate, epsilon */
fr_status FR(adagrad_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (1, n) (in, out): m */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    double limit, double scale, int64_t part, int64_t parts, int64_t n);

/* Adam (Kingma & Ba 2015), the corrections of both moments' bias folded into the settings, and AdamW (Loshchilov
 * & Hutter 2019), where keep is not 1: m = β₁m + (1-β₁)g, v = β₂v + (1-β₂)g²,
 * p = keep · p - step · m / (√v / correction + epsilon).
 * settings: step = learning_rate / (1-β₁ᵏ), β₁, β₂, epsilon, correction = √(1-β₂ᵏ), at update k,
 * keep = 1 - learning_rate · weight decay */
fr_status FR(adam_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (2, n) (in, out): m, v */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    double limit, double scale, int64_t part, int64_t parts, int64_t n);

/* RMSprop (Tieleman & Hinton 2012): m = α m + (1-α)g², p -= learning_rate · g / (√m + epsilon).
 * settings: learning_rate, α, epsilon */
fr_status FR(rmsprop_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (1, n) (in, out): m */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    double limit, double scale, int64_t part, int64_t parts, int64_t n);

/* A running mean of the parameters: average = (1 - weight) · average + weight · params. */
fr_status FR(average_update)(
    real *average,      /* (n) (in, out) */
    const real *params, /* (n) */
    double weight, int64_t part, int64_t parts, int64_t n);

/* ---- The whole network: embedding or one-hot input, layers of one cell, linear head ----------------
 *
 * params, grads and workspaces are flat; a plan, which is made for at least so many steps, for these rows and
 * parts, says where arrays lie in them. A workspace is quickest where it begins with a cache line. A state has
 * (Z, L, B, H): h of each layer, and for the LSTM then c of each. */

/* Runs a window, and carries the state over it. The plan is one of ⌈FR_KC/B⌉ steps, or of T where that is
 * less. */
fr_status FR(network_forward)(
    real *logits,          /* (T, B, V) */
    real *state,           /* (Z, L, B, H) (in, out) */
    real *workspace,       /* flat (scratch) */
    const real *params,    /* (P) */
    const int32_t *inputs, /* (T, B) */
    const uint8_t *starts, /* (T, B) */
    const int64_t *plan,   /* flat */
    int64_t T, int64_t B);

/* The same, for the loss of each symbol. */
fr_status FR(network_losses)(
    double *losses,         /* (T, B) */
    real *state,            /* (Z, L, B, H) (in, out) */
    real *workspace,        /* flat (scratch) */
    const real *params,     /* (P) */
    const int32_t *inputs,  /* (T, B) */
    const int32_t *targets, /* (T, B) */
    const uint8_t *starts,  /* (T, B) */
    const int64_t *plan,    /* flat */
    int64_t T, int64_t B);

/* Forward and backward: the loss of each symbol, and the gradients of scale · Σ losses, with `dropout` as the
 * fraction of each layer's output that is set to zero.
 * No gradient enters from after the window, and none leaves to before it (truncated BPTT). The parts
 * run at the same time, on the same arrays, and wait for each other at `barrier`. */
fr_status FR(network_gradients)(
    double *losses,         /* (T, B) */
    real *grads,            /* (P) */
    real *state,            /* (Z, L, B, H) (in, out) */
    real *workspace,        /* flat (scratch) */
    int32_t *barrier,       /* (FR_BARRIER) (in, out) */
    const real *params,     /* (P) */
    const int32_t *inputs,  /* (T, B) */
    const int32_t *targets, /* (T, B) */
    const uint8_t *starts,  /* (T, B) */
    const int64_t *plan,    /* flat */
    double scale, double dropout, int64_t dropout_seed, int64_t update, int64_t part, int64_t parts, int64_t T,
    int64_t B);

/* Truncated BPTT: W updates of forward, backward, clip by value, clip by norm, update.
 * The streams are S steps long and are cut into ⌈S/T⌉ windows of T steps, the last one shorter where T
 * does not divide S. Update w takes window (first + w) mod ⌈S/T⌉; the state is carried from each
 * window to the next, over the end of the streams as well. `reduction` is FR_SUM, FR_MEAN or
 * FR_BATCHMEAN. It stops before the first update whose loss or gradient is not finite, and leaves the
 * parameters as they were; every later loss and norm is NaN. For dropout, update w has the number
 * first_update + w. The average of the parameters, where there is one, follows them after each update. Parts
 * are as in network_gradients. */
fr_status FR(train_windows)(
    double *losses,         /* (W): the sum of each window */
    double *norms,          /* (W): of each gradient, after the clip by value */
    double *symbol_losses,  /* (T, B) (scratch) */
    real *params,           /* (P) (in, out) */
    real *grads,            /* (P) (scratch) */
    real *moments,          /* (M, P) (in, out): as many as the optimizer has */
    real *average,          /* (A, P) (in, out) */
    real *state,            /* (Z, L, B, H) (in, out) */
    real *workspace,        /* flat (scratch) */
    int32_t *barrier,       /* (FR_BARRIER) (in, out) */
    const int32_t *inputs,  /* (S, B) */
    const int32_t *targets, /* (S, B) */
    const uint8_t *starts,  /* (S, B) */
    const double *settings, /* (W, FR_SETTINGS): a row for each update */
    const double *weights,  /* (W): of the parameters in their average, after each update */
    const int64_t *plan,    /* flat */
    int64_t optimizer, int64_t reduction, double value_limit, double norm_limit, double dropout,
    int64_t dropout_seed, int64_t first_update, int64_t first, int64_t part, int64_t parts, int64_t A, int64_t W,
    int64_t S, int64_t T, int64_t B);

/* ---- One symbol at a time ------------------------------------------------------------------------
 *
 * What is packed forward lies in `prepared`, which many streams may share, the rest in `scratch`. */

/* Packs what network_step and sample read. */
fr_status FR(network_prepare)(
    real *prepared,       /* flat (out) */
    const real *params,   /* (P) */
    const int64_t *plan   /* flat */
);

/* One step of B rows: the logits of what follows, and the state after it. */
fr_status FR(network_step)(
    real *logits,          /* (B, V) */
    real *state,           /* (Z, L, B, H) (in, out) */
    real *scratch,         /* flat (scratch) */
    const real *prepared,  /* flat */
    const real *params,    /* (P) */
    const int32_t *inputs, /* (B) */
    const uint8_t *starts, /* (B) */
    const int64_t *plan,   /* flat */
    int64_t B);

/* Draws n symbols, each from the softmax of logits / temperature: the first v with p_0 + … + p_v above
 * its uniform number times the sum of all; at temperature 0 the first of the largest logits. Each is the
 * input of the step that draws the next one. What comes after `stop_symbol` is `stop_symbol` as well. Where a
 * logit is not finite, that symbol and those after it are -1. */
fr_status FR(sample)(
    int32_t *symbols,       /* (n) */
    real *state,            /* (Z, L, 1, H) (in, out) */
    real *scratch,          /* flat (scratch) */
    real *logits,           /* (1, V) (scratch) */
    const real *prepared,   /* flat */
    const real *params,     /* (P) */
    const double *uniforms, /* (n): from 0 to below 1 */
    const uint8_t *starts,  /* (1): of each step */
    const int64_t *plan,    /* flat */
    double temperature, int64_t symbol_before, int64_t stop_symbol, int64_t n);

#endif
