/* Large results in rows of several blocks: as in flow.h, the terms of a row are kept beside the result, and scaled within
 * the sweeps over the next row, block by block, straight to where they belong and past the cache. Stored where they belong
 * and scaled there, a result's lines are fetched from memory first: 1024 x 32000, two threads, 0.28 ns per logit instead of
 * 0.21. Included once per dtype, in sweeper.c.
 */

enum { NAME(LONG_STEP) = XENT_BLOCK + XENT_LINE }; /* from block to block of terms */

XENT_INLINE ptrdiff_t NAME(long_slots)(const NAME(sweeper) * w) {
    return (w->layout->classes + XENT_BLOCK - 1) / XENT_BLOCK + 1;
}

/* Room for the terms of one block more than a row has, asked for once. What is beside them is to be numbers, as in flow.h. */
static int NAME(long_room)(NAME(sweeper) * w) {
    const ptrdiff_t slots = NAME(long_slots)(w);
    const size_t bytes = (size_t)(slots * NAME(LONG_STEP) + 3 * XENT_LINE) * sizeof(REAL);
    if (w->long_asked) return w->long_memory != NULL;
    w->long_asked = 1;
    if (bytes * (size_t)xent_get_num_threads() > XENT_LONG_MEMORY) return 0;
    w->long_memory = malloc(bytes);
    if (!w->long_memory) return 0;
    w->long_terms = (REAL *)(((uintptr_t)w->long_memory + XENT_LINE - 1) / XENT_LINE * XENT_LINE) + XENT_LINE;
    for (ptrdiff_t i = 0; i <= slots; i++)
        memset(w->long_terms + i * NAME(LONG_STEP) - XENT_LINE, 0, 2 * XENT_LINE * sizeof(REAL));
    return 1;
}

/* Whether the rows of this call flow so, one by one. */
static inline int NAME(long_flows)(NAME(sweeper) * w) {
    const ptrdiff_t classes = w->layout->classes;
    return w->streams && w->flow.factor && w->x->direct && w->out->direct && classes > XENT_BLOCK &&
           classes <= XENT_LONG_BLOCKS * XENT_BLOCK && NAME(long_room)(w);
}

/* The terms of block b of a row whose first one is in `slot`. A block takes the slot of the one before it in the row that
 * waits, which is scaled by then. */
XENT_INLINE REAL *NAME(slot_of)(const NAME(sweeper) * w, ptrdiff_t slot, ptrdiff_t b) {
    return w->long_terms + (slot + b) % NAME(long_slots)(w) * NAME(LONG_STEP);
}

/* That of the row at hand, logits at x: lines begin where groups do. */
XENT_INLINE REAL *NAME(long_terms_of)(const NAME(sweeper) * w, ptrdiff_t b, const REAL *x) {
    return NAME(slot_of)(w, w->long_slot, b) + (sizeof(REAL) == 4 ? NAME(PER_LINE) - NAME(before_half)(x) : 0);
}

/* Block b of the row that waits. */
XENT_INLINE NAME(waiting_row) NAME(waiting_block)(const NAME(sweeper) * w, ptrdiff_t b) {
    const NAME(waiting_blocks) *k = &w->waiting_blocks;
    const ptrdiff_t start = b * XENT_BLOCK, left = w->layout->classes - start;
    NAME(waiting_row) block = {.waits = k->waits && b >= k->done, .n = left < XENT_BLOCK ? left : XENT_BLOCK};
    if (!block.waits) return block;
    block.terms = NAME(slot_of)(w, k->slot, b) + k->shift, block.to = k->to + start;
    block.by = k->by[b], block.flushes = k->flushes;
    block.first = (ptrdiff_t)(-(uintptr_t)block.to % XENT_LINE / sizeof(REAL));
    block.likely = k->likely - start, block.likely_is = k->likely_is;
    block.label = k->label - start, block.label_is = k->label_is;
    return block;
}

/* What is left of that row, scaled now. */
static inline void NAME(put_blocks)(NAME(sweeper) * w) {
    NAME(waiting_blocks) *k = &w->waiting_blocks;
    for (; k->waits && k->done * XENT_BLOCK < w->layout->classes; k->done++) {
        NAME(waiting_row) block = NAME(waiting_block)(w, k->done);
        NAME(put_rest)(w, &block, block.first);
    }
    k->waits = 0;
}

/* Block b of a row, n logits at x, summed; the same one of the row that waits scaled meanwhile. */
static inline void NAME(flow_block)(NAME(sweeper) * w, ptrdiff_t b, const REAL *x, ptrdiff_t n,
                                    const coming_logits *found, const look_ahead *look, rowsum *out) {
    REAL *e = NAME(long_terms_of)(w, b, x);
    NAME(waiting_row) block = NAME(waiting_block)(w, b);
    NAME(lanes) *lanes = &w->lanes[0];
    NAME(reduction) by;
    if (n < XENT_BLOCK) memset(e + n, 0, XENT_LINE);
    if (NAME(block_start)(x, n, NULL, w->room, found, &by, out) && !out->far) {
        NAME(flow_sweep)(w, look, x, n, e, &by, lanes, &block);
        NAME(close_block)
        (NAME(lanes_sum_apart)(lanes, (double)NAME(sigma)(w->room.guard)), NAME(exp_wide)(by.max, -out->scale),
         NAME(added)(by.max, by.rounder), &by, x, e, n, out);
    } else {
        if (block.waits) NAME(put_rest)(w, &block, block.first);
        KERNEL(block_sum)(x, n, e, w->room, w->shifted, lanes, found, look, out);
    }
    w->waiting_blocks.done = b + 1;
}

/* The factor of block b of the row of the last sum_rows, which is to be scaled by d; 0: that is out of range. What has no
 * logit above -inf is 0 by any. */
XENT_INLINE int NAME(factor_of_block)(NAME(sweeper) * w, ptrdiff_t b, const rowsum *sum, wide d) {
    NAME(waiting_blocks) *k = &w->waiting_blocks;
    const block_scale *block = &w->blocks[b];
    const double by = block->scale - sum->scale;
    const wide there = by == 0.0 ? d : wide_scale(d, by);
    if (NAME(is_safe)(sum->min, block->scale, there.hi)) {
        k->by[b] = NAME(plain_factor)(there);
        return 1;
    }
    k->flushes = 1;
    return NAME(factor_within)(d, block->max == -INFINITY ? 0.0 : by, &k->by[b]);
}

/* The row of the last sum_rows, its factor known, is to wait; or, where it is far, or its factor out of range, its terms go where
 * the row belongs, for row_scale. */
static inline void NAME(let_blocks_flow)(NAME(sweeper) * w, const known_results *known) {
    const rowsum its = sum_of(&w->batch, 0), *sum = &its;
    const ptrdiff_t classes = w->layout->classes;
    const REAL *x = (const REAL *)w->x_rows[0];
    NAME(waiting_blocks) *k = &w->waiting_blocks;
    NAME(put_blocks)(w);
    if (sum->kind != ROW_FINITE) return;
    const wide d = {w->factor_hi[0], w->factor_lo[0]};
    int flows = !sum->far;
    k->likely = -1, k->flushes = 0;
    for (ptrdiff_t b = 0; b * XENT_BLOCK < classes && flows; b++) flows = NAME(factor_of_block)(w, b, sum, d);
    for (ptrdiff_t start = 0, b = 0; start < classes; start += XENT_BLOCK, b++) {
        const ptrdiff_t n = classes - start < XENT_BLOCK ? classes - start : XENT_BLOCK;
        const REAL *e = NAME(long_terms_of)(w, b, x);
        if (!flows)
            memcpy((REAL *)w->out_rows[0] + start, e, (size_t)n * sizeof(REAL));
        else if (NAME(is_likely)(sum) && w->blocks[b].max == sum->max)
            k->likely = start + NAME(place_of_largest)(e, n, &w->blocks[b]);
    }
    if (!flows) return;
    k->waits = w->flowed[0] = 1, k->done = 0;
    k->slot = w->long_slot, k->shift = NAME(long_terms_of)(w, 0, x) - NAME(slot_of)(w, k->slot, 0);
    k->to = (REAL *)w->out_rows[0];
    k->likely_is = NAME(scaled_top)(sum, d);
    k->label = known ? (ptrdiff_t)known->labels[0] : -1;
    k->label_is = known ? NAME(rounded)(known->label_is[0]) : 0;
    w->long_slot += NAME(long_slots)(w) - 1;
}
