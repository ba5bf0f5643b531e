/* Numbers that lie some bytes apart to plain ones and back, in the order of their addresses, as memory is fetched ahead: 65536
 * x 64, every second class backwards, took 3.5 times contiguous rows from the first to the last, and takes 1.5. Some at a
 * time are put together in a register. Included once per dtype, in lines.h. */
#ifndef XENT_STRIDES_H
#define XENT_STRIDES_H
#include "squares_turned.h"

/* So many bytes before a number is written its line is asked for: no processor looks ahead there if not all of it is written
 * (256 x 1000, every second class: 1.3 ns a number for that alone, 0.4 so). What is read was asked for with the rows packed
 * before (view_pack); twice is more than once (loss, 1.7 times contiguous rows against 1.4). And no more bytes than that are
 * asked for before long lines of columns, which would push each other out. */
enum { XENT_STRIDE_AHEAD = 1024, XENT_STRIDE_MOST = 4096 };

/* `rows` rows of n numbers: from row to row row_step bytes, from number to number `stride`; rows to be asked for so many
 * before they are copied, 0: they follow each other in memory. */
typedef struct {
    ptrdiff_t rows, row_step, n, stride, ahead;
} xent_grid;

/* The lowest address in a row of a grid whose first number is at p. */
XENT_INLINE const char *lowest_in_row(const char *p, const xent_grid *grid) {
    return grid->stride < 0 ? p + (grid->n - 1) * grid->stride : p;
}

/* All lines of such a row, from there on, to be read or to be written. */
XENT_INLINE void ask_row(const char *p, const xent_grid *grid, const int in) {
    const ptrdiff_t step = magnitude(grid->stride), each = step < XENT_LINE ? XENT_LINE : step;
    const char *end = p + grid->n * step;
    if (each == XENT_LINE) p -= (uintptr_t)p % XENT_LINE;
    for (; p < end; p += each)
        if (in)
            __builtin_prefetch(p, 0, 2);
        else
            __builtin_prefetch(p, 1);
}

#ifdef XENT_SHUFFLES
#if defined(__AVX2__)
typedef float some_f32 __attribute__((vector_size(32)));
typedef double some_f64 __attribute__((vector_size(32)));
#define XENT_BACKWARDS_F32 7, 6, 5, 4, 3, 2, 1, 0
#define XENT_SECONDS_F32   0, 2, 4, 6, 9, 11, 13, 15
#define XENT_BACKWARDS_F64 3, 2, 1, 0
#define XENT_SECONDS_F64   0, 2, 5, 7
#else
typedef four_f32 some_f32;
typedef two_f64 some_f64;
#define XENT_BACKWARDS_F32 3, 2, 1, 0
#define XENT_SECONDS_F32   0, 2, 5, 7
#define XENT_BACKWARDS_F64 1, 0
#define XENT_SECONDS_F64   0, 3
#endif
XENT_INLINE some_f32 backwards_f32(some_f32 v) {
    return __builtin_shufflevector(v, v, XENT_BACKWARDS_F32);
}
XENT_INLINE some_f64 backwards_f64(some_f64 v) {
    return __builtin_shufflevector(v, v, XENT_BACKWARDS_F64);
}
/* Every second of the numbers of a and b, the last of a being the first of b: so none beyond the last is touched. */
XENT_INLINE some_f32 seconds_f32(some_f32 a, some_f32 b) {
    return __builtin_shufflevector(a, b, XENT_SECONDS_F32);
}
XENT_INLINE some_f64 seconds_f64(some_f64 a, some_f64 b) {
    return __builtin_shufflevector(a, b, XENT_SECONDS_F64);
}
#endif
#endif

/* n numbers from p on, their addresses rising by `stride`: to[0] and on, or, `back`, to[n - 1] and down. */
XENT_INLINE void NAME(get_rising)(const char *p, const ptrdiff_t stride, ptrdiff_t n, char *restrict to,
                                  const int back) {
    enum { SIZE = sizeof(REAL) };
    ptrdiff_t i = 0;
#ifdef XENT_SHUFFLES
    enum { SOME = sizeof(NAME(some)) / SIZE };
    for (; i + SOME <= n; i += SOME, p += SOME * stride) {
        NAME(some) v = {0};
        if (stride == SIZE)
            memcpy(&v, p, sizeof v);
        else if (stride == 2 * SIZE) {
            NAME(some) a, b;
            memcpy(&a, p, sizeof a), memcpy(&b, p + sizeof b - SIZE, sizeof b);
            v = NAME(seconds)(a, b);
        } else
            for (int j = 0; j < SOME; j++) {
                REAL number;
                memcpy(&number, p + j * stride, SIZE), v[j] = number;
            }
        if (back) v = NAME(backwards)(v);
        memcpy(to + (back ? n - i - SOME : i) * SIZE, &v, sizeof v);
    }
#endif
    for (; i < n; i++, p += stride) memcpy(to + (back ? n - 1 - i : i) * SIZE, p, SIZE);
}

/* And back; what lies `ahead` bytes further is asked for. */
XENT_INLINE void NAME(put_rising)(char *p, const ptrdiff_t stride, ptrdiff_t n, const REAL *restrict from,
                                  ptrdiff_t ahead, const int back) {
    enum { SIZE = sizeof(REAL), SOME = 8 };
    const ptrdiff_t line = stride < XENT_LINE ? XENT_LINE : stride;
    ptrdiff_t i = 0;
    for (; i + SOME <= n; i += SOME, p += SOME * stride) {
        for (ptrdiff_t at = 0; ahead && at < SOME * stride; at += line) __builtin_prefetch(p + ahead + at, 1);
        for (int j = 0; j < SOME; j++) memcpy(p + j * stride, back ? from + n - 1 - i - j : from + i + j, SIZE);
    }
    for (; i < n; i++, p += stride) memcpy(p, back ? from + n - 1 - i : from + i, SIZE);
}

/* OP(stride, back), as get_rising and put_rising have them, constants where they can be. */
#undef XENT_RISING
#define XENT_RISING(OP, STRIDE)         \
    do {                                \
        if ((STRIDE) == SIZE)           \
            OP(SIZE, 0)                 \
        else if ((STRIDE) == -SIZE)     \
            OP(SIZE, 1)                 \
        else if ((STRIDE) == 2 * SIZE)  \
            OP(2 * SIZE, 0)             \
        else if ((STRIDE) == -2 * SIZE) \
            OP(2 * SIZE, 1)             \
        else if ((STRIDE) < 0)          \
            OP(-(STRIDE), 1)            \
        else                            \
            OP(STRIDE, 0)               \
    } while (0)

/* A grid, the first number of which is at p, to plain rows that lie to_step numbers apart, and back. */
XENT_NOINLINE void NAME(get_strided)(const char *p, const xent_grid *grid, REAL *restrict to, ptrdiff_t to_step) {
    enum { SIZE = sizeof(REAL) };
    const ptrdiff_t n = grid->n, stride = grid->stride, step = grid->row_step;
    const ptrdiff_t ahead = grid->ahead ? grid->ahead : grid->rows;
    if (stride < 0) p += (n - 1) * stride;
#define XENT_GET(STEP, BACK)                                           \
    for (ptrdiff_t r = grid->rows; r; r--, p += step, to += to_step) { \
        if (r > ahead) ask_row(p + ahead * step, grid, 1);             \
        NAME(get_rising)(p, STEP, n, (char *)to, BACK);                \
    }
    XENT_RISING(XENT_GET, stride);
#undef XENT_GET
}
/* Where rows follow each other those of the next grid are asked for, too. */
XENT_NOINLINE void NAME(put_strided)(char *p, const xent_grid *grid, const REAL *restrict from, ptrdiff_t from_step) {
    enum { SIZE = sizeof(REAL) };
    const ptrdiff_t n = grid->n, stride = grid->stride, step = grid->row_step, span = n * magnitude(stride);
    const int follow = !grid->ahead && grid->rows > 1 && stride != -SIZE && span && span < XENT_STRIDE_AHEAD;
    const ptrdiff_t fit = span ? XENT_STRIDE_MOST / span + 1 : 0, few = grid->ahead < fit ? grid->ahead : fit;
    const ptrdiff_t rows = follow ? (XENT_STRIDE_AHEAD - 1) / span + 1 : few < grid->rows ? few : 0;
    const ptrdiff_t ahead = rows ? 0 : XENT_STRIDE_AHEAD, last = follow ? 0 : rows ? rows : grid->rows;
    if (stride < 0) p += (n - 1) * stride;
#define XENT_PUT(STEP, BACK)                                               \
    for (ptrdiff_t r = grid->rows; r; r--, p += step, from += from_step) { \
        if (r > last) ask_row(p + rows * step, grid, 0);                   \
        if ((STEP) == SIZE)                                                \
            NAME(get_rising)((const char *)from, SIZE, n, p, BACK);        \
        else                                                               \
            NAME(put_rising)(p, STEP, n, from, ahead, BACK);               \
    }
    XENT_RISING(XENT_PUT, stride);
#undef XENT_PUT
}
