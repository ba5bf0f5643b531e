/* Rows summed one by one: of any length, and of one block each, several together. Included once per dtype, in sweeper.c. */

/* Sum row r of those found; its terms, unscaled, go to its row of the output (NULL: nowhere), the scales of its blocks
 * where scale_of_block says. */
void KERNEL(row_sum)(NAME(sweeper) * w, int r, rowsum *sum) {
    char *x_row = w->x_rows[r], *out_row = w->out_rows[r];
    const ptrdiff_t classes = w->layout->classes;
    *sum = (rowsum){.max = -INFINITY, .min = INFINITY, .kind = ROW_EMPTY};
    coming_logits coming = {.x = NULL};
    for (ptrdiff_t start = 0, b = 0; start < classes; start += XENT_BLOCK, b++) {
        const ptrdiff_t n = classes - start < XENT_BLOCK ? classes - start : XENT_BLOCK;
        const REAL *x = NAME(logits_at)(w, x_row, start, n);
        const int stored_there = out_row && w->out->direct;
        REAL *e = !out_row ? NULL : stored_there ? (REAL *)out_row + start : w->terms;
        rowsum block;
        look_ahead look = NAME(ahead_of)(w, r, x, start);
        const coming_logits found = coming;
        coming = NAME(behind)(w, x, n, classes - start - n), look.coming = &coming;
        if (w->by_long_flow)
            NAME(flow_block)(w, b, x, n, &found, &look, &block);
        else
            KERNEL(block_sum)(x, n, e, w->room, w->shifted, &w->lanes[0], &found, &look, &block);
        if (out_row && !stored_there) scatter_block(w->layout, w->out, out_row, start, n, e, sizeof(REAL));
        if (out_row && classes > XENT_BLOCK)
            *NAME(scale_of_block)(w, b, r) = (block_scale){block.max, block.scale, block.far};
        if (start == 0)
            *sum = block;
        else
            add_block(sum, &block);
        if (sum->kind == ROW_NAN) return;
    }
}

/* The first sweep over row r of one block, and the second, unless its extremes are far: then all at once. */
static inline int NAME(start_row)(NAME(sweeper) * w, int r, const coming_logits *found, NAME(reduction) * by,
                                  rowsum *sum) {
    w->by_max[r] = 0, w->by_rounder[r] = NAME(rounder)(0.0);
    return NAME(block_start)((const REAL *)w->x_rows[r], w->layout->classes, (REAL *)w->out_rows[r], w->room, found, by,
                             sum);
}
static inline void NAME(sweep_row)(NAME(sweeper) * w, int r, coming_logits *coming, const NAME(reduction) * by,
                                   rowsum *sum) {
    const REAL *x = (const REAL *)w->x_rows[r];
    REAL *e = (REAL *)w->out_rows[r];
    const ptrdiff_t classes = w->layout->classes;
    const coming_logits found = {.known = 1, .most = sum->max, .least = sum->min};
    look_ahead look = NAME(ahead_of)(w, r, x, 0);
    look.coming = coming;
    if (sum->far) {
        KERNEL(block_sum)(x, classes, e, w->room, w->shifted, &w->lanes[r], &found, &look, sum);
        return;
    }
    NAME(block_sweep)(x, classes, e, w->room, by, &w->lanes[r], &look);
    w->by_max[r] = by->max, w->by_rounder[r] = by->rounder, w->by_floor[r] = by->floor;
}

/* Row r, whose extremes are known, of one block, if its largest logit is finite and near: the second sweep alone. Else 0. */
static inline int NAME(sweep_near)(NAME(sweeper) * w, int r, REAL most, REAL least, look_ahead *look) {
    row_batch *b = &w->batch;
    const REAL *x = (const REAL *)w->x_rows[r];
    if (!(fabs((double)most) <= FAR)) return 0;
    if (w->x->next)
        *look = NAME(ahead_of)(w, r, x, 0);
    else
        look->at = (const char *)x + w->ahead + w->gap;
    const NAME(reduction) by = NAME(reduce_by)(most, least, w->room, &b->scale[r]);
    w->by_max[r] = most, w->by_rounder[r] = by.rounder, w->by_floor[r] = by.floor;
    b->max[r] = (double)most, b->min[r] = (double)least, b->kind[r] = ROW_FINITE, b->far[r] = 0;
    NAME(block_sweep)(x, w->layout->classes, (REAL *)w->out_rows[r], w->room, &by, &w->lanes[r], look);
    return 1;
}

/* Rows of one block each that lie in memory as plain numbers. All are swept before the lanes of the first are folded: a
 * fold is a chain of operations that wait for each other, and so those of several rows run at the same time. */
static inline void NAME(short_sums)(NAME(sweeper) * w, int rows) {
    const ptrdiff_t classes = w->layout->classes;
    const double sigma = (double)NAME(sigma)(w->room.guard);
    row_batch *b = &w->batch;
    double sum_hi[XENT_SWEPT] = {0}, sum_lo[XENT_SWEPT] = {0};
    NAME(reduction) by[2] = {0};
    rowsum sums[2] = {{.kind = ROW_EMPTY}, {.kind = ROW_EMPTY}};
    int sweeps[2] = {0};
    coming_logits coming = {.x = NULL, .n = classes};
    const int looks = NAME(looks_on)(!w->out ? SUM_ONLY : w->out_rows[0] == w->x_rows[0] ? SUM_IN_PLACE : SUM_STORE);
    /* The first sweep over a row goes within the second over the one before it, or before that. */
    if (!looks) {
        REAL most[XENT_SWEPT], least[XENT_SWEPT];
        look_ahead look = NAME(ahead_of)(w, 0, (const REAL *)w->x_rows[0], 0);
        for (int r = 0; r <= rows; r++) {
            if (r < rows) KERNEL(extremes)((const REAL *)w->x_rows[r], classes, &most[r], &least[r]);
            if (r == 0 || NAME(sweep_near)(w, r - 1, most[r - 1], least[r - 1], &look)) continue;
            coming = (coming_logits){.known = 1, .most = (double)most[r - 1], .least = (double)least[r - 1]};
            if (NAME(start_row)(w, r - 1, &coming, &by[0], &sums[0]))
                coming.x = NULL, NAME(sweep_row)(w, r - 1, &coming, &by[0], &sums[0]);
            put_sum(b, r - 1, &sums[0]);
        }
    }
    for (int r = 0; r <= rows && looks; r++) {
        if (r > 0) {
            const int last = (r - 1) & 1;
            coming.x = r < rows ? w->x_rows[r] : NULL, coming.known = 0;
            if (sweeps[last]) NAME(sweep_row)(w, r - 1, &coming, &by[last], &sums[last]);
            put_sum(b, r - 1, &sums[last]);
        }
        if (r < rows) sweeps[r & 1] = NAME(start_row)(w, r, &coming, &by[r & 1], &sums[r & 1]);
    }
    for (int r = rows; r < padded_rows(rows); r++)
        w->by_max[r] = 0, w->by_rounder[r] = NAME(rounder)(0.0), b->scale[r] = 0.0, b->kind[r] = ROW_EMPTY, b->told = 0;
    for (int r = 0; r < rows; r++) {
        if (b->kind[r] != ROW_FINITE || b->far[r]) continue;
        const wide sum = NAME(lanes_sum_apart)(&w->lanes[r], sigma);
        sum_hi[r] = sum.hi, sum_lo[r] = sum.lo;
    }
    NAME(close_rows)(w, rows, sum_hi, sum_lo);
}
