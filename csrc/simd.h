/* simd.h: a vector of reals, and its operations that products and reductions use.
 *
 * A vector has 512 bits with AVX-512 and 256 with AVX2. In other builds, also with NEON, it is four reals, and its
 * operations are plain loops, which the compiler vectorizes. The result of a lane does not depend on the width:
 * each product is a fused multiply-add, in hardware or, slowly, in software.
 *
 * The micro-kernel of a product keeps a tile of FR_MR rows of two vectors in registers, or one row of
 * FR_ROW_VECTORS vectors: a single row needs more columns to keep the multipliers busy.
 *
 * fr_vec_load_some and fr_vec_store_some read or write the first n lanes: none if n ≤ 0, and all if n ≥ FR_LANES.
 * The other lanes of a loaded vector are 0. */
#ifndef FASTRNN_SIMD_H
#define FASTRNN_SIMD_H

#include <stdint.h>

#include "real.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define FR_LANES (512 / FR_BITS)
#define FR_MR 8
#define FR_ROW_VECTORS 8
#if FR_BITS == 32
typedef __m512 fr_vec;
#define fr_vec_load _mm512_loadu_ps
#define fr_vec_store _mm512_storeu_ps
#define fr_vec_fill _mm512_set1_ps
#define fr_vec_fma _mm512_fmadd_ps
#define fr_vec_add _mm512_add_ps
#define fr_vec_max _mm512_max_ps
#define fr_vec_load_mask(x, n) _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), x)
#define fr_vec_store_mask(x, v, n) _mm512_mask_storeu_ps(x, (__mmask16)((1u << (n)) - 1), v)
#else
typedef __m512d fr_vec;
#define fr_vec_load _mm512_loadu_pd
#define fr_vec_store _mm512_storeu_pd
#define fr_vec_fill _mm512_set1_pd
#define fr_vec_fma _mm512_fmadd_pd
#define fr_vec_add _mm512_add_pd
#define fr_vec_max _mm512_max_pd
#define fr_vec_load_mask(x, n) _mm512_maskz_loadu_pd((__mmask8)((1u << (n)) - 1), x)
#define fr_vec_store_mask(x, v, n) _mm512_mask_storeu_pd(x, (__mmask8)((1u << (n)) - 1), v)
#endif

#else
#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define FR_LANES (256 / FR_BITS)
#define FR_MR 6
#define FR_ROW_VECTORS 8
#if FR_BITS == 32
typedef __m256 fr_vec;
#define fr_vec_load _mm256_loadu_ps
#define fr_vec_store _mm256_storeu_ps
#define fr_vec_fill _mm256_set1_ps
#define fr_vec_fma _mm256_fmadd_ps
#define fr_vec_add _mm256_add_ps
#define fr_vec_max _mm256_max_ps
#else
typedef __m256d fr_vec;
#define fr_vec_load _mm256_loadu_pd
#define fr_vec_store _mm256_storeu_pd
#define fr_vec_fill _mm256_set1_pd
#define fr_vec_fma _mm256_fmadd_pd
#define fr_vec_add _mm256_add_pd
#define fr_vec_max _mm256_max_pd
#endif

#else
#define FR_LANES 4
#define FR_MR 2
#define FR_ROW_VECTORS 4
typedef struct {
    real lane[FR_LANES];
} fr_vec;

static inline fr_vec fr_vec_load(const real *x)
{
    fr_vec v;
    for (int l = 0; l < FR_LANES; l++)
        v.lane[l] = x[l];
    return v;
}

static inline void fr_vec_store(real *x, fr_vec v)
{
    for (int l = 0; l < FR_LANES; l++)
        x[l] = v.lane[l];
}

static inline fr_vec fr_vec_fill(real x)
{
    fr_vec v;
    for (int l = 0; l < FR_LANES; l++)
        v.lane[l] = x;
    return v;
}

static inline fr_vec fr_vec_fma(fr_vec a, fr_vec b, fr_vec c)
{
    for (int l = 0; l < FR_LANES; l++)
        c.lane[l] = fr_fma(a.lane[l], b.lane[l], c.lane[l]);
    return c;
}

static inline fr_vec fr_vec_add(fr_vec a, fr_vec b)
{
    for (int l = 0; l < FR_LANES; l++)
        a.lane[l] += b.lane[l];
    return a;
}

static inline fr_vec fr_vec_max(fr_vec a, fr_vec b)
{
    for (int l = 0; l < FR_LANES; l++)
        a.lane[l] = a.lane[l] > b.lane[l] ? a.lane[l] : b.lane[l];
    return a;
}
#endif

static inline fr_vec fr_vec_load_mask(const real *x, int64_t n)
{
    real some[FR_LANES] = {0};
    for (int64_t l = 0; l < n; l++)
        some[l] = x[l];
    return fr_vec_load(some);
}

static inline void fr_vec_store_mask(real *x, fr_vec v, int64_t n)
{
    real some[FR_LANES];
    fr_vec_store(some, v);
    for (int64_t l = 0; l < n; l++)
        x[l] = some[l];
}
#endif

fr_inline fr_vec fr_vec_load_some(const real *x, int64_t n)
{
    return n >= FR_LANES ? fr_vec_load(x) : n > 0 ? fr_vec_load_mask(x, n) : fr_vec_fill(0);
}

fr_inline void fr_vec_store_some(real *x, fr_vec v, int64_t n)
{
    if (n >= FR_LANES)
        fr_vec_store(x, v);
    else if (n > 0)
        fr_vec_store_mask(x, v, n);
}

#endif
