/* inference.c: a network forward only: windows, and one symbol at a time. */

#include "layers.h"

/* A window forward, FR_BLOCK rows or a step at a time, so that the workspace stays in the cache. Writes the
 * logits, or where there are targets the losses. */
static fr_status forward(double *losses, real *logits, real *state, real *workspace, const real *params,
                         const int32_t *inputs, const int32_t *targets, const uint8_t *starts, Sizes window)
{
    const Team alone = {NULL, 0, 1};
    const Dropout none = {0, 0, 0};
    RETURN_IF_BAD(bad_sizes(window));
    const int64_t B = window.B, V = window.V, H = window.H;
    Sizes s = window;
    s.T = fr_min(window.T, (FR_BLOCK + B - 1) / B);
    const int64_t steps = s.T;
    const Parameters p = const_parameters_of(params, s);
    const Packed packed = {workspace, 0};
    const Trace w = trace_of(end_of_packed(packed, s), s, 0);
    pack_forward(packed, p, alone, s);
    for (int64_t t = 0; t < window.T; t += steps) {
        s.T = fr_min(steps, window.T - t);
        const Trace some = trace_of(end_of_packed(packed, s), s, 0);
        const int64_t N = s.T * B;
        RETURN_IF_BAD(run_layers(some, state, packed, p, inputs + t * B, starts + t * B, none, alone, s));
        const real *h = layer_trace(some, s, 0, s.L - 1).h;
        for (int64_t n = 0; n < N; n += FR_ROWS) {
            const int64_t rows = fr_min(FR_ROWS, N - n), at = t * B + n;
            real *out = targets ? w.end : logits + at * V;
            RETURN_IF_BAD(FR(linear_forward)(out, h + (B + n) * H, packed_head(packed, s), p.head_bias, rows, H, V));
            if (targets)
                RETURN_IF_BAD(FR(cross_entropy)(losses + at, out, out, targets + at, 1.0, rows, V));
        }
    }
    return FR_OK;
}

fr_status FR(network_forward)(real *logits, real *state, real *workspace, const real *params,
                              const int32_t *inputs, const uint8_t *starts, const int64_t *shape, int64_t T,
                              int64_t B)
{
    return forward(NULL, logits, state, workspace, params, inputs, NULL, starts, sizes_of(shape, T, B));
}

fr_status FR(network_losses)(double *losses, real *state, real *workspace, const real *params,
                             const int32_t *inputs, const int32_t *targets, const uint8_t *starts,
                             const int64_t *shape, int64_t T, int64_t B)
{
    return forward(losses, NULL, state, workspace, params, inputs, targets, starts, sizes_of(shape, T, B));
}

fr_status FR(network_prepare)(real *prepared, const real *params, const int64_t *shape)
{
    const Team alone = {NULL, 0, 1};
    const Sizes s = sizes_of(shape, 1, 1);
    RETURN_IF_BAD(bad_sizes(s));
    pack_forward((Packed){prepared, 0}, const_parameters_of(params, s), alone, s);
    return FR_OK;
}

fr_status FR(network_step)(real *restrict logits, real *restrict state, real *restrict scratch,
                           const real *restrict prepared, const real *restrict params,
                           const int32_t *restrict inputs, const uint8_t *restrict starts, const int64_t *restrict shape,
                           int64_t B)
{
    const Team alone = {NULL, 0, 1};
    const Dropout none = {0, 0, 0};
    const Sizes s = sizes_of(shape, 1, B);
    RETURN_IF_BAD(bad_sizes(s));
    const Parameters p = const_parameters_of(params, s);
    const Packed packed = {(real *)(uintptr_t)prepared, 0};
    const Trace w = trace_of(scratch, s, 0);
    RETURN_IF_BAD(run_layers(w, state, packed, p, inputs, starts, none, alone, s));
    const real *h = layer_trace(w, s, 0, s.L - 1).h + B * s.H;
    return FR(linear_forward)(logits, h, packed_head(packed, s), p.head_bias, B, s.H, s.V);
}
