/* Sigmoid cross-entropy of one logit z, where softplus(-z) weighs a and softplus(z) weighs b. */
#ifndef XENT_TWO_CLASS_H
#define XENT_TWO_CLASS_H
#include "activation_f32.h"

typedef struct {
    wide loss, grad;
    int lifted; /* both are 2^128 too large */
} two_class;

/* near, a constant: |z| is known to be 700 at most. */

/* In double, to be rounded once: within 2^-29, as in activation_f32.h. In the range of float32 e^-|z| needs no lifting; what
 * is below e^-700 counts as 0, which shows only under weights of 1e266 and more. One division makes both sigmoids and the
 * logarithm:
 *   1 / (1 + e) = (2 + e) / d,   log(1 + e) = 2 atanh(s),   s = e / (2 + e) = e (1 + e) / d,   d = (1 + e) (2 + e) */
XENT_INLINE two_class two_class_f32(double z, wide a, wide b, const int near) {
    const double size = fabs(z), up = z > 0.0 ? a.hi : b.hi, down = z > 0.0 ? b.hi : a.hi;
    const double exponential = exp_near(-(near ? size : size_up_to(z, 700.0)));
    const double e = near || size <= 700.0 ? exponential : 0.0;
    const double inverse = 1.0 / ((1.0 + e) * (2.0 + e)), likely = (2.0 + e) * inverse, unlikely = e * likely;
    const double s = e * (1.0 + e) * inverse, tail = two_atanh_by(s) * s;
    const double loss = (up + down) * tail + (near || down != 0.0 ? down * size : 0.0);
    const double grad = b.hi * (z > 0.0 ? likely : unlikely) - a.hi * (z > 0.0 ? unlikely : likely);
    return (two_class){{loss, 0.0}, {grad, 0.0}, 0};
}

/* In pairs of doubles. Where |z| is so large that e^-|z| comes near the smallest normal number, it counts only if the other
 * summand has no weight; all is then lifted. */
XENT_INLINE two_class two_class_f64(double z, wide a, wide b, const int near) {
    const double size = fabs(z), deep = 790.0;
    const wide up = z > 0.0 ? a : b, down = z > 0.0 ? b : a, one = {1.0, 0.0};
    const int large = !near && size > 700.0, lifted = large && down.hi == 0.0;
    wide e = exp_f64(!near && size > deep ? -deep : -size, large ? 128.0 : 0.0);
    if ((!near && size > deep) || (large && !lifted)) e = (wide){0.0, 0.0};
    const wide under = lifted ? one : wide_add(one, e); /* 1 + e^-|z| */
    const wide tail = {lifted ? e.hi : log1p_wide(e), 0.0};
    wide loss = wide_mul(wide_add(up, down), tail);
    if (down.hi != 0.0)
        loss = size - size == 0.0 ? wide_add(loss, wide_mul(down, (wide){size, 0.0})) : (wide){size, 0.0};
    const wide likely = wide_div(one, under), unlikely = wide_div(e, under);
    const wide grad = z > 0.0 ? wide_sub(wide_mul(b, likely), wide_mul(a, unlikely))
                              : wide_sub(wide_mul(b, unlikely), wide_mul(a, likely));
    return (two_class){loss, grad, lifted};
}
#endif
