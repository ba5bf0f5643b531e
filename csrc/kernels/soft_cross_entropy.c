/* Softmax cross-entropy with target rows: given probabilities, smoothed labels, or both, with class weights.
 *   t_c = w_c [(1 - eps) q_c + (eps / C) sum q],  A = sum t
 *   loss = A log(1 + s) + sum_c t_c (max - z_c) + zeta lse^2     every summand of one sign: nothing cancels
 *   grad = factor [(A + 2 zeta lse) p - t]
 * A row with all its mass on one class is that label's row, bit for bit. Otherwise three sweeps: the sum of the
 * exponentials, the loss, the gradient; the exponentials are computed twice rather than stored beside the targets.
 */
#ifndef REAL
#define KERNEL_FILE "soft_cross_entropy.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"
#include "soft_targets.h"

static void NAME(soft_row)(NAME(sweeper) * w, NAME(targets) * t, char *out_row, double zeta, wide factor, double *loss,
                           double *lse) {
    const ptrdiff_t classes = w->layout->classes;
    const rowsum sum = sum_of(&w->batch, 0);
    const double log_s = w->batch.log_s[0];
    char *x_row = w->x_rows[0];
    *lse = NAME(row_lse)(&sum, log_s);
    const int finite = sum.kind == ROW_FINITE;

    wide mass = {0.0, 0.0}, gaps = {0.0, 0.0};
    double infinite = 0.0;
    for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
        const REAL *x = NAME(logits_at)(w, x_row, start, n);
        const wide *q = NAME(targets_at)(t, start, n);
        for (ptrdiff_t i = 0; i < n; i++) {
            if (q[i].hi == 0.0) continue; /* 0 * inf is 0 */
            mass = wide_add(mass, q[i]);
            if (!finite) {
                infinite += *lse - (double)x[i];
                continue;
            }
            const wide gap = difference(sum.max, (double)x[i]);
            if (gap.hi == INFINITY && x[i] > -REAL_INF) /* the product need not overflow with it */
                gaps = wide_add(gaps, wide_mul((wide){4.0 * q[i].hi, 4.0 * q[i].lo},
                                               difference(0.25 * sum.max, 0.25 * (double)x[i])));
            else if (gap.hi == INFINITY)
                infinite = INFINITY;
            else
                gaps = wide_add(gaps, wide_mul(q[i], gap));
        }
    }
    if (!finite) {
        *loss = sum.kind == ROW_INFINITE ? infinite + (zeta != 0.0 ? INFINITY : 0.0) : NAN;
        if (out_row) NAME(row_fill)(w, out_row, (REAL)NAN);
        return;
    }
    *loss = infinite + wide_add(gaps, product(mass.hi, log_s)).hi;
    if (*loss != *loss) *loss = INFINITY; /* no summand is NaN or negative: the sum overflowed */
    if (zeta != 0.0) *loss += zeta * *lse * *lse;
    if (!out_row) return;

    const NAME(view_of_sum) v = NAME(look_again)(&sum);
    if (zeta != 0.0) mass = wide_add(mass, product(2.0 * zeta, *lse));
    /* Lifted by 2^128, lowered at the end, unless the gradient is too large for it. */
    const int lift = fabs(factor.hi) * mass.hi < 0x1p800;
    if (lift) factor = wide_scale(factor, 128.0);
    const wide grown = wide_mul(wide_div(factor, v.total), mass);
    for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
        const REAL *x = NAME(logits_at)(w, x_row, start, n);
        const wide *q = NAME(targets_at)(t, start, n);
        for (ptrdiff_t i = 0; i < n; i++) {
            const wide g = wide_sub(wide_mul(NAME(term)(&v, x[i]), grown), wide_mul(q[i], factor));
            w->terms[i] = lift ? NAME(lowered)(g.hi) : NAME(rounded)(g.hi);
        }
        if (w->out->direct)
            memcpy((REAL *)out_row + start, w->terms, (size_t)n * sizeof(REAL));
        else
            scatter_block(w->layout, w->out, out_row, start, n, w->terms, sizeof(REAL));
    }
}

void KERNEL(soft_cross_entropy)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    NAME(sweeper) w;
    NAME(targets) t;
    block_scale few[XENT_BLOCKS_ON_STACK];
    wide total = {0.0, 0.0};
    if (!NAME(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        const double s = entry(&p->sample_weight, row, 1.0);
        const wide factor = NAME(row_factor)(a, row, s);
        double loss, lse;
        int large = 0;
        int64_t y = p->labels.data ? label_at(&p->labels, row, &large) : 0;
        if (p->labels.data && p->has_ignore && y == p->ignore && !large) {
            NAME(put_ignored)(a, &w, row);
            continue;
        }
        NAME(targets_start)(&t, a, row, y);
        if (p->label_smoothing == 0.0 && t.nonzero == 1) {
            y = t.last_nonzero;
            NAME(labelled) k;
            k.mass[0] = NAME(targets_at)(&t, (ptrdiff_t)y, 1)[0].hi;
            k.z[0] = (double)NAME(read_element)(a->layout, a->logits, row_of(a->layout, a->logits, row), (ptrdiff_t)y);
            k.factor_hi[0] = factor.hi, k.factor_lo[0] = factor.lo;
            NAME(make_room)(&w, p->z_loss == 0.0 ? fabs(factor.hi) * k.mass[0] : INFINITY);
            NAME(sum_rows)(&w, row, 1);
            NAME(label_rows)(&w, &k, 1, p->z_loss);
            loss = k.loss[0], lse = k.lse[0];
            if (a->grad) {
                NAME(scale_rows)(&w, 1, NULL, NULL);
                NAME(write_element)(&w, w.out_rows[0], (ptrdiff_t)y, NAME(rounded)(k.grad[0]));
            }
        } else {
            w.out = NULL; /* no terms are stored: the logits are needed again */
            NAME(sum_rows)(&w, row, 1);
            w.out = a->grad;
            w.out_rows[0] = a->grad ? row_of(a->layout, a->grad, row) : NULL;
            NAME(soft_row)(&w, &t, w.out_rows[0], p->z_loss, factor, &loss, &lse);
        }
        NAME(put_row)(a, &w, row, s, loss, lse, &total);
    }
    if (a->totals) a->totals[2 * group] = total.hi, a->totals[2 * group + 1] = total.lo;
    NAME(sweeper_stop)(&w, few);
}
#endif
