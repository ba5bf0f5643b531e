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
    for (int n, at_once = NAME(rows_at_once)(&w); first < last; first += n) {
        n = last - first < at_once ? (int)(last - first) : at_once;
        int64_t y[XENT_ROWS];
        double z[XENT_ROWS]; /* the label's logit, read before the row is overwritten */
        int ignored = 0;
        for (int r = 0; r < n; r++) {
            int large;
            y[r] = label_at(&p->labels, first + r, &large);
            ignored = p->has_ignore && y[r] == p->ignore && !large;
            if (ignored) {
                n = r; /* up to here; the ignored row, which is not to be read, by itself */
                break;
            }
            z[r] = (double)NAME(read_element)(a->layout, a->logits, row_of(a->layout, a->logits, first + r), y[r]);
        }
        if (n) NAME(sum_rows)(&w, first, n);
        double loss[XENT_ROWS], lse[XENT_ROWS];
        REAL at_label[XENT_ROWS];
        for (int r = 0; r < n; r++)
            NAME(one_label_row)(&w, r, z[r], entry(&p->class_weight, y[r], 1.0), p->z_loss,
                                NAME(row_factor)(a, first + r, entry(&p->sample_weight, first + r, 1.0)), &loss[r],
                                &lse[r], &at_label[r]);
        if (a->grad && n) NAME(scale_rows)(&w, n);
        for (int r = 0; r < n; r++) {
            if (a->grad) NAME(write_element)(&w, w.out_rows[r], y[r], at_label[r]);
            NAME(put_row)(a, &w, first + r, r, entry(&p->sample_weight, first + r, 1.0), loss[r], lse[r], &total);
        }
        if (ignored) NAME(put_ignored)(a, &w, first + n++);
    }
    if (a->totals) a->totals[2 * group] = total.hi, a->totals[2 * group + 1] = total.lo;
    NAME(sweeper_stop)(&w, few);
}
#endif
