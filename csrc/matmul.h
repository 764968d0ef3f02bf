/* matmul.h: the one matrix product behind every kernel, C += A B.
 *
 * Each element of C is one chain of fused multiply-adds over k in ascending order, starting from what C
 * held. That fixes its bits: tiles, panels and blocks below only choose which chains run side by side.
 *
 * B is packed into panels FR_PANEL columns wide, zeros in place of the columns it has not, so that a
 * tile reads it with stride one. A tile keeps FR_TILE_ROWS rows of two vectors of C in registers while
 * it runs down a panel. Of a long product, FR_BLOCK rows of B at a time are packed and stay in the cache
 * while the tiles run over them. */
#ifndef FASTRNN_MATMUL_H
#define FASTRNN_MATMUL_H

#include <stdint.h>
#include <string.h>

#include "fastrnn.h"
#include "simd.h"

#define FR_PANEL (2 * FR_LANES)

#define fr_inline static inline __attribute__((always_inline))

static inline int64_t fr_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* R rows of C, one panel wide, += R rows of A times a panel of K rows. */
fr_inline void fr_tile(const int64_t R, real *c, int64_t c_i, const real *a, int64_t a_i, int64_t a_k,
                       const real *panel, int64_t K)
{
    vec left[FR_TILE_ROWS], right[FR_TILE_ROWS];
    for (int64_t i = 0; i < R; i++) {
        left[i] = vec_load(c + i * c_i);
        right[i] = vec_load(c + i * c_i + FR_LANES);
    }
    for (int64_t k = 0; k < K; k++) {
        const vec b_left = vec_load(panel + k * FR_PANEL), b_right = vec_load(panel + k * FR_PANEL + FR_LANES);
        for (int64_t i = 0; i < R; i++) {
            const vec x = vec_fill(a[i * a_i + k * a_k]);
            left[i] = vec_fma(x, b_left, left[i]);
            right[i] = vec_fma(x, b_right, right[i]);
        }
    }
    for (int64_t i = 0; i < R; i++) {
        vec_store(c + i * c_i, left[i]);
        vec_store(c + i * c_i + FR_LANES, right[i]);
    }
}

/* The same for any number of rows up to FR_TILE_ROWS, and any number of columns up to a panel's. */
static inline void fr_edge_tile(int64_t rows, int64_t columns, real *c, int64_t c_i, const real *a, int64_t a_i,
                                int64_t a_k, const real *panel, int64_t K)
{
    real padded[FR_TILE_ROWS * FR_PANEL];
    real *out = c;
    int64_t out_i = c_i;
    if (columns < FR_PANEL) {
        memset(padded, 0, sizeof padded);
        for (int64_t i = 0; i < rows; i++)
            memcpy(padded + i * FR_PANEL, c + i * c_i, (size_t)columns * sizeof(real));
        out = padded;
        out_i = FR_PANEL;
    }
    switch (rows) {
    case 1: fr_tile(1, out, out_i, a, a_i, a_k, panel, K); break;
    case 2: fr_tile(2, out, out_i, a, a_i, a_k, panel, K); break;
#if FR_TILE_ROWS > 2
    case 3: fr_tile(3, out, out_i, a, a_i, a_k, panel, K); break;
    case 4: fr_tile(4, out, out_i, a, a_i, a_k, panel, K); break;
#endif
#if FR_TILE_ROWS > 4
    case 5: fr_tile(5, out, out_i, a, a_i, a_k, panel, K); break;
    case 6: fr_tile(6, out, out_i, a, a_i, a_k, panel, K); break;
    case 7: fr_tile(7, out, out_i, a, a_i, a_k, panel, K); break;
    case 8: fr_tile(8, out, out_i, a, a_i, a_k, panel, K); break;
#endif
    default: break;
    }
    if (columns < FR_PANEL)
        for (int64_t i = 0; i < rows; i++)
            memcpy(c + i * c_i, padded + i * FR_PANEL, (size_t)columns * sizeof(real));
}

/* One row of C, four panels wide, += one row of A times four panels: with a single row, it takes more
 * columns to keep the multipliers busy. */
static inline void fr_row_tile(real *c, const real *a, int64_t a_k, const real *panels, int64_t K)
{
    vec x[8];
    for (int64_t j = 0; j < 8; j++)
        x[j] = vec_load(c + j * FR_LANES);
    for (int64_t k = 0; k < K; k++) {
        const vec a_k_all = vec_fill(a[k * a_k]);
        for (int64_t p = 0; p < 4; p++) {
            const real *b = panels + (p * K + k) * FR_PANEL;
            x[2 * p] = vec_fma(a_k_all, vec_load(b), x[2 * p]);
            x[2 * p + 1] = vec_fma(a_k_all, vec_load(b + FR_LANES), x[2 * p + 1]);
        }
    }
    for (int64_t j = 0; j < 8; j++)
        vec_store(c + j * FR_LANES, x[j]);
}

/* Elements of a packed matrix of K rows and J columns. */
static inline int64_t fr_packed_size(int64_t K, int64_t J)
{
    return (J + FR_PANEL - 1) / FR_PANEL * FR_PANEL * K;
}

/* Packs B (K, J), whose element (k, j) stands at b[k * b_k + j * b_j]. */
static inline void fr_pack(real *restrict packed, const real *restrict b, int64_t b_k, int64_t b_j, int64_t K,
                           int64_t J)
{
    for (int64_t j = 0; j < J; j += FR_PANEL) {
        const int64_t columns = fr_min(FR_PANEL, J - j);
        for (int64_t k = 0; k < K; k++, packed += FR_PANEL) {
            const real *row = b + k * b_k + j * b_j;
            if (b_j == 1 && columns == FR_PANEL) {
                memcpy(packed, row, FR_PANEL * sizeof(real));
                continue;
            }
            for (int64_t i = 0; i < columns; i++)
                packed[i] = row[i * b_j];
            for (int64_t i = columns; i < FR_PANEL; i++)
                packed[i] = 0;
        }
    }
}

/* C (I, J) += A (I, K) B (K, J), with B packed; A's element (i, k) stands at a[i * a_i + k * a_k]. */
static inline void fr_matmul_add(real *restrict c, const real *a, int64_t a_i, int64_t a_k,
                                 const real *restrict packed, int64_t I, int64_t K, int64_t J)
{
    int64_t j = 0;
    if (I == 1)
        for (; j + 4 * FR_PANEL <= J; j += 4 * FR_PANEL)
            fr_row_tile(c + j, a, a_k, packed + j * K, K);
    for (; j < J; j += FR_PANEL) {
        const real *panel = packed + j * K;
        const int64_t columns = fr_min(FR_PANEL, J - j);
        for (int64_t i = 0; i < I; i += FR_TILE_ROWS)
            fr_edge_tile(fr_min(FR_TILE_ROWS, I - i), columns, c + i * J + j, J, a + i * a_i, a_i, a_k, panel, K);
    }
}

/* C (I, J) += Aᵀ B, for A (K, I) and B (K, J) as they are, with K large: B is packed a block of rows at
 * a time into `packed`, of FR_BLOCK rows. */
static inline void fr_matmul_add_long(real *restrict c, const real *a, const real *restrict b,
                                      real *restrict packed, int64_t I, int64_t K, int64_t J)
{
    for (int64_t k = 0; k < K; k += FR_BLOCK) {
        const int64_t rows = fr_min(FR_BLOCK, K - k);
        fr_pack(packed, b + k * J, J, 1, rows, J);
        fr_matmul_add(c, a + k * I, 1, I, packed, I, rows, J);
    }
}

#endif
