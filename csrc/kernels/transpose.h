/* Rows side by side: XENT_SIDE rows as columns of a buffer, element [c][r] that of class c of row r, and back. Included once
 * per dtype, in row.h. */

#include "squares_turned.h"

#ifndef XENT_TRANSPOSE_H
#define XENT_TRANSPOSE_H
enum { FEW_SQUARES = 16 };
#endif

enum { NAME(SQUARE) = 16 / (int)sizeof(REAL) };
static const xent_type NAME(own_type) = sizeof(REAL) == 4 ? XENT_FLOAT32 : XENT_FLOAT64;

/* Rows of two or three classes, each of which begins where the one before it ends: the number is a constant at every call, as
 * compilers have shuffles of their own for that (float32, 1000000 x 3: 4.7 ns per logit, number by number 5.1). Squares have
 * those of float64 first. */
XENT_INLINE void NAME(few_to_columns)(const REAL *restrict from, const int n, REAL *restrict columns) {
    for (int r = 0; r < XENT_SIDE; r++)
        for (int c = 0; c < n; c++) columns[c * XENT_SIDE + r] = from[r * n + c];
}
XENT_INLINE void NAME(columns_to_few)(const REAL *restrict columns, const int n, REAL *restrict to) {
    for (int r = 0; r < XENT_SIDE; r++)
        for (int c = 0; c < n; c++) to[r * n + c] = columns[c * XENT_SIDE + r];
}
/* Whether n is 2 or 3, and each of XENT_SIDE rows begins where the one before it ends. */
XENT_INLINE int NAME(are_few)(const REAL *const *rows, ptrdiff_t n) {
    int joined = 1;
    if (n != 2 && n != 3) return 0;
    for (int r = 1; r < XENT_SIDE; r++) joined &= rows[r] == rows[0] + r * n;
    return joined;
}

#ifdef XENT_SHUFFLES
/* Of n >= SQUARE classes those that whole squares leave: by a square that overlaps the one before; of one or two of float32 by
 * half of one, which takes half of the instructions (65536 x 10). */
XENT_INLINE void NAME(last_squares)(const REAL *const *rows, ptrdiff_t n, REAL *columns) {
    if (sizeof(REAL) == 4 && n % NAME(SQUARE) <= 2)
        couples_f32((const float *const *)(const void *)rows, n - 2, (float *)(void *)(columns + (n - 2) * XENT_SIDE),
                    XENT_SIDE);
    else
        NAME(squares)(rows, n - NAME(SQUARE), columns + (n - NAME(SQUARE)) * XENT_SIDE, XENT_SIDE);
}
/* squares > 1: by as many at once. */
XENT_INLINE void NAME(last_squares_back)(const REAL *columns, ptrdiff_t n, REAL *const *rows, const int squares) {
    if (sizeof(REAL) == 4 && n % NAME(SQUARE) <= 2)
        (squares > 1 ? couples_back_f32 : couple_back_f32)((const float *)(const void *)(columns + (n - 2) * XENT_SIDE),
                                                           XENT_SIDE, (float *const *)(const void *)rows, n - 2);
    else
        (squares > 1 ? NAME(squares_back) : NAME(square_back))(columns + (n - NAME(SQUARE)) * XENT_SIDE, XENT_SIDE,
                                                               rows, n - NAME(SQUARE));
}
#endif

/* Classes 0 .. n - 1 of XENT_SIDE rows to columns[c][r]. Few rows at a time, each from end to end: that is how memory is
 * fetched ahead; but up to FEW_SQUARES classes one square of each row after another, as more instructions begin a row than
 * such a row takes. */
XENT_NOINLINE void NAME(rows_to_columns)(const REAL *const *rows, ptrdiff_t n, REAL *columns) {
#ifdef XENT_SHUFFLES
    const ptrdiff_t whole = n / NAME(SQUARE) * NAME(SQUARE);
    for (ptrdiff_t c = 0; c < whole && n <= FEW_SQUARES; c += NAME(SQUARE))
        for (int r = 0; r < XENT_SIDE; r += XENT_SQUARES * NAME(SQUARE))
            NAME(squares)(rows + r, c, columns + c * XENT_SIDE + r, XENT_SIDE);
    for (int r = 0; r < XENT_SIDE && n > FEW_SQUARES; r += XENT_SQUARES * NAME(SQUARE)) {
        const REAL *some[XENT_SQUARES * NAME(SQUARE)];
        for (int i = 0; i < XENT_SQUARES * NAME(SQUARE); i++) memcpy(&some[i], &rows[r + i], sizeof some[i]);
        for (ptrdiff_t c = 0; c < whole; c += NAME(SQUARE))
            NAME(squares)(some, c, columns + c * XENT_SIDE + r, XENT_SIDE);
    }
    for (int r = 0; r < XENT_SIDE && whole && whole < n; r += XENT_SQUARES * NAME(SQUARE))
        NAME(last_squares)(rows + r, n, columns + r);
    if (n >= NAME(SQUARE)) return;
#endif
    if (NAME(are_few)(rows, n)) {
        if (n == 2)
            NAME(few_to_columns)(rows[0], 2, columns);
        else
            NAME(few_to_columns)(rows[0], 3, columns);
        return;
    }
    for (int r = 0; r < XENT_SIDE; r++)
        for (ptrdiff_t c = 0; c < n; c++) columns[c * XENT_SIDE + r] = rows[r][c];
}

#ifdef XENT_SHUFFLES
/* Rows `first` .. count - 1 from columns, by so many squares at once, which is a constant. Where it stopped. */
XENT_INLINE int NAME(rows_by_squares)(const REAL *columns, ptrdiff_t n, REAL *const *rows, int first, int count,
                                      const int squares) {
    const int at_once = squares * NAME(SQUARE), end = first + (count - first) / at_once * at_once;
    const ptrdiff_t whole = n / NAME(SQUARE) * NAME(SQUARE);
    if (n < NAME(SQUARE)) return first;
    for (ptrdiff_t c = 0; c < whole && n <= FEW_SQUARES; c += NAME(SQUARE))
        for (int r = first; r < end; r += at_once)
            (squares > 1 ? NAME(squares_back) : NAME(square_back))(columns + c * XENT_SIDE + r, XENT_SIDE, rows + r, c);
    for (int r = first; r < end && n > FEW_SQUARES; r += at_once) {
        REAL *some[XENT_SQUARES * NAME(SQUARE)];
        for (int i = 0; i < at_once; i++) memcpy(&some[i], &rows[r + i], sizeof some[i]);
        for (ptrdiff_t c = 0; c < whole; c += NAME(SQUARE))
            (squares > 1 ? NAME(squares_back) : NAME(square_back))(columns + c * XENT_SIDE + r, XENT_SIDE, some, c);
    }
    for (int r = first; r < end && whole < n; r += at_once) NAME(last_squares_back)(columns + r, n, rows + r, squares);
    return end;
}
#endif

/* And back, to the first `count` of them. */
XENT_NOINLINE void NAME(columns_to_rows)(const REAL *columns, ptrdiff_t n, REAL *const *rows, int count) {
    int whole = 0;
#ifdef XENT_SHUFFLES
    whole = NAME(rows_by_squares)(columns, n, rows, whole, count, XENT_SQUARES);
    whole = NAME(rows_by_squares)(columns, n, rows, whole, count, 1);
#endif
    if (whole == 0 && count == XENT_SIDE && NAME(are_few)((const REAL *const *)rows, n)) {
        if (n == 2)
            NAME(columns_to_few)(columns, 2, rows[0]);
        else
            NAME(columns_to_few)(columns, 3, rows[0]);
        return;
    }
    for (int r = whole; r < count; r++)
        for (ptrdiff_t c = 0; c < n; c++) rows[r][c] = columns[c * XENT_SIDE + r];
}

/* The numbers of XENT_SIDE rows, of any type and layout, as columns of doubles. */
static inline void NAME(numbers_to_columns)(const xent_layout *layout, const xent_view *view, char *const *rows,
                                            double *columns) {
    double numbers[XENT_NARROW];
    for (int r = 0; r < XENT_SIDE; r++) {
        gather_numbers(layout, view, rows[r], 0, layout->classes, numbers);
        for (ptrdiff_t c = 0; c < layout->classes; c++) columns[c * XENT_SIDE + r] = numbers[c];
    }
}
XENT_NOINLINE void NAME(widen)(const REAL *restrict v, ptrdiff_t n, double *restrict to) {
    for (ptrdiff_t i = 0; i < n; i++) to[i] = (double)v[i];
}
