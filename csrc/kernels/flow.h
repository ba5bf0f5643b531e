/* Large results, in rows of one block: the terms of a row are kept in a buffer of the thread's own, and scaled within the
 * sweep over the row after next, straight to where they belong and past the cache. So a result's lines need not be fetched
 * before they are written, and reading, writing and arithmetic go on at the same time. Three rows of terms stay in the
 * first-level cache beside the logits that are asked for; and by the row after next, the chain of operations that ends in
 * a factor is over. In place nothing is saved so: the lines are there already. Included once per dtype, in sweeper.c.
 */

/* How far to look ahead, in rows of `size` bytes: the one after next is the first whose extremes are not known yet. */
XENT_INLINE ptrdiff_t NAME(flow_ahead)(ptrdiff_t size) {
    return XENT_FLOW_AHEAD / size > 2 ? XENT_FLOW_AHEAD / size : 2;
}

/* The line of a row that waits which begins with its element `start`; what is of other rows in it is any number. */
XENT_INLINE void NAME(line_from)(const NAME(waiting_row) * k, ptrdiff_t start, const int flushes, REAL *restrict line) {
    const REAL *restrict terms = k->terms + start;
    const REAL likely_is = k->likely_is, label_is = k->label_is;
    const int likely = (int)(k->likely - start), label = (int)(k->label - start);
    const NAME(factor) by = k->by;
    for (int l = 0; l < NAME(PER_LINE); l++) {
        const REAL p = NAME(result_of)(terms[l], &by, flushes), q = l == likely ? likely_is : p;
        line[l] = l == label ? label_is : q;
    }
}

/* line <- the first n elements of `before`, then its own. */
XENT_INLINE void NAME(join)(REAL *restrict line, const REAL *restrict before, REAL n) {
    for (int l = 0; l < NAME(PER_LINE); l++) {
        const REAL earlier = before[l], later = line[l];
        line[l] = (REAL)l < n ? earlier : later; /* of integers compared, gcc makes two loops, number by number */
    }
}

/* The end of a row that shares a line with what follows, which is not known. */
static inline void NAME(put_edge)(NAME(edge) * edge) {
    for (ptrdiff_t l = 0; l < edge->n; l++) edge->at[l] = edge->line[l];
    edge->n = 0;
}

/* What is left to do of a row that waits: the elements but those from k->first to `done`, and those of them that are known by
 * themselves. Where no run of rows begins or ends, nothing is stored but whole lines, past the cache: a line that two rows
 * share waits for the second, as to store into it would be to wait until it is fetched; and a line with a known element goes
 * once more. flushes, a constant: k->flushes. */
XENT_INLINE void NAME(put_lines)(NAME(sweeper) * w, NAME(waiting_row) * k, ptrdiff_t done, const int flushes) {
    enum { PER_LINE = NAME(PER_LINE) };
    const ptrdiff_t n = k->n, first = k->first, swept = done, before = PER_LINE - first;
    NAME(edge) *edge = &w->edge;
    REAL line[PER_LINE];
    k->waits = 0;
    if (first) {
        REAL *at = k->to - before;
        const int joins = edge->n == before && edge->at == at;
        const ptrdiff_t end = first < n ? PER_LINE : before + n; /* of these elements in their first line */
        NAME(line_from)(k, -before, flushes, line);
        if (joins) NAME(join)(line, edge->line, (REAL)before);
        if (joins && end < PER_LINE) {
            memcpy(edge->line, line, sizeof line), edge->n = end;
            return;
        }
        if (joins)
            stream_line(at, line), edge->n = 0;
        else
            for (ptrdiff_t l = before; l < end; l++) at[l] = line[l];
    }
    if (edge->n) NAME(put_edge)(edge);
    for (; done + PER_LINE <= n; done += PER_LINE)
        NAME(line_from)(k, done, flushes, line), stream_line(k->to + done, line);
    if (done < n) NAME(line_from)(k, done, flushes, edge->line), edge->at = k->to + done, edge->n = n - done;
    for (int known = 0; known < 2; known++) {
        const ptrdiff_t at = known ? k->label : k->likely, start = first + (at - first) / PER_LINE * PER_LINE;
        if (at >= first && at < swept) NAME(line_from)(k, start, flushes, line), stream_line(k->to + start, line);
    }
}
XENT_NOINLINE void NAME(put_plain)(NAME(sweeper) * w, NAME(waiting_row) * k, ptrdiff_t done) {
    NAME(put_lines)(w, k, done, 0);
}
XENT_NOINLINE void NAME(put_flushing)(NAME(sweeper) * w, NAME(waiting_row) * k, ptrdiff_t done) {
    NAME(put_lines)(w, k, done, 1);
}
static inline void NAME(put_rest)(NAME(sweeper) * w, NAME(waiting_row) * k, ptrdiff_t done) {
    (k->flushes ? NAME(put_flushing) : NAME(put_plain))(w, k, done);
}

/* Rows that wait, in their order, scaled now. */
static inline void NAME(put_waiting)(NAME(sweeper) * w) {
    for (unsigned i = 0; i < 2; i++) {
        NAME(waiting_row) *k = &w->waiting[(w->turn + i) % 2];
        if (k->waits) NAME(put_rest)(w, k, k->first);
    }
    if (w->edge.n) NAME(put_edge)(&w->edge);
}

/* The second sweep over n logits, and the scaling of as many that wait. */
static inline void NAME(flow_sweep)(NAME(sweeper) * w, const look_ahead *look, const REAL *x, ptrdiff_t n, REAL *e,
                                    const NAME(reduction) * by, NAME(lanes) * lanes, NAME(waiting_row) * k) {
    if (!k->waits) {
        NAME(block_sweep)(x, n, e, w->room, by, lanes, look);
        return;
    }
    const ptrdiff_t first = k->first, lines = (n - first) / XENT_LANES * XENT_LANES, room = NAME(scaling_room)(n);
    const NAME(scaling) earlier = {k->terms + first, k->to + first, lines < room ? lines : room, &k->by};
    (by->clamp || k->flushes ? NAME(sweep_and_stream_clamped) : NAME(sweep_and_stream))(
        x, e, n, by->rounder, NAME(sigma)(w->room.guard), by->floor, lanes, look, &earlier);
    NAME(put_rest)(w, k, first + earlier.n);
}

/* Row r, its sum known and its terms in e, is to wait; or, where it is far, or its factor out of range, its terms go where the
 * row belongs, for scale_rows. */
static inline void NAME(let_flow)(NAME(sweeper) * w, int r, const rowsum *sum, const REAL *e) {
    const NAME(flow) *f = &w->flow;
    const ptrdiff_t classes = w->layout->classes;
    NAME(waiting_row) *k = &w->waiting[w->turn++ % 2];
    if (sum->kind != ROW_FINITE) return;
    wide d = {0.0, 0.0};
    if (!sum->far) f->factor(w, r, f->of), d = (wide){w->factor_hi[r], w->factor_lo[r]};
    k->flushes = sum->far || !NAME(is_safe)(sum->min, sum->scale, d.hi);
    if (!k->flushes)
        k->by = NAME(plain_factor)(d);
    else if (sum->far || !NAME(factor_within)(d, 0.0, &k->by)) {
        memcpy(w->out_rows[r], e, (size_t)classes * sizeof(REAL));
        return;
    }
    const block_scale block = {sum->max, sum->scale, 0};
    k->waits = w->flowed[r] = 1, k->n = classes;
    k->terms = e, k->to = (REAL *)w->out_rows[r];
    k->first = (ptrdiff_t)(-(uintptr_t)k->to % XENT_LINE / sizeof(REAL));
    k->likely = NAME(is_likely)(sum) ? NAME(place_of_largest)(e, classes, &block) : -1;
    k->likely_is = NAME(scaled_top)(sum, d);
    k->label = f->known ? (ptrdiff_t)f->known->labels[r] : -1;
    k->label_is = f->known ? NAME(rounded)(f->known->label_is[r]) : 0;
}

/* The sums of rows found, which are scaled as they go. */
static inline void NAME(flow_sums)(NAME(sweeper) * w, int rows) {
    const ptrdiff_t classes = w->layout->classes;
    const double sigma = (double)NAME(sigma)(w->room.guard);
    NAME(lanes) *lanes = &w->lanes[0];
    NAME(reduction) by[2];
    rowsum sums[2];
    int sweeps[2] = {0};
    const coming_logits unknown = {.x = NULL};
    for (int r = 0; r <= rows; r++) { /* the first sweep over a row goes before the second over the one before it */
        const int now = r & 1, last = !now;
        if (r < rows)
            sweeps[now] =
                NAME(block_start)((const REAL *)w->x_rows[r], classes, NULL, w->room, &unknown, &by[now], &sums[now]);
        if (r == 0) continue;
        const REAL *x = (const REAL *)w->x_rows[r - 1];
        REAL *e = w->kept + XENT_LINE + w->turn % XENT_FLOWING * (whole_groups(classes) + XENT_LINE);
        if (sizeof(REAL) == 4) e += NAME(PER_LINE) - NAME(before_half)(x); /* lines begin where groups do */
        const NAME(reduction) *its = &by[last];
        rowsum *sum = &sums[last];
        const look_ahead look = NAME(ahead_of)(w, r - 1, x, 0);
        if (sweeps[last] && !sum->far) {
            NAME(flow_sweep)
            (w, &look, x, classes, e, its, lanes, &w->waiting[w->turn % 2]);
            NAME(close_block)
            (NAME(lanes_sum_apart)(lanes, sigma), NAME(exp_wide)(its->max, -sum->scale),
             NAME(added)(its->max, its->rounder), its, x, e, classes, sum);
        } else {
            NAME(put_waiting)(w);
            KERNEL(block_sum)(x, classes, e, w->room, w->shifted, lanes, &unknown, &look, sum);
        }
        put_sum(&w->batch, r - 1, sum);
        NAME(let_flow)(w, r - 1, sum, e);
    }
}
