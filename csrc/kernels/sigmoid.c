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

/* loss and gradient of one element, counted `weight` and `factor` times. Where |z| is so large that e^-|z| comes near
 * the smallest normal number, it counts only if the other summand has no weight; all is then formed 2^128 too large. */
XENT_INLINE void NAME(two_class)(REAL z, double target, double pos_weight, double weight, wide factor, double *loss,
                                 REAL *grad) {
    const double size = fabs((double)z), deep = 790.0;
    const wide a = product(pos_weight, target), b = two_sum(1.0, -target);
    const wide up = z > 0 ? a : b, down = z > 0 ? b : a; /* weights of softplus(-|z|) and softplus(|z|) */
    const int large = size > 700.0, lifted = large && down.hi == 0.0;
    wide e = NAME(exp_wide)((REAL)(size > deep ? -deep : -size), large ? 128.0 : 0.0);
    if (size > deep || (large && !lifted)) e = (wide){0.0, 0.0};
    const wide under = lifted ? (wide){1.0, 0.0} : NAME(add)((wide){1.0, 0.0}, e); /* 1 + e^-|z| */
    const wide tail = {lifted ? e.hi : log1p_wide(e), 0.0};

    wide l = NAME(mul)(NAME(add)(up, down), tail);
    if (down.hi != 0.0) l = size - size == 0.0 ? NAME(add)(l, NAME(mul)(down, (wide){size, 0.0})) : (wide){size, 0.0};
    l = l.hi - l.hi == 0.0 ? NAME(mul)(l, (wide){weight, 0.0}) : l;
    const wide likely = NAME(div)((wide){1.0, 0.0}, under), unlikely = NAME(div)(e, under);
    wide g = z > 0 ? NAME(sub)(NAME(mul)(b, likely), NAME(mul)(a, unlikely))
                   : NAME(sub)(NAME(mul)(b, unlikely), NAME(mul)(a, likely));
    g = NAME(mul)(g, factor);
    *loss = lifted ? (double)NAME(lowered)(l.hi) : fabs(l.hi) < REAL_MIN ? 0.0 : l.hi;
    *grad = lifted ? NAME(lowered)(g.hi) : NAME(rounded)(g.hi);
    if (l.hi != l.hi) *loss = INFINITY; /* a product overflowed: no factor is NaN or negative */
    if (z != z) *loss = NAN, *grad = (REAL)NAN;
    if (weight == 0.0) *loss = 0.0, *grad = 0;
}

void KERNEL(sigmoid)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const xent_cross_entropy_problem *p = a->problem;
    const ptrdiff_t classes = a->layout->classes;
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    double targets[XENT_SMALL_BLOCK], weights[XENT_SMALL_BLOCK];
    REAL losses[XENT_SMALL_BLOCK];
    wide total = {0.0, 0.0};
    if (!NAME(sweeper_start)(&w, a->layout, a->logits, a->grad, few, a->failed)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        char *x_row = row_of(a->layout, a->logits, row), *t_row = row_of(a->layout, a->probabilities, row);
        const double s = entry(&p->sample_weight, row, 1.0);
        for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
            const REAL *x = NAME(logits_at)(&w, x_row, start, n);
            gather_numbers(a->layout, a->probabilities, t_row, start, n, targets);
            if (a->element_weight)
                gather_numbers(a->layout, a->element_weight, row_of(a->layout, a->element_weight, row), start, n,
                               weights);
            for (ptrdiff_t i = 0; i < n; i++) {
                const double weight = a->element_weight ? weights[i] : s;
                double loss;
                NAME(two_class)
                (x[i], targets[i], entry(&a->pos_weight, start + i, 1.0), weight,
                 NAME(mul)((wide){a->grad_scale[0], a->grad_scale[1]}, (wide){weight, 0.0}), &loss, &w.terms[i]);
                losses[i] = (REAL)loss;
                add_loss(&total, loss);
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
