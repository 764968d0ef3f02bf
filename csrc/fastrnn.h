/* fastrnn.h: the contract. It states every kernel of fastrnn once. backends/reference.py and
 * backends/numba/ hold the same kernels, with the same names and the same arguments in the same order.
 * A test reads this file and compares the three.
 *
 * It is not a library for others to link: memory, checks and errors belong to the Python side.
 *
 * Dimension letters:  T time steps of a window · B batch rows · V vocabulary · H hidden units · L layers
 *                     E elements of an embedding, 0 where the input is one-hot
 *                     G gates of a cell (1 rnn, 3 gru, 4 lstm) · Z arrays of a state (2 lstm, else 1)
 *                     N rows of a product, T·B for a window · I inputs · O outputs of a linear map
 *                     K rows and J columns of the right operand of a product
 *                     n elements of a flat vector, M moments of each element, P parameters of a network
 *                     W windows, S steps of the streams that the windows are cut from · A averages, 0 or 1
 *                     R ranges of the parameters that are trained
 *                     D symbols that were drawn before · Q states of an automaton
 *                     F symbols of the longest context that is counted · C nodes of a table of counts, Y of one
 *                     that learns · U(C): the least power of two that is not below 2·C
 *                     Xp: X rounded up to whole panels of a packed matrix, to a multiple of FR_MAX_NR
 *
 * Conventions
 *  - Outputs come first, then inputs, then sizes. Arrays are C-contiguous; `(+=)` is added to,
 *    `(in, out)` is read and replaced, `(scratch)` holds nothing before or after the call.
 *  - Each kernel exists for `real` = float, fr_name_f32, and for `real` = double, fr_name_f64. One without `real`
 *    exists once, as fr_name.
 *  - The caller allocates. A kernel never allocates, prints, exits or keeps anything.
 *  - Arrays do not overlap, unless a comment allows it.
 *  - A kernel with `part` and `parts` does one part of its work. The parts may run in any order or at the
 *    same time. Their number changes no result.
 *  - Losses are sums in nats, and are double for either `real`.
 *  - Each compiled kernel is one fixed sequence of IEEE operations, with the same bits for any instruction
 *    set: products as in matmul.h, functions as in elementary.h, sums as FR_SUMS interleaved partial sums.
 *  - States, gradients and moments below FR_TINY (FR_TINY² for sums of squares) are set to zero. So no
 *    product of two of them is denormal; denormal numbers are slow on many processors. Weights are not
 *    changed in this way.
 *  - `starts` is 1 where a row starts anew: its state is zero before that step, and no gradient goes
 *    back across it. A target of -1 has no loss.
 *  - A kernel returns a status. After anything but FR_OK the outputs are undefined.
 */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stdint.h>

#include "real.h"

typedef int32_t fr_status;

enum {
    FR_OK = 0,
    FR_BAD_SIZE = 1,   /* a size is negative, or is zero where zero is not allowed */
    FR_BAD_SYMBOL = 2, /* an id outside 0 … V-1, or a target outside -1 … V-1 */
    FR_BAD_CHOICE = 3, /* a cell, an optimizer or a function that does not exist */
    FR_ABORTED = 4     /* the caller or another worker ended the call */
};

/* The numbers of the functions, for `elementary`. */
enum { FR_EXP = 0, FR_TANH = 1, FR_SIGMOID = 2, FR_LOG = 3 };

/* FR_KC, FR_MC: the rows of B and of A that a product works on at a time, BLIS's KC and MC. FR_MAX_NR: the columns of
 * the widest panel of a packed matrix, of any instruction set. FR_ROWS: the rows that the head works on at a time.
 * FR_STRETCH: a worker checks for an abort after so many rows, a multiple of FR_KC, and FR_PIECE: after about so many
 * multiply-adds, which take about 20 ms. FR_MOVE: the multiply-adds in the time of which memory for a number is read
 * or written. FR_SUMS: the partial sums of a reduction; element i is added to sum i mod FR_SUMS, and sums.h adds
 * these up. */
enum {
    FR_KC = 256, FR_MC = 96, FR_MAX_NR = 32, FR_ROWS = 64, FR_STRETCH = 1024, FR_PIECE = 1000000000, FR_MOVE = 128,
    FR_SUMS = 16
};

/* States, gradients and moments below this are set to zero, and sums of squares below its square. */
#define FR_TINY FR_BY_PRECISION(0x1p-60f, 0x1p-500)

/* The number of the layer whose masks of one unit are those of the inputs, for `dropout`. */
enum { FR_INPUTS = 2147483647 };

/* Cells, by PyTorch's names. */
enum { FR_RNN_TANH = 0, FR_RNN_RELU = 1, FR_GRU = 2, FR_LSTM = 3, FR_CELL_KINDS = 4 };

/* The fields of a `plan`: the cell and the sizes of a network, the number of the cell's gates, the size of its
 * parameters, the steps whose logits are in memory at a time, what workers share; then the offsets of arrays in the parameters and in a
 * workspace, -1 for an array that is absent. core/plan.py makes it. */
enum {
    FR_CELL = 0, FR_LAYERS = 1, FR_VOCABULARY = 2, FR_EMBEDDING = 3, FR_HIDDEN = 4, FR_GATE_COUNT = 5,
    FR_PARAMETERS = 6, FR_HEAD_STEPS = 7,
    FR_TIED = 8,              /* 1 where the head's weight is the embedding's, else 0 */
    FR_BY_COLUMNS = 9,        /* 1 where workers share the columns of a recurrence's products, 0 where batch rows */
    FR_EMBEDDING_WEIGHT = 10, /* (V, E), where E > 0 */
    FR_HEAD_WEIGHT = 11,      /* (V, H); where weights are tied, that of the embedding */
    FR_HEAD_BIAS = 12,        /* (V) */
    FR_HEAD_T = 13,           /* head.weightᵀ packed (H, Vp) */
    FR_HEAD = 14,             /* head.weight packed (V, Hp) */
    FR_BLOCKS = 15,           /* (parts, FR_KC, max(E, H)p) */
    FR_X = 16,                /* (T, B, E), where E > 0: rows of the embedding */
    FR_MASKED = 17,           /* (B+parts, (G+1)·H), or by columns (parts, B+1, (G+1)·H) */
    FR_DC = 18,               /* (B, H), lstm only */
    FR_DX = 19,               /* (T, B, E), where E > 0 */
    FR_LOGITS = 20,           /* (head steps, B, V), or (parts, FR_ROWS, V) */
    FR_ZEROS = 21,            /* (max(E, H)) */
    FR_LAYER = 22             /* from here on the fields below, once for each layer */
};
enum {
    FR_WEIGHT_IH = 0, /* (G·H, I); for a one-hot input (V, G·H), the transpose of the public one */
    FR_WEIGHT_HH = 1, /* (G·H, H) */
    FR_GATE_BIAS = 2, /* (G·H) */
    FR_BIAS_HN = 3,   /* (H), gru only */
    FR_IH_T = 4,      /* W_ihᵀ packed (I, G·Hp), if the input is not one-hot */
    FR_HH_T = 5,      /* W_hhᵀ packed (H, G·Hp) */
    FR_IH = 6,        /* W_ih packed (G·H, Ip) */
    FR_HH = 7,        /* W_hh packed (G·H, Hp) */
    FR_H = 8,         /* (T+1, B, H): first the state before the window */
    FR_AUX = 9,       /* (T+1, B, H): lstm: c, first the one before the window; gru: u, in the first T steps */
    FR_GATES = 10,    /* (T, B, G·H): in an rnn, the memory of h from its second step on */
    FR_OUTPUT = 11,   /* (T, B, H): the output after dropout; without dropout, h itself */
    FR_DH = 12,       /* (T, B, H) */
    FR_DGATES = 13,   /* (T, B, G·H): in the memory of the gates; in an rnn, of dh */
    FR_LAYER_PLAN = 14
};

/* The barrier at which the workers of a window wait for each other: three counters, each on its own cache line.
 * They begin as zeros. When the last one is set to 1, the workers return FR_ABORTED after about FR_PIECE multiply-adds.
 * An update of parameters that one worker has begun is done by all workers to its end. */
enum { FR_BARRIER = 48, FR_ARRIVED = 0, FR_GENERATION = 16, FR_ABORT = 32 };

/* The numbers of the optimizers, for train_windows, and the length of a row of their settings. */
enum { FR_SGD = 0, FR_ADAGRAD = 1, FR_ADAM = 2, FR_RMSPROP = 3, FR_SETTINGS = 6 };

/* The columns of a row of settings: the first one of every optimizer, then those of each. */
enum {
    FR_LEARNING_RATE = 0,
    FR_SGD_MOMENTUM = 1, FR_SGD_OF_GRADIENT = 2, FR_SGD_OF_MOMENT = 3,
    FR_ADAGRAD_EPSILON = 1,
    FR_ADAM_BETA1 = 1, FR_ADAM_BETA2 = 2, FR_ADAM_EPSILON = 3, FR_ADAM_CORRECTION = 4, FR_ADAM_KEEP = 5,
    FR_RMSPROP_ALPHA = 1, FR_RMSPROP_EPSILON = 2
};

/* The reduction of a window's losses, whose gradient is taken: their sum, their mean over the targets, or their sum
 * divided by the number of batch rows. */
enum { FR_SUM = 0, FR_MEAN = 1, FR_BATCHMEAN = 2 };

/* ---- Elementary functions ------------------------------------------------------------------------
 *
 * The error is below 2.5 ulp over the whole range. NaN stays NaN. */

/* y_i = f(x_i), where f is one of FR_EXP, FR_TANH, FR_SIGMOID (1 / (1 + e⁻ˣ)) and FR_LOG. */
fr_status FR(elementary)(
    real *y,       /* (n) */
    const real *x, /* (n) */
    int64_t function, int64_t n);

/* ---- Linear maps ------------------------------------------------------------------------------ */

/* Packs B (K, J) for a product A B: `weight` itself, or its transpose. Each backend chooses the order of the
 * elements in `packed`. */
fr_status FR(pack)(
    real *packed,       /* (K, Jp) */
    const real *weight, /* (K, J), or (J, K) if `transposed` */
    int64_t transposed, int64_t part, int64_t parts, int64_t K, int64_t J);

/* y_n = weight[ids_n]. */
fr_status FR(embedding_forward)(
    real *y,            /* (N, O) */
    const real *weight, /* (V, O) */
    const int32_t *ids, /* (N) */
    int64_t N, int64_t V, int64_t O);

/* The gradient of embedding_forward: dweight[ids_n] += dy_n, in the order of n. A part is some of the columns. */
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

/* The gradients of gather_forward: dweight[ids_n] += dy_n and dbias += dy_n, in the order of n. A part is some of
 * the columns. */
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
 * where h_before is zero in a row that starts. A part is some of the outputs. */
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
    real *y,       /* (N, H), may be `x` itself */
    const real *x, /* (N, H) */
    double dropout, int64_t dropout_seed, int64_t update, int64_t layer,
    int64_t first, /* the number of the first row */
    int64_t N, int64_t B, int64_t H);

/* ---- Cells: one layer, one step ------------------------------------------------------------------
 *
 * x = input W_ihᵀ + b is the input's share of the gates, with the bias. h_before is the state before the step; it
 * counts as zero in a row that starts. σ is the sigmoid, ⊙ the elementwise product.
 * A backward kernel takes the gradient of h as dh. It adds the gradient of h_before to dh_before if `carried` is
 * not 0, except in rows that start. */

/* h = f(x + W_hh h_before) (Elman 1990), where f is tanh, or max(0, ·) if `relu` is not 0 (Le, Jaitly &
 * Hinton 2015). */
fr_status FR(rnn_forward)(
    real *h,               /* (B, H) (in, out): x before, h after */
    real *masked,          /* (B, H) (scratch) */
    const real *h_before,  /* (B, H) */
    const real *packed,    /* (H, Hp): W_hhᵀ */
    const uint8_t *starts, /* (B) */
    int64_t relu, int64_t B, int64_t H);

/* dx = f'(h) ⊙ dh, dh_before += W_hhᵀ dx. */
fr_status FR(rnn_backward)(
    real *dh,              /* (B, H) (in, out): dx after */
    real *dh_before,       /* (B, H) (+=) */
    real *masked,          /* (B, H) (scratch) */
    const real *h,         /* (B, H) */
    const real *packed,    /* (H, Hp): W_hh */
    const uint8_t *starts, /* (B) */
    int64_t relu, int64_t carried, int64_t B, int64_t H);

/* The GRU of PyTorch and ONNX, whose reset gate multiplies after the product (Cho et al. 2014):
 * r = σ(x_r + W_hr h_before), z = σ(x_z + W_hz h_before), u = b_hn + W_hn h_before,
 * n = tanh(x_n + r ⊙ u), h = (1 - z) ⊙ n + z ⊙ h_before. */
fr_status FR(gru_forward)(
    real *h,               /* (B, H) */
    real *u,               /* (B, H) */
    real *gates,           /* (B, 3H) (in, out): x before; r, z, n after */
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
    real *gates,           /* (B, 3H) (in, out): r, z, n before; dx after */
    real *u,               /* (B, H) (in, out): du after */
    real *masked,          /* (B, 4H) (scratch) */
    const real *dh,        /* (B, H) */
    const real *h_before,  /* (B, H) */
    const real *packed,    /* (3H, Hp): W_hh */
    const uint8_t *starts, /* (B) */
    int64_t carried, int64_t B, int64_t H);

/* dweight_hh += Σ (dr, dz, du)ᵀ h_before and dbias_hn += Σ du over the N steps and rows of a window, where
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
 * i, f, o = σ(x + W_h h_before) and g = tanh(x_g + W_hg h_before), each with its own part of x and rows of W_h,
 * c = f ⊙ c_before + i ⊙ g, h = o ⊙ tanh(c). */
fr_status FR(lstm_forward)(
    real *h,               /* (B, H) */
    real *c,               /* (B, H) */
    real *gates,           /* (B, 4H) (in, out): x before; i, f, g, o after */
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
    real *dc,              /* (B, H) (in, out): dc before; dc_before after, 0 where a row starts */
    real *gates,           /* (B, 4H) (in, out): i, f, g, o before; dx after */
    real *masked,          /* (B, 4H) (scratch) */
    const real *dh,        /* (B, H) */
    const real *c,         /* (B, H) */
    const real *c_before,  /* (B, H) */
    const real *packed,    /* (4H, Hp): W_hh */
    const uint8_t *starts, /* (B) */
    int64_t carried, int64_t B, int64_t H);

/* ---- Head -------------------------------------------------------------------------------------- */

/* The cross-entropy of the softmax p_n of each row, computed after the largest logit is subtracted:
 * losses_n = -ln p_n[target_n] and dlogits_n = scale (p_n - onehot(target_n)). Both are zero where the
 * target is -1. The loss is NaN where a logit is NaN. */
fr_status FR(cross_entropy)(
    double *losses,         /* (N) */
    real *dlogits,          /* (N, V), may be `logits` itself */
    const real *logits,     /* (N, V) */
    const int32_t *targets, /* (N) */
    double scale, int64_t N, int64_t V);

/* ---- Clipping and updates, over flat vectors ----------------------------------------------------
 *
 * Each element of the gradient is clipped to the range from -limit to limit. An update then multiplies it by
 * `scale`. An infinite limit clips nothing. An update changes the elements from `begin` up to `end`. */

/* The Euclidean norm of the clipped gradient. */
fr_status FR(gradient_norm)(
    double *norm,      /* (1) */
    const real *grads, /* (n) */
    double limit, int64_t n);

/* Without momentum: p -= learning_rate · g. With momentum (Sutskever et al. 2013, as in PyTorch):
 * m = momentum · m + g, p -= learning_rate · (a · g + b · m).
 * a = FR_SGD_OF_GRADIENT and b = FR_SGD_OF_MOMENT are 0 and 1, or for Nesterov's momentum 1 and momentum. */
fr_status FR(sgd_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (M, n) (in, out): m; M = 0 if momentum is 0 */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    double limit, double scale, int64_t begin, int64_t end, int64_t n);

/* Adagrad (Duchi, Hazan & Singer 2011): m += g², p -= learning_rate · g / (√m + epsilon). */
fr_status FR(adagrad_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (1, n) (in, out): m */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    double limit, double scale, int64_t begin, int64_t end, int64_t n);

/* Adam (Kingma & Ba 2015), and AdamW (Loshchilov & Hutter 2019) if keep is not 1. The settings contain the bias
 * corrections of both moments: m = β₁m + (1-β₁)g, v = β₂v + (1-β₂)g²,
 * p = keep · p - step · m / (√v / correction + epsilon). At update k the column of the learning rate has
 * step = learning_rate / (1-β₁ᵏ); correction = √(1-β₂ᵏ), keep = 1 - learning_rate · weight decay. */
fr_status FR(adam_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (2, n) (in, out): m, v */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    double limit, double scale, int64_t begin, int64_t end, int64_t n);

/* RMSprop (Tieleman & Hinton 2012): m = α m + (1-α)g², p -= learning_rate · g / (√m + epsilon). */
fr_status FR(rmsprop_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (1, n) (in, out): m */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    double limit, double scale, int64_t begin, int64_t end, int64_t n);

/* A running mean of the parameters: average = (1 - weight) · average + weight · params. */
fr_status FR(average_update)(
    real *average,      /* (n) (in, out) */
    const real *params, /* (n) */
    double weight, int64_t begin, int64_t end, int64_t n);

/* ---- The whole network: embedding or one-hot input, layers of one cell, linear head ----------------
 *
 * params, grads and workspaces are flat. A plan says where arrays lie in them; it is made for at least T steps, for
 * B rows and for the number of parts. A workspace is fastest if it begins at a cache line. A state (Z, L, B, H) is
 * h of each layer; for the LSTM, c of each layer follows. */

/* The logits of a window, and the state after it. The plan is made for min(T, ⌈FR_KC/B⌉) steps.
 * All parts run at the same time, each in a worker of its own, on the same arrays; the workers wait for each other at
 * `barrier`. */
fr_status FR(network_forward)(
    real *logits,          /* (T, B, V) */
    real *state,           /* (Z, L, B, H) (in, out) */
    real *workspace,       /* flat (scratch) */
    int32_t *barrier,      /* (FR_BARRIER) (in, out) */
    const real *params,    /* (P) */
    const int32_t *inputs, /* (T, B) */
    const uint8_t *starts, /* (T, B) */
    const int64_t *plan,   /* flat */
    int64_t part, int64_t parts, int64_t T, int64_t B);

/* The same as network_forward, with the loss of each symbol in place of the logits. */
fr_status FR(network_losses)(
    double *losses,         /* (T, B) */
    real *state,            /* (Z, L, B, H) (in, out) */
    real *workspace,        /* flat (scratch) */
    int32_t *barrier,       /* (FR_BARRIER) (in, out) */
    const real *params,     /* (P) */
    const int32_t *inputs,  /* (T, B) */
    const int32_t *targets, /* (T, B) */
    const uint8_t *starts,  /* (T, B) */
    const int64_t *plan,    /* flat */
    int64_t part, int64_t parts, int64_t T, int64_t B);

/* Forward and backward: the loss of each symbol, and the gradients of scale · Σ losses, with `dropout` as the
 * fraction of each layer's output that is set to zero, and `input_dropout` as that of the inputs, where E > 0: the
 * embedding of a symbol is dropped as a whole, as `dropout` drops elements of one unit in the layer FR_INPUTS.
 * No gradient crosses the start or the end of the window (truncated BPTT). Parts are as in network_forward. */
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
    double scale, double dropout, double input_dropout, int64_t dropout_seed, int64_t update, int64_t part,
    int64_t parts, int64_t T, int64_t B);

/* Truncated BPTT: W updates of forward, backward, clip by value, clip by norm, update.
 * The streams are S steps long and are cut into ⌈S/T⌉ windows of T steps; the last one is shorter if T does not
 * divide S. Update w takes window (first + w) mod ⌈S/T⌉. The state is carried from each window to the next, also
 * from the last window to the first. `reduction` is FR_SUM, FR_MEAN or FR_BATCHMEAN. Training stops before the
 * first update whose loss or gradient is not finite, and does not change the parameters further; every later loss
 * and norm is NaN. For dropout, update w has the number first_update + w. If A is 1, the average is updated after
 * each update of the parameters. Parameters outside of the ranges are frozen: neither they, nor their moments, nor
 * their average change, and their gradients count as zero. Parts are as in network_forward. */
fr_status FR(train_windows)(
    double *losses,         /* (W): the sum of the losses of each window */
    double *norms,          /* (W): the norm of each gradient after clipping by value */
    double *symbol_losses,  /* (T, B) (scratch) */
    real *params,           /* (P) (in, out) */
    real *grads,            /* (P) (scratch) */
    real *moments,          /* (M, P) (in, out) */
    real *average,          /* (A, P) (in, out) */
    real *state,            /* (Z, L, B, H) (in, out) */
    real *workspace,        /* flat (scratch) */
    int32_t *barrier,       /* (FR_BARRIER) (in, out) */
    const int32_t *inputs,  /* (S, B) */
    const int32_t *targets, /* (S, B) */
    const uint8_t *starts,  /* (S, B) */
    const double *settings, /* (W, R, FR_SETTINGS): a row for each update and range */
    const double *average_weights, /* (W): the weight of average_update for each update */
    const int64_t *ranges,  /* (R, 2): where each range begins and ends, in ascending order */
    const int64_t *plan,    /* flat */
    int64_t optimizer, int64_t reduction, double value_limit, double norm_limit, double dropout,
    double input_dropout, int64_t dropout_seed, int64_t first_update, int64_t first, int64_t part, int64_t parts,
    int64_t A, int64_t R, int64_t W, int64_t S, int64_t T, int64_t B);

/* ---- One symbol at a time ------------------------------------------------------------------------
 *
 * `prepared` holds the packed weights; many streams may share it. `scratch` holds all else. */

/* Packs what network_step, network_read and sample read. A part is some panels of each weight. */
fr_status FR(network_prepare)(
    real *prepared,       /* flat (out) */
    const real *params,   /* (P) */
    const int64_t *plan,  /* flat */
    int64_t part, int64_t parts);

/* One step of B rows: the logits of the next symbol, and the state after the step. Parts are as in
 * network_forward; each writes some of the logits. */
fr_status FR(network_step)(
    real *logits,          /* (B, V) */
    real *state,           /* (Z, L, B, H) (in, out) */
    real *scratch,         /* flat (scratch) */
    int32_t *barrier,      /* (FR_BARRIER) (in, out) */
    const real *prepared,  /* flat */
    const real *params,    /* (P) */
    const int32_t *inputs, /* (B) */
    const uint8_t *starts, /* (B) */
    const int64_t *plan,   /* flat */
    int64_t part, int64_t parts, int64_t B);

/* The same as network_losses, with weights that network_prepare packed, and with losses in units of so many nats. They
 * are added to the totals in the order of the steps. The plan is made for at least min(T, ⌈FR_KC/B⌉) steps. The arrays
 * (T, B) may be the first steps of longer ones. Inputs and targets may overlap: each target is the next input. */
fr_status FR(network_read)(
    double *losses,         /* (T, B) */
    double *totals,         /* (B) (+=) */
    real *state,            /* (Z, L, B, H) (in, out) */
    real *scratch,          /* flat (scratch) */
    int32_t *barrier,       /* (FR_BARRIER) (in, out) */
    const real *prepared,   /* flat */
    const real *params,     /* (P) */
    const int32_t *inputs,  /* (T, B) */
    const int32_t *targets, /* (T, B) */
    const uint8_t *starts,  /* (T, B) */
    const int64_t *plan,    /* flat */
    double unit, int64_t part, int64_t parts, int64_t T, int64_t B);

/* In place of a symbol, with a minus: a logit of the row is not finite, or the row is complete. */
enum { FR_OVERFLOW = 1, FR_COMPLETE = 2 };

/* Draws the next n symbols of B rows. Each symbol is the input of its row's next step.
 *
 * Which symbols may be drawn: an automaton has Q states; `transitions` has the state after each symbol, or -1, and
 * `distances` the fewest symbols from each state to an accepting one. A symbol may be drawn if the row can still be
 * accepted within `room` symbols in all, counted from the first of this call on. If none may be drawn, the row is
 * complete. With Q = 0 all may be drawn at any time. If `ngram` is above 0, a symbol that would end an n-gram of this
 * length which the row's symbols already have is not drawn, unless all that may be drawn are such.
 *
 * How they are drawn: the logit of each symbol among the last `window` of the row is divided by `penalty` if it is
 * positive, else multiplied (Keskar et al. 2019). With e = exp((logits - largest) / temperature) of those that may be
 * drawn, and symbols in the order of descending e, of equal ones the first symbol first: the first `top_k` are kept;
 * of these, the fewest whose sum is at least top_p · Σe (Holtzman et al. 2020), if top_p < 1; of these, those with
 * e ≥ min_p (Nguyen et al. 2024). Of what is kept, in the order of the symbols, the first v with
 * e_0 + … + e_v > u · Σe, where u is the uniform number of the symbol. Sums are double. At temperature 0, the first
 * of the largest logits.
 *
 * After `stop_symbol`, -FR_OVERFLOW or -FR_COMPLETE, all symbols of the row are the same. Parts are as in
 * network_forward. */
fr_status FR(sample)(
    int32_t *symbols,           /* (D+n, B) (in, out): first D earlier symbols of each row */
    int32_t *inputs,            /* (B) (in, out): the input of the next step */
    int32_t *places,            /* (B) (in, out): the state of the automaton */
    real *state,                /* (Z, L, B, H) (in, out) */
    real *scratch,              /* flat (scratch) */
    real *logits,               /* (B, V) (scratch) */
    int32_t *order,             /* (B, V) (scratch) */
    int32_t *barrier,           /* (FR_BARRIER) (in, out) */
    const real *prepared,       /* flat */
    const real *params,         /* (P) */
    const double *uniforms,     /* (n, B): from 0 to below 1 */
    const uint8_t *starts,      /* (B): the same at each step */
    const int32_t *transitions, /* (Q, V) */
    const int32_t *distances,   /* (Q) */
    const int64_t *plan,        /* flat */
    double temperature, int64_t top_k, double top_p, double min_p, double penalty, int64_t window, int64_t ngram,
    int64_t stop_symbol, int64_t room, int64_t part, int64_t parts, int64_t D, int64_t Q, int64_t n, int64_t B);

/* ---- Counts of symbols in contexts ----------------------------------------------------------------
 *
 * A table of counts is a tree. Node 0 is the empty context. The child of a node for a symbol is the node's context and
 * then this symbol, and counts how often the symbol followed the context. No node has node 0 as its child, so 0 stands
 * for a node that does not exist. `slots` is an index of the nodes by parent and symbol, whose order each backend may
 * choose. A table begins as zeros, but for FR_USED = 1, FR_KEY, FR_LIMIT and FR_MADE.
 *
 * `contexts` holds the nodes of the contexts of 0 to F symbols before the next one. They begin as zeros. Each symbol
 * that is read, from `inputs`, is appended to the contexts, unless it is -1; where `starts` is 1, the contexts are
 * emptied first. A context whose last symbol was not counted after the others has no node. Then `targets` is what follows, which is the next input, unless that starts anew; -1 is not counted. */

/* The fields of a node; FR_TOTAL and FR_DISTINCT are the sum of its children's counts, and how many children it has;
 * from FR_CHILD, FR_SIBLING leads to all of them, the last one first. FR_SEEN is the clock when it was counted last. */
enum {
    FR_PARENT = 0, FR_SYMBOL = 1, FR_COUNT = 2, FR_TOTAL = 3, FR_DISTINCT = 4, FR_CHILD = 5, FR_SIBLING = 6,
    FR_SEEN = 7, FR_NODE = 8
};

/* The numbers of a table: its nodes; the symbols that it counted; the key of the index; the FR_TOTAL at which a node's
 * children are halved; how many nodes a symbol makes at most; how many symbols the last call has read. */
enum { FR_USED = 0, FR_CLOCK = 1, FR_KEY = 2, FR_LIMIT = 3, FR_MADE = 4, FR_READ = 5, FR_TABLE = 6 };

/* Writes the index of the nodes. */
fr_status fr_index_nodes(
    int32_t *slots,       /* (U(C)) */
    const int32_t *nodes, /* (C, FR_NODE) */
    const int64_t *table, /* (FR_TABLE) */
    int64_t C);

/* Counts each target in the contexts before it, the shortest first, until it has made FR_MADE nodes. It ends when there
 * is no room for F+1 more nodes. At the limit, counts are halved and rounded up. */
fr_status fr_count_symbols(
    int32_t *nodes,         /* (C, FR_NODE) (in, out) */
    int32_t *slots,         /* (U(C)) (in, out) */
    int64_t *table,         /* (FR_TABLE) (in, out) */
    int32_t *contexts,      /* (F+1) (in, out) */
    const int32_t *inputs,  /* (n) */
    const int32_t *targets, /* (n) */
    const uint8_t *starts,  /* (n) */
    int64_t C, int64_t F, int64_t n);

/* A table that is full loses nodes in a stated order. Each node has a key: FR_COUNT·2³² + FR_SEEN, or the largest of its
 * descendants' if one is larger. The counts of nodes that were not counted since this was done last, whose FR_SEEN is 0,
 * are halved first, and rounded up. */
fr_status fr_rank_nodes(
    int64_t *keys,  /* (C): of the nodes of the table, -1 for the others */
    int32_t *nodes, /* (C, FR_NODE) (in, out) */
    int64_t *table, /* (FR_TABLE) (in, out) */
    int64_t C);

/* Keeps node 0 and the nodes whose key is above `least`, and of those with this key the first so many. They are
 * numbered anew, in the same order; FR_SEEN and FR_CLOCK become 0. Then the index must be written. */
fr_status fr_keep_nodes(
    int32_t *numbers,    /* (C): the new number of each node, 0 of one that is gone */
    int32_t *nodes,      /* (C, FR_NODE) (in, out) */
    int64_t *table,      /* (FR_TABLE) (in, out) */
    const int64_t *keys, /* (C) */
    int64_t least, int64_t first, int64_t C);

/* The gate has a weight for each order of a table and each of these bins: the first ones by the levels of FR_TOTAL and
 * FR_DISTINCT of its context; the others by the longest context that the fixed table knows, and by how much rarer this
 * context is than the one that is shorter by one. A level grows by one in each quarter of an octave. FR_FLOOR: the
 * binary exponent of the least probability, with a minus. */
enum { FR_LEVELS = 32, FR_BINS = 48, FR_COLUMNS = 16, FR_FLOOR = 30 };

/* Mixes what a network says with two tables of counts: a fixed one, and one that learns. With q the network's
 * probability of the symbol, p = q, and then p = λ·count/total + (1-λ)·p for each order from 1 to F of the fixed table,
 * then for each of the other table; λ is the sigmoid of the sum of two weights of the gate. Orders whose context has
 * not been counted are passed over. At last p = 2^-FR_FLOOR + (1 - V·2^-FR_FLOOR)·p.
 *
 * If rate is not 0, after each symbol the weights that were used go along the gradient of ln p (before the last step),
 * g, by rate·g / √(squares + 0.01), where g² was added to squares before (Duchi, Hazan & Singer 2011). If `learns` is 1,
 * the other table then counts the symbol, until there is no room for F+1 more nodes; if it is 0, that table is passed
 * over. */
fr_status fr_mix_losses(
    double *losses,             /* (n) (in, out): in nats, first the network's, then those of the mixture */
    double *gate,               /* (2, F, FR_BINS, FR_COLUMNS) (in, out) */
    double *squares,            /* (2, F, FR_BINS, FR_COLUMNS) (in, out) */
    int32_t *learning_nodes,    /* (Y, FR_NODE) (in, out) */
    int32_t *learning_slots,    /* (U(Y)) (in, out) */
    int64_t *learning_table,    /* (FR_TABLE) (in, out): FR_READ is of this call, with either `learns` */
    int32_t *contexts,          /* (2, F+1) (in, out): of the fixed table, and of the other one */
    const int32_t *nodes,       /* (C, FR_NODE) */
    const int32_t *slots,       /* (U(C)) */
    const int64_t *table,       /* (FR_TABLE) */
    const int32_t *inputs,      /* (n) */
    const int32_t *targets,     /* (n) */
    const uint8_t *starts,      /* (n) */
    double rate, int64_t learns, int64_t V, int64_t Y, int64_t C, int64_t F, int64_t n);

/* The same for all symbols at one place, after the symbols that the contexts stand for. */
fr_status fr_mix_probabilities(
    double *probabilities,         /* (V) (in, out): first the network's, then those of the mixture */
    const double *gate,            /* (2, F, FR_BINS, FR_COLUMNS) */
    const int32_t *learning_nodes, /* (Y, FR_NODE) */
    const int32_t *contexts,       /* (2, F+1) */
    const int32_t *nodes,          /* (C, FR_NODE) */
    int64_t learns, int64_t V, int64_t Y, int64_t C, int64_t F);

#endif
