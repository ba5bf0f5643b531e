/* Rows side by side: XENT_SIDE rows as columns of a buffer, element [c][r] that of class c of row r, and back. Included once
 * per dtype, in row.h. */

#include "squares_turned.h"

enum { NAME(SQUARE) = 16 / (int)sizeof(REAL) };

/* Classes 0 .. n - 1 of XENT_SIDE rows to columns[c][r]. Few rows at a time, each from end to end: that is how memory is
 * fetched ahead. */
XENT_NOINLINE void NAME(rows_to_columns)(const REAL *const *rows, ptrdiff_t n, REAL *columns) {
#ifdef XENT_SHUFFLES
    for (int r = 0; r < XENT_SIDE && n >= NAME(SQUARE); r += NAME(SQUARE)) {
        const REAL *some[NAME(SQUARE)];
        memcpy(some, rows + r, sizeof some);
        for (ptrdiff_t i = 0, last = n - NAME(SQUARE); i < n; i += NAME(SQUARE)) {
            const ptrdiff_t c = i < last ? i : last; /* the last square overlaps the one before */
            NAME(square)(some, c, columns + c * XENT_SIDE + r, XENT_SIDE);
        }
    }
    if (n >= NAME(SQUARE)) return;
#endif
    for (int r = 0; r < XENT_SIDE; r++)
        for (ptrdiff_t c = 0; c < n; c++) columns[c * XENT_SIDE + r] = rows[r][c];
}

/* And back, to the first `count` of them. */
XENT_NOINLINE void NAME(columns_to_rows)(const REAL *columns, ptrdiff_t n, REAL *const *rows, int count) {
    int whole = 0;
#ifdef XENT_SHUFFLES
    for (; whole + NAME(SQUARE) <= count && n >= NAME(SQUARE); whole += NAME(SQUARE)) {
        REAL *some[NAME(SQUARE)];
        memcpy(some, rows + whole, sizeof some);
        for (ptrdiff_t i = 0, last = n - NAME(SQUARE); i < n; i += NAME(SQUARE)) {
            const ptrdiff_t c = i < last ? i : last;
            NAME(square_back)(columns + c * XENT_SIDE + whole, XENT_SIDE, some, c);
        }
    }
#endif
    for (int r = whole; r < count; r++)
        for (ptrdiff_t c = 0; c < n; c++) rows[r][c] = columns[c * XENT_SIDE + r];
}
