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

/* loss and gradient of one element, unweighted. */
XENT_INLINE void NAME(two_class)(REAL z, double target, double pos_weight, double *loss, double *grad) {
    const double size = fabs((double)z), deep = 745.0;
    const double a = pos_weight * target, b = 1.0 - target;
    wide e = NAME(exp_wide)((REAL)(size > deep ? -deep : -size), 64.0); /* 2^64 e^-|z|: no subnormal on the way */
    e.hi = e.hi < 0x1p-958 ? 0.0 : e.hi * 0x1p-64;
    e.lo = fabs(e.lo) < 0x1p-958 ? 0.0 : e.lo * 0x1p-64;
    const wide under = wide_add((wide){1.0, 0.0}, e); /* 1 + e^-|z| */
    const double tail = log1p_wide(e);
    const double large = wide_div((wide){1.0, 0.0}, under).hi, small = wide_div(e, under).hi;
    const double up = z > 0 ? a : b, down = z > 0 ? b : a; /* weights of softplus(-|z|) and softplus(|z|) */
    const double far_side = down == 0.0 ? 0.0 : down * (size + tail);
    *loss = up * tail + far_side;
    *grad = z > 0 ? b * large - a * small : b * small - a * large;
}

void KERNEL(sigmoid)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    const ptrdiff_t classes = a->layout->classes;
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    double targets[XENT_BLOCK], weights[XENT_BLOCK];
    REAL losses[XENT_BLOCK];
    wide total = {0.0, 0.0};
    if (!NAME(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        char *x_row = row_of(a->layout, a->logits, row), *t_row = row_of(a->layout, a->probabilities, row);
        const double s = entry(&p->sample_weight, row, 1.0);
        for (ptrdiff_t start = 0; start < classes; start += XENT_BLOCK) {
            const ptrdiff_t n = classes - start < XENT_BLOCK ? classes - start : XENT_BLOCK;
            const REAL *x = NAME(logits_at)(&w, x_row, start, n);
            gather_numbers(a->layout, a->probabilities, t_row, start, n, targets);
            if (a->element_weight)
                gather_numbers(a->layout, a->element_weight, row_of(a->layout, a->element_weight, row), start, n,
                               weights);
            for (ptrdiff_t i = 0; i < n; i++) {
                const double weight = a->element_weight ? weights[i] : s;
                double loss, grad;
                NAME(two_class)(x[i], targets[i], entry(&a->pos_weight, start + i, 1.0), &loss, &grad);
                loss = weight == 0.0 ? 0.0 : weight * loss;
                grad = weight == 0.0 ? 0.0
                                     : wide_mul((wide){a->grad_scale[0], a->grad_scale[1]}, product(weight, grad)).hi;
                losses[i] = NAME(rounded)(loss);
                w.terms[i] = NAME(rounded)(grad);
                add_loss(&total, fabs(loss) < REAL_MIN ? 0.0 : loss);
            }
            if (a->loss_elements)
                scatter_block(a->layout, a->loss_elements, row_of(a->layout, a->loss_elements, row), start, n, losses,
                              sizeof(REAL));
            if (a->grad)
                scatter_block(a->layout, a->grad, row_of(a->layout, a->grad, row), start, n, w.terms, sizeof(REAL));
        }
    }
    if (a->totals) a->totals[2 * group] = total.hi, a->totals[2 * group + 1] = total.lo;
    NAME(sweeper_stop)(&w, few);
}
#endif
