/* Softmax cross-entropy with class indices: loss (N) and d loss / d logits (N, C) in one sweep over the logits.
 * Each row is read once and its gradient written once: the terms e^z go straight to where the gradient belongs and are
 * scaled there while the row is still in the cache. No array of probabilities, no saved lse.
 */
#ifndef REAL
#define KERNEL_FILE "cross_entropy.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"

void KERNEL(cross_entropy)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    wide total = {0.0, 0.0};
    if (!NAME(sweeper_start)(&w, a->layout, a->logits, a->grad, few)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        char *out = a->grad ? row_of(a->layout, a->grad, row) : NULL;
        double loss, lse;
        int large;
        const int64_t y = label_at(&p->labels, row, &large);
        if (p->has_ignore && y == p->ignore && !large)
            NAME(empty_row)(&w, out, &loss, &lse);
        else {
            const double s = entry(&p->sample_weight, row, 1.0), mass = entry(&p->class_weight, (ptrdiff_t)y, 1.0);
            NAME(one_label_row)(&w, row_of(a->layout, a->logits, row), out, (ptrdiff_t)y, mass, p->z_loss,
                                row_factor(a, row, s), &loss, &lse);
            loss *= s;
            if (s == 0.0) { /* no part in the sum, whatever the logits */
                loss = 0.0;
                if (out) NAME(row_fill)(&w, out, (REAL)0);
            }
        }
        NAME(put_row)(a, row, loss, lse, &total);
    }
    if (a->totals) a->totals[2 * group] = total.hi, a->totals[2 * group + 1] = total.lo;
    NAME(sweeper_stop)(&w, few);
}
#endif
