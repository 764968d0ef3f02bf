/* simd.h: one vector of reals, and the four operations that the matrix product needs of it.
 *
 * The width is the instruction set's: 512 bits with AVX-512, 256 with AVX2, 128 with NEON. Anywhere else
 * a "vector" is four reals and plain loops. The product of a lane does not depend on the width: every
 * one is a fused multiply-add, in hardware or, slowly, in software. */
#ifndef FASTRNN_SIMD_H
#define FASTRNN_SIMD_H

#include "real.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#if FR_BITS == 32
typedef __m512 vec;
#define vec_load _mm512_loadu_ps
#define vec_store _mm512_storeu_ps
#define vec_fill _mm512_set1_ps
#define vec_fma _mm512_fmadd_ps
#else
typedef __m512d vec;
#define vec_load _mm512_loadu_pd
#define vec_store _mm512_storeu_pd
#define vec_fill _mm512_set1_pd
#define vec_fma _mm512_fmadd_pd
#endif
#define FR_LANES (512 / FR_BITS)
#define FR_TILE_ROWS 8

#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#if FR_BITS == 32
typedef __m256 vec;
#define vec_load _mm256_loadu_ps
#define vec_store _mm256_storeu_ps
#define vec_fill _mm256_set1_ps
#define vec_fma _mm256_fmadd_ps
#else
typedef __m256d vec;
#define vec_load _mm256_loadu_pd
#define vec_store _mm256_storeu_pd
#define vec_fill _mm256_set1_pd
#define vec_fma _mm256_fmadd_pd
#endif
#define FR_LANES (256 / FR_BITS)
#define FR_TILE_ROWS 4

#else
#define FR_LANES 4
#define FR_TILE_ROWS 2
typedef struct {
    real lane[FR_LANES];
} vec;

static inline vec vec_load(const real *x)
{
    vec v;
    for (int l = 0; l < FR_LANES; l++)
        v.lane[l] = x[l];
    return v;
}

static inline void vec_store(real *x, vec v)
{
    for (int l = 0; l < FR_LANES; l++)
        x[l] = v.lane[l];
}

static inline vec vec_fill(real x)
{
    vec v;
    for (int l = 0; l < FR_LANES; l++)
        v.lane[l] = x;
    return v;
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    for (int l = 0; l < FR_LANES; l++)
        c.lane[l] = fr_fma(a.lane[l], b.lane[l], c.lane[l]);
    return c;
}
#endif

#endif
