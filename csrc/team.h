/* team.h: a barrier, at which the workers of a team wait for each other at the end of each phase.
 *
 * The caller makes the threads, one for each worker. The workers share an array of counters; the last worker to
 * arrive starts the next generation. A wait is short, so a worker spins. If a wait is long, it yields. */
#ifndef FASTRNN_TEAM_H
#define FASTRNN_TEAM_H

#include <sched.h>
#include <stddef.h>
#include <stdint.h>

#include "fastrnn.h"

/* The generation of a barrier that nobody passes any more, because a worker that waited at it was aborted. */
enum { FR_CLOSED = -1 };

typedef struct {
    int32_t *barrier; /* (FR_BARRIER) */
    int64_t part, parts;
} fr_worker;

/* A single worker never waits and is never aborted. */
static const fr_worker fr_alone = {NULL, 0, 1};

static inline int fr_bad_worker(fr_worker worker)
{
    return worker.part < 0 || worker.part >= worker.parts;
}

fr_inline int fr_is_aborted(const int32_t *barrier)
{
    return __atomic_load_n(barrier + FR_ABORT, __ATOMIC_ACQUIRE) != 0;
}

/* Replaces a counter's value if it is still `now`; returns whether it was. */
static inline int fr_replace(int32_t *counter, int32_t now, int32_t by)
{
    return __atomic_compare_exchange_n(counter, &now, by, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* FR_ABORTED if the call is to end. A phase that may take long checks this regularly. */
static inline fr_status fr_check_abort(fr_worker worker)
{
    return worker.barrier && fr_is_aborted(worker.barrier) ? FR_ABORTED : FR_OK;
}

/* In how many pieces a worker does its part of so many multiply-adds; it checks for an abort before each piece. */
fr_inline int64_t fr_pieces(int64_t multiply_adds, fr_worker worker)
{
    return 1 + multiply_adds / worker.parts / FR_PIECE;
}

/* A piece of a worker's part, as a part of more parts; it is not for waiting. */
fr_inline fr_worker fr_piece_of(fr_worker worker, int64_t piece, int64_t pieces)
{
    const fr_worker own = {worker.barrier, worker.part * pieces + piece, worker.parts * pieces};
    return own;
}

/* All workers pass a barrier or none does: the last one to arrive opens it, or an aborted one closes it. */
static inline fr_status fr_wait_for_others(fr_worker worker)
{
    int32_t *arrived = worker.barrier + FR_ARRIVED, *generation = worker.barrier + FR_GENERATION;
    const int32_t now = __atomic_load_n(generation, __ATOMIC_ACQUIRE);
    if (now == FR_CLOSED)
        return FR_ABORTED;
    if (__atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL) == worker.parts) {
        __atomic_store_n(arrived, 0, __ATOMIC_RELAXED);
        return fr_replace(generation, now, now + 1) ? FR_OK : FR_ABORTED;
    }
    for (int64_t spins = 0; __atomic_load_n(generation, __ATOMIC_ACQUIRE) == now; spins++) {
        if (fr_is_aborted(worker.barrier))
            fr_replace(generation, now, FR_CLOSED);
        if (spins > 2000)
            sched_yield();
    }
    return __atomic_load_n(generation, __ATOMIC_ACQUIRE) == FR_CLOSED ? FR_ABORTED : FR_OK;
}

fr_inline fr_status fr_barrier_wait(fr_worker worker)
{
    return worker.parts > 1 ? fr_wait_for_others(worker) : FR_OK;
}

#endif
