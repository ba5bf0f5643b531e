/* Rows of one block each, their terms added up. Included once per dtype, in sweeper.c. */

/* The rests of those rows of a batch that have little beside their largest term. */
static void NAME(sharp_rests)(NAME(sweeper) * w, int rows, const int64_t *sharp) {
    row_batch *b = &w->batch;
    for (int r = 0; r < rows; r++) {
        if (!sharp[r]) continue;
        const NAME(reduction) by = {w->by_rounder[r], w->by_floor[r], w->by_max[r], 1};
        const wide rest = NAME(sharp_rest)((const REAL *)w->x_rows[r], (REAL *)w->out_rows[r], w->layout->classes, &by);
        put_new_rest(b, r, rest.hi, rest.lo);
    }
}

/* Rows of one block each, their sums given: their largest terms, side by side, and their rests. Of far rows and such as
 * are not finite, of which there are none if `open`, all is known. sharp: those whose rest is too small to be found so;
 * whether there is one. */
XENT_INLINE int NAME(close)(NAME(sweeper) * w, int rows, const double *restrict sum_hi, const double *restrict sum_lo,
                            const int open, int64_t *restrict sharp) {
    row_batch *b = &w->batch;
    int64_t any = 0; /* and sharp: as wide as what is compared, else masks of vectors are narrowed */
    for (int r = 0; r < rows; r++) {
        const wide top = NAME(exp_wide)(w->by_max[r], -b->scale[r]),
                   added = NAME(added)(w->by_max[r], w->by_rounder[r]);
        const wide rest = NAME(sub)((wide){sum_hi[r], sum_lo[r]}, added);
        const int closes = open || (b->kind[r] == ROW_FINITE && !b->far[r]);
        b->top_hi[r] = closes ? top.hi : b->top_hi[r], b->top_lo[r] = closes ? top.lo : b->top_lo[r];
        b->rest_hi[r] = closes ? rest.hi : b->rest_hi[r], b->rest_lo[r] = closes ? rest.lo : b->rest_lo[r];
        w->largest[r] = (REAL)added.hi;
        sharp[r] = closes & !(rest.hi >= SHARP * top.hi);
        any |= sharp[r];
    }
    return any != 0;
}
XENT_NOINLINE void NAME(close_rows)(NAME(sweeper) * w, int rows, const double *sum_hi, const double *sum_lo) {
    int64_t sharp[XENT_ROWS];
    if (NAME(close)(w, padded_rows(rows), sum_hi, sum_lo, 0, sharp)) NAME(sharp_rests)(w, rows, sharp);
}
