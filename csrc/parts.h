/* parts.h: what one worker of a team does of a step of a cell, and of the input's share of its gates, if the workers
 * share the columns of the products.
 *
 * A worker takes some columns of each product, in whole panels, for all batch rows, and the functions of some hidden
 * units. The workers wait for each other where one reads what another wrote. The arguments are those of the kernel with
 * the name before `_part`; `worker` precedes the sizes. A single worker calls that kernel. No array is `restrict`,
 * since other workers write to it. */
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

#endif
