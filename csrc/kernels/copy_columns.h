/* Lines of a class of rows that lie side by side, to a pack of columns and from there (pack_columns.h): as they are; with their
 * extremes; or scaled on their way out. Included once per dtype, in pack.c. */

/* n numbers of a line, as they are; what is not in the pack of the one at `later` is asked for. */
XENT_INLINE void NAME(copy_line)(const char *restrict from, char *restrict to, ptrdiff_t n, const char *later,
                                 const int in) {
    enum { SIZE = sizeof(REAL) };
    const ptrdiff_t bytes = n * SIZE, whole = bytes / XENT_LINE * XENT_LINE;
    for (ptrdiff_t i = 0; i < whole; i += XENT_LINE) {
        if (in)
            __builtin_prefetch(later + i, 0, 2);
        else
            __builtin_prefetch(later + i, 1);
        memcpy(to + i, from + i, XENT_LINE);
    }
    if (in) /* where lines begin within one of memory, they end within another */
        __builtin_prefetch(later + bytes - 1, 0, 2);
    else
        __builtin_prefetch(later + bytes - 1, 1);
    for (ptrdiff_t i = whole; i < bytes; i += SIZE) memcpy(to + i, from + i, SIZE);
}
XENT_NOINLINE void NAME(copy_in)(const char *from, ptrdiff_t step, REAL *to, ptrdiff_t stride, ptrdiff_t n,
                                 ptrdiff_t lines) {
    for (; lines; lines--, from += step, to += stride)
        NAME(copy_line)(from, (char *)to, n, from + XENT_COLUMNS_AHEAD * step, 1);
}
XENT_NOINLINE void NAME(copy_out)(const REAL *from, ptrdiff_t stride, char *to, ptrdiff_t step, ptrdiff_t n,
                                  ptrdiff_t lines, int past) {
    for (; lines; lines--, from += stride, to += step)
        if (past)
            stream_out(to, from, n * (ptrdiff_t)sizeof(REAL));
        else
            NAME(copy_line)((const char *)from, to, n, to + XENT_COLUMNS_AHEAD * step, 0);
}

/* copy_in of numbers where C may use a plain pointer, whose extremes so far are counted on the way: of four lines at once, as
 * each extreme is loaded and stored for them. */
XENT_INLINE void NAME(look_at_one)(const REAL *restrict from, REAL *restrict to, ptrdiff_t n, REAL *restrict most,
                                   REAL *restrict least) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL x = from[i];
        most[i] = x > most[i] ? x : most[i];
        least[i] = x < least[i] ? x : least[i];
        to[i] = x;
    }
}
XENT_INLINE void NAME(look_at_four)(const REAL *restrict from, ptrdiff_t step, REAL *restrict to, REAL *restrict to1,
                                    REAL *restrict to2, REAL *restrict to3, ptrdiff_t n, REAL *restrict most,
                                    REAL *restrict least) {
    const REAL *restrict from1 = from + step, *restrict from2 = from1 + step, *restrict from3 = from2 + step;
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL a = from[i], b = from1[i], c = from2[i], d = from3[i];
        REAL high = most[i], low = least[i];
        high = a > high ? a : high, low = a < low ? a : low;
        high = b > high ? b : high, low = b < low ? b : low;
        high = c > high ? c : high, low = c < low ? c : low;
        high = d > high ? d : high, low = d < low ? d : low;
        most[i] = high, least[i] = low;
        to[i] = a, to1[i] = b, to2[i] = c, to3[i] = d;
    }
}
XENT_INLINE void NAME(ask_lines)(const REAL *later, ptrdiff_t step, ptrdiff_t n, const int lines) {
    enum { PER_LINE = XENT_LINE / (int)sizeof(REAL) };
    for (int l = 0; l < lines; l++)
        for (ptrdiff_t r = 0; r < n; r += PER_LINE) __builtin_prefetch(later + l * step + r, 0, 2);
}
XENT_NOINLINE void NAME(look_in)(const REAL *from, ptrdiff_t step, REAL *to, ptrdiff_t stride, ptrdiff_t n,
                                 ptrdiff_t lines, REAL *most, REAL *least) {
    enum { FOUR = 4, SOME = 2 * XENT_LANES };
    const ptrdiff_t ahead = XENT_COLUMNS_AHEAD * step;
    for (; lines >= FOUR; lines -= FOUR, from += FOUR * step, to += FOUR * stride) {
        ptrdiff_t i = 0;
        for (; i + SOME <= n; i += SOME) {
            NAME(ask_lines)(from + i + ahead, step, SOME, FOUR);
            NAME(look_at_four)
            (from + i, step, to + i, to + stride + i, to + 2 * stride + i, to + 3 * stride + i, SOME, most + i,
             least + i);
        }
        NAME(ask_lines)(from + i + ahead, step, n - i, FOUR);
        NAME(ask_lines)(from + n - 1 + ahead, step, 1, FOUR);
        NAME(look_at_four)
        (from + i, step, to + i, to + stride + i, to + 2 * stride + i, to + 3 * stride + i, n - i, most + i, least + i);
    }
    for (; lines; lines--, from += step, to += stride) {
        NAME(ask_lines)(from + ahead, step, n, 1), NAME(ask_lines)(from + n - 1 + ahead, step, 1, 1);
        NAME(look_at_one)(from, to, n, most, least);
    }
}

/* The same of XENT_SIDE rows, whose extremes stay in registers: 32000 x 1024, axis 0, 0.26 ns per logit for the loss, 0.285 by a
 * sweep of their own. (Packs of more rows so, each line left after XENT_SIDE numbers: 1000 x 1024, axis 0, 1.05 of the time.) */
XENT_NOINLINE void NAME(copy_side)(const REAL *restrict from, ptrdiff_t step, REAL *restrict to, ptrdiff_t lines,
                                   REAL *restrict most, REAL *restrict least) {
    REAL high[XENT_SIDE], low[XENT_SIDE];
    memcpy(high, most, sizeof high), memcpy(low, least, sizeof low);
    for (ptrdiff_t i = 0; i < lines; i++, from += step, to += XENT_SIDE) {
        const REAL *later = from + XENT_COLUMNS_AHEAD * step;
        for (int r = 0; r < XENT_SIDE; r += XENT_LINE / (int)sizeof(REAL)) __builtin_prefetch(later + r, 0, 2);
        __builtin_prefetch(later + XENT_SIDE - 1, 0, 2);
        for (int r = 0; r < XENT_SIDE; r++) {
            const REAL x = from[r];
            high[r] = x > high[r] ? x : high[r];
            low[r] = x < low[r] ? x : low[r];
            to[r] = x;
        }
    }
    memcpy(most, high, sizeof high), memcpy(least, low, sizeof low);
}

/* n terms of a class, of rows `at` and on of a pack, scaled; what is at labels in their place. */
XENT_INLINE void NAME(scale_some)(const REAL *restrict v, const NAME(column_notes) * notes, ptrdiff_t at, ptrdiff_t n,
                                  REAL *restrict to) {
    const REAL *restrict hi = notes->hi + at, *restrict lo = notes->lo + at, *restrict largest = notes->largest + at,
                         *restrict likely = notes->likely + at;
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL result = NAME(scaled_term)(v[i], hi[i], lo[i]), known = likely[i];
        to[i] = v[i] == largest[i] ? known : result;
    }
}
XENT_INLINE void NAME(scale_line)(const REAL *from, const NAME(column_notes) * notes, ptrdiff_t at, ptrdiff_t c,
                                  ptrdiff_t n, REAL *to, const REAL *later) {
    ptrdiff_t i = 0;
    for (; i + XENT_LANES <= n; i += XENT_LANES) {
        for (int l = 0; l < XENT_LANES && later; l += XENT_LINE / (int)sizeof(REAL))
            __builtin_prefetch(later + i + l, 1);
        NAME(scale_some)(from + i, notes, at + i, XENT_LANES, to + i);
    }
    for (ptrdiff_t l = i; l < n && later; l += XENT_LINE / (int)sizeof(REAL)) __builtin_prefetch(later + l, 1);
    NAME(scale_some)(from + i, notes, at + i, n - i, to + i);
    for (int r = notes->labels ? notes->first_of[c] : -1; r >= 0; r = notes->next_of[r])
        if (r >= at && r < at + n) to[r - at] = notes->label_is[r];
}

/* copy_out of the terms of classes c and on; and past the cache: each line a line later, as what was just stored, by vectors and
 * then number by number, is not there to be loaded yet. */
XENT_NOINLINE void NAME(scale_out)(const REAL *from, ptrdiff_t stride, const NAME(column_notes) * notes, ptrdiff_t at,
                                   ptrdiff_t c, REAL *to, ptrdiff_t step, ptrdiff_t n, ptrdiff_t lines) {
    for (; lines; lines--, c++, from += stride, to += step) {
        const REAL *later = to + XENT_COLUMNS_AHEAD * step;
        NAME(scale_line)(from, notes, at, c, n, to, later);
        __builtin_prefetch(later + n - 1, 1);
    }
}
XENT_NOINLINE void NAME(scale_past)(const REAL *from, ptrdiff_t stride, const NAME(column_notes) * notes, ptrdiff_t at,
                                    ptrdiff_t c, REAL *to, ptrdiff_t step, ptrdiff_t n, ptrdiff_t lines) {
    _Alignas(XENT_LINE) REAL few[2][XENT_COLUMN_ROOM];
    const ptrdiff_t bytes = n * (ptrdiff_t)sizeof(REAL);
    for (ptrdiff_t i = 0; i <= lines; i++, from += stride) {
        if (i < lines) NAME(scale_line)(from, notes, at, c + i, n, few[i % 2], NULL);
        if (i > 0) stream_out(to + (i - 1) * step, few[(i - 1) % 2], bytes);
    }
}
