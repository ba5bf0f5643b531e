/* Rows of more than one block, packed as columns: XENT_SIDE of them, block by block as row_sum and row_scale have it, with
 * the same bits. Included once per dtype, in scale.h.
 */
XENT_INLINE int NAME(blocks_of)(const NAME(sweeper) * w) {
    return (int)((w->layout->classes + XENT_BLOCK - 1) / XENT_BLOCK);
}

XENT_INLINE int NAME(classes_in)(const NAME(sweeper) * w, int block) {
    const ptrdiff_t left = w->layout->classes - (ptrdiff_t)block * XENT_BLOCK;
    return left < XENT_BLOCK ? (int)left : XENT_BLOCK;
}

/* The columns of a block. */
XENT_INLINE REAL *NAME(block_columns)(const NAME(sweeper) * w, int block) {
    return w->in_columns + (ptrdiff_t)block * XENT_BLOCK * w->column_stride;
}

/* What narrow_sums does, of such rows. */
static int NAME(long_columns_sums)(NAME(sweeper) * w) {
    const int blocks = NAME(blocks_of)(w);
    REAL most[XENT_COLUMN_BLOCKS][XENT_SIDE], least[XENT_COLUMN_BLOCKS][XENT_SIDE];
    rowsum sum[XENT_SIDE];
    for (int i = 0; i < blocks; i++) {
        NAME(narrow_extremes)
        (NAME(block_columns)(w, i), w->column_stride, NAME(classes_in)(w, i), most[i], least[i]);
        if (NAME(any_far)(most[i], XENT_SIDE)) return 0;
    }
    side_ahead ahead = NAME(side_ahead_of)(w, XENT_SIDE);
    for (int i = 0; i < blocks; i++, ahead.next += XENT_BLOCK * ahead.next_step) {
        NAME(sum_sides)(w, 1, NAME(block_columns)(w, i), NAME(classes_in)(w, i), most[i], least[i], ahead);
        for (int r = 0; r < XENT_SIDE; r++) {
            const rowsum block = sum_of(&w->batch, r);
            w->column_blocks[i][r] = (block_scale){block.max, block.scale, 0};
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

/* By what the terms of a block of row r are to be multiplied. */
XENT_INLINE wide NAME(block_factor)(const NAME(sweeper) * w, int block, int r) {
    return wide_scale((wide){w->factor_hi[r], w->factor_lo[r]}, w->column_blocks[block][r].scale - w->batch.scale[r]);
}

/* Whether all results of `rows` rows are products without further ado. */
static int NAME(long_columns_plain)(const NAME(sweeper) * w, int rows) {
    int plain = 1;
    for (int i = 0; i < NAME(blocks_of)(w); i++)
        for (int r = 0; r < rows; r++)
            plain &= NAME(is_plain)(w->batch.min[r], w->column_blocks[i][r].scale, NAME(block_factor)(w, i, r).hi);
    return plain;
}

/* What narrow_scale does, of such rows. */
static void NAME(long_columns_scale)(NAME(sweeper) * w) {
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
        NAME(scale_side)
        (NAME(block_columns)(w, i), w->column_stride, NAME(classes_in)(w, i), hi, lo, largest, likely);
    }
}
