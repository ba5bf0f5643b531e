/* Rows too long to be held at once, taken a tile of neighbouring classes at a time; what is known of a row so far is
 * kept between the tiles.
 *   block_sums   the sum of the exponentials of each block of XENT_BLOCK classes: what a state can be put together from
 *   sums_lse     the blocks of a row added in their order: logsumexp, bit for bit that of the whole row; or their sum
 *   tile_sum     first sweep over the tiles: the row's sum so far, the label's logit, the mass of the targets
 *   tile_grad    second sweep, the logits made once more: the gradient in place, sum_c t_c (max - z_c) of target rows
 *   tile_finish  the losses, when all tiles have been seen
 * With a label and no smoothing the loss needs the first sweep only.
 */
#ifndef REAL
#define KERNEL_FILE "tiles.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"

#ifndef XENT_TILES
#define XENT_TILES
typedef struct {
    rowsum sum;
    int begun;
    double at_label;              /* the label's logit */
    wide q_sum, mass, weight_sum; /* sum q_c, sum w_c q_c, sum w_c */
    wide gaps;                    /* sum t_c (max - z_c) */
    double infinite;              /* what such terms come to where max or z_c is not finite */
} row_state;
_Static_assert(sizeof(row_state) <= XENT_ROW_BYTES, "XENT_ROW_BYTES is too small");
_Static_assert(sizeof(rowsum) <= XENT_SUM_BYTES, "XENT_SUM_BYTES is too small");

static row_state *state_of(const xent_loss_args *a, ptrdiff_t row) {
    return (row_state *)((char *)a->tile->rows + row * XENT_ROW_BYTES);
}

/* Whether a row has a label that counts for it, or is to be left out; y is the label. */
static int is_ignored(const xent_cross_entropy_problem *p, ptrdiff_t row, int64_t *y) {
    int large = 0;
    *y = p->labels.data ? label_at(&p->labels, row, &large) : -1;
    return p->labels.data && p->has_ignore && *y == p->ignore && !large;
}

/* (1 - eps) and (eps / C) sum q, of which the targets t_c = w_c [(1 - eps) q_c + (eps / C) sum q] are made. */
typedef struct {
    wide keep, share;
    int smooth;
} smoothing;

static smoothing smoothing_of(const xent_cross_entropy_problem *p, const row_state *s, ptrdiff_t classes) {
    smoothing e = {{1.0, 0.0}, {0.0, 0.0}, p->label_smoothing != 0.0};
    if (!e.smooth) return e;
    e.keep = two_sum(1.0, -p->label_smoothing);
    e.share = wide_div(wide_mul((wide){p->label_smoothing, 0.0}, s->q_sum), (wide){(double)classes, 0.0});
    return e;
}

/* A = sum t = (1 - eps) sum w q + (eps / C) sum q sum w. */
static wide mass_of(const smoothing *e, const row_state *s) {
    return e->smooth ? wide_add(wide_mul(e->keep, s->mass), wide_mul(e->share, s->weight_sum)) : s->mass;
}
#endif

/* A sum made earlier takes the place of a batch of one row. */
static void NAME(given_sum)(NAME(sweeper) * w, const rowsum *sum) {
    w->batch.ordinary = 1;
    put_sum(&w->batch, 0, sum);
    KERNEL(batch_logs)(w, 1);
}

void KERNEL(block_sums)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    if (!KERNEL(sweeper_start)(&w, a->layout, a->x, NULL, few, a->failed)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        coming_logits coming = {.x = NULL};
        for (ptrdiff_t start = 0, b = 0; start < a->layout->classes; start += XENT_BLOCK, b++) {
            const ptrdiff_t left = a->layout->classes - start, n = left < XENT_BLOCK ? left : XENT_BLOCK;
            const REAL *x = NAME(logits_at)(&w, row_of(a->layout, a->x, row), start, n);
            const coming_logits found = coming;
            look_ahead look = NAME(ahead_of)(&w, 0, x, start);
            coming = NAME(behind)(&w, x, n, left - n), look.coming = &coming;
            rowsum block;
            KERNEL(block_sum)(x, n, NULL, w.room, w.shifted, &w.lanes[0], &found, &look, &block);
            memcpy((char *)a->row_out + (b * a->layout->rows + row) * XENT_SUM_BYTES, &block, sizeof block);
        }
    }
    KERNEL(sweeper_stop)(&w, few);
}

void KERNEL(sums_lse)(const void *sums, ptrdiff_t blocks, ptrdiff_t rows, void *out, void *total) {
    for (ptrdiff_t row = 0; row < rows; row++) {
        rowsum sum = {.max = -INFINITY, .kind = ROW_EMPTY}, block;
        for (ptrdiff_t b = 0; b < blocks; b++) {
            memcpy(&block, (const char *)sums + (b * rows + row) * XENT_SUM_BYTES, sizeof block);
            if (b == 0)
                sum = block;
            else
                add_block(&sum, &block);
        }
        if (!out) {
            memcpy((char *)total + row * XENT_SUM_BYTES, &sum, sizeof sum);
            continue;
        }
        const wide s = sum.kind == ROW_FINITE ? NAME(div)(sum.rest, sum.top) : (wide){0.0, 0.0};
        ((REAL *)out)[row] = NAME(rounded)(NAME(row_lse)(&sum, log1p_wide(s)));
    }
}

void KERNEL(tile_sum)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    const int soft = a->probabilities || p->label_smoothing != 0.0;
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    double q[XENT_SMALL_BLOCK];
    (void)group;
    if (!KERNEL(sweeper_start)(&w, a->layout, a->logits, NULL, few, a->failed)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        row_state *s = state_of(a, row);
        char *x_row = row_of(a->layout, a->logits, row);
        int64_t y;
        rowsum sum;
        if (is_ignored(p, row, &y)) continue;
        w.x_rows[0] = x_row, w.out_rows[0] = NULL;
        KERNEL(row_sum)(&w, 0, &sum);
        if (s->begun++)
            add_block(&s->sum, &sum);
        else
            s->sum = sum;
        if (y >= a->tile->first && y < a->tile->first + a->layout->classes) {
            s->at_label = (double)NAME(read_element)(a->layout, a->logits, x_row, (ptrdiff_t)y - a->tile->first);
            s->q_sum = (wide){1.0, 0.0}, s->mass = (wide){entry(&p->class_weight, (ptrdiff_t)y, 1.0), 0.0};
        }
        for (ptrdiff_t start = 0; soft && start < a->layout->classes; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t left = a->layout->classes - start, n = left < XENT_SMALL_BLOCK ? left : XENT_SMALL_BLOCK;
            if (a->probabilities)
                gather_numbers(a->layout, a->probabilities, row_of(a->layout, a->probabilities, row), start, n, q);
            for (ptrdiff_t i = 0; i < n; i++) {
                const wide weight = {entry(&p->class_weight, a->tile->first + start + i, 1.0), 0.0};
                s->weight_sum = wide_add(s->weight_sum, weight);
                if (!a->probabilities) continue;
                s->q_sum = wide_add(s->q_sum, (wide){q[i], 0.0});
                s->mass = wide_add(s->mass, wide_mul(weight, (wide){q[i], 0.0}));
            }
        }
    }
    KERNEL(sweeper_stop)(&w, few);
}

/* One block of one row: the gradient to w->terms, the gaps to the state. */
static void NAME(tile_block)(const xent_vector *class_weight, row_state *s, const NAME(view_of_sum) * v,
                             const smoothing *e, const REAL *x, const double *q, ptrdiff_t c, ptrdiff_t n, double lse,
                             wide grown, wide factor, int lift, REAL *to) {
    const int finite = s->sum.kind == ROW_FINITE;
    for (ptrdiff_t i = 0; i < n; i++) {
        wide t = {q ? q[i] : 0.0, 0.0};
        if (q && e->smooth) t = wide_add(wide_mul(e->keep, t), e->share);
        if (q && class_weight->data) t = wide_mul(t, (wide){entry(class_weight, c + i, 1.0), 0.0});
        if (t.hi != 0.0) { /* 0 inf = 0 */
            const wide gap = finite ? difference(s->sum.max, (double)x[i]) : (wide){0.0, 0.0};
            if (finite && gap.hi < INFINITY)
                s->gaps = wide_add(s->gaps, wide_mul(t, gap));
            else if (finite && x[i] > -REAL_INF) /* the product need not overflow with it */
                s->gaps = wide_add(s->gaps, wide_mul((wide){4.0 * t.hi, 4.0 * t.lo},
                                                     difference(0.25 * s->sum.max, 0.25 * (double)x[i])));
            else
                s->infinite += finite ? INFINITY : lse - (double)x[i];
        }
        if (!to) continue;
        const wide g = wide_sub(wide_mul(NAME(term)(v, x[i]), grown), wide_mul(t, factor));
        to[i] = !finite ? (REAL)NAN : lift ? NAME(lowered)(g.hi) : NAME(rounded)(g.hi);
    }
}

void KERNEL(tile_grad)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    const int soft = a->probabilities || p->label_smoothing != 0.0;
    const ptrdiff_t classes = a->layout->classes;
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    double q[XENT_SMALL_BLOCK];
    (void)group;
    if (!KERNEL(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        row_state *s = state_of(a, row);
        char *x_row = row_of(a->layout, a->logits, row), *out_row = a->grad ? row_of(a->layout, a->grad, row) : NULL;
        const double weight = entry(&p->sample_weight, row, 1.0);
        int64_t y;
        if (is_ignored(p, row, &y) || weight == 0.0) {
            if (out_row) NAME(row_fill)(&w, out_row, (REAL)0);
            continue;
        }
        const int finite = s->sum.kind == ROW_FINITE;
        const double log_s = finite ? log1p_wide(NAME(div)(s->sum.rest, s->sum.top)) : 0.0;
        const double lse = NAME(row_lse)(&s->sum, log_s);
        const smoothing e = smoothing_of(p, s, a->tile->classes);
        wide factor = NAME(row_factor)(a, row, weight), mass = mass_of(&e, s);
        NAME(labelled)
        k = {.large = is_large(mass.hi),
             .z[0] = s->at_label,
             .mass[0] = mass.hi,
             .factor_hi[0] = factor.hi,
             .factor_lo[0] = factor.lo};
        if (!soft && finite) {
            NAME(given_sum)(&w, &s->sum);
            NAME(label_rows)(&w, &k, 1, p->z_loss);
        }
        NAME(view_of_sum) v = {0};
        wide grown = {0.0, 0.0};
        if (p->z_loss != 0.0) mass = wide_add(mass, product(2.0 * p->z_loss, lse));
        const double balance = balance_of(factor.hi, mass.hi);
        const int lift =
            fabs(factor.hi) * fabs(mass.hi) < 0x1p800 && fabs(factor.hi) < 0x1p800; /* by 2^128, lowered at the end */
        if (lift) factor = wide_scale(factor, 128.0);
        if (finite)
            v = NAME(look_again)(&s->sum),
            grown = wide_mul(wide_div(wide_scale(factor, balance), v.total), wide_scale(mass, -balance));
        for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
            const REAL *x = NAME(logits_at)(&w, x_row, start, n);
            if (a->probabilities)
                gather_numbers(a->layout, a->probabilities, row_of(a->layout, a->probabilities, row), start, n, q);
            else
                for (ptrdiff_t i = 0; i < n; i++) q[i] = a->tile->first + start + i == y ? 1.0 : 0.0;
            NAME(tile_block)
            (&p->class_weight, s, &v, &e, x, soft ? q : NULL, a->tile->first + start, n, lse, grown, factor, lift,
             out_row ? w.terms : NULL);
            if (out_row && a->grad->direct)
                memcpy((REAL *)out_row + start, w.terms, (size_t)n * sizeof(REAL));
            else if (out_row)
                scatter_block(a->layout, a->grad, out_row, start, n, w.terms, sizeof(REAL));
        }
        if (out_row && !soft && finite && y >= a->tile->first && y < a->tile->first + classes)
            NAME(write_element)(&w, out_row, (ptrdiff_t)y - a->tile->first, NAME(rounded)(k.grad[0]));
    }
    KERNEL(sweeper_stop)(&w, few);
}

void KERNEL(tile_finish)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    const int soft = !p->labels.data || p->label_smoothing != 0.0;
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    wide total = {0.0, 0.0};
    if (!KERNEL(sweeper_start)(&w, a->layout, NULL, NULL, few, a->failed)) return;
    w.out_rows[0] = NULL;
    for (ptrdiff_t row = first; row < last; row++) {
        const row_state *s = state_of(a, row);
        const double weight = entry(&p->sample_weight, row, 1.0);
        int64_t y;
        if (is_ignored(p, row, &y)) {
            NAME(put_ignored)(a, &w, row);
            continue;
        }
        const int finite = s->sum.kind == ROW_FINITE;
        const double log_s = finite ? log1p_wide(NAME(div)(s->sum.rest, s->sum.top)) : 0.0;
        double lse = NAME(row_lse)(&s->sum, log_s), loss;
        const smoothing e = smoothing_of(p, s, a->tile->classes);
        const wide mass = mass_of(&e, s);
        if (soft) {
            const double zeta = p->z_loss == 0.0 ? 0.0 : p->z_loss * lse * lse;
            loss = s->sum.kind == ROW_INFINITE ? s->infinite + (p->z_loss != 0.0 ? INFINITY : 0.0) : NAN;
            if (finite) loss = s->infinite + wide_add(s->gaps, product(mass.hi, log_s)).hi;
            if (finite && loss != loss) loss = INFINITY; /* no summand is NaN or negative: the sum overflowed */
            if (finite) loss += zeta;
        } else {
            NAME(labelled) k = {.z[0] = s->at_label, .mass[0] = mass.hi};
            NAME(given_sum)(&w, &s->sum);
            NAME(label_rows)(&w, &k, 1, p->z_loss);
            loss = k.loss[0], lse = k.lse[0];
        }
        NAME(put_row)(a, &w, row, weight, loss, lse, &total);
    }
    put_total(a, group, total);
    KERNEL(sweeper_stop)(&w, few);
}
#endif
