/* The target mass t_c = w_c [(1 - eps) q_c + (eps / C) sum q] of one row, block by block, for given probabilities or
 * a label. Included once per dtype, after loss_row.h. */

/* Sums of numbers in two parts, by the lanes of lanes.h; float32 does without the second, a double has bits to spare. */
typedef struct {
    double hi[XENT_LANES], lo[XENT_LANES];
} NAME(wide_lanes);

/* -0 is what leaves every number as it is, and a loop over it is not made a memset, which takes longer than all the rest
 * of ten classes: gcc makes string instructions of it. */
XENT_INLINE void NAME(no_numbers)(NAME(wide_lanes) * lanes) {
    for (int l = 0; l < XENT_LANES; l++) lanes->hi[l] = lanes->lo[l] = -0.0;
}

XENT_INLINE void NAME(add_lane)(double *hi, double *lo, wide x) {
    if (sizeof(REAL) == 4)
        *hi += x.hi;
    else {
        const wide s = two_sum(*hi, x.hi);
        *hi = s.hi, *lo += s.lo + x.lo;
    }
}

/* The lanes folded in halves, of n classes those that got a term. */
static inline wide NAME(wide_total)(NAME(wide_lanes) * lanes, ptrdiff_t n) {
    if (sizeof(REAL) == 8) return wide_fold(lanes->hi, lanes->lo, n);
#define SUMS(half) \
    for (int l = 0; l < half && half < n; l++) lanes->hi[l] += lanes->hi[l + half];
    XENT_FOLD(SUMS)
#undef SUMS
    return (wide){lanes->hi[0], 0.0};
}

typedef struct {
    const xent_loss_args *a;
    char *row; /* probabilities, or NULL */
    int64_t label;
    wide keep, spread; /* 1 - eps, eps / C sum q */
    int alike;         /* of labels: all but the label's, `its`, are `other`, which is not 0 */
    wide other, its;
    /* of the block asked for last, and 0 up to whole groups of lanes; float32 leaves lo 0, as targets_open made it */
    double hi[XENT_SMALL_BLOCK], lo[XENT_SMALL_BLOCK], weight[XENT_SMALL_BLOCK];
} NAME(targets);

XENT_INLINE wide NAME(smoothed)(double q, wide keep, wide spread) {
    return NAME(add)(NAME(mul)(keep, (wide){q, 0.0}), spread);
}
XENT_NOINLINE void NAME(smooth)(double *restrict hi, double *restrict lo, ptrdiff_t n, wide keep, wide spread) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const wide q = NAME(smoothed)(hi[i], keep, spread);
        hi[i] = q.hi;
        if (sizeof(REAL) == 8) lo[i] = q.lo;
    }
}

XENT_NOINLINE void NAME(weigh)(double *restrict hi, double *restrict lo, const double *restrict weight, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const wide t = NAME(mul)((wide){hi[i], sizeof(REAL) == 8 ? lo[i] : 0.0}, (wide){weight[i], 0.0});
        hi[i] = t.hi;
        if (sizeof(REAL) == 8) lo[i] = t.lo;
    }
}

/* The numbers q of classes start .. start + n - 1 to t->hi, without memset, as above. */
static inline void NAME(numbers_at)(NAME(targets) * t, ptrdiff_t start, ptrdiff_t n) {
    const ptrdiff_t end = whole_groups(n), last = end - XENT_LANES, at = t->label - start;
    if (t->row) {
        gather_numbers(t->a->layout, t->a->probabilities, t->row, start, n, t->hi);
        for (int l = 0; l < XENT_LANES && last >= 0; l++) t->hi[last + l] = last + l < n ? t->hi[last + l] : 0.0;
    } else
        for (ptrdiff_t i = 0; i < end; i++) t->hi[i] = i == at ? 1.0 : 0.0;
    if (sizeof(REAL) == 8) memset(t->lo, 0, (size_t)end * sizeof *t->lo);
}

/* Those that are alike but for one. */
static inline void NAME(alike_at)(NAME(targets) * t, ptrdiff_t start, ptrdiff_t n) {
    const ptrdiff_t end = whole_groups(n), at = (ptrdiff_t)t->label - start;
    const wide other = t->other;
    for (ptrdiff_t i = 0; i < end; i++) t->hi[i] = i < n ? other.hi : 0.0;
    for (ptrdiff_t i = 0; i < end && sizeof(REAL) == 8; i++) t->lo[i] = i < n ? other.lo : 0.0;
    if (at >= 0 && at < n) t->hi[at] = t->its.hi, t->lo[at] = t->its.lo;
}

/* Their t to t->hi and t->lo. */
static inline void NAME(targets_at)(NAME(targets) * t, ptrdiff_t start, ptrdiff_t n) {
    const xent_vector *class_weight = &t->a->problem->class_weight;
    if (t->alike) {
        NAME(alike_at)(t, start, n);
        return;
    }
    NAME(numbers_at)(t, start, n);
    if (t->spread.hi != 0.0 || t->keep.hi != 1.0) NAME(smooth)(t->hi, t->lo, n, t->keep, t->spread);
    if (!class_weight->data) return;
    entries(class_weight, start, n, t->weight);
    NAME(weigh)(t->hi, t->lo, t->weight, n);
}

/* A row's targets where they are just what was given, plain numbers of the logits' type; else NULL. */
static inline const REAL *NAME(given_targets)(const NAME(targets) * t) {
    const xent_view *view = t->a->probabilities;
    const int as_given = t->row && t->spread.hi == 0.0 && t->keep.hi == 1.0 && !t->a->problem->class_weight.data;
    return as_given && view->direct && view->type == NAME(own_type) ? (const REAL *)t->row : NULL;
}

/* sum += the numbers, in whole groups of lanes */
XENT_NOINLINE void NAME(add_numbers)(const double *q, ptrdiff_t n, NAME(wide_lanes) * sum) {
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) NAME(add_lane)(&sum->hi[l], &sum->lo[l], (wide){q[i + l], 0.0});
}

XENT_NOINLINE ptrdiff_t NAME(count_nonzero)(const double *q, ptrdiff_t n) {
    ptrdiff_t nonzero = 0;
    for (ptrdiff_t i = 0; i < n; i++) nonzero += q[i] != 0.0;
    return nonzero;
}

/* The class on which all of a row's probability lies; -1 if there is none or more than one. */
static inline ptrdiff_t NAME(only_class)(NAME(targets) * t, ptrdiff_t row) {
    const xent_loss_args *a = t->a;
    const ptrdiff_t classes = a->layout->classes;
    ptrdiff_t nonzero = 0, which = -1;
    t->row = row_of(a->layout, a->probabilities, row);
    /* A few first: most rows have two there, if they have two. */
    for (ptrdiff_t start = 0, n; start < classes && nonzero < 2; start += n) {
        const ptrdiff_t left = classes - start, most = start ? XENT_SMALL_BLOCK : 2 * XENT_LANES;
        n = left < most ? left : most;
        NAME(numbers_at)(t, start, n);
        const ptrdiff_t here = NAME(count_nonzero)(t->hi, n);
        for (ptrdiff_t i = 0; i < n && here == 1 && which < 0; i++)
            if (t->hi[i] != 0.0) which = start + i;
        nonzero += here;
    }
    return nonzero == 1 ? which : -1;
}

/* The targets of a row that comes next: at its beginning memory would have to be waited for. */
static inline void NAME(ask_for_targets)(const NAME(targets) * t, ptrdiff_t row) {
    const xent_view *view = t->a->probabilities;
    if (!view || !view->direct) return;
    const char *from = row_of(t->a->layout, view, row);
    const ptrdiff_t size = t->a->layout->classes * SIZE_OF[view->type],
                    most = XENT_SMALL_BLOCK * (ptrdiff_t)sizeof(float), end = size < most ? size : most;
    for (ptrdiff_t i = 0; i < end; i += XENT_LINE) __builtin_prefetch(from + i);
}

/* eps / C of what a row's numbers sum to. */
XENT_INLINE wide NAME(spread_of)(const xent_loss_args *a, wide sum) {
    return wide_div(wide_mul((wide){a->problem->label_smoothing, 0.0}, sum), (wide){(double)a->layout->classes, 0.0});
}

/* Once, before any row; of labels, all that is known but the label. */
static inline void NAME(targets_open)(NAME(targets) * t, const xent_loss_args *a) {
    const double eps = a->problem->label_smoothing;
    t->a = a, t->label = 0, t->alike = 0;
    t->keep = two_sum(1.0, -eps), t->spread = (wide){0.0, 0.0};
    memset(t->lo, 0, sizeof t->lo);
    if (eps == 0.0 || a->probabilities) return;
    t->spread = NAME(spread_of)(a, (wide){1.0, 0.0});
    t->other = NAME(smoothed)(0.0, t->keep, t->spread), t->its = NAME(smoothed)(1.0, t->keep, t->spread);
    t->alike = !a->problem->class_weight.data && t->other.hi != 0.0;
}

static inline void NAME(targets_start)(NAME(targets) * t, ptrdiff_t row, int64_t label) {
    const xent_loss_args *a = t->a;
    const ptrdiff_t classes = a->layout->classes;
    t->label = label;
    t->row = a->probabilities ? row_of(a->layout, a->probabilities, row) : NULL;
    if (!t->row || a->problem->label_smoothing == 0.0) return;
    NAME(wide_lanes) lanes;
    NAME(no_numbers)(&lanes);
    for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
        NAME(numbers_at)(t, start, n);
        NAME(add_numbers)(t->hi, n, &lanes);
    }
    t->spread = NAME(spread_of)(a, NAME(wide_total)(&lanes, classes));
}
