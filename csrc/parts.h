/* parts.h: what one worker of a team does of a step of a cell, and of the input's share of its gates, if the workers
 * share the columns of the products.
 *
 * A worker takes some columns of each product, in whole panels, for all batch rows, and the functions of some hidden
 * units. The workers wait for each other where one reads what another wrote. A forward part returns when all workers
 * have ended the step, and so does the backward part of a gru. Those of an rnn and an lstm return without a wait:
 * before its own wait, the next step reads only what the same worker wrote.
 *
 * The arguments are those of the kernel with the name before `_part`; `worker` precedes the sizes. No array is
 * `restrict`, since other workers write to it. */
#ifndef FASTRNN_PARTS_H
#define FASTRNN_PARTS_H

#include "fastrnn.h"
#include "team.h"

/* The outputs are G gates of H units. */
fr_status FR(gather_part)(real *y, const real *weight, const real *bias, const int32_t *ids, fr_worker worker,
                          int64_t N, int64_t V, int64_t G, int64_t H);

fr_status FR(rnn_forward_part)(real *h, real *masked, const real *h_before, const real *packed, const uint8_t *starts,
                               int64_t relu, fr_worker worker, int64_t B, int64_t H);

fr_status FR(rnn_backward_part)(real *dh, real *dh_before, real *masked, const real *h, const real *packed,
                                const uint8_t *starts, int64_t relu, int64_t carried, fr_worker worker, int64_t B,
                                int64_t H);

/* `product` (B, 3H) is scratch that all workers share. `masked` (B+3, H) is a worker's own. */
fr_status FR(gru_forward_part)(real *h, real *u, real *gates, real *masked, real *product, const real *h_before,
                               const real *packed, const real *bias_hn, const uint8_t *starts, fr_worker worker,
                               int64_t B, int64_t H);

/* All workers share `masked`. */
fr_status FR(gru_backward_part)(real *dh_before, real *gates, real *u, real *masked, const real *dh,
                                const real *h_before, const real *packed, const uint8_t *starts, int64_t carried,
                                fr_worker worker, int64_t B, int64_t H);

fr_status FR(lstm_forward_part)(real *h, real *c, real *gates, real *masked, const real *h_before,
                                const real *c_before, const real *packed, const uint8_t *starts, fr_worker worker,
                                int64_t B, int64_t H);

fr_status FR(lstm_backward_part)(real *dh_before, real *dc, real *gates, real *masked, const real *dh, const real *c,
                                 const real *c_before, const real *packed, const uint8_t *starts, int64_t carried,
                                 fr_worker worker, int64_t B, int64_t H);

/* The same, but a single worker calls the kernel, which is compiled for one. */

fr_inline fr_status fr_gather(real *y, const real *weight, const real *bias, const int32_t *ids, fr_worker worker,
                              int64_t N, int64_t V, int64_t G, int64_t H)
{
    if (worker.parts == 1)
        return FR(gather_forward)(y, weight, bias, ids, N, V, G * H);
    return FR(gather_part)(y, weight, bias, ids, worker, N, V, G, H);
}

fr_inline fr_status fr_rnn_forward(real *h, real *masked, const real *h_before, const real *packed,
                                   const uint8_t *starts, int64_t relu, fr_worker worker, int64_t B, int64_t H)
{
    if (worker.parts == 1)
        return FR(rnn_forward)(h, masked, h_before, packed, starts, relu, B, H);
    return FR(rnn_forward_part)(h, masked, h_before, packed, starts, relu, worker, B, H);
}

fr_inline fr_status fr_rnn_backward(real *dh, real *dh_before, real *masked, const real *h, const real *packed,
                                    const uint8_t *starts, int64_t relu, int64_t carried, fr_worker worker, int64_t B,
                                    int64_t H)
{
    if (worker.parts == 1)
        return FR(rnn_backward)(dh, dh_before, masked, h, packed, starts, relu, carried, B, H);
    return FR(rnn_backward_part)(dh, dh_before, masked, h, packed, starts, relu, carried, worker, B, H);
}

fr_inline fr_status fr_gru_forward(real *h, real *u, real *gates, real *masked, real *product, const real *h_before,
                                   const real *packed, const real *bias_hn, const uint8_t *starts, fr_worker worker,
                                   int64_t B, int64_t H)
{
    if (worker.parts == 1)
        return FR(gru_forward)(h, u, gates, masked, h_before, packed, bias_hn, starts, B, H);
    return FR(gru_forward_part)(h, u, gates, masked, product, h_before, packed, bias_hn, starts, worker, B, H);
}

fr_inline fr_status fr_gru_backward(real *dh_before, real *gates, real *u, real *masked, const real *dh,
                                    const real *h_before, const real *packed, const uint8_t *starts, int64_t carried,
                                    fr_worker worker, int64_t B, int64_t H)
{
    if (worker.parts == 1)
        return FR(gru_backward)(dh_before, gates, u, masked, dh, h_before, packed, starts, carried, B, H);
    return FR(gru_backward_part)(dh_before, gates, u, masked, dh, h_before, packed, starts, carried, worker, B, H);
}

fr_inline fr_status fr_lstm_forward(real *h, real *c, real *gates, real *masked, const real *h_before,
                                    const real *c_before, const real *packed, const uint8_t *starts, fr_worker worker,
                                    int64_t B, int64_t H)
{
    if (worker.parts == 1)
        return FR(lstm_forward)(h, c, gates, masked, h_before, c_before, packed, starts, B, H);
    return FR(lstm_forward_part)(h, c, gates, masked, h_before, c_before, packed, starts, worker, B, H);
}

fr_inline fr_status fr_lstm_backward(real *dh_before, real *dc, real *gates, real *masked, const real *dh,
                                     const real *c, const real *c_before, const real *packed, const uint8_t *starts,
                                     int64_t carried, fr_worker worker, int64_t B, int64_t H)
{
    if (worker.parts == 1)
        return FR(lstm_backward)(dh_before, dc, gates, masked, dh, c, c_before, packed, starts, carried, B, H);
    return FR(lstm_backward_part)(dh_before, dc, gates, masked, dh, c, c_before, packed, starts, carried, worker, B,
                                  H);
}

#endif
