/* linear.c: embeddings, linear layers, and the gradients of weights. */

#include "fastrnn.h"
#include "matmul.h"
#include "parts.h"
#include "views.h"

fr_status FR(pack)(real *restrict packed, const real *restrict weight, int64_t transposed, int64_t part,
                   int64_t parts, int64_t K, int64_t J)
{
    if (part < 0 || part >= parts || K < 1 || J < 1)
        return FR_BAD_SIZE;
    const int64_t first = fr_part_column(J, part, parts), last = fr_part_column(J, part + 1, parts);
    for (int64_t j = first; j < last; j += FR_NR) {
        const int64_t columns = fr_min(FR_NR, last - j);
        if (transposed)
            fr_pack_transposed(packed + j * K, weight + j * K, K, columns);
        else
            fr_pack_panel(packed + j * K, weight + j, J, K, columns);
    }
    return FR_OK;
}

fr_status FR(embedding_forward)(real *restrict y, const real *restrict weight, const int32_t *restrict ids, int64_t N,
                                int64_t V, int64_t O)
{
    if (N < 0 || V < 1 || O < 1)
        return FR_BAD_SIZE;
    for (int64_t n = 0; n < N; n++) {
        const int64_t id = ids[n];
        if (id < 0 || id >= V)
            return FR_BAD_SYMBOL;
        memcpy(y + n * O, weight + id * O, (size_t)O * sizeof(real));
    }
    return FR_OK;
}

fr_status FR(embedding_gradients)(real *restrict dweight, const real *restrict dy, const int32_t *restrict ids,
                                  int64_t part, int64_t parts, int64_t N, int64_t V, int64_t O)
{
    if (part < 0 || part >= parts || N < 0 || V < 1 || O < 1)
        return FR_BAD_SIZE;
    const int64_t first = fr_part_start(O, part, parts), last = fr_part_start(O, part + 1, parts);
    for (int64_t n = 0; n < N; n++) {
        const int64_t id = ids[n];
        if (id < 0 || id >= V)
            return FR_BAD_SYMBOL;
        real *row = dweight + id * O;
        for (int64_t o = first; o < last; o++)
            row[o] += dy[n * O + o];
    }
    return FR_OK;
}

fr_inline fr_status some_gather(real *y, const real *weight, const real *bias, const int32_t *ids, fr_worker worker,
                                int64_t N, int64_t V, int64_t G, int64_t H)
{
    const fr_columns part = fr_part_columns(worker, G, H);
    const int64_t O = G * H;
    for (int64_t n = 0; n < N; n++) {
        const int64_t id = ids[n];
        if (id < 0 || id >= V)
            return FR_BAD_SYMBOL;
        const real *row = weight + id * O;
        for (int64_t range = 0, first = part.first; range < part.ranges; range++, first += H)
            for (int64_t o = first; o < first + part.n; o++)
                y[n * O + o] = row[o] + bias[o];
    }
    return FR_OK;
}

fr_status FR(gather_forward)(real *restrict y, const real *restrict weight, const real *restrict bias,
                             const int32_t *restrict ids, int64_t N, int64_t V, int64_t O)
{
    if (N < 0 || V < 1 || O < 1)
        return FR_BAD_SIZE;
    return some_gather(y, weight, bias, ids, fr_alone, N, V, 1, O);
}

fr_status FR(gather_part)(real *y, const real *weight, const real *bias, const int32_t *ids, fr_worker worker,
                          int64_t N, int64_t V, int64_t G, int64_t H)
{
    return some_gather(y, weight, bias, ids, worker, N, V, G, H);
}

fr_status FR(gather_gradients)(real *restrict dweight, real *restrict dbias, const real *restrict dy,
                               const int32_t *restrict ids, int64_t part, int64_t parts, int64_t N, int64_t V,
                               int64_t O)
{
    if (part < 0 || part >= parts || N < 0 || V < 1 || O < 1)
        return FR_BAD_SIZE;
    const int64_t first = fr_part_start(O, part, parts), last = fr_part_start(O, part + 1, parts);
    for (int64_t n = 0; n < N; n++) {
        const int64_t id = ids[n];
        if (id < 0 || id >= V)
            return FR_BAD_SYMBOL;
        real *row = dweight + id * O;
        for (int64_t o = first; o < last; o++) { /* one pass over dy for both, since dy may be large */
            row[o] += dy[n * O + o];
            dbias[o] += dy[n * O + o];
        }
    }
    return FR_OK;
}

fr_status FR(linear_forward)(real *restrict y, const real *restrict x, const real *restrict packed,
                             const real *restrict bias, int64_t N, int64_t I, int64_t O)
{
    if (N < 0 || I < 1 || O < 1)
        return FR_BAD_SIZE;
    fr_matmul(y, O, bias, 0, x, I, 1, packed, N, I, O);
    return FR_OK;
}

fr_status FR(linear_gradients)(real *restrict dweight, real *restrict dbias, real *restrict block,
                               const real *restrict dy, const real *restrict x, int64_t part, int64_t parts,
                               int64_t N, int64_t I, int64_t O)
{
    if (part < 0 || part >= parts || N < 0 || I < 1 || O < 1)
        return FR_BAD_SIZE;
    const int64_t first = fr_part_start(O, part, parts), last = fr_part_start(O, part + 1, parts);
    fr_weight_gradients(dweight, dbias, block, dy, x, NULL, first, last, N, I, O);
    return FR_OK;
}

fr_status FR(recurrent_gradients)(real *restrict dweight_hh, real *restrict block, const real *restrict dy,
                                  const real *restrict h_before, const uint8_t *restrict starts, int64_t part,
                                  int64_t parts, int64_t N, int64_t H, int64_t O)
{
    if (part < 0 || part >= parts || N < 0 || H < 1 || O < 1)
        return FR_BAD_SIZE;
    const int64_t first = fr_part_start(O, part, parts), last = fr_part_start(O, part + 1, parts);
    fr_weight_gradients(dweight_hh, NULL, block, dy, h_before, starts, first, last, N, H, O);
    return FR_OK;
}
