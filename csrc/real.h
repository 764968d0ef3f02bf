/* real.h: the one place where the kernels learn which precision they are compiled for.
 * Every source is compiled twice, with FR_BITS=32 and FR_BITS=64. */
#ifndef FASTRNN_REAL_H
#define FASTRNN_REAL_H

#include <math.h>

#if FR_BITS == 32
typedef float real;
#define FR(name) fr_##name##_f32
#define fr_exp expf
#define fr_log logf
#define fr_sqrt sqrtf
#define fr_tanh tanhf
#elif FR_BITS == 64
typedef double real;
#define FR(name) fr_##name##_f64
#define fr_exp exp
#define fr_log log
#define fr_sqrt sqrt
#define fr_tanh tanh
#else
#error "compile with -DFR_BITS=32 or -DFR_BITS=64"
#endif

/* A fused multiply-add where the processor has one, else a product and a sum. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#if FR_BITS == 32
#define fr_fma(a, b, c) __builtin_fmaf(a, b, c)
#else
#define fr_fma(a, b, c) __builtin_fma(a, b, c)
#endif
#else
#define fr_fma(a, b, c) ((a) * (b) + (c))
#endif

#endif
