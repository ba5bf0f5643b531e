/* Softmax cross-entropy with target rows: given probabilities, smoothed labels, or both, with class weights.
 *   t_c = w_c [(1 - eps) q_c + (eps / C) sum q],  A = sum t
 *   loss = A log(1 + s) + sum_c t_c (max - z_c) + zeta lse^2     every summand of one sign: nothing cancels
 *   grad = factor [(A + 2 zeta lse) p - t]
 * A row with all its mass on one class is that label's row, bit for bit. Otherwise three sweeps: the sum of the
 * exponentials, several rows at a time; the loss, by the lanes of lanes.h; the gradient. The exponentials are computed
 * again for it, in double for float32, rather than stored beside the targets.
 */
#ifndef REAL
#define KERNEL_FILE "soft_cross_entropy.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"
#include "soft_targets.h"

XENT_INLINE wide NAME(gap)(double max, double z) {
    return sizeof(REAL) == 4 ? (wide){max - z, 0.0} : two_sum(max, -z);
}

/* mass += t, gaps += t (max - x) for whole groups of lanes; 0 * inf is 0. */
XENT_NOINLINE void NAME(add_gaps)(const REAL *x, const double *t_hi, const double *t_lo, ptrdiff_t n, double max,
                                  NAME(wide_lanes) * mass, NAME(wide_lanes) * gaps) {
    NAME(wide_lanes) m = *mass, g = *gaps; /* local: compilers keep them in registers */
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) {
            const wide t = {t_hi[i + l], sizeof(REAL) == 8 ? t_lo[i + l] : 0.0};
            const wide part = NAME(mul)(t, NAME(gap)(max, (double)x[i + l]));
            const int counts = t.hi != 0.0;
            NAME(add_lane)(&m.hi[l], &m.lo[l], t);
            NAME(add_lane)(&g.hi[l], &g.lo[l], (wide){counts ? part.hi : 0.0, counts ? part.lo : 0.0});
        }
    *mass = m, *gaps = g;
}

/* out = grown term - factor t for whole groups of lanes, formed too large by 1 / down; below `least` it is 0. */
XENT_NOINLINE void NAME(soft_grads)(const REAL *restrict x, const double *restrict t_hi, const double *restrict t_lo,
                                    ptrdiff_t n, const NAME(view_of_sum) * view, wide grown, wide factor, double down,
                                    REAL *restrict out) {
    const NAME(view_of_sum) v = *view;
    const double least = REAL_MIN / down;
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) {
            const wide p = NAME(mul)(NAME(term)(&v, x[i + l]), grown),
                       t = NAME(mul)((wide){t_hi[i + l], sizeof(REAL) == 8 ? t_lo[i + l] : 0.0}, factor);
            const double g = NAME(sub)(p, t).hi;
            out[i + l] = fabs(g) < least ? (REAL)0 : (REAL)(g * down);
        }
}

/* The loss of a row that is not finite, or whose sum of gaps is not: class by class. */
XENT_NOINLINE double NAME(odd_loss)(NAME(sweeper) * w, NAME(targets) * t, const rowsum *sum, char *x_row, double log_s,
                                    double zeta) {
    const ptrdiff_t classes = w->layout->classes;
    const int finite = sum->kind == ROW_FINITE;
    const double lse = NAME(row_lse)(sum, log_s);
    wide mass = {0.0, 0.0}, gaps = {0.0, 0.0};
    double infinite = 0.0;
    for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
        const REAL *x = NAME(logits_at)(w, x_row, start, n);
        NAME(targets_at)(t, start, n);
        for (ptrdiff_t i = 0; i < n; i++) {
            const wide q = {t->hi[i], t->lo[i]};
            if (q.hi == 0.0) continue; /* 0 * inf is 0 */
            mass = wide_add(mass, q);
            if (!finite) {
                infinite += lse - (double)x[i];
                continue;
            }
            const wide gap = difference(sum->max, (double)x[i]);
            if (gap.hi == INFINITY && x[i] > -REAL_INF) /* the product need not overflow with it */
                gaps = wide_add(
                    gaps, wide_mul((wide){4.0 * q.hi, 4.0 * q.lo}, difference(0.25 * sum->max, 0.25 * (double)x[i])));
            else if (gap.hi == INFINITY)
                infinite = INFINITY;
            else
                gaps = wide_add(gaps, wide_mul(q, gap));
        }
    }
    if (!finite) return sum->kind == ROW_INFINITE ? infinite + (zeta != 0.0 ? INFINITY : 0.0) : NAN;
    const double loss = infinite + wide_add(gaps, product(mass.hi, log_s)).hi;
    return loss == loss ? loss : INFINITY; /* no summand is NaN or negative: the sum overflowed */
}

/* Row r of the last sum_rows. */
static void NAME(soft_row)(NAME(sweeper) * w, int r, NAME(targets) * t, char *out_row, double zeta, wide factor,
                           double *loss, double *lse) {
    enum { L = XENT_LANES };
    const ptrdiff_t classes = w->layout->classes;
    const rowsum sum = sum_of(&w->batch, r);
    const double log_s = w->batch.log_s[r];
    char *x_row = w->x_rows[r];
    *lse = NAME(row_lse)(&sum, log_s);
    if (sum.kind != ROW_FINITE) {
        *loss = NAME(odd_loss)(w, t, &sum, x_row, log_s, zeta);
        if (out_row) NAME(row_fill)(w, out_row, (REAL)NAN);
        return;
    }
    NAME(wide_lanes) masses, all_gaps;
    NAME(no_numbers)(&masses), NAME(no_numbers)(&all_gaps);
    REAL few[L];
    for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK, whole = n / L * L;
        const REAL *x = NAME(logits_at)(w, x_row, start, n);
        NAME(targets_at)(t, start, n);
        if (whole) NAME(add_gaps)(x, t->hi, t->lo, whole, sum.max, &masses, &all_gaps);
        if (whole == n) continue;
        for (int l = 0; l < L; l++) few[l] = whole + l < n ? x[whole + l] : (REAL)sum.max;
        NAME(add_gaps)(few, t->hi + whole, t->lo + whole, L, sum.max, &masses, &all_gaps);
    }
    wide mass = NAME(wide_total)(&masses, classes);
    const wide gaps = NAME(wide_total)(&all_gaps, classes);
    *loss = NAME(add)(gaps, product(mass.hi, log_s)).hi;
    if (!(*loss - *loss == 0.0)) *loss = NAME(odd_loss)(w, t, &sum, x_row, log_s, zeta);
    if (zeta != 0.0) *loss += zeta * *lse * *lse;
    if (!out_row) return;

    const NAME(view_of_sum) v = NAME(look_again)(&sum);
    /* Formed so much too large that the largest elements are about 2^128, unless they are larger by themselves: no step
     * before the last comes near a subnormal number. */
    const double size = fabs(factor.hi) * (mass.hi + fabs(2.0 * zeta * *lse));
    const int exponent = size > 0x1p-1000 ? exponent_of(size) : -1000;
    const int lift = !(size < 0x1p800) ? 0 : exponent > 0 ? 128 : exponent < -894 ? 1022 : 128 - exponent;
    const double down = power_of_two(-lift);
    if (zeta != 0.0) mass = wide_add(mass, product(2.0 * zeta, *lse));
    factor = wide_scale(factor, lift);
    const wide grown = wide_mul(wide_div(factor, v.total), mass);
    for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK, whole = n / L * L;
        const REAL *x = NAME(logits_at)(w, x_row, start, n);
        if (classes > XENT_SMALL_BLOCK) NAME(targets_at)(t, start, n);
        for (int l = 0; l < L; l++) few[l] = whole + l < n ? x[whole + l] : 0;
        if (whole) NAME(soft_grads)(x, t->hi, t->lo, whole, &v, grown, factor, down, w->terms);
        if (whole < n)
            NAME(soft_grads)(few, t->hi + whole, t->lo + whole, L, &v, grown, factor, down, w->terms + whole);
        if (w->out->direct) {
            REAL *out = (REAL *)out_row + start;
            if (whole) memcpy(out, w->terms, (size_t)whole * sizeof(REAL));
            for (ptrdiff_t i = whole; i < n; i++) out[i] = w->terms[i];
        } else
            scatter_block(w->layout, w->out, out_row, start, n, w->terms, sizeof(REAL));
    }
}

/* A row whose mass lies on class y alone. */
static inline void NAME(only_row)(const xent_loss_args *a, NAME(sweeper) * w, ptrdiff_t row, ptrdiff_t y, double s,
                                  wide factor, double mass, wide *total) {
    NAME(labelled) k;
    k.mass[0] = mass;
    k.z[0] = (double)NAME(read_element)(a->layout, a->logits, row_of(a->layout, a->logits, row), y);
    k.factor_hi[0] = factor.hi, k.factor_lo[0] = factor.lo;
    NAME(make_room)(w, a->problem->z_loss == 0.0 ? fabs(factor.hi) * mass : INFINITY);
    w->out = a->grad;
    NAME(sum_rows)(w, row, 1);
    NAME(label_rows)(w, &k, 1, a->problem->z_loss);
    if (a->grad) {
        NAME(scale_rows)(w, 1, NULL);
        NAME(write_element)(w, w->out_rows[0], y, NAME(rounded)(k.grad[0]));
    }
    NAME(put_row)(a, w, row, s, k.loss[0], k.lse[0], total);
}

void KERNEL(soft_cross_entropy)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    NAME(sweeper) w;
    NAME(targets) t;
    block_scale few[XENT_BLOCKS_ON_STACK];
    wide total = {0.0, 0.0};
    if (!NAME(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    NAME(targets_open)(&t, a);
    w.streams = 0;
    const int at_once = NAME(rows_at_once)(&w);
    while (first < last) { /* some rows together, up to one that is to be ignored or has a single class */
        int64_t y[XENT_ROWS];
        int rows = 0, ignored = 0;
        ptrdiff_t only = -1;
        for (; rows < at_once && first + rows < last; rows++) {
            int large = 0;
            y[rows] = p->labels.data ? label_at(&p->labels, first + rows, &large) : 0;
            ignored = p->labels.data && p->has_ignore && y[rows] == p->ignore && !large;
            if (!p->labels.data && p->label_smoothing == 0.0) only = NAME(only_class)(&t, first + rows);
            if (ignored || only >= 0) break;
        }
        w.out = NULL;                  /* no terms are stored: the logits are needed again */
        NAME(make_room)(&w, INFINITY); /* as often as they may count */
        if (rows) NAME(sum_rows)(&w, first, rows);
        w.out = a->grad;
        for (int r = 0; r < rows; r++, first++) {
            const double s = entry(&p->sample_weight, first, 1.0);
            double loss, lse;
            w.out_rows[0] = a->grad ? row_of(a->layout, a->grad, first) : NULL;
            NAME(targets_start)(&t, first, y[r]);
            NAME(soft_row)(&w, r, &t, w.out_rows[0], p->z_loss, NAME(row_factor)(a, first, s), &loss, &lse);
            NAME(put_row)(a, &w, first, s, loss, lse, &total);
        }
        if (ignored) NAME(put_ignored)(a, &w, first++);
        if (only >= 0) {
            const double s = entry(&p->sample_weight, first, 1.0);
            NAME(targets_start)(&t, first, 0);
            NAME(targets_at)(&t, only, 1);
            NAME(only_row)(a, &w, first, only, s, NAME(row_factor)(a, first, s), t.hi[0], &total);
            first++;
        }
    }
    put_total(a, group, total);
    NAME(sweeper_stop)(&w, few);
}
#endif
