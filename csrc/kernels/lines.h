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
#endif

/* n numbers in the opposite order: from[0] becomes to[n - 1]. */
XENT_INLINE void NAME(reverse)(const char *from, char *to, ptrdiff_t n) {
    enum { SIZE = sizeof(REAL) };
    ptrdiff_t i = 0;
#ifdef XENT_SHUFFLES
    for (; i + NAME(SQUARE) <= n; i += NAME(SQUARE))
        NAME(reversed)(from + i * SIZE, to + (n - i - NAME(SQUARE)) * SIZE);
#endif
    for (; i < n; i++) memcpy(to + (n - 1 - i) * SIZE, from + i * SIZE, SIZE);
}

/* Every second of the numbers from p on, n of them. */
XENT_INLINE void NAME(every_second)(const char *p, REAL *to, ptrdiff_t n) {
    ptrdiff_t i = 0;
#ifdef XENT_SHUFFLES
    for (; i + NAME(SQUARE) < n; i += NAME(SQUARE)) /* what follows the last is not read */
        NAME(evens)(p + 2 * i * (ptrdiff_t)sizeof(REAL), to + i);
#endif
    for (; i < n; i++) memcpy(to + i, p + 2 * i * (ptrdiff_t)sizeof(REAL), sizeof(REAL));
}

/* n numbers of a view from p on. */
static void NAME(get_line)(const xent_view *view, const char *p, ptrdiff_t stride, ptrdiff_t n, REAL *restrict to) {
    enum { SIZE = sizeof(REAL) };
    if (sizeof(REAL) == 4 && is_half(view->type)) {
        const int plain = stride == 2 && !view->swapped && (uintptr_t)p % 2 == 0;
        uint16_t few[XENT_SMALL_BLOCK];
        if (plain) line_from_half(view->type, (const uint16_t *)(const void *)p, (float *)(void *)to, n);
        for (ptrdiff_t start = 0; start < n && !plain; start += XENT_SMALL_BLOCK, p += XENT_SMALL_BLOCK * stride) {
            const ptrdiff_t m = n - start < XENT_SMALL_BLOCK ? n - start : XENT_SMALL_BLOCK;
            for (ptrdiff_t i = 0; i < m; i++) fetch(few + i, p + i * stride, 2, view->swapped);
            line_from_half(view->type, few, (float *)(void *)(to + start), m);
        }
    } else if (view->swapped)
        for (ptrdiff_t i = 0; i < n; i++) fetch(to + i, p + i * stride, SIZE, 1);
    else if (stride == SIZE)
        memcpy(to, p, (size_t)n * SIZE);
    else if (stride == -SIZE)
        NAME(reverse)(p - (n - 1) * SIZE, (char *)to, n);
    else if (stride == 2 * SIZE)
        NAME(every_second)(p, to, n);
    else
        for (ptrdiff_t i = 0; i < n; i++) memcpy(to + i, p + i * stride, SIZE);
}

/* And back; whole lines of memory past the cache if `past`. */
static void NAME(put_line)(const xent_view *view, char *p, ptrdiff_t stride, ptrdiff_t n, const REAL *restrict from,
                           int past) {
    enum { SIZE = sizeof(REAL) };
    if (sizeof(REAL) == 4 && is_half(view->type)) {
        uint16_t few[XENT_SMALL_BLOCK];
        for (ptrdiff_t start = 0; start < n; start += XENT_SMALL_BLOCK, p += XENT_SMALL_BLOCK * stride) {
            const ptrdiff_t m = n - start < XENT_SMALL_BLOCK ? n - start : XENT_SMALL_BLOCK;
            line_to_half(view->type, (const float *)(const void *)(from + start), few, m);
            if (stride == 2)
                put_bytes(p, few, m * 2, past);
            else
                for (ptrdiff_t i = 0; i < m; i++) memcpy(p + i * stride, few + i, 2);
        }
    } else if (stride == SIZE)
        put_bytes(p, from, n * SIZE, past);
    else if (stride == -SIZE) {
        REAL few[XENT_SMALL_BLOCK];
        for (ptrdiff_t start = 0; start < n; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t m = n - start < XENT_SMALL_BLOCK ? n - start : XENT_SMALL_BLOCK;
            NAME(reverse)((const char *)(from + start), (char *)few, m);
            put_bytes(p - (start + m - 1) * SIZE, few, m * SIZE, past);
        }
    } else
        for (ptrdiff_t i = 0; i < n; i++) memcpy(p + i * stride, from + i, SIZE);
}
