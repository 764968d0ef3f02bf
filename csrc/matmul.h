/* matmul.h: the one matrix product behind every kernel, C = C₀ + A B.
 *
 * Each element of C is one chain of fused multiply-adds over k in ascending order, starting from its
 * element of C₀: C itself, or one row for all. That fixes its bits: tiles, panels and blocks below only
 * choose which chains run side by side.
 *
 * B is packed into panels of two vectors' columns, zeros in place of the columns it has not, so that a
 * tile reads it with stride one. A tile keeps up to FR_TILE_ROWS rows of a panel of C in registers while
 * it runs down the panel of B, FR_BLOCK rows at most, which stay in the cache for the next tile. */
#ifndef FASTRNN_MATMUL_H
#define FASTRNN_MATMUL_H

#include <stdint.h>
#include <string.h>

#include "fastrnn.h"
#include "simd.h"

#define FR_PANEL (2 * FR_LANES)

fr_inline int64_t fr_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Where a part of n things begins; the next part begins where it ends. */
fr_inline int64_t fr_part(int64_t n, int64_t part, int64_t parts)
{
    return n * part / parts;
}

/* Rows of C, rows of A, and packed panels of B, `apart` elements apart. */
typedef struct {
    real *c;
    int64_t c_i;
    const real *from; /* C₀ */
    int64_t from_i;
    const real *a; /* element (i, k) at a[i * a_i + k * a_k] */
    int64_t a_i, a_k;
    const real *panels;
    int64_t apart;
    int64_t K;
} Operands;

/* R rows of W vectors of C, of which the first `columns` columns are there. R and W are constants. */
fr_inline void fr_tile(const int64_t R, const int64_t W, const Operands *o, int64_t columns)
{
    const int64_t a_i = o->a_i, a_k = o->a_k, apart = o->apart, K = o->K;
    const real *restrict a = o->a, *restrict panels = o->panels;
    vec sum[2 * FR_TILE_ROWS];
    for (int64_t i = 0; i < R; i++)
        for (int64_t j = 0; j < W; j++)
            sum[i * W + j] = vec_load_some(o->from + i * o->from_i + j * FR_LANES, columns - j * FR_LANES);
    for (int64_t k = 0; k < K; k++)
        for (int64_t i = 0; i < R; i++) {
            const vec x = vec_fill(a[i * a_i + k * a_k]);
            for (int64_t j = 0; j < W; j++) {
                const vec y = vec_load(panels + (j / 2) * apart + k * FR_PANEL + (j % 2) * FR_LANES);
                sum[i * W + j] = vec_fma(x, y, sum[i * W + j]);
            }
        }
    for (int64_t i = 0; i < R; i++)
        for (int64_t j = 0; j < W; j++)
            vec_store_some(o->c + i * o->c_i + j * FR_LANES, sum[i * W + j], columns - j * FR_LANES);
}

/* Any number of rows up to FR_TILE_ROWS, and of columns up to a panel's. */
static inline void fr_tile_of_rows(int64_t rows, int64_t columns, const Operands *o)
{
    const int64_t narrow = columns <= FR_LANES;
    switch (2 * rows + narrow) {
    case 2: fr_tile(1, 2, o, columns); break;
    case 3: fr_tile(1, 1, o, columns); break;
    case 4: fr_tile(2, 2, o, columns); break;
    case 5: fr_tile(2, 1, o, columns); break;
#if FR_TILE_ROWS > 2
    case 6: fr_tile(3, 2, o, columns); break;
    case 7: fr_tile(3, 1, o, columns); break;
    case 8: fr_tile(4, 2, o, columns); break;
    case 9: fr_tile(4, 1, o, columns); break;
    case 10: fr_tile(5, 2, o, columns); break;
    case 11: fr_tile(5, 1, o, columns); break;
    case 12: fr_tile(6, 2, o, columns); break;
    case 13: fr_tile(6, 1, o, columns); break;
#endif
#if FR_TILE_ROWS > 6
    case 14: fr_tile(7, 2, o, columns); break;
    case 15: fr_tile(7, 1, o, columns); break;
    case 16: fr_tile(8, 2, o, columns); break;
    case 17: fr_tile(8, 1, o, columns); break;
#endif
    default: break;
    }
}

/* One row, and any number of columns up to those of FR_ROW_VECTORS vectors. */
static inline void fr_tile_of_columns(int64_t columns, const Operands *o)
{
    switch ((columns + FR_PANEL - 1) / FR_PANEL) {
    case 1: fr_tile(1, 2, o, columns); break;
    case 2: fr_tile(1, 4, o, columns); break;
#if FR_ROW_VECTORS > 4
    case 3: fr_tile(1, 6, o, columns); break;
    case 4: fr_tile(1, 8, o, columns); break;
#endif
#if FR_ROW_VECTORS > 8
    case 5: fr_tile(1, 10, o, columns); break;
    case 6: fr_tile(1, 12, o, columns); break;
    case 7: fr_tile(1, 14, o, columns); break;
    case 8: fr_tile(1, 16, o, columns); break;
#endif
    default: break;
    }
}

/* Packs columns first … last-1 of B (K, J), whose element (k, j) stands at b[k * b_k + j * b_j]; `first`
 * begins a panel. Rows that start (unless `starts` is null) become zeros, and so does what is tiny: weights may be. */
static inline void fr_pack(real *restrict packed, const real *restrict b, int64_t b_k, int64_t b_j,
                           const uint8_t *starts, int64_t K, int64_t first, int64_t last)
{
    for (int64_t j = first; j < last; j += FR_PANEL) {
        const int64_t columns = fr_min(FR_PANEL, last - j);
        real *panel = packed + j * K;
        for (int64_t k = 0; k < K; k++) {
            const real *row = b + k * b_k + j * b_j;
            const int64_t copied = starts && starts[k] ? 0 : columns;
            if (b_j == 1 && copied == FR_PANEL) {
                for (int64_t i = 0; i < FR_PANEL; i++)
                    panel[k * FR_PANEL + i] = fr_flush(row[i], FR_TINY);
                continue;
            }
            for (int64_t i = 0; i < copied; i++)
                panel[k * FR_PANEL + i] = fr_flush(row[i * b_j], FR_TINY);
            for (int64_t i = copied; i < FR_PANEL; i++)
                panel[k * FR_PANEL + i] = 0;
        }
    }
}

/* C (I, J) = C₀ + A (I, K) B (K, J), with B packed. The rows of C are J apart, those of C₀ from_i. */
static inline void fr_matmul(real *c, const real *from, int64_t from_i, const real *a, int64_t a_i, int64_t a_k,
                             const real *packed, int64_t I, int64_t K, int64_t J)
{
    const int64_t tiles = (I + FR_TILE_ROWS - 1) / FR_TILE_ROWS;
    const int64_t width = I == 1 ? FR_ROW_VECTORS * FR_LANES : FR_PANEL;
    for (int64_t k = 0; k < K; k += FR_BLOCK) {
        for (int64_t j = 0; j < J; j += width) {
            const int64_t columns = fr_min(width, J - j);
            Operands o = {c + j, J, from + j, from_i, a + k * a_k, a_i, a_k, packed + j * K + k * FR_PANEL, K * FR_PANEL,
                          fr_min(FR_BLOCK, K - k)};
            if (I == 1) {
                fr_tile_of_columns(columns, &o);
                continue;
            }
            for (int64_t tile = 0; tile < tiles; tile++) { /* as high as each other, within a row */
                const int64_t rows = I / tiles + (tile < I % tiles);
                fr_tile_of_rows(rows, columns, &o);
                o.c += rows * o.c_i;
                o.from += rows * o.from_i;
                o.a += rows * o.a_i;
            }
        }
        from = c;
        from_i = J;
    }
}

/* Columns first … last-1 of Aᵀ, as rows of C (I, J) += Aᵀ B, for A (K, I) and B (K, J) as they are, with
 * K large: B is packed a block of rows at a time, and A is read as many columns at a time as stay in the
 * cache beside it. */
static inline void fr_matmul_add_long(real *c, const real *a, const real *b, const uint8_t *starts, real *block,
                                      int64_t first, int64_t last, int64_t I, int64_t K, int64_t J)
{
    for (int64_t k = 0; k < K; k += FR_BLOCK) {
        const int64_t rows = fr_min(FR_BLOCK, K - k);
        fr_pack(block, b + k * J, J, 1, starts ? starts + k : NULL, rows, 0, J);
        for (int64_t i = first; i < last; i += FR_ROWS)
            fr_matmul(c + i * J, c + i * J, J, a + k * I + i, 1, I, block, fr_min(FR_ROWS, last - i), rows, J);
    }
}

/* sum (O) += the rows of y (N, O) in their order, in columns first … last-1. */
static inline void fr_add_rows(real *restrict sum, const real *restrict y, int64_t first, int64_t last, int64_t N,
                               int64_t O)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = first; o < last; o++)
            sum[o] += y[n * O + o];
}

#endif
