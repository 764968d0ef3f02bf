/* network.c: the kernels put together: one window forward and backward, and many windows of training
 * in one call. The order of the fields below is that of layout.py. */

#include <string.h>

#include "fastrnn.h"

#define RETURN_IF_BAD(call)          \
    do {                             \
        const fr_status bad = (call); \
        if (bad != FR_OK)            \
            return bad;              \
    } while (0)

/* Views into one flat vector of parameters, or of their gradients. */
typedef struct {
    real *weight_ih;   /* (V, H), the public weight_ih_l0 transposed */
    real *weight_hh;   /* (H, H) */
    real *bias;        /* (H) */
    real *head_weight; /* (V, H) */
    real *head_bias;   /* (V) */
    int64_t n;
} Parameters;

static Parameters parameters_of(real *flat, int64_t V, int64_t H)
{
    Parameters p;
    p.weight_ih = flat;
    p.weight_hh = p.weight_ih + V * H;
    p.bias = p.weight_hh + H * H;
    p.head_weight = p.bias + H;
    p.head_bias = p.head_weight + V * H;
    p.n = p.head_bias + V - flat;
    return p;
}

/* Views into one flat workspace. */
typedef struct {
    real *h;      /* (T, B, H) */
    real *h_prev; /* (T, B, H) */
    real *dh;     /* (T, B, H) */
    real *logits; /* (T, B, V) */
    real *carry;  /* (B, H) */
    real *packed; /* room for a packed matrix */
} Workspace;

static Workspace workspace_of(real *flat, int64_t T, int64_t B, int64_t V, int64_t H)
{
    Workspace w;
    w.h = flat;
    w.h_prev = w.h + T * B * H;
    w.dh = w.h_prev + T * B * H;
    w.logits = w.dh + T * B * H;
    w.carry = w.logits + T * B * V;
    w.packed = w.carry + B * H;
    return w;
}

/* The kernels only read through views of constant vectors; one struct serves both. */
static Parameters const_parameters_of(const real *flat, int64_t V, int64_t H)
{
    return parameters_of((real *)(uintptr_t)flat, V, H);
}

fr_status FR(network_forward)(real *state, real *workspace, const real *params, const int32_t *inputs,
                              const uint8_t *starts, int64_t T, int64_t B, int64_t V, int64_t H)
{
    if (T < 1 || B < 1 || V < 1 || H < 1)
        return FR_BAD_SIZE;
    const Parameters p = const_parameters_of(params, V, H);
    const Workspace w = workspace_of(workspace, T, B, V, H);
    RETURN_IF_BAD(FR(gather_forward)(w.h, p.weight_ih, p.bias, inputs, T * B, V, H));
    RETURN_IF_BAD(FR(rnn_forward)(w.h, w.h_prev, state, w.packed, p.weight_hh, starts, T, B, H));
    return FR(linear_forward)(w.logits, w.packed, w.h, p.head_weight, p.head_bias, T * B, H, V);
}

fr_status FR(network_backward)(double *losses, real *grads, real *workspace, const real *params,
                               const int32_t *inputs, const int32_t *targets, const uint8_t *starts,
                               double scale, int64_t T, int64_t B, int64_t V, int64_t H)
{
    if (T < 1 || B < 1 || V < 1 || H < 1)
        return FR_BAD_SIZE;
    const Parameters p = const_parameters_of(params, V, H);
    const Parameters d = parameters_of(grads, V, H);
    const Workspace w = workspace_of(workspace, T, B, V, H);
    const int64_t N = T * B;
    RETURN_IF_BAD(FR(cross_entropy)(losses, w.logits, w.logits, targets, scale, N, V));
    RETURN_IF_BAD(FR(linear_backward)(w.dh, w.packed, w.logits, p.head_weight, N, H, V));
    RETURN_IF_BAD(FR(linear_gradients)(d.head_weight, d.head_bias, w.packed, w.logits, w.h, N, H, V));
    RETURN_IF_BAD(FR(rnn_backward)(w.dh, w.carry, w.packed, w.h, p.weight_hh, starts, T, B, H));
    RETURN_IF_BAD(FR(linear_gradients)(d.weight_hh, d.bias, w.packed, w.dh, w.h_prev, N, H, H));
    return FR(gather_gradients)(d.weight_ih, w.dh, inputs, N, V, H);
}

/* One over the number of targets in a window, or 1 for a sum or for a window without targets. */
static double gradient_scale(const int32_t *targets, int64_t mean, int64_t N)
{
    int64_t count = 0;
    for (int64_t n = 0; n < N; n++)
        count += targets[n] >= 0;
    return mean && count > 0 ? 1.0 / (double)count : 1.0;
}

static double sum_of(const double *values, int64_t N)
{
    double sum = 0;
    for (int64_t n = 0; n < N; n++)
        sum += values[n];
    return sum;
}

static fr_status update(real *params, real *moments, const real *grads, const double *settings,
                        int64_t optimizer, int64_t n)
{
    switch (optimizer) {
    case FR_SGD:
        return FR(sgd_update)(params, moments, grads, settings, n);
    case FR_ADAGRAD:
        return FR(adagrad_update)(params, moments, grads, settings, n);
    case FR_ADAM:
        return FR(adam_update)(params, moments, grads, settings, n);
    default:
        return FR_BAD_CHOICE;
    }
}

fr_status FR(train_windows)(double *losses, double *norms, double *symbol_losses, real *params, real *grads,
                            real *moments, real *state, real *workspace, const int32_t *inputs,
                            const int32_t *targets, const uint8_t *starts, const double *settings,
                            int64_t optimizer, int64_t mean, double value_limit, double norm_limit,
                            int64_t first, int64_t W, int64_t S, int64_t T, int64_t B, int64_t V, int64_t H)
{
    if (first < 0 || W < 0 || S < 1 || T < 1 || B < 1 || V < 1 || H < 1)
        return FR_BAD_SIZE;
    const int64_t n = parameters_of(params, V, H).n;
    const int64_t windows = (S + T - 1) / T;
    for (int64_t w = 0; w < W; w++)
        losses[w] = norms[w] = (double)NAN;
    for (int64_t w = 0; w < W; w++) {
        const int64_t start = (first + w) % windows * T;
        const int64_t steps = S - start < T ? S - start : T;
        const int32_t *x = inputs + start * B, *y = targets + start * B;
        const uint8_t *begins = starts + start * B;
        const double scale = gradient_scale(y, mean, steps * B);
        memset(grads, 0, (size_t)n * sizeof(real));
        RETURN_IF_BAD(FR(network_forward)(state, workspace, params, x, begins, steps, B, V, H));
        RETURN_IF_BAD(FR(network_backward)(symbol_losses, grads, workspace, params, x, y, begins, scale, steps, B,
                                           V, H));
        losses[w] = sum_of(symbol_losses, steps * B);
        RETURN_IF_BAD(FR(clip_value)(grads, value_limit, n));
        RETURN_IF_BAD(FR(clip_norm)(norms + w, grads, norm_limit, n));
        if (!isfinite(losses[w]) || !isfinite(norms[w]))
            return FR_OK;
        RETURN_IF_BAD(update(params, moments, grads, settings + w * FR_SETTINGS, optimizer, n));
    }
    return FR_OK;
}
