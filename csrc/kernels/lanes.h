/* The lane convention, the same for every kernel, dtype, tier and compiler.
 *
 * A row is cut into blocks of XENT_BLOCK classes. Class c of a block belongs to lane c % XENT_LANES; a lane adds
 * its terms in the order of c. The lanes are then folded in halves (l += l + 16, 8, 4, 2, 1) and the blocks added in
 * the order in which they stand. A lane that got no term holds 0, and adding 0 changes nothing, so a fold over fewer
 * lanes gives the same bits: short rows fold only the lanes they have. Where a fold adds alike in either order (float32),
 * lanes may be held turned, lane l in place of l - n: the same pairs meet.
 *
 * 32 lanes of two parts are four AVX-512, eight AVX2 or sixteen SSE2/NEON registers of float: enough independent chains
 * to hide the latency of an addition, and half as long a fold as 64 (327 ns for a row of 1,000 against 341). A block of
 * 4,096 float32 logits is 16 KiB: it is still in the first-level cache for the second sweep, and what happens once per
 * block costs little beside it. What works on a few numbers per class at once goes by XENT_SMALL_BLOCK.
 *
 * Everything below is static, or has the tier in its name: each tier keeps its own copy, so that no linker can put code
 * built for AVX-512 where the baseline calls it.
 */
#ifndef XENT_LANES_H
#define XENT_LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../internal.h"

enum {
    XENT_LANES = 32,
    XENT_SIDE = 32, /* rows that are worked on side by side */
    XENT_BLOCK = 4096,
    XENT_SMALL_BLOCK = 1024,
    XENT_TAIL_STEP = 16,
    XENT_LINE = 64,
    XENT_AHEAD = 16384,
    XENT_FLOW_AHEAD = 12288,
    XENT_STORES_AHEAD = 2048
};

/* SHARED: what other files call, too, and gcc is not to make part of a large function, where it takes number by number what it
 * takes by vectors elsewhere. */
#define XENT_INLINE   static inline __attribute__((always_inline))
#define XENT_SHARED   __attribute__((noinline))
#define XENT_NOINLINE static __attribute__((noinline, unused))

/* One line, at a line's start, stored past the cache where the processor can: what nobody reads soon need not be fetched
 * first. Intrinsics, as in the conversions of 16 bits (half.h), and nowhere else; stream_end puts such stores in order before
 * others. */
#if defined(__SSE2__)
#include <immintrin.h>
XENT_INLINE void stream_line(void *to, const void *line) {
#if defined(__AVX512F__)
    _mm512_stream_si512(to, _mm512_loadu_si512(line));
#elif defined(__AVX__)
    for (int i = 0; i < XENT_LINE; i += 32)
        _mm256_stream_si256((__m256i *)((char *)to + i), _mm256_loadu_si256((const __m256i *)((const char *)line + i)));
#else
    for (int i = 0; i < XENT_LINE; i += 16)
        _mm_stream_si128((__m128i *)((char *)to + i), _mm_loadu_si128((const __m128i *)((const char *)line + i)));
#endif
}
XENT_INLINE void stream_end(void) {
    _mm_sfence();
}
#else
XENT_INLINE void stream_line(void *to, const void *line) {
    memcpy(to, line, XENT_LINE);
}
XENT_INLINE void stream_end(void) {
}
#endif

/* n bytes: whole lines of `to` past the cache. (To copy nothing is a call.) */
XENT_INLINE void stream_out(void *to, const void *from, ptrdiff_t n) {
    const ptrdiff_t before = (ptrdiff_t)(-(uintptr_t)to % XENT_LINE), first = before < n ? before : n,
                    last = first + (n - first) / XENT_LINE * XENT_LINE;
    if (first) memcpy(to, from, (size_t)first);
    for (ptrdiff_t i = first; i < last; i += XENT_LINE) stream_line((char *)to + i, (const char *)from + i);
    if (last < n) memcpy((char *)to + last, (const char *)from + last, (size_t)(n - last));
}

/* STEP(half) for every step of a fold of all lanes, half a constant in each, so that each is straight-line code. */
#define XENT_FOLD(STEP) STEP(16) STEP(8) STEP(4) STEP(2) STEP(1)

#define XENT_PASTE_(a, b) a##_##b
#define XENT_PASTE(a, b)  XENT_PASTE_(a, b)

/* <op>_<dtype>, private to one file, and <op>_<dtype>_<tier>, which the tier's table names, or other files of the tier call. */
#define NAME(op)   XENT_PASTE(op, DTYPE)
#define KERNEL(op) XENT_PASTE(XENT_PASTE(op, DTYPE), XENT_TIER)

/* A number's bits: those of numbers without a sign are in the order of these, those of a NaN above all. */
typedef int32_t bits_f32;
typedef int64_t bits_f64;

XENT_INLINE uint64_t bits_of(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

XENT_INLINE double from_bits(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

XENT_INLINE uint32_t word_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

XENT_INLINE float from_word(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* 2^n for -1022 <= n <= 1023. */
XENT_INLINE double power_of_two(int n) {
    return from_bits((uint64_t)(n + 1023) << 52);
}

/* The exponent of a positive normal number: 2^e <= x < 2^(e + 1). */
XENT_INLINE int exponent_of(double x) {
    return (int)(bits_of(x) >> 52 & 0x7ff) - 1023;
}

/* The same as a double, of a number that is not negative. */
XENT_INLINE double binade_of(double x) {
    return from_bits(bits_of(x) >> 52 | bits_of(0x1p52)) - (0x1p52 + 1023.0);
}

/* 0 if so, else x, chosen by bits: of what is then narrowed to float gcc would narrow first and choose after, and so narrow the
 * masks, too, by five shuffles for eight numbers. */
XENT_INLINE double zero_if(int so, double x) {
    return from_bits(bits_of(x) & -(uint64_t)!so);
}

/* x 2^n with no subnormal on the way: anything below the smallest normal double is 0. */
XENT_INLINE double scale_by(double x, double n) {
    if (!(n > -2000.0)) return 0.0;
    while (n < -1000.0) x *= 0x1p-1000, n += 1000.0;
    while (n > 1000.0) x *= 0x1p1000, n -= 1000.0;
    double y = x * power_of_two((int)n);
    return fabs(y) < 0x1p-1022 ? 0.0 : y;
}

#endif
