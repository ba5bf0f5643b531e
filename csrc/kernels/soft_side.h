/* Target rows of up to XENT_NARROW classes side by side, XENT_SIDE of them: element c XENT_SIDE + r of the targets belongs to
 * class c of row r, as in the columns of narrow.h. What is done once a row is done for all of them, and all has the bits of
 * soft_row. Of use for float32 alone: float64 has two parts of each number. Included in soft_cross_entropy.c. */

enum { NAME(SIDE_TARGETS) = sizeof(REAL) == 4 ? XENT_NARROW * XENT_SIDE : XENT_SIDE };

/* A thread's own. Targets are in q as they were given, of the logits' type; or in t. */
typedef struct {
    _Alignas(64) REAL q[NAME(SIDE_TARGETS)];
    double t[NAME(SIDE_TARGETS)];
    REAL most[XENT_SIDE];  /* of q */
    int as_given, made;    /* made: t and mass are the targets' already */
    double sum[XENT_SIDE]; /* of what was given */
    double spread[XENT_SIDE], mass[XENT_SIDE], gaps[XENT_SIDE];
    double offset[XENT_SIDE], floor[XENT_SIDE], grown[XENT_SIDE], factor[XENT_SIDE], least[XENT_SIDE], down[XENT_SIDE];
    double odd[XENT_SIDE]; /* not 0: needs more than that */
    /* Of targets that are alike: so many rows of t have an element of their own, that of class hot[r]; -1 before the first. */
    int64_t hot[XENT_SIDE];
    int n_hot;
    double mass_of[XENT_NARROW]; /* of a row of that label; negative where it is not known yet */
} NAME(soft_side);

/* XENT_SIDE sums by lanes folded in halves, of which n got a number; to the first. Of up to XENT_LANES classes, class 16 and
 * those behind it are added to class 0 and those behind it at once, as the first step of a fold would. */
XENT_INLINE void NAME(fold_side)(double (*lanes)[XENT_SIDE], int n) {
    for (int half = XENT_LANES / 2; half; half /= 2) {
        for (int l = 0; l + half < n; l++)
            for (int r = 0; r < XENT_SIDE; r++) lanes[l][r] += lanes[l + half][r];
        n = n < half ? n : half;
    }
}

/* The sum of each row's targets. Here and below q is NULL, or t is: constants, both. */
XENT_INLINE void NAME(add_side_of)(const REAL *restrict q, const double *restrict t, ptrdiff_t classes,
                                   double *restrict sums) {
    const ptrdiff_t own = classes > XENT_LANES ? XENT_LANES : XENT_LANES / 2, lanes = classes < own ? classes : own;
    double s[XENT_LANES][XENT_SIDE];
    for (ptrdiff_t c = 0; c < lanes; c++)
        for (int r = 0; r < XENT_SIDE; r++) s[c][r] = q ? (double)q[c * XENT_SIDE + r] : t[c * XENT_SIDE + r];
    for (ptrdiff_t c = lanes; c < classes; c++)
        for (int r = 0; r < XENT_SIDE; r++) s[c % own][r] += q ? (double)q[c * XENT_SIDE + r] : t[c * XENT_SIDE + r];
    NAME(fold_side)(s, (int)lanes);
    memcpy(sums, s, sizeof *s);
}
XENT_NOINLINE void NAME(add_side)(const double *t, ptrdiff_t classes, double *sums) {
    NAME(add_side_of)(NULL, t, classes, sums);
}
XENT_NOINLINE void NAME(add_side_given)(const REAL *q, ptrdiff_t classes, double *sums) {
    NAME(add_side_of)(q, NULL, classes, sums);
}

/* How many numbers of each row are not 0, and the last class of which that is so. */
XENT_NOINLINE void NAME(count_side)(const double *restrict t, ptrdiff_t classes, double *restrict count,
                                    double *restrict which) {
    for (int r = 0; r < XENT_SIDE; r++) count[r] = 0.0, which[r] = 0.0;
    for (ptrdiff_t c = 0; c < classes; c++, t += XENT_SIDE)
        for (int r = 0; r < XENT_SIDE; r++) {
            count[r] += t[r] != 0.0 ? 1.0 : 0.0;
            which[r] = t[r] != 0.0 ? (double)c : which[r];
        }
}

/* Targets that are alike, of n rows; and what a row's sum to, which is found once of each label. */
static void NAME(side_labels)(const NAME(targets) * targets, const int64_t *y, int n, NAME(soft_side) * side) {
    const ptrdiff_t classes = targets->a->layout->classes;
    const double other = targets->other.hi;
    int known = 1;
    if (side->n_hot < 0) {
        for (ptrdiff_t i = 0; i < classes * XENT_SIDE; i++) side->t[i] = other;
        for (ptrdiff_t c = 0; c < classes; c++) side->mass_of[c] = -1.0;
        side->n_hot = 0;
    }
    for (int r = 0; r < side->n_hot; r++) side->t[side->hot[r] * XENT_SIDE + r] = other;
    for (int r = 0; r < n; r++) {
        side->t[y[r] * XENT_SIDE + r] = targets->its.hi;
        side->hot[r] = y[r], side->mass[r] = side->mass_of[y[r]];
        known &= side->mass[r] >= 0.0;
    }
    for (int r = n; r < XENT_SIDE; r++) side->mass[r] = 1.0; /* those of no row */
    side->n_hot = n;
    if (known) return;
    NAME(add_side)(side->t, classes, side->mass);
    for (int r = 0; r < n; r++) side->mass_of[y[r]] = side->mass[r];
}

/* What was given of n rows, and its sums; those of no row are numbers, too. */
static void NAME(side_numbers)(const xent_loss_args *a, const NAME(targets) * targets, const ptrdiff_t *row,
                               const int64_t *y, int n, NAME(soft_side) * side) {
    const xent_view *view = a->probabilities;
    const ptrdiff_t classes = a->layout->classes;
    char *rows[XENT_SIDE];
    double at[XENT_SIDE];
    side->as_given = view && view->direct && view->type == NAME(own_type);
    side->made = targets->alike;
    if (side->made) {
        NAME(side_labels)(targets, y, n, side);
        return;
    }
    if (!view) {
        for (int r = 0; r < XENT_SIDE; r++) at[r] = r < n ? (double)y[r] : -1.0, side->sum[r] = 1.0;
        for (ptrdiff_t c = 0; c < classes; c++)
            for (int r = 0; r < XENT_SIDE; r++) side->t[c * XENT_SIDE + r] = at[r] == (double)c ? 1.0 : 0.0;
        return;
    }
    these_rows(a->layout, view, row, n, rows);
    for (int r = n; r < XENT_SIDE; r++) rows[r] = rows[0];
    if (side->as_given) {
        REAL least[XENT_SIDE];
        KERNEL(rows_to_columns)((const REAL *const *)rows, classes, side->q, side->most, least);
        NAME(add_side_given)(side->q, classes, side->sum);
        return;
    }
    NAME(numbers_to_columns)(a->layout, view, rows, side->t);
    NAME(add_side)(side->t, classes, side->sum);
}

/* Whether one of those rows may have all its mass on one class: if so, count and which tell of each. */
static int NAME(some_only)(NAME(soft_side) * side, ptrdiff_t classes, double *count, double *which) {
    int some = !side->as_given;
    if (side->as_given) {
        for (int r = 0; r < XENT_SIDE; r++) some |= (double)side->most[r] == side->sum[r];
        if (some) NAME(widen)(side->q, classes * XENT_SIDE, side->t);
    }
    if (some) NAME(count_side)(side->t, classes, count, which);
    return some;
}

/* q -> t = weight (keep q + spread) */
XENT_NOINLINE void NAME(make_side)(double *restrict t, ptrdiff_t classes, double keep, const double *restrict spread,
                                   const double *restrict weight) {
    for (ptrdiff_t c = 0; c < classes; c++, t += XENT_SIDE)
        for (int r = 0; r < XENT_SIDE; r++) t[r] = (keep * t[r] + spread[r]) * weight[c];
}

/* The targets made of what was given, and their sums. */
static void NAME(side_targets)(const xent_loss_args *a, NAME(soft_side) * side) {
    const xent_cross_entropy_problem *p = a->problem;
    const ptrdiff_t classes = a->layout->classes;
    const wide keep = two_sum(1.0, -p->label_smoothing), eps = {p->label_smoothing, 0.0};
    double weight[XENT_NARROW];
    if (side->made) return;
    memcpy(side->mass, side->sum, sizeof side->mass);
    if (p->label_smoothing == 0.0 && !p->class_weight.data) return;
    if (side->as_given) NAME(widen)(side->q, classes * XENT_SIDE, side->t);
    side->as_given = 0;
    for (int r = 0; r < XENT_SIDE; r++)
        side->spread[r] = wide_div(wide_mul(eps, (wide){side->sum[r], 0.0}), (wide){(double)classes, 0.0}).hi;
    for (ptrdiff_t c = 0; c < classes; c++) weight[c] = 1.0;
    if (p->class_weight.data) entries(&p->class_weight, 0, classes, weight);
    NAME(make_side)(side->t, classes, keep.hi, side->spread, weight);
    NAME(add_side)(side->t, classes, side->mass);
}

/* sums = or += t (max - x), of one class of each row: its logits at x, its targets at q or t. */
XENT_INLINE void NAME(side_gaps_at)(const REAL *restrict x, const REAL *restrict q, const double *restrict t,
                                    const double *restrict max, double *restrict sums, const int guarded,
                                    const int first) {
    for (int r = 0; r < XENT_SIDE; r++) {
        const double its = q ? (double)q[r] : t[r], gap = its * (max[r] - (double)x[r]);
        const double part = !guarded || its != 0.0 ? gap : 0.0;
        sums[r] = first ? part : sums[r] + part;
    }
}

/* sum t (max - x) of each row whose logits are at x, `stride` elements from class to class; where some may not be finite
 * (guarded, a constant), 0 * inf is 0. Of up to XENT_LANES classes, lanes are folded once on the way. */
XENT_INLINE void NAME(side_gaps_of)(const REAL *restrict x, ptrdiff_t stride, const REAL *restrict q,
                                    const double *restrict t, ptrdiff_t classes, const double *restrict max,
                                    const side_ahead *from, double *restrict gaps, const int guarded) {
    const int own = classes > XENT_LANES ? XENT_LANES : XENT_LANES / 2; /* lanes that are summed by themselves */
    side_ahead ahead = *from;
    double g[XENT_LANES][XENT_SIDE];
    for (ptrdiff_t c = 0; c < classes; c++, x += stride) {
        const ptrdiff_t at = c * XENT_SIDE;
        ask_ahead(&ahead);
        if (c < own)
            NAME(side_gaps_at)(x, q ? q + at : NULL, q ? NULL : t + at, max, g[c], guarded, 1);
        else
            NAME(side_gaps_at)(x, q ? q + at : NULL, q ? NULL : t + at, max, g[c % own], guarded, 0);
    }
    NAME(fold_side)(g, classes < own ? (int)classes : own);
    memcpy(gaps, g, sizeof *g);
}
#define XENT_SIDE_GAPS(NAME_, Q, T, GUARDED)                                                                         \
    XENT_NOINLINE void NAME(NAME_)(const REAL *x, ptrdiff_t stride, const NAME(soft_side) * side, ptrdiff_t classes, \
                                   const double *max, const side_ahead *ahead, double *gaps) {                       \
        NAME(side_gaps_of)(x, stride, Q, T, classes, max, ahead, gaps, GUARDED);                                     \
    }
XENT_SIDE_GAPS(side_gaps, NULL, side->t, 0)
XENT_SIDE_GAPS(side_gaps_guarded, NULL, side->t, 1)
XENT_SIDE_GAPS(side_gaps_given, side->q, NULL, 0)
XENT_SIDE_GAPS(side_gaps_given_guarded, side->q, NULL, 1)
#undef XENT_SIDE_GAPS
static void (*const NAME(SIDE_GAPS)[2][2])(const REAL *, ptrdiff_t, const NAME(soft_side) *, ptrdiff_t, const double *,
                                           const side_ahead *,
                                           double *) = {/* [as given][guarded] */
                                                        {NAME(side_gaps), NAME(side_gaps_guarded)},
                                                        {NAME(side_gaps_given), NAME(side_gaps_given_guarded)}};

/* The gradients in the place of the logits; `deep` as in soft_grad. */
XENT_INLINE void NAME(side_grads_of)(REAL *restrict x, ptrdiff_t stride, ptrdiff_t classes,
                                     const NAME(soft_side) *restrict by, const int given, const int deep) {
    for (ptrdiff_t c = 0; c < classes; c++, x += stride)
        for (int r = 0; r < XENT_SIDE; r++) {
            const double z = (double)x[r], low = by->floor[r];
            const double t = given ? (double)by->q[c * XENT_SIDE + r] : by->t[c * XENT_SIDE + r];
            const double e = exp_f32(deep && z < low ? low : z, by->offset[r]), term = deep && z < low ? 0.0 : e;
            const double g = term * by->grown[r] - t * by->factor[r];
            const double result = deep ? g * by->down[r] : g;
            x[r] = (REAL)zero_if(fabs(g) < (deep ? by->least[r] : REAL_MIN), result);
        }
}
#define XENT_SIDE_GRADS(NAME_, GIVEN, DEEP)                                                                     \
    XENT_NOINLINE void NAME(NAME_)(REAL * x, ptrdiff_t stride, ptrdiff_t classes, const NAME(soft_side) * by) { \
        NAME(side_grads_of)(x, stride, classes, by, GIVEN, DEEP);                                               \
    }
XENT_SIDE_GRADS(side_grads, 0, 0)
XENT_SIDE_GRADS(side_grads_deep, 0, 1)
XENT_SIDE_GRADS(side_grads_given, 1, 0)
XENT_SIDE_GRADS(side_grads_given_deep, 1, 1)
#undef XENT_SIDE_GRADS
static void (*const NAME(SIDE_GRADS)[2][2])(REAL *, ptrdiff_t, ptrdiff_t,
                                            const NAME(soft_side) *) = {/* [as given][deep] */
                                                                        {NAME(side_grads), NAME(side_grads_deep)},
                                                                        {NAME(side_grads_given),
                                                                         NAME(side_grads_given_deep)}};

/* What is known once a row: losses, logs, and what side_grads takes. */
XENT_NOINLINE void NAME(side_losses)(const row_batch *restrict b, NAME(soft_side) *restrict side, double zeta,
                                     NAME(labelled) *restrict k) {
    for (int r = 0; r < XENT_SIDE; r++) {
        const wide mass = {side->mass[r], 0.0}, total = wide_add((wide){b->rest_hi[r], 0.0}, (wide){b->top_hi[r], 0.0});
        const double lse = b->max[r] + b->log_s[r], loss = side->gaps[r] + mass.hi * b->log_s[r];
        const double offset = LOOK_GUARD - ((b->max[r] * LOG2E + ROUNDER) - ROUNDER); /* as look_again has it */
        const NAME(soft_factors) f =
            NAME(soft_factors_of)((wide){k->factor_hi[r], k->factor_lo[r]}, total, mass, zeta, lse);
        k->lse[r] = lse, k->loss[r] = loss + (zeta == 0.0 ? 0.0 : zeta * lse * lse);
        side->odd[r] = loss - loss == 0.0 ? b->scale[r] + offset : 1.0; /* of one scale if 0 */
        side->offset[r] = offset, side->floor[r] = (double)(REAL)(b->max[r] - LOOK_DEPTH);
        side->grown[r] = f.grown.hi, side->factor[r] = f.factor.hi;
        side->down[r] = f.down, side->least[r] = REAL_MIN * f.up;
    }
}

/* What to ask for meanwhile: the lines of the results, and of the targets that come next, if they lie as rows do. */
static side_ahead NAME(side_ahead_soft)(const xent_loss_args *a, const NAME(sweeper) * w, ptrdiff_t last) {
    const ptrdiff_t classes = a->layout->classes, bytes = classes * (ptrdiff_t)sizeof(REAL);
    const xent_view *q = a->probabilities;
    const int apart = a->grad && a->grad->data != a->logits->data;
    side_ahead ahead = {0};
    if (apart) ahead.to = asked_from(lines_of_rows(row_step(a->layout, a->grad), bytes, classes), w->out_rows[0]);
    if (q && q->direct && last + 1 < a->layout->rows) {
        const ptrdiff_t step = row_step(a->layout, q);
        ahead.next =
            asked_from(lines_of_rows(step, classes * SIZE_OF[q->type], classes), row_of(a->layout, q, last) + step);
    }
    return ahead;
}

/* The n rows that were found, row[0 .. n) of all, summed and left as columns: losses, logs and gradients, but those of odd
 * rows. Whether there are odd ones. */
static int NAME(side_rows)(const xent_loss_args *a, NAME(sweeper) * w, NAME(soft_side) * side, const ptrdiff_t *row,
                           int n, NAME(labelled) * k) {
    const ptrdiff_t classes = a->layout->classes, stride = w->column_stride;
    const row_batch *b = &w->batch;
    const side_ahead ahead = NAME(side_ahead_soft)(a, w, row[n - 1]);
    REAL nowhere[XENT_NARROW], *to[XENT_SIDE], *x = w->in_columns;
    int odd = 0, deep = !b->ordinary;
    for (int r = n; r < XENT_SIDE; r++)
        k->factor_hi[r] = k->factor_lo[r] = w->batch.log_s[r] = 0.0; /* those of no row */
    for (int r = 0; r < n; r++) deep |= !(b->max[r] - b->min[r] < LOOK_DEPTH - 1.0);
    NAME(side_targets)(a, side);
    NAME(SIDE_GAPS)[side->as_given][deep](x, stride, side, classes, b->max, &ahead, side->gaps);
    NAME(side_losses)(b, side, a->problem->z_loss, k);
    for (int r = 0; r < n && !b->ordinary; r++)
        if (b->kind[r] != ROW_FINITE) side->odd[r] = 1.0;
    for (int r = 0; r < n; r++) odd |= side->odd[r] != 0.0, deep |= side->down[r] != 1.0;
    if (!a->grad) return odd;
    for (int r = 0; r < n; r++) to[r] = (REAL *)w->out_rows[r];
    for (int r = 0; r < n && odd; r++) to[r] = side->odd[r] != 0.0 ? nowhere : to[r];
    NAME(SIDE_GRADS)[side->as_given][deep](x, stride, classes, side);
    KERNEL(columns_to_rows)(x, classes, to, n);
    return odd;
}
