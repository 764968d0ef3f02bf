/* inference.c: the forward pass of a network: over windows, and one symbol at a time. */

#include "layers.h"

static int32_t unused[FR_BARRIER]; /* a single worker never waits and is never aborted */
static const fr_worker ALONE = {unused, 0, 1};
static const fr_dropout NO_DROPOUT = {0, 0, 0};

/* The forward pass of a window, about FR_KC rows at a time, so that the workspace stays in the cache. Writes the
 * losses if `targets` is not NULL, else the logits. */
static fr_status forward(double *losses, real *logits, real *workspace, const real *params, fr_window x,
                         fr_sizes window)
{
    FR_RETURN_IF_BAD(fr_bad_sizes(window));
    const int64_t B = window.B, V = window.V, H = window.H, steps = fr_min(window.T, (FR_KC + B - 1) / B);
    const real *head_t = workspace + fr_offset_of(window, FR_HEAD_T),
               *head_bias = params + fr_offset_of(window, FR_HEAD_BIAS);
    const real *h = workspace + fr_layer_offset_of(window, window.L - 1, FR_H) + B * H;
    fr_pack_forward(workspace, params, ALONE, window);
    for (int64_t t = 0; t < window.T; t += steps) {
        fr_sizes s = window;
        s.T = fr_min(steps, window.T - t);
        fr_window some = x;
        some.inputs += t * B;
        some.starts += t * B;
        FR_RETURN_IF_BAD(fr_layers_forward(workspace, workspace, params, some, ALONE, s));
        for (int64_t n = 0; n < s.T * B; n += FR_ROWS) {
            const int64_t rows = fr_min(FR_ROWS, s.T * B - n), at = t * B + n;
            real *out = x.targets ? workspace + fr_offset_of(s, FR_LOGITS) : logits + at * V;
            FR_RETURN_IF_BAD(FR(linear_forward)(out, h + n * H, head_t, head_bias, rows, H, V));
            if (x.targets)
                FR_RETURN_IF_BAD(FR(cross_entropy)(losses + at, out, out, x.targets + at, 1.0, rows, V));
        }
    }
    return FR_OK;
}

fr_status FR(network_forward)(real *logits, real *state, real *workspace, const real *params,
                              const int32_t *inputs, const uint8_t *starts, const int64_t *plan, int64_t T,
                              int64_t B)
{
    const fr_window x = {inputs, NULL, starts, state, 1.0, NO_DROPOUT};
    return forward(NULL, logits, workspace, params, x, fr_sizes_of(plan, T, B));
}

fr_status FR(network_losses)(double *losses, real *state, real *workspace, const real *params,
                             const int32_t *inputs, const int32_t *targets, const uint8_t *starts,
                             const int64_t *plan, int64_t T, int64_t B)
{
    const fr_window x = {inputs, targets, starts, state, 1.0, NO_DROPOUT};
    return forward(losses, NULL, workspace, params, x, fr_sizes_of(plan, T, B));
}

fr_status FR(network_prepare)(real *prepared, const real *params, const int64_t *plan)
{
    const fr_sizes s = fr_sizes_of(plan, 1, 1);
    FR_RETURN_IF_BAD(fr_bad_sizes(s));
    fr_pack_forward(prepared, params, ALONE, s);
    return FR_OK;
}

fr_status FR(network_step)(real *restrict logits, real *restrict state, real *restrict scratch,
                           const real *restrict prepared, const real *restrict params,
                           const int32_t *restrict inputs, const uint8_t *restrict starts, const int64_t *restrict plan,
                           int64_t B)
{
    const fr_sizes s = fr_sizes_of(plan, 1, B);
    const fr_window x = {inputs, NULL, starts, state, 1.0, NO_DROPOUT};
    FR_RETURN_IF_BAD(fr_bad_sizes(s));
    FR_RETURN_IF_BAD(fr_layers_forward(scratch, prepared, params, x, ALONE, s));
    const real *h = scratch + fr_layer_offset_of(s, s.L - 1, FR_H) + B * s.H;
    return FR(linear_forward)(logits, h, prepared + fr_offset_of(s, FR_HEAD_T),
                              params + fr_offset_of(s, FR_HEAD_BIAS), B, s.H, s.V);
}
