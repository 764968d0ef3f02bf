/* fastrnn.h: the contract. It states every kernel of fastrnn once; backends/reference.py and
 * backends/numba.py hold the same kernels under the same names, with the same arguments in the same
 * order, and a test reads this file and compares the three.
 *
 * It is not a library for others to link: memory, checks and errors belong to the Python side.
 *
 * Dimension letters:  T time steps of a window · B batch rows · V vocabulary · H hidden units
 *                     N rows of a product, T·B for a window · I inputs · O outputs of a linear map
 *                     n elements of a flat vector, M moments of each
 *                     W windows, S steps of the streams that they are cut from
 *                     X32: X rounded up to a multiple of 32, the widest panel of a packed matrix
 *
 * Conventions
 *  - Outputs come first, then inputs, then sizes. Arrays are C-contiguous; `(+=)` is added to,
 *    `(in, out)` is read and replaced, `(scratch)` holds nothing before or after the call.
 *  - Each kernel exists for `real` = float, fr_name_f32, and for `real` = double, fr_name_f64.
 *  - The caller allocates. A kernel never allocates, prints, exits or keeps anything.
 *  - Arrays do not overlap unless it is said that they may.
 *  - Losses are sums in nats, and are double for either `real`.
 *  - The compiled kernels are one fixed sequence of IEEE operations each, with the same bits for any
 *    instruction set: products as matmul.h says, functions as elementary.h does, reductions in
 *    FR_SUMS interleaved sums, the sum of a window's losses in order.
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
    FR_BAD_CHOICE = 3  /* an optimizer or a function that does not exist */
};

/* Functions, as `elementary` numbers them. */
enum { FR_EXP = 0, FR_TANH = 1, FR_SIGMOID = 2, FR_LOG = 3 };

/* Rows of a long product's operand that are packed at a time, and the interleaved partial sums of a
 * reduction: element i goes into sum i mod FR_SUMS, and these are added up in halves. */
enum { FR_BLOCK = 256, FR_SUMS = 16 };

/* Optimizers, as train_windows numbers them, and the width of a row of their settings. */
enum { FR_SGD = 0, FR_ADAGRAD = 1, FR_ADAM = 2, FR_SETTINGS = 5 };

/* ---- Elementary functions ------------------------------------------------------------------------
 *
 * Within 2.5 units in the last place over the whole range; NaN stays NaN. */

/* y_i = f(x_i), where f is one of FR_EXP, FR_TANH, FR_SIGMOID (1 / (1 + e⁻ˣ)) and FR_LOG. */
fr_status FR(elementary)(
    real *y,       /* (n) */
    const real *x, /* (n) */
    int64_t function, int64_t n);

/* ---- Linear maps ------------------------------------------------------------------------------ */

/* Row gather, the product of a one-hot input with a weight: y_n = weight[ids_n] + bias. */
fr_status FR(gather_forward)(
    real *y,            /* (N, O) */
    const real *weight, /* (V, O) */
    const real *bias,   /* (O) */
    const int32_t *ids, /* (N) */
    int64_t N, int64_t V, int64_t O);

/* Its gradient: dweight[ids_n] += dy_n, in the order of n. */
fr_status FR(gather_gradients)(
    real *dweight,      /* (V, O) (+=) */
    const real *dy,     /* (N, O) */
    const int32_t *ids, /* (N) */
    int64_t N, int64_t V, int64_t O);

/* y = x weightᵀ + bias. */
fr_status FR(linear_forward)(
    real *y,            /* (N, O) */
    real *packed,       /* (I, O32) (scratch) */
    const real *x,      /* (N, I) */
    const real *weight, /* (O, I) */
    const real *bias,   /* (O) */
    int64_t N, int64_t I, int64_t O);

/* The gradient that reaches the input: dx = dy weight. */
fr_status FR(linear_backward)(
    real *dx,           /* (N, I) */
    real *packed,       /* (O, I32) (scratch) */
    const real *dy,     /* (N, O) */
    const real *weight, /* (O, I) */
    int64_t N, int64_t I, int64_t O);

/* The gradients of the parameters: dweight += dyᵀ x and dbias += Σ_n dy_n, in the order of n. */
fr_status FR(linear_gradients)(
    real *dweight,  /* (O, I) (+=) */
    real *dbias,    /* (O) (+=) */
    real *packed,   /* (FR_BLOCK, I32) (scratch) */
    const real *dy, /* (N, O) */
    const real *x,  /* (N, I) */
    int64_t N, int64_t I, int64_t O);

/* ---- Cells: one layer, one window -------------------------------------------------------------- */

/* h_t = tanh(x_t + W_hh h_{t-1}) (Elman 1990). */
fr_status FR(rnn_forward)(
    real *h,               /* (T, B, H) (in, out): the input's share x, with the bias; then h */
    real *h_prev,          /* (T, B, H): the state before each step, zero where a row starts */
    real *state,           /* (B, H) (in, out): the state before and after the window */
    real *packed,          /* (H, H32) (scratch) */
    const real *weight_hh, /* (H, H) */
    const uint8_t *starts, /* (T, B) */
    int64_t T, int64_t B, int64_t H);

/* dx_t = (1 - h_t²) (dh_t + W_hhᵀ dx_{t+1}), without the second term where row t+1 starts.
 * No gradient enters from after the window, and none leaves to before it (truncated BPTT). */
fr_status FR(rnn_backward)(
    real *dh,              /* (T, B, H) (in, out): what reaches h from above; then dx */
    real *carry,           /* (B, H) (scratch) */
    real *packed,          /* (H, H32) (scratch) */
    const real *h,         /* (T, B, H) */
    const real *weight_hh, /* (H, H) */
    const uint8_t *starts, /* (T, B) */
    int64_t T, int64_t B, int64_t H);

/* ---- Head -------------------------------------------------------------------------------------- */

/* Cross-entropy of the softmax of each row, the largest logit subtracted first:
 * losses_n = -ln p_n[target_n] and dlogits_n = scale (p_n - onehot(target_n)); both are zero where the
 * target is -1. */
fr_status FR(cross_entropy)(
    double *losses,         /* (N) */
    real *dlogits,          /* (N, V), which may be `logits` itself */
    const real *logits,     /* (N, V) */
    const int32_t *targets, /* (N) */
    double scale, int64_t N, int64_t V);

/* ---- Clipping and updates, over flat vectors ---------------------------------------------------- */

/* Every element between -limit and limit; NaN stays. An infinite limit changes nothing. */
fr_status FR(clip_value)(
    real *grads, /* (n) (in, out) */
    double limit, int64_t n);

/* Scales the vector down to a Euclidean norm of `limit` where it is longer; `norm` is its length
 * before. An infinite limit only measures. */
fr_status FR(clip_norm)(
    double *norm, /* (1) */
    real *grads,  /* (n) (in, out) */
    double limit, int64_t n);

/* p -= rate · g.  settings: rate */
fr_status FR(sgd_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (0, n): none */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    int64_t n);

/* Adagrad (Duchi, Hazan & Singer 2011): m += g², p -= rate · g / (√m + epsilon).
 * settings: rate, epsilon */
fr_status FR(adagrad_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (1, n) (in, out): m */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    int64_t n);

/* Adam (Kingma & Ba 2015), the corrections of both moments' bias folded into the settings:
 * m = β₁m + (1-β₁)g, v = β₂v + (1-β₂)g², p -= step · m / (√v / correction + epsilon).
 * settings: step = rate / (1-β₁ᵏ), β₁, β₂, epsilon, correction = √(1-β₂ᵏ), at update k */
fr_status FR(adam_update)(
    real *params,           /* (n) (in, out) */
    real *moments,          /* (2, n) (in, out): m, v */
    const real *grads,      /* (n) */
    const double *settings, /* (FR_SETTINGS) */
    int64_t n);

/* ---- The whole network: gather, one layer, linear head ------------------------------------------
 *
 * params and grads are flat, in the order of layout.parameter_layout:
 *     weight_ih_l0 stored (V, H), weight_hh_l0 (H, H), bias_l0 (H), head.weight (V, H), head.bias (V)
 * A workspace is flat, in the order of layout.workspace_layout:
 *     h (T, B, H), h_prev (T, B, H), dh (T, B, H), logits (T, B, V), carry (B, H),
 *     packed: room for the largest matrix that a kernel packs, (H, H32), (H, V32), (V, H32), (FR_BLOCK, H32)
 */

/* Fills the workspace's h, h_prev and logits; carries the state over the window. */
fr_status FR(network_forward)(
    real *state,           /* (B, H) (in, out) */
    real *workspace,       /* flat (in, out) */
    const real *params,    /* (n) */
    const int32_t *inputs, /* (T, B) */
    const uint8_t *starts, /* (T, B) */
    int64_t T, int64_t B, int64_t V, int64_t H);

/* After network_forward: the loss of each symbol, and the gradients of scale · Σ losses. */
fr_status FR(network_backward)(
    double *losses,         /* (T, B) */
    real *grads,            /* (n) (+=) */
    real *workspace,        /* flat (in, out): dlogits replaces logits, dx replaces dh */
    const real *params,     /* (n) */
    const int32_t *inputs,  /* (T, B) */
    const int32_t *targets, /* (T, B) */
    const uint8_t *starts,  /* (T, B) */
    double scale, int64_t T, int64_t B, int64_t V, int64_t H);

/* Truncated BPTT: W updates of forward, backward, clip by value, clip by norm, update.
 * The streams are S steps long and are cut into ⌈S/T⌉ windows of T steps, the last one shorter where T
 * does not divide S. Update w takes window (first + w) mod ⌈S/T⌉; the state is carried from each
 * window to the next, over the end of the streams as well. With `mean` the gradient of a window is
 * that of the mean over its targets, else of the sum. It stops before the first update whose loss or
 * gradient is not finite, and leaves the parameters as they were; every later loss and norm is NaN. */
fr_status FR(train_windows)(
    double *losses,         /* (W): the sum of each window */
    double *norms,          /* (W): of each gradient, after the clip by value */
    double *symbol_losses,  /* (T, B) (scratch) */
    real *params,           /* (n) (in, out) */
    real *grads,            /* (n) (scratch) */
    real *moments,          /* (M, n) (in, out): as many as the optimizer has */
    real *state,            /* (B, H) (in, out) */
    real *workspace,        /* flat (scratch) */
    const int32_t *inputs,  /* (S, B) */
    const int32_t *targets, /* (S, B) */
    const uint8_t *starts,  /* (S, B) */
    const double *settings, /* (W, FR_SETTINGS): a row for each update */
    int64_t optimizer, int64_t mean, double value_limit, double norm_limit, int64_t first,
    int64_t W, int64_t S, int64_t T, int64_t B, int64_t V, int64_t H);

#endif
