/* What the loss kernels share: a row's weight, the running total of the losses, and a row with one label.
 * Included once per dtype, after row.h. */
#include "row.h"

#ifndef XENT_LOSS_ROW_H
#define XENT_LOSS_ROW_H
/* total += loss, with what the addition loses kept apart; an infinite loss stays infinite. */
XENT_INLINE void add_loss(wide *total, double loss) {
    add_kept(&total->hi, &total->lo, loss);
}

/* The sum of the losses of a group of rows. */
XENT_INLINE void put_total(const xent_loss_args *a, ptrdiff_t group, wide total) {
    a->totals[2 * group] = total.hi, a->totals[2 * group + 1] = total.lo;
}

/* One weight and one factor for all rows. */
XENT_INLINE int weigh_alike(const xent_cross_entropy_problem *p) {
    return (!p->sample_weight.data || !p->sample_weight.stride) && (!p->grad_loss.data || !p->grad_loss.stride);
}

/* The sums of rows first .. last - 1, of `group` and those behind it. A call may begin within a group, where the one before
 * it on the same thread ended. */
static inline loss_sums sums_from(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    loss_sums sums = {a->totals, group, a->group_rows, last, {0.0, 0.0}};
    if (!a->group_rows) return sums;
    sums.end = (group + 1) * a->group_rows;
    if (first > group * a->group_rows) sums.sum = (wide){a->totals[2 * group], a->totals[2 * group + 1]};
    return sums;
}

XENT_INLINE wide product(double a, double b) { /* a b, exactly */
    double p = a * b;
    return (wide){p, fma(a, b, -p)};
}

/* How many powers of two a factor takes from what it multiplies. One may be extreme because the other is: as many as bring the
 * factor to 1, if the other has them, so that no step in between meets the limits of a double; no bit changes. */
XENT_INLINE double balance_of(double factor, double size) {
    const double its = fabs(factor);
    if (!(its >= 0x1p-1022 && its < INFINITY && size >= 0x1p-1022 && size < INFINITY)) return 0.0;
    const int wants = -exponent_of(its), has = exponent_of(size);
    if (wants > 0 && has > 0) return wants < has ? wants : has;
    if (wants < 0 && has < 0) return wants > has ? wants : has;
    return 0.0;
}
/* Of the mass of a label's row: whether factors so small that it makes them ordinary may become subnormal before. */
XENT_INLINE int is_large(double mass) {
    return mass > 0x1p16;
}

/* u - v >= 0 as hi + lo; infinite where it overflows or v is -inf. */
XENT_INLINE wide difference(double u, double v) {
    double d = u - v;
    return d - d == 0.0 ? two_sum(u, -v) : (wide){d, 0.0};
}
#endif

static inline REAL NAME(read_element)(const xent_layout *layout, const xent_view *x, char *row, ptrdiff_t i) {
    const char *at = element_of(layout, x, row, i);
    REAL v;
    if (sizeof(REAL) == 4 && is_half(x->type)) {
        uint16_t half;
        fetch(&half, at, sizeof half, x->swapped);
        line_from_half(x->type, &half, (float *)(void *)&v, 1);
    } else
        fetch(&v, at, sizeof v, x->swapped);
    return v;
}

/* Rows whose target mass A lies on one class y each: what goes in, z the label's logit read before the row was
 * overwritten, and what comes out. large: some mass is. */
typedef struct {
    int large;
    double z[XENT_ROWS], mass[XENT_ROWS], factor_hi[XENT_ROWS], factor_lo[XENT_ROWS];
    double loss[XENT_ROWS], lse[XENT_ROWS], grad[XENT_ROWS];
} NAME(labelled);

/* The factor of a row's gradient: sample weight / divisor * the caller's own gradient. */
XENT_INLINE wide NAME(row_factor)(const xent_loss_args *a, ptrdiff_t row, double sample_weight) {
    wide scale = {a->grad_scale[0], a->grad_scale[1]};
    return NAME(mul)(scale, product(sample_weight, entry(&a->problem->grad_loss, row, 1.0)));
}

/* What rows count for: their weights, and the factors of their gradients. */
static inline void NAME(row_weights)(const xent_loss_args *a, const ptrdiff_t *row, int n, double *weight,
                                     NAME(labelled) * k) {
    const xent_vector *weights = &a->problem->sample_weight;
    const int alike = weigh_alike(a->problem);
    const double common = alike ? entry(weights, 0, 1.0) : 1.0;
    const wide factor = alike ? NAME(row_factor)(a, 0, common) : (wide){0.0, 0.0};
    for (int r = 0; r < n; r++) weight[r] = common, k->factor_hi[r] = factor.hi, k->factor_lo[r] = factor.lo;
    for (int r = 0; r < n && !alike; r++) {
        weight[r] = entry(weights, row[r], 1.0);
        const wide own = NAME(row_factor)(a, row[r], weight[r]);
        k->factor_hi[r] = own.hi, k->factor_lo[r] = own.lo;
    }
}

/* How often the terms of row r are counted: in its gradient; of float32, also in its loss, where that has a factor of its own.
 * (float64 would lose more by the deep guard, in a gradient that counts little, than it gains.) */
XENT_INLINE double NAME(times_counted)(const xent_cross_entropy_problem *p, const NAME(labelled) * k, int r,
                                       double weight) {
    const double factor = fabs(k->factor_hi[r]),
                 loss_factor = sizeof(REAL) == 4 && p->grad_loss.data ? fabs(weight) : 0.0;
    return (factor > loss_factor ? factor : loss_factor) * k->mass[r];
}

/* The logits at the labels of n rows, `stride` elements from class to class. */
XENT_NOINLINE void NAME(logits_at_labels)(char *const *rows, const int64_t *restrict y, int n, ptrdiff_t stride,
                                          double *restrict z) {
    for (int r = 0; r < n; r++) z[r] = (double)((const REAL *)rows[r])[y[r] * stride];
}

/* The same of n rows that were found. */
static inline void NAME(label_logits)(const NAME(sweeper) * w, int n, const int64_t *y, double *z) {
    const xent_view *from = w->x->blocks ? w->x->blocks->from : w->x; /* blocks: no more in the pack, or not yet */
    const ptrdiff_t stride = w->x->blocks ? 0 : w->x->columns ? w->x->columns : w->x->direct ? 1 : 0;
    if (stride) {
        NAME(logits_at_labels)(w->x_rows, y, n, stride, z);
        return;
    }
    for (int r = 0; r < n; r++) {
        char *row = w->x->blocks ? row_of(w->layout, from, w->first + r) : w->x_rows[r];
        z[r] = (double)NAME(read_element)(w->layout, from, row, (ptrdiff_t)y[r]);
    }
}

/* One finite row, term = e^z in the scale of its sum:
 *   loss = A (lse - z_y) + zeta lse^2,   grad = factor [(A + 2 zeta lse) p - A 1_y]
 * with A p_y - A = -A (sum of the other terms) / total, which keeps every digit where p_y is nearly 1.
 * multiplier: what the terms are to be scaled by. large: the mass may be. */
XENT_INLINE void NAME(label_core)(wide top, wide rest, double log_s, double max, double z, wide term, double mass,
                                  double zeta, wide factor, double *loss, double *lse, double *grad, wide *multiplier,
                                  const int large) {
    const int is_max = z == max;
    const wide gap = difference(max, z);
    const wide total = NAME(add)(top, rest);
    const wide below = NAME(sub)(total, term);
    const wide others = {is_max ? rest.hi : below.hi, is_max ? rest.lo : below.lo};
    *lse = max + log_s;
    *loss = mass == 0.0 ? 0.0 : mass * (gap.hi + (gap.lo + log_s));
    *loss += zeta == 0.0 ? 0.0 : zeta * *lse * *lse;
    wide lse_part = product(2.0 * zeta, zeta == 0.0 ? 0.0 : *lse);
    if (large) {
        const double n = balance_of(factor.hi, mass > fabs(lse_part.hi) ? mass : fabs(lse_part.hi));
        factor = wide_scale(factor, n), lse_part = wide_scale(lse_part, -n), mass = scale_by(mass, -n);
    }
    const wide unit = NAME(div)(factor, total);
    const wide share = zeta == 0.0 ? (wide){mass, 0.0} : NAME(add)((wide){mass, 0.0}, lse_part);
    *multiplier = NAME(mul)(unit, share);
    wide at_label = NAME(mul)(NAME(mul)(unit, others), (wide){-mass, 0.0});
    if (zeta != 0.0) at_label = NAME(add)(at_label, NAME(mul)(NAME(mul)(unit, term), lse_part));
    *grad = at_label.hi;
}

/* Rows of a batch, side by side, as if all were finite and none far. Whether one is not finite, or far, or has a label's logit
 * that lies too deep. (Pointers are not `restrict`: with what gcc 12 makes of it, 1000 x 1024 takes 1.06 to 1.09 of the time.) */
XENT_INLINE uint64_t NAME(label_batch)(NAME(sweeper) * w, NAME(labelled) * k, int padded, const double zeta) {
    const row_batch *b = &w->batch;
    uint64_t special = !b->ordinary || k->large; /* as wide as what is compared: else masks of vectors are narrowed */
    for (int r = 0; r < padded; r++) {
        const double z = k->z[r], max = b->max[r];
        const int near = z > max - w->room.depth;
        special |= !near;
        const wide term = NAME(exp_wide)(near ? z : max, -b->scale[r]);
        wide multiplier;
        NAME(label_core)
        ((wide){b->top_hi[r], b->top_lo[r]}, (wide){b->rest_hi[r], b->rest_lo[r]}, b->log_s[r], max, z, term,
         k->mass[r], zeta, (wide){k->factor_hi[r], k->factor_lo[r]}, &k->loss[r], &k->lse[r], &k->grad[r], &multiplier,
         0);
        w->factor_hi[r] = multiplier.hi, w->factor_lo[r] = multiplier.lo;
    }
    return special;
}
XENT_NOINLINE uint64_t NAME(label_plain)(NAME(sweeper) * w, NAME(labelled) * k, int padded) {
    return NAME(label_batch)(w, k, padded, 0.0);
}
XENT_NOINLINE uint64_t NAME(label_zeta)(NAME(sweeper) * w, NAME(labelled) * k, int padded, double zeta) {
    return NAME(label_batch)(w, k, padded, zeta);
}

/* All rows of the last sum_rows; sets the factors for scale_rows. */
XENT_NOINLINE void NAME(label_rows)(NAME(sweeper) * w, NAME(labelled) * k, int rows, double zeta) {
    const row_batch *b = &w->batch;
    const int padded = padded_rows(rows);
    for (int r = rows; r < padded; r++) k->z[r] = k->mass[r] = k->factor_hi[r] = k->factor_lo[r] = 0.0;
    const uint64_t special = zeta == 0.0 ? NAME(label_plain)(w, k, padded) : NAME(label_zeta)(w, k, padded, zeta);
    for (int r = 0; r < rows && special; r++) {
        const rowsum sum = sum_of(b, r);
        const double z = k->z[r];
        const int near = !sum.far && z > sum.max - w->room.depth;
        if (sum.kind != ROW_FINITE) {
            k->lse[r] = NAME(row_lse)(&sum, 0.0), k->grad[r] = NAN;
            k->loss[r] = sum.kind != ROW_INFINITE ? NAN
                         : k->mass[r] == 0.0      ? (zeta == 0.0 ? 0.0 : INFINITY)
                         : z == INFINITY          ? NAN /* not inf - inf: its sign is the processor's */
                                                  : INFINITY;
        } else if (!near || is_large(k->mass[r])) {
            const wide term = near           ? NAME(exp_wide)((REAL)z, -sum.scale)
                              : !sum.far     ? (wide){0.0, 0.0}
                              : z == sum.max ? sum.top
                                             : wide_mul(sum.top, far_factor(z, sum.max));
            wide multiplier;
            NAME(label_core)
            (sum.top, sum.rest, b->log_s[r], sum.max, z, term, k->mass[r], zeta,
             (wide){k->factor_hi[r], k->factor_lo[r]}, &k->loss[r], &k->lse[r], &k->grad[r], &multiplier, 1);
            w->factor_hi[r] = multiplier.hi, w->factor_lo[r] = multiplier.lo;
            if (k->loss[r] == INFINITY && z > -INFINITY && k->mass[r] < 1.0) /* the product need not overflow */
                k->loss[r] = 4.0 * k->mass[r] * (0.25 * sum.max - 0.25 * z) + zeta * k->lse[r] * k->lse[r];
        }
    }
}

/* The losses of the rows of the last sum_rows, numbers row[0 .. rows) of all, each counted weight times; 0 times is no row,
 * whatever its logits. Whether there is such a row: once the others' gradients are there, fill_weightless is to be called. */
static inline int NAME(put_losses)(const xent_loss_args *a, const ptrdiff_t *row, int rows, const double *weight,
                                   NAME(labelled) * k) {
    uint64_t none = a->grad_scale[0] == 0.0; /* nothing to average */
    for (int r = 0; r < rows; r++) {
        const double counted = weight[r] * k->loss[r], loss = weight[r] == 0.0 ? 0.0 : counted;
        k->loss[r] = fabs(loss) < 0x1p-1022 ? 0.0 : loss; /* what a mean of small weights is made of */
        none |= weight[r] == 0.0;
    }
    for (int r = 0; r < rows && a->loss_rows; r++) ((REAL *)a->loss_rows)[row[r]] = NAME(rounded)(k->loss[r]);
    for (int r = 0; r < rows && a->lse_rows; r++) ((REAL *)a->lse_rows)[row[r]] = NAME(rounded)(k->lse[r]);
    return none != 0;
}

static inline void NAME(fill_weightless)(const xent_loss_args *a, NAME(sweeper) * w, int rows, const double *weight) {
    for (int r = 0; r < rows && a->grad; r++)
        if (weight[r] == 0.0 || a->grad_scale[0] == 0.0) NAME(row_fill)(w, w->out_rows[r], (REAL)0);
}

/* The same where results are not there to be filled in: such rows are multiplied by 0. */
static inline void NAME(count_as_zero)(const xent_loss_args *a, NAME(sweeper) * w, NAME(labelled) * k, int rows,
                                       const double *weight) {
    for (int r = 0; r < rows; r++)
        if (weight[r] == 0.0 || a->grad_scale[0] == 0.0) w->factor_hi[r] = w->factor_lo[r] = k->grad[r] = 0.0;
}

/* The same for a single row of the last sum_rows, number `row` of all. */
static inline void NAME(put_row)(const xent_loss_args *a, NAME(sweeper) * w, ptrdiff_t row, double weight, double loss,
                                 double lse, wide *total) {
    NAME(labelled) k;
    k.loss[0] = loss == loss ? loss : NAN, k.lse[0] = lse; /* of one sign */
    if (NAME(put_losses)(a, &row, 1, &weight, &k)) NAME(fill_weightless)(a, w, 1, &weight);
    add_loss(total, k.loss[0]);
}

/* A row that counts for nothing and is not read. */
static inline void NAME(put_ignored)(const xent_loss_args *a, NAME(sweeper) * w, ptrdiff_t row) {
    if (a->grad) NAME(row_fill)(w, row_of(a->layout, a->grad, row), (REAL)0);
    if (a->loss_rows) ((REAL *)a->loss_rows)[row] = 0;
    if (a->lse_rows) ((REAL *)a->lse_rows)[row] = 0;
}
