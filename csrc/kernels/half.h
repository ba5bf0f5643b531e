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

/* Most numbers of a line by sixteens, the last ones overlapping those before: how many are done; none of less than sixteen, or
 * where SIXTEEN found a NaN. By twos, as a loop takes as long as its body. */
enum { XENT_SIXTEEN = 16 };
#define XENT_MOST(NAME_, FROM, TO, SIXTEEN)                                                \
    XENT_INLINE ptrdiff_t NAME_(const FROM *restrict from, TO *restrict to, ptrdiff_t n) { \
        __m256 nan = _mm256_setzero_ps();                                                  \
        ptrdiff_t i = 0;                                                                   \
        for (; i + 2 * XENT_SIXTEEN <= n; i += 2 * XENT_SIXTEEN)                           \
            for (ptrdiff_t at = i; at < i + 2 * XENT_SIXTEEN; at += XENT_SIXTEEN)          \
                nan = _mm256_or_ps(nan, SIXTEEN(from + at, to + at));                      \
        for (; i < n && n >= XENT_SIXTEEN; i += XENT_SIXTEEN) {                            \
            const ptrdiff_t at = i + XENT_SIXTEEN <= n ? i : n - XENT_SIXTEEN;             \
            nan = _mm256_or_ps(nan, SIXTEEN(from + at, to + at));                          \
        }                                                                                  \
        return _mm256_movemask_ps(nan) ? 0 : i;                                            \
    }

/* Where the processor converts float16 itself (every one with AVX2 does), whatever its modes for subnormal numbers:
 * compilers do not come upon it in the functions above. */
#ifdef __F16C__
XENT_INLINE __m256 sixteen_from_float16(const uint16_t *from, float *to) {
    for (int l = 0; l < XENT_SIXTEEN; l += 8)
        _mm256_storeu_ps(to + l, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(from + l))));
    return _mm256_setzero_ps();
}
XENT_INLINE __m256 sixteen_to_float16(const float *from, uint16_t *to) {
    const __m256 a = _mm256_loadu_ps(from), b = _mm256_loadu_ps(from + 8);
    _mm_storeu_si128((__m128i *)(void *)to, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(void *)(to + 8), _mm256_cvtps_ph(b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    return _mm256_cmp_ps(a, b, _CMP_UNORD_Q);
}
XENT_MOST(most_from_float16, uint16_t, float, sixteen_from_float16)
XENT_MOST(most_to_float16, float, uint16_t, sixteen_to_float16)
#else
#define most_from_float16(from, to, n) 0
#define most_to_float16(from, to, n)   0
#endif

/* With AVX2 gcc takes masks to narrow what is narrow, and comparisons of integers to find a NaN: 25 instructions for
 * sixteen numbers, 18 so. */
#if defined(__AVX2__) && !defined(__AVX512F__)
XENT_INLINE __m256i eight_to_bfloat16(__m256i u) {
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd), 16);
}
XENT_INLINE __m256 sixteen_to_bfloat16(const float *from, uint16_t *to) {
    const __m256 a = _mm256_loadu_ps(from), b = _mm256_loadu_ps(from + 8);
    const __m256i both =
        _mm256_packus_epi32(eight_to_bfloat16(_mm256_castps_si256(a)), eight_to_bfloat16(_mm256_castps_si256(b)));
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_permute4x64_epi64(both, 0xd8)); /* its quarters: 0 2 1 3 */
    return _mm256_cmp_ps(a, b, _CMP_UNORD_Q);
}
XENT_MOST(most_to_bfloat16, float, uint16_t, sixteen_to_bfloat16)
#else
#define most_to_bfloat16(from, to, n) 0
#endif
#undef XENT_MOST

#define XENT_HALVES(LINE, FROM, TO, EXPRESSION, DONE)                                  \
    XENT_NOINLINE void LINE(const FROM *restrict from, TO *restrict to, ptrdiff_t n) { \
        for (ptrdiff_t i = DONE; i < n; i++) to[i] = EXPRESSION(from[i]);              \
    }
XENT_HALVES(line_from_float16, uint16_t, float, from_float16, most_from_float16(from, to, n))
XENT_HALVES(line_to_float16, float, uint16_t, to_float16, most_to_float16(from, to, n))
XENT_HALVES(line_from_bfloat16, uint16_t, float, from_bfloat16, 0)
XENT_HALVES(line_to_any_bfloat16, float, uint16_t, to_bfloat16, 0)
#undef XENT_HALVES

/* Where there is no NaN, which is looked for meanwhile, one need not be made the plain one: 8192 x 1000 takes 3 % less. */
XENT_NOINLINE void line_to_bfloat16(const float *restrict from, uint16_t *restrict to, ptrdiff_t n) {
    uint32_t most = 0;
    for (ptrdiff_t i = most_to_bfloat16(from, to, n); i < n; i++) {
        const uint32_t u = word_of(from[i]), size = u & 0x7fffffff;
        to[i] = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
        most = size > most ? size : most;
    }
    if (most > 0x7f800000) line_to_any_bfloat16(from, to, n);
}

XENT_INLINE void line_from_half(xent_type type, const uint16_t *from, float *to, ptrdiff_t n) {
    (type == XENT_FLOAT16 ? line_from_float16 : line_from_bfloat16)(from, to, n);
}
XENT_INLINE void line_to_half(xent_type type, const float *from, uint16_t *to, ptrdiff_t n) {
    (type == XENT_FLOAT16 ? line_to_float16 : line_to_bfloat16)(from, to, n);
}

#endif
