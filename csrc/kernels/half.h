/* float16 and bfloat16 as bits, to float32 and back: exact one way, to nearest even the other, in integers where a
 * subnormal number could arise, so that flush-to-zero changes nothing. Subnormal float16 results are kept: their range
 * is where small gradients are. */
#ifndef XENT_HALF_H
#define XENT_HALF_H

#include "rows.h"

XENT_INLINE float from_float16(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, size = h & 0x7fff;
    const uint32_t normal = (size << 13) + (size >= 0x7c00 ? 224u << 23 : 112u << 23); /* inf and NaN: exponent 255 */
    const uint32_t subnormal = word_of((float)(int32_t)size * 0x1p-24f);
    return from_word(sign | (size < 0x400 ? subnormal : normal));
}

XENT_INLINE uint16_t to_float16(float f) {
    const uint32_t u = word_of(f), size = u & 0x7fffffff, sign = u >> 16 & 0x8000;
    const uint32_t based = size - (112u << 23), normal = (based + 0xfff + (based >> 13 & 1)) >> 13;
    const uint32_t subnormal = word_of(from_word(size < 0x38800000 ? size : 0) + 0.5f) - 0x3f000000;
    const uint32_t large = size > 0x7f800000 ? 0x7e00 : 0x7c00;
    return (uint16_t)(sign | (size >= 0x477ff000 ? large : size < 0x38800000 ? subnormal : normal));
}

XENT_INLINE float from_bfloat16(uint16_t h) {
    return from_word((uint32_t)h << 16);
}

XENT_INLINE uint16_t to_bfloat16(float f) {
    const uint32_t u = word_of(f), rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : rounded);
}

#define XENT_HALVES(LINE, FROM, TO, EXPRESSION)                                        \
    XENT_NOINLINE void LINE(const FROM *restrict from, TO *restrict to, ptrdiff_t n) { \
        for (ptrdiff_t i = 0; i < n; i++) to[i] = EXPRESSION(from[i]);                 \
    }
XENT_HALVES(line_from_float16, uint16_t, float, from_float16)
XENT_HALVES(line_to_float16, float, uint16_t, to_float16)
XENT_HALVES(line_from_bfloat16, uint16_t, float, from_bfloat16)
XENT_HALVES(line_to_bfloat16, float, uint16_t, to_bfloat16)
#undef XENT_HALVES

XENT_INLINE void line_from_half(xent_type type, const uint16_t *from, float *to, ptrdiff_t n) {
    (type == XENT_FLOAT16 ? line_from_float16 : line_from_bfloat16)(from, to, n);
}
XENT_INLINE void line_to_half(xent_type type, const float *from, uint16_t *to, ptrdiff_t n) {
    (type == XENT_FLOAT16 ? line_to_float16 : line_to_bfloat16)(from, to, n);
}

#endif
