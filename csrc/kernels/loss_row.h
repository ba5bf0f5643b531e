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

/* A row whose target mass A lies on class y alone:
 *   loss = A (lse - z_y) + zeta lse^2,   grad = factor [(A + 2 zeta lse) p - A 1_y]
 * with A p_y - A = -A (sum of the other terms) / total, which keeps every digit where p_y is nearly 1. */
static inline void NAME(one_label_row)(NAME(sweeper) * w, char *x_row, char *out_row, ptrdiff_t y, double mass,
                                double zeta, wide factor, double *loss, double *lse) {
    const double z = (double)NAME(read_element)(w->layout, w->x, x_row, y); /* before the row is overwritten */
    rowsum sum;
    NAME(row_sum)(w, x_row, out_row, &sum);
    *lse = NAME(row_lse)(&sum);
    if (sum.kind != ROW_FINITE) {
        *loss = sum.kind != ROW_INFINITE ? NAN : mass == 0.0 && zeta == 0.0 ? 0.0 : INFINITY - (z > 0 ? z : 0.0);
        if (out_row) NAME(row_fill)(w, out_row, (REAL)NAN);
        return;
    }
    const double log_s = log_rest(&sum);
    const wide gap = difference(sum.max, z);
    *loss = mass == 0.0 ? 0.0 : mass * (gap.hi + (gap.lo + log_s));
    if (zeta != 0.0) *loss += zeta * *lse * *lse;
    if (!out_row) return;

    const wide total = wide_add(sum.top, sum.rest);
    const wide unit = wide_div(factor, total); /* factor / total */
    wide grown = {mass, 0.0};
    if (zeta != 0.0) grown = wide_add(grown, product(2.0 * zeta, *lse));
    NAME(row_scale)(w, out_row, &sum, wide_mul(unit, grown));

    wide term = {0.0, 0.0}; /* e^z in the scale of the sum */
    if (z == sum.max)
        term = sum.top;
    else if (sum.far)
        term = wide_mul(sum.top, far_factor(z, sum.max));
    else if (z > sum.max - DEEP)
        term = NAME(exp_wide)((REAL)z, -sum.scale);
    const wide others = z == sum.max ? sum.rest : wide_sub(total, term);
    wide at_label = wide_mul(wide_mul(unit, others), (wide){-mass, 0.0});
    if (zeta != 0.0) at_label = wide_add(at_label, wide_mul(wide_mul(unit, term), product(2.0 * zeta, *lse)));
    NAME(write_element)(w, out_row, y, NAME(rounded)(at_label.hi));
}

/* A row that counts for nothing. */
static inline void NAME(empty_row)(NAME(sweeper) * w, char *out_row, double *loss, double *lse) {
    *loss = *lse = 0.0;
    if (out_row) NAME(row_fill)(w, out_row, (REAL)0);
}

static inline void NAME(put_row)(const xent_loss_args *a, ptrdiff_t row, double loss, double lse, wide *total) {
    loss = fabs(loss) < REAL_MIN ? 0.0 : loss;
    if (a->loss_rows) ((REAL *)a->loss_rows)[row] = (REAL)loss;
    if (a->lse_rows) ((REAL *)a->lse_rows)[row] = NAME(rounded)(lse);
    add_loss(total, loss);
}
