/* matmul.h: the one matrix product behind every kernel, C += A B.
 *
 * Each element of C is one chain of multiply-adds over k in ascending order, starting from what C held.
 * A is read through two strides, so that a transposed A needs no copy; B and C are row-major. Four rows
 * of C take four rows of B at a time, which keeps the loads of B and the loads and stores of C at a
 * quarter of what one row at a time costs. */
#ifndef FASTRNN_MATMUL_H
#define FASTRNN_MATMUL_H

#include <stdint.h>

#include "real.h"

/* c[j] += a0 b0[j] + a1 b1[j] + …, one row of C, four rows of B. */
static inline void fr_row_add_4(real *restrict c, const real *a, int64_t a_k, const real *restrict b,
                                int64_t J)
{
    const real a0 = a[0], a1 = a[a_k], a2 = a[2 * a_k], a3 = a[3 * a_k];
    for (int64_t j = 0; j < J; j++) {
        const real c1 = fr_fma(a1, b[J + j], fr_fma(a0, b[j], c[j]));
        c[j] = fr_fma(a3, b[3 * J + j], fr_fma(a2, b[2 * J + j], c1));
    }
}

/* The same for four rows of C at once, which read each element of B once. */
static inline void fr_rows_add_4(real *restrict c, const real *a, int64_t a_i, int64_t a_k,
                                 const real *restrict b, int64_t J)
{
    real f[4][4];
    for (int64_t i = 0; i < 4; i++)
        for (int64_t k = 0; k < 4; k++)
            f[i][k] = a[i * a_i + k * a_k];
    for (int64_t j = 0; j < J; j++) {
        const real b0 = b[j], b1 = b[J + j], b2 = b[2 * J + j], b3 = b[3 * J + j];
        for (int64_t i = 0; i < 4; i++) {
            const real c1 = fr_fma(f[i][1], b1, fr_fma(f[i][0], b0, c[i * J + j]));
            c[i * J + j] = fr_fma(f[i][3], b3, fr_fma(f[i][2], b2, c1));
        }
    }
}

/* C (I, J) += A B (K, J), where A's element (i, k) stands at a[i * a_i + k * a_k]. */
static inline void fr_matmul_add(real *restrict c, const real *a, int64_t a_i, int64_t a_k,
                                 const real *restrict b, int64_t I, int64_t K, int64_t J)
{
    const int64_t whole = K - K % 4;
    int64_t i = 0;
    for (; i + 4 <= I; i += 4)
        for (int64_t k = 0; k < whole; k += 4)
            fr_rows_add_4(c + i * J, a + i * a_i + k * a_k, a_i, a_k, b + k * J, J);
    for (; i < I; i++)
        for (int64_t k = 0; k < whole; k += 4)
            fr_row_add_4(c + i * J, a + i * a_i + k * a_k, a_k, b + k * J, J);
    for (i = 0; i < I; i++)
        for (int64_t k = whole; k < K; k++)
            for (int64_t j = 0; j < J; j++)
                c[i * J + j] = fr_fma(a[i * a_i + k * a_k], b[k * J + j], c[i * J + j]);
}

/* out (J, I) = aᵀ, for a (I, J). */
static inline void fr_transpose(real *restrict out, const real *restrict a, int64_t I, int64_t J)
{
    for (int64_t j = 0; j < J; j++)
        for (int64_t i = 0; i < I; i++)
            out[j * I + i] = a[i * J + j];
}

#endif
