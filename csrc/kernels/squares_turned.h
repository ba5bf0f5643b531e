/* Squares of 16 bytes by as many, rows to columns: by shuffles, which gcc and clang write as an extension of C. Where
 * XENT_SHUFFLES is not defined, whoever wants one copies element by element. Registers of 32 bytes hold two squares. */
#ifndef XENT_SQUARES_TURNED_H
#define XENT_SQUARES_TURNED_H

#include "lanes.h"

typedef float four_f32 __attribute__((vector_size(16)));
typedef double two_f64 __attribute__((vector_size(16)));

#if defined(__has_builtin) && !defined(XENT_NO_SHUFFLES) /* as gcc before 12 has none */
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

/* Element `at` of the i-th of some rows. Their pointers are copied, as they may have been stored as those to other types. */
#define XENT_OF_ROW(DTYPE, REAL)                                                   \
    XENT_INLINE REAL *of_row_##DTYPE(const void *rows, int i, ptrdiff_t at) {      \
        REAL *row;                                                                 \
        memcpy(&row, (const char *)rows + (size_t)i * sizeof(void *), sizeof row); \
        return row + at;                                                           \
    }
XENT_OF_ROW(f32, float)
XENT_OF_ROW(f64, double)
#undef XENT_OF_ROW

/* From `at` on in each of the rows, and to there; square_<dtype> and back: to rows that lie `step` numbers apart, and from
 * such. */
#define XENT_SQUARE(DTYPE, REAL, VECTOR, N)                                                                 \
    XENT_INLINE void load_square_##DTYPE(const REAL *const *from, ptrdiff_t at, VECTOR v[N]) {              \
        for (int i = 0; i < N; i++) memcpy(&v[i], of_row_##DTYPE(from, i, at), sizeof v[i]);                \
    }                                                                                                       \
    XENT_INLINE void put_square_##DTYPE(const VECTOR v[N], REAL *const *to, ptrdiff_t at) {                 \
        for (int i = 0; i < N; i++) memcpy(of_row_##DTYPE(to, i, at), &v[i], sizeof v[i]);                  \
    }                                                                                                       \
    XENT_INLINE void square_##DTYPE(const REAL *const *from, ptrdiff_t at, REAL *to, ptrdiff_t step) {      \
        VECTOR v[N];                                                                                        \
        load_square_##DTYPE(from, at, v), turn_##DTYPE(v, v);                                               \
        for (int i = 0; i < N; i++) memcpy(to + i * step, &v[i], sizeof v[i]);                              \
    }                                                                                                       \
    XENT_INLINE void square_back_##DTYPE(const REAL *from, ptrdiff_t step, REAL *const *to, ptrdiff_t at) { \
        VECTOR v[N];                                                                                        \
        for (int i = 0; i < N; i++) memcpy(&v[i], from + i * step, sizeof v[i]);                            \
        turn_##DTYPE(v, v), put_square_##DTYPE(v, to, at);                                                  \
    }
XENT_SQUARE(f32, float, four_f32, 4)
XENT_SQUARE(f64, double, two_f64, 2)
#undef XENT_SQUARE

/* Two float32 of each of four rows, each two as a double: turned, v[c] has those of the c-th; and back. */
typedef double two_floats __attribute__((may_alias, aligned(4)));
XENT_INLINE void load_couples(const float *const *from, ptrdiff_t at, two_f64 v[2]) {
    for (int i = 0; i < 2; i++)
        v[i] = (two_f64){*(const two_floats *)of_row_f32(from, 2 * i, at),
                         *(const two_floats *)of_row_f32(from, 2 * i + 1, at)};
}
XENT_INLINE void turn_couple_f32(const float *const *from, ptrdiff_t at, four_f32 v[2]) {
    two_f64 pairs[2];
    load_couples(from, at, pairs);
    const four_f32 a = (four_f32)pairs[0], b = (four_f32)pairs[1];
    v[0] = __builtin_shufflevector(a, b, 0, 2, 4, 6), v[1] = __builtin_shufflevector(a, b, 1, 3, 5, 7);
}
XENT_INLINE void put_couple_f32(const four_f32 v[2], float *const *to, ptrdiff_t at) {
    const two_f64 pairs[2] = {(two_f64)__builtin_shufflevector(v[0], v[1], 0, 4, 1, 5),
                              (two_f64)__builtin_shufflevector(v[0], v[1], 2, 6, 3, 7)};
    for (int i = 0; i < 4; i++) *(two_floats *)of_row_f32(to, i, at) = pairs[i / 2][i % 2];
}

/* XENT_SQUARES squares at once, of as many times as many rows: turned_<dtype>, what a register holds of one class of them;
 * load_squares_<dtype>, turn_squares_<dtype>, put_squares_<dtype>, turn_couples_f32, put_couples_f32. AVX2, one thread, loss and
 * gradient by two: 16384 x 100 0.95 of the time, 65536 x 32 0.95, 65536 x 10 0.97, float64 0.95 to 0.98. */
#ifdef __AVX__
enum { XENT_SQUARES = 2 };
typedef float eight_f32 __attribute__((vector_size(32)));
typedef double four_f64 __attribute__((vector_size(32)));
typedef eight_f32 turned_f32;
typedef four_f64 turned_f64;

XENT_INLINE void turn_squares_f32(const eight_f32 v[4], eight_f32 to[4]) {
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
XENT_INLINE void turn_squares_f64(const four_f64 v[2], four_f64 to[2]) {
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

#define XENT_PAIR(DTYPE, REAL, VECTOR, PAIR, N)                                                 \
    XENT_INLINE void load_squares_##DTYPE(const REAL *const *from, ptrdiff_t at, PAIR v[N]) {   \
        for (int i = 0; i < N; i++) {                                                           \
            VECTOR low, high;                                                                   \
            memcpy(&low, of_row_##DTYPE(from, i, at), sizeof low);                              \
            memcpy(&high, of_row_##DTYPE(from, N + i, at), sizeof high);                        \
            v[i] = paired_##DTYPE(low, high);                                                   \
        }                                                                                       \
    }                                                                                           \
    XENT_INLINE void put_squares_##DTYPE(const PAIR v[N], REAL *const *to, ptrdiff_t at) {      \
        for (int i = 0; i < N; i++)                                                             \
            memcpy(of_row_##DTYPE(to, i, at), &v[i], sizeof(VECTOR)),                           \
                memcpy(of_row_##DTYPE(to, N + i, at), (const REAL *)&v[i] + N, sizeof(VECTOR)); \
    }
XENT_PAIR(f32, float, four_f32, eight_f32, 4)
XENT_PAIR(f64, double, two_f64, four_f64, 2)
#undef XENT_PAIR

XENT_INLINE void turn_couples_f32(const float *const *from, ptrdiff_t at, eight_f32 v[2]) {
    two_f64 low[2], high[2];
    load_couples(from, at, low), load_couples(from + 4, at, high);
    const eight_f32 a = (eight_f32)paired_f64(low[0], high[0]), b = (eight_f32)paired_f64(low[1], high[1]);
    v[0] = __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14);
    v[1] = __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
}
XENT_INLINE void put_couples_f32(const eight_f32 v[2], float *const *to, ptrdiff_t at) {
    const four_f64 pairs[2] = {(four_f64)__builtin_shufflevector(v[0], v[1], 0, 8, 1, 9, 4, 12, 5, 13),
                               (four_f64)__builtin_shufflevector(v[0], v[1], 2, 10, 3, 11, 6, 14, 7, 15)};
    for (int i = 0; i < 8; i++) *(two_floats *)of_row_f32(to, i, at) = pairs[i / 2 % 2][i / 4 * 2 + i % 2];
}
#else
enum { XENT_SQUARES = 1 };
typedef four_f32 turned_f32;
typedef two_f64 turned_f64;
#define turn_squares_f32 turn_f32
#define turn_squares_f64 turn_f64
#define load_squares_f32 load_square_f32
#define load_squares_f64 load_square_f64
#define put_squares_f32  put_square_f32
#define put_squares_f64  put_square_f64
#define turn_couples_f32 turn_couple_f32
#define put_couples_f32  put_couple_f32
#endif
/* float64 has none: a square of its own is no wider. */
XENT_INLINE void turn_couples_f64(const double *const *from, ptrdiff_t at, turned_f64 v[2]) {
    load_squares_f64(from, at, v), turn_squares_f64(v, v);
}
XENT_INLINE void put_couples_f64(const turned_f64 v[2], double *const *to, ptrdiff_t at) {
    turned_f64 turned[2];
    turn_squares_f64(v, turned), put_squares_f64(turned, to, at);
}
#endif
#endif
