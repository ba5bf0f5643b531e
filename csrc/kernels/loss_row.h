/* What the loss kernels share: a row's weight, the running total of the losses, and a row with one label.
 * Included once per dtype, after row.h. */
#include "row.h"

#ifndef XENT_LOSS_ROW_H
#define XENT_LOSS_ROW_H
/* total += loss, with what the addition loses kept apart; an infinite loss stays infinite. */
XENT_INLINE void add_loss(wide *total, double loss) {
    wide s = two_sum(total->hi, loss);
    total->hi = s.hi;
    if (s.lo - s.lo == 0.0) total->lo += s.lo;
}

XENT_INLINE wide product(double a, double b) { /* a b, exactly */
    double p = a * b;
    return (wide){p, fma(a, b, -p)};
}

/* The factor of a row's gradient: sample weight / divisor * the caller's own gradient. */
XENT_INLINE wide row_factor(const xent_loss_args *a, ptrdiff_t row, double sample_weight) {
    wide scale = {a->grad_scale[0], a->grad_scale[1]};
    return wide_mul(scale, product(sample_weight, entry(&a->problem->grad_loss, row, 1.0)));
}

/* u - v >= 0 as hi + lo; infinite where it overflows or v is -inf. */
XENT_INLINE wide difference(double u, double v) {
    double d = u - v;
    return d - d == 0.0 ? two_sum(u, -v) : (wide){d, 0.0};
}
#endif


static inline void NAME(write_element)(NAME(sweeper) * w, char *out_row, ptrdiff_t i, REAL value) {
    memcpy(element_of(w->layout, w->out, out_row, i), &value, sizeof value);
}

static inline REAL NAME(read_element)(const xent_layout *layout, const xent_view *x, char *row, ptrdiff_t i) {
    REAL v;
    fetch(&v, element_of(layout, x, row, i), sizeof v, x->swapped);
    return v;
}

/* Row r of the last sum_rows, whose target mass A lies on class y alone, z = its logit before it was overwritten:
 *   loss = A (lse - z_y) + zeta lse^2,   grad = factor [(A + 2 zeta lse) p - A 1_y]
 * with A p_y - A = -A (sum of the other terms) / total, which keeps every digit where p_y is nearly 1. */
static inline void NAME(one_label_row)(NAME(sweeper) * w, int r, ptrdiff_t y, double z, double mass, double zeta,
                                       wide factor, double *loss, double *lse) {
    const rowsum *sum = &w->sums[r];
    char *out_row = w->out_rows[r];
    *lse = NAME(row_lse)(sum, w->logs[r]);
    if (sum->kind != ROW_FINITE) {
        *loss = sum->kind != ROW_INFINITE ? NAN : mass == 0.0 && zeta == 0.0 ? 0.0 : INFINITY - (z > 0 ? z : 0.0);
        if (out_row) NAME(row_fill)(w, out_row, (REAL)NAN);
        return;
    }
    const wide gap = difference(sum->max, z);
    *loss = mass == 0.0 ? 0.0 : mass * (gap.hi + (gap.lo + w->logs[r]));
    if (zeta != 0.0) *loss += zeta * *lse * *lse;
    if (!out_row) return;

    const wide total = wide_add(sum->top, sum->rest);
    const wide unit = wide_div(factor, total); /* factor / total */
    wide grown = {mass, 0.0};
    if (zeta != 0.0) grown = wide_add(grown, product(2.0 * zeta, *lse));
    NAME(row_scale)(w, r, wide_mul(unit, grown));

    wide term = {0.0, 0.0}; /* e^z in the scale of the sum */
    if (z == sum->max)
        term = sum->top;
    else if (sum->far)
        term = wide_mul(sum->top, far_factor(z, sum->max));
    else if (z > sum->max - DEEP)
        term = NAME(exp_wide)((REAL)z, -sum->scale);
    const wide others = z == sum->max ? sum->rest : wide_sub(total, term);
    wide at_label = wide_mul(wide_mul(unit, others), (wide){-mass, 0.0});
    if (zeta != 0.0) at_label = wide_add(at_label, wide_mul(wide_mul(unit, term), product(2.0 * zeta, *lse)));
    NAME(write_element)(w, out_row, y, NAME(rounded)(at_label.hi));
}

/* Row r of the last sum_rows, number `row` of all, counted s times; 0 times is no row, whatever its logits. */
static inline void NAME(put_row)(const xent_loss_args *a, NAME(sweeper) * w, ptrdiff_t row, int r, double s,
                                 double loss, double lse, wide *total) {
    loss = s == 0.0 ? 0.0 : s * loss;
    loss = fabs(loss) < REAL_MIN ? 0.0 : loss;
    if (s == 0.0 && a->grad) NAME(row_fill)(w, w->out_rows[r], (REAL)0);
    if (a->loss_rows) ((REAL *)a->loss_rows)[row] = (REAL)loss;
    if (a->lse_rows) ((REAL *)a->lse_rows)[row] = NAME(rounded)(lse);
    add_loss(total, loss);
}

/* A row that counts for nothing and is not read. */
static inline void NAME(put_ignored)(const xent_loss_args *a, NAME(sweeper) * w, ptrdiff_t row) {
    if (a->grad) NAME(row_fill)(w, row_of(a->layout, a->grad, row), (REAL)0);
    if (a->loss_rows) ((REAL *)a->loss_rows)[row] = 0;
    if (a->lse_rows) ((REAL *)a->lse_rows)[row] = 0;
}
