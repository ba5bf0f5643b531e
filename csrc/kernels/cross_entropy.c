/* Softmax cross-entropy with class indices: loss (N) and d loss / d logits (N, C) in one sweep over the logits.
 * Each row is read once and its gradient written once: the terms e^z go straight to where the gradient belongs and are
 * scaled there while the row is still in the cache, or they are kept beside it and scaled on their way there (flow.h). No
 * array of probabilities, no saved lse.
 */
#ifndef REAL
#define KERNEL_FILE "cross_entropy.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"

#ifndef XENT_CROSS_ENTROPY_C
#define XENT_CROSS_ENTROPY_C
/* Rows of a batch, in their order, and their labels. */
typedef struct {
    ptrdiff_t row[XENT_ROWS];
    const int64_t *y; /* in the caller's array, or copied */
    int64_t copied[XENT_ROWS];
    int n;
    int some_ignored; /* of rows packed as columns, which are taken all: these are */
    char ignored[XENT_ROWS];
} counted_rows;
#endif

/* The next rows that count, `most` of them at most, up to `last`. Those between them that do not, as they are to be ignored
 * or weigh nothing, are not read, and get what such rows get; of columns all go together, and get it in the end. Returns
 * where to go on. */
static ptrdiff_t NAME(next_rows)(const xent_loss_args *a, NAME(sweeper) * w, ptrdiff_t first, ptrdiff_t last, int most,
                                 counted_rows *c) {
    const xent_cross_entropy_problem *p = a->problem;
    const int weighs = p->sample_weight.data && !a->lse_rows; /* an lse is wanted of rows that weigh nothing, too */
    c->n = c->some_ignored = 0;
    if (w->x->columns || (!p->has_ignore && !weighs)) {
        c->n = last - first < most ? (int)(last - first) : most;
        c->y = labels_at(&p->labels, first, c->n, c->copied);
        for (int r = 0; r < c->n; r++) c->row[r] = first + r;
        for (int r = 0; r < c->n && p->has_ignore; r++) {
            c->some_ignored |= c->ignored[r] = c->y[r] == p->ignore;
            c->copied[r] = c->ignored[r] ? 0 : c->y[r];
        }
        c->y = p->has_ignore ? c->copied : c->y;
        return first + c->n;
    }
    c->y = c->copied;
    while (first < last && c->n < most) {
        int64_t y[XENT_ROWS];
        const int some = most < XENT_ROWS / 2 ? 2 * most : XENT_ROWS;
        const int n = last - first < some ? (int)(last - first) : some;
        const int64_t *labels = labels_at(&p->labels, first, n, y);
        for (int i = 0; i < n && c->n < most; i++, first++)
            if ((p->has_ignore && labels[i] == p->ignore) || (weighs && entry(&p->sample_weight, first, 1.0) == 0.0))
                NAME(put_ignored)(a, w, first);
            else
                c->row[c->n] = first, c->copied[c->n++] = labels[i];
    }
    return first;
}

/* What the rows count for: target mass, weight, factor of the gradient. How often the terms are counted at most. */
static double NAME(read_weights)(const xent_loss_args *a, const counted_rows *c, double *weight, NAME(labelled) * k) {
    const xent_cross_entropy_problem *p = a->problem;
    const int n = c->n, same = weigh_alike(p) && !p->class_weight.data;
    NAME(row_weights)(a, c->row, n, weight, k);
    for (int r = 0; r < n; r++) k->mass[r] = 1.0;
    for (int r = 0; r < n && p->class_weight.data; r++) k->mass[r] = entry(&p->class_weight, (ptrdiff_t)c->y[r], 1.0);
    k->large = 0;
    for (int r = 0; r < n && p->class_weight.data; r++) k->large |= is_large(k->mass[r]);
    double times = 0.0;
    for (int r = 0; r < (same ? 1 : n); r++) {
        const double counted = NAME(times_counted)(p, k, r, weight[r]);
        times = counted > times ? counted : times;
    }
    return p->z_loss == 0.0 ? times : INFINITY;
}

/* How many rows of a batch can go together: as many as need the same guard as the first. The deep one leaves float64 no room
 * for the low part of a small factor, so a row would have other bits beside one that is counted often. (float32 has the same
 * bits with either, and goes on.) */
static int NAME(rows_alike)(const NAME(sweeper) * w, const NAME(labelled) * k, int n) {
    const int often = NAME(is_often)(w, fabs(k->factor_hi[0]) * k->mass[0]);
    int r = sizeof(REAL) == 4 ? n : 1;
    while (r < n && NAME(is_often)(w, fabs(k->factor_hi[r]) * k->mass[r]) == often) r++;
    return r;
}

/* Of row r, as soon as it is summed: the factor of its terms, and its gradient at the label. Its loss is left to label_rows,
 * which takes the logarithms of several rows at once. */
typedef struct {
    const int64_t *y;
    NAME(labelled) * k;
    double zeta;
} NAME(label_flow);
static void NAME(label_factor)(NAME(sweeper) * w, int r, void *of) {
    const NAME(label_flow) *f = of;
    NAME(labelled) *k = f->k;
    const rowsum s = sum_of(&w->batch, r);
    const double z = (double)((const REAL *)w->x_rows[r])[f->y[r]];
    const double log_s = f->zeta == 0.0 ? 0.0 : log1p_wide(NAME(div)(s.rest, s.top));
    const wide factor = {k->factor_hi[r], k->factor_lo[r]};
    double loss, lse;
    wide multiplier, term = {0.0, 0.0};
    if (z > s.max - w->room.depth) term = NAME(exp_wide)((REAL)z, -s.scale); /* else label_rows, too, takes it for 0 */
    NAME(label_core)
    (s.top, s.rest, log_s, s.max, z, term, k->mass[r], f->zeta, factor, &loss, &lse, &k->grad[r], &multiplier,
     k->large);
    w->factor_hi[r] = multiplier.hi, w->factor_lo[r] = multiplier.lo;
}

/* Whether rows that weigh alike are of one class, and plain: losses and gradients are 0 where logits are finite. */
static int NAME(are_certain)(const xent_loss_args *a) {
    const xent_cross_entropy_problem *p = a->problem;
    if (a->layout->classes != 1 || a->logits->columns || !are_joined(a->layout, a->logits, 2) ||
        (a->grad && !are_joined(a->layout, a->grad, 2)) || p->z_loss != 0.0)
        return 0;
    const double weight = entry(&p->sample_weight, 0, 1.0), factor = NAME(row_factor)(a, 0, weight).hi;
    return weight != 0.0 && a->grad_scale[0] != 0.0 && factor - factor == 0.0; /* else a NaN */
}

/* Such rows from `first` on, up to one whose logit is not finite, or `last`; returns where. Nothing is to be added to
 * the sum of the losses. Taken as all others, they stood 3.4 times above their neighbours in a sweep over classes. */
static ptrdiff_t NAME(certain_rows)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t n; first < last; first += n) {
        const REAL *x = (const REAL *)row_of(a->layout, a->logits, first);
        REAL *to = a->grad ? (REAL *)row_of(a->layout, a->grad, first) : NULL, *lse = a->lse_rows, *loss = a->loss_rows;
        NAME(bits) special = 0; /* as wide as what is compared */
        n = last - first < XENT_SMALL_BLOCK ? last - first : XENT_SMALL_BLOCK;
        for (ptrdiff_t i = 0; i < n; i++) special |= x[i] - x[i] != 0;
        if (special) break;
        for (ptrdiff_t i = 0; i < n && lse; i++)
            lse[first + i] = NAME(rounded)((double)x[i] + 0.0); /* before x is gone */
        for (ptrdiff_t i = 0; i < n && loss; i++) loss[first + i] = 0;
        for (ptrdiff_t i = 0; i < n && to; i++) to[i] = 0;
    }
    return first;
}

void KERNEL(cross_entropy)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    const int in_place = a->grad && a->grad->data == a->logits->data;
    NAME(labelled) k;
    counted_rows c;
    loss_sums sums = sums_from(a, first, last, group);
    if (!KERNEL(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    NAME(label_flow) flow = {NULL, &k, p->z_loss};
    known_results known = {NULL, k.grad, k.loss, c.row, &sums};
    if (a->grad) w.flow = (NAME(flow)){NAME(label_factor), &flow, &known};
    const int at_once = NAME(rows_at_once)(&w), same = weigh_alike(p) && !p->class_weight.data && !p->has_ignore;
    double weight[XENT_ROWS], times = 0.0;
    int read = 0; /* rows of the batch before, whose weights are those of as many of this one */
    const int certain = same && NAME(are_certain)(a);
    while (first < last) {
        if (certain) first = NAME(certain_rows)(a, first, last);
        first = NAME(next_rows)(a, &w, first, last, at_once, &c);
        if (!c.n) break;
        flow.y = known.labels = c.y;
        if (!same || c.n != read) times = NAME(read_weights)(a, &c, weight, &k), read = c.n;
        const int n = NAME(rows_alike)(&w, &k, c.n);
        if (n < c.n) first = c.row[n], c.n = n, times = NAME(read_weights)(a, &c, weight, &k);
        NAME(make_room)(&w, times);
        KERNEL(find_these)(&w, c.row, c.n);
        if (in_place) NAME(label_logits)(&w, c.n, c.y, k.z); /* before they are overwritten */
        KERNEL(sum_found)(&w, c.n);
        if (NAME(declined)(&w)) break;
        if (!in_place) NAME(label_logits)(&w, c.n, c.y, k.z); /* now that their rows are in the cache */
        NAME(label_rows)(&w, &k, c.n, p->z_loss);
        if (KERNEL(declines)(&w, a->grad ? c.n : 0, 1)) break;
        for (int r = 0; r < c.n && c.some_ignored; r++)
            if (c.ignored[r]) weight[r] = k.lse[r] = 0.0;
        if (NAME(come_twice)(&w)) NAME(count_as_zero)(a, &w, &k, c.n, weight);
        /* whether rows that weigh nothing are filled in below */
        w.holds = NAME(put_losses)(a, c.row, c.n, weight, &k) && !NAME(come_twice)(&w);
        if (a->grad)
            KERNEL(scale_rows)(&w, c.n, &known);
        else
            count_losses(&known, c.n);
        if (w.holds) NAME(fill_weightless)(a, &w, c.n, weight);
        if (a->grad) NAME(send_blocks)(&w);
    }
    if (!NAME(declined)(&w)) {
        while (sums.end < last) close_group(&sums);
        close_group(&sums);
    }
    KERNEL(sweeper_stop)(&w, few);
}
#endif
