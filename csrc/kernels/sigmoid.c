/* Every element its own two-class problem, z a logit, t its target, a = pos_weight t, b = 1 - t:
 *   loss = a softplus(-z) + b softplus(z),   softplus(z) = max(z, 0) + log(1 + e^-|z|)
 *   grad = b sigmoid(z) - a sigmoid(-z),     sigmoid(|z|) = 1 / (1 + e^-|z|), sigmoid(-|z|) = e^-|z| / (1 + e^-|z|)
 * One exponential of a number that is not positive serves both; neither sigmoid is got by subtracting from 1.
 */
#ifndef REAL
#define KERNEL_FILE "sigmoid.c"
#include "for_each_dtype.h"
#else
#include "loss_row.h"
#include "two_class.h"

/* Loss and gradient of one element, counted `weight` and `factor` times. */
XENT_INLINE void NAME(counted)(REAL z, double target, double pos_weight, double weight, wide factor, double *loss,
                               REAL *grad) {
    const two_class its = NAME(two_class)((double)z, product(pos_weight, target), two_sum(1.0, -target));
    const wide l = its.loss.hi - its.loss.hi == 0.0 ? NAME(mul)(its.loss, (wide){weight, 0.0}) : its.loss;
    const wide g = NAME(mul)(its.grad, factor);
    double value = its.lifted ? (double)NAME(lowered)(l.hi) : fabs(l.hi) < REAL_MIN ? 0.0 : l.hi;
    value = l.hi == l.hi ? value : INFINITY; /* a product overflowed: no factor is NaN or negative */
    const double slope = its.lifted ? (double)NAME(lowered)(g.hi) : (double)NAME(rounded)(g.hi);
    const int counts = weight != 0.0, is_nan = z != z; /* its sign is lost */
    *loss = !counts ? 0.0 : is_nan ? (double)NAN : value;
    *grad = !counts ? 0 : is_nan ? (REAL)NAN : (REAL)slope;
}

/* What goes in and comes out for some rows, or for a piece of one; up to whole groups of lanes, numbers without weight. */
typedef struct {
    REAL z[XENT_SMALL_BLOCK], grads[XENT_SMALL_BLOCK];
    double targets[XENT_SMALL_BLOCK], positive[XENT_SMALL_BLOCK], weights[XENT_SMALL_BLOCK], losses[XENT_SMALL_BLOCK];
} NAME(two_classes);

XENT_NOINLINE void NAME(each)(NAME(two_classes) *restrict b, ptrdiff_t n, wide scale) {
    for (ptrdiff_t i = 0; i < n; i++) NAME(counted)
    (b->z[i], b->targets[i], b->positive[i], b->weights[i], NAME(mul)(scale, (wide){b->weights[i], 0.0}), &b->losses[i],
     &b->grads[i]);
}

/* Lane i % XENT_LANES of the totals += losses[i]; what is infinite stays so. */
XENT_NOINLINE void NAME(add_losses)(const double *losses, ptrdiff_t n, double *hi, double *lo) {
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) add_kept(&hi[l], &lo[l], losses[i + l]);
}

/* Classes start .. start + n - 1 of `rows` rows from `first` on into b; how many numbers that is, in whole groups. */
static ptrdiff_t NAME(take_in)(const xent_loss_args *a, NAME(sweeper) * w, ptrdiff_t first, ptrdiff_t rows,
                               ptrdiff_t start, ptrdiff_t n, NAME(two_classes) * b) {
    const ptrdiff_t count = rows * n, end = whole_groups(count);
    for (ptrdiff_t r = 0; r < rows; r++) {
        const double s = entry(&a->problem->sample_weight, first + r, 1.0);
        const REAL *x = NAME(logits_at)(w, row_of(a->layout, a->logits, first + r), start, n);
        memcpy(b->z + r * n, x, (size_t)n * sizeof *x);
        gather_numbers(a->layout, a->probabilities, row_of(a->layout, a->probabilities, first + r), start, n,
                       b->targets + r * n);
        if (a->element_weight)
            gather_numbers(a->layout, a->element_weight, row_of(a->layout, a->element_weight, first + r), start, n,
                           b->weights + r * n);
        for (ptrdiff_t i = 0; i < n && !a->element_weight; i++) b->weights[r * n + i] = s;
        if (a->pos_weight.data)
            entries(&a->pos_weight, start, n, b->positive + r * n);
        else
            for (ptrdiff_t i = 0; i < n; i++) b->positive[r * n + i] = 1.0;
    }
    for (ptrdiff_t i = count; i < end; i++) b->z[i] = 0, b->targets[i] = b->positive[i] = b->weights[i] = 0.0;
    return end;
}

/* n numbers to a row of a view. */
static void NAME(put_out)(const xent_loss_args *a, const xent_view *view, ptrdiff_t row, ptrdiff_t start, ptrdiff_t n,
                          const REAL *from) {
    char *to = row_of(a->layout, view, row);
    if (view->direct)
        memcpy((REAL *)to + start, from, (size_t)n * sizeof *from);
    else
        scatter_block(a->layout, view, to, start, n, from, sizeof(REAL));
}

void KERNEL(sigmoid)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const ptrdiff_t classes = a->layout->classes;
    const ptrdiff_t at_once = classes && classes < XENT_SMALL_BLOCK ? XENT_SMALL_BLOCK / classes : 1;
    NAME(sweeper) w;
    NAME(two_classes) b;
    block_scale few[XENT_BLOCKS_ON_STACK];
    double hi[XENT_LANES] = {0}, lo[XENT_LANES] = {0};
    if (!NAME(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    for (ptrdiff_t rows; first < last; first += rows) {
        rows = last - first < at_once ? last - first : at_once;
        for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
            const ptrdiff_t end = NAME(take_in)(a, &w, first, rows, start, n, &b);
            NAME(each)(&b, end, (wide){a->grad_scale[0], a->grad_scale[1]});
            NAME(add_losses)(b.losses, end, hi, lo);
            for (ptrdiff_t r = 0; r < rows && a->grad; r++)
                NAME(put_out)(a, a->grad, first + r, start, n, b.grads + r * n);
            for (ptrdiff_t i = 0; i < end && a->loss_elements; i++) b.grads[i] = (REAL)b.losses[i];
            for (ptrdiff_t r = 0; r < rows && a->loss_elements; r++)
                NAME(put_out)(a, a->loss_elements, first + r, start, n, b.grads + r * n);
        }
    }
    wide total = {0.0, 0.0};
    for (int l = 0; l < XENT_LANES; l++) add_loss(&total, hi[l]), total.lo += lo[l];
    put_total(a, group, total);
    NAME(sweeper_stop)(&w, few);
}
#endif
