/* Squares of 16 bytes by as many, rows to columns: by shuffles, which gcc and clang write as an extension of C. Where
 * XENT_SHUFFLES is not defined, whoever wants one copies element by element. Registers of 32 bytes hold two squares. */
#ifndef XENT_SQUARES_TURNED_H
#define XENT_SQUARES_TURNED_H

#include "lanes.h"

typedef float four_f32 __attribute__((vector_size(16)));
typedef double two_f64 __attribute__((vector_size(16)));

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define XENT_SHUFFLES
#endif
#endif
#ifdef XENT_SHUFFLES
/* `to` may be v. The second step moves pairs: what gcc 12 does with them next leaves these shuffles as they are. */
XENT_INLINE void turn_f32(const four_f32 v[4], four_f32 to[4]) {
    const four_f32 a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5),
                   b = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
    const four_f32 c = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5),
                   d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
    const two_f64 first = (two_f64)a, second = (two_f64)b, third = (two_f64)c, fourth = (two_f64)d;
    to[0] = (four_f32)__builtin_shufflevector(first, third, 0, 2);
    to[1] = (four_f32)__builtin_shufflevector(first, third, 1, 3);
    to[2] = (four_f32)__builtin_shufflevector(second, fourth, 0, 2);
    to[3] = (four_f32)__builtin_shufflevector(second, fourth, 1, 3);
}
XENT_INLINE void turn_f64(const two_f64 v[2], two_f64 to[2]) {
    const two_f64 first = __builtin_shufflevector(v[0], v[1], 0, 2), second = __builtin_shufflevector(v[0], v[1], 1, 3);
    to[0] = first, to[1] = second;
}

/* From `at` on in each of the rows to rows that lie `step` numbers apart; and from such rows back. */
#define XENT_SQUARE(DTYPE, REAL, VECTOR, N)                                                                 \
    XENT_INLINE void square_##DTYPE(const REAL *const *from, ptrdiff_t at, REAL *to, ptrdiff_t step) {      \
        VECTOR v[N];                                                                                        \
        for (int i = 0; i < N; i++) memcpy(&v[i], from[i] + at, sizeof v[i]);                               \
        turn_##DTYPE(v, v);                                                                                 \
        for (int i = 0; i < N; i++) memcpy(to + i * step, &v[i], sizeof v[i]);                              \
    }                                                                                                       \
    XENT_INLINE void square_back_##DTYPE(const REAL *from, ptrdiff_t step, REAL *const *to, ptrdiff_t at) { \
        VECTOR v[N];                                                                                        \
        for (int i = 0; i < N; i++) memcpy(&v[i], from + i * step, sizeof v[i]);                            \
        turn_##DTYPE(v, v);                                                                                 \
        for (int i = 0; i < N; i++) memcpy(to[i] + at, &v[i], sizeof v[i]);                                 \
    }
XENT_SQUARE(f32, float, four_f32, 4)
XENT_SQUARE(f64, double, two_f64, 2)
#undef XENT_SQUARE

/* Two float32 of each of four rows, each two as a double. */
typedef double two_floats __attribute__((may_alias, aligned(4)));
XENT_INLINE void load_couples(const float *const *from, ptrdiff_t at, two_f64 v[2]) {
    for (int i = 0; i < 2; i++)
        v[i] = (two_f64){*(const two_floats *)(from[2 * i] + at), *(const two_floats *)(from[2 * i + 1] + at)};
}
XENT_INLINE void couple_f32(const float *const *from, ptrdiff_t at, float *to, ptrdiff_t step) {
    two_f64 v[2];
    load_couples(from, at, v);
    const four_f32 a = (four_f32)v[0], b = (four_f32)v[1];
    const four_f32 c[2] = {__builtin_shufflevector(a, b, 0, 2, 4, 6), __builtin_shufflevector(a, b, 1, 3, 5, 7)};
    memcpy(to, &c[0], sizeof c[0]), memcpy(to + step, &c[1], sizeof c[1]);
}
XENT_INLINE void couple_back_f32(const float *from, ptrdiff_t step, float *const *to, ptrdiff_t at) {
    four_f32 a, b;
    memcpy(&a, from, sizeof a), memcpy(&b, from + step, sizeof b);
    const two_f64 v[2] = {(two_f64)__builtin_shufflevector(a, b, 0, 4, 1, 5),
                          (two_f64)__builtin_shufflevector(a, b, 2, 6, 3, 7)};
    for (int i = 0; i < 4; i++) *(two_floats *)(to[i] + at) = v[i / 2][i % 2];
}

/* squares_<dtype>, squares_back_<dtype>, couples_f32, couples_back_f32: the same of XENT_SQUARES times as many rows. Two squares at once: AVX2, one thread, loss
 * and gradient of 16384 x 100 0.95 of the time, 65536 x 32 0.95, 65536 x 10 0.97, float64 0.95 to 0.98. */
#ifdef __AVX__
enum { XENT_SQUARES = 2 };
typedef float eight_f32 __attribute__((vector_size(32)));
typedef double four_f64 __attribute__((vector_size(32)));

XENT_INLINE void turn_pair_f32(const eight_f32 v[4], eight_f32 to[4]) {
    const eight_f32 a = __builtin_shufflevector(v[0], v[1], 0, 8, 1, 9, 4, 12, 5, 13),
                    b = __builtin_shufflevector(v[0], v[1], 2, 10, 3, 11, 6, 14, 7, 15);
    const eight_f32 c = __builtin_shufflevector(v[2], v[3], 0, 8, 1, 9, 4, 12, 5, 13),
                    d = __builtin_shufflevector(v[2], v[3], 2, 10, 3, 11, 6, 14, 7, 15);
    const four_f64 first = (four_f64)a, second = (four_f64)b, third = (four_f64)c, fourth = (four_f64)d;
    to[0] = (eight_f32)__builtin_shufflevector(first, third, 0, 4, 2, 6);
    to[1] = (eight_f32)__builtin_shufflevector(first, third, 1, 5, 3, 7);
    to[2] = (eight_f32)__builtin_shufflevector(second, fourth, 0, 4, 2, 6);
    to[3] = (eight_f32)__builtin_shufflevector(second, fourth, 1, 5, 3, 7);
}
XENT_INLINE void turn_pair_f64(const four_f64 v[2], four_f64 to[2]) {
    const four_f64 first = __builtin_shufflevector(v[0], v[1], 0, 4, 2, 6),
                   second = __builtin_shufflevector(v[0], v[1], 1, 5, 3, 7);
    to[0] = first, to[1] = second;
}
XENT_INLINE eight_f32 paired_f32(four_f32 low, four_f32 high) {
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}
XENT_INLINE four_f64 paired_f64(two_f64 low, two_f64 high) {
    return __builtin_shufflevector(low, high, 0, 1, 2, 3);
}

#define XENT_PAIR(DTYPE, REAL, VECTOR, PAIR, N)                                                              \
    XENT_INLINE void squares_##DTYPE(const REAL *const *from, ptrdiff_t at, REAL *to, ptrdiff_t step) {      \
        PAIR v[N];                                                                                           \
        for (int i = 0; i < N; i++) {                                                                        \
            VECTOR low, high;                                                                                \
            memcpy(&low, from[i] + at, sizeof low), memcpy(&high, from[N + i] + at, sizeof high);            \
            v[i] = paired_##DTYPE(low, high);                                                                \
        }                                                                                                    \
        turn_pair_##DTYPE(v, v);                                                                             \
        for (int i = 0; i < N; i++) memcpy(to + i * step, &v[i], sizeof v[i]);                               \
    }                                                                                                        \
    XENT_INLINE void squares_back_##DTYPE(const REAL *from, ptrdiff_t step, REAL *const *to, ptrdiff_t at) { \
        PAIR v[N];                                                                                           \
        for (int i = 0; i < N; i++) memcpy(&v[i], from + i * step, sizeof v[i]);                             \
        turn_pair_##DTYPE(v, v);                                                                             \
        for (int i = 0; i < N; i++)                                                                          \
            memcpy(to[i] + at, &v[i], sizeof(VECTOR)),                                                       \
                memcpy(to[N + i] + at, (const REAL *)&v[i] + N, sizeof(VECTOR));                             \
    }
XENT_PAIR(f32, float, four_f32, eight_f32, 4)
XENT_PAIR(f64, double, two_f64, four_f64, 2)
#undef XENT_PAIR

XENT_INLINE void couples_f32(const float *const *from, ptrdiff_t at, float *to, ptrdiff_t step) {
    two_f64 low[2], high[2];
    load_couples(from, at, low), load_couples(from + 4, at, high);
    const eight_f32 a = (eight_f32)paired_f64(low[0], high[0]), b = (eight_f32)paired_f64(low[1], high[1]);
    const eight_f32 c[2] = {__builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14),
                            __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15)};
    memcpy(to, &c[0], sizeof c[0]), memcpy(to + step, &c[1], sizeof c[1]);
}
XENT_INLINE void couples_back_f32(const float *from, ptrdiff_t step, float *const *to, ptrdiff_t at) {
    eight_f32 a, b;
    memcpy(&a, from, sizeof a), memcpy(&b, from + step, sizeof b);
    const four_f64 v[2] = {(four_f64)__builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13),
                           (four_f64)__builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)};
    for (int i = 0; i < 8; i++) *(two_floats *)(to[i] + at) = v[i / 2 % 2][i / 4 * 2 + i % 2];
}
#else
enum { XENT_SQUARES = 1 };
#define squares_f32      square_f32
#define squares_f64      square_f64
#define squares_back_f32 square_back_f32
#define squares_back_f64 square_back_f64
#define couples_f32      couple_f32
#define couples_back_f32 couple_back_f32
#endif
#endif
#endif
