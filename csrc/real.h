/* real.h: defines the precision for which the kernels are compiled.
 * Every source is compiled twice, with FR_BITS=32 and FR_BITS=64. */
#ifndef FASTRNN_REAL_H
#define FASTRNN_REAL_H

#include <math.h>

#if FR_BITS == 32
typedef float real;
#define FR(name) fr_##name##_f32
#define FR_BY_PRECISION(single, dbl) single
#define fr_abs __builtin_fabsf
#define fr_copysign __builtin_copysignf
#define fr_fma __builtin_fmaf
#define fr_sqrt __builtin_sqrtf
#elif FR_BITS == 64
typedef double real;
#define FR(name) fr_##name##_f64
#define FR_BY_PRECISION(single, dbl) dbl
#define fr_abs __builtin_fabs
#define fr_copysign __builtin_copysign
#define fr_fma __builtin_fma
#define fr_sqrt __builtin_sqrt
#else
#error "compile with -DFR_BITS=32 or -DFR_BITS=64"
#endif

/* fr_fma rounds once in every build. It is an instruction if the instruction set has one, else libm's slow function. */

#define fr_inline static inline __attribute__((always_inline))

#endif
