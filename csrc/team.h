/* team.h: how the parts of one piece of work wait for each other, at the end of each phase.
 *
 * The threads are the caller's. They meet in an array of counters that they share: the last one to arrive
 * begins the next round. A wait is short, so they spin, and give way to others when it is not. */
#ifndef FASTRNN_TEAM_H
#define FASTRNN_TEAM_H

#include <sched.h>
#include <stdint.h>

#include "fastrnn.h"

typedef struct {
    int32_t *barrier; /* (FR_BARRIER) */
    int64_t part, parts;
} fr_worker;

/* FR_ABORTED once the parts are to end: what may last asks now and then. */
static inline fr_status fr_check_abort(fr_worker worker)
{
    return __atomic_load_n(worker.barrier + FR_ABORT, __ATOMIC_ACQUIRE) ? FR_ABORTED : FR_OK;
}

static inline fr_status fr_barrier_wait(fr_worker worker)
{
    if (worker.parts == 1)
        return FR_OK;
    int32_t *arrived = worker.barrier + FR_ARRIVED, *generation = worker.barrier + FR_GENERATION;
    const int32_t now = __atomic_load_n(generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL) == worker.parts) {
        __atomic_store_n(arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(generation, now + 1, __ATOMIC_RELEASE);
        return FR_OK;
    }
    for (int64_t spins = 0; __atomic_load_n(generation, __ATOMIC_ACQUIRE) == now; spins++) {
        if (fr_check_abort(worker) != FR_OK)
            return FR_ABORTED;
        if (spins > 2000)
            sched_yield();
    }
    return FR_OK;
}

#endif
