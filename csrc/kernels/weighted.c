/* logsumexp with weights b (C), of either sign: out = log |sum b_c e^x_c|, sign = its sign.
 * Two sweeps: the largest x among those with b != 0; then the sum of b e^(x - max), the terms at the maximum apart, so
 * that log(|m|) + log1p(s), s = rest / m, keeps what is small beside them. A term with b = 0 is never looked at.
 */
#ifndef REAL
#define KERNEL_FILE "weighted.c"
#include "for_each_dtype.h"
#else
#include "row.h"

void KERNEL(weighted_logsumexp)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    double b[XENT_SMALL_BLOCK];
    const ptrdiff_t classes = a->layout->classes;
    if (!NAME(sweeper_start)(&w, a->layout, a->x, NULL, few, a->failed)) return;
    for (ptrdiff_t row = first; row < last; row++) {
        char *x_row = row_of(a->layout, a->x, row), *b_row = row_of(a->layout, a->weights, row);
        double max = -INFINITY, infinite = 0.0;
        int nan = 0;
        wide at_max = {0.0, 0.0}, rest = {0.0, 0.0};
        for (int pass = 0; pass < 2; pass++)
            for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
                const ptrdiff_t n = classes - start < XENT_SMALL_BLOCK ? classes - start : XENT_SMALL_BLOCK;
                const REAL *x = NAME(logits_at)(&w, x_row, start, n);
                gather_numbers(a->layout, a->weights, b_row, start, n, b);
                for (ptrdiff_t i = 0; i < n; i++) {
                    if (b[i] == 0.0) continue;
                    const double z = fabs((double)x[i]) < 0x1p-1022 ? 0.0 : (double)x[i]; /* as with subnormals off */
                    if (pass == 0) {
                        nan |= z != z || b[i] != b[i] || (fabs(b[i]) == INFINITY && z == -INFINITY);
                        max = z > max ? z : max;
                        if (z == INFINITY || (fabs(b[i]) == INFINITY && z > -INFINITY)) {
                            const double sign = b[i] > 0.0 ? 1.0 : -1.0;
                            nan |= infinite == -sign; /* inf - inf */
                            infinite = sign;
                        }
                    } else if (z == max)
                        at_max = wide_add(at_max, (wide){b[i], 0.0});
                    else if (z - max > -LOOK_DEPTH / 2)
                        rest = wide_add(rest, wide_mul((wide){b[i], 0.0}, exp_f64(z - max, 0.0)));
                }
                if (pass == 1 && (nan || infinite != 0.0 || max == -INFINITY)) break;
            }
        double value, sign;
        if (nan)
            value = sign = NAN;
        else if (infinite != 0.0)
            value = INFINITY, sign = infinite;
        else if (max == -INFINITY)
            value = -INFINITY, sign = 0.0;
        else {
            wide sum = wide_add(at_max, rest), part = at_max.hi != 0.0 ? wide_div(rest, at_max) : rest;
            sign = sum.hi > 0.0 ? 1.0 : sum.hi < 0.0 ? -1.0 : 0.0;
            if (sum.hi < 0.0) sum.hi = -sum.hi, sum.lo = -sum.lo;
            if (sum.hi == 0.0)
                value = -INFINITY;
            else if (at_max.hi != 0.0 && part.hi > 0.0) /* log |m| + log1p(s): no digit of a small s is lost */
                value = max + (log_parts(fabs(at_max.hi), at_max.hi < 0.0 ? -at_max.lo : at_max.lo) + log1p_wide(part));
            else
                value = max + log_parts(sum.hi, sum.lo);
        }
        if (!a->row_sign && sign < 0.0) value = NAN;
        ((REAL *)a->row_out)[row] = NAME(rounded)(value);
        if (a->row_sign) ((REAL *)a->row_sign)[row] = (REAL)sign;
    }
    NAME(sweeper_stop)(&w, few);
}
#endif
