/* The target mass t_c = w_c [(1 - eps) q_c + (eps / C) sum q] of one row, block by block, for given probabilities or
 * a label. Included once per dtype, after loss_row.h. */

/* Sums of numbers in two parts, by the lanes of lanes.h; float32 does without the second, a double has bits to spare. */
typedef struct {
    double hi[XENT_LANES], lo[XENT_LANES];
} NAME(wide_lanes);

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
    double *hi = lanes->hi, *lo = lanes->lo;
#define SUMS(half)                                                                          \
    for (int l = 0; l < half && half < n; l++) {                                            \
        const wide s = NAME(add)((wide){hi[l], lo[l]}, (wide){hi[l + half], lo[l + half]}); \
        hi[l] = s.hi, lo[l] = s.lo;                                                         \
    }
    XENT_FOLD(SUMS)
#undef SUMS
    return (wide){hi[0], lo[0]};
}

typedef struct {
    const xent_loss_args *a;
    char *row; /* probabilities, or NULL */
    int64_t label;
    wide keep, spread; /* 1 - eps, eps / C sum q */
    /* of the block asked for last, and 0 up to whole groups of lanes */
    double hi[XENT_SMALL_BLOCK], lo[XENT_SMALL_BLOCK], weight[XENT_SMALL_BLOCK];
} NAME(targets);

XENT_NOINLINE void NAME(smooth)(double *restrict hi, double *restrict lo, ptrdiff_t n, wide keep, wide spread) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const wide q = NAME(add)(NAME(mul)(keep, (wide){hi[i], 0.0}), spread);
        hi[i] = q.hi;
        if (sizeof(REAL) == 8) lo[i] = q.lo;
    }
}

XENT_NOINLINE void NAME(weigh)(double *restrict hi, double *restrict lo, const double *restrict weight, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const wide t = NAME(mul)((wide){hi[i], lo[i]}, (wide){weight[i], 0.0});
        hi[i] = t.hi;
        if (sizeof(REAL) == 8) lo[i] = t.lo;
    }
}

/* The numbers q of classes start .. start + n - 1 to t->hi. */
static inline void NAME(numbers_at)(NAME(targets) * t, ptrdiff_t start, ptrdiff_t n) {
    if (t->row) {
        gather_numbers(t->a->layout, t->a->probabilities, t->row, start, n, t->hi);
    } else {
        memset(t->hi, 0, (size_t)n * sizeof *t->hi);
        if (t->label >= start && t->label < start + n) t->hi[t->label - start] = 1.0;
    }
    const ptrdiff_t end = whole_groups(n);
    memset(t->hi + n, 0, (size_t)(end - n) * sizeof *t->hi);
    memset(t->lo, 0, (size_t)end * sizeof *t->lo);
}

/* Their t to t->hi and t->lo. */
static inline void NAME(targets_at)(NAME(targets) * t, ptrdiff_t start, ptrdiff_t n) {
    const xent_vector *class_weight = &t->a->problem->class_weight;
    NAME(numbers_at)(t, start, n);
    if (t->spread.hi != 0.0 || t->keep.hi != 1.0) NAME(smooth)(t->hi, t->lo, n, t->keep, t->spread);
    if (!class_weight->data) return;
    entries(class_weight, start, n, t->weight);
    NAME(weigh)(t->hi, t->lo, t->weight, n);
}

/* sum += the numbers; how many of them are not 0 */
XENT_NOINLINE ptrdiff_t NAME(add_numbers)(const double *q, ptrdiff_t n, NAME(wide_lanes) * sum) {
    ptrdiff_t nonzero = 0;
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) {
            nonzero += q[i + l] != 0.0;
            NAME(add_lane)(&sum->hi[l], &sum->lo[l], (wide){q[i + l], 0.0});
        }
    return nonzero;
}

/* The class on which all of a row's probability lies; -1 if there is none or more than one. */
static inline ptrdiff_t NAME(only_class)(NAME(targets) * t, const xent_loss_args *a, ptrdiff_t row) {
    const ptrdiff_t classes = a->layout->classes;
    ptrdiff_t nonzero = 0, which = -1;
    t->a = a, t->row = row_of(a->layout, a->probabilities, row);
    for (ptrdiff_t start = 0; start < classes && nonzero < 2; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
        NAME(wide_lanes) sum = {{0}, {0}};
        NAME(numbers_at)(t, start, n);
        const ptrdiff_t here = NAME(add_numbers)(t->hi, n, &sum);
        for (ptrdiff_t i = 0; i < n && here == 1 && which < 0; i++)
            if (t->hi[i] != 0.0) which = start + i;
        nonzero += here;
    }
    return nonzero == 1 ? which : -1;
}

static inline void NAME(targets_start)(NAME(targets) * t, const xent_loss_args *a, ptrdiff_t row, int64_t label) {
    const ptrdiff_t classes = a->layout->classes;
    const double eps = a->problem->label_smoothing;
    t->a = a, t->label = label;
    t->row = a->probabilities ? row_of(a->layout, a->probabilities, row) : NULL;
    t->keep = two_sum(1.0, -eps), t->spread = (wide){0.0, 0.0};
    if (eps == 0.0) return;
    wide sum = {1.0, 0.0};
    if (t->row) {
        NAME(wide_lanes) lanes = {{0}, {0}};
        for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
            NAME(numbers_at)(t, start, n);
            NAME(add_numbers)(t->hi, n, &lanes);
        }
        sum = NAME(wide_total)(&lanes, classes);
    }
    t->spread = wide_div(wide_mul((wide){eps, 0.0}, sum), (wide){(double)classes, 0.0});
}
