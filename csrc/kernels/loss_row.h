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

/* The factor of a row's gradient: sample weight / divisor * the caller's own gradient. */
XENT_INLINE wide NAME(row_factor)(const xent_loss_args *a, ptrdiff_t row, double sample_weight) {
    wide scale = {a->grad_scale[0], a->grad_scale[1]};
    return NAME(mul)(scale, product(sample_weight, entry(&a->problem->grad_loss, row, 1.0)));
}

/* Row r of the last sum_rows, whose target mass A lies on class y alone, z = its logit before it was overwritten:
 *   loss = A (lse - z_y) + zeta lse^2,   grad = factor [(A + 2 zeta lse) p - A 1_y]
 * with A p_y - A = -A (sum of the other terms) / total, which keeps every digit where p_y is nearly 1.
 * Sets what scale_rows is to do with the row; at_label is the gradient there. */
static inline void NAME(one_label_row)(NAME(sweeper) * w, int r, double z, double mass, double zeta, wide factor,
                                       double *loss, double *lse, REAL *at_label) {
    const rowsum *sum = &w->sums[r];
    *lse = NAME(row_lse)(sum, w->logs[r]);
    *at_label = (REAL)NAN;
    if (sum->kind != ROW_FINITE) {
        *loss = sum->kind != ROW_INFINITE ? NAN : mass == 0.0 && zeta == 0.0 ? 0.0 : INFINITY - (z > 0 ? z : 0.0);
        return;
    }
    const wide gap = difference(sum->max, z);
    *loss = mass == 0.0 ? 0.0 : mass * (gap.hi + (gap.lo + w->logs[r]));
    if (zeta != 0.0) *loss += zeta * *lse * *lse;
    if (!w->out) return;

    const wide total = NAME(add)(sum->top, sum->rest);
    const wide unit = NAME(div)(factor, total); /* factor / total */
    const wide two_zeta_lse = zeta != 0.0 ? product(2.0 * zeta, *lse) : (wide){0.0, 0.0};
    w->factors[r] = NAME(mul)(unit, NAME(add)((wide){mass, 0.0}, two_zeta_lse));

    wide term = {0.0, 0.0}; /* e^z in the scale of the sum */
    if (z == sum->max)
        term = sum->top;
    else if (sum->far)
        term = wide_mul(sum->top, far_factor(z, sum->max));
    else if (z > sum->max - DEEP)
        term = NAME(exp_wide)((REAL)z, -sum->scale);
    const wide others = z == sum->max ? sum->rest : NAME(sub)(total, term);
    wide grad = NAME(mul)(NAME(mul)(unit, others), (wide){-mass, 0.0});
    if (zeta != 0.0) grad = NAME(add)(grad, NAME(mul)(NAME(mul)(unit, term), two_zeta_lse));
    *at_label = NAME(rounded)(grad.hi);
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
