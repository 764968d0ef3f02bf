/* elementary.h: exp, tanh, sigmoid and log, as one fixed sequence of IEEE operations each.
 *
 * x = n ln 2 + r with |r| ≤ ln 2 / 2, and a polynomial in r (minimax, by the Remez algorithm), evaluated
 * with fused multiply-adds. There are no branches and no calls. So compilers vectorize a loop over any of
 * them, for any vector width and with the same bits. backends/numba/elementary.py states the same sequences
 * with the same coefficients. The error is below 2.5 ulp over the whole range. NaN stays NaN, and infinities
 * and zeros give the exact limits. */
#ifndef FASTRNN_ELEMENTARY_H
#define FASTRNN_ELEMENTARY_H

#include <stdint.h>
#include <string.h>

#include "fastrnn.h"

#if FR_BITS == 32
typedef int32_t fr_int;
typedef uint32_t fr_uint;
#else
typedef int64_t fr_int;
typedef uint64_t fr_uint;
#endif

#define FR_MANTISSA FR_BY_PRECISION(23, 52)
#define FR_BIAS FR_BY_PRECISION(127, 1023)
#define FR_LOG2E FR_BY_PRECISION(0x1.715476p+0f, 0x1.71547652b82fep+0)
#define FR_LN2_HIGH FR_BY_PRECISION(0x1.62e400p-1f, 0x1.62e42fefa3800p-1)
#define FR_LN2_LOW FR_BY_PRECISION(0x1.7f7d1cp-20f, 0x1.ef35793c76730p-45)
/* x + FR_ROUNDER is rounded to a whole number, which is the difference of the bit patterns of the sum and of
 * FR_ROUNDER. AVX2 has no conversion between doubles and 64-bit integers. */
#define FR_ROUNDER FR_BY_PRECISION(0x1.8p23f, 0x1.8p52)

static inline fr_int fr_bits(real x)
{
    fr_int bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline real fr_from_bits(fr_int bits)
{
    real x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* condition ? a : b, on the bits. With ?:, GCC compiles (condition ? a : b) / c to two divisions. */
static inline real fr_blend(int condition, real a, real b)
{
    const fr_int mask = -(fr_int)condition;
    return fr_from_bits((fr_bits(a) & mask) | (fr_bits(b) & ~mask));
}

/* x, or 0 if |x| < threshold; NaN stays NaN. It uses fr_blend, since GCC moves a square into the branches of ?:
 * and so squares the tiny x too; that square is denormal. */
fr_inline real fr_flush(real x, real threshold)
{
    return fr_blend(fr_abs(x) < threshold, 0, x);
}

/* 2ⁿ, if it is a normal number. */
static inline real fr_power_of_two(fr_int n)
{
    return fr_from_bits((fr_int)((fr_uint)(n + FR_BIAS) << FR_MANTISSA));
}

/* Returns eʳ - 1 and writes n, where x = n ln 2 + r. */
static inline real fr_reduce(real x, fr_int *n)
{
    const real rounded = fr_fma(x, FR_LOG2E, FR_ROUNDER);
    *n = (fr_int)((fr_uint)fr_bits(rounded) - (fr_uint)fr_bits(FR_ROUNDER));
    const real whole = rounded - FR_ROUNDER;
    const real r = fr_fma(whole, -FR_LN2_LOW, fr_fma(whole, -FR_LN2_HIGH, x));
#if FR_BITS == 32
    real q = 0x1.6bec06p-10f;
    q = fr_fma(q, r, 0x1.122776p-7f);
    q = fr_fma(q, r, 0x1.555674p-5f);
    q = fr_fma(q, r, 0x1.5554b0p-3f);
    q = fr_fma(q, r, 0x1.fffffep-2f);
#else
    real q = 0x1.1ee88a10a4452p-29;
    q = fr_fma(q, r, 0x1.af5e751c3e845p-26);
    q = fr_fma(q, r, 0x1.27e5362ab05fcp-22);
    q = fr_fma(q, r, 0x1.71ddf87eacb85p-19);
    q = fr_fma(q, r, 0x1.a01a017bc728dp-16);
    q = fr_fma(q, r, 0x1.a01a01afd3e6bp-13);
    q = fr_fma(q, r, 0x1.6c16c16c1f076p-10);
    q = fr_fma(q, r, 0x1.111111110f6dap-7);
    q = fr_fma(q, r, 0x1.555555555553fp-5);
    q = fr_fma(q, r, 0x1.5555555555559p-3);
    q = fr_fma(q, r, 0x1p-1);
#endif
    return fr_fma(q, r * r, r);
}

static inline real fr_exp(real x)
{
    const real low = FR_BY_PRECISION(-104.0f, -746.0), high = FR_BY_PRECISION(89.0f, 710.0);
    x = x < low ? low : x;
    x = x > high ? high : x;
    fr_int n;
    const real e = fr_reduce(x, &n) + 1;
    const fr_int half = n >> 1; /* in two factors, since 2ⁿ may be out of range */
    return e * fr_power_of_two(half) * fr_power_of_two(n - half);
}

/* eˣ for x ≤ 0, and 0 if eˣ < FR_TINY. */
static inline real fr_exp_of_negative(real x)
{
    const real low = FR_BY_PRECISION(-44.0f, -350.0);
    x = x < low ? low : x;
    fr_int n;
    const real e = fr_reduce(x, &n) + 1;
    return fr_flush(e * fr_power_of_two(n), FR_TINY);
}

/* tanh x = s / (1 + s) with s = (e²ˣ - 1) / 2, which is accurate for small x too. For small x it is computed as
 * s - s² / (1 + s), since the error of this division is then small compared with s. */
static inline real fr_tanh(real x)
{
    const real enough = FR_BY_PRECISION(20.0f, 40.0); /* for larger 2x, tanh x rounds to 1 */
    real twice = fr_abs(x) + fr_abs(x);
    twice = twice > enough ? enough : twice;
    fr_int n;
    const real e = fr_reduce(twice, &n);
    const real scale = fr_power_of_two(n);
    const real s = fr_fma(scale, e, scale - 1) * (real)0.5;
    const int is_small = twice < FR_BY_PRECISION(0.6f, 0.6);
    const real quotient = s * (is_small ? s : 1) / (1 + s);
    return fr_copysign(is_small ? s - quotient : quotient, x);
}

static inline real fr_sigmoid(real x)
{
    const real e = fr_exp(-fr_abs(x));
    return fr_blend(x < 0, e, 1) / (1 + e);
}

/* A gate: the sigmoid, or 0 if it is below FR_TINY. */
static inline real fr_gate(real x)
{
    const real e = fr_exp_of_negative(-fr_abs(fr_flush(x, FR_TINY))); /* if x is tiny, e⁻ˣ rounds to 1 */
    return fr_blend(x < 0, e, 1) / (1 + e);
}

/* ln x = k ln 2 + ln m, with m from √½ to √2, f = m - 1 and s = f / (2 + f):
 * ln m = f - (f²/2 - s (f²/2 + s² R(s²))). */
static inline real fr_log(real x)
{
    const real smallest = FR_BY_PRECISION(0x1p-126f, 0x1p-1022), up = FR_BY_PRECISION(0x1p23f, 0x1p52);
    const fr_int root = fr_bits(FR_BY_PRECISION(0x1.6a09e6p-1f, 0x1.6a09e667f3bcdp-1));
    const real normal = x < smallest ? x * up : x;
    const fr_uint offset = (fr_uint)fr_bits(normal) - (fr_uint)root + ((fr_uint)FR_BIAS << FR_MANTISSA);
    const real exponent = fr_from_bits((fr_int)((offset >> FR_MANTISSA) + (fr_uint)fr_bits(FR_ROUNDER)));
    const real k = exponent - (FR_ROUNDER + FR_BIAS) - (x < smallest ? (real)FR_MANTISSA : 0);
    const fr_uint mantissa = offset & (((fr_uint)1 << FR_MANTISSA) - 1);
    const real f = fr_from_bits((fr_int)(mantissa + (fr_uint)root)) - 1;
    const real s = f / (2 + f), z = s * s, half = (real)0.5 * f * f;
#if FR_BITS == 32
    real q = 0x1.3b20b4p-3f;
    q = fr_fma(q, z, 0x1.745cdep-3f);
    q = fr_fma(q, z, 0x1.c71c72p-3f);
    q = fr_fma(q, z, 0x1.249250p-2f);
    q = fr_fma(q, z, 0x1.99999ap-2f);
    q = fr_fma(q, z, 0x1.555556p-1f);
#else
    real q = 0x1.0f6a9a6e462b1p-3;
    q = fr_fma(q, z, 0x1.0f5bf6014603fp-3);
    q = fr_fma(q, z, 0x1.3b20b4deee594p-3);
    q = fr_fma(q, z, 0x1.745cddff6653fp-3);
    q = fr_fma(q, z, 0x1.c71c7259aa339p-3);
    q = fr_fma(q, z, 0x1.249249242aaf7p-2);
    q = fr_fma(q, z, 0x1.9999999999e06p-2);
    q = fr_fma(q, z, 0x1.5555555555555p-1);
#endif
    const real low = fr_fma(s, fr_fma(z, q, half), k * FR_LN2_LOW);
    const real result = fr_fma(k, FR_LN2_HIGH, f - (half - low));
    const real infinity = (real)INFINITY;
    const real edge = x == 0 ? -infinity : x == infinity ? infinity : (real)NAN;
    return x > 0 && x < infinity ? result : edge;
}

#endif
