/* elementary.c: the functions of elementary.h, over vectors. */

#include "elementary.h"
#include "fastrnn.h"

fr_status FR(elementary)(real *restrict y, const real *restrict x, int64_t function, int64_t n)
{
    if (n < 0)
        return FR_BAD_SIZE;
    switch (function) {
    case FR_EXP:
        for (int64_t i = 0; i < n; i++)
            y[i] = fr_exp(x[i]);
        return FR_OK;
    case FR_TANH:
        for (int64_t i = 0; i < n; i++)
            y[i] = fr_tanh(x[i]);
        return FR_OK;
    case FR_SIGMOID:
        for (int64_t i = 0; i < n; i++)
            y[i] = fr_sigmoid(x[i]);
        return FR_OK;
    case FR_LOG:
        for (int64_t i = 0; i < n; i++)
            y[i] = fr_log(x[i]);
        return FR_OK;
    default:
        return FR_BAD_CHOICE;
    }
}
