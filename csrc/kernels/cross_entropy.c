/* Softmax cross-entropy with class indices: loss (N) and d loss / d logits (N, C) in one sweep over the logits.
 * Each row is read once and its gradient written once: the terms e^z go straight to where the gradient belongs and are
 * scaled there while the row is still in the cache, or they are kept beside it and scaled on their way there (kept.h). No array of probabilities, no saved lse.
 */
#ifndef REAL
#define KERNEL_FILE "cross_entropy.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"

static void NAME(label_logits)(const NAME(sweeper) * w, int n, const int64_t *y, double *z) {
    for (int r = 0; r < n; r++)
        z[r] = (double)(w->x->direct ? ((const REAL *)w->x_rows[r])[y[r]]
                                     : NAME(read_element)(w->layout, w->x, w->x_rows[r], (ptrdiff_t)y[r]));
}

/* The labels of rows first .. first + n - 1; how many of them there are before one that is to be ignored. */
static int NAME(read_labels)(const xent_cross_entropy_problem *p, ptrdiff_t first, int n, int64_t *y) {
    labels_at(&p->labels, first, n, y);
    for (int r = 0; r < n && p->has_ignore; r++)
        if (y[r] == p->ignore) return r;
    return n;
}

/* What the rows count for: target mass, weight, factor of the gradient. How often the terms are counted at most. */
static double NAME(read_weights)(const xent_loss_args *a, ptrdiff_t first, int n, const int64_t *y, double *weight,
                                 NAME(labelled) * k) {
    const xent_cross_entropy_problem *p = a->problem;
    const int alike = /* one weight and one factor for all rows */
        (!p->sample_weight.data || !p->sample_weight.stride) && (!p->grad_loss.data || !p->grad_loss.stride);
    const double common = alike ? entry(&p->sample_weight, 0, 1.0) : 1.0;
    const wide factor = alike ? NAME(row_factor)(a, 0, common) : (wide){0.0, 0.0};
    const int same = alike && !p->class_weight.data;
    double times = same ? fabs(factor.hi) : 0.0;
    for (int r = 0; r < n; r++)
        k->mass[r] = 1.0, weight[r] = common, k->factor_hi[r] = factor.hi, k->factor_lo[r] = factor.lo;
    for (int r = 0; r < n && p->class_weight.data; r++) k->mass[r] = entry(&p->class_weight, (ptrdiff_t)y[r], 1.0);
    for (int r = 0; r < n && !alike; r++) {
        weight[r] = entry(&p->sample_weight, first + r, 1.0);
        const wide own = NAME(row_factor)(a, first + r, weight[r]);
        k->factor_hi[r] = own.hi, k->factor_lo[r] = own.lo;
    }
    for (int r = 0; r < n && !same; r++) {
        const double counted = fabs(k->factor_hi[r]) * k->mass[r];
        times = counted > times ? counted : times;
    }
    return p->z_loss == 0.0 ? times : INFINITY;
}

void KERNEL(cross_entropy)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    const int in_place = a->grad && a->grad->data == a->logits->data;
    wide total = {0.0, 0.0};
    const ptrdiff_t group_rows = a->group_rows ? a->group_rows : last - first;
    ptrdiff_t left = group_rows;
    if (!NAME(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    for (int n, at_once = NAME(rows_at_once)(&w); first < last; first += n) {
        int64_t y[XENT_ROWS];
        NAME(labelled) k;
        double weight[XENT_ROWS];
        const int most = last - first < at_once ? (int)(last - first) : at_once;
        n = NAME(read_labels)(p, first, most, y);
        const int ignored = n < most; /* a row that is not to be read: by itself, after those before it */
        if (n) {
            NAME(make_room)(&w, NAME(read_weights)(a, first, n, y, weight, &k));
            NAME(find_rows)(&w, first, n);
            if (in_place) NAME(label_logits)(&w, n, y, k.z); /* before they are overwritten */
            NAME(sum_found)(&w, n);
            if (!in_place) NAME(label_logits)(&w, n, y, k.z); /* now that their rows are in the cache */
            NAME(label_rows)(&w, &k, n, p->z_loss);
            if (a->grad) NAME(scale_rows)(&w, n, y, k.grad);
            NAME(put_rows)(a, &w, first, n, weight, &k);
        }
        if (ignored) NAME(put_ignored)(a, &w, first + n), k.loss[n] = 0.0;
        n += ignored;
        for (int r = 0; r < n;) {
            const int end = left < n - r ? r + (int)left : n;
            add_losses(&total, k.loss + r, end - r);
            left -= end - r, r = end;
            if (left && first + r < last) break;
            if (a->totals) a->totals[2 * group] = total.hi, a->totals[2 * group + 1] = total.lo;
            group++, left = group_rows, total = (wide){0.0, 0.0};
        }
    }
    NAME(sweeper_stop)(&w, few);
}
#endif
