/* sums.h: adds up the FR_SUMS = 16 partial sums of a reduction: the second half to the first, until one is left. */
#ifndef FASTRNN_SUMS_H
#define FASTRNN_SUMS_H

#include "fastrnn.h"
#include "real.h"

_Static_assert(FR_SUMS == 16, "three halvings");

#define FR_DEFINE_ADD_HALVES(name, type)                   \
    static inline type name(const type *partial)           \
    {                                                      \
        type eight[8], four[4];                            \
        for (int l = 0; l < 8; l++)                        \
            eight[l] = partial[l] + partial[l + 8];        \
        for (int l = 0; l < 4; l++)                        \
            four[l] = eight[l] + eight[l + 4];             \
        return (four[0] + four[2]) + (four[1] + four[3]);  \
    }

FR_DEFINE_ADD_HALVES(fr_add_halves, real)
FR_DEFINE_ADD_HALVES(fr_add_halves_double, double)

#endif
