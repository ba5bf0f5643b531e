/* Second derivatives of the cross-entropy of a row, with G = A + 2 zeta lse:
 *   diagonal          factor [G p (1 - p) + 2 zeta p^2],   1 - p = (sum of the other terms) / total
 *   times vector v    factor p [G (v - mu) + 2 zeta mu],   mu = p . v
 */
#ifndef REAL
#define KERNEL_FILE "hessian.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"
#include "soft_targets.h"

static void NAME(hessian_row)(NAME(sweeper) * w, const xent_view *vector, ptrdiff_t row, wide mass, double zeta,
                              wide factor, double *numbers) {
    const ptrdiff_t classes = w->layout->classes;
    char *out_row = row_of(w->layout, w->out, row), *v_row = vector ? row_of(w->layout, vector, row) : NULL;
    const xent_view *out = w->out;
    w->out = NULL; /* no terms are stored: the logits are needed again */
    KERNEL(sum_rows)(w, row, 1);
    w->out = out;
    char *x_row = w->x_rows[0];
    const rowsum sum = sum_of(&w->batch, 0);
    if (sum.kind != ROW_FINITE) {
        NAME(row_fill)(w, out_row, (REAL)NAN);
        return;
    }
    const NAME(view_of_sum) v = NAME(look_again)(&sum);
    const wide twice = product(2.0 * zeta, zeta != 0.0 ? NAME(row_lse)(&sum, w->batch.log_s[0]) : 0.0),
               whole = wide_add(mass, twice);
    const double balance = balance_of(factor.hi, mass.hi + fabs(twice.hi));
    const wide grown = wide_scale(whole, -balance), two_zeta = {scale_by(2.0 * zeta, -balance), 0.0};
    factor = wide_scale(factor, balance);
    const wide unit = wide_div(wide_scale(factor, 128.0), v.total); /* factor / total, lifted */
    wide mean = {0.0, 0.0};
    for (int pass = vector ? 0 : 1; pass < 2; pass++) {
        for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
            const REAL *x = NAME(logits_at)(w, x_row, start, n);
            if (vector) gather_numbers(w->layout, vector, v_row, start, n, numbers);
            for (ptrdiff_t i = 0; i < n; i++) {
                const wide e = NAME(term)(&v, x[i]);
                if (pass == 0) {
                    if (e.hi != 0.0) mean = wide_add(mean, wide_mul(e, (wide){numbers[i], 0.0}));
                    continue;
                }
                wide curve;
                if (vector) {
                    const wide away = wide_sub((wide){numbers[i], 0.0}, mean);
                    curve = wide_add(wide_mul(grown, away), wide_mul(two_zeta, mean));
                } else {
                    const wide others = x[i] == v.max ? v.rest : wide_sub(v.total, e);
                    curve =
                        wide_add(wide_mul(grown, wide_div(others, v.total)), wide_mul(two_zeta, wide_div(e, v.total)));
                }
                /* in the order in which no product leaves the range of a double */
                const wide value = e.hi > 0x1p-500 * v.total.hi ? wide_mul(wide_mul(e, unit), curve)
                                                                : wide_mul(e, wide_mul(unit, curve));
                w->terms[i] = e.hi == 0.0 ? (REAL)0 : NAME(lowered)(value.hi);
                if (value.hi - value.hi != 0.0) /* too large to be lifted */
                    w->terms[i] = NAME(rounded)(wide_mul(wide_mul(e, wide_scale(unit, -128.0)), curve).hi);
            }
            if (pass == 1) scatter_block(w->layout, w->out, out_row, start, n, w->terms, sizeof(REAL));
        }
        if (pass == 0) mean = wide_div(mean, v.total);
    }
}

void KERNEL(hessian)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    NAME(sweeper) w;
    NAME(targets) t;
    block_scale few[XENT_BLOCKS_ON_STACK];
    double numbers[XENT_SMALL_BLOCK];
    const ptrdiff_t classes = a->layout->classes;
    (void)group;
    if (!KERNEL(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    NAME(targets_open)(&t, a);
    for (ptrdiff_t row = first; row < last; row++) {
        const double s = entry(&p->sample_weight, row, 1.0);
        int large = 0;
        const int64_t y = p->labels.data ? label_at(&p->labels, row, &large) : 0;
        if (s == 0.0 || (p->labels.data && p->has_ignore && y == p->ignore && !large)) {
            NAME(row_fill)(&w, row_of(a->layout, a->grad, row), (REAL)0);
            continue;
        }
        NAME(wide_lanes) masses;
        NAME(no_numbers)(&masses);
        NAME(targets_start)(&t, row, y);
        for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
            NAME(targets_at)(&t, start, n);
            NAME(add_numbers)(t.hi, n, &masses);
            if (sizeof(REAL) == 8) NAME(add_numbers)(t.lo, n, &masses);
        }
        NAME(hessian_row)
        (&w, a->vector, row, NAME(wide_total)(&masses, classes), p->z_loss, NAME(row_factor)(a, row, s), numbers);
    }
    KERNEL(sweeper_stop)(&w, few);
}
#endif
