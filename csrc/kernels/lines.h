/* Lines of numbers that lie `stride` bytes apart, in any of the forms that an array may have, to plain ones and back.
 * Included once per dtype, in pack.c. */
#ifndef XENT_LINES_H
#define XENT_LINES_H
#include "half.h"
#include "squares_turned.h"

/* n plain bytes to where they belong, past the cache if `past`. */
XENT_INLINE void put_bytes(char *to, const void *from, ptrdiff_t n, int past) {
    if (past)
        stream_out(to, from, n);
    else
        memcpy(to, from, (size_t)n);
}

/* n numbers of 16 bits from p on, and to there. */
static void get_halves(const xent_view *view, const char *p, ptrdiff_t stride, ptrdiff_t n, float *restrict to) {
    const int plain = stride == 2 && !view->swapped && (uintptr_t)p % 2 == 0;
    uint16_t few[XENT_SMALL_BLOCK];
    if (plain) line_from_half(view->type, (const uint16_t *)(const void *)p, to, n);
    for (ptrdiff_t start = 0; start < n && !plain; start += XENT_SMALL_BLOCK, p += XENT_SMALL_BLOCK * stride) {
        const ptrdiff_t m = n - start < XENT_SMALL_BLOCK ? n - start : XENT_SMALL_BLOCK;
        for (ptrdiff_t i = 0; i < m; i++) fetch(few + i, p + i * stride, 2, view->swapped);
        line_from_half(view->type, few, to + start, m);
    }
}
static void put_halves(const xent_view *view, char *p, ptrdiff_t stride, ptrdiff_t n, const float *restrict from,
                       int past) {
    uint16_t few[XENT_SMALL_BLOCK];
    for (ptrdiff_t start = 0; start < n; start += XENT_SMALL_BLOCK, p += XENT_SMALL_BLOCK * stride) {
        const ptrdiff_t m = n - start < XENT_SMALL_BLOCK ? n - start : XENT_SMALL_BLOCK;
        line_to_half(view->type, from + start, few, m);
        if (stride == 2)
            put_bytes(p, few, m * 2, past);
        else
            for (ptrdiff_t i = 0; i < m; i++) memcpy(p + i * stride, few + i, 2);
    }
}
#endif
#include "strides.h"

/* n numbers in the opposite order, from p down, past the cache. */
static void NAME(stream_backwards)(char *p, ptrdiff_t n, const REAL *restrict from) {
    enum { SIZE = sizeof(REAL) };
    REAL few[XENT_SMALL_BLOCK];
    for (ptrdiff_t start = 0; start < n; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t m = n - start < XENT_SMALL_BLOCK ? n - start : XENT_SMALL_BLOCK;
        NAME(get_rising)((const char *)(from + start), SIZE, m, few, 1);
        stream_out(p - (start + m - 1) * SIZE, few, m * SIZE);
    }
}

/* A grid of a view, its first number at p, to plain rows that lie to_step numbers apart. */
static void NAME(get_grid)(const xent_view *view, const char *p, const xent_grid *grid, REAL *restrict to,
                           ptrdiff_t to_step) {
    enum { SIZE = sizeof(REAL) };
    const ptrdiff_t n = grid->n, stride = grid->stride;
    const int half = sizeof(REAL) == 4 && is_half(view->type);
    if (!half && !view->swapped && stride != SIZE) {
        NAME(get_strided)(p, grid, to, to_step);
        return;
    }
    for (ptrdiff_t r = 0; r < grid->rows; r++, p += grid->row_step, to += to_step)
        if (half)
            get_halves(view, p, stride, n, (float *)(void *)to);
        else if (view->swapped)
            for (ptrdiff_t i = 0; i < n; i++) fetch(to + i, p + i * stride, SIZE, 1);
        else
            memcpy(to, p, (size_t)n * SIZE);
}

/* And back; whole lines of memory past the cache if `past`. */
static void NAME(put_grid)(const xent_view *view, char *p, const xent_grid *grid, const REAL *restrict from,
                           ptrdiff_t from_step, int past) {
    enum { SIZE = sizeof(REAL) };
    const ptrdiff_t n = grid->n, stride = grid->stride;
    const int half = sizeof(REAL) == 4 && is_half(view->type);
    if (!half && stride != SIZE && !(stride == -SIZE && past)) {
        NAME(put_strided)(p, grid, from, from_step);
        return;
    }
    for (ptrdiff_t r = 0; r < grid->rows; r++, p += grid->row_step, from += from_step)
        if (half)
            put_halves(view, p, stride, n, (const float *)(const void *)from, past);
        else if (stride == SIZE)
            put_bytes(p, from, n * SIZE, past);
        else
            NAME(stream_backwards)(p, n, from);
}

/* One row of such a grid. */
static void NAME(get_line)(const xent_view *view, const char *p, ptrdiff_t stride, ptrdiff_t n, REAL *restrict to) {
    const xent_grid line = {.rows = 1, .n = n, .stride = stride};
    NAME(get_grid)(view, p, &line, to, 0);
}
static void NAME(put_line)(const xent_view *view, char *p, ptrdiff_t stride, ptrdiff_t n, const REAL *restrict from,
                           int past) {
    const xent_grid line = {.rows = 1, .n = n, .stride = stride};
    NAME(put_grid)(view, p, &line, from, 0, past);
}
