/* The target mass t_c = w_c [(1 - eps) q_c + (eps / C) sum q] of one row, block by block, for given probabilities or
 * a label. Included once per dtype, after loss_row.h. */

typedef struct {
    const xent_loss_args *a;
    char *row; /* probabilities, or NULL */
    int64_t label;
    wide keep, spread; /* 1 - eps, eps / C sum q */
    wide mass;         /* A = sum t */
    ptrdiff_t nonzero, last_nonzero;
    double numbers[XENT_SMALL_BLOCK];
    wide t[XENT_SMALL_BLOCK];
} NAME(targets);

/* t of classes start .. start + n - 1. */
static inline const wide *NAME(targets_at)(NAME(targets) * t, ptrdiff_t start, ptrdiff_t n) {
    const xent_vector *class_weight = &t->a->problem->class_weight;
    if (t->row)
        gather_numbers(t->a->layout, t->a->probabilities, t->row, start, n, t->numbers);
    else
        for (ptrdiff_t i = 0; i < n; i++) t->numbers[i] = start + i == t->label ? 1.0 : 0.0;
    for (ptrdiff_t i = 0; i < n; i++) {
        wide q = {t->numbers[i], 0.0};
        if (t->spread.hi != 0.0 || t->keep.hi != 1.0) q = wide_add(wide_mul(t->keep, q), t->spread);
        t->t[i] = class_weight->data ? wide_mul(q, (wide){entry(class_weight, start + i, 1.0), 0.0}) : q;
    }
    return t->t;
}

static inline void NAME(targets_start)(NAME(targets) * t, const xent_loss_args *a, ptrdiff_t row, int64_t label) {
    const ptrdiff_t classes = a->layout->classes;
    const double eps = a->problem->label_smoothing;
    t->a = a, t->label = label;
    t->row = a->probabilities ? row_of(a->layout, a->probabilities, row) : NULL;
    t->keep = two_sum(1.0, -eps), t->spread = (wide){0.0, 0.0};
    t->nonzero = 0, t->last_nonzero = 0;
    wide sum = {1.0, 0.0};
    if (t->row) {
        sum.hi = 0.0;
        for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
            gather_numbers(a->layout, a->probabilities, t->row, start, n, t->numbers);
            for (ptrdiff_t i = 0; i < n; i++) {
                sum = wide_add(sum, (wide){t->numbers[i], 0.0});
                if (t->numbers[i] != 0.0) t->nonzero++, t->last_nonzero = start + i;
            }
        }
    }
    if (eps != 0.0) t->spread = wide_div(wide_mul((wide){eps, 0.0}, sum), (wide){(double)classes, 0.0});
}
