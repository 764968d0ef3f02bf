/* matmul.h: the one matrix product behind every kernel, C = C₀ + A B.
 *
 * Each element of C is the result of fused multiply-adds over k in ascending order. It starts from its element
 * of C₀, which is C itself or one row for all rows. This fixes the bits. Tiles, panels and blocks only choose
 * which elements are computed at the same time.
 *
 * B is packed into panels that are two vectors wide; missing columns are zeros. The micro-kernel reads a panel
 * with stride one. It keeps a tile of C in registers, up to FR_MR rows of a panel, and reads up to FR_KC rows of
 * the panel of B, which stay in the first-level cache for the next tile. */
#ifndef FASTRNN_MATMUL_H
#define FASTRNN_MATMUL_H

#include <stdint.h>
#include <string.h>

#include "elementary.h"
#include "fastrnn.h"
#include "simd.h"
#include "team.h"

#define FR_NR (2 * FR_LANES)
_Static_assert(FR_MAX_NR % FR_NR == 0, "a packed matrix has room for whole panels");

fr_inline int64_t fr_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Where a part of n things begins; the next part begins where it ends. */
fr_inline int64_t fr_part_start(int64_t n, int64_t part, int64_t parts)
{
    return parts == 1 ? n * part : n * part / parts;
}

/* Where a part of the J columns of a packed matrix begins: the parts have whole panels. */
fr_inline int64_t fr_part_column(int64_t J, int64_t part, int64_t parts)
{
    return fr_min(fr_part_start((J + FR_NR - 1) / FR_NR, part, parts) * FR_NR, J);
}

/* A worker's part of the columns of G gates of H units each: `ranges` ranges of n columns, H apart. */
typedef struct {
    int64_t first, n, ranges;
} fr_columns;

/* Whether a worker has the columns of all gates of its hidden units: this needs whole panels in a gate. */
fr_inline int fr_by_units(fr_worker worker, int64_t H)
{
    return worker.parts > 1 && H % FR_NR == 0;
}

fr_inline fr_columns fr_part_columns(fr_worker worker, int64_t G, int64_t H)
{
    fr_columns part = {0, G * H, 1};
    if (worker.parts > 1) {
        const int by_units = fr_by_units(worker, H);
        const int64_t J = by_units ? H : G * H;
        part.first = fr_part_column(J, worker.part, worker.parts);
        part.n = fr_part_column(J, worker.part + 1, worker.parts) - part.first;
        part.ranges = by_units ? G : 1;
    }
    return part;
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
    int64_t panel_stride;
    int64_t K;
} fr_operands;

/* R rows of W vectors of C, of which the first `columns` columns are there. R and W are constants. */
fr_inline void fr_tile(const int64_t R, const int64_t W, const fr_operands *o, int64_t columns)
{
    const int64_t a_i = o->a_i, a_k = o->a_k, panel_stride = o->panel_stride, K = o->K;
    const real *restrict a = o->a, *restrict panels = o->panels;
    fr_vec sum[2 * FR_MR];
    for (int64_t i = 0; i < R; i++)
        for (int64_t j = 0; j < W; j++)
            sum[i * W + j] = fr_vec_load_some(o->from + i * o->from_i + j * FR_LANES, columns - j * FR_LANES);
    for (int64_t k = 0; k < K; k++)
        for (int64_t i = 0; i < R; i++) {
            const real x = a[i * a_i + k * a_k];
            for (int64_t j = 0; j < W; j++) {
                const fr_vec y = fr_vec_load(panels + (j / 2) * panel_stride + k * FR_NR + (j % 2) * FR_LANES);
                sum[i * W + j] = fr_vec_fma(x, y, sum[i * W + j]);
            }
        }
    for (int64_t i = 0; i < R; i++)
        for (int64_t j = 0; j < W; j++)
            fr_vec_store_some(o->c + i * o->c_i + j * FR_LANES, sum[i * W + j], columns - j * FR_LANES);
}

/* Any number of rows up to FR_MR, and of columns up to a panel's. */
static inline void fr_tile_of_rows(int64_t rows, int64_t columns, const fr_operands *o)
{
    const int64_t narrow = columns <= FR_LANES;
    switch (2 * rows + narrow) {
    case 2: fr_tile(1, 2, o, columns); break;
    case 3: fr_tile(1, 1, o, columns); break;
    case 4: fr_tile(2, 2, o, columns); break;
    case 5: fr_tile(2, 1, o, columns); break;
#if FR_MR > 2
    case 6: fr_tile(3, 2, o, columns); break;
    case 7: fr_tile(3, 1, o, columns); break;
    case 8: fr_tile(4, 2, o, columns); break;
    case 9: fr_tile(4, 1, o, columns); break;
    case 10: fr_tile(5, 2, o, columns); break;
    case 11: fr_tile(5, 1, o, columns); break;
    case 12: fr_tile(6, 2, o, columns); break;
    case 13: fr_tile(6, 1, o, columns); break;
#endif
#if FR_MR > 6
    case 14: fr_tile(7, 2, o, columns); break;
    case 15: fr_tile(7, 1, o, columns); break;
    case 16: fr_tile(8, 2, o, columns); break;
    case 17: fr_tile(8, 1, o, columns); break;
#endif
    default: break;
    }
}

/* One row, and any number of columns up to those of FR_ROW_VECTORS vectors. */
static inline void fr_tile_of_columns(int64_t columns, const fr_operands *o)
{
    switch ((columns + FR_LANES - 1) / FR_LANES) {
    case 1: fr_tile(1, 1, o, columns); break;
    case 2: fr_tile(1, 2, o, columns); break;
    case 3: fr_tile(1, 3, o, columns); break;
    case 4: fr_tile(1, 4, o, columns); break;
#if FR_ROW_VECTORS > 4
    case 5: fr_tile(1, 5, o, columns); break;
    case 6: fr_tile(1, 6, o, columns); break;
    case 7: fr_tile(1, 7, o, columns); break;
    case 8: fr_tile(1, 8, o, columns); break;
#endif
    default: break;
    }
}

typedef real fr_eight __attribute__((vector_size(8 * sizeof(real)), aligned(sizeof(real)), may_alias));

#if defined(__clang__)
#define FR_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef fr_int fr_eight_lanes __attribute__((vector_size(8 * sizeof(real))));
#define FR_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (fr_eight_lanes){__VA_ARGS__})
#endif

/* Eight rows of eight become columns: three times the first four are shuffled into the other four. */
static inline void fr_transpose(real *restrict out, int64_t out_i, const real *restrict x, int64_t x_i)
{
    fr_eight rows[8], next[8];
    for (int64_t i = 0; i < 8; i++)
        rows[i] = *(const fr_eight *)(x + i * x_i);
    for (int stage = 0; stage < 3; stage++) {
        for (int64_t i = 0; i < 4; i++) {
            next[2 * i] = FR_SHUFFLE(rows[i], rows[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            next[2 * i + 1] = FR_SHUFFLE(rows[i], rows[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        for (int64_t i = 0; i < 8; i++)
            rows[i] = next[i];
    }
    for (int64_t i = 0; i < 8; i++)
        *(fr_eight *)(out + i * out_i) = rows[i];
}

/* Packs one panel of a transposed matrix: columns of B are rows of `b`, of K elements. Missing columns
 * become zeros. */
static inline void fr_pack_transposed(real *restrict panel, const real *restrict b, int64_t K, int64_t columns)
{
    const int64_t eights = K / 8 * 8;
    int64_t i = 0;
    if (columns < FR_NR)
        memset(panel, 0, (size_t)(K * FR_NR) * sizeof(real));
    for (; i + 8 <= columns; i += 8)
        for (int64_t k = 0; k < eights; k += 8)
            fr_transpose(panel + k * FR_NR + i, FR_NR, b + i * K + k, K);
    for (int64_t k = eights; k < K; k++)
        for (int64_t l = 0; l < i; l++)
            panel[k * FR_NR + l] = b[l * K + k];
    for (; i < columns; i++)
        for (int64_t k = 0; k < K; k++)
            panel[k * FR_NR + i] = b[i * K + k];
}

/* Packs one panel of a matrix as it is, its rows b_k elements apart. Missing columns become zeros. */
static inline void fr_pack_panel(real *restrict panel, const real *restrict b, int64_t b_k, int64_t K,
                                 int64_t columns)
{
    for (int64_t k = 0; k < K; k++, panel += FR_NR, b += b_k) {
        if (columns == FR_NR) {
            memcpy(panel, b, FR_NR * sizeof(real));
            continue;
        }
        for (int64_t i = 0; i < FR_NR; i++)
            panel[i] = i < columns ? b[i] : 0;
    }
}

/* Sets the rows that start to zero in a packed matrix of K rows and J columns. */
static inline void fr_clear_starts(real *packed, const uint8_t *starts, int64_t K, int64_t J)
{
    for (int64_t k = 0; k < K; k++)
        if (starts[k])
            for (int64_t j = 0; j < J; j += FR_NR)
                memset(packed + j * K + k * FR_NR, 0, FR_NR * sizeof(real));
}

/* Whether a product of one row reads the panels backwards. Every second row of C does, because the panels that
 * were read last are still in the cache. The row's address tells its parity. */
static inline int fr_reversed_panels(const real *c, int64_t c_i)
{
    return (uintptr_t)c / ((uintptr_t)c_i * sizeof(real)) % 2;
}

/* C (I, J) = C₀ + A (I, K) B (K, J) for one block of rows. */
static inline void fr_matmul_block(real *c, int64_t c_i, const real *from, int64_t from_i, const real *a, int64_t a_i,
                                   int64_t a_k, const real *packed, int64_t I, int64_t K, int64_t J)
{
    const int64_t tiles = (I + FR_MR - 1) / FR_MR; /* their heights differ by at most one row */
    const int64_t height = tiles > 1 ? I / tiles : I, more = I - height * tiles;
    const int64_t width = I == 1 ? FR_ROW_VECTORS * FR_LANES : FR_NR;
    const int64_t strips = (J + width - 1) / width;
    const int reversed = I == 1 && strips > 1 && fr_reversed_panels(c, c_i);
    for (int64_t k = 0; k < K; k += FR_KC) {
        for (int64_t strip = 0; strip < strips; strip++) {
            const int64_t j = (reversed ? strips - 1 - strip : strip) * width, columns = fr_min(width, J - j);
            fr_operands o = {c + j, c_i, from + j, from_i, a + k * a_k, a_i, a_k, packed + j * K + k * FR_NR, K * FR_NR,
                          fr_min(FR_KC, K - k)};
            if (I == 1) {
                fr_tile_of_columns(columns, &o);
                continue;
            }
            for (int64_t tile = 0; tile < tiles; tile++) {
                const int64_t rows = height + (tile < more);
                fr_tile_of_rows(rows, columns, &o);
                o.c += rows * o.c_i;
                o.from += rows * o.from_i;
                o.a += rows * o.a_i;
            }
        }
        from = c;
        from_i = c_i;
    }
}

/* C (I, J) = C₀ + A (I, K) B (K, J), with B packed. The rows of C are c_i apart, those of C₀ from_i. The rows
 * are taken in blocks of about the same size, up to FR_MC rows, so that those of A stay in the second-level
 * cache while every panel of B passes. */
static inline void fr_matmul(real *c, int64_t c_i, const real *from, int64_t from_i, const real *a, int64_t a_i,
                             int64_t a_k, const real *packed, int64_t I, int64_t K, int64_t J)
{
    const int64_t blocks = (I + FR_MC - 1) / FR_MC;
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t i = fr_part_start(I, block, blocks), end = fr_part_start(I, block + 1, blocks);
        fr_matmul_block(c + i * c_i, c_i, from + i * from_i, from_i, a + i * a_i, a_i, a_k, packed, end - i, K, J);
    }
}

/* A worker's columns of C (I, G·H) = C₀ + A (I, K) B (K, G·H), where the rows of A are K apart. */
static inline void fr_matmul_part(real *c, const real *from, int64_t from_i, const real *a, const real *packed,
                                  fr_worker worker, int64_t I, int64_t K, int64_t G, int64_t H)
{
    const fr_columns part = fr_part_columns(worker, G, H);
    for (int64_t range = 0, j = part.first; range < part.ranges; range++, j += H)
        fr_matmul(c + j, G * H, from + j, from_i, a, K, 1, packed + j * K, I, K, part.n);
}

/* Σ_n dy_n of outputs first … last-1, in the order of the rows. */
static inline void fr_bias_gradients(real *dbias, const real *dy, int64_t first, int64_t last, int64_t N, int64_t O)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = first; o < last; o++)
            dbias[o] += dy[n * O + o];
}

/* The gradients of y = x Wᵀ + b, for outputs first … last-1 and N rows in their order: dW (·, I) += dyᵀ x and, if
 * `dbias` is not NULL, db += Σ dy. The rows of dy are O elements apart. If `starts` is not NULL, x is zero in a row
 * that starts. A block of rows of x is packed at a time; FR_ROWS columns of dy stay in the cache beside it. */
static inline void fr_weight_gradients(real *dweight, real *dbias, real *block, const real *dy, const real *x,
                                       const uint8_t *starts, int64_t first, int64_t last, int64_t N, int64_t I,
                                       int64_t O)
{
    for (int64_t n = 0; n < N; n += FR_KC) {
        const int64_t rows = fr_min(FR_KC, N - n);
        const real *some = dy + n * O;
        for (int64_t i = 0; i < I; i += FR_NR)
            fr_pack_panel(block + i * rows, x + n * I + i, I, rows, fr_min(FR_NR, I - i));
        if (starts)
            fr_clear_starts(block, starts + n, rows, I);
        for (int64_t o = first; o < last; o += FR_ROWS) {
            real *drows = dweight + o * I;
            fr_matmul(drows, I, drows, I, some + o, 1, O, block, fr_min(FR_ROWS, last - o), rows, I);
        }
        if (dbias)
            fr_bias_gradients(dbias, some, first, last, rows, O);
    }
}

#endif
