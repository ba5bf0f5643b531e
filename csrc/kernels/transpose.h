/* Rows side by side: XENT_SIDE rows as columns of a buffer, element [c][r] that of class c of row r, and back. Included once
 * per dtype, in sweeper.c. */
#include "squares_turned.h"

enum { NAME(FEW_SQUARES) = sizeof(REAL) == 4 ? 16 : 0 };

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

/* The largest and the smallest numbers of XENT_SIDE rows side by side, `stride` elements from class to class; `more`, a constant:
 * and of what is in most and least. None is looked at for a NaN. */
XENT_INLINE void NAME(side_extremes)(const REAL *restrict v, ptrdiff_t stride, ptrdiff_t classes, REAL *restrict most,
                                     REAL *restrict least, const int more) {
    REAL high[XENT_SIDE], low[XENT_SIDE];
    for (int r = 0; r < XENT_SIDE; r++) high[r] = more ? most[r] : -REAL_INF, low[r] = more ? least[r] : REAL_INF;
    for (ptrdiff_t c = 0; c < classes; c++, v += stride)
        for (int r = 0; r < XENT_SIDE; r++) {
            const REAL x = v[r];
            high[r] = x > high[r] ? x : high[r];
            low[r] = x < low[r] ? x : low[r];
        }
    memcpy(most, high, sizeof high), memcpy(least, low, sizeof low);
}
void KERNEL(narrow_extremes)(const REAL *v, ptrdiff_t stride, ptrdiff_t classes, REAL *most, REAL *least) {
    NAME(side_extremes)(v, stride, classes, most, least, 0);
}

#ifdef XENT_SHUFFLES
enum { NAME(AT_ONCE) = XENT_SQUARES * NAME(SQUARE) };

/* Vectors are kept as such: of arrays that a loop goes on with gcc 12 makes numbers. */
XENT_INLINE void NAME(look_at)(const NAME(turned) * v, NAME(turned) * most, NAME(turned) * least) {
    REAL x[NAME(AT_ONCE)], high[NAME(AT_ONCE)], low[NAME(AT_ONCE)];
    memcpy(x, v, sizeof x), memcpy(high, most, sizeof high), memcpy(low, least, sizeof low);
    for (int l = 0; l < NAME(AT_ONCE); l++) high[l] = x[l] > high[l] ? x[l] : high[l];
    for (int l = 0; l < NAME(AT_ONCE); l++) low[l] = x[l] < low[l] ? x[l] : low[l];
    memcpy(most, high, sizeof high), memcpy(least, low, sizeof low);
}

/* Vectors of n classes to columns, and from there. */
XENT_INLINE void NAME(put_turned)(const NAME(turned) * v, const int n, REAL *columns) {
    for (int i = 0; i < n; i++) memcpy(columns + i * XENT_SIDE, &v[i], sizeof v[i]);
}
XENT_INLINE void NAME(get_turned)(NAME(turned) * v, const int n, const REAL *columns) {
    for (int i = 0; i < n; i++) memcpy(&v[i], columns + i * XENT_SIDE, sizeof v[i]);
}

/* What whole squares leave of n >= SQUARE classes: a square, which overlaps the one before; of one or two classes of float32
 * half of one, which takes half of the instructions (65536 x 10). */
XENT_INLINE int NAME(last_classes)(ptrdiff_t n) {
    return sizeof(REAL) == 4 && n % NAME(SQUARE) <= 2 ? 2 : NAME(SQUARE);
}
XENT_INLINE void NAME(last_to_columns)(const REAL *const *rows, ptrdiff_t n, REAL *columns) {
    const ptrdiff_t c = n - NAME(last_classes)(n);
    NAME(turned) v[NAME(SQUARE)];
    if (n - c == NAME(SQUARE)) {
        NAME(load_squares)(rows, c, v), NAME(turn_squares)(v, v);
        NAME(put_turned)(v, NAME(SQUARE), columns + c * XENT_SIDE);
    } else {
        NAME(turn_couples)(rows, c, v);
        NAME(put_turned)(v, 2, columns + c * XENT_SIDE);
    }
}
XENT_INLINE void NAME(last_to_rows)(const REAL *columns, ptrdiff_t n, REAL *const *rows, int end) {
    const ptrdiff_t c = n - NAME(last_classes)(n);
    for (int r = 0; r < end; r += NAME(AT_ONCE)) {
        NAME(turned) v[NAME(SQUARE)];
        if (n - c == NAME(SQUARE)) {
            NAME(get_turned)(v, NAME(SQUARE), columns + c * XENT_SIDE + r);
            NAME(turn_squares)(v, v), NAME(put_squares)(v, rows + r, c);
        } else {
            NAME(get_turned)(v, 2, columns + c * XENT_SIDE + r);
            NAME(put_couples)(v, rows + r, c);
        }
    }
}
#endif

/* Classes 0 .. n - 1 of XENT_SIDE rows to columns[c][r], and the extremes of each row. Few rows at a time, each from end to end:
 * that is how memory is fetched ahead, and the extremes of float32 are found on the way. But up to FEW_SQUARES classes one square
 * of each row after another, and the extremes behind it, as more instructions begin a row than such a row takes. */
void KERNEL(rows_to_columns)(const REAL *const *rows, ptrdiff_t n, REAL *columns, REAL *most, REAL *least) {
#ifdef XENT_SHUFFLES
    const int looks = sizeof(REAL) == 4; /* of float64 gcc 12 takes number by number what is a vector */
    const ptrdiff_t whole = n / NAME(SQUARE) * NAME(SQUARE);
    for (ptrdiff_t c = 0; c < whole && n <= NAME(FEW_SQUARES); c += NAME(SQUARE))
        for (int r = 0; r < XENT_SIDE; r += NAME(AT_ONCE)) {
            NAME(turned) v[NAME(SQUARE)];
            NAME(load_squares)(rows + r, c, v), NAME(turn_squares)(v, v);
            NAME(put_turned)(v, NAME(SQUARE), columns + c * XENT_SIDE + r);
        }
    for (int r = 0; r < XENT_SIDE && n > NAME(FEW_SQUARES); r += NAME(AT_ONCE)) {
        const REAL *some[NAME(AT_ONCE)];
        NAME(turned) high = (NAME(turned)){0} - REAL_INF, low = -high;
        for (int i = 0; i < NAME(AT_ONCE); i++) some[i] = NAME(of_row)(rows, r + i, 0);
        for (ptrdiff_t c = 0; c < whole; c += NAME(SQUARE)) {
            NAME(turned) v[NAME(SQUARE)];
            NAME(load_squares)(some, c, v), NAME(turn_squares)(v, v);
            NAME(put_turned)(v, NAME(SQUARE), columns + c * XENT_SIDE + r);
            for (int i = 0; i < NAME(SQUARE) && looks; i++) NAME(look_at)(&v[i], &high, &low);
        }
        if (looks) memcpy(most + r, &high, sizeof high), memcpy(least + r, &low, sizeof low);
        if (sizeof(REAL) == 8 && whole && whole < n) NAME(last_to_columns)(some, n, columns + r);
    }
    for (int r = 0; r < XENT_SIDE && sizeof(REAL) == 4 && whole && whole < n; r += NAME(AT_ONCE))
        NAME(last_to_columns)(rows + r, n, columns + r);
    if (looks && n > NAME(FEW_SQUARES)) {
        NAME(side_extremes)(columns + whole * XENT_SIDE, XENT_SIDE, n - whole, most, least, 1);
        return;
    }
#else
    const ptrdiff_t whole = 0;
#endif
    const int few = !whole && NAME(are_few)(rows, n);
    if (few && n == 2) NAME(few_to_columns)(rows[0], 2, columns);
    if (few && n == 3) NAME(few_to_columns)(rows[0], 3, columns);
    for (int r = 0; r < XENT_SIDE && !whole && !few; r++)
        for (ptrdiff_t c = 0; c < n; c++) columns[c * XENT_SIDE + r] = rows[r][c];
    KERNEL(narrow_extremes)(columns, XENT_SIDE, n, most, least);
}

/* By what the terms of rows side by side are scaled: a factor for each, the largest term to what is likely. */
typedef struct {
    const REAL *hi, *lo, *largest, *likely, *least, *down, *down2;
} NAME(side_scale);

#ifdef XENT_SHUFFLES
typedef struct {
    NAME(turned) hi, lo, largest, likely, least, down, down2;
} NAME(turned_scale);
/* result_of, step by step: of one loop gcc 12 makes numbers, not vectors. */
XENT_INLINE void NAME(scale_turned)(NAME(turned) * v, const NAME(turned_scale) * by, const int flushes) {
    REAL term[NAME(AT_ONCE)], p[NAME(AT_ONCE)], hi[NAME(AT_ONCE)], lo[NAME(AT_ONCE)], largest[NAME(AT_ONCE)],
        likely[NAME(AT_ONCE)], least[NAME(AT_ONCE)], down[NAME(AT_ONCE)], down2[NAME(AT_ONCE)], counted[NAME(AT_ONCE)];
    memcpy(term, v, sizeof term), memcpy(hi, &by->hi, sizeof hi), memcpy(lo, &by->lo, sizeof lo);
    memcpy(largest, &by->largest, sizeof largest), memcpy(likely, &by->likely, sizeof likely);
    if (flushes)
        memcpy(least, &by->least, sizeof least), memcpy(down, &by->down, sizeof down),
            memcpy(down2, &by->down2, sizeof down2);
    for (int l = 0; l < NAME(AT_ONCE) && flushes; l++) counted[l] = term[l] < least[l] ? (REAL)0 : term[l];
    for (int l = 0; l < NAME(AT_ONCE); l++) p[l] = NAME(scaled_term)(flushes ? counted[l] : term[l], hi[l], lo[l]);
    for (int l = 0; l < NAME(AT_ONCE) && flushes; l++) p[l] = REAL_FMA(p[l] * down[l], down2[l], (REAL)0);
    for (int l = 0; l < NAME(AT_ONCE); l++) p[l] = term[l] == largest[l] ? likely[l] : p[l];
    memcpy(v, p, sizeof p);
}
XENT_INLINE void NAME(load_scale)(NAME(turned_scale) * to, const NAME(side_scale) * by, int r, const int flushes) {
    memcpy(&to->hi, by->hi + r, sizeof to->hi), memcpy(&to->lo, by->lo + r, sizeof to->lo);
    memcpy(&to->largest, by->largest + r, sizeof to->largest), memcpy(&to->likely, by->likely + r, sizeof to->likely);
    if (!flushes) return;
    memcpy(&to->least, by->least + r, sizeof to->least);
    memcpy(&to->down, by->down + r, sizeof to->down), memcpy(&to->down2, by->down2 + r, sizeof to->down2);
}

/* Rows 0 .. end - 1, a multiple of AT_ONCE, from columns of n >= SQUARE classes, without what whole squares leave; scaled on
 * their way as `scaled`, a constant, says. */
XENT_INLINE void NAME(squares_to_rows)(const REAL *columns, ptrdiff_t n, REAL *const *rows, int end,
                                       const NAME(side_scale) * by, const int scaled) {
    for (int r = 0; r < end; r += NAME(AT_ONCE)) {
        REAL *some[NAME(AT_ONCE)];
        NAME(turned_scale) scale;
        for (int i = 0; i < NAME(AT_ONCE); i++) some[i] = NAME(of_row)(rows, r + i, 0);
        if (scaled) NAME(load_scale)(&scale, by, r, scaled == SCALED_FLUSHING);
        for (ptrdiff_t c = 0; c < n / NAME(SQUARE) * NAME(SQUARE); c += NAME(SQUARE)) {
            NAME(turned) v[NAME(SQUARE)];
            NAME(get_turned)(v, NAME(SQUARE), columns + c * XENT_SIDE + r);
            for (int i = 0; i < NAME(SQUARE) && scaled; i++)
                NAME(scale_turned)(&v[i], &scale, scaled == SCALED_FLUSHING);
            NAME(turn_squares)(v, v), NAME(put_squares)(v, some, c);
        }
    }
}
#endif

/* And back, to the first `count` of them. */
void KERNEL(columns_to_rows)(const REAL *columns, ptrdiff_t n, REAL *const *rows, int count) {
    int end = 0;
#ifdef XENT_SHUFFLES
    end = n < NAME(SQUARE) ? 0 : count / NAME(AT_ONCE) * NAME(AT_ONCE);
    if (end) NAME(squares_to_rows)(columns, n, rows, end, NULL, UNSCALED);
    if (end && n % NAME(SQUARE)) NAME(last_to_rows)(columns, n, rows, end);
    if (n >= NAME(SQUARE) && end < count) { /* what is of no row goes nowhere */
        REAL nowhere[XENT_NARROW], *some[NAME(AT_ONCE)];
        for (int i = 0; i < NAME(AT_ONCE); i++) some[i] = end + i < count ? NAME(of_row)(rows, end + i, 0) : nowhere;
        NAME(squares_to_rows)(columns + end, n, some, NAME(AT_ONCE), NULL, UNSCALED);
        if (n % NAME(SQUARE)) NAME(last_to_rows)(columns + end, n, some, NAME(AT_ONCE));
        return;
    }
#endif
    const int few = !end && count == XENT_SIDE && NAME(are_few)((const REAL *const *)rows, n);
    if (few && n == 2) NAME(columns_to_few)(columns, 2, rows[0]);
    if (few && n == 3) NAME(columns_to_few)(columns, 3, rows[0]);
    for (int r = end; r < count && !few; r++)
        for (ptrdiff_t c = 0; c < n; c++) rows[r][c] = columns[c * XENT_SIDE + r];
}
