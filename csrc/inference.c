/* inference.c: the forward pass of a network: over windows, and one symbol at a time. */

#include "layers.h"

static const fr_dropout NO_DROPOUT = {0, 0, 0, 0};

/* The head at a worker's part of the rows of some steps, of which the first has the number `at` in the window. */
static fr_status run_head(double *losses, real *logits, real *workspace, const real *prepared, const real *params,
                          const int32_t *targets, int64_t at, fr_worker worker, fr_sizes s)
{
    const int64_t V = s.V, H = s.H, N = s.T * s.B, end = fr_part_start(N, worker.part + 1, worker.parts);
    const real *head_t = prepared + fr_offset_of(s, FR_HEAD_T), *head_bias = params + fr_offset_of(s, FR_HEAD_BIAS);
    const real *h = workspace + fr_layer_offset_of(s, s.L - 1, FR_H) + s.B * H;
    real *own = workspace + fr_offset_of(s, FR_LOGITS) + worker.part * FR_ROWS * V;
    for (int64_t n = fr_part_start(N, worker.part, worker.parts); n < end; n += FR_ROWS) {
        const int64_t rows = fr_min(FR_ROWS, end - n);
        real *out = targets ? own : logits + (at + n) * V;
        FR_RETURN_IF_BAD(FR(linear_forward)(out, h + n * H, head_t, head_bias, rows, H, V));
        if (targets)
            FR_RETURN_IF_BAD(FR(cross_entropy)(losses + at + n, out, out, targets + at + n, 1.0, rows, V));
    }
    return FR_OK;
}

/* The forward pass of a window, about FR_KC rows at a time, so that the workspace stays in the cache. Writes the
 * losses if `targets` is not NULL, else the logits. If `prepared` is NULL, the weights are packed in the workspace. */
static fr_status forward(double *losses, real *logits, real *workspace, const real *prepared, const real *params,
                         fr_window x, fr_worker worker, fr_sizes window)
{
    FR_RETURN_IF_BAD(fr_bad_sizes(window));
    const int64_t B = window.B, N = window.T * B, steps = fr_min(window.T, (FR_KC + B - 1) / B);
    if (fr_bad_worker(worker))
        return FR_BAD_SIZE;
    if (fr_bad_symbols(x.inputs, 0, N, window.V) || (x.targets && fr_bad_symbols(x.targets, -1, N, window.V)))
        return FR_BAD_SYMBOL;
    if (!prepared) {
        FR_RETURN_IF_BAD(fr_pack_forward(workspace, params, worker, window));
        FR_RETURN_IF_BAD(fr_barrier_wait(worker));
        prepared = workspace;
    }
    for (int64_t t = 0; t < window.T; t += steps) {
        fr_sizes s = window;
        s.T = fr_min(steps, window.T - t);
        fr_window some = x;
        some.inputs += t * B;
        some.starts += t * B;
        FR_RETURN_IF_BAD(fr_layers_forward(workspace, prepared, params, some, worker, s));
        FR_RETURN_IF_BAD(fr_barrier_wait(fr_of_rows(worker, s)));
        FR_RETURN_IF_BAD(run_head(losses, logits, workspace, prepared, params, x.targets, t * B, worker, s));
        FR_RETURN_IF_BAD(fr_barrier_wait(worker)); /* the next steps overwrite what this head reads */
    }
    return FR_OK;
}

fr_status FR(network_forward)(real *logits, real *state, real *workspace, int32_t *barrier, const real *params,
                              const int32_t *inputs, const uint8_t *starts, const int64_t *plan, int64_t part,
                              int64_t parts, int64_t T, int64_t B)
{
    const fr_worker worker = {barrier, part, parts};
    const fr_window x = {inputs, NULL, starts, state, 1.0, NO_DROPOUT};
    return forward(NULL, logits, workspace, NULL, params, x, worker, fr_sizes_of(plan, T, B));
}

fr_status FR(network_losses)(double *losses, real *state, real *workspace, int32_t *barrier, const real *params,
                             const int32_t *inputs, const int32_t *targets, const uint8_t *starts, const int64_t *plan,
                             int64_t part, int64_t parts, int64_t T, int64_t B)
{
    const fr_worker worker = {barrier, part, parts};
    const fr_window x = {inputs, targets, starts, state, 1.0, NO_DROPOUT};
    return forward(losses, NULL, workspace, NULL, params, x, worker, fr_sizes_of(plan, T, B));
}

fr_status FR(network_prepare)(real *prepared, const real *params, const int64_t *plan, int64_t part, int64_t parts)
{
    const fr_sizes s = fr_sizes_of(plan, 1, 1);
    const fr_worker worker = {NULL, part, parts};
    FR_RETURN_IF_BAD(fr_bad_sizes(s));
    if (fr_bad_worker(worker))
        return FR_BAD_SIZE;
    return fr_pack_forward(prepared, params, worker, s);
}

fr_status FR(network_step)(real *logits, real *state, real *scratch, int32_t *barrier, const real *prepared,
                           const real *params, const int32_t *inputs, const uint8_t *starts, const int64_t *plan,
                           int64_t part, int64_t parts, int64_t B)
{
    const fr_sizes s = fr_sizes_of(plan, 1, B);
    const fr_worker worker = {barrier, part, parts};
    const fr_window x = {inputs, NULL, starts, state, 1.0, NO_DROPOUT};
    FR_RETURN_IF_BAD(fr_bad_sizes(s));
    if (fr_bad_worker(worker))
        return FR_BAD_SIZE;
    if (fr_bad_symbols(inputs, 0, B, s.V))
        return FR_BAD_SYMBOL;
    FR_RETURN_IF_BAD(fr_layers_forward(scratch, prepared, params, x, worker, s));
    const fr_worker of_rows = fr_of_rows(worker, s);
    const int64_t first = fr_part_start(B, of_rows.part, of_rows.parts),
                  rows = fr_part_start(B, of_rows.part + 1, of_rows.parts) - first;
    const real *h = scratch + fr_layer_offset_of(s, s.L - 1, FR_H) + (B + first) * s.H;
    fr_matmul_part(logits + first * s.V, params + fr_offset_of(s, FR_HEAD_BIAS), 0, h,
                   prepared + fr_offset_of(s, FR_HEAD_T), fr_of_columns(worker, s), rows, s.H, 1, s.V);
    return FR_OK;
}

/* Converts the losses to another unit, and adds them to the totals. */
static void add_up(double *losses, double *totals, double unit, int64_t T, int64_t B)
{
    for (int64_t t = 0; t < T; t++)
        for (int64_t b = 0; b < B; b++) {
            losses[t * B + b] /= unit;
            totals[b] += losses[t * B + b];
        }
}

fr_status FR(network_read)(double *losses, double *totals, real *state, real *scratch, int32_t *barrier,
                           const real *prepared, const real *params, const int32_t *inputs, const int32_t *targets,
                           const uint8_t *starts, const int64_t *plan, double unit, int64_t part, int64_t parts,
                           int64_t T, int64_t B)
{
    const fr_worker worker = {barrier, part, parts};
    const fr_window x = {inputs, targets, starts, state, 1.0, NO_DROPOUT};
    FR_RETURN_IF_BAD(forward(losses, NULL, scratch, prepared, params, x, worker, fr_sizes_of(plan, T, B)));
    if (part == 0) /* all workers have waited at the end of the window */
        add_up(losses, totals, unit, T, B);
    return FR_OK;
}
