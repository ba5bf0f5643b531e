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

#ifndef XENT_SIGMOID_C
#define XENT_SIGMOID_C
typedef double four_losses __attribute__((vector_size(32)));

/* sum += losses, *lost += what that loses (Knuth), of four lanes. */
XENT_INLINE void add_four(four_losses *sum, four_losses *lost, const double *losses) {
    four_losses x;
    memcpy(&x, losses, sizeof x);
    const four_losses s = *sum + x, its = s - *sum;
    *lost += (*sum - (s - its)) + (x - its), *sum = s;
}

/* Lane i % XENT_LANES of the totals += losses[i], as add_kept does; as many lanes at a time as stay in registers, by vectors:
 * of plain loops over so few gcc makes scalar code. */
XENT_NOINLINE void add_losses(const double *losses, ptrdiff_t n, double *hi, double *lo) {
    for (int l = 0; l < XENT_LANES; l += 8) {
        four_losses sum, more, lost, lost_more;
        memcpy(&sum, hi + l, sizeof sum), memcpy(&more, hi + l + 4, sizeof more);
        memcpy(&lost, lo + l, sizeof lost), memcpy(&lost_more, lo + l + 4, sizeof lost_more);
        for (ptrdiff_t i = l; i < n; i += XENT_LANES)
            add_four(&sum, &lost, losses + i), add_four(&more, &lost_more, losses + i + 4);
        memcpy(hi + l, &sum, sizeof sum), memcpy(hi + l + 4, &more, sizeof more);
        memcpy(lo + l, &lost, sizeof lost), memcpy(lo + l + 4, &lost_more, sizeof lost_more);
    }
    for (int l = 0; l < XENT_LANES; l++) lo[l] = lo[l] - lo[l] == 0.0 ? lo[l] : 0.0; /* that of an infinite sum */
}
#endif

/* Loss and gradient of one element, counted `weight` and `factor` times. Of ordinary ones (a constant) |z| is 700 at most, and
 * the weight not 0. */
XENT_INLINE void NAME(counted)(REAL z, double target, double pos_weight, double weight, wide factor, const int ordinary,
                               double *loss, REAL *grad) {
    const two_class its = NAME(two_class)((double)z, product(pos_weight, target), two_sum(1.0, -target), ordinary);
    const wide l = ordinary || its.loss.hi - its.loss.hi == 0.0 ? NAME(mul)(its.loss, (wide){weight, 0.0}) : its.loss;
    const wide g = NAME(mul)(its.grad, factor);
    /* Not below a double's smallest normal number: a mean of small weights is made of such losses, as in put_losses. */
    double value = its.lifted ? (double)NAME(lowered)(l.hi) : fabs(l.hi) < 0x1p-1022 ? 0.0 : l.hi;
    value = l.hi == l.hi ? value : INFINITY; /* a product overflowed: no factor is NaN or negative */
    const double slope = its.lifted ? (double)NAME(lowered)(g.hi) : zero_if(fabs(g.hi) < REAL_MIN, g.hi);
    const int counts = ordinary || weight != 0.0, is_nan = !ordinary && z != z; /* its sign is lost */
    *loss = !counts ? 0.0 : is_nan ? (double)NAN : value;
    *grad = !counts ? 0 : is_nan ? (REAL)NAN : (REAL)slope;
}

/* What goes in and comes out for some rows, or for a piece of one; up to whole groups of lanes numbers whose loss is left out. */
typedef struct {
    REAL z[XENT_SMALL_BLOCK], grads[XENT_SMALL_BLOCK];
    double targets[XENT_SMALL_BLOCK], positive[XENT_SMALL_BLOCK], weights[XENT_SMALL_BLOCK], losses[XENT_SMALL_BLOCK];
} NAME(two_classes);

XENT_INLINE void NAME(each_of)(NAME(two_classes) *restrict b, ptrdiff_t n, wide scale, const int ordinary,
                               const int weighted) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const double positive = weighted ? b->positive[i] : 1.0, weight = weighted ? b->weights[i] : 1.0;
        NAME(counted)
        (b->z[i], b->targets[i], positive, weight, weighted ? NAME(mul)(scale, (wide){weight, 0.0}) : scale, ordinary,
         &b->losses[i], &b->grads[i]);
    }
}
XENT_NOINLINE void NAME(each)(NAME(two_classes) * b, ptrdiff_t n, wide scale) {
    NAME(each_of)(b, n, scale, 0, 1);
}
XENT_NOINLINE void NAME(each_ordinary)(NAME(two_classes) * b, ptrdiff_t n, wide scale) {
    NAME(each_of)(b, n, scale, 1, 1);
}
XENT_NOINLINE void NAME(each_plain)(NAME(two_classes) * b, ptrdiff_t n, wide scale) { /* that count once each */
    NAME(each_of)(b, n, scale, 1, 0);
}

/* Whether all n elements are ordinary, by their logits and by their weights. */
XENT_NOINLINE int NAME(are_near)(const REAL *z, ptrdiff_t n) { /* by the bits of |z|, where NaN is the largest */
    const REAL limit = 700;
    const NAME(bits) unsigned_part = (NAME(bits))(((uint64_t)1 << (8 * sizeof(REAL) - 1)) - 1);
    NAME(bits) largest_near, most = 0;
    memcpy(&largest_near, &limit, sizeof largest_near);
    for (ptrdiff_t i = 0; i < n; i++) {
        NAME(bits) size;
        memcpy(&size, &z[i], sizeof size);
        size &= unsigned_part;
        most = size > most ? size : most;
    }
    return most <= largest_near;
}
XENT_NOINLINE int NAME(all_count)(const double *weights, ptrdiff_t n) {
    int none = 0;
    for (ptrdiff_t i = 0; i < n; i++) none |= !(weights[i] > 0.0);
    return !none;
}

/* Classes start .. start + n - 1 of rows first .. first + rows - 1 as doubles. */
static void NAME(numbers_in)(const xent_layout *layout, const xent_view *view, ptrdiff_t first, ptrdiff_t rows,
                             ptrdiff_t start, ptrdiff_t n, double *to) {
    const int floats = view->type == XENT_FLOAT32 || view->type == XENT_FLOAT64; /* others go class by class */
    if (floats && are_joined(layout, view, rows)) n *= rows, rows = 1;
    for (ptrdiff_t r = 0; r < rows; r++)
        gather_numbers(layout, view, row_of(layout, view, first + r), start, n, to + r * n);
}

/* Logits and targets into b, up to whole groups of lanes. */
static void NAME(take_in)(const xent_loss_args *a, NAME(sweeper) * w, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t start,
                          ptrdiff_t n, NAME(two_classes) * b) {
    const ptrdiff_t count = rows * n, end = whole_groups(count);
    if (are_joined(a->layout, a->logits, rows))
        memcpy(b->z, (const REAL *)row_of(a->layout, a->logits, first) + start, (size_t)count * sizeof *b->z);
    else
        for (ptrdiff_t r = 0; r < rows; r++)
            memcpy(b->z + r * n, NAME(logits_at)(w, row_of(a->layout, a->logits, first + r), start, n),
                   (size_t)n * sizeof *b->z);
    NAME(numbers_in)(a->layout, a->probabilities, first, rows, start, n, b->targets);
    for (ptrdiff_t i = count; i < end; i++) b->z[i] = 0, b->targets[i] = 0.0;
}

/* And what they count. */
static void NAME(weights_in)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t start, ptrdiff_t n,
                             NAME(two_classes) * b) {
    const ptrdiff_t count = rows * n, end = whole_groups(count);
    if (a->element_weight) NAME(numbers_in)(a->layout, a->element_weight, first, rows, start, n, b->weights);
    for (ptrdiff_t r = 0; r < rows && !a->element_weight; r++) {
        const double s = entry(&a->problem->sample_weight, first + r, 1.0);
        for (ptrdiff_t i = 0; i < n; i++) b->weights[r * n + i] = s;
    }
    for (ptrdiff_t r = 0; r < rows && a->pos_weight.data; r++) entries(&a->pos_weight, start, n, b->positive + r * n);
    for (ptrdiff_t i = a->pos_weight.data ? count : 0; i < end; i++) b->positive[i] = 1.0;
    for (ptrdiff_t i = count; i < end; i++) b->weights[i] = 1.0;
}

/* n numbers of each of some rows of a view. */
static void NAME(put_out)(const xent_loss_args *a, const xent_view *view, ptrdiff_t first, ptrdiff_t rows,
                          ptrdiff_t start, ptrdiff_t n, const REAL *from) {
    if (are_joined(a->layout, view, rows)) n *= rows, rows = 1;
    for (ptrdiff_t r = 0; r < rows; r++, from += n) {
        char *to = row_of(a->layout, view, first + r);
        if (view->direct)
            memcpy((REAL *)to + start, from, (size_t)n * sizeof *from);
        else
            scatter_block(a->layout, view, to, start, n, from, sizeof(REAL));
    }
}

void KERNEL(sigmoid)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const ptrdiff_t classes = a->layout->classes;
    const ptrdiff_t at_once = classes && classes < XENT_SMALL_BLOCK ? XENT_SMALL_BLOCK / classes : 1;
    NAME(sweeper) w;
    NAME(two_classes) b;
    block_scale few[XENT_BLOCKS_ON_STACK];
    const wide scale = {a->grad_scale[0], a->grad_scale[1]};
    const int weighted = a->element_weight || a->problem->sample_weight.data || a->pos_weight.data;
    double hi[XENT_LANES] = {0}, lo[XENT_LANES] = {0};
    if (!KERNEL(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    for (ptrdiff_t rows; first < last; first += rows) {
        rows = last - first < at_once ? last - first : at_once;
        for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
            const ptrdiff_t count = rows * n, end = whole_groups(count);
            NAME(take_in)(a, &w, first, rows, start, n, &b);
            const int near = NAME(are_near)(b.z, count);
            if (weighted || !near) NAME(weights_in)(a, first, rows, start, n, &b);
            (!near                               ? NAME(each)
             : !weighted                         ? NAME(each_plain)
             : NAME(all_count)(b.weights, count) ? NAME(each_ordinary)
                                                 : NAME(each))(&b, end, scale);
            for (ptrdiff_t i = count; i < end; i++) b.losses[i] = 0.0; /* those of no element */
            add_losses(b.losses, end, hi, lo);
            if (a->grad) NAME(put_out)(a, a->grad, first, rows, start, n, b.grads);
            if (!a->loss_elements) continue;
            for (ptrdiff_t i = 0; i < count; i++) b.grads[i] = NAME(rounded)(b.losses[i]);
            NAME(put_out)(a, a->loss_elements, first, rows, start, n, b.grads);
        }
    }
    wide total = {0.0, 0.0};
    for (int l = 0; l < XENT_LANES; l++) add_loss(&total, hi[l]), total.lo += lo[l];
    put_total(a, group, total);
    KERNEL(sweeper_stop)(&w, few);
}
#endif
