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

/* FR_ABORTED if the call is to end. A phase that may take long checks this regularly. */
static inline fr_status fr_check_abort(fr_worker worker)
{
    return worker.barrier && fr_is_aborted(worker.barrier) ? FR_ABORTED : FR_OK;
}

static inline fr_status fr_wait_for_others(fr_worker worker)
{
    int32_t *arrived = worker.barrier + FR_ARRIVED, *generation = worker.barrier + FR_GENERATION;
    const int32_t now = __atomic_load_n(generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL) == worker.parts) {
        __atomic_store_n(arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(generation, now + 1, __ATOMIC_RELEASE);
        return FR_OK;
    }
    for (int64_t spins = 0; __atomic_load_n(generation, __ATOMIC_ACQUIRE) == now; spins++) {
        if (fr_is_aborted(worker.barrier))
            return FR_ABORTED;
        if (spins > 2000)
            sched_yield();
    }
    return FR_OK;
}

fr_inline fr_status fr_barrier_wait(fr_worker worker)
{
    return worker.parts > 1 ? fr_wait_for_others(worker) : FR_OK;
}

#endif
