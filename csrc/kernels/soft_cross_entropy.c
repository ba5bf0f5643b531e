/* Softmax cross-entropy with target rows: given probabilities, smoothed labels, or both, with class weights.
 *   t_c = w_c [(1 - eps) q_c + (eps / C) sum q],  A = sum t
 *   loss = A log(1 + s) + sum_c t_c (max - z_c) + zeta lse^2     every summand of one sign: nothing cancels
 *   grad = factor [(A + 2 zeta lse) p - t]
 * A row with all its mass on one class is that label's row, bit for bit. Otherwise three sweeps: the sum of the
 * exponentials, several rows at a time; the loss, by the lanes of lanes.h; the gradient. The exponentials are computed
 * again for it, in double for float32, rather than stored beside the targets. float32 rows of few classes are worked on
 * side by side (soft_side.h).
 */
#ifndef REAL
#define KERNEL_FILE "soft_cross_entropy.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"
#include "soft_targets.h"

#ifndef XENT_SOFT_CROSS_ENTROPY_C
#define XENT_SOFT_CROSS_ENTROPY_C
/* Rows that count, the classes on which all their mass lies (-1: there is no such class) or their labels, and what they come
 * to. */
typedef struct {
    ptrdiff_t row[XENT_ROWS];
    int64_t y[XENT_ROWS];
    double loss[XENT_ROWS];
    int n;
} soft_rows;

/* Some of them, and where they come from: numbers of the batch. */
static void take_rows(const soft_rows *from, const int *which, int n, soft_rows *some) {
    for (int i = 0; i < n; i++) some->row[i] = from->row[which[i]], some->y[i] = from->y[which[i]];
    some->n = n;
}
static void give_losses(const soft_rows *some, const int *which, soft_rows *to) {
    for (int i = 0; i < some->n; i++) to->loss[which[i]] = some->loss[i];
}
#endif

XENT_INLINE wide NAME(gap)(double max, double z) {
    return sizeof(REAL) == 4 ? (wide){max - z, 0.0} : two_sum(max, -z);
}

/* mass += t, gaps += t (max - x) for whole groups of lanes; where some x may not be finite (guarded, a constant), 0 * inf is 0.
 * Here and below, q not NULL: the targets as they were given, of the logits' type. */
XENT_INLINE void NAME(add_gaps_of)(const REAL *x, const REAL *q, const double *t_hi, const double *t_lo, ptrdiff_t n,
                                   double max, NAME(wide_lanes) * mass, NAME(wide_lanes) * gaps, const int guarded) {
    NAME(wide_lanes) m = *mass, g = *gaps; /* local: compilers keep them in registers */
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) {
            const wide t = {q ? (double)q[i + l] : t_hi[i + l], sizeof(REAL) == 8 && !q ? t_lo[i + l] : 0.0};
            const wide part = NAME(mul)(t, NAME(gap)(max, (double)x[i + l]));
            const int counts = !guarded || t.hi != 0.0;
            NAME(add_lane)(&m.hi[l], &m.lo[l], t);
            NAME(add_lane)(&g.hi[l], &g.lo[l], (wide){counts ? part.hi : 0.0, counts ? part.lo : 0.0});
        }
    *mass = m, *gaps = g;
}
XENT_NOINLINE void NAME(add_gaps)(const REAL *x, const double *t_hi, const double *t_lo, ptrdiff_t n, double max,
                                  NAME(wide_lanes) * mass, NAME(wide_lanes) * gaps) {
    NAME(add_gaps_of)(x, NULL, t_hi, t_lo, n, max, mass, gaps, 1);
}
XENT_NOINLINE void NAME(add_gaps_given)(const REAL *x, const REAL *q, ptrdiff_t n, double max, NAME(wide_lanes) * mass,
                                        NAME(wide_lanes) * gaps) {
    NAME(add_gaps_of)(x, q, NULL, NULL, n, max, mass, gaps, 0);
}

/* The same of targets that are all t, which is not 0. Masses by themselves: both need all registers. */
XENT_NOINLINE void NAME(add_gaps_alike)(const REAL *x, wide t, ptrdiff_t n, double max, NAME(wide_lanes) * mass,
                                        NAME(wide_lanes) * gaps) {
    NAME(wide_lanes) m = *mass, g = *gaps;
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) NAME(add_lane)(&m.hi[l], &m.lo[l], t);
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++)
            NAME(add_lane)(&g.hi[l], &g.lo[l], NAME(mul)(t, NAME(gap)(max, (double)x[i + l])));
    *mass = m, *gaps = g;
}

/* What the gradient of a row of this target mass is made of: grown term - factor t, formed `up`, a power of two, too large: so
 * much that the largest elements are about 2^128, unless they are larger by themselves, or the factor would come near to
 * overflow. Up to factor times mass of 2^800 no step before the last loses a bit to the limits of a double, but where the
 * element is 0 anyway. Where neither factor nor mass is extreme, float32's are formed as they are (up 1). */
typedef struct {
    wide grown, factor;
    double up, down; /* down = 1 / up */
} NAME(soft_factors);
XENT_INLINE int NAME(is_ordinary)(double size) {
    return ((size >= 0x1p-200) & (size < 0x1p200)) | (size == 0.0);
}
/* factor / total mass. The total is about 2^LOOK_GUARD: in float64 a small factor of a large mass would become subnormal. */
XENT_INLINE wide NAME(grown_by)(wide factor, wide total, wide mass) {
    if (sizeof(REAL) == 4) return wide_mul(wide_div(factor, total), mass);
    const double n = balance_of(factor.hi, mass.hi);
    return wide_mul(wide_div(wide_scale(factor, n), total), wide_scale(mass, -n));
}
XENT_INLINE NAME(soft_factors) NAME(soft_factors_of)(wide factor, wide total, wide mass, double zeta, double lse) {
    const double size_of_mass = mass.hi + fabs(2.0 * zeta * lse), all = fabs(factor.hi) * size_of_mass;
    const double large = fabs(factor.hi) * 0x1p-800, least = all < 2.0 ? all : 1.0,
                 size = least > large ? least : large;
    const uint64_t exponent = bits_of(size) & (uint64_t)0x7ff << 52;
    double up = from_bits(((uint64_t)(1023 + 128 + 1023) << 52) - exponent); /* for a size from 2^-894 to 2^128 */
    up = size < 0x1p-894 ? 0x1p1022 : up, up = size < 0x1p128 ? up : 1.0, up = all < 0x1p800 ? up : 1.0;
    if (sizeof(REAL) == 4) up = NAME(is_ordinary)(fabs(factor.hi)) & NAME(is_ordinary)(size_of_mass) ? 1.0 : up;
    const wide raised = {factor.hi * up, factor.lo * up};
    factor.hi = fabs(raised.hi) < 0x1p-1022 ? 0.0 : raised.hi,
    factor.lo = fabs(raised.lo) < 0x1p-1022 ? 0.0 : raised.lo;
    return (NAME(soft_factors)){NAME(grown_by)(factor, total, wide_add(mass, product(2.0 * zeta, lse))), factor, up,
                                from_bits(((uint64_t)2046 << 52) - bits_of(up))};
}

/* grown term - factor t of one logit; below the smallest normal number it is 0. `deep`: some logit may be so far below the
 * maximum that it counts for nothing; or float32's are lifted, which is seldom so. */
XENT_INLINE REAL NAME(soft_grad)(REAL z, wide t, const NAME(view_of_sum) * view, const NAME(soft_factors) * by,
                                 const int deep) {
    const wide e = deep ? NAME(term)(view, z) : NAME(exp_wide)(z, view->offset), p = NAME(mul)(e, by->grown);
    const double g = NAME(sub)(p, NAME(mul)(t, by->factor)).hi;
    if (sizeof(REAL) == 4 && !deep) return (REAL)zero_if(fabs(g) < REAL_MIN, g); /* up is 1 */
    return (REAL)zero_if(fabs(g) < REAL_MIN * by->up, g * by->down);
}

/* Of whole groups of lanes, to out. */
XENT_INLINE void NAME(soft_grads_of)(const REAL *restrict x, const REAL *restrict q, const double *restrict t_hi,
                                     const double *restrict t_lo, const wide *alike, ptrdiff_t n,
                                     const NAME(view_of_sum) * view, const NAME(soft_factors) * by, REAL *restrict out,
                                     const int deep) {
    const NAME(view_of_sum) v = *view;
    const NAME(soft_factors) f = *by;
    const wide all = alike ? *alike : (wide){0.0, 0.0};
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) {
            const wide t =
                alike ? all : (wide){q ? (double)q[i + l] : t_hi[i + l], sizeof(REAL) == 8 && !q ? t_lo[i + l] : 0.0};
            out[i + l] = NAME(soft_grad)(x[i + l], t, &v, &f, deep);
        }
}
XENT_NOINLINE void NAME(soft_grads)(const REAL *x, const double *t_hi, const double *t_lo, ptrdiff_t n,
                                    const NAME(view_of_sum) * view, const NAME(soft_factors) * by, REAL *out) {
    NAME(soft_grads_of)(x, NULL, t_hi, t_lo, NULL, n, view, by, out, 0);
}
XENT_NOINLINE void NAME(soft_grads_given)(const REAL *x, const REAL *q, ptrdiff_t n, const NAME(view_of_sum) * view,
                                          const NAME(soft_factors) * by, REAL *out) {
    NAME(soft_grads_of)(x, q, NULL, NULL, NULL, n, view, by, out, 0);
}
XENT_NOINLINE void NAME(soft_grads_alike)(const REAL *x, const wide *alike, ptrdiff_t n, const NAME(view_of_sum) * view,
                                          const NAME(soft_factors) * by, REAL *out) {
    NAME(soft_grads_of)(x, NULL, NULL, NULL, alike, n, view, by, out, 0);
}
XENT_NOINLINE void NAME(soft_grads_deep)(const REAL *x, const double *t_hi, const double *t_lo, ptrdiff_t n,
                                         const NAME(view_of_sum) * view, const NAME(soft_factors) * by, REAL *out) {
    NAME(soft_grads_of)(x, NULL, t_hi, t_lo, NULL, n, view, by, out, 1);
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

/* Gaps and gradients of n classes from `start` on, in whole groups of lanes, where targets are alike but for the label's. */
static void NAME(gaps_but_label)(NAME(targets) * t, ptrdiff_t start, ptrdiff_t n, const REAL *x, double max,
                                 NAME(wide_lanes) * masses, NAME(wide_lanes) * gaps) {
    const ptrdiff_t label = (ptrdiff_t)t->label - start,
                    at = label >= 0 && label < n ? label / XENT_LANES * XENT_LANES : n;
    const ptrdiff_t behind = at + XENT_LANES; /* of its group */
    if (at) NAME(add_gaps_alike)(x, t->other, at, max, masses, gaps);
    if (at == n) return;
    NAME(targets_at)(t, start + at, XENT_LANES);
    NAME(add_gaps)(x + at, t->hi, t->lo, XENT_LANES, max, masses, gaps);
    if (behind < n) NAME(add_gaps_alike)(x + behind, t->other, n - behind, max, masses, gaps);
}
static void NAME(grads_but_label)(const NAME(targets) * t, ptrdiff_t start, ptrdiff_t n, const REAL *x,
                                  const NAME(view_of_sum) * view, const NAME(soft_factors) * by, REAL *out) {
    const ptrdiff_t label = (ptrdiff_t)t->label - start;
    NAME(soft_grads_alike)(x, &t->other, n, view, by, out);
    if (label >= 0 && label < n) out[label] = NAME(soft_grad)(x[label], t->its, view, by, 0);
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
    const REAL *given = NAME(given_targets)(t);
    REAL few[L], least = (REAL)sum.min; /* few: the logits behind the last whole group, of the last block */
    for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK, whole = n / L * L;
        const REAL *x = NAME(logits_at)(w, x_row, start, n);
        const double *t_hi = t->hi, *t_lo = t->lo;
        if (classes > XENT_BLOCK) { /* the sum of several blocks does not know of those that are -inf throughout */
            REAL most, here;
            KERNEL(extremes)(x, n, &most, &here);
            least = here < least ? here : least;
        }
        if (least == -REAL_INF) given = NULL;
        if (!given && !t->alike) NAME(targets_at)(t, start, n);
        if (given && whole)
            NAME(add_gaps_given)(x, given + start, whole, sum.max, &masses, &all_gaps);
        else if (t->alike && whole)
            NAME(gaps_but_label)(t, start, whole, x, sum.max, &masses, &all_gaps);
        else if (whole)
            NAME(add_gaps)(x, t_hi, t_lo, whole, sum.max, &masses, &all_gaps), t_hi += whole, t_lo += whole;
        if (whole == n) continue;
        if (given || t->alike) NAME(targets_at)(t, start + whole, n - whole);
        for (int l = 0; l < L; l++) few[l] = (REAL)sum.max;
        memcpy(few, x + whole, (size_t)(n - whole) * sizeof *few);
        NAME(add_gaps)(few, t_hi, t_lo, L, sum.max, &masses, &all_gaps);
    }
    const wide mass = NAME(wide_total)(&masses, classes), gaps = NAME(wide_total)(&all_gaps, classes);
    *loss = NAME(add)(gaps, product(mass.hi, log_s)).hi;
    if (!(*loss - *loss == 0.0)) *loss = NAME(odd_loss)(w, t, &sum, x_row, log_s, zeta);
    if (zeta != 0.0) *loss += zeta * *lse * *lse;
    if (!out_row) return;

    const NAME(view_of_sum) v = NAME(look_again)(&sum);
    const NAME(soft_factors) f = NAME(soft_factors_of)(factor, v.total, mass, zeta, *lse);
    const int deep = sum.far || (double)least < v.floor || (sizeof(REAL) == 4 && f.up != 1.0);
    const int alike = t->alike && !deep, straight = w->out->direct && !w->streams && out_row != x_row;
    const int at_hand = !given && !t->alike && classes <= XENT_SMALL_BLOCK; /* the targets, still */
    if (deep) given = NULL;
    for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK, whole = n / L * L;
        const REAL *x = NAME(logits_at)(w, x_row, start, n);
        const double *t_hi = t->hi, *t_lo = t->lo;
        REAL *to = straight ? (REAL *)out_row + start : w->terms;
        if (!given && !alike && !at_hand) NAME(targets_at)(t, start, n);
        if (given && whole)
            NAME(soft_grads_given)(x, given + start, whole, &v, &f, to);
        else if (alike && whole)
            NAME(grads_but_label)(t, start, whole, x, &v, &f, to);
        else if (whole)
            (deep ? NAME(soft_grads_deep) : NAME(soft_grads))(x, t_hi, t_lo, whole, &v, &f, to), t_hi += whole,
                t_lo += whole;
        if (whole < n) {
            if (given || alike) NAME(targets_at)(t, start + whole, n - whole);
            (deep ? NAME(soft_grads_deep) : NAME(soft_grads))(few, t_hi, t_lo, L, &v, &f, w->terms + whole);
        }
        if (straight)
            memcpy(to + whole, w->terms + whole, (size_t)(n - whole) * sizeof(REAL));
        else if (!w->out->direct)
            scatter_block(w->layout, w->out, out_row, start, n, w->terms, sizeof(REAL));
        else if (w->streams)
            stream_out((REAL *)out_row + start, w->terms, n * (ptrdiff_t)sizeof(REAL));
        else
            memcpy((REAL *)out_row + start, w->terms, (size_t)n * sizeof(REAL));
    }
}

#include "soft_side.h"

/* Rows whose mass lies on class y alone. float64 rows may need different guards (rows_alike in cross_entropy.c), and go one
 * by one. */
static void NAME(only_rows)(const xent_loss_args *a, NAME(sweeper) * w, soft_rows *rows) {
    const xent_cross_entropy_problem *p = a->problem;
    const int step = sizeof(REAL) == 4 ? rows->n : 1, in_place = a->grad && a->grad->data == a->logits->data;
    NAME(labelled) k;
    double weight[XENT_ROWS];
    w->out = a->grad, w->keeps_logits = 0;
    for (int at = 0; at < rows->n; at += step) {
        const ptrdiff_t *row = rows->row + at;
        const int64_t *y = rows->y + at;
        double times = 0.0;
        NAME(row_weights)(a, row, step, weight, &k);
        k.large = 0;
        for (int r = 0; r < step; r++) {
            double q;
            gather_numbers(a->layout, a->probabilities, row_of(a->layout, a->probabilities, row[r]), (ptrdiff_t)y[r], 1,
                           &q);
            k.mass[r] = NAME(mul)((wide){q, 0.0}, (wide){entry(&p->class_weight, (ptrdiff_t)y[r], 1.0), 0.0}).hi;
            k.large |= is_large(k.mass[r]);
            const double counted = NAME(times_counted)(p, &k, r, weight[r]);
            times = counted > times ? counted : times;
        }
        NAME(make_room)(w, p->z_loss == 0.0 ? times : INFINITY);
        KERNEL(find_these)(w, row, step);
        if (in_place) NAME(label_logits)(w, step, y, k.z); /* before they are overwritten */
        KERNEL(sum_found)(w, step);
        if (!in_place) NAME(label_logits)(w, step, y, k.z);
        NAME(label_rows)(w, &k, step, p->z_loss);
        for (int r = 0; r < step; r++) k.loss[r] = k.loss[r] == k.loss[r] ? k.loss[r] : NAN; /* of one sign */
        const int weightless = NAME(put_losses)(a, row, step, weight, &k);
        memcpy(rows->loss + at, k.loss, (size_t)step * sizeof *k.loss);
        if (!a->grad) continue;
        KERNEL(scale_rows)(w, step, NULL);
        for (int r = 0; r < step; r++)
            NAME(write_element)(w, w->out_rows[r], (ptrdiff_t)y[r], NAME(rounded)(k.grad[r]));
        if (weightless) NAME(fill_weightless)(a, w, step, weight);
    }
}

/* Other rows. If by_side, they are short enough to be worked on side by side, and `side` has their numbers. */
static void NAME(spread_rows)(const xent_loss_args *a, NAME(sweeper) * w, NAME(targets) * t, NAME(soft_side) * side,
                              int by_side, soft_rows *rows) {
    const xent_cross_entropy_problem *p = a->problem;
    const int n = rows->n;
    NAME(labelled) k;
    double weight[XENT_ROWS];
    const asked_lines asked = w->out_asked;
    w->out = NULL;                   /* no terms are stored: the logits are needed again */
    w->out_asked = (asked_lines){0}; /* side_rows asks for the lines of the results */
    NAME(make_room)(w, INFINITY);    /* as often as they may count */
    w->keeps_logits = by_side;
    KERNEL(find_these)(w, rows->row, n);
    KERNEL(sum_found)(w, n);
    w->out = a->grad, w->out_asked = asked;
    if (a->grad) these_rows(a->layout, a->grad, rows->row, n, w->out_rows);
    NAME(row_weights)(a, rows->row, n, weight, &k);
    const int together = by_side && w->side_by_side;
    const int rest = !together || NAME(side_rows)(a, w, side, rows->row, n, &k);
    for (int r = 0; r < n && rest; r++) {
        if (together && side->odd[r] == 0.0) continue;
        NAME(targets_start)(t, rows->row[r], rows->y[r]);
        if (r + 1 < n) NAME(ask_for_targets)(t, rows->row[r + 1]);
        NAME(soft_row)
        (w, r, t, w->out_rows[r], p->z_loss, (wide){k.factor_hi[r], k.factor_lo[r]}, &k.loss[r], &k.lse[r]);
        k.loss[r] = k.loss[r] == k.loss[r] ? k.loss[r] : NAN; /* of one sign */
    }
    if (NAME(put_losses)(a, rows->row, n, weight, &k)) NAME(fill_weightless)(a, w, n, weight);
    memcpy(rows->loss, k.loss, (size_t)n * sizeof *k.loss);
}

/* The next rows that count, `most` at most, up to `last`; the others get what such rows get. Where to go on. */
static ptrdiff_t NAME(next_soft)(const xent_loss_args *a, NAME(sweeper) * w, ptrdiff_t first, ptrdiff_t last, int most,
                                 soft_rows *rows) {
    const xent_cross_entropy_problem *p = a->problem;
    const int n = last - first < most ? (int)(last - first) : most, labels = p->labels.data != NULL;
    int64_t copied[XENT_ROWS];
    const int64_t *y = labels ? labels_at(&p->labels, first, n, copied) : NULL;
    rows->n = n;
    for (int r = 0; r < n; r++) rows->row[r] = first + r;
    for (int r = 0; r < n; r++) rows->y[r] = labels ? y[r] : -1;
    if (!labels || !p->has_ignore) return first + n;
    rows->n = 0;
    for (int r = 0; r < n; r++) {
        if (y[r] == p->ignore)
            NAME(put_ignored)(a, w, first + r);
        else
            rows->row[rows->n] = first + r, rows->y[rows->n++] = y[r];
    }
    return first + n;
}

/* Those whose mass lies on one class, and the others, as numbers of the batch; how many others there are, all of them if none
 * is told. */
static int NAME(tell_apart)(const xent_loss_args *a, NAME(targets) * t, NAME(soft_side) * side, int by_side,
                            soft_rows *rows, int *only, int *others) {
    double count[XENT_SIDE], which[XENT_SIDE];
    int n_only = 0, n = 0;
    if (!a->probabilities || a->problem->label_smoothing != 0.0) return rows->n;
    if (by_side && !NAME(some_only)(side, a->layout->classes, count, which)) return rows->n;
    for (int r = 0; r < rows->n; r++) {
        const int64_t its = by_side && count[r] == 1.0 ? (int64_t)which[r] : -1;
        rows->y[r] = by_side ? its : NAME(only_class)(t, rows->row[r]);
        if (rows->y[r] >= 0)
            only[n_only++] = r;
        else
            others[n++] = r;
    }
    return n;
}

void KERNEL(soft_cross_entropy)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    NAME(sweeper) w;
    NAME(targets) t;
    NAME(soft_side) side;
    soft_rows rows, some;
    block_scale few[XENT_BLOCKS_ON_STACK];
    loss_sums sums = sums_from(a, first, last, group);
    if (!KERNEL(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    w.streams = NAME(goes_past)(a->layout, a->logits, a->grad); /* soft_row's: may_stream was measured without */
    NAME(targets_open)(&t, a);
    const ptrdiff_t classes = a->layout->classes;
    const int by_side = sizeof(REAL) == 4 && classes > 1 && classes <= XENT_NARROW && a->logits->direct &&
                        (!a->grad || a->grad->direct);
    side.n_hot = -1;
    const int at_once = by_side ? XENT_SIDE : NAME(rows_at_once)(&w);
    while (first < last) {
        int only[XENT_ROWS], spread[XENT_ROWS];
        first = NAME(next_soft)(a, &w, first, last, at_once, &rows);
        if (!rows.n) continue;
        const int all_sides = by_side && rows.n > w.alone;
        if (all_sides) NAME(side_numbers)(a, &t, rows.row, rows.y, rows.n, &side);
        const int others = NAME(tell_apart)(a, &t, &side, all_sides, &rows, only, spread);
        if (others == rows.n)
            NAME(spread_rows)(a, &w, &t, &side, all_sides, &rows);
        else {
            const int sides = by_side && others > w.alone;
            take_rows(&rows, spread, others, &some);
            if (sides) NAME(side_numbers)(a, &t, some.row, some.y, others, &side);
            if (others) NAME(spread_rows)(a, &w, &t, &side, sides, &some), give_losses(&some, spread, &rows);
            take_rows(&rows, only, rows.n - others, &some);
            NAME(only_rows)(a, &w, &some);
            give_losses(&some, only, &rows);
        }
        count_rows(&sums, rows.row, rows.loss, rows.n);
    }
    while (sums.end < last) close_group(&sums);
    close_group(&sums);
    KERNEL(sweeper_stop)(&w, few);
}
#endif
