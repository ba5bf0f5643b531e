/* Reductions of a row of logits x (C):
 *   logsumexp    lse = log sum e^x_c                   one sweep
 *   softmax      p_c = e^x_c / sum                     one sweep that leaves the terms in `out`, one that scales them
 *   log_softmax  log p_c = (x_c - max) - log(1 + s)    two sweeps; both differences are of one sign, nothing cancels
 */
#ifndef REAL
#define KERNEL_FILE "softmax.c"
#include "for_each_dtype.h"
#else
#include "row.h"

void KERNEL(logsumexp)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    if (!NAME(sweeper_start)(&w, a->layout, a->x, NULL, few)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        rowsum sum;
        NAME(row_sum)(&w, row_of(a->layout, a->x, row), NULL, &sum);
        ((REAL *)a->row_out)[row] = NAME(rounded)(NAME(row_lse)(&sum));
    }
    NAME(sweeper_stop)(&w, few);
}

void KERNEL(softmax)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    if (!NAME(sweeper_start)(&w, a->layout, a->x, a->out, few)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        char *out = row_of(a->layout, a->out, row);
        rowsum sum;
        NAME(row_sum)(&w, row_of(a->layout, a->x, row), out, &sum);
        if (sum.kind == ROW_FINITE)
            NAME(row_scale)(&w, out, &sum, wide_div((wide){1.0, 0.0}, wide_add(sum.top, sum.rest)));
        else
            NAME(row_fill)(&w, out, (REAL)NAN);
    }
    NAME(sweeper_stop)(&w, few);
}

void KERNEL(log_softmax)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    if (!NAME(sweeper_start)(&w, a->layout, a->x, NULL, few)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        char *x_row = row_of(a->layout, a->x, row), *out_row = row_of(a->layout, a->out, row);
        rowsum sum;
        NAME(row_sum)(&w, x_row, NULL, &sum);
        const int finite = sum.kind == ROW_FINITE, nan = sum.kind == ROW_NAN || sum.kind == ROW_EMPTY;
        const double max = finite ? sum.max : 0.0;
        const double l = finite ? log_rest(&sum) : nan ? NAN : INFINITY;
        for (ptrdiff_t start = 0; start < a->layout->classes; start += XENT_BLOCK) {
            const ptrdiff_t n =
                a->layout->classes - start < XENT_BLOCK ? a->layout->classes - start : XENT_BLOCK;
            const REAL *x = NAME(logits_at)(&w, x_row, start, n);
            REAL *to = a->out->direct ? (REAL *)out_row + start : w.terms;
            for (ptrdiff_t i = 0; i < n; i++) to[i] = NAME(rounded)(((double)x[i] - max) - l);
            if (to == w.terms) scatter_block(a->layout, a->out, out_row, start, n, to, sizeof(REAL));
        }
    }
    NAME(sweeper_stop)(&w, few);
}
#endif
