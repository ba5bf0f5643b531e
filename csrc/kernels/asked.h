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

#endif
