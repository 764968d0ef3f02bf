/* rows.h: functions that several cells use: for rows that start anew, and for gates. */
#ifndef FASTRNN_ROWS_H
#define FASTRNN_ROWS_H

#include <string.h>

#include "elementary.h"

/* The rows (B, H), with zeros in the rows that start. Returns `rows` itself if no row starts, else a copy. */
static inline const real *fr_mask_starts(real *restrict masked, const real *restrict rows, const uint8_t *starts,
                                         int64_t B, int64_t H)
{
    if (!memchr(starts, 1, (size_t)B))
        return rows;
    for (int64_t b = 0; b < B; b++) {
        if (starts[b])
            memset(masked + b * H, 0, (size_t)H * sizeof(real));
        else
            memcpy(masked + b * H, rows + b * H, (size_t)H * sizeof(real));
    }
    return masked;
}

/* The derivative of the sigmoid where its value is s. */
fr_inline real fr_sigmoid_slope(real s)
{
    return fr_flush(s * (1 - s), FR_TINY);
}

#endif
