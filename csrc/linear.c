/* linear.c: the maps that are not recurrent, each one product over all T·B rows of a window. */

#include <string.h>

#include "fastrnn.h"
#include "matmul.h"

static void fill_rows(real *restrict y, const real *restrict row, int64_t N, int64_t O)
{
    for (int64_t n = 0; n < N; n++)
        memcpy(y + n * O, row, (size_t)O * sizeof(real));
}

fr_status FR(gather_forward)(real *restrict y, const real *restrict weight, const real *restrict bias,
                             const int32_t *restrict ids, int64_t N, int64_t V, int64_t O)
{
    if (N < 0 || V < 1 || O < 1)
        return FR_BAD_SIZE;
    for (int64_t n = 0; n < N; n++) {
        const int64_t id = ids[n];
        if (id < 0 || id >= V)
            return FR_BAD_SYMBOL;
        const real *row = weight + id * O;
        for (int64_t o = 0; o < O; o++)
            y[n * O + o] = row[o] + bias[o];
    }
    return FR_OK;
}

fr_status FR(gather_gradients)(real *restrict dweight, const real *restrict dy,
                               const int32_t *restrict ids, int64_t N, int64_t V, int64_t O)
{
    if (N < 0 || V < 1 || O < 1)
        return FR_BAD_SIZE;
    for (int64_t n = 0; n < N; n++) {
        const int64_t id = ids[n];
        if (id < 0 || id >= V)
            return FR_BAD_SYMBOL;
        real *row = dweight + id * O;
        for (int64_t o = 0; o < O; o++)
            row[o] += dy[n * O + o];
    }
    return FR_OK;
}

fr_status FR(linear_forward)(real *restrict y, real *restrict packed, const real *restrict x,
                             const real *restrict weight, const real *restrict bias, int64_t N, int64_t I,
                             int64_t O)
{
    if (N < 0 || I < 1 || O < 1)
        return FR_BAD_SIZE;
    fr_pack(packed, weight, 1, I, I, O);
    fill_rows(y, bias, N, O);
    fr_matmul_add(y, x, I, 1, packed, N, I, O);
    return FR_OK;
}

fr_status FR(linear_backward)(real *restrict dx, real *restrict packed, const real *restrict dy,
                              const real *restrict weight, int64_t N, int64_t I, int64_t O)
{
    if (N < 0 || I < 1 || O < 1)
        return FR_BAD_SIZE;
    memset(dx, 0, (size_t)(N * I) * sizeof(real));
    fr_pack(packed, weight, I, 1, O, I);
    fr_matmul_add(dx, dy, O, 1, packed, N, O, I);
    return FR_OK;
}

fr_status FR(linear_gradients)(real *restrict dweight, real *restrict dbias, real *restrict packed,
                               const real *restrict dy, const real *restrict x, int64_t N, int64_t I,
                               int64_t O)
{
    if (N < 0 || I < 1 || O < 1)
        return FR_BAD_SIZE;
    fr_matmul_add_long(dweight, dy, x, packed, O, N, I);
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < O; o++)
            dbias[o] += dy[n * O + o];
    return FR_OK;
}
