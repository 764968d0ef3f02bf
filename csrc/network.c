/* network.c: one window forward and backward, and the training on many windows in one call.
 *
 * gradients.h has the phases of a window. An update is one more: a worker does it for a range of the parameters. */

#include <string.h>

#include "fastrnn.h"
#include "gradients.h"
#include "layers.h"
#include "sums.h"
#include "team.h"
#include "views.h"

/* ---- Kernels -------------------------------------------------------------------------------------------- */

fr_status FR(network_gradients)(double *losses, real *grads, real *state, real *workspace, int32_t *barrier,
                                const real *params, const int32_t *inputs, const int32_t *targets,
                                const uint8_t *starts, const int64_t *plan, double scale, double dropout,
                                double input_dropout, int64_t dropout_seed, int64_t update, int64_t part,
                                int64_t parts, int64_t T, int64_t B)
{
    const fr_sizes s = fr_sizes_of(plan, T, B);
    const fr_worker worker = {barrier, part, parts};
    const fr_window x = {inputs, targets, starts, state, scale, {dropout, input_dropout, dropout_seed, update}};
    FR_RETURN_IF_BAD(fr_bad_sizes(s));
    if (fr_bad_worker(worker))
        return FR_BAD_SIZE;
    if (fr_bad_symbols(inputs, 0, T * B, s.V) || fr_bad_symbols(targets, -1, T * B, s.V))
        return FR_BAD_SYMBOL;
    return gradients(losses, grads, workspace, params, x, worker, s);
}

/* The factor of the sum of a window's losses. A mean divides by the number of targets that are not -1. */
static double gradient_scale(const int32_t *targets, int64_t reduction, int64_t N, int64_t B)
{
    int64_t count = reduction == FR_BATCHMEAN ? B : 0;
    if (reduction == FR_MEAN)
        for (int64_t n = 0; n < N; n++)
            count += targets[n] >= 0;
    return count > 0 ? 1.0 / (double)count : 1.0;
}

static double sum_of(const double *values, int64_t N)
{
    double partial[FR_SUMS] = {0};
    for (int64_t n = 0; n < N; n++)
        partial[n % FR_SUMS] += values[n];
    return fr_add_halves_double(partial);
}

/* Whether ranges are not in ascending order within n elements. */
static int bad_ranges(const int64_t *ranges, int64_t R, int64_t n)
{
    int64_t end = 0;
    for (int64_t r = 0; r < R; r++) {
        if (ranges[2 * r] < end || ranges[2 * r + 1] < ranges[2 * r])
            return 1;
        end = ranges[2 * r + 1];
    }
    return R < 0 || end > n;
}

/* The number of elements outside of the ranges. */
static int64_t count_frozen(const int64_t *ranges, int64_t R, int64_t n)
{
    for (int64_t r = 0; r < R; r++)
        n -= ranges[2 * r + 1] - ranges[2 * r];
    return n;
}

/* Sets the gradients outside of the ranges to zero: a worker sets its part of them, and waits for the others. */
static fr_status clear_frozen(real *grads, const int64_t *ranges, fr_worker worker, int64_t R, int64_t n)
{
    int64_t end = 0;
    for (int64_t r = 0; r <= R; r++) {
        const int64_t next = r < R ? ranges[2 * r] : n,
                      first = end + fr_part_start(next - end, worker.part, worker.parts),
                      last = end + fr_part_start(next - end, worker.part + 1, worker.parts);
        memset(grads + first, 0, (size_t)(last - first) * sizeof(real));
        end = r < R ? ranges[2 * r + 1] : n;
    }
    return fr_barrier_wait(worker);
}

/* The update of the elements from `begin` up to `end`. */
static fr_status update_range(real *params, real *moments, const real *grads, const double *settings,
                              int64_t optimizer, double limit, double scale, int64_t begin, int64_t end, int64_t n)
{
    switch (optimizer) {
    case FR_SGD:
        return FR(sgd_update)(params, moments, grads, settings, limit, scale, begin, end, n);
    case FR_ADAGRAD:
        return FR(adagrad_update)(params, moments, grads, settings, limit, scale, begin, end, n);
    case FR_ADAM:
        return FR(adam_update)(params, moments, grads, settings, limit, scale, begin, end, n);
    case FR_RMSPROP:
        return FR(rmsprop_update)(params, moments, grads, settings, limit, scale, begin, end, n);
    default:
        return FR_BAD_CHOICE;
    }
}

/* A worker's part of an update of the ranges, each with its row of settings, and of the average if A is 1. */
static fr_status update(real *params, real *moments, real *average, const real *grads, const double *settings,
                        double average_weight, const int64_t *ranges, int64_t optimizer, double limit, double scale,
                        fr_worker worker, int64_t A, int64_t R, int64_t n)
{
    for (int64_t r = 0; r < R; r++) {
        const int64_t first = ranges[2 * r], count = ranges[2 * r + 1] - first,
                      begin = first + fr_part_start(count, worker.part, worker.parts),
                      end = first + fr_part_start(count, worker.part + 1, worker.parts);
        FR_RETURN_IF_BAD(update_range(params, moments, grads, settings + r * FR_SETTINGS, optimizer, limit, scale,
                                      begin, end, n));
        if (A > 0)
            FR_RETURN_IF_BAD(FR(average_update)(average, params, average_weight, begin, end, n));
    }
    return FR_OK;
}

fr_status FR(train_windows)(double *losses, double *norms, double *symbol_losses, real *params, real *grads,
                            real *moments, real *average, real *state, real *workspace, int32_t *barrier,
                            const int32_t *inputs, const int32_t *targets, const uint8_t *starts,
                            const double *settings, const double *average_weights, const int64_t *ranges,
                            const int64_t *plan, int64_t optimizer, int64_t reduction, double value_limit,
                            double norm_limit, double dropout, double input_dropout, int64_t dropout_seed,
                            int64_t first_update, int64_t first, int64_t part, int64_t parts, int64_t A, int64_t R,
                            int64_t W, int64_t S, int64_t T, int64_t B)
{
    const fr_sizes longest = fr_sizes_of(plan, T, B);
    const fr_worker worker = {barrier, part, parts};
    FR_RETURN_IF_BAD(fr_bad_sizes(longest));
    const int64_t windows = (S + T - 1) / T, n = plan[FR_PARAMETERS];
    if (fr_bad_worker(worker) || first < 0 || W < 0 || S < 1 || bad_ranges(ranges, R, n))
        return FR_BAD_SIZE;
    if (fr_bad_symbols(inputs, 0, S * B, longest.V) || fr_bad_symbols(targets, -1, S * B, longest.V))
        return FR_BAD_SYMBOL;
    const int has_frozen = count_frozen(ranges, R, n) > 0;
    if (part == 0)
        for (int64_t i = 0; i < W; i++)
            losses[i] = norms[i] = (double)NAN;
    for (int64_t i = 0; i < W; i++) {
        const int64_t start = (first + i) % windows * T;
        const fr_sizes s = fr_sizes_of(plan, fr_min(T, S - start), B);
        const int64_t N = s.T * B;
        const int32_t *y = targets + start * B;
        const fr_window x = {inputs + start * B, y, starts + start * B, state, gradient_scale(y, reduction, N, B),
                             {dropout, input_dropout, dropout_seed, first_update + i}};
        FR_RETURN_IF_BAD(gradients(symbol_losses, grads, workspace, params, x, worker, s));
        if (has_frozen)
            FR_RETURN_IF_BAD(clear_frozen(grads, ranges, worker, R, n));
        double norm; /* all workers compute the same loss and norm, so they all stop or all go on */
        const double loss = sum_of(symbol_losses, N);
        FR_RETURN_IF_BAD(FR(gradient_norm)(&norm, grads, value_limit, n));
        if (part == 0) {
            losses[i] = loss;
            norms[i] = norm;
        }
        if (!isfinite(loss) || !isfinite(norm))
            return FR_OK;
        FR_RETURN_IF_BAD(update(params, moments, average, grads, settings + i * R * FR_SETTINGS, average_weights[i],
                                ranges, optimizer, value_limit, norm > norm_limit ? norm_limit / norm : 1.0, worker,
                                A, R, n));
        FR_RETURN_IF_BAD(fr_barrier_wait(worker));
    }
    return FR_OK;
}
