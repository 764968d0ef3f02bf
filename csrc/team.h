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
    int32_t *sync; /* (FR_SYNC) */
    int64_t part, parts;
} Team;

/* FR_ABORTED once the parts are to end: what may last asks now and then. */
static inline fr_status fr_go_on(Team team)
{
    return __atomic_load_n(team.sync + FR_ABORT, __ATOMIC_ACQUIRE) ? FR_ABORTED : FR_OK;
}

static inline fr_status fr_wait_for_all(Team team)
{
    if (team.parts == 1)
        return FR_OK;
    int32_t *arrived = team.sync + FR_ARRIVED, *round = team.sync + FR_ROUND;
    const int32_t now = __atomic_load_n(round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL) == team.parts) {
        __atomic_store_n(arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(round, now + 1, __ATOMIC_RELEASE);
        return FR_OK;
    }
    for (int64_t spins = 0; __atomic_load_n(round, __ATOMIC_ACQUIRE) == now; spins++) {
        if (fr_go_on(team) != FR_OK)
            return FR_ABORTED;
        if (spins > 2000)
            sched_yield();
    }
    return FR_OK;
}

#endif
