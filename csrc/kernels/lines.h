/* Grids of numbers, in any of the forms that an array may have, to plain rows and back. Included once per dtype, in pack.c. */
#include "half.h"
#include "strides.h"

#ifndef XENT_LINES_H
#define XENT_LINES_H
/* n plain bytes to where they belong, past the cache if `past`. */
XENT_INLINE void put_bytes(char *to, const void *from, ptrdiff_t n, int past) {
    if (past)
        stream_out(to, from, n);
    else
        memcpy(to, from, (size_t)n);
}

/* n numbers of 16 bits from p on, and to there. */
static inline void get_half_row(const xent_view *view, const char *p, ptrdiff_t stride, ptrdiff_t n,
                                float *restrict to) {
    const int plain = stride == 2 && !view->swapped && (uintptr_t)p % 2 == 0;
    uint16_t few[XENT_SMALL_BLOCK];
    if (plain) line_from_half(view->type, (const uint16_t *)(const void *)p, to, n);
    for (ptrdiff_t start = 0; start < n && !plain; start += XENT_SMALL_BLOCK, p += XENT_SMALL_BLOCK * stride) {
        const ptrdiff_t m = n - start < XENT_SMALL_BLOCK ? n - start : XENT_SMALL_BLOCK;
        for (ptrdiff_t i = 0; i < m; i++) fetch(few + i, p + i * stride, 2, view->swapped);
        line_from_half(view->type, few, to + start, m);
    }
}
static inline void put_half_row(const xent_view *view, char *p, ptrdiff_t stride, ptrdiff_t n,
                                const float *restrict from, int past) {
    const int plain = stride == 2 && !past && (uintptr_t)p % 2 == 0;
    uint16_t few[XENT_SMALL_BLOCK];
    if (plain) line_to_half(view->type, from, (uint16_t *)(void *)p, n);
    for (ptrdiff_t start = 0; start < n && !plain; start += XENT_SMALL_BLOCK, p += XENT_SMALL_BLOCK * stride) {
        const ptrdiff_t m = n - start < XENT_SMALL_BLOCK ? n - start : XENT_SMALL_BLOCK;
        line_to_half(view->type, from + start, few, m);
        if (stride == 2)
            put_bytes(p, few, m * 2, past);
        else
            for (ptrdiff_t i = 0; i < m; i++) memcpy(p + i * stride, few + i, 2);
    }
}

/* So many rows of a grid are converted at once: of short rows that lie side by side as plain ones, more than one. */
XENT_INLINE ptrdiff_t halves_at_once(const xent_grid *grid, ptrdiff_t plain_step) {
    const int joined = plain_step == grid->n && grid->n > 0 && grid->n < XENT_LANES && grid->rows > 1;
    return joined ? XENT_SMALL_BLOCK / grid->n : 1;
}

/* A grid of 16 bits, as get_grid and put_grid have it. */
static void get_halves(const xent_view *view, const char *p, const xent_grid *grid, float *restrict to,
                       ptrdiff_t to_step) {
    const ptrdiff_t n = grid->n, most = halves_at_once(grid, to_step), ahead = grid->ahead ? grid->ahead : grid->rows;
    uint16_t few[XENT_SMALL_BLOCK];
    for (ptrdiff_t r = grid->rows, m; r; r -= m, p += m * grid->row_step, to += m * to_step) {
        m = most < r ? most : r;
        if (r > ahead) ask_row(lowest_in_row(p, grid) + ahead * grid->row_step, grid, 1);
        if (most == 1) {
            get_half_row(view, p, grid->stride, n, to);
            continue;
        }
        for (ptrdiff_t k = 0; k < m; k++)
            for (ptrdiff_t i = 0; i < n; i++)
                fetch(few + k * n + i, p + k * grid->row_step + i * grid->stride, 2, view->swapped);
        line_from_half(view->type, few, to, m * n);
    }
}
static void put_halves(const xent_view *view, char *p, const xent_grid *grid, const float *restrict from,
                       ptrdiff_t from_step, int past) {
    const ptrdiff_t n = grid->n, most = halves_at_once(grid, from_step), ahead = grid->ahead ? grid->ahead : grid->rows;
    uint16_t few[XENT_SMALL_BLOCK];
    for (ptrdiff_t r = grid->rows, m; r; r -= m, p += m * grid->row_step, from += m * from_step) {
        m = most < r ? most : r;
        if (r > ahead && !(past && grid->stride == 2))
            ask_row(lowest_in_row(p, grid) + ahead * grid->row_step, grid, 0);
        if (most == 1) {
            put_half_row(view, p, grid->stride, n, from, past);
            continue;
        }
        line_to_half(view->type, from, few, m * n);
        for (ptrdiff_t k = 0; k < m; k++)
            for (ptrdiff_t i = 0; i < n; i++) memcpy(p + k * grid->row_step + i * grid->stride, few + k * n + i, 2);
    }
}
#endif

/* n numbers in the opposite order, from p down, past the cache. */
static void NAME(stream_backwards)(char *p, ptrdiff_t n, const REAL *restrict from) {
    enum { SIZE = sizeof(REAL) };
    REAL few[XENT_SMALL_BLOCK];
    for (ptrdiff_t start = 0; start < n; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t m = n - start < XENT_SMALL_BLOCK ? n - start : XENT_SMALL_BLOCK;
        NAME(get_rising)((const char *)(from + start), SIZE, m, (char *)few, 1);
        stream_out(p - (start + m - 1) * SIZE, few, m * SIZE);
    }
}

/* A grid of a view, its first number at p, to plain rows that lie to_step numbers apart. */
static void NAME(get_grid)(const xent_view *view, const char *p, const xent_grid *grid, REAL *restrict to,
                           ptrdiff_t to_step) {
    const ptrdiff_t n = grid->n;
    if (sizeof(REAL) == 4 && is_half(view->type)) {
        get_halves(view, p, grid, (float *)(void *)to, to_step);
        return;
    }
    if (grid->stride == sizeof(REAL) && !grid->ahead)
        for (ptrdiff_t r = 0; r < grid->rows; r++)
            memcpy(to + r * to_step, p + r * grid->row_step, (size_t)n * sizeof(REAL));
    else
        NAME(get_strided)(p, grid, to, to_step);
    for (ptrdiff_t r = 0; view->swapped && r < grid->rows; r++)
        for (ptrdiff_t i = 0; i < n; i++)
            fetch(to + r * to_step + i, (const char *)(to + r * to_step + i), sizeof(REAL), 1);
}

/* And back; whole lines of memory past the cache if `past`. */
static void NAME(put_grid)(const xent_view *view, char *p, const xent_grid *grid, const REAL *restrict from,
                           ptrdiff_t from_step, int past) {
    enum { SIZE = sizeof(REAL) };
    const ptrdiff_t n = grid->n, stride = grid->stride;
    if (sizeof(REAL) == 4 && is_half(view->type)) {
        put_halves(view, p, grid, (const float *)(const void *)from, from_step, past);
        return;
    }
    if (magnitude(stride) != SIZE || !past) {
        NAME(put_strided)(p, grid, from, from_step);
        return;
    }
    for (ptrdiff_t r = 0; r < grid->rows; r++, p += grid->row_step, from += from_step)
        if (stride == SIZE)
            stream_out(p, from, n * SIZE);
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
