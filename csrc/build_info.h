/* build_info.h: what one build of the kernels was compiled for, and what the processor can run. */
#ifndef FASTRNN_BUILD_INFO_H
#define FASTRNN_BUILD_INFO_H

#include <stdint.h>

/* The processor's level: 4 or 3 for x86-64-v4 or v3, and 0 for the baseline and other processors. */
int32_t fr_processor_level(void);

/* Width in bits of the vectors that this build's compiler may use; 0 where it is not known. */
int32_t fr_vector_bits(void);

/* Whether this build has fused multiply-adds in hardware. */
int32_t fr_has_fma(void);

/* The compiler of this build, and its version. */
const char *fr_compiler(void);

#endif
