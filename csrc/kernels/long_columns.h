/* Rows of many classes, packed as columns a block at a time (xent_blocks): XENT_SIDE of them, block by block as row_sum and
 * row_scale have it, with the same bits. Included once per dtype, in sweeper.c.
 */

/* What to ask for while block i is worked on: the block behind it, or, where that is short or none, the next rows' first. */
static side_ahead NAME(block_ahead)(const NAME(sweeper) * w, int i) {
    const xent_view *x = w->x;
    const ptrdiff_t at = (ptrdiff_t)(i + 1) * XENT_BLOCK, left = w->layout->classes - at;
    const int behind = x->blocks->here && left > 0 && (left >= XENT_BLOCK / 2 || !x->next);
    if (!behind && !x->next) return (side_ahead){0};
    return packed_ahead(x, behind ? x->blocks->here + at * x->next_class : x->next);
}

/* All blocks in their places, as they were. */
static void NAME(bring_blocks)(const NAME(sweeper) * w) {
    REAL most[XENT_SIDE], least[XENT_SIDE];
    for (int i = 0; i < NAME(blocks_of)(w); i++) w->x->blocks->bring(w->x->blocks, i, i, most, least);
}

/* What narrow_sums does, of such rows. Blocks of which nothing is kept all come to the place of the first. Where one is far,
 * which is seen when it comes, all come once more, if there is room for them. */
static int NAME(long_columns_sums)(NAME(sweeper) * w) {
    const xent_blocks *blocks = w->x->blocks;
    rowsum sum[XENT_SIDE];
    w->sent = 0;
    for (int i = 0; i < NAME(blocks_of)(w); i++) {
        const int keeps = !blocks->twice && (w->columns_stored || w->keeps_logits), place = keeps ? i : 0,
                  classes = NAME(classes_in)(w, i);
        REAL *v = NAME(block_columns)(w, place), most[XENT_SIDE], least[XENT_SIDE];
        blocks->bring(blocks, i, place, most, least);
        if (NAME(any_far)(most, XENT_SIDE)) {
            if (!blocks->twice) NAME(bring_blocks)(w);
            return 0;
        }
        NAME(sum_sides)(w, 1, v, classes, most, least, NAME(block_ahead)(w, i));
        for (int r = 0; r < XENT_SIDE; r++) {
            const rowsum block = sum_of(&w->batch, r);
            if (!blocks->twice) w->column_blocks[i][r] = (block_scale){block.max, block.scale, 0};
            if (i == 0)
                sum[r] = block;
            else
                add_block(&sum[r], &block);
        }
    }
    w->batch.ordinary = 1;
    for (int r = 0; r < XENT_SIDE; r++) put_sum(&w->batch, r, &sum[r]);
    return 1;
}

/* Whether such rows are to be done elsewhere: one is far, or has a block without a finite logit; or, of the first `rows`, which
 * have results, one is not finite or, if they are scaled, has a factor that is out of range. */
int KERNEL(declines)(const NAME(sweeper) * w, int rows, int scaled) {
    if (!NAME(come_twice)(w)) return 0;
    int fit = w->side_by_side && (!rows || w->batch.ordinary);
    for (int r = 0; r < rows && scaled; r++)
        fit &= w->factor_hi[r] == 0.0 || NAME(in_range)((wide){w->factor_hi[r], w->factor_lo[r]});
    *w->x->blocks->declined = !fit;
    return !fit;
}

/* By what the terms of a block of row r are to be multiplied. */
XENT_INLINE wide NAME(block_factor)(const NAME(sweeper) * w, int block, int r) {
    return wide_scale((wide){w->factor_hi[r], w->factor_lo[r]}, w->column_blocks[block][r].scale - w->batch.scale[r]);
}

/* Whether all results of `rows` rows are products without further ado. */
static int NAME(long_columns_plain)(const NAME(sweeper) * w, int rows) {
    int plain = w->batch.ordinary;
    for (int i = 0; i < NAME(blocks_of)(w); i++)
        for (int r = 0; r < rows; r++)
            plain &= NAME(is_plain)(w->batch.min[r], w->column_blocks[i][r].scale, NAME(block_factor)(w, i, r).hi);
    return plain;
}

/* The results at the labels that lie in block i, at v. */
static void NAME(put_labels_of_block)(const NAME(sweeper) * w, int rows, int i, REAL *v, const known_results *known) {
    for (int r = 0; r < rows; r++) {
        const int64_t c = known->labels[r] - (int64_t)i * XENT_BLOCK;
        if (c >= 0 && c < NAME(classes_in)(w, i)) v[c * w->column_stride + r] = NAME(rounded)(known->label_is[r]);
    }
}

/* What narrow_scale does, of such rows; what is known of them in its place; and, if nothing else is to be done to them, each
 * block sent while it is in the cache. */
static void NAME(long_columns_scale)(NAME(sweeper) * w, int rows, const known_results *known) {
    const row_batch *b = &w->batch;
    REAL hi[XENT_SIDE], lo[XENT_SIDE], largest[XENT_SIDE], likely[XENT_SIDE];
    for (int i = 0; i < NAME(blocks_of)(w); i++) {
        for (int r = 0; r < XENT_SIDE; r++) {
            const rowsum sum = sum_of(b, r);
            const block_scale *block = &w->column_blocks[i][r];
            const int there = NAME(is_likely)(&sum) && block->max == sum.max;
            NAME(split)(NAME(block_factor)(w, i, r), &hi[r], &lo[r]);
            largest[r] = there ? NAME(largest_term)(block) : (REAL)-1; /* no term is negative */
            likely[r] = NAME(scaled_top)(&sum, (wide){w->factor_hi[r], w->factor_lo[r]});
        }
        REAL *v = NAME(block_columns)(w, i);
        const int classes = NAME(classes_in)(w, i);
        NAME(scale_side)
        (v, w->column_stride, classes, &(NAME(side_scale)){.hi = hi, .lo = lo, .largest = largest, .likely = likely});
        if (known) NAME(put_labels_of_block)(w, rows, i, v, known);
        if (!w->holds) w->x->blocks->send(w->x->blocks, i);
    }
    w->sent = !w->holds;
}

/* The same where the blocks come once more: their terms are found as they were, and scaled. The batch is then no more that of
 * whole rows. */
static void NAME(long_columns_anew)(NAME(sweeper) * w, int rows, const known_results *known) {
    const xent_blocks *blocks = w->x->blocks;
    NAME(side_factors) by;
    rowsum sum[XENT_SIDE];
    for (int r = 0; r < XENT_SIDE; r++) sum[r] = sum_of(&w->batch, r);
    for (int r = rows; r < XENT_SIDE; r++) w->factor_hi[r] = w->factor_lo[r] = 0.0;
    w->columns_stored = 1;
    for (int i = 0; i < NAME(blocks_of)(w); i++) {
        REAL *v = NAME(block_columns)(w, 0), most[XENT_SIDE], least[XENT_SIDE];
        const int classes = NAME(classes_in)(w, i);
        blocks->bring(blocks, i, 0, most, least);
        NAME(sum_sides)(w, 1, v, classes, most, least, NAME(block_ahead)(w, i));
        for (int r = 0; r < XENT_SIDE; r++) {
            const wide d = {w->factor_hi[r], w->factor_lo[r]};
            NAME(factor) its;
            NAME(factor_within)(d, w->batch.scale[r] - sum[r].scale, &its);
            const int there = NAME(is_likely)(&sum[r]) && w->batch.max[r] == sum[r].max;
            by.hi[r] = its.hi, by.lo[r] = its.lo, by.least[r] = its.least, by.down[r] = its.down,
            by.down2[r] = its.down2;
            by.largest[r] = there ? w->largest[r] : (REAL)-1; /* no term is negative */
            by.likely[r] = NAME(scaled_top)(&sum[r], d);
        }
        const NAME(side_scale) scale = {.hi = by.hi,
                                        .lo = by.lo,
                                        .largest = by.largest,
                                        .likely = by.likely,
                                        .least = by.least,
                                        .down = by.down,
                                        .down2 = by.down2};
        NAME(scale_side_flushing)(v, w->column_stride, classes, &scale);
        if (known) NAME(put_labels_of_block)(w, rows, i, v, known);
        blocks->send(blocks, i);
    }
    w->sent = 1;
}
