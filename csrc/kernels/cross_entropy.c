/* Softmax cross-entropy with class indices: loss (N) and d loss / d logits (N, C) in one sweep over the logits.
 * Each row is read once and its gradient written once: the terms e^z go straight to where the gradient belongs and are
 * scaled there while the row is still in the cache. No array of probabilities, no saved lse.
 */
#ifndef REAL
#define KERNEL_FILE "cross_entropy.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"

static void NAME(label_logits)(const NAME(sweeper) * w, ptrdiff_t first, int n, const int64_t *y, double *z) {
    for (int r = 0; r < n; r++) {
        char *row = row_of(w->layout, w->x, first + r);
        z[r] = (double)(w->x->direct ? ((const REAL *)row)[y[r]]
                                     : NAME(read_element)(w->layout, w->x, row, (ptrdiff_t)y[r]));
    }
}

void KERNEL(cross_entropy)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    const int in_place = a->grad && a->grad->data == a->logits->data;
    wide total = {0.0, 0.0};
    const ptrdiff_t group_rows = a->group_rows ? a->group_rows : last - first;
    ptrdiff_t left = group_rows;
    /* one weight and one factor for all rows */
    const int alike =
        (!p->sample_weight.data || !p->sample_weight.stride) && (!p->grad_loss.data || !p->grad_loss.stride);
    const double common = alike ? entry(&p->sample_weight, 0, 1.0) : 1.0;
    const wide common_factor = alike ? NAME(row_factor)(a, 0, common) : (wide){0.0, 0.0};
    if (!NAME(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    for (int n, at_once = NAME(rows_at_once)(&w); first < last; first += n) {
        n = last - first < at_once ? (int)(last - first) : at_once;
        int64_t y[XENT_ROWS];
        NAME(labelled) k;
        double weight[XENT_ROWS], times = p->z_loss == 0.0 ? 0.0 : INFINITY;
        int ignored = 0;
        for (int r = 0; r < n; r++) {
            int large;
            y[r] = label_at(&p->labels, first + r, &large);
            ignored = p->has_ignore && y[r] == p->ignore && !large;
            if (ignored) {
                n = r; /* up to here; the ignored row, which is not to be read, by itself */
                break;
            }
            k.mass[r] = entry(&p->class_weight, y[r], 1.0);
            weight[r] = alike ? common : entry(&p->sample_weight, first + r, 1.0);
            const wide factor = alike ? common_factor : NAME(row_factor)(a, first + r, weight[r]);
            k.factor_hi[r] = factor.hi, k.factor_lo[r] = factor.lo;
            const double counted = fabs(factor.hi) * k.mass[r];
            times = counted > times ? counted : times;
        }
        if (n) {
            NAME(make_room)(&w, times);
            if (in_place) NAME(label_logits)(&w, first, n, y, k.z); /* before they are overwritten */
            NAME(sum_rows)(&w, first, n);
            if (!in_place) NAME(label_logits)(&w, first, n, y, k.z); /* now that their rows are in the cache */
            NAME(label_rows)(&w, &k, n, p->z_loss);
            if (a->grad) NAME(scale_rows)(&w, n, y, k.grad);
        }
        if (ignored) NAME(put_ignored)(a, &w, first + n);
        for (int r = 0; r < n + ignored; r++) {
            if (r < n) NAME(put_row)(a, &w, first + r, r, weight[r], k.loss[r], k.lse[r], &total);
            if (--left && first + r + 1 < last) continue;
            if (a->totals) a->totals[2 * group] = total.hi, a->totals[2 * group + 1] = total.lo;
            group++, left = group_rows, total = (wide){0.0, 0.0};
        }
        n += ignored;
    }
    NAME(sweeper_stop)(&w, few);
}
#endif
