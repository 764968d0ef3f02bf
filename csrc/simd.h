/* simd.h: a vector of reals, and its operations that products and reductions use.
 *
 * A vector has 512 bits with AVX-512, 256 with AVX2, and 256 with NEON too, in two registers. In other builds it is
 * four reals, and its operations are plain loops, which the compiler vectorizes. The result of a lane does not
 * depend on the width: each product is a fused multiply-add, in hardware or, slowly, in software.
 * fr_vec_fma(x, y, sum) is x y + sum, of a real and two vectors.
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
#define fr_vec_fma(x, y, sum) _mm512_fmadd_ps(_mm512_set1_ps(x), y, sum)
#define fr_vec_add _mm512_add_ps
#define fr_vec_max _mm512_max_ps
#define fr_vec_load_mask(x, n) _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), x)
#define fr_vec_store_mask(x, v, n) _mm512_mask_storeu_ps(x, (__mmask16)((1u << (n)) - 1), v)
#else
typedef __m512d fr_vec;
#define fr_vec_load _mm512_loadu_pd
#define fr_vec_store _mm512_storeu_pd
#define fr_vec_fill _mm512_set1_pd
#define fr_vec_fma(x, y, sum) _mm512_fmadd_pd(_mm512_set1_pd(x), y, sum)
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
#define fr_vec_fma(x, y, sum) _mm256_fmadd_ps(_mm256_set1_ps(x), y, sum)
#define fr_vec_add _mm256_add_ps
#define fr_vec_max _mm256_max_ps
#else
typedef __m256d fr_vec;
#define fr_vec_load _mm256_loadu_pd
#define fr_vec_store _mm256_storeu_pd
#define fr_vec_fill _mm256_set1_pd
#define fr_vec_fma(x, y, sum) _mm256_fmadd_pd(_mm256_set1_pd(x), y, sum)
#define fr_vec_add _mm256_add_pd
#define fr_vec_max _mm256_max_pd
#endif

#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#define FR_LANES (256 / FR_BITS)
#define FR_MR 6
#define FR_ROW_VECTORS 8
#if FR_BITS == 32
typedef float32x4_t fr_half;
#define FR_NEON(name) name##_f32
#define FR_FMLA "fmla %0.4s, %1.4s, %2.s[0]"
#else
typedef float64x2_t fr_half;
#define FR_NEON(name) name##_f64
#define FR_FMLA "fmla %0.2d, %1.2d, %2.d[0]"
#endif
typedef struct {
    fr_half low, high;
} fr_vec;

fr_inline fr_vec fr_vec_load(const real *x)
{
    return (fr_vec){FR_NEON(vld1q)(x), FR_NEON(vld1q)(x + FR_LANES / 2)};
}

fr_inline void fr_vec_store(real *x, fr_vec v)
{
    FR_NEON(vst1q)(x, v.low);
    FR_NEON(vst1q)(x + FR_LANES / 2, v.high);
}

fr_inline fr_vec fr_vec_fill(real x)
{
    return (fr_vec){FR_NEON(vdupq_n)(x), FR_NEON(vdupq_n)(x)};
}

/* The instruction itself: GCC takes its intrinsic for a function that reads memory, and stores the whole tile in
 * every step; Clang copies x into all lanes first, which takes the multipliers' time. */
fr_inline fr_vec fr_vec_fma(real x, fr_vec y, fr_vec sum)
{
    __asm__(FR_FMLA : "+w"(sum.low) : "w"(y.low), "w"(x));
    __asm__(FR_FMLA : "+w"(sum.high) : "w"(y.high), "w"(x));
    return sum;
}

fr_inline fr_vec fr_vec_add(fr_vec a, fr_vec b)
{
    return (fr_vec){FR_NEON(vaddq)(a.low, b.low), FR_NEON(vaddq)(a.high, b.high)};
}

fr_inline fr_half fr_half_max(fr_half a, fr_half b)
{
    return FR_NEON(vbslq)(FR_NEON(vcgtq)(a, b), a, b); /* NEON's own maximum treats NaN otherwise */
}

fr_inline fr_vec fr_vec_max(fr_vec a, fr_vec b)
{
    return (fr_vec){fr_half_max(a.low, b.low), fr_half_max(a.high, b.high)};
}

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

static inline fr_vec fr_vec_fma(real x, fr_vec y, fr_vec sum)
{
    for (int l = 0; l < FR_LANES; l++)
        sum.lane[l] = fr_fma(x, y.lane[l], sum.lane[l]);
    return sum;
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

/* The first n lanes. With AVX2, GCC would call memcpy in place of the plain loop; with NEON, Clang would store the
 * sums of a tile because of the other one. */
#if defined(__AVX2__)
#define FR_FOR_LANES(l, n)                     \
    for (int64_t l = 0; l < FR_LANES; l++)     \
        if (l < (n))
#else
#define FR_FOR_LANES(l, n) for (int64_t l = 0; l < (n); l++)
#endif

static inline fr_vec fr_vec_load_mask(const real *x, int64_t n)
{
    real some[FR_LANES] = {0};
    FR_FOR_LANES (l, n)
        some[l] = x[l];
    return fr_vec_load(some);
}

static inline void fr_vec_store_mask(real *x, fr_vec v, int64_t n)
{
    real some[FR_LANES];
    fr_vec_store(some, v);
    FR_FOR_LANES (l, n)
        x[l] = some[l];
}
#endif

fr_inline fr_vec fr_vec_load_some(const real *x, int64_t n)
{
    if (n >= FR_LANES)
        return fr_vec_load(x);
    return n > 0 ? fr_vec_load_mask(x, n) : fr_vec_fill(0);
}

fr_inline void fr_vec_store_some(real *x, fr_vec v, int64_t n)
{
    if (n >= FR_LANES)
        fr_vec_store(x, v);
    else if (n > 0)
        fr_vec_store_mask(x, v, n);
}

#endif
