/* Lines that are to be asked for while XENT_SIDE rows are worked on, some of them with every class. */
#ifndef XENT_ASKED_H
#define XENT_ASKED_H

#include "rows.h"

typedef struct {
    const char *at;
    ptrdiff_t step, side; /* from class to class; and from these rows to the XENT_SIDE behind them */
    int lines;            /* with every class */
} asked_lines;

/* All lines of XENT_SIDE rows of so many bytes that lie `step` bytes apart, with what is between them if that is not more
 * than they are, or a few lines at most; else a row with every class, if there are as many. By contiguous rows, one thread:
 * 16384 x 100, every third row, 2.0 if nothing is asked for, 1.5 so; every second row 1.1 with what is between them, 1.3
 * row by row. */
XENT_INLINE asked_lines lines_of_rows(ptrdiff_t step, ptrdiff_t bytes, ptrdiff_t classes) {
    const ptrdiff_t each = magnitude(step), all = (XENT_SIDE * each + XENT_LINE - 1) / XENT_LINE;
    asked_lines a = {.side = XENT_SIDE * step};
    if (classes && each >= bytes && (each <= 2 * bytes || each <= 4 * XENT_LINE))
        a.lines = (int)((all + classes - 1) / classes), a.step = a.lines * XENT_LINE;
    else if (classes >= XENT_SIDE && each > bytes)
        a.lines = (int)(bytes / XENT_LINE) + 1, a.step = each;
    return a;
}

/* The same where the first row is at p, from the lowest address on. */
XENT_INLINE asked_lines asked_from(asked_lines a, const char *p) {
    a.at = a.side < 0 ? p + a.side / XENT_SIDE * (XENT_SIDE - 1) : p;
    return a;
}

/* What is to be asked for while the terms of XENT_SIDE rows are formed, so many lines with every class: the logits of the
 * next rows, and the lines that these results go to. Memory by itself is fetched ahead along one row, not along several;
 * asked for at once, all lines are waited for (65536 x 32: 1.7 ns per logit, by and by 1.3; 16384 x 100: 1.34, 0.93). */
typedef struct {
    asked_lines next, to;
    int packed; /* what is next will be copied first */
} side_ahead;

/* Lines from `at` on; of contiguous rows of float32 there are two. */
#define XENT_ASK(at, lines, ...)                                                                \
    if (__builtin_expect((lines) == 2, 1))                                                      \
        __builtin_prefetch(at, __VA_ARGS__), __builtin_prefetch((at) + XENT_LINE, __VA_ARGS__); \
    else                                                                                        \
        for (int i = 0; i < (lines); i++) __builtin_prefetch((at) + i * XENT_LINE, __VA_ARGS__)
XENT_INLINE void ask_ahead(side_ahead *a) {
    if (a->packed) {
        XENT_ASK(a->next.at, a->next.lines, 0, 2);
    } else {
        XENT_ASK(a->next.at, a->next.lines, 0);
    }
    XENT_ASK(a->to.at, a->to.lines, 1);
    a->next.at += a->next.step, a->to.at += a->to.step;
}
#undef XENT_ASK

/* Of rows that are packed next, as many lines of each class as XENT_SIDE of them have. */
XENT_INLINE side_ahead packed_ahead(const xent_view *x, const char *at) {
    const int lines = (int)((magnitude(x->next_side) + XENT_LINE - 1) / XENT_LINE);
    return (side_ahead){.next = {at, x->next_class, x->next_side, lines}, .packed = 1};
}
#endif
