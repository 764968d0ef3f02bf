/* dropout.c: dropout by a counter-based generator, Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011). The mask
 * is computed each time that it is needed, and is never stored. */

#include "elementary.h"
#include "fastrnn.h"

/* The number of counters that are computed together. */
enum { COUNTERS = 16 };

/* Four words for each of COUNTERS counters. The first word of a counter counts up from `first`; `rest` is the same. */
fr_inline void philox(uint32_t *restrict w0, uint32_t *restrict w1, uint32_t *restrict w2, uint32_t *restrict w3,
                      uint32_t first, const uint32_t rest[3], const uint32_t key[2])
{
    uint32_t k0 = key[0], k1 = key[1];
    for (uint32_t l = 0; l < COUNTERS; l++) {
        w0[l] = first + l;
        w1[l] = rest[0];
        w2[l] = rest[1];
        w3[l] = rest[2];
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        for (int l = 0; l < COUNTERS; l++) {
            const uint64_t a = (uint64_t)w0[l] * 0xD2511F53u, b = (uint64_t)w2[l] * 0xCD9E8D57u;
            w0[l] = (uint32_t)(b >> 32) ^ w1[l] ^ k0;
            w1[l] = (uint32_t)b;
            w2[l] = (uint32_t)(a >> 32) ^ w3[l] ^ k1;
            w3[l] = (uint32_t)a;
        }
}

fr_status FR(dropout)(real *y, const real *x, double dropout, int64_t dropout_seed, int64_t update, int64_t layer,
                      int64_t first, int64_t N, int64_t B, int64_t H)
{
    if (N < 0 || B < 1 || H < 1 || first < 0 || !(dropout >= 0 && dropout < 1))
        return FR_BAD_SIZE;
    const uint32_t threshold = (uint32_t)(dropout * 4294967296.0);
    const uint32_t halves[2] = {(uint32_t)dropout_seed, (uint32_t)((uint64_t)dropout_seed >> 32)};
    const real scale = (real)(1 / (1 - dropout));
    const int64_t quarter = (H + 3) / 4;
    for (int64_t n = 0; n < N; n++) {
        const uint32_t rest[3] = {(uint32_t)((first + n) % B), (uint32_t)((first + n) / B), (uint32_t)update};
        for (int64_t j = 0; j < quarter; j += COUNTERS) {
            uint32_t words[4][COUNTERS];
            philox(words[0], words[1], words[2], words[3], (uint32_t)(layer * quarter + j), rest, halves);
            for (int64_t w = 0; w < 4; w++) {
                const int64_t start = w * quarter + j, row = n * H + start;
                const int64_t end = quarter - j < H - start ? quarter - j : H - start;
                if (end >= COUNTERS)
                    for (int64_t l = 0; l < COUNTERS; l++)
                        y[row + l] = words[w][l] >= threshold ? x[row + l] * scale : 0;
                else
                    for (int64_t l = 0; l < end; l++)
                        y[row + l] = words[w][l] >= threshold ? x[row + l] * scale : 0;
            }
        }
    }
    return FR_OK;
}
